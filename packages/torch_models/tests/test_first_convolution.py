"""Pretrained weights see the same in images, however a run normalises them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.input_statistics import IMAGENET
from terrazzo.data.sample import Bands
from terrazzo.testing.trainer_checks import TWO_COLOURS
from terrazzo_torch.backend import backend

RGB = ("red", "green", "blue")
OTHER = Bands(RGB, "uint8", (90.0, 140.0, 60.0), (30.0, 80.0, 51.0))


def _weights(tmp_path: Path, name: str) -> Path:
    torch.manual_seed(0)
    source = timm.create_model(name).eval()
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path / f"{name}.safetensors"
    save_file(source.state_dict(), path)
    return path


def _first_answer(model: ModelConfig, bands: Bands, images_BHWC: np.ndarray) -> np.ndarray:
    """Return what the first layers of the encoder make of raw images: convolution and its norm."""
    trainer = backend.build(model, TrainingConfig(steps=1), TWO_COLOURS.labels, bands, seed=0)
    network = trainer.network.eval()
    modules = list(network.encoder.modules())
    first = next(n for n, m in enumerate(modules) if isinstance(m, nn.Conv2d))
    layer = modules[first] if modules[first].bias is not None else next(
        m for m in modules[first:] if isinstance(m, nn.BatchNorm2d)
    )  # fmt: skip
    seen: list[torch.Tensor] = []
    layer.register_forward_hook(lambda *given: seen.append(given[-1]))
    mean, std = np.array(bands.mean), np.array(bands.std)
    normalised_BHWC = ((images_BHWC - mean) / std).astype(np.float32)
    with torch.no_grad():
        network(torch.from_numpy(normalised_BHWC).permute(0, 3, 1, 2))
    return seen[0].numpy(force=True)


@pytest.mark.parametrize(
    ("model", "encoder", "border"),
    [
        ("vit", "test_vit", 0),
        ("unet", "test_convnext", 0),
        ("unet", "test_resnet", 2),
        ("unet", "test_efficientnet", 2),
    ],
)
def test_an_encoder_answers_raw_images_as_with_its_own_statistics(
    tmp_path: Path, model: str, encoder: str, border: int
) -> None:
    options = {"encoder": encoder, "pretrained": str(_weights(tmp_path, encoder))}
    if model == "unet":
        options |= {"width": 2, "depth": 4}
    config = ModelConfig(name=model, options=options)
    own = backend.input_statistics(config)
    assert own is not None
    images_BHWC = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    expected = _first_answer(config, Bands(RGB, "uint8", own.mean, own.std), images_BHWC)
    found = _first_answer(config, OTHER, images_BHWC)
    inside = (..., slice(border, -border or None), slice(border, -border or None))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-5 * scale)
    assert scale > 0.1


def test_the_statistics_are_those_of_the_weights(tmp_path: Path) -> None:
    """timm's ViTs were trained on (x − 127.5) / 127.5, its ResNets on ImageNet's mean."""
    for encoder, mean in {"vit_large_patch16_384": 127.5, "deit_tiny_patch16_224": 123.675}.items():
        options = {"encoder": encoder, "pretrained": "encoder"}
        found = backend.input_statistics(ModelConfig(name="vit", options=options))
        assert found is not None
        assert found.mean[0] == pytest.approx(mean)
    fcn = ModelConfig(name="fcn", options={"pretrained": "encoder"})
    assert backend.input_statistics(fcn) == IMAGENET
    assert backend.input_statistics(ModelConfig(name="fcn", options={})) is None
    assert backend.input_statistics(ModelConfig(name="unet", options={"pretrained": False})) is None


def test_what_was_done_is_said_and_nothing_where_nothing_was(tmp_path: Path) -> None:
    options = {"encoder": "test_vit", "pretrained": str(_weights(tmp_path, "test_vit"))}
    config = ModelConfig(name="vit", options=options)
    own = backend.input_statistics(config)
    assert own is not None

    def remarks(bands: Bands) -> str:
        training = TrainingConfig(steps=1)
        trainer = backend.build(config, training, TWO_COLOURS.labels, bands, seed=0)
        return "\n".join(trainer.remarks)

    assert "fitted" not in remarks(Bands(RGB, "uint8", own.mean, own.std))
    assert "deviation 30, 80, 51 of this run" in remarks(OTHER)
    wide = replace(OTHER, dtype="uint16")
    assert "these are 3 bands of uint16" in remarks(wide)
