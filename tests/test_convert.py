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
