"""What is special to the models of this backend; the contract is in test_contract.py."""

import importlib
from itertools import pairwise

import pytest
import torch
from torch import nn

from terrazzo.config import ModelConfig, TrainingConfig
from terrazzo.errors import ConfigError
from terrazzo.testing.trainer_checks import TWO_COLOURS
from terrazzo_torch.backend import backend
from terrazzo_torch.models import unet
from terrazzo_torch.padding import crop, pad_to_multiple


def _network(name: str) -> nn.Module:
    file = importlib.import_module(f"terrazzo_torch.models.{name}")
    torch.manual_seed(0)
    return file.build(file.SMALL, 3, 4).eval()


@pytest.mark.parametrize("name", backend.models())
@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_any_size_in_same_size_out(name: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert _network(name)(torch.zeros(1, 3, *size)).shape == (1, 4, *size)


def test_padding_repeats_the_border_and_shifts_nothing() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    padded = pad_to_multiple(image, 4)
    assert padded.tolist() == [[[[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]]]
    assert torch.equal(crop(padded, image.shape), image)
    assert pad_to_multiple(padded, 4) is padded


def test_unet_has_the_size_of_the_paper() -> None:
    # Two 3×3 convolutions without bias and two norms of two weights each, level after level.
    convolutions = sum(
        9 * inputs * outputs + 9 * outputs * outputs + 4 * outputs
        for inputs, outputs in pairwise((1, 64, 128, 256, 512, 1024, 512, 256, 128, 64))
    )
    transposed = sum(4 * 2 * w * w + w for w in (512, 256, 128, 64))
    network = unet.build(unet.Options(), 1, 1)
    assert sum(p.numel() for p in network.parameters()) == convolutions + transposed + 64 + 1


def test_unet_joins_skip_first_then_upsampled() -> None:
    network = unet.build(unet.Options(width=2, depth=1, up="bilinear"), 1, 1).eval()
    joined = []
    network.merge[0].register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    image = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        network(image)
        skip = network.down[0](image)
    assert torch.equal(joined[0][:, :2], skip)
    assert joined[0].shape == (1, 4, 8, 8)


@pytest.mark.parametrize(("size", "millions"), [("b0", 3.7), ("b1", 13.7), ("b2", 27.4)])
def test_segformer_has_the_size_of_the_paper(size: str, millions: float) -> None:
    segformer = importlib.import_module("terrazzo_torch.models.segformer")
    with torch.device("meta"):
        network = segformer.build(segformer.Options(size=size), 3, 19)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("model", "choices"),
    [
        (ModelConfig(name="unett"), ["did you mean 'unet'?", "segformer, unet"]),
        (ModelConfig(name="unet", options={"widht": 8}), ["did you mean 'width'?", "depth, up"]),
        (ModelConfig(name="unet", options={"up": "nearest"}), ["'transpose' or 'bilinear'"]),
    ],
)
def test_mistakes_list_the_choices(model: ModelConfig, choices: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        backend.build(model, TrainingConfig(steps=1), TWO_COLOURS.labels, TWO_COLOURS.bands, 0)
    assert all(choice in str(caught.value) for choice in choices), caught.value
