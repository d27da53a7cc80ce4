"""Which mean and deviation a run takes, and what pretrained weights are fitted to."""

import numpy as np
import pytest

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig, ModelConfig, TrainingConfig, load_recipe
from terrazzo.data import datasets
from terrazzo.data.input_statistics import IMAGENET, InputStatistics, fitted, remark_unfit
from terrazzo.data.labels import load_label_map
from terrazzo.data.normalization import bands_of
from terrazzo.data.sample import Bands
from terrazzo.runs.folder import create_run, reopen_run, with_kept_defaults
from terrazzo.testing import dataset_trees
from terrazzo.workflows import train as workflow

RGB = ("red", "green", "blue")
HALF = InputStatistics((127.5,) * 3, (127.5,) * 3)


def recipe(**changes):
    table = {
        "backend": "reference",
        "data": {"format": "folder", "root": "data"},
        "model": {"name": "pixel_softmax"},
        "training": {"steps": 1},
    }
    for name, values in changes.items():
        table[name] = {**table[name], **values}
    return load_recipe(table)


def test_without_a_word_pretrained_weights_decide():
    assert recipe().data.normalize == "dataset"
    weights = {"options": {"pretrained": "encoder"}}
    assert recipe(model=weights).data.normalize == "pretrained"
    assert recipe(model={"options": {"pretrained": False}}).data.normalize == "dataset"
    stated = recipe(model=weights, data={"normalize": "dataset"})
    assert stated.data.normalize == "dataset"


def test_so_they_do_in_a_recipe_made_of_objects():
    made = Config(
        backend="reference",
        data=DataConfig(format="folder", root="data"),
        model=ModelConfig(name="pixel_softmax", options={"pretrained": "encoder"}),
        training=TrainingConfig(steps=1),
    )
    assert made.data.normalize == "pretrained"


def test_a_run_that_was_begun_before_that_goes_on_as_it_was(tmp_path):
    """Earlier versions took the statistics of the data set, and wrote them down."""
    weights = {"options": {"pretrained": "encoder"}}
    before = recipe(model=weights, data={"normalize": "dataset"})
    run = create_run(tmp_path / "run", before, load_label_map("camvid"), overwrite=False)
    now = with_kept_defaults(recipe(model=weights), run.config)
    assert now.data.normalize == "dataset"
    reopen_run(run.path, now)
    stated = recipe(model=weights, data={"normalize": "pretrained"})
    with pytest.raises(CheckpointError, match="dataset → pretrained"):
        reopen_run(run.path, with_kept_defaults(stated, run.config))
    by_hand = recipe(model=weights, data={"normalize": {"mean": [1, 2, 3], "std": [1, 1, 1]}})
    other = create_run(tmp_path / "other", by_hand, load_label_map("camvid"), overwrite=False)
    assert with_kept_defaults(recipe(model=weights), other.config).data == by_hand.data
    assert with_kept_defaults(recipe(model=weights), tmp_path / "none").data.normalize == (
        "pretrained"
    )


@pytest.fixture
def train(tmp_path):
    return datasets.open_split(dataset_trees.WRITERS["folder"](tmp_path).data, "train")


def test_statistics_of_the_weights_and_by_hand(train):
    found = bands_of(train, "pretrained", expected=HALF)
    assert (found.mean, found.std) == (HALF.mean, HALF.std)
    assert bands_of(train, "pretrained") == bands_of(train, "dataset")
    by_hand = DataConfig.model_validate(
        {"format": "folder", "root": "x", "normalize": {"mean": [1, 2, 3], "std": [4, 5, 6]}}
    ).normalize
    found = bands_of(train, by_hand)
    assert (found.mean, found.std) == ((1, 2, 3), (4, 5, 6))


def test_statistics_that_nobody_knows_are_told_of(tmp_path):
    said = []

    class Lines(Silent):
        def say(self, text):
            said.append(text)

    data = dataset_trees.WRITERS["folder"](tmp_path / "data").data
    trained = Config(
        backend="reference",
        data=data.model_copy(update={"normalize": "pretrained"}),
        model=ModelConfig(name="pixel_softmax"),
        training=TrainingConfig(steps=1, batch_size=1),
    )
    workflow.train(trained, tmp_path / "run", progress=Lines())
    assert any("nothing says what images the weights expect" in line for line in said)


def test_by_hand_needs_one_a_band(train):
    by_hand = DataConfig.model_validate(
        {"format": "folder", "root": "x", "normalize": {"mean": [1], "std": [4]}}
    ).normalize
    with pytest.raises(ConfigError) as caught:
        bands_of(train, by_hand)
    assert caught.value.code == "SEG-X011"
    assert "3 (red, green, blue)" in str(caught.value)
    with pytest.raises(ConfigError, match="2 means and 1 deviations"):
        recipe(data={"normalize": {"mean": [1, 2], "std": [4]}})


@pytest.mark.parametrize("own", [IMAGENET, HALF])
@pytest.mark.parametrize("num_bands", [1, 3])
def test_a_fitted_kernel_answers_raw_values_as_before(own, num_bands):
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(3, 3, num_bands, 5)).astype(np.float32)
    raw = rng.uniform(0, 255, (3, 3, num_bands))
    mean, std = (11.0, 90.0, 200.0)[:num_bands], (20.0, 40.0, 80.0)[:num_bands]
    bands = Bands(RGB[:num_bands], "uint8", mean, std)
    found = fitted(kernels, own, bands, padding=0)
    own_mean, own_std = own.of_bands(bands)
    before = np.einsum("hwc,hwco->o", (raw - own_mean) / own_std, kernels)
    after = np.einsum("hwc,hwco->o", (raw - mean) / np.array(std), found.kernels) + found.offset_O
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_nothing_is_changed_where_nothing_differs_or_nothing_is_known():
    kernels = np.ones((1, 1, 3, 2), np.float32)
    assert fitted(kernels, HALF, Bands(RGB, "uint8", HALF.mean, HALF.std), padding=0) is None
    wide = Bands(RGB, "uint16", (900.0,) * 3, (200.0,) * 3)
    assert fitted(kernels, HALF, wide, padding=0) is None
    assert "3 bands of uint16" in remark_unfit(HALF, wide)
    assert remark_unfit(HALF, Bands(RGB, "uint8", HALF.mean, HALF.std)) is None
