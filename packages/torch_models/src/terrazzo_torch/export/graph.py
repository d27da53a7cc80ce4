"""A network with all that lies between an image file's pixels and labels, as one module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from terrazzo.base.errors import ConfigError
from terrazzo.models.exporter import LABELS

if TYPE_CHECKING:
    from terrazzo.data.sample import Bands
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_torch.trainer import TorchTrainer


class Graph(nn.Module):
    """What is written: normalisation, network, layout, labels.

    Attributes:
        network: takes normalised images B×C×H×W, returns logits B×K×H×W.
        outputs: names of what `forward` returns.
        label_dtype: of the second output.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self, network: nn.Module, bands: Bands, form: GraphForm, label_dtype: np.dtype[np.generic]
    ) -> None:
        super().__init__()
        self._form = form
        self._half = form.precision == "float16"
        self.label_dtype = torch.uint8 if label_dtype == np.uint8 else torch.uint16
        self.network = network.half() if self._half else network
        self.outputs = (form.output, LABELS) if form.labels else (form.output,)
        self.register_buffer("mean_C11", torch.tensor(bands.mean)[:, None, None])
        self.register_buffer("std_C11", torch.tensor(bands.std)[:, None, None])

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return logits or probabilities, float32 in the form's layout; perhaps labels B×H×W."""
        channels_last = self._form.layout == "NHWC"
        image_BCHW = image.permute(0, 3, 1, 2) if channels_last else image
        network_input = self._normalised(image_BCHW)
        if self._half:
            network_input = network_input.half()
        scores_BKHW: Tensor = self.network(network_input).float()
        first = scores_BKHW.softmax(dim=1) if self._form.output == "probabilities" else scores_BKHW
        if channels_last:
            first = first.permute(0, 2, 3, 1)
        if not self._form.labels:
            return (first,)
        return first, scores_BKHW.argmax(dim=1).to(self.label_dtype)

    def _normalised(self, image_BCHW: Tensor) -> Tensor:
        if self._form.normalization == "outside":
            return image_BCHW
        normalised = (image_BCHW.float() - self.mean_C11) / self.std_C11
        # NaN is "no data", which the trainer takes as the band's mean. A graph of integers meets it
        # too: where values are missing, the runtimes are given float32 in their place.
        return torch.where(torch.isnan(normalised), torch.zeros_like(normalised), normalised)


def example(
    form: GraphForm, num_bands: int, *, batch: int = 2, size: tuple[int, int] = (61, 97)
) -> Tensor:
    """Return images in a graph's form, random ones.

    The size is that of the form where it has one. Otherwise no power of 2 but 1 divides it: a
    graph must learn of the padding, and of no size that is equal to another.
    """
    height, width = form.size or size
    shape = (batch, height, width, num_bands)
    random = np.random.default_rng(0)
    dtype = np.dtype("float32" if form.normalization == "outside" else form.dtype)
    images_BHWC: np.ndarray = (
        random.standard_normal(shape, dtype=np.float32)
        if dtype == np.float32
        else random.integers(np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)
    )
    if form.layout == "NCHW":
        images_BHWC = np.ascontiguousarray(images_BHWC.transpose(0, 3, 1, 2))
    return torch.from_numpy(images_BHWC)


def graph(trainer: TorchTrainer, card: ModelCard, form: GraphForm) -> Graph:
    """Make the graph of a trainer's model, on the CPU and in inference mode.

    Raises:
        ConfigError: SEG-X080, in this precision it cannot be, or the network cuts images into
            windows of its one size.
    """
    if form.precision == "int8":
        raise ConfigError(
            "SEG-X080",
            "this format is not written in int8",
            observed='precision "int8"',
            allowed="float32, float16",
            next_step="choose one of these precisions",
        )
    _refuse_windows(trainer.network, form)
    network = trainer.network.cpu().to(memory_format=torch.contiguous_format)
    network.requires_grad_(False)
    return Graph(network, card.bands, form, card.label_map.dtype).eval()


def _refuse_windows(network: nn.Module, form: GraphForm) -> None:
    """Refuse a network whose Python code counts windows by the size of its input.

    Tracing would find the same only after minutes: as many windows as the example has.

    Raises:
        ConfigError: SEG-X080.
    """
    window: tuple[int, int] | None = getattr(network, "window", None)
    if window is None or form.size == window:
        return
    rows, columns = window
    raise ConfigError(
        "SEG-X080",
        "the network takes one size alone and cuts larger images into windows, whose number a "
        "written graph would fix",
        observed=f"images of {rows}×{columns}",
        allowed="a network that takes any size, or a graph for images of this size alone",
        next_step="use `terrazzo predict` or `terrazzo serve` on the run itself; of a run whose "
        "images are brought to this size, `terrazzo export --for triton` is a graph of one size",
    )
