"""UNet: the names of `terrazzo_torch.models.unet` and those of the common form.

PyTorch has kernels out×in×height×width, transposed ones in×out×height×width; the common form has
height×width×in×out and, transposed, height×width×out×in. So one turn of the axes serves both.
"""

from __future__ import annotations

import re

import numpy as np

from terrazzo.base.errors import ConfigError
from terrazzo.models.contract import State

_TO_COMMON = (2, 3, 1, 0)
_FROM_COMMON = (3, 2, 0, 1)
_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_COUNTER = "num_batches_tracked"
"""PyTorch alone counts the batches; the count has no effect, as the momentum is fixed."""


def to_common(arrays: State) -> State:
    """Return the arrays of the model in the common form.

    Raises:
        ConfigError: SEG-X018, its encoder is one of timm, which Keras does not have.
    """
    if any(name.startswith("encoder.") for name in arrays):
        raise ConfigError(
            "SEG-X018",
            "a 'unet' on an encoder of timm cannot be converted",
            observed="model.options.encoder",
            allowed="the unet without that option",
            next_step="keep the run in PyTorch, or train a unet without the option",
        )
    depth = _depth(arrays)
    return {
        _common_name(name, depth): array.transpose(_TO_COMMON) if array.ndim == 4 else array
        for name, array in arrays.items()
        if not name.endswith(_COUNTER)
    }


def from_common(arrays: State) -> State:
    """Return common arrays as this package's model has them."""
    depth = max(int(found[1]) for name in arrays if (found := re.match(r"down_(\d+)_", name)))
    own = {
        _own_name(name, depth): array.transpose(_FROM_COMMON) if array.ndim == 4 else array
        for name, array in arrays.items()
    }
    counters = {
        name.replace("running_mean", _COUNTER): np.array(0, np.int64)
        for name in own
        if name.endswith("running_mean")
    }
    return own | counters


def _depth(arrays: State) -> int:
    return max(int(found[1]) for name in arrays if (found := re.match(r"down\.(\d+)\.", name)))


def _common_name(name: str, depth: int) -> str:
    """``merge.0.3.weight`` → ``up_3_conv_1/kernel`` at depth 4; PyTorch numbers from the bottom."""
    room, *numbers, kind = name.split(".")
    if room == "head":
        return f"logits/{_kernel_or_bias(kind)}"
    index = int(numbers[0])
    level = f"down_{index}" if room == "down" else f"up_{depth - 1 - index}"
    if room == "up":
        return f"{level}_{'reduce' if len(numbers) > 1 else 'transpose'}/{_kernel_or_bias(kind)}"
    half, is_norm = divmod(int(numbers[1]), 3)
    return f"{level}_norm_{half}/{_NORM[kind]}" if is_norm else f"{level}_conv_{half}/kernel"


def _own_name(name: str, depth: int) -> str:
    """Undo `_common_name`."""
    layer, kind = name.split("/")
    own_kind = {"kernel": "weight", "bias": "bias"}.get(kind)
    if layer == "logits":
        return f"head.{own_kind}"
    room, level, what, *half = layer.split("_")
    index = int(level) if room == "down" else depth - 1 - int(level)
    match what:
        case "transpose":
            return f"up.{index}.{own_kind}"
        case "reduce":
            return f"up.{index}.1.{own_kind}"
    block = f"{'down' if room == 'down' else 'merge'}.{index}"
    if what == "conv":
        return f"{block}.{3 * int(half[0])}.weight"
    norm = {common: own for own, common in _NORM.items()}
    return f"{block}.{3 * int(half[0]) + 1}.{norm[kind]}"


def _kernel_or_bias(kind: str) -> str:
    return "kernel" if kind == "weight" else kind
