"""Names, paths and files that a user or somebody else got wrong: an error with file and key."""

import json
import shutil

import numpy as np
import pytest
import tomli_w

from terrazzo.base import json_files
from terrazzo.base.config_parsing import read_toml
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.recipe import Config, DataConfig, data_config, load_recipe
from terrazzo.comparison import compare
from terrazzo.data.datasets import _split_draw
from terrazzo.data.labels import load_label_map
from terrazzo.evaluation import stored
from terrazzo.io import named_arrays
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.testing.scenes import make_model
from terrazzo.workflows import train as train_workflow
from terrazzo.workflows.study import plan as study_plan


def recipe_of(root, **more):
    return {
        "backend": "reference",
        "data": {"format": "camvid", "root": str(root)},
        "model": {"name": "pixel_softmax"},
        "training": {"steps": 1},
        **more,
    }


# --- names ----------------------------------------------------------------------------------------

STRANGE_NAMES = [
    "../../evil",
    "/tmp/evil",
    "a/b",
    "a\\b",
    ".",
    "..",
    "  ",
    "a\nb",
    "\x1b[2J",
    "x" * 201,
    "é" * 101,
]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_name_of_a_run_is_a_name(tmp_path, name):
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(recipe_of(tmp_path, name=name)))
    with pytest.raises(ConfigError, match="SEG-X025") as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_no_name_is_that_of_the_file(tmp_path):
    path = tmp_path / "city.toml"
    path.write_text(tomli_w.dumps(recipe_of(tmp_path, name="")))
    assert load_recipe(path).name == "city"
    assert load_recipe(path, assignments=["name=town"]).name == "town"


@pytest.mark.parametrize("name", ["city unet", "straße_7", "v1.2-rc.1", "x" * 200])
def test_ordinary_names_are_taken(tmp_path, name):
    assert load_recipe(recipe_of(tmp_path, name=name)).name == name


def test_a_recipe_made_by_a_program_trains_into_no_other_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("../../evil", ""):
        recipe = Config.model_validate(recipe_of(tmp_path, name=name))
        with pytest.raises(ConfigError, match="SEG-X025"):
            train_workflow.train(recipe)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "", "x" * 201, "a b"])
def test_a_name_of_a_study_is_a_name(tmp_path, name):
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps({"name": name, "run": []}))
    with pytest.raises(ConfigError, match=r"SEG-X00\d[^$]*name"):
        study_plan.load_study(path)


# --- paths ----------------------------------------------------------------------------------------


