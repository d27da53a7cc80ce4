"""Runs that are begun, moved, copied and asked again from wherever a person stands."""

import shutil

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import CheckpointError
from terrazzo.base.recipe import load_recipe
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

RECIPE = """
backend = "reference"
[data]
format = "folder"
root = "mine"
labels = "two.toml"
options = { split = { train = 0.6, val = 0.2, test = 0.2 } }
[model]
name = "pixel_softmax"
[training]
epochs = 2
batch_size = 2
schedule = { learning_rate = 0.05 }
"""
LABELS = (
    'name = "two"\nignored = [9]\n'
    '[[classes]]\nname = "red"\ncolour = "#FF0000"\nraw = [0]\n'
    '[[classes]]\nname = "green"\ncolour = "#00FF00"\nraw = [1]\n'
)


class Told:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def advance(self, done, total, text):
        """Keep nothing."""

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def project(tmp_path):
    """Return a folder with a recipe, and beside it all that the recipe names."""
    folder = tmp_path / "project"
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / "mine" / kind).mkdir(parents=True)
    for number in range(10):
        mask = rng.integers(0, 2, (16, 12)).astype(np.uint8)
        image = np.zeros((16, 12, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 150 + rng.integers(0, 100, (16, 12, 2))
        Image.fromarray(image).save(folder / "mine" / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "mine" / "masks" / f"{number}.png")
    (folder / "two.toml").write_text(LABELS)
    (folder / "r.toml").write_text(RECIPE)
    return folder


def stand_in(monkeypatch, folder):
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)


@pytest.fixture
def finished(project, tmp_path, monkeypatch):
    stand_in(monkeypatch, tmp_path / "here")
    return train(load_recipe(project / "r.toml"), tmp_path / "run")


def test_a_run_is_begun_and_scored_from_any_folder(finished, tmp_path, monkeypatch):
    stand_in(monkeypatch, tmp_path / "there")
    again = evaluate(tmp_path / "run")
    assert again.scores.mean_iou == finished.scores.mean_iou > 0.9


def test_a_moved_run_finds_its_own_labels_and_its_own_draw(
    finished, project, tmp_path, monkeypatch
):
    stand_in(monkeypatch, tmp_path / "there")
    shutil.move(tmp_path / "run", tmp_path / "there" / "moved")
    (project / "two.toml").unlink()
    told = Told()
    again = evaluate("moved", progress=told)
    assert again.scores.mean_iou == finished.scores.mean_iou
    np.testing.assert_array_equal(again.evaluation.counts_NKK, finished.evaluation.counts_NKK)
    assert f"{project / 'two.toml'} is not there; the run's own labels.toml is used" in told.lines


def test_a_run_is_scored_with_the_raw_values_it_was_trained_with(finished, project, tmp_path):
    swapped = LABELS.replace("raw = [0]", "raw = [2]").replace("raw = [1]", "raw = [0]")
    (project / "two.toml").write_text(swapped.replace("raw = [2]", "raw = [1]"))
    assert evaluate(tmp_path / "run").scores.mean_iou == finished.scores.mean_iou


def test_other_classes_in_the_file_of_the_recipe_are_still_refused(finished, project, tmp_path):
    (project / "two.toml").write_text(LABELS.replace('"red"', '"blue"'))
    with pytest.raises(CheckpointError, match="SEG-D036"):
        evaluate(tmp_path / "run")


def test_data_at_a_variable_move_with_it(project, tmp_path, monkeypatch):
    recipe = (project / "r.toml").read_text().replace('"mine"', '"$TERRAZZO_HERE/mine"')
    (project / "r.toml").write_text(recipe)
    monkeypatch.setenv("TERRAZZO_HERE", str(project))
    before = train(load_recipe(project / "r.toml"), tmp_path / "run")
    assert 'root = "$TERRAZZO_HERE/mine"' in (tmp_path / "run" / "config.toml").read_text()
    shutil.move(project, tmp_path / "moved")
    monkeypatch.setenv("TERRAZZO_HERE", str(tmp_path / "moved"))
    assert evaluate(tmp_path / "run").scores.mean_iou == before.scores.mean_iou


def test_a_run_goes_on_from_another_folder(project, tmp_path, monkeypatch):
    stand_in(monkeypatch, tmp_path / "here")
    recipe = load_recipe(project / "r.toml")
    train(recipe, tmp_path / "run")
    stand_in(monkeypatch, tmp_path / "there")
    told = Told()
    train(load_recipe(project / "r.toml"), tmp_path / "run", resume=True, progress=told)
    assert any(text.startswith("resuming after step") for text in told.lines)
