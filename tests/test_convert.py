"""A trained model moved between the frameworks by the command line, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from safetensors.numpy import load_file

from terrazzo.base.file_lock import locked
from terrazzo.base.recipe import load_recipe
from terrazzo.testing.dataset_trees import WRITERS

WRITE_ENCODER = """
from transformers import SegformerConfig, SegformerForImageClassification
SegformerForImageClassification(SegformerConfig()).save_pretrained("encoder")
"""
RECIPE = """
backend = "torch"
[data]
format = "camvid"
root = "camvid"
[model]
name = "segformer"
options = {{ size = "b0", pretrained = "{encoder}" }}
[training]
batch_size = 2
steps = 2
"""


def python(folder, *words):
    answer = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A trained run `first`, `first` as Keras in `moved`, and that as PyTorch again in `back`."""
    folder = tmp_path_factory.mktemp("convert")
    WRITERS["camvid"](folder / "camvid")
    python(folder, "-c", WRITE_ENCODER)
    (folder / "recipe.toml").write_text(RECIPE.format(encoder=(folder / "encoder").as_posix()))
    terrazzo = "-m", "terrazzo"
    python(folder, *terrazzo, "run", "--config", "recipe.toml", "--out", "first")
    python(folder, *terrazzo, "convert", "first", "--to", "keras", "--out", "moved")
    python(folder, *terrazzo, "convert", "moved", "--to", "torch", "--out", "back")
    return folder


def test_there_and_back_leaves_the_weights_as_they_were(place):
    first, moved, back = (
        load_file(place / run / "model" / "weights.safetensors")
        for run in ("first", "moved", "back")
    )
    assert moved.keys() != first.keys() == back.keys()
    # Keras counts no batches; with a momentum PyTorch does not use the count.
    changed = {name for name in first if first[name].tobytes() != back[name].tobytes()}
    assert changed == {"weights/network.decode_head.batch_norm.num_batches_tracked"}


def test_the_other_framework_scores_the_same(place):
    python(place, "-m", "terrazzo", "evaluate", "moved")
    first, moved = (
        json.loads((place / run / "evaluation" / "test.json").read_text())
        for run in ("first", "moved")
    )
    assert first["pixels_counted"] == moved["pixels_counted"] > 0
    assert first["scores"]["mean_iou"] == pytest.approx(moved["scores"]["mean_iou"], abs=1e-4)
    assert first["scores"]["mean_iou"] > 0


def test_the_weights_it_began_with_are_asked_for_no_more(place):
    """They are an option of the model that Keras does not have, and lie on one machine only."""
    assert "pretrained" in (place / "first" / "model" / "model.toml").read_text()
    for run in ("moved", "back"):
        for file in ("config.toml", "model/model.toml"):
            assert "pretrained" not in (place / run / file).read_text()
        # Their statistics stay, as numbers.
        first, kept = (load_recipe(place / each / "config.toml").data for each in ("first", run))
        assert first.normalize == "pretrained"
        assert kept.normalize.mean == pytest.approx((123.675, 116.28, 103.53))


def test_a_run_that_another_process_works_on_is_not_overwritten(place):
    before = (place / "moved" / "config.toml").read_bytes()
    words = [sys.executable, "-m", "terrazzo", "convert", "first", "--to", "keras"]
    with locked(place / "moved"):
        answer = subprocess.run(
            [*words, "--out", "moved", "--overwrite"],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
    assert answer.returncode == 5
    assert "SEG-C009" in answer.stderr
    assert (place / "moved" / "config.toml").read_bytes() == before
    assert (place / "moved" / "model" / "model.toml").is_file()


PIXELS = """
import hashlib, sys
import numpy as np
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.model_input import as_seen
from terrazzo.data.sample import Bands
from terrazzo.io.pixels import ImagePixels
from terrazzo.models import backends
from terrazzo.testing.trainer_checks import TWO_COLOURS

draw = np.random.default_rng(0)
present_HWC = draw.random((32, 48, 3)) > 0.1
for dtype, top in (("uint8", 256), ("uint16", 65536), ("float32", 1e-3)):
    image_HWC = (draw.random((32, 48, 3)) * top).astype(dtype)
    bands = Bands.normalized_per_image(("a", "b", "c"), dtype)
    model = ModelConfig(name="unet", options={"width": 4, "depth": 1})
    training = TrainingConfig(steps=1, precision="float32")
    trainer = backends.load(sys.argv[1]).build(model, training, TWO_COLOURS.labels, bands, 0)
    for flags_HWC in (None, present_HWC):
        seen_BHWC = as_seen(ImagePixels(image_HWC, None, flags_HWC), None, bands)[None]
        if sys.argv[1] == "torch":
            given = trainer._normalised(seen_BHWC).permute(0, 2, 3, 1).numpy(force=True)
        else:
            from keras import ops
            from terrazzo_keras.raw_pixels import normalized
            given = ops.convert_to_numpy(normalized(seen_BHWC, bands.mean, bands.std))
        assert given.dtype == np.float32 and not np.isnan(given).any()
        assert (given == np.nan_to_num(seen_BHWC, nan=0.0)).all()
        # +0 and -0 are one number.
        print(dtype, hashlib.sha256((given + 0.0).tobytes()).hexdigest())
"""


def test_both_frameworks_are_given_the_same_bytes_of_an_image_normalised_by_itself():
    told = [
        subprocess.run(
            [sys.executable, "-c", PIXELS, backend], capture_output=True, text=True, check=False
        )
        for backend in ("torch", "keras")
    ]
    assert [each.returncode for each in told] == [0, 0], told[0].stderr + told[1].stderr
    assert len(set(told[0].stdout.splitlines())) == 6
    assert told[0].stdout == told[1].stdout


BY_IMAGE = """
backend = "torch"
[data]
format = "camvid"
root = "camvid"
normalize = "image"
[augment]
crop = [16, 16]
[model]
name = "unet"
options = { width = 4, depth = 2 }
[training]
batch_size = 2
steps = 2
"""


@pytest.mark.slow
def test_images_stay_normalised_each_by_itself(tmp_path):
    WRITERS["camvid"](tmp_path / "camvid")
    (tmp_path / "recipe.toml").write_text(BY_IMAGE)
    terrazzo = "-m", "terrazzo"
    python(tmp_path, *terrazzo, "run", "--config", "recipe.toml", "--out", "first")
    python(tmp_path, *terrazzo, "convert", "first", "--to", "keras", "--out", "moved")
    python(tmp_path, *terrazzo, "evaluate", "moved")
    first, moved = (
        json.loads((tmp_path / run / "evaluation" / "test.json").read_text())
        for run in ("first", "moved")
    )
    assert load_recipe(tmp_path / "moved" / "config.toml").data.normalize == "image"
    assert "per_image = true" in (tmp_path / "moved" / "model" / "model.toml").read_text()
    assert first["pixels_counted"] == moved["pixels_counted"] > 0
    assert first["scores"]["mean_iou"] == pytest.approx(moved["scores"]["mean_iou"], abs=1e-4)
