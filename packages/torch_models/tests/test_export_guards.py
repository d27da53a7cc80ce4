"""A network whose Python code looks at the size of its input is refused, and the guard is named."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from terrazzo.base.errors import ConfigError
from terrazzo.models.exporter import GraphForm
from terrazzo.testing.trainer_checks import TWO_COLOURS
from terrazzo_torch.export.graph import Graph
from terrazzo_torch.export.program import export
from terrazzo_torch.padding import crop, pad_to_multiple

FORM = GraphForm("uint8")


class Network(nn.Module):
    """Halves twice and enlarges again; decides by the size of its input as `how` says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.reduce = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits."""
        height, width = images_BCHW.shape[-2:]
        padded = self._padded(images_BCHW)
        logits = functional.interpolate(
            self.head(self.reduce(padded)), size=padded.shape[-2:], mode="bilinear"
        )
        logits = crop(logits, images_BCHW.shape)
        decides = {
            "large": lambda: height * width > 1000,
            "square": lambda: height == width,
            "one image": lambda: images_BCHW.shape[0] == 1,
            "multiple": lambda: height % 8 == 0,
        }.get(self.how)
        return logits * 2 if decides is not None and decides() else logits

    def _padded(self, images_BCHW: Tensor) -> Tensor:
        if self.how != "padding":
            return pad_to_multiple(images_BCHW, 4)
        below, right = (-size % 4 for size in images_BCHW.shape[-2:])
        if below or right:
            return functional.pad(images_BCHW, (0, right, 0, below), mode="replicate")
        return images_BCHW


def _export(how: str, size: tuple[int, int] = (61, 97)) -> Graph:
    torch.manual_seed(0)
    graph = Graph(Network(how), TWO_COLOURS.bands, FORM, np.dtype(np.uint8)).eval()
    export(graph, FORM, len(TWO_COLOURS.bands), size=size)
    return graph


def test_arithmetic_on_the_size_is_no_decision() -> None:
    _export("nothing")


def test_padding_where_it_is_needed_is_refused_at_a_multiple_and_right_elsewhere() -> None:
    with pytest.raises(ConfigError, match=r"% 4\) == 0") as caught:
        _export("padding", (64, 96))
    assert caught.value.code == "SEG-X080"
    _export("padding")  # the branch that is taken holds for multiples too


@pytest.mark.parametrize(
    ("how", "guard"),
    [
        ("large", r"> 1000"),
        ("square", r"size\(\)\[1\] != L\['image'\]\.size\(\)\[2\]"),
        ("multiple", r"% 8\) != 0"),
    ],
)
def test_what_differs_at_another_size_is_refused(how: str, guard: str) -> None:
    with pytest.raises(ConfigError, match=f"another result at .*{guard}"):
        _export(how)


def test_what_differs_for_one_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"another result at 1×|constant"):
        _export("one image")
