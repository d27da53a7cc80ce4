"""SegFormer: the names of transformers and those of the common form.

PyTorch has kernels out×in×height×width, depthwise ones channels×1×height×width and matrices out×in;
the common form has height×width×in×out, height×width×channels×1 and in×out.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from terrazzo.models.contract import State

_BLOCK = {
    "layernorm_before": "attention_norm",
    "attention.sequence_reduction.sequence_reduction": "attention_reduce",
    "attention.sequence_reduction.layer_norm": "attention_reduce_norm",
    "attention.q_proj": "attention_query",
    "attention.k_proj": "attention_key",
    "attention.v_proj": "attention_value",
    "attention.o_proj": "attention_output",
    "layernorm_after": "mix_mlp_norm",
    "mlp.fc1": "mix_mlp_expand",
    "mlp.dwconv.dwconv": "mix_mlp_depthwise",
    "mlp.fc2": "mix_mlp_reduce",
}
_STAGE = {
    "patch_embeddings.proj": "patches",
    "patch_embeddings.layer_norm": "patches_norm",
    "layer_norm": "norm",
}
_DECODER = {"linear_fuse": "decoder_fuse", "batch_norm": "decoder_norm", "classifier": "logits"}
_KINDS = {"weight": "kernel", "bias": "bias"}
_NORM_KINDS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_COUNTER = "num_batches_tracked"
"""PyTorch alone counts the batches; the count has no effect, as the momentum is fixed."""


def to_common(arrays: State) -> State:
    """Return the arrays of the model in the common form."""
    common = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        if kind != _COUNTER:
            common_layer = _common_layer(layer)
            kinds = _NORM_KINDS if common_layer.endswith("norm") else _KINDS
            common[f"{common_layer}/{kinds[kind]}"] = _turned(array, common_layer, to_common=True)
    return common


def from_common(arrays: State) -> State:
    """Return common arrays as this package's model has them."""
    own: dict[str, NDArray[np.generic]] = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition("/")
        kinds = _NORM_KINDS if layer.endswith("norm") else _KINDS
        own_kind = next(own for own, common in kinds.items() if common == kind)
        own[f"{_own_layer(layer)}.{own_kind}"] = _turned(array, layer, to_common=False)
    own[f"{_own_layer('decoder_norm')}.{_COUNTER}"] = np.array(0, np.int64)
    return own


def _common_layer(layer: str) -> str:
    """``network.segformer.stages.0.blocks.1.mlp.fc1`` → ``encoder_0_block_1_mix_mlp_expand``."""
    if found := re.fullmatch(r"network\.segformer\.stages\.(\d)\.blocks\.(\d+)\.(.+)", layer):
        return f"encoder_{found[1]}_block_{found[2]}_{_BLOCK[found[3]]}"
    if found := re.fullmatch(r"network\.segformer\.stages\.(\d)\.(.+)", layer):
        return f"encoder_{found[1]}_{_STAGE[found[2]]}"
    if found := re.fullmatch(r"network\.decode_head\.linear_projections\.(\d)\.proj", layer):
        return f"decoder_{found[1]}"
    return _DECODER[layer.removeprefix("network.decode_head.")]


def _own_layer(layer: str) -> str:
    """Undo `_common_layer`."""
    if found := re.fullmatch(r"encoder_(\d)_block_(\d+)_(.+)", layer):
        return f"network.segformer.stages.{found[1]}.blocks.{found[2]}.{_own(_BLOCK, found[3])}"
    if found := re.fullmatch(r"encoder_(\d)_(.+)", layer):
        return f"network.segformer.stages.{found[1]}.{_own(_STAGE, found[2])}"
    if found := re.fullmatch(r"decoder_(\d)", layer):
        return f"network.decode_head.linear_projections.{found[1]}.proj"
    return f"network.decode_head.{_own(_DECODER, layer)}"


def _own(common_names: dict[str, str], common: str) -> str:
    return next(own for own, name in common_names.items() if name == common)


def _turned(
    array: NDArray[np.generic], common_layer: str, *, to_common: bool
) -> NDArray[np.generic]:
    if array.ndim == 2:
        return array.T
    if array.ndim != 4:
        return array
    if common_layer.endswith("_depthwise"):
        return array.transpose((2, 3, 0, 1))  # there and back
    return array.transpose((2, 3, 1, 0) if to_common else (3, 2, 0, 1))
