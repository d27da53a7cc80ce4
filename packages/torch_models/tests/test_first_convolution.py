"""Pretrained weights see the same in images, however a run normalises them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.input_statistics import IMAGENET, InputStatistics
from terrazzo.data.sample import Bands
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.testing.trainer_checks import TWO_COLOURS
from terrazzo_torch import first_convolution
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


@pytest.mark.parametrize("place", ["run", "run/model", "run/model/weights.safetensors"])
def test_weights_of_a_run_expect_what_that_run_was_shown(tmp_path: Path, place: str) -> None:
    """Not ImageNet's statistics, which a SegFormer of the library was trained under."""
    tiny = {"size": "tiny"}
    first = ModelConfig(name="segformer", options=tiny)
    trainer = backend.build(first, TrainingConfig(steps=1), TWO_COLOURS.labels, OTHER, seed=0)
    card = ModelCard("torch", first, TWO_COLOURS.labels, OTHER, None, step=1)
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    saved_model.write(tmp_path / "run" / "model", card, weights)
    second = ModelConfig(name="segformer", options={**tiny, "pretrained": str(tmp_path / place)})
    expected = InputStatistics(OTHER.mean, OTHER.std)
    assert backend.input_statistics(second) == expected
    images_BHWC = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    before = _first_answer(first, OTHER, images_BHWC)
    for bands in (OTHER, Bands(RGB, "uint8", IMAGENET.mean, IMAGENET.std)):
        found = _first_answer(second, bands, images_BHWC)
        inside = (..., slice(1, -1), slice(1, -1))
        atol = 2e-5 * np.abs(before).max()
        np.testing.assert_allclose(found[inside], before[inside], atol=atol)


def test_weights_of_a_run_of_sixteen_bits_are_fitted_to_sixteen_bits(tmp_path: Path) -> None:
    """And what cannot be fitted is said in the words of what they are of."""
    statistics = InputStatistics((900.0, 800.0), (200.0, 100.0), "uint16")
    bands = Bands(("red", "nir"), "uint16", (1000.0, 700.0), (300.0, 90.0))
    network = nn.ModuleDict({"encoder": nn.Conv2d(2, 4, 2, 2)})
    raw = torch.tensor([[950.0, 820.0]])[:, :, None, None].expand(1, 2, 2, 2)

    def answer(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        shown = (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        with torch.no_grad():
            found: torch.Tensor = network["encoder"](shown)
        return found

    before = answer(statistics.mean, statistics.std)
    assert "fitted" in first_convolution.fit(network, statistics, bands)[0]
    torch.testing.assert_close(answer(bands.mean, bands.std), before, rtol=1e-4, atol=1e-4)
    (said,) = first_convolution.fit(network, statistics, OTHER)
    assert "trained on 2 bands of uint16" in said


def test_folders_of_libraries_say_what_their_weights_expect(tmp_path: Path) -> None:
    half = InputStatistics((127.5,) * 3, (127.5,) * 3)
    theirs = {
        "transformers": (
            "segformer",
            "preprocessor_config.json",
            {
                "image_processor_type": "SegformerImageProcessor",
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
            },
        ),
        "timm": (
            "vit",
            "config.json",
            {"architecture": "test_vit", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}},
        ),
        "smp": (
            "smp",
            "config.json",
            {
                "_model_class": "Unet",
                "encoder_name": "tu-vit_large_patch16_384",
                "encoder_weights": "imagenet",
            },
        ),
    }
    for library, (model, name, said) in theirs.items():
        folder = tmp_path / library
        folder.mkdir()
        options = {"pretrained": str(folder)}
        if library != "smp":
            published = backend.input_statistics(ModelConfig(name=model, options=options))
            assert published is not None
        (folder / name).write_text(json.dumps(said))
        found = backend.input_statistics(ModelConfig(name=model, options=options))
        assert found is not None, library
        np.testing.assert_allclose(found.mean, half.mean, rtol=1e-6)
        np.testing.assert_allclose(found.std, half.std, rtol=1e-6)


def test_a_network_that_turns_its_bands_is_fitted_band_by_band(tmp_path: Path) -> None:
    """Kernels lie in the order blue, green, red there, statistics in that of the images."""

    class Turning(nn.Module):
        reverse_bands = True

        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Conv2d(3, 4, 2, 2)

        def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.encoder(images_BCHW.flip(1))
            return found

    network = Turning()
    raw = torch.tensor([[10.0, 120.0, 240.0]])[:, :, None, None].expand(1, 3, 2, 2)

    def answer(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        shown = (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
        with torch.no_grad():
            found: torch.Tensor = network(shown)
        return found

    before = answer(IMAGENET.mean, IMAGENET.std)
    first_convolution.fit(network, IMAGENET, OTHER)
    torch.testing.assert_close(answer(OTHER.mean, OTHER.std), before, rtol=1e-4, atol=1e-4)


def test_what_cannot_take_a_constant_or_a_scale_says_so() -> None:
    """A norm that is not the next layer's, and kernels that are standardised, are left alone."""
    groups = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    )
    (said,) = first_convolution.fit(nn.ModuleDict({"encoder": groups}), IMAGENET, OTHER)
    assert "without its constant part" in said
    assert groups[3].running_mean.abs().max() == 0
    standardised = nn.Sequential(timm.layers.StdConv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = standardised[0].weight.clone()
    (said,) = first_convolution.fit(nn.ModuleDict({"encoder": standardised}), IMAGENET, OTHER)
    assert "cannot be fitted" in said
    assert torch.equal(standardised[0].weight, before)
