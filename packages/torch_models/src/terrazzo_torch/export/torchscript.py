"""TorchScript, which programs built on LibTorch read: one file ``model.torchscript.pt``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from terrazzo.base.errors import ConfigError
from terrazzo_torch.export.graph import example, graph
from terrazzo_torch.export.program import LARGEST_ERROR, SHAPES

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_torch.trainer import TorchTrainer

FILE = "model.torchscript.pt"


def write(
    trainer: TorchTrainer, card: ModelCard, form: GraphForm, folder: Path
) -> dict[str, str | int]:
    """Write ``model.torchscript.pt``, whose answer is the form's first output alone.

    Raises:
        ConfigError: SEG-X080, the network decides by the size of its input.
    """
    module = _First(graph(trainer, card, form))
    images = example(form, len(card.bands))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and these programs read no other
        script = torch.jit.trace(module, (images,), check_trace=False)  # type: ignore[no-untyped-call]
        _compare(script, module, form, len(card.bands))
        torch.jit.save(script, folder / FILE)
    return {"torch": torch.__version__}


class _First(nn.Module):
    """The first output of a graph."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, image: Tensor) -> Tensor:
        """Return logits or probabilities."""
        first: Tensor = self.whole(image)[0]
        return first


def _compare(script: nn.Module, module: nn.Module, form: GraphForm, num_bands: int) -> None:
    """Refuse a script that has kept what the network did at one size."""
    for batch, height, width in SHAPES:
        images = example(form, num_bands, batch=batch, size=(height, width))
        expected = module(images)
        try:
            found: Tensor = script(images)
        except RuntimeError as error:
            raise _decides_by_size(tuple(images.shape), str(error).splitlines()[-1]) from error
        largest = LARGEST_ERROR[form.precision] * (expected.max() - expected.min())
        if found.shape != expected.shape or (found - expected).abs().max() > largest:
            raise _decides_by_size(tuple(images.shape), "another result")


def _decides_by_size(shape: tuple[int, ...], reason: str) -> ConfigError:
    return ConfigError(
        "SEG-X080",
        "the network decides by the size of its input, so TorchScript of it would be wrong",
        observed=f"at {'×'.join(map(str, shape))}: {reason}",
        allowed="a network whose Python code does the same at every size",
        next_step="export to onnx instead",
    )