def test_nul_in_a_path_is_named(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('backend = "reference"\n[data]\nformat = "folder"\nroot = "a\\u0000b"\n')
    with pytest.raises(ConfigError, match=r"SEG-X002[^$]*data\.root holds the character NUL"):
        load_recipe(path)
    options = {"lists": {"train": "t\0.txt"}}
    with pytest.raises(ConfigError, match=r"SEG-X002[^$]*options\.lists\.train holds the charac"):
        data_config("folder", tmp_path, options=options)


OUTSIDE = [
    {"images": "../other/images"},
    {"masks": "a/../../masks"},
    {"lists": {"train": "/etc/passwd"}},
    {"scenes": [{"images": ["../scene.tif"], "label": "label.tif"}]},
    {"scenes": [{"images": ["s.tif"], "label": "l.tif", "mask": {"file": "../s.tif.msk"}}]},
]


@pytest.mark.parametrize("options", OUTSIDE)
def test_paths_out_of_the_root_need_leave(tmp_path, options):
    data = {"format": "folder", "root": str(tmp_path / "data"), "options": options}
    with pytest.raises(ConfigError, match=r"SEG-X026[^$]*data\.options\.") as caught:
        load_recipe(recipe_of(tmp_path) | {"data": data})
    assert next(iter(options)) in str(caught.value.observed)
    assert load_recipe(recipe_of(tmp_path) | {"data": data | {"allow_outside": True}})


def test_paths_inside_and_expressions_need_none(tmp_path):
    options = {
        "images": str(tmp_path / "data/images"),
        "masks": "images/../masks",
        "lists": {"train": "lists/train.txt"},
        "split": {"train": 1.0, "val": 0.0, "test": 0.0, "group": "/../(.*)"},
        "split_file": "/runs/one/splits.json",
    }
    data = {"format": "folder", "root": str(tmp_path / "data"), "options": options}
    assert load_recipe(recipe_of(tmp_path) | {"data": data}).data.options == options


@pytest.mark.parametrize("ending", [".csv", ".toml"])
def test_another_file_given_as_label_map_shows_nothing_of_itself(tmp_path, ending):
    secret = tmp_path / "passwd"
    secret.write_text("root:x:0:0:secret:/root:/bin/sh\nname;r;g;b\nbob:y:1;2;3\n")
    (tmp_path / f"link{ending}").symlink_to(secret)
    with pytest.raises(ConfigError) as caught:
        load_label_map(tmp_path / f"link{ending}")
    secret.write_text("name;r;g;b\nbob:secret:1;2\n")
    with pytest.raises(ConfigError) as second:
        load_label_map(tmp_path / f"link{ending}")
    for text in (str(caught.value), str(second.value)):
        assert "secret" not in text
        assert "bob" not in text
        assert "line" in text


def test_another_file_given_as_recipe_shows_nothing_of_itself(tmp_path):
    secret = tmp_path / "passwd.toml"
    secret.write_text("root:x:0:0:secret:/root:/bin/sh\n")
    with pytest.raises(ConfigError, match="SEG-X006") as caught:
        load_recipe(secret)
    assert "secret" not in str(caught.value)


# --- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"train": ["a"], "train": ["b"]}', "'train' stands there 2 times"),
        ('["a", "b"]', "a list where an object"),
        ('{"train": "a"}', "train: "),
        ('{"train": [1]}', "train.0: "),
        ('{"tests": ["a"]}', "tests"),
        ('{"train": ["a", "a"]}', "train holds a name twice"),
        ("{", "line 1"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_odd_splits_are_named(tmp_path, text, told):
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(DataError, match="SEG-D013") as caught:
        _split_draw.read(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value.observed)


@pytest.mark.parametrize("text", ["[]", "3", '{"a": 1, "a": 2}', "{", '"text"'])
def test_odd_records_are_named(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="SEG-C014") as caught:
        json_files.read_json(path)
    assert str(path) in str(caught.value)
    path.write_text(text + "\n")
    with pytest.raises(CheckpointError, match=r"SEG-C014[^$]*line 1"):
        list(json_files.read_json_lines(path))


# --- a model and its evaluation -------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_deviation_of_zero_is_refused(tmp_path, std):
    model = make_model(tmp_path / "model")
    table = read_toml(model / "model.toml")
    table["bands"]["std"][1] = std
    (model / "model.toml").write_text(tomli_w.dumps(table))
    (model / "MANIFEST.json").unlink()
    with pytest.raises(ConfigError, match=r"SEG-X002[^$]*bands\.std\.1") as caught:
        saved_model.read_card(model)
    assert str(model / "model.toml") in str(caught.value)
    table["bands"]["std"] = [1.0]
    (model / "model.toml").write_text(tomli_w.dumps(table))
    with pytest.raises(ConfigError, match=r"SEG-X002[^$]*different lengths"):
        saved_model.read_card(model)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("odd")
    WRITERS["camvid"](place / "camvid")
    recipe = Config.model_validate(
        recipe_of(place / "camvid", evaluation={"calibration": True, "boundary": True})
    )
    train_workflow.train(recipe, place / "run")
    return place / "run"


@pytest.fixture
def run(finished, tmp_path):
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))


def changed(summary, key, value):
    return {**summary, key: value}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", "road"),
        ("classes", ["one"]),
        ("scores", [0.5]),
        ("scores", {"mean_iou": "0.5"}),
        ("per_class", {"iou": [0.1]}),
        ("counts", [[1, 2], [3, 4]]),
        ("counts", 7),
        ("images", "many"),
        ("split", None),
    ],
)
def test_odd_scores_are_named(run, key, value):
    path = run.evaluation / "test.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), key, value)))
    with pytest.raises(CheckpointError, match="SEG-C014") as caught:
        stored.read(run)
    assert str(path) in str(caught.value)
    assert key in str(caught.value.observed) or key == "classes"


def test_damaged_counts_are_named_by_compare_too(run, finished, tmp_path):
    path = run.evaluation / "test.safetensors"
    good = path.read_bytes()
    for content in (b"", good[:40], good[:-1], good + b"\0", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="SEG-C014") as caught:
            compare.compare([run.path, finished])
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("counts", None),
        ("counts", np.zeros((3, 2, 2), np.int64)),
        ("counts", np.zeros((3, 11, 11), np.float32)),
        ("ignored", np.zeros(99, np.int64)),
        ("calibration_right", None),
        ("boundary", np.zeros(5, np.int64)),
    ],
)
def test_odd_counts_are_named(run, name, array):
    path = run.evaluation / "test.safetensors"
    arrays, text = named_arrays.read(path), named_arrays.read_metadata(path)
    assert name in arrays
    del arrays[name]
    named_arrays.write(path, arrays if array is None else {**arrays, name: array}, text)
    with pytest.raises(CheckpointError, match="SEG-C014") as caught:
        stored.read(run)
    assert str(path) in str(caught.value)
    assert name in str(caught.value.observed) or name == "boundary"


@pytest.mark.parametrize("names", ["[]", '"text"', "[1, 2, 3]", "{", None])
def test_odd_names_are_named(run, names):
    path = run.evaluation / "test.safetensors"
    named_arrays.write(path, named_arrays.read(path), None if names is None else {"names": names})
    with pytest.raises(CheckpointError, match="SEG-C014") as caught:
        stored.read(run)
    assert str(path) in str(caught.value)


def test_data_config_of_a_program_may_lead_anywhere(tmp_path):
    made = data_config("folder", tmp_path, options={"images": "../images"})
    assert isinstance(made, DataConfig)
