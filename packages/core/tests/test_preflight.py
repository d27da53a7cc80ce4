"""What would stop a study after hours stops it before its first step."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import TerrazzoError
from terrazzo.workflows.study import runner
from terrazzo.workflows.study.plan import load_study, plan_study
from terrazzo.workflows.study.preflight import check_study

RECIPE = """
backend = "reference"
model = { name = "pixel_softmax" }
training = { epochs = 2, batch_size = 2 }
data = { format = "folder", root = "one", labels = "labels.toml" }
"""
STUDY = """
name = "colours"
recipe = "recipe.toml"
[data.one]
format = "folder"
root = "one"
labels = "labels.toml"
[data.two]
format = "folder"
root = "two"
labels = "labels.toml"
[[runs]]
name = "first"
[[runs]]
name = "last"
"""
LABELS = """
name = "colours"
classes = [{ name = "red", colour = "#FF0000", raw = [0] },
           { name = "green", colour = "#00FF00", raw = [1] }]
"""
SCORED = 'score.data="two"'


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two small data sets and a study over them, in the folder we are in."""
    monkeypatch.chdir(tmp_path)
    for root in ("one", "two"):
        for number in range(12):
            write(tmp_path / root, number, np.full((8, 8, 3), 10 * number, np.uint8))
    for name, text in (("recipe", RECIPE), ("study", STUDY), ("labels", LABELS)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def write(root, number, image, mask=None):
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    if mask is None:
        mask = np.eye(8, dtype=np.uint8)
    Image.fromarray(image).save(root / "images" / f"{number}.png")
    Image.fromarray(mask).save(root / "masks" / f"{number}.png")


def planned(place, *assignments):
    path = place / "study.toml"
    return plan_study(load_study(path, assignments), path, place / "out")


def plant_cut_header(place):
    for path in (place / "two" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:20])


def plant_undecodable_image(place):
    for path in (place / "two" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:60])


def plant_mask_of_another_size(place):
    for number in range(6, 12):
        write(place / "two", number, np.zeros((8, 8, 3), np.uint8), np.eye(6, dtype=np.uint8))


def plant_unknown_label(place):
    for number in range(12):
        write(place / "two", number, np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=np.uint8) * 7)


def plant_grey(place):
    for number in range(12):
        write(place / "two", number, np.zeros((8, 8), np.uint8))


def plant_sixteen_bits(place):
    import cv2

    for number in range(12):
        path = place / "two" / "images" / f"{number}.png"
        cv2.imwrite(str(path), np.full((8, 8, 3), 999, np.uint16))


def plant_no_image(place):
    shutil.rmtree(place / "two" / "images")


def nothing(_):
    pass


LAST = "runs=[{name='first'},{name='last',%s}]"
SET_LAST = LAST % "set=['%s']"
PLANTED = {
    "a model option is misspelt": (nothing, [SET_LAST % "model.options.width=3"], "SEG-X001"),
    "a model option has a wrong value": (
        nothing,
        [SET_LAST % "model.options.features=7"],
        "SEG-X002",
    ),
    "weights to begin with have other shapes": (
        nothing,
        [
            LAST % "init={run='first'},set=['model.options.features=\"neighbourhood\"']",
        ],
        "SEG-C013",
    ),
    "class weights are not one a class": (
        nothing,
        [SET_LAST % "training.loss.class_weights=[1,2,3]"],
        "SEG-X012",
    ),
    "a data set of the last run is not there": (
        plant_no_image,
        [LAST % "data='two'", "score.data=one"],
        "SEG-D",
    ),
    "ImageNet's statistics for grey images": (
        plant_grey,
        [LAST % "data='two',set=['data.normalize=\"imagenet\"']", "score.data=two"],
        "SEG-X011",
    ),
    "statistics by hand of another number of bands": (
        lambda place: None,
        [LAST % "set=['data.normalize={mean=[1.0],std=[2.0]}']"],
        "SEG-X011",
    ),
    "a header of the data that all are scored on": (plant_cut_header, [SCORED], "SEG-D"),
    "an image of the data that all are scored on": (plant_undecodable_image, [SCORED], "SEG-D"),
    "masks of another size": (plant_mask_of_another_size, [SCORED], "SEG-D"),
    "labels that are not in the label map": (plant_unknown_label, [SCORED], "SEG-D"),
    "other bands in the data that all are scored on": (plant_grey, [SCORED], "SEG-D020"),
    "another type of pixel there": (plant_sixteen_bits, [SCORED], "SEG-D019"),
    "an expression for groups that fits no name": (nothing, ["group=town_(.+)"], "SEG-X041"),
    "CLAHE of images of 16 bits": (
        plant_sixteen_bits,
        [LAST % "data='two',set=['augment.clahe=2']", "score.data=two"],
        "SEG-X011",
    ),
    "tests that cannot be compared": (
        nothing,
        [SET_LAST % "data.options.split={train=0.5,val=0.25,test=0.25,seed=3}"],
        "SEG-D155",
    ),
    "a tracker that is not installed": (
        lambda _: sys.modules.__setitem__("terrazzo.tracking.mlflow", None),
        [SET_LAST % 'tracking.kind="mlflow"'],
        "SEG-X050",
    ),
}
NEEDS_MODELS = list(PLANTED)[:3]


