"""A folder for Hugging Face is read by the library that it is for, as its README says."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from terrazzo.base.errors import ConfigError
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import GraphForm
from terrazzo.testing.exporter_checks import Run, assert_same, noise, trained
from terrazzo_torch import export
from terrazzo_torch.backend import backend
from terrazzo_torch.export.hub_page import model_card

FORM = GraphForm("uint8")


def _normalised(trainer: object, images_BHWC: np.ndarray) -> torch.Tensor:
    bands = trainer.bands
    normalised = (images_BHWC - np.float32(bands.mean)) / np.float32(bands.std)
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2)))


def _run_readme(folder: Path, monkeypatch: pytest.MonkeyPatch, **names: object) -> torch.Tensor:
    """Run the snippet of the README in its folder; return the logits."""
    snippet = re.search(r"```python\n(.+?)```", (folder / "README.md").read_text("utf-8"), re.S)[1]
    monkeypatch.chdir(folder)
    with torch.no_grad():
        exec(snippet, names)
    return names["logits"]


def _opened(folder: Path, card: ModelCard) -> Run:
    session = export.open("huggingface", folder, card, FORM)
    return lambda images_BHWC: (session.logits(images_BHWC), session.labels(images_BHWC))


@pytest.mark.parametrize("num_bands", [3, 5])
def test_transformers_reads_a_segformer(
    num_bands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoImageProcessor, SegformerForSemanticSegmentation

    trainer, card = trained(backend, "segformer", num_bands=num_bands)
    export.write("huggingface", trainer, card, FORM, tmp_path)
    model = SegformerForSemanticSegmentation.from_pretrained(tmp_path).eval()
    assert model.config.id2label == dict(enumerate(card.label_map.names))
    assert model.config.label2id["class 2"] == 2
    images_BHWC = noise("uint8", 1, 64, 96, num_bands)
    with torch.no_grad():
        quarter = model(_normalised(trainer, images_BHWC)).logits
        size = images_BHWC.shape[1:3]
        logits = torch.nn.functional.interpolate(quarter, size=size, mode="bilinear")
    expected = export.logits(trainer, images_BHWC)
    assert np.array_equal(logits.permute(0, 2, 3, 1).numpy(), expected)  # to the bit
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    given = processor(images_BHWC[0], return_tensors="pt", input_data_format="channels_last")
    torch.testing.assert_close(
        given["pixel_values"], _normalised(trainer, images_BHWC), rtol=0, atol=1e-5
    )
    assert_same(trainer, card, _opened(tmp_path, card))
    by_readme = _run_readme(tmp_path, monkeypatch, image=images_BHWC[0])
    torch.testing.assert_close(by_readme, quarter, rtol=0, atol=1e-4)


@pytest.mark.parametrize("to", ["huggingface", "openvino"])
def test_transformers_tells_nothing_while_it_is_written(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging as transformers_logging

    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append
    trainer, card = trained(backend, "segformer")
    transformers_logging.warning_once.cache_clear()
    logging.getLogger("transformers").addHandler(handler)
    try:
        export.write(to, trainer, card, FORM, tmp_path)
    finally:
        logging.getLogger("transformers").removeHandler(handler)
    assert told == []
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("model", "options", "files"),
    [
        ("unet", None, {"model"}),
        ("unet", {"encoder": "test_resnet", "width": 2, "depth": 5}, {"encoder", "decoder"}),
        ("vit", None, {"encoder", "decoder"}),
        ("dinov3_linear", None, {"encoder", "decoder"}),
        ("dinov3_linear", {"encoder": "test_vit", "decoder": "light"}, {"encoder", "decoder"}),
        ("smp", None, {"model"}),
        ("transformers", None, {"model"}),
        ("vit", {"encoder": "test_vit2", "patch_size": 16}, {"encoder", "decoder"}),
        ("deeplabv3", {"encoder": "mobilenet_v3_large"}, {"model"}),
        pytest.param("fcn", {"encoder": "resnet50"}, {"model"}, marks=pytest.mark.slow),
        ("lraspp", None, {"model"}),
        ("deeplabv3", None, {"model"}),
    ],
)
@pytest.mark.parametrize("num_bands", [3, 5])
def test_other_weights_load_strictly_as_the_readme_says(
    model: str,
    options: dict | None,
    files: set[str],
    num_bands: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer, card = trained(backend, model, num_bands=num_bands, options=options)
    export.write("huggingface", trainer, card, FORM, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "README.md",
        *(f"{name}.safetensors" for name in files),
    }
    images_BHWC = noise("uint8", 1, 64, 96, num_bands)
    given = _normalised(trainer, images_BHWC)
    logits = _run_readme(tmp_path, monkeypatch, normalised_images=given)
    assert_same(trainer, card, _opened(tmp_path, card))
    expected = export.logits(trainer, images_BHWC)
    found = logits.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.ptp(expected))


def test_the_model_card_tells_scores_with_definition_and_intervals() -> None:
    _, card = trained(backend, "unet")
    text = model_card(
        card,
        {
            "split": "val",
            "definition": "from one confusion matrix",
            "scores": {"mean_iou": 0.51234, "pixel_accuracy": 0.9},
            "intervals": {"mean_iou": (0.48, 0.55)},
            "interval_definition": "95 %, over other images",
        },
    )
    front = text.split("---\n")[1]
    assert "library_name: terrazzo\n" in front
    assert "pipeline_tag: image-segmentation\n" in front
    assert "# license: to be filled in" in front
    assert "| mean_iou | 0.5123 | 0.4800 to 0.5500 |" in text
    assert "| pixel_accuracy | 0.9000 |  |" in text
    assert "from one confusion matrix" in text
    assert "95 %, over other images" in text
    assert "Scores" not in model_card(card)


def test_int8_is_refused_and_float16_halves(tmp_path: Path) -> None:
    trainer, card = trained(backend, "unet")
    with pytest.raises(ConfigError, match="float32, float16"):
        export.write("huggingface", trainer, card, GraphForm("uint8", precision="int8"), tmp_path)
    assert not [*tmp_path.iterdir()]
    export.write("huggingface", trainer, card, GraphForm("uint8", precision="float16"), tmp_path)
    weights = (tmp_path / "model.safetensors").stat().st_size
    assert weights < 2.4 * trainer.num_parameters
