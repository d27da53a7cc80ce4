"""What a model folder keeps beside the weights, and that it is used again."""

import json
import re
import shutil

import numpy as np
import pytest
import tomli_w
from PIL import Image

from terrazzo.base.config_parsing import read_toml
from terrazzo.base.errors import CheckpointError
from terrazzo.base.progress import PlainLines
from terrazzo.base.recipe import Config
from terrazzo.inference import predict as predict_workflow
from terrazzo.inference.model import load_model
from terrazzo.io import named_arrays
from terrazzo.runs import manifest, saved_model
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.testing.scenes import make_model, make_scene
from terrazzo.workflows import convert as convert_workflow
from terrazzo.workflows import evaluate as evaluate_workflow
from terrazzo.workflows import train as train_workflow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of the reference backend whose recipe says bfloat16."""
    place = tmp_path_factory.mktemp("saved_model")
    WRITERS["camvid"](place / "camvid")
    recipe = Config.model_validate(
        {
            "backend": "reference",
            "data": {"format": "camvid", "root": str(place / "camvid")},
            "model": {"name": "pixel_softmax"},
            "training": {"steps": 1, "precision": "bfloat16"},
        }
    )
    train_workflow.train(recipe, place / "run")
    return place / "run"


def test_the_precision_of_the_recipe_is_recorded_and_used_again(run):
    card, trainer = saved_model.load(run / "model")
    assert card.precision == "bfloat16"
    assert trainer._training.precision == "bfloat16"
    assert json.loads((run / "run.json").read_text())["precision"] == "bfloat16"


def test_evaluating_builds_the_model_in_the_precision_of_the_recipe(run, monkeypatch):
    from terrazzo.testing.reference.backend import ReferenceBackend

    build, seen = ReferenceBackend.build, []

    def building(self, model, training, *rest, **named):
        seen.append(training.precision)
        return build(self, model, training, *rest, **named)

    monkeypatch.setattr(ReferenceBackend, "build", building)
    evaluate_workflow.evaluate(run, "val")
    assert seen == ["bfloat16"]


def test_a_model_folder_of_before_the_precision_was_stored_loads(run, tmp_path):
    old = tmp_path / "model"
    old.mkdir()
    text = (run / "model/model.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("precision")]
    (old / "model.toml").write_text("\n".join(lines))
    (old / "weights.safetensors").write_bytes((run / "model/weights.safetensors").read_bytes())
    notes = []
    card, trainer = saved_model.load(old, notes.append)
    assert len(notes) == 1
    assert "without checksums" in notes[0]
    assert card.precision == "auto"
    image_BHWC = np.zeros((1, 4, 4, len(card.bands)), np.uint8)
    assert trainer.predict(image_BHWC).shape[:3] == (1, 4, 4)


# --- verified whenever it is loaded ---------------------------------------------------------------


@pytest.fixture
def damaged(run, tmp_path):
    """A copy of the run, one exponent bit of one weight flipped."""
    copy = tmp_path / "damaged"
    shutil.copytree(run, copy)
    path = copy / "model/weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40
    path.write_bytes(content)
    named_arrays.read(path)  # safetensors sees nothing wrong
    return copy


def test_evaluate_and_load_model_find_a_flipped_bit(damaged):
    for load in (evaluate_workflow.evaluate, load_model):
        with pytest.raises(CheckpointError, match=r"SEG-C006: the model is damaged\n.*weights"):
            load(damaged)


def test_a_run_that_begins_with_the_weights_finds_it(run, damaged, tmp_path):
    recipe = Config.model_validate(
        {**read_toml(run / "config.toml"), "init": {"run": str(damaged), "part": "all"}}
    )
    with pytest.raises(CheckpointError, match=r"SEG-C006: the model is damaged\n.*weights"):
        train_workflow.train(recipe, tmp_path / "next")


@pytest.mark.parametrize("workers", [None, 2])
def test_predict_finds_it_in_this_process_and_in_others(tmp_path, workers):
    model = make_model(tmp_path / "model")
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7e")
    scene = make_scene(tmp_path / "scene.tif", (40, 40, 3))
    settings = predict_workflow.Settings(workers=workers)
    with pytest.raises(CheckpointError, match=r"SEG-C006: the model is damaged\n.*weights"):
        predict_workflow.predict(model, scene, tmp_path / "map.tif", settings)
    assert not (tmp_path / "map.tif").exists()


def test_predict_leaves_no_folder_for_images_that_it_does_not_predict(tmp_path):
    model = make_model(tmp_path / "model")
    path = model / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7e")
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    with pytest.raises(CheckpointError, match="SEG-C006"):
        predict_workflow.predict(model, tmp_path / "photo.png", tmp_path / "new/deeper")
    assert not (tmp_path / "new").exists()


def test_convert_finds_it(damaged, monkeypatch, tmp_path):
    class AsItIs:
        def to_common(self, _, weights):
            return weights

    monkeypatch.setattr(convert_workflow, "portable", lambda *_: AsItIs())
    monkeypatch.setattr(convert_workflow, "common_options", lambda *_: {})
    with pytest.raises(CheckpointError, match=r"SEG-C006: the model is damaged\n.*weights"):
        convert_workflow.convert(damaged, "other", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_convert_advises_only_what_it_can_do(run, monkeypatch, tmp_path):
    monkeypatch.setattr(convert_workflow, "portable", lambda *_: None)
    monkeypatch.setattr(convert_workflow, "common_options", lambda *_: {})
    there = shutil.copytree(run, tmp_path / "there")
    with pytest.raises(CheckpointError, match=r"SEG-C002[^$]*--overwrite deletes it") as caught:
        convert_workflow.convert(run, "other", there)
    assert "--resume" not in str(caught.value)


def test_a_changed_model_toml_is_found(run, tmp_path):
    shutil.copytree(run / "model", tmp_path / "model")
    path = tmp_path / "model/model.toml"
    path.write_text(path.read_text().replace('"bfloat16"', '"float32"'))
    with pytest.raises(
        CheckpointError, match=r"SEG-C006: the model is damaged\n.*model.toml"
    ) as caught:
        saved_model.read_card(tmp_path / "model")
    assert re.search(r"observed \d+ bytes, SHA-256 [0-9a-f]{64}\n", str(caught.value))
    assert "undo the change" in str(caught.value)


def test_a_folder_that_a_person_keeps_beside_a_model_is_left_alone(tmp_path):
    model = make_model(tmp_path / "model")
    kept, left = tmp_path / ".model.before", tmp_path / f".model.{'0' * 32}"
    for folder in (kept, left):  # `left` has the name of a killed process's
        shutil.copytree(model, folder)
    saved_model.write(model, saved_model.read_card(model), saved_model.read_weights(model))
    assert kept.is_dir()
    assert not left.exists()


def test_a_whole_folder_says_nothing_and_an_old_one_loads_with_a_note(run, tmp_path, capsys):
    load_model(run, progress=PlainLines())
    assert capsys.readouterr().err == ""
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/model/MANIFEST.json").unlink()
    evaluate_workflow.evaluate(tmp_path / "run", "val", progress=PlainLines())
    assert capsys.readouterr().err.count("without checksums") == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_on_the_way_out_and_in(tmp_path, value):
    model = make_model(tmp_path / "model")
    weights = saved_model.read_weights(model)
    weights["weights/kernel"].flat[3] = value
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    with pytest.raises(CheckpointError, match=r"SEG-C021[^$]*kernel: 1 of \d+ values"):
        saved_model.write(model, saved_model.read_card(model), weights)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    named_arrays.write(model / "weights.safetensors", weights)
    (model / "MANIFEST.json").unlink()
    manifest.write(model, 1)
    with pytest.raises(CheckpointError, match="SEG-C021"):
        load_model(model)


def test_large_weights_whose_sum_overflows_are_finite():
    arrays = {"a": np.full(4, 3e38, np.float32), "counter": np.arange(3), "none": np.zeros(0)}
    assert named_arrays.first_not_finite(arrays) is None


@pytest.mark.parametrize("listed", [True, False])
def test_a_newer_format_asks_for_an_upgrade(tmp_path, listed):
    model = make_model(tmp_path / "model")
    table = read_toml(model / "model.toml")
    (model / "model.toml").write_text(tomli_w.dumps({**table, "format": 2, "new_key": 1}))
    (model / "MANIFEST.json").unlink()
    if listed:
        manifest.write(model, 1)
    with pytest.raises(CheckpointError, match=r"SEG-C007[^$]*format 2[^$]*upgrade"):
        saved_model.read_card(model)