@pytest.mark.parametrize("fault", PLANTED)
def test_a_late_failure_is_found_before_the_first_step(place, fault, monkeypatch):
    plant, assignments, code = PLANTED[fault]
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    plant(place)
    plan = planned(place, *assignments)
    with pytest.raises(TerrazzoError, match=code):
        check_study(plan, nothing, models=fault in NEEDS_MODELS)
    assert not plan.out.exists()


def test_a_sound_study_passes(place):
    said = []
    check_study(planned(place, SCORED), said.append)
    assert said == ["looking at all data, settings and models before the first step"]


def test_a_disk_that_is_too_small_is_found_before_the_first_step(place, monkeypatch):
    usage = shutil.disk_usage(place)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(TerrazzoError, match=r"SEG-R070(.|\n)*100 bytes free"):
        check_study(planned(place), nothing)


def test_all_faults_are_told_and_the_first_is_raised(place):
    said = []
    plan = planned(place, SET_LAST % "training.loss.class_weights=[1,2,3]", "group=town_(.+)")
    with pytest.raises(TerrazzoError, match="SEG-X012: run 'last'"):
        check_study(plan, said.append, models=False)
    assert "also wrong: SEG-X041" in said[1]
    assert "2 faults found before the first step" in said[-1]


def test_a_study_is_looked_at_before_anything_is_written(place):
    plan = planned(place, SET_LAST % "model.options.width=3")
    with pytest.raises(TerrazzoError, match="SEG-X001: run 'last'"):
        runner.run(plan, resume=False, say=nothing)
    assert not plan.out.exists()


def test_settings_that_never_act_are_told_before_the_first_step(place):
    said = []
    plan = planned(place, SET_LAST % "training.schedule.warmup_steps=900", "seeds=[0,1]")
    check_study(plan, said.append, models=False)
    assert len(said) == 2
    assert "warmup_steps = 900 is not shorter than the run" in said[1]
    assert said[1].endswith("(last_seed0, last_seed1)")


def test_misspelt_settings_of_several_runs_are_told_together(place):
    said = []
    wrong = (
        "{name='a',set=['training.optimiser.name=\"sgd\"']},{name='c',set=['model.name=nosuch']}"
    )
    runs = f"runs=[{wrong},{{name='b'}}]"
    path = place / "study.toml"
    study = load_study(path, [runs, "seeds=[0,1]"])
    with pytest.raises(TerrazzoError, match="SEG-X001: run 'a': unknown key"):
        plan_study(study, path, place / "out", said.append)
    assert said[0].startswith("also wrong: SEG-X004: run 'c': unknown reference model")
    assert said[1:] == ["2 faults found in the settings of the runs; the first of them:"]


@pytest.mark.parametrize("wrong", ["set=['training.epochz=3']", "folds='leave_one_out'"])
def test_what_is_wrong_with_all_runs_is_told_once(place, wrong):
    """A misspelling in the recipe, or in a setting of the study, is no fault of each run."""
    said = []
    (place / "recipe.toml").write_text(RECIPE.replace("epochs", "epochz"))
    path = place / "study.toml"
    study = load_study(path, ["runs=[{name='a'},{name='b'},{name='c'}]", "seeds=[0,1]", wrong])
    with pytest.raises(TerrazzoError, match="SEG-X001: run 'a': unknown key"):
        plan_study(study, path, place / "out", said.append)
    assert said == []
