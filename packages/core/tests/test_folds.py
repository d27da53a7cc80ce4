"""Cross-validation: each image is in one test, groups stay together, counts are pooled."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import ConfigError
from terrazzo.data.datasets._split_draw import Draw, draw
from terrazzo.evaluation import stored
from terrazzo.runs.folder import RunFolder
from terrazzo.workflows.study import runner
from terrazzo.workflows.study.plan import load_study, plan_study

NAMES = [f"{group:02}_{number}" for group in range(13) for number in range(group % 4 + 1)]
GROUP = r"^(\d+)_"


def rule(fold, folds=5, **settings):
    return Draw(train=0.6, val=0.2, test=0.2, group=GROUP, folds=folds, fold=fold, **settings)


@pytest.mark.parametrize("folds", [2, 5, 13])
def test_each_image_is_in_one_test_and_its_group_with_it(folds):
    drawn = [draw(NAMES, rule(fold, folds)) for fold in range(folds)]
    tests = [name for each in drawn for name in each["test"]]
    assert sorted(tests) == NAMES
    for each in drawn:
        assert sorted(name for names in each.values() for name in names) == NAMES
        groups = {split: {name[:2] for name in names} for split, names in each.items()}
        assert sum(map(len, groups.values())) == 13
        assert len(groups["test"]) in (13 // folds, 13 // folds + 1)
        assert groups["val"]
        assert len(groups["train"]) > len(groups["val"]) or folds == 2
    assert len({each["val"] for each in drawn}) == folds  # not always the same one


def test_the_number_of_folds_fits():
    with pytest.raises(ConfigError, match=r"SEG-X183(.|\n)*13 groups"):
        draw(NAMES, rule(0, 14))
    with pytest.raises(ValueError, match="fold = 5 is none of 5 folds"):
        rule(5)


RECIPE = """
backend = "reference"
model = { name = "pixel_softmax" }
training = { epochs = 2, batch_size = 2, schedule = { learning_rate = 0.05 } }
[data]
format = "folder"
root = "."
labels = "labels.toml"
options = { images = "images", split = { train = 0.7, val = 0.3, test = 0 } }
"""
LABELS = """
name = "colours"
classes = [{ name = "red", colour = "#FF0000", raw = [0] },
           { name = "green", colour = "#00FF00", raw = [1] }]
"""
STUDY = """
recipe = "recipe.toml"
folds = 2
[[runs]]
name = "slow"
[[runs]]
name = "fast"
set = ["training.schedule.learning_rate=0.5"]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(9):
        mask = random.integers(0, 2, (8, 8)).astype(np.uint8)
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 90 + random.integers(0, 160, (8, 8, 2))
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    for name, text in (("recipe", RECIPE), ("study", STUDY), ("labels", LABELS)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def planned(place, file, *assignments):
    return plan_study(load_study(place / file, assignments), place / file, place / "out")


def test_a_study_of_folds_ends_in_one_page_over_all_images(place):
    plan = planned(place, "study.toml", "all.evaluation={boundary=true,calibration=true}")
    assert [run.name for run in plan.runs][:3] == ["slow_fold0", "slow_fold1", "fast_fold0"]
    pages = runner.run(plan, resume=False, say=lambda _: None)
    ((page, comparison),) = pages.items()
    assert page.name == "comparison.html"
    assert {run.name for run in comparison.competitors} == {"slow", "fast"}
    assert comparison.images == tuple(map(str, range(9)))
    folds = [stored.read(RunFolder(place / "out" / "runs" / f"slow_fold{n}")) for n in range(2)]
    pooled = stored.read(RunFolder(place / "out" / "pooled" / "slow"))
    summed = sum(np.array(record.scored[0].summary["counts"]) for record in folds)
    np.testing.assert_array_equal(pooled.scored[0].summary["counts"], summed)
    for record in folds:  # image by image
        for name, counts_KK in zip(
            record.scored[0].names, record.scored[0].counts_NKK, strict=True
        ):
            index = pooled.scored[0].names.index(name)
            np.testing.assert_array_equal(pooled.scored[0].counts_NKK[index], counts_KK)
    assert "Brier" in (place / "out" / "pooled" / "slow" / "report.html").read_text()
    assert json.loads((place / "out" / "pooled" / "slow" / "run.json").read_text())["folds"] == 2
    require_pooled_extra(pooled.scored[0], [record.scored[0] for record in folds])


def require_pooled_extra(pooled, folds):
    """Borders and probabilities are those of the folds, image by image."""
    found, parts = pooled.extra.arrays(), [each.extra.arrays() for each in folds]
    assert found.keys() == parts[0].keys()
    scores = sum(part["calibration_scores"] for part in parts)
    np.testing.assert_array_equal(found["calibration_scores"], scores)
    for fold, part in zip(folds, parts, strict=True):
        places = [pooled.names.index(name) for name in fold.names]
        for name in ("boundary", "trimap", "calibration_pixels", "calibration_squares"):
            np.testing.assert_array_equal(found[name][places], part[name])


def test_a_recipe_can_be_done_in_folds_and_one_image_left_out_at_a_time(place):
    plan = planned(place, "recipe.toml", "folds=leave_one_out")
    assert [run.name for run in plan.runs] == [f"recipe_fold{number}" for number in range(9)]
    split = plan.runs[4].recipe.data.options["split"]
    assert (split["folds"], split["fold"]) == (9, 4)
    with pytest.raises(ConfigError, match="SEG-X063"):
        planned(place, "recipe.toml")
    with pytest.raises(ConfigError, match="SEG-X185"):
        planned(place, "study.toml", 'score.data="one"', 'data.one={format="folder",root="."}')


def test_folds_want_splits_that_are_drawn(place):
    with pytest.raises(ConfigError, match="SEG-X184"):
        planned(
            place, "study.toml", 'all.data.options={images="{split}/images",masks="{split}/masks"}'
        )


def test_sizes_are_runs_with_so_many_training_images(place):
    plan = planned(place, "study.toml", "folds=2", 'sizes=[2,"all"]', "seeds=[0,7]")
    names = [run.name for run in plan.runs]
    assert names[:4] == [
        "slow_2_fold0_seed0",
        "slow_2_fold0_seed7",
        "slow_2_fold1_seed0",
        "slow_2_fold1_seed7",
    ]
    recipes = {run.name: run.recipe.data for run in plan.runs}
    assert recipes["slow_2_fold1_seed7"].limit == {"train": 2}
    assert recipes["slow_2_fold1_seed7"].limit_seed == 7
    assert recipes["slow_all_fold1_seed7"].limit == {}
    assert {run.pooled for run in plan.runs} >= {"slow_2_seed0", "fast_all_seed7"}
