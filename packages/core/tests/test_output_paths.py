"""No command replaces a file it was not told to, nor what it reads, however a path is spelt."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import CheckpointError, ConfigError, TerrazzoError
from terrazzo.base.output_paths import is_inside, is_same, refuse_inputs
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import load_recipe
from terrazzo.comparison import compare
from terrazzo.data import download
from terrazzo.inference import predict
from terrazzo.inference.outputs import Settings
from terrazzo.testing.compared_runs import write_run
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.testing.scenes import make_model, make_scene
from terrazzo.workflows.compare import write_comparison_files
from terrazzo.workflows.convert import convert
from terrazzo.workflows.study import runner
from terrazzo.workflows.study.plan import load_study, plan_study
from terrazzo.workflows.train import train

HAS_VECTOR = importlib.util.find_spec("pyogrio") is not None
RECIPE = """
backend = "reference"
[data]
format = "camvid"
root = "{root}"
[model]
name = "pixel_softmax"
[training]
steps = 1
"""
STUDY = """
recipe = "recipes/one.toml"
[[runs]]
name = "one"
[[runs]]
name = "two"
set = ["training.steps=2"]
"""


def as_it_is(path):
    return path


def with_a_dot(path):
    return Path(f"{path.parent}/./{path.name}")


def with_two_dots(path):
    (path.parent / "beside").mkdir(exist_ok=True)
    return path.parent / "beside" / ".." / path.name


def relative(path):
    return Path(os.path.relpath(path))


def through_a_link_to_the_file(path):
    link = path.with_name(f"link{path.suffix}")
    link.symlink_to(path)
    return link


def through_a_link_to_the_folder(path):
    link = path.parent.with_name("link")
    link.symlink_to(path.parent, target_is_directory=True)
    return link / path.name


def in_the_other_case(path):
    other = path.with_name(path.name.swapcase())
    if not other.exists():
        pytest.skip("the file system tells A from a")
    return other


SPELLINGS = (
    as_it_is,
    with_a_dot,
    with_two_dots,
    relative,
    through_a_link_to_the_file,
    through_a_link_to_the_folder,
    in_the_other_case,
)


@pytest.mark.parametrize("spell", SPELLINGS)
def test_a_path_is_known_however_it_is_spelt(tmp_path, spell):
    file = tmp_path / "folder" / "file.txt"
    file.parent.mkdir()
    file.write_text("")
    spelt = spell(file)
    assert is_same(spelt, file)
    assert is_inside(spelt, tmp_path / "folder")
    assert not is_inside(spelt, tmp_path / "other")
    with pytest.raises(ConfigError, match="SEG-X032"):
        refuse_inputs([spelt], [file])
    with pytest.raises(ConfigError, match="SEG-X032"):
        refuse_inputs([file], [spelt])


@pytest.mark.parametrize("spell", [as_it_is, with_a_dot, with_two_dots, relative])
def test_outputs_that_do_not_exist_yet_are_told_apart(tmp_path, spell):
    with pytest.raises(ConfigError, match="another output"):
        refuse_inputs([tmp_path / "a.png", spell(tmp_path / "a.png")], [])
    refuse_inputs([tmp_path / "new" / "a.png", spell(tmp_path / "b.png")], [])


class Place:
    """Inputs of one command, and how it is told to write over them or over what else is there."""

    def __init__(self, folder):
        self.folder = folder / "place"
        self.folder.mkdir()

    def begin(self):
        """Write the inputs and whatever else lies there."""


class PredictImage(Place):
    def begin(self):
        self.model = make_model(self.folder / "run" / "model")
        self.input = self.folder / "a.png"
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(self.input)
        self.others = [self.folder / "out" / name for name in ("b.png", "b_overlay.png")]
        self.others += [self.folder / "out" / "b_probability_00_class_0.png"]
        self.source_of_others = self.folder / "in" / "b.png"
        self.source_of_others.parent.mkdir()
        shutil.copy(self.input, self.source_of_others)

    def over_itself(self, spell, **settings):
        """Its map would be the image."""
        predict.predict(self.model, spell(self.input), self.folder, self.with_(**settings))

    def over_others(self, **settings):
        predict.predict(
            self.model, self.source_of_others, self.folder / "out", self.with_(**settings)
        )

    def with_(self, **settings):
        polygons = Path("polygons") if HAS_VECTOR else None
        return Settings(probabilities=True, polygons=polygons, cloud_optimised=True, **settings)


class PredictScene(PredictImage):
    def begin(self):
        self.model = make_model(self.folder / "run" / "model")
        self.input = make_scene(self.folder / "a.tif", (40, 40, 3))
        self.others = [self.folder / "out" / name for name in ("b.tif", "b_probabilities.tif")]
        (self.folder / "in").mkdir()
        self.source_of_others = make_scene(self.folder / "in" / "b.tif", (40, 40, 3))


class PredictPolygons(PredictScene):
    """What it would write beside the map is an input."""

    def begin(self):
        super().begin()
        self.input = make_scene(self.folder / "a_probabilities.tif", (40, 40, 3))
        (self.folder / "scenes").mkdir()
        self.scene = make_scene(self.folder / "scenes" / "a.tif", (40, 40, 3))

    def over_itself(self, spell, **settings):
        sources = [self.scene, spell(self.input)]
        predict.predict(self.model, sources, self.folder, self.with_(**settings))


class Compare(Place):
    def begin(self):
        self.runs = [
            write_run(self.folder / name, error=error, num_images=3)
            for name, error in (("one", 0.1), ("two", 0.2))
        ]
        self.input = self.runs[0] / "log.jsonl"
        self.others = [self.folder / name for name in ("page.html", "scores.csv", "t.tex")]
        self.others += [self.folder / "paper" / name for name in ("ranking.csv", "iou.tex")]

    def over_itself(self, spell, **settings):
        self.write(self.folder / "page.html", csv=spell(self.input), **settings)

    def over_others(self, **settings):
        page, csv, latex = self.others[:3]
        self.write(page, csv=csv, latex=latex, tables=self.folder / "paper", **settings)

    def write(self, page, *, resume=False, **settings):
        found = compare.compare(self.runs, resamples=10)
        write_comparison_files(found, page, **settings)


class Convert(Place):
    others = ()

    def begin(self):
        WRITERS["camvid"](self.folder / "data")
        (self.folder / "r.toml").write_text(
            RECIPE.format(root=(self.folder / "data").as_posix()), encoding="utf-8"
        )
        self.input = self.folder / "group" / "run"
        train(load_recipe(self.folder / "r.toml"), self.input)

    def over_itself(self, spell, *, overwrite=False, resume=False):
        convert(self.input, "torch", spell(self.input), overwrite=overwrite)


class ConvertIntoParent(Convert):
    def over_itself(self, spell, *, overwrite=False, resume=False):
        convert(spell(self.input), "torch", self.folder / "group", overwrite=overwrite)


class Study(Place):
    """Its own record would take the place of the recipes it is read from."""

    others = ()

    def begin(self):
        WRITERS["camvid"](self.folder / "data")
        (self.folder / "recipes").mkdir()
        recipe = RECIPE.format(root=(self.folder / "data").as_posix())
        (self.folder / "recipes" / "one.toml").write_text(recipe, encoding="utf-8")
        self.input = self.folder / "study.toml"
        self.input.write_text(STUDY, encoding="utf-8")

    def over_itself(self, spell, *, overwrite=False, resume=False):
        place = spell(self.input).parent
        plan = plan_study(load_study(self.input), self.input, place)
        runner.run(plan, resume=True, say=lambda _: None)


class Data(Place):
    """A file lies where the data set would."""

    def begin(self):
        self.others = [self.folder / "images" / "mine.txt"]
        self.input = None
        source = self.folder / ".download" / "unpacked"
        self.unpacked = source

    def over_others(self, **settings):
        for name in ("images", "masks"):
            (self.unpacked / name).mkdir(parents=True, exist_ok=True)
        download._move_in(self.unpacked, self.folder)


COMMANDS = (
    PredictImage,
    PredictScene,
    PredictPolygons,
    Compare,
    Convert,
    ConvertIntoParent,
    Study,
)


def contents(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_replaces_what_it_reads(tmp_path, monkeypatch, command, spell):
    place = command(tmp_path)
    place.begin()
    monkeypatch.chdir(tmp_path)
    before = contents(place.folder)
    for told in ({}, {"overwrite": True}, {"resume": True}):
        for link in (place.folder / "link", *tmp_path.glob("**/link*")):
            link.unlink(missing_ok=True)
        with pytest.raises(TerrazzoError, match=r"SEG-X032|SEG-C00[123]"):
            place.over_itself(spell, **told)
        after = {path: data for path, data in contents(place.folder).items() if path in before}
        assert after == before


@pytest.mark.parametrize("command", [PredictImage, PredictScene, Compare, Data])
def test_no_command_replaces_what_it_was_not_told_to(tmp_path, monkeypatch, command):
    place = command(tmp_path)
    place.begin()
    monkeypatch.chdir(tmp_path)
    for other in place.others:
        other.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("file", "dangling link"):
            if kind == "file":
                other.write_text("mine")
            else:
                other.symlink_to(tmp_path / "nowhere")
            told = [{}, {"resume": True}] if command in (PredictImage, PredictScene) else [{}]
            for settings in told:
                with pytest.raises(TerrazzoError, match=r"SEG-C002|SEG-D014"):
                    place.over_others(**settings)
                assert other.is_symlink() or other.read_text() == "mine"
            other.unlink()
    if command is not Data:
        place.others[0].parent.mkdir(parents=True, exist_ok=True)
        place.others[0].write_text("mine")
        place.over_others(overwrite=True)
        assert place.others[0].read_bytes() != b"mine"


def test_a_resume_replaces_only_what_a_prediction_left(tmp_path, monkeypatch):
    """An overlay without a map, and nothing begun: it is somebody's own file."""
    place = PredictImage(tmp_path)
    place.begin()
    monkeypatch.chdir(tmp_path)
    place.others[1].parent.mkdir()
    place.others[1].write_text("mine")
    with pytest.raises(CheckpointError, match="SEG-C002"):
        place.over_others(resume=True)
    assert place.others[1].read_text() == "mine"


def test_a_model_is_not_replaced_by_its_map(tmp_path):
    model = make_model(tmp_path / "run" / "model")
    source = make_scene(tmp_path / "a.tif", (40, 40, 3))
    (model / "weights.safetensors").rename(model / "kept")
    (model / "weights.tif").symlink_to(model / "kept")
    with pytest.raises(ConfigError, match="SEG-X032"):
        predict.predict(
            model, source, model / "weights.tif", Settings(overwrite=True), progress=Silent()
        )
