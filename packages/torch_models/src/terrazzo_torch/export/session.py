"""What was written for PyTorch and its libraries, opened by them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from terrazzo.base import config_parsing
from terrazzo_torch.export import hub_page
from terrazzo_torch.export.graph import Graph

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm


class TorchSession:
    """A written graph on the CPU; see `terrazzo.models.session.Session`."""

    def __init__(self, module: Callable[[Tensor], tuple[Tensor, ...]], form: GraphForm) -> None:
        self._module = module
        self._form = form

    @property
    def device(self) -> str:
        """Where and by what it is computed, for the record."""
        return f"cpu torch {torch.__version__} {self._form.precision}"

    @property
    def threads(self) -> int:
        """Threads that share the work."""
        return torch.get_num_threads()

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K."""
        assert self._form.output == "logits"
        result: NDArray[np.float32] = self._first(images_BHWC).numpy()
        return result

    def probabilities(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, which add up to 1 over K."""
        first = self._first(images_BHWC)
        probabilities = first if self._form.output == "probabilities" else first.softmax(dim=-1)
        result: NDArray[np.float32] = probabilities.numpy()
        return result

    def labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W."""
        outputs = self._run(images_BHWC)
        labels = outputs[1] if self._form.labels else self._last_axis(outputs[0]).argmax(dim=-1)
        result: NDArray[np.integer] = labels.numpy()
        return result

    def _first(self, images_BHWC: NDArray[np.generic]) -> Tensor:
        return self._last_axis(self._run(images_BHWC)[0])

    def _last_axis(self, first: Tensor) -> Tensor:
        """Return scores with the classes last."""
        return (first if self._form.layout == "NHWC" else first.permute(0, 2, 3, 1)).contiguous()

    def _run(self, images_BHWC: NDArray[np.generic]) -> tuple[Tensor, ...]:
        turned = images_BHWC if self._form.layout == "NHWC" else images_BHWC.transpose(0, 3, 1, 2)
        images = torch.from_numpy(np.require(turned, None, ["C", "W"]))
        with torch.inference_mode():
            return self._module(images)


def open_program(folder: Path, form: GraphForm) -> TorchSession:
    """Open ``model.pt2``."""
    return TorchSession(torch.export.load(folder / "model.pt2").module(), form)


def open_hugging_face(folder: Path, card: ModelCard, form: GraphForm) -> TorchSession:
    """Open weights under their library's names, by its loader where it has one.

    Normalisation, padding and enlarging, which they do not hold, are this package's.
    """
    file = importlib.import_module(f"terrazzo_torch.models.{card.model.name}")
    given = {k: v for k, v in card.model.options.items() if k != "pretrained"}
    options = config_parsing.parse(file.Options, given, where="model.options")
    network: nn.Module = file.build(options, len(card.bands), len(card.label_map))
    library = hub_page.library(card)
    if library == "transformers":
        from transformers import SegformerForSemanticSegmentation

        loaded = SegformerForSemanticSegmentation.from_pretrained(folder)
        network.add_module("network", loaded)
    elif library == "torchvision":
        network.get_submodule("network").load_state_dict(load_file(folder / "model.safetensors"))
    elif library == "timm":
        network.get_submodule("encoder").load_state_dict(load_file(folder / "encoder.safetensors"))
        rest = load_file(folder / "decoder.safetensors")
        assert not network.load_state_dict(rest, strict=False).unexpected_keys
    else:
        network.load_state_dict(load_file(folder / "model.safetensors"))
    return TorchSession(Graph(network, card.bands, form, card.label_map.dtype).eval(), form)
