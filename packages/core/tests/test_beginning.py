"""Beginning with another run's weights: what is taken, what stays new, what is refused."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, ModelConfig
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands
from terrazzo.io.pixels import ImagePixels
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.runs.init_weights import load_init_weights
from terrazzo.testing.reference.models import pixel_softmax
from terrazzo.testing.reference.trainer import ReferenceTrainer

BANDS = Bands(("red",), "uint8", (100.0,), (50.0,))


def labels(*names):
    classes = tuple(LabelClass(name, "#000000", (k,)) for k, name in enumerate(names))
    return LabelMap("test", classes)


def split(label_map):
    source = SimpleNamespace(
        band_names=BANDS.names,
        files=lambda index: (Path("image.png"),),
        is_cut_from_scenes=False,
        read_image=lambda index: ImagePixels(np.zeros((4, 4, 1), np.uint8)),
    )
    return Split("train", source, label_map, 1)


class WithParts(ReferenceTrainer):
    """Calls its kernel the encoder and its bias the head."""

    @property
    def parts(self):
        return {"weights/kernel": "encoder", "weights/bias": "head"}


def trainer(label_map, seed):
    recipe = make_recipe("")
    made = WithParts(pixel_softmax.Options(), recipe.training, label_map, BANDS, seed)
    made._weights["bias"] = np.full(len(label_map), seed, np.float32)
    return made


def make_recipe(run, part="all", model="pixel_softmax"):
    return Config.model_validate(
        {
            "backend": "reference",
            "data": {"format": "folder", "root": ""},
            "model": {"name": model},
            "training": {"steps": 1},
            "init": {"run": str(run), "part": part},
        }
    )


@pytest.fixture
def run(tmp_path):
    """A finished run of the classes a and b, with seed 7."""
    label_map = labels("a", "b")
    card = ModelCard("reference", ModelConfig(name="pixel_softmax"), label_map, BANDS, None, step=1)
    state = trainer(label_map, 7).state()
    weights = {name: array for name, array in state.items() if name.startswith("weights/")}
    saved_model.write(tmp_path / "run" / "model", card, weights)
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("names", "part", "bias"),
    [(("a", "b"), "all", 7), (("a", "c"), "all", 1), (("a", "b"), "encoder", 1)],
)
def test_head_is_taken_with_the_same_classes_only(run, names, part, bias):
    label_map = labels(*names)
    own = trainer(label_map, 1)
    load_init_weights(own, make_recipe(run, part), split(label_map), Silent())
    expected = trainer(labels("a", "b"), 7)
    np.testing.assert_array_equal(own._weights["kernel"], expected._weights["kernel"])
    np.testing.assert_array_equal(own._weights["bias"], np.full(2, bias))


def test_other_shapes_in_the_encoder_are_refused_and_named(run):
    label_map = labels("a", "b", "c")
    own = trainer(label_map, 1)
    before = own.state()
    with pytest.raises(CheckpointError, match=r"SEG-C013") as caught:
        load_init_weights(own, make_recipe(run), split(label_map), Silent())
    assert "weights/kernel" in str(caught.value)
    for name, array in own.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_another_model_is_refused(run):
    with pytest.raises(ConfigError, match="SEG-X017"):
        load_init_weights(
            trainer(labels("a", "b"), 1),
            make_recipe(run, model="unet"),
            split(labels("a", "b")),
            Silent(),
        )


def test_an_unfinished_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="SEG-C012"):
        load_init_weights(
            trainer(labels("a", "b"), 1), make_recipe(tmp_path), split(labels("a", "b")), Silent()
        )


def test_images_normalised_otherwise_than_those_of_the_weights_are_told_of(run):
    """Such as those of an imported network under the statistics of the new data."""
    label_map = labels("a", "b")
    own, said = trainer(label_map, 1), Lines()
    load_init_weights(own, make_recipe(run), split(label_map), said)
    assert not any("warning" in line for line in said.lines)
    (mean,), (std,) = BANDS.mean, BANDS.std
    other = replace(BANDS, mean=(mean + 3 * std,), std=(std / 2,))
    own = WithParts(pixel_softmax.Options(), make_recipe("").training, label_map, other, 1)
    load_init_weights(own, make_recipe(run), split(label_map), said)
    (told,) = [line for line in said.lines if "warning" in line]
    assert "up to 3 deviations apart" in told
    assert "factors of 0.5 to 0.5" in told
    assert f"mean = [{mean:.6g}], std = [{std:.6g}]" in told


class Lines(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)
