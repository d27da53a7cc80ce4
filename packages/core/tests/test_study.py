"""From the TOML of a study to its plan; nothing is trained here."""

from __future__ import annotations

import pytest

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.sample import Bands
from terrazzo.models import compatibility
from terrazzo.models.card import ModelCard
from terrazzo.models.compatibility import Pixels
from terrazzo.workflows.study.plan import load_study, plan_study, with_only

RECIPE = """
backend = "reference"
data = { format = "folder", root = "colours", labels = "camvid", image_size = [8, 8] }
model = { name = "pixel_softmax" }
training = { epochs = 3 }
"""
HEAD = """
recipe = "recipes/base.toml"
set = ["training.batch_size=2"]
data.other = { format = "camvid", root = "elsewhere" }
scales.small.set = ["training.batch_size=3"]
scales.small.leave_out = ["last"]
scales.small.seeds = [7]
scales.small.data.other = { format = "camvid", root = "near" }
"""
RUNS = """
[[runs]]
name = "second"
init = { run = "first", part = "encoder" }
set = ["training.epochs=5"]
[[runs]]
name = "first"
data = "other"
at.small = ["training.epochs=1"]
[[runs]]
name = "last"
"""


BANDS = Bands(("red", "green", "blue"), "uint8", (0.0,) * 3, (1.0,) * 3)


@pytest.fixture
def write(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "base.toml").write_text(RECIPE)

    def write(text):
        path = tmp_path / "colours.toml"
        path.write_text(text)
        return path

    return write


def plan(path, *assignments):
    return plan_study(load_study(path, assignments), path, path.parent / "out")


def test_a_run_comes_after_the_one_it_begins_with_and_else_as_written(write):
    found = plan(write(HEAD + RUNS))
    assert [run.name for run in found.runs] == ["first", "second", "last"]
    first, second, last = (run.recipe for run in found.runs)
    assert second.init.run == str(found.out / "runs" / "first")
    assert second.init.part == "encoder"
    assert (second.training.epochs, last.training.epochs) == (5, 3)
    assert {each.training.batch_size for each in (first, second, last)} == {2}
    assert (first.data.root, first.data.image_size) == ("elsewhere", None)
    assert last.data.root == "colours"
    assert {name: [run.name for run in runs] for name, runs in found.tests.items()} == {
        "other": ["first"],
        "": ["second", "last"],
    }


def test_a_scale_changes_settings_data_and_seeds_and_leaves_out(write):
    found = plan(write(HEAD + RUNS), "scale=small", "score.data=other")
    assert found.score_data.root == "near"
    assert [run.name for run in found.runs] == ["first", "second"]
    first, second = (run.recipe for run in found.runs)
    assert (first.data.root, first.training.epochs, first.seed) == ("near", 1, 7)
    assert (second.training.batch_size, second.training.epochs) == (3, 5)


def test_seeds_become_runs_that_begin_with_the_same_seed(write):
    found = plan(write(HEAD + RUNS), "seeds=[4, 2]")
    begin = {run.name: run.begins_with for run in found.runs}
    assert begin["second_seed4"] == "first_seed4"
    assert begin["second_seed2"] == "first_seed2"
    assert {run.name: run.recipe.seed for run in found.runs}["last_seed2"] == 2
    one = HEAD + RUNS.replace('name = "first"', 'name = "first"\nseeds = [9]')
    begin = {run.name: run.begins_with for run in plan(write(one), "seeds=[4, 2]").runs}
    assert begin["second_seed4"] == begin["second_seed2"] == "first"


def test_one_test_for_all_is_kept_under_its_own_name(write):
    found = plan(write(HEAD + RUNS), "score.data=other", "score.split=val")
    assert found.split == "other-val"
    assert found.score_data.root == "elsewhere"
    assert list(found.tests) == ["other"]


@pytest.mark.parametrize(
    ("text", "assignments", "words"),
    [
        (RUNS.replace('run = "first"', 'run = "frist"'), (), ("SEG-X004", "mean 'first'")),
        (RUNS.replace('data = "other"', 'init.run = "second"'), (), ("SEG-X061", "with second")),
        (RUNS.replace('name = "last"', 'name = "last"\ninit.run = "last"'), (), ("SEG-X061",)),
        (RUNS.replace('data = "other"', 'data = "othr"'), (), ("SEG-X004", "mean 'other'")),
        (RUNS.replace("at.small", "at.smal"), (), ("SEG-X004", "mean 'small'")),
        (RUNS.replace("epochs=5", "epoch=5"), (), ("SEG-X001", "mean 'epochs'", "run 'second'")),
        (RUNS.replace('name = "last"', 'name = "first"'), (), ("SEG-X060", "first")),
        (RUNS.replace('name = "last"', 'name = "First"'), (), ("SEG-X060", "First, first")),
        (RUNS.replace("part =", "prt ="), (), ("SEG-X001", "runs.0.init.prt", "mean 'part'")),
        (RUNS.replace("at.small", "att.small"), (), ("SEG-X001", "'runs.1.att'", "mean 'at'")),
        (RUNS, ("scale=smal",), ("SEG-X004", "mean 'small'")),
        (RUNS, ("scales.small.leaveout=[]",), ("SEG-X001", "mean 'leave_out'")),
        (RUNS, ("scales.small.leave_out=['first']", "scale=small"), ("SEG-X004", "'first'")),
        (RUNS, ("set=['model.name=unet']",), ("SEG-X004", "pixel_softmax")),
        (RUNS, ("data.other.labels=loveda_7",), ()),
        (RUNS, ("data.other.labels=loveda_7", "score.data=other"), ("SEG-X062", "barren")),
        (RUNS, ("scales.small.leave_out=['last']", "scale=small"), ("SEG-X063", "first on other")),
        (RUNS, ("recipe=recipes/bas.toml",), ("SEG-X005", "did you mean 'base.toml'")),
    ],
)
def test_what_would_stop_a_study_after_hours_stops_it_now(write, text, assignments, words):
    path = write(HEAD + text)
    if not words:
        plan(path, *assignments)
        return
    with pytest.raises(ConfigError) as refused:
        plan(path, *assignments)
    for word in words:
        assert word in str(refused.value)


def test_other_bands_than_the_models_are_refused(tmp_path):
    card = ModelCard("reference", None, None, BANDS, None, 0)
    with pytest.raises(DataError, match="SEG-D020"):
        compatibility.require_known_pixels(card, Pixels(tmp_path, ("grey",), BANDS.dtype))


def test_any_study_can_be_shortened(write):
    found = plan(write(HEAD + RUNS), "all.training.steps=20", "all.training.batch_size=1")
    assert {(r.recipe.training.steps, r.recipe.training.epochs) for r in found.runs} == {(20, None)}
    assert {r.recipe.training.batch_size for r in found.runs} == {1}
    with pytest.raises(ConfigError, match="SEG-X001"):
        plan(write(HEAD + RUNS), "all.training.step=20")


def test_one_run_can_be_done_with_what_it_begins_with(write):
    found = plan(write(HEAD + RUNS), "seeds=[4, 2]")
    assert found.chosen == found.runs
    names = {run.name for run in with_only(found, ["second_seed4", "last"]).chosen}
    assert names == {"first_seed4", "second_seed4", "last_seed4", "last_seed2"}
    with pytest.raises(ConfigError, match="mean 'last'"):
        with_only(found, ["lst"])
