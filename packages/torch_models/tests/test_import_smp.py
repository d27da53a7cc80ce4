"""`terrazzo import` of segmentation_models.pytorch and torchvision: logits and labels stay."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import segmentation_models_pytorch as smp_library
import tomli_w
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models import segmentation
from torchvision.transforms._presets import SemanticSegmentation

from terrazzo.base.errors import ConfigError
from terrazzo.base.json_files import read_json
from terrazzo.io.images import read_image
from terrazzo.models.published_network import Asked
from terrazzo.runs import saved_model
from terrazzo.workflows import import_model
from terrazzo.workflows.import_model import Preprocessing
from terrazzo_torch.models import smp

FOUR = ("tree", "road", "building", "sky")
BY_NUMBER = ["0=sky", "1=building", "2=road", "3=tree"]
ORDER = [3, 2, 1, 0]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _map(path: Path, names: tuple[str, ...]) -> Path:
    classes = [{"name": n, "colour": "#0000FF", "raw": [k]} for k, n in enumerate(names)]
    path.write_text(tomli_w.dumps({"name": "ours", "classes": classes}))
    return path


@pytest.fixture
def image_HWC() -> NDArray[np.uint8]:  # noqa: N802 - a shape suffix
    data = os.environ.get("TERRAZZO_DATA")
    if data is None:
        pytest.skip("TERRAZZO_DATA is not set")
    return read_image(min((Path(data) / "camvid" / "test").iterdir()))[:128, :192]


def _publish(folder: Path, architecture: str, **settings: Any) -> nn.Module:
    torch.manual_seed(1)
    encoder = "tu-test_resnet" if architecture != "DPT" else "tu-test_vit"
    arguments = {"encoder_name": encoder, "encoder_weights": None, "classes": 4, **settings}
    network: nn.Module = getattr(smp_library, architecture)(**arguments).eval()
    for name, parameter in network.named_parameters():
        # Logits that differ from pixel to pixel by more than rounding, whatever the decoder.
        gain = 10 if name.startswith("segmentation_head.") else 1
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)
    network.save_pretrained(folder)
    return network


def _normalised(image_HWC: NDArray[np.uint8]) -> torch.Tensor:
    ready = smp_library.encoders.preprocess_input(
        image_HWC, mean=list(MEAN), std=list(STD), input_space="RGB", input_range=[0, 1]
    )
    return torch.from_numpy(ready.transpose(2, 0, 1)[None]).float()


def _of_library(network: nn.Module, pixels: torch.Tensor) -> NDArray[Any]:
    with torch.no_grad():
        logits: NDArray[Any] = network(pixels)[0].permute(1, 2, 0).numpy()
    return logits


@pytest.mark.parametrize("architecture", get_args(smp.Architecture))
def test_logits_of_every_decoder_are_the_packages(
    architecture: str, tmp_path: Path, image_HWC: NDArray[np.uint8]
) -> None:
    network = _publish(tmp_path / "theirs", architecture)
    import_model.import_model(
        tmp_path / "theirs",
        tmp_path / "run",
        labels=_map(tmp_path / "map.toml", FOUR),
        said=BY_NUMBER,
        preprocessing=Preprocessing(normalize="imagenet"),
    )
    card, trainer = saved_model.load(tmp_path / "run" / "model")
    expected = _of_library(network, _normalised(image_HWC))[..., ORDER]
    own = trainer.logits(image_HWC[None])[0]
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    labels = trainer.predict_labels(image_HWC[None])[0]
    assert (labels == expected.argmax(-1)).mean() >= 0.999
    assert own.std() > 0.01
    assert card.model.options["architecture"] == architecture


def test_one_output_becomes_two_classes(tmp_path: Path, image_HWC: NDArray[np.uint8]) -> None:
    network = _publish(tmp_path / "theirs", "Unet", classes=1, activation=None)
    import_model.import_model(
        tmp_path / "theirs",
        tmp_path / "run",
        labels=_map(tmp_path / "map.toml", ("other", "car")),
        in_order=True,
        preprocessing=Preprocessing(normalize="imagenet"),
    )
    _, trainer = saved_model.load(tmp_path / "run" / "model")
    yes = torch.from_numpy(_of_library(network, _normalised(image_HWC))).sigmoid().numpy()
    np.testing.assert_allclose(trainer.predict(image_HWC[None])[0][..., 1:], yes, atol=1e-5)


def test_classes_may_be_several_of_the_networks(
    tmp_path: Path, image_HWC: NDArray[np.uint8]
) -> None:
    network = _publish(tmp_path / "theirs", "Unet")
    import_model.import_model(
        tmp_path / "theirs",
        tmp_path / "run",
        labels=_map(tmp_path / "map.toml", ("green", "grey")),
        said=["0=", "1=grey", "2=grey", "3=green"],
        preprocessing=Preprocessing(normalize="imagenet"),
    )
    _, trainer = saved_model.load(tmp_path / "run" / "model")
    theirs = torch.from_numpy(_of_library(network, _normalised(image_HWC))[..., 1:]).softmax(-1)
    grey = (theirs[..., 0] + theirs[..., 1]).numpy()
    np.testing.assert_allclose(trainer.predict(image_HWC[None])[0][..., 1], grey, atol=1e-5)
    record = read_json(tmp_path / "run" / "run.json")["imported"]
    assert record["classes"] == {"green": ["3"], "grey": ["1", "2"]}
    assert record["classes_left_out"] == ["0"]


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"activation": "sigmoid"}, "SEG-X160", "sigmoid"),
        ({"_model_class": "Unknown"}, "SEG-X155", "Unknown"),
        ({"in_channels": 5}, "SEG-X160", "in_channels = 5"),
        ({"encoder_name": "no_such"}, "SEG-X160", "no_such"),
        ({}, "SEG-X158", "encoder_weights"),
    ],
)
def test_what_is_not_known_is_refused(
    change: dict[str, Any], code: str, told: str, tmp_path: Path
) -> None:
    _publish(tmp_path / "theirs", "Unet")
    file = tmp_path / "theirs" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    normalize = "imagenet" if change else None
    with pytest.raises(ConfigError) as caught:
        import_model.import_model(
            tmp_path / "theirs",
            tmp_path / "run",
            labels=_map(tmp_path / "map.toml", FOUR),
            in_order=True,
            preprocessing=Preprocessing(normalize=normalize),
        )
    assert caught.value.code == code
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_statistics_are_those_of_the_encoders_pretraining(tmp_path: Path) -> None:
    _publish(tmp_path / "theirs", "Unet", encoder_name="tu-resnet18")
    file = tmp_path / "theirs" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"encoder_weights": "imagenet"}))
    import_model.import_model(
        tmp_path / "theirs",
        tmp_path / "run",
        labels=_map(tmp_path / "map.toml", FOUR),
        in_order=True,
    )
    card = saved_model.read_card(tmp_path / "run" / "model")
    np.testing.assert_allclose(card.bands.mean, np.array(MEAN) * 255, rtol=1e-6)
    np.testing.assert_allclose(card.bands.std, np.array(STD) * 255, rtol=1e-6)


@pytest.mark.parametrize(
    "architecture", ["deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large", "fcn_resnet50"]
)
def test_logits_of_torchvision_are_its_own(
    architecture: str, tmp_path: Path, image_HWC: NDArray[np.uint8]
) -> None:
    torch.manual_seed(0)
    make = getattr(segmentation, architecture)
    network = make(weights=None, weights_backbone=None, num_classes=4).eval()
    torch.save({"model_state_dict": network.state_dict()}, tmp_path / "theirs.pth")
    import_model.import_model(
        tmp_path / "theirs.pth",
        tmp_path / "run",
        labels=_map(tmp_path / "map.toml", FOUR),
        said=BY_NUMBER,
        asked=Asked(architecture=architecture),
    )
    _, trainer = saved_model.load(tmp_path / "run" / "model")
    prepare = SemanticSegmentation(resize_size=None)
    with torch.no_grad():
        pixels = prepare(torch.from_numpy(image_HWC).permute(2, 0, 1))[None]
        expected = network(pixels)["out"][0].permute(1, 2, 0).numpy()[..., ORDER]
    own = trainer.logits(image_HWC[None])[0]
    np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    labels = trainer.predict_labels(image_HWC[None])[0]
    assert (labels == expected.argmax(-1)).mean() >= 0.999
