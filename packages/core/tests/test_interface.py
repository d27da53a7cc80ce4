"""`import terrazzo` as a newcomer meets it: from images and masks to a prediction, in Python."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import terrazzo
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.data.labels import LabelClass, LabelMap

LABELS = """
name = "<b>two</b>"
ignored = [9]
classes = [
    { name = "red & <i>ripe</i>", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images whose colour tells the class."""
    folder = tmp_path_factory.mktemp("interface")
    draw = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / "data" / kind).mkdir(parents=True)
    for number in range(10):
        mask = draw.integers(0, 2, (16, 12)).astype(np.uint8)
        image = np.zeros((16, 12, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 150 + draw.integers(0, 100, (16, 12, 2))
        mask[0] = 9
        Image.fromarray(image).save(folder / "data" / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"{number}.png")
    (folder / "labels.toml").write_text(LABELS)
    return folder


def settings(folder, **changes):
    return {
        "backend": "reference",
        "data": {
            "format": "folder",
            "root": str(folder / "data"),
            "labels": str(folder / "labels.toml"),
            "options": {"split": {"train": 0.6, "val": 0.2, "test": 0.2}},
        },
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 3, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
        **changes,
    }


@pytest.fixture(scope="module")
def run(folder):
    return terrazzo.train(terrazzo.load_recipe(settings(folder)), folder / "runs" / "two")


@pytest.fixture
def dataset(folder):
    return terrazzo.open_dataset("folder", root=folder / "data", labels=folder / "labels.toml")


def loaded_after(code):
    program = f"import sys, json\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_importing_it_loads_the_standard_library_alone():
    bare = loaded_after("")
    loaded = {name.partition(".")[0] for name in loaded_after("import terrazzo") - bare}
    assert "terrazzo" in loaded
    # What site-packages load into every process was there before.
    assert loaded - {"terrazzo"} <= sys.stdlib_module_names


def test_a_confusion_matrix_loads_numpy_and_nothing_heavier():
    heavy = {"pydantic", "cv2", "PIL", "rasterio", "jinja2", "matplotlib", "grain", "typer", "rich"}
    loaded = loaded_after("import terrazzo\nterrazzo.ConfusionMatrix(2)")
    assert "numpy" in loaded
    assert not loaded & heavy


def test_every_name_is_there_and_no_other():
    for name in terrazzo.__all__:
        assert getattr(terrazzo, name) is not None
    assert dir(terrazzo) == sorted(terrazzo.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = terrazzo.trian
    assert inspect.ismodule(terrazzo.check)  # the package, not a function


@pytest.mark.parametrize("name", sorted(set(terrazzo.__all__) - {"__version__"}))
def test_every_name_is_documented_and_typed(name):
    value = getattr(terrazzo, name)
    text = inspect.getdoc(value)
    function = value.__init__ if inspect.isclass(value) else value
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        assert parameter.kind is not parameter.VAR_KEYWORD
        if parameter.name != "self":
            assert parameter.annotation is not parameter.empty
            assert f"\n    {parameter.name}: " in text, f"{parameter.name} is not explained"
    assert signature.return_annotation is not signature.empty
    assert "Raises:" in text
    assert f"    {name} " in terrazzo.__doc__


def test_nothing_is_compulsory_beside_what_it_is_about():
    compulsory = {
        name: [
            p.name
            for p in inspect.signature(getattr(terrazzo, name)).parameters.values()
            if p.default is p.empty
        ]
        for name in set(terrazzo.__all__) - {"__version__"}
    }
    assert compulsory == {
        "load_label_map": ["name"],
        "open_dataset": ["data"],
        "check_data": ["data"],
        "load_recipe": ["source"],
        "train": ["recipe"],
        "evaluate": ["run"],
        "load_model": ["run"],
        "predict": ["run", "inputs", "out"],
        "compare": ["runs"],
        "ConfusionMatrix": ["num_classes"],
    }


def test_a_sample_of_a_folder(dataset):
    assert list(dataset) == ["train", "val", "test"]
    assert "train" in dataset
    assert "training" not in dataset
    assert [len(dataset[name]) for name in dataset] == [8, 1, 1]
    sample = dataset["train"][0]
    assert sample.image_HWC.shape == (16, 12, 3)
    assert sample.label_HW.shape == (16, 12)
    assert set(np.unique(sample.label_HW)) == {0, 1, 255}
    assert dataset["train"][-1].name == dataset["train"].names[-1]
    assert [each.name for each in dataset["train"]] == list(dataset["train"].names)
    assert dataset.label_map.names == ("red & <i>ripe</i>", "green")


def test_a_data_set_is_named_by_a_recipe_too(folder, tmp_path):
    recipe = terrazzo.load_recipe(settings(folder))
    assert len(terrazzo.open_dataset(recipe)["train"]) == 6
    assert len(terrazzo.open_dataset(recipe.data)["train"]) == 6
    data = "\n".join(
        f"{key} = {json.dumps(str(getattr(recipe.data, key)))}"
        for key in ("format", "root", "labels")
    )
    (tmp_path / "mine.toml").write_text(f"[data]\n{data}\n")
    assert len(terrazzo.open_dataset(tmp_path / "mine.toml")["train"]) == 8
    drawn = {"split": {"train": 0.5, "val": 0.3, "test": 0.2}}
    assert len(terrazzo.open_dataset(tmp_path / "mine.toml", options=drawn)["train"]) == 5


def test_a_recipe_is_a_file_or_a_dictionary(folder, tmp_path):
    values = settings(folder)
    recipe = terrazzo.load_recipe(values, assignments=["training.epochs=1", "name=short"])
    assert (recipe.name, recipe.training.epochs) == ("short", 1)
    assert values == settings(folder)  # the caller's dictionary is left as it was
    assert terrazzo.load_recipe(values).name == "recipe"
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        terrazzo.load_recipe(settings(folder, training={"epochs": 1, "batchsize": 2}))


def test_a_run_and_its_model(run, folder, dataset):
    assert run.scores.mean_iou > 0.9
    assert run.path == Path(os.fspath(run)) == folder / "runs" / "two"
    assert run.report.is_file()
    again = terrazzo.evaluate(run, "val", calibration=True)
    assert again.evaluation.split == "val"
    assert again.extra_scores
    model = terrazzo.load_model(run)
    draw = np.random.default_rng(1)
    for size in ((16, 12), (1, 1), (33, 70)):
        image_HWC = draw.integers(0, 255, (*size, 3)).astype(np.uint8)
        labels_HW = model.predict(image_HWC)
        assert labels_HW.shape == size
        assert labels_HW.dtype == np.uint8
        probabilities_HWK = model.predict_probabilities(image_HWC)
        assert probabilities_HWK.shape == (*size, 2)
        np.testing.assert_allclose(probabilities_HWK.sum(axis=2), 1, atol=1e-5)
        np.testing.assert_array_equal(labels_HW, probabilities_HWK.argmax(axis=2))
    matrix = terrazzo.ConfusionMatrix(num_classes=2)
    for sample in dataset["test"]:
        matrix.update(sample.label_HW, model.predict(sample.image_HWC))
    assert matrix.scores().mean_iou > 0.9


def test_a_model_trained_at_one_size_answers_at_the_size_of_the_image(folder, tmp_path):
    values = settings(folder)
    values["data"]["image_size"] = [8, 8]
    model = terrazzo.load_model(terrazzo.train(terrazzo.load_recipe(values), tmp_path / "small"))
    image_HWC = np.zeros((20, 31, 3), np.uint8)
    assert model.predict(image_HWC).shape == (20, 31)
    assert model.predict_probabilities(image_HWC).shape == (20, 31, 2)


def test_files_are_predicted(run, folder, tmp_path):
    image = folder / "data" / "images" / "3.png"
    (written,) = terrazzo.predict(run, str(image), tmp_path / "maps")
    assert written.path == tmp_path / "maps" / "3.png"
    expected_HW = terrazzo.load_model(run).predict(np.asarray(Image.open(image)))
    np.testing.assert_array_equal(np.asarray(Image.open(written.path)), expected_HW)


def test_two_runs_are_compared(run, folder, tmp_path):
    recipe = terrazzo.load_recipe(settings(folder), assignments=["seed=1", "training.epochs=1"])
    other = terrazzo.train(recipe, tmp_path / "other")
    comparison = terrazzo.compare([run, str(other.path)], resamples=50)
    assert {each.name for each in comparison.competitors} == {"two", "other"}
    best, second = (each.scalars["mean_iou"].estimate for each in comparison.intervals.runs)
    assert best >= second


def test_a_data_set_is_checked(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    report = terrazzo.check_data("folder", root=folder / "data", labels=folder / "labels.toml")
    assert sum(report.images.values()) == 10
    assert not report.must_stop
    unlabelled = terrazzo.check_data("folder", folder / "data")
    assert 'name = "value_1"' in unlabelled.proposal
    assert "<pre>" in report._repr_html_()
    assert "&lt;i&gt;" in report._repr_html_()
    assert "<i>" not in report._repr_html_()


def test_it_neither_prints_nor_ends_the_process(folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe = terrazzo.load_recipe(settings(folder))
    run = terrazzo.train(recipe, tmp_path / "silent")
    terrazzo.evaluate(run, "val")
    terrazzo.predict(run, folder / "data" / "images", tmp_path / "maps")
    terrazzo.check_data(recipe)
    with pytest.raises(CheckpointError) as caught:
        terrazzo.train(recipe, tmp_path / "silent")
    assert caught.value.code == "SEG-C002"
    assert capfd.readouterr() == ("", "")


def test_progress_is_told_to_whom_it_is_given(folder, tmp_path):
    class Heard:
        def __init__(self):
            self.lines, self.steps = [], []

        def say(self, text):
            self.lines.append(text)

        def advance(self, done, total, text):
            self.steps.append((done, total))

    heard = Heard()
    terrazzo.train(terrazzo.load_recipe(settings(folder)), tmp_path / "heard", progress=heard)
    assert any("val mean IoU" in line for line in heard.lines)
    assert (9, 9) in heard.steps


@pytest.mark.parametrize(
    ("call", "kind", "code"),
    [
        (lambda run, data: terrazzo.load_recipe("no.toml"), ConfigError, "SEG-X005"),
        (lambda run, data: terrazzo.train("no.toml"), ConfigError, "SEG-X005"),
        (lambda run, data: terrazzo.load_label_map("camvit"), ConfigError, "SEG-X004"),
        (lambda run, data: terrazzo.open_dataset("fodler", root="x"), ConfigError, "SEG-X004"),
        (lambda run, data: terrazzo.open_dataset("folder"), ConfigError, "SEG-X013"),
        (lambda run, data: terrazzo.open_dataset("folder", root="x"), ConfigError, "SEG-X009"),
        (lambda run, data: terrazzo.check_data("folder"), ConfigError, "SEG-X013"),
        (lambda run, data: data["training"], ConfigError, "SEG-X004"),
        (lambda run, data: data["train"][99], IndexError, None),
        (lambda run, data: terrazzo.evaluate("nowhere"), CheckpointError, "SEG-C001"),
        (lambda run, data: terrazzo.evaluate(run, "training"), ConfigError, "SEG-X004"),
        (lambda run, data: terrazzo.load_model("nowhere"), CheckpointError, "SEG-C012"),
        (lambda run, data: terrazzo.load_model(run).network, ConfigError, "SEG-X089"),
        (lambda run, data: terrazzo.predict(run, "a.png", "m.tif"), ConfigError, "SEG-X032"),
        (lambda run, data: terrazzo.compare([run]), ConfigError, "SEG-X040"),
        (lambda run, data: terrazzo.compare([run, run]), ConfigError, "SEG-X042"),
        (lambda run, data: terrazzo.ConfusionMatrix(0), ConfigError, "SEG-M007"),
    ],
)
def test_mistakes_are_typed_errors(run, dataset, call, kind, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        call(run, dataset)
    assert getattr(caught.value, "code", None) == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (np.zeros((4, 4), np.uint8), "SEG-D020"),
        (np.zeros((1, 4, 4, 3), np.uint8), "SEG-D020"),
        (np.zeros((4, 4, 4), np.uint8), "SEG-D020"),
        (np.zeros((4, 4, 3), np.float32), "SEG-D019"),
    ],
)
def test_an_array_that_is_no_image_of_the_model(run, image, code):
    model = terrazzo.load_model(run)
    for predict in (model.predict, model.predict_probabilities):
        with pytest.raises(DataError) as caught:
            predict(image)
        assert caught.value.code == code


def test_runs_scores_and_label_maps_show_themselves_in_a_notebook(run):
    shown = run._repr_html_()
    assert "red &amp; &lt;i&gt;ripe&lt;/i&gt;" in shown
    assert "<i>" not in shown
    assert f"{run.scores.mean_iou:.4f}" in shown
    assert run.path.name in shown

    assert len(repr(run)) < 300  # no arrays

    assert f"{run.scores.mean_iou:.4f}" in run.scores._repr_html_()
    half = terrazzo.ConfusionMatrix(2)
    half.update([0, 0], [0, 0])
    assert "absent" in half.scores()._repr_html_()
    with pytest.raises(ValueError, match="argument"):  # zip, strict: no class is lost
        run.scores.to_html(["one"])

    shown = run.label_map._repr_html_()
    assert "&lt;b&gt;two&lt;/b&gt;" in shown
    assert "red &amp; &lt;i&gt;ripe" in shown
    assert "<i>" not in shown
    assert "<b>" not in shown
    assert "#FF0000" in shown
    odd = LabelMap("odd", (LabelClass("a", '"><script>', (0,)),))
    assert "<script>" not in odd._repr_html_()
