"""Exports of the reference model: verified in their runtime, and used without any framework."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import terrazzo
from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.inference import predict as prediction
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.models import runtimes
from terrazzo.models.exporter import GraphForm
from terrazzo.models.runtimes import agreement
from terrazzo.runs import conversion, exported_model, model_source, saved_model
from terrazzo.testing.reference import export as reference_export
from terrazzo.testing.scenes import make_model, make_scene
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.export import verification
from terrazzo.workflows.export.export import export
from terrazzo.workflows.train import train

onnx = pytest.importorskip("onnx", reason="needs terrazzo[onnxruntime]")
for package in ("onnxruntime", "openvino"):
    pytest.importorskip(package, reason="needs terrazzo[cpu,onnxruntime]")

LABELS = """
name = "brightness"
classes = [
    { name = "dark", colour = "#FF0000", raw = [0] },
    { name = "bright", colour = "#00FF00", raw = [1] },
]
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(model_source.VARIABLE, raising=False)


def make_run(root):
    """Train for a moment on images whose brightness tells the class; eight are for validation."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / "data" / folder).mkdir(parents=True)
    for number in range(16):
        mask = draw.integers(0, 2, (40, 51)).astype(np.uint8)
        image = (mask * 120 + draw.integers(0, 90, mask.shape)).astype(np.uint8)
        Image.fromarray(image).save(root / "data" / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "data" / "masks" / f"{number}.png")
    (root / "data" / "labels.toml").write_text(LABELS)
    recipe = {
        "backend": "reference",
        "data": {
            "format": "folder",
            "root": str(root / "data"),
            "labels": str(root / "data" / "labels.toml"),
            "options": {"split": {"train": 0.25, "val": 0.5, "test": 0.25}},
        },
        "loader": {"threads": 0},
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 2, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
    }
    return train(terrazzo.load_recipe(recipe), root / "run").path


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_export_gives_what_the_model_gives(tmp_path, to, dtype, layout):
    model = make_model(tmp_path / "model", 4, dtype)
    folder = export(model, to, tmp_path / "out", layout=layout)
    ours, theirs = load_model(model), load_model(folder)
    for missing in (False, True):
        images_BHWC = agreement.noise(ours.card.bands, 3, (23, 31), 7, missing=missing)
        wanted = ours.trainer.predict(images_BHWC)
        np.testing.assert_allclose(theirs.trainer.predict(images_BHWC), wanted, atol=1e-5)
        labels_BHW = theirs.trainer.predict_labels(images_BHWC)
        assert labels_BHW.dtype == np.uint8
        np.testing.assert_array_equal(labels_BHW, ours.trainer.predict_labels(images_BHWC))
    described = json.loads((folder / "export.json").read_text())
    axes = ["batch", "height", "width", 4] if layout == "NHWC" else ["batch", 4, "height", "width"]
    assert described["input"]["shape"] == axes
    assert described["input"]["dtype"] == dtype
    assert [each["name"] for each in described["classes"]] == list(ours.card.label_map.names)
    assert described["verified"]["labels_changed"] == 0
    assert len(described["verified"]["inputs"]) == len(agreement.SIZES) + 1


def test_both_scores_stand_in_the_card_and_in_the_readme(tmp_path):
    run = make_run(tmp_path)
    folder = export(run, "onnx", tmp_path / "out")
    val = json.loads((folder / "export.json").read_text())["verified"]["val"]
    own = evaluate(run, "val")
    assert val["framework"]["mean_iou"] == pytest.approx(own.scores.mean_iou, abs=1e-6)
    low, high = val["exported"].pop("intervals_95")["mean_iou"]
    assert low <= own.scores.mean_iou <= high
    assert val["exported"] == val["framework"]
    assert val["mean_iou_difference"]["interval_95"] == [0, 0]
    assert f"{own.scores.mean_iou:.4f}" in (folder / "README.md").read_text()


def test_files_that_a_library_keeps_to_one_user_get_the_rights_of_the_others(tmp_path):
    folder = export(make_model(tmp_path / "model", 3, "uint8"), "onnx", tmp_path / "out")
    private = folder / "model.onnx"
    private.chmod(0o600)  # as safetensors writes its files
    exported = exported_model.read(folder)
    exported_model.write(
        folder, exported.card, json.loads((folder / "export.json").read_text()), {}
    )
    assert len({each.stat().st_mode for each in folder.iterdir()}) == 1
    assert exported_model.read(folder).card == exported.card


def alter(folder, change):
    """Change the graph of an exported folder, and make its sums fit again."""
    exported = exported_model.read(folder)
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    onnx.save(model, folder / "model.onnx")
    described = json.loads((folder / "export.json").read_text())
    verified = described.pop("verified")
    exported_model.write(folder, exported.card, described, verified)


def change_constant(graph, shape, change):
    found = [each for each in graph.initializer if tuple(each.dims) == shape]
    array = onnx.numpy_helper.to_array(found[0])
    found[0].CopyFrom(onnx.numpy_helper.from_array(change(array), found[0].name))


def swap_bands(graph):
    """Leave out the turn of the axes: a graph that takes its input in another layout."""
    turn = next(node for node in graph.node if node.op_type == "Transpose")
    turn.attribute[0].ints[:] = [0, 3, 2, 1]


FAULTS = {
    "weights": lambda graph: change_constant(graph, (6, 4, 3, 3), lambda a: a * 1.01),
    "class order": lambda graph: change_constant(graph, (6, 4, 3, 3), lambda a: a[::-1].copy()),
    "mean": lambda graph: change_constant(graph, (1, 4, 1, 1), lambda a: a * 1.01),
    "layout": swap_bands,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(tmp_path, fault):
    model = make_model(tmp_path / "model", 4)
    folder = export(model, "onnx", tmp_path / "out")
    card, trainer = saved_model.load(model)
    given = verification.reference(trainer, reference_export, card, "onnx", None)
    form = exported_model.read(folder).form
    verification.verify(folder, card, form, given, None)  # as it is, it passes
    alter(folder, FAULTS[fault])
    with pytest.raises(CheckpointError) as caught:
        verification.verify(folder, card, form, given, None)
    assert caught.value.code == "SEG-C070"


def test_what_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    model = make_model(tmp_path / "model")
    whole = reference_export.write

    def faulty(to, trainer, card, form, folder, calibration=None):
        facts = whole(to, trainer, card, form, folder, calibration)
        file = onnx.load(folder / "model.onnx")
        FAULTS["layout"](file.graph)
        onnx.save(file, folder / "model.onnx")
        return facts

    monkeypatch.setattr(reference_export, "write", faulty)
    with pytest.raises(CheckpointError) as caught:
        export(model, "onnx", tmp_path / "exports" / "out")
    assert caught.value.code == "SEG-C070"
    assert "no file is left behind" in str(caught.value)
    assert list((tmp_path / "exports").iterdir()) == []


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_int8_is_calibrated_on_training_images_and_scored_beside_float32(tmp_path, to):
    run = make_run(tmp_path)
    folder = export(run, to, tmp_path / "out", precision="int8")
    verified = json.loads((folder / "export.json").read_text())["verified"]
    assert 0 < verified["largest_error"] < 0.5
    low, high = verified["val"]["mean_iou_difference"]["interval_95"]
    assert -0.2 < low <= high < 0.2
    assert verified["val"]["exported"]["mean_iou"] > 0.5


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_scene_and_a_folder_are_predicted_without_any_framework(tmp_path, to):
    model = make_model(tmp_path / "model")
    folder = export(model, to, tmp_path / "out")
    scene = make_scene(tmp_path / "scene.tif", (150, 170, 3), nodata=0)
    (tmp_path / "photos").mkdir()
    for name, shape in (("a.png", (31, 43)), ("b.png", (64, 64))):
        noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / name)
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'keras', 'tensorflow', 'jax',\n"
        "                                      'terrazzo_torch', 'terrazzo_keras'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from terrazzo.inference.predict import predict\n"
        "predict(sys.argv[1], sys.argv[2:4], sys.argv[4])\n"
    )
    alone = tmp_path / "alone"
    subprocess.run(
        [sys.executable, "-c", program, folder, scene, tmp_path / "photos", alone], check=True
    )
    runtime = {"onnx": "onnxruntime", "openvino": "openvino"}[to]
    for source, settings in ((folder, {}), (model, {"runtime": runtime})):
        here = tmp_path / source.name
        prediction.predict(source, [scene, tmp_path / "photos"], here / "m", Settings(**settings))
        for made in (here / "m").rglob("*.*"):
            other = alone / made.relative_to(here / "m")
            assert made.read_bytes() == other.read_bytes(), made
    own = tmp_path / "own"
    prediction.predict(model, [scene, tmp_path / "photos"], own, Settings(runtime="framework"))
    labels = [np.asarray(Image.open(place / "a.png")) for place in (alone, own)]
    np.testing.assert_array_equal(*labels)


def test_workers_and_a_resume_give_the_same_bytes(tmp_path):
    folder = export(make_model(tmp_path / "model"), "openvino", tmp_path / "out")
    scene = make_scene(tmp_path / "scene.tif", (200, 90, 3))
    tiling = {"tile": 32, "overlap": 8}
    made = []
    for number, workers in enumerate((None, 2)):
        settings = Settings(
            tiling=prediction.Settings().tiling.model_copy(update=tiling), workers=workers
        )
        out = tmp_path / f"{number}.tif"
        prediction.predict(folder, [scene], out, settings)
        made.append(out.read_bytes())
    assert made[0] == made[1]


class Told:
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def chosen(folder, **asked):
    told = Told()
    card = saved_model.read_card(folder)
    return model_source.choose(folder, card, say=told.say, **asked), told.lines


def test_the_runtime_is_chosen_by_option_variable_and_default(tmp_path, monkeypatch):
    model = make_model(tmp_path / "model")
    assert chosen(model)[0].runtime is None  # the reference has no default
    source, lines = chosen(model, runtime="openvino")
    assert source.runtime == "openvino"
    assert "preparing the model for openvino, once" in lines[0]
    assert "predicting with openvino" in lines[1]
    assert len(chosen(model, runtime="openvino")[1]) == 1  # kept
    monkeypatch.setenv(model_source.VARIABLE, "onnxruntime")
    assert chosen(model)[0].runtime == "onnxruntime"
    assert chosen(model, runtime="framework")[0].runtime is None
    assert chosen(model, runtime="reference")[0].runtime is None
    plans = {
        chosen(model, runtime=each)[0].plan(saved_model.read_card(model))
        for each in ("framework", "openvino", "onnxruntime")
    }
    assert len(plans) == 3  # a map that was begun by one is not finished by another


def test_a_kept_conversion_that_is_damaged_is_made_again(tmp_path):
    model = make_model(tmp_path / "model")
    chosen(model, runtime="openvino")
    (kept,) = (tmp_path / "cache" / "terrazzo" / "converted").iterdir()
    weights = kept / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    _, lines = chosen(model, runtime="openvino")
    assert "preparing" in lines[0]
    exported_model.read(kept)


def test_a_model_that_does_not_convert_is_refused_or_left_to_its_framework(tmp_path, monkeypatch):
    model = make_model(tmp_path / "model")
    monkeypatch.setattr(conversion, "_LONGEST", 60.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "model" / "model.toml"))  # no folder
    with pytest.raises(ConfigError) as caught:
        chosen(model, runtime="openvino")
    assert caught.value.code == "SEG-X082"
    monkeypatch.setattr(model_source, "_default", lambda _: "openvino")
    source, lines = chosen(model)
    assert source.runtime is None
    assert "openvino does not take this model" in lines[-1]


def test_scores_by_another_runtime_have_a_name_of_their_own(tmp_path):
    run = make_run(tmp_path)
    own = evaluate(run)
    before = (run / "evaluation" / "test.json").read_bytes()
    other = evaluate(run, runtime="openvino")
    assert other.evaluation.split == "test-openvino"
    assert (run / "evaluation" / "test.json").read_bytes() == before
    np.testing.assert_array_equal(own.evaluation.counts_NKK, other.evaluation.counts_NKK)
    folder = export(run, "onnx", tmp_path / "out", score=False)
    exported = evaluate(folder, data=run / "config.toml")
    assert exported.report is None
    np.testing.assert_array_equal(exported.evaluation.counts_NKK, own.evaluation.counts_NKK)
    assert (folder / "evaluation" / "config-test-onnxruntime.json").is_file()
    exported_model.read(folder)  # scores beside it do not make it another


@pytest.mark.parametrize(
    ("asked", "code", "says"),
    [
        ({"to": "coreml"}, "SEG-X080", "onnx, openvino"),
        ({"to": "litert"}, "SEG-X080", "keras has onnx, openvino, litert and keras"),
        ({"to": "onnx", "precision": "int4"}, "SEG-X080", "float32, float16, int8"),
        ({"to": "onnx", "layout": "CHWN"}, "SEG-X080", "NHWC, NCHW"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(tmp_path, asked, code, says):
    model = make_model(tmp_path / "model")
    with pytest.raises(ConfigError) as caught:
        export(model, out=tmp_path / "out", **asked)
    assert caught.value.code == code
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_or_holds_the_run_is_refused(tmp_path):
    model = make_model(tmp_path / "model")
    with pytest.raises(ConfigError, match="SEG-X032"):
        export(model, "onnx", model)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match="SEG-C002"):
            export(model, "onnx", tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    folder = export(model, "onnx", tmp_path / "out")
    with pytest.raises(CheckpointError, match="SEG-C002"):
        export(model, "onnx", folder)
    export(model, "openvino", folder, overwrite=True)
    assert not (folder / "model.onnx").exists()


def test_runtimes_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    model = make_model(tmp_path / "model")
    folder = export(model, "onnx", tmp_path / "out")
    for source, asked in ((model, "tensorrt"), (model, "torch"), (folder, "openvino")):
        with pytest.raises(ConfigError) as caught:
            chosen(source, runtime=asked)
        assert caught.value.code == "SEG-X082", asked
    with pytest.raises(ConfigError, match="SEG-X083"):
        exported_model.load(folder, precision="bfloat16")
    assert chosen(folder, runtime="framework")[0].runtime == "onnxruntime"  # as on a cluster
    monkeypatch.setitem(runtimes._PACKAGES, "onnxruntime", ("onnxruntime_that_is_not_there",))
    with pytest.raises(ConfigError, match="SEG-X081") as caught:
        load_model(folder)
    assert "pip install 'terrazzo[onnxruntime]'" in str(caught.value)


def test_bfloat16_is_refused_where_the_processor_has_none(tmp_path):
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has bfloat16")
    folder = export(make_model(tmp_path / "model"), "openvino", tmp_path / "out")
    with pytest.raises(ConfigError, match="SEG-X083"):
        exported_model.load(folder, precision="bfloat16")


def test_folders_that_are_damaged_or_newer_are_refused(tmp_path):
    folder = export(make_model(tmp_path / "model"), "onnx", tmp_path / "out")
    described = json.loads((folder / "export.json").read_text())
    card = saved_model.read_card(folder)
    verified = described.pop("verified")
    exported_model.write(folder, card, {**described, "format": 2, "new": 1}, verified)
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert caught.value.code == "SEG-C007"
    exported_model.write(folder, card, described, verified)
    load_model(folder)
    for name in ("model.onnx", "export.json", "model.toml", "README.md"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(CheckpointError) as caught:
            load_model(folder)
        assert caught.value.code == "SEG-C006", name
        (folder / name).write_bytes(content)
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(CheckpointError, match="SEG-C006"):
        load_model(folder)


def test_an_export_of_another_label_map_is_not_scored(tmp_path):
    run = make_run(tmp_path)
    folder = export(make_model(tmp_path / "model", 1), "onnx", tmp_path / "out")
    with pytest.raises(CheckpointError, match="SEG-D036"):
        evaluate(folder, data=run / "config.toml")
    with pytest.raises(ConfigError, match="SEG-X082"):
        evaluate(folder)


def test_agreement_tells_noise_from_faults():
    reference = np.zeros((1, 4, 4, 3), np.float32)
    reference[..., 0], reference[..., 1] = 1, 0.5
    same = agreement.compare(reference, reference + np.float32(1e-6))
    assert same.holds
    assert same.changed == 0
    tie = reference.copy()
    tie[0, 0, 0] = (1, 1.00001, 0)
    close = agreement.compare(np.where(reference == 0.5, np.float32(0.99999), reference), tie)
    assert not close.holds  # far off elsewhere
    wrong = agreement.compare(reference, reference[..., ::-1].copy())
    assert wrong.unexplained == wrong.pixels or not wrong.holds
    for other in (reference[:, :3], np.full_like(reference, np.nan)):
        assert agreement.compare(reference, other).error == float("inf")
    assert not agreement.compare(reference, reference, np.ones((1, 4, 4), np.uint8)).holds


def test_threads_are_those_asked_for(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert runtimes.threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert runtimes.threads() == len(os.sched_getaffinity(0))


def test_a_form_is_as_files_hold_pixels(tmp_path):
    card = saved_model.read_card(make_model(tmp_path / "model", 2, "uint16"))
    assert conversion.raw_form(card) == GraphForm("uint16")
    assert Path(tmp_path / "model" / "model.toml").is_file()


def test_processes_that_convert_a_model_at_once_do_not_disturb_each_other(tmp_path):
    model = make_model(tmp_path / "model")
    card = saved_model.read_card(model)
    with ThreadPoolExecutor(3) as pool:
        waiting = []
        for _ in range(3):
            waiting.append(
                pool.submit(conversion.converted, model, card, "openvino", lambda _: None)
            )
            time.sleep(0.3)
        places = {each.result() for each in waiting}
    (place,) = places
    exported_model.read(place)
    assert list(place.parent.iterdir()) == [place]
