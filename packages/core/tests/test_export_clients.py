"""What is written for programs of others, with their arithmetic done again here."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import types
import zipfile
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from affine import Affine

from terrazzo import export_clients
from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.cli import export as command
from terrazzo.data import ground
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.export_clients import ClientOptions, ClientOrder, mlflow, mlflow_model
from terrazzo.inference.model import Model
from terrazzo.io import rasters
from terrazzo.models import exporter
from terrazzo.runs import exported_model, saved_model
from terrazzo.testing.reference import export as reference_export
from terrazzo.testing.scenes import make_model, make_scene
from terrazzo.workflows.export import for_client

pytest.importorskip("onnx", reason="needs terrazzo[onnxruntime]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs terrazzo[onnxruntime]")
import onnx  # noqa: E402

ABOUT = {
    "authors": ("Ada Lovelace",),
    "license": "CC-BY-4.0",
    "cite": "Lovelace 1843",
    "doi": "https://doi.org/10.5281/zenodo.1234567",
}
OPTIONS = {
    "arcgis": {"tile_size": 64},
    "bioimageio": ABOUT,
    "deepness": {"tile_size": 64},
    "triton": {},
}
HALF_A_METRE = PixelSizes.square(0.5, 0.5)


def smooth_image(bands, shape, seed=3):
    """A real image's likeness: neighbours are alike, and no two bands are."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    waves = [
        np.sin(rows / rng.uniform(3, 9)) + np.cos(columns / rng.uniform(3, 9) + band)
        for band in range(len(bands))
    ]
    image_HWC = np.stack(waves, axis=2) * np.array(bands.std) + np.array(bands.mean)
    image_HWC += rng.normal(0, 0.1, image_HWC.shape) * np.array(bands.std)
    if bands.dtype == "float32":
        return image_HWC.astype(np.float32)
    return image_HWC.clip(0, np.iinfo(bands.dtype).max).astype(bands.dtype)


def make_order(tmp_path, client, dtype="uint8", *, shape=(70, 83), image_size=None, **options):
    folder = make_model(
        tmp_path / "model", 3, dtype, pixel_metres=HALF_A_METRE, image_size=image_size
    )
    card, trainer = saved_model.load(folder)
    # As real bands: none has the mean of another.
    scale = np.array(card.bands.mean)
    bands = replace(
        card.bands,
        mean=tuple((scale * (0.4, 0.6, 0.9)).tolist()),
        std=tuple((scale * (0.1, 0.2, 0.3)).tolist()),
    )
    card = replace(card, bands=bands)
    state = trainer.state()
    trainer = type(trainer)(trainer.options, trainer._training, card.label_map, bands, 0)
    trainer.load_state({name: a for name, a in state.items() if name.startswith("weights/")})
    return ClientOrder(
        card,
        trainer,
        exporter.exporter("reference"),
        ClientOptions(**(OPTIONS[client] | options)),
        (smooth_image(bands, shape)[None],),
        "Fields 2026-11",
        "ab" * 32,
    )


def run_graph(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": np.ascontiguousarray(image)}), strict=True))


def refused(code, call, *arguments):
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        call(*arguments)
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("client", sorted(OPTIONS))
def test_every_program_answers_as_the_model(tmp_path, client, dtype):
    order = make_order(tmp_path, client, dtype)
    written = export_clients.write(client, order, tmp_path / "out")
    assert written.agreement.differing == 0
    assert written.agreement.pixels > 8000
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert all(limit in readme for limit in written.limits)
    assert "band 1, band 2, band 3" in readme


@pytest.mark.parametrize("fault", ["mean", "std", "class order", "band order", "rows and columns"])
@pytest.mark.parametrize("client", sorted(OPTIONS))
def test_planted_faults_are_found_and_leave_nothing(tmp_path, client, fault):
    order = make_order(tmp_path, client)
    bands = order.card.bands
    if fault == "mean":
        wrong = replace(bands, mean=tuple(1.2 * each for each in bands.mean))
        order = replace(order, card=replace(order.card, bands=wrong))
    elif fault == "std":
        wrong = replace(bands, std=bands.std[::-1])
        order = replace(order, card=replace(order.card, bands=wrong))
    else:
        order = replace(order, exporter=FaultyExporter(fault))
    out = tmp_path / "out"
    out.mkdir()
    (out / "earlier").write_text("an earlier export")
    text = refused("SEG-C070", export_clients.write, client, order, out)
    assert client in text
    assert [path.name for path in out.iterdir()] == ["earlier"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class FaultyExporter:
    """Writes the graph of a model with a fault, and answers as the right one."""

    FORMATS = ("onnx",)

    def __init__(self, fault):
        self._fault = fault

    logits = staticmethod(reference_export.logits)

    def write(self, to, trainer, card, form, folder, calibration=None):
        before = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
        changed = dict(before)
        kernel = before["weights/kernel"]
        shape = (3, 3, 3, kernel.shape[1])
        if self._fault == "class order":
            order = np.roll(np.arange(kernel.shape[1]), 1)
            changed = {name: array[..., order] for name, array in before.items()}
        elif self._fault == "band order":
            changed["weights/kernel"] = kernel.reshape(shape)[:, :, ::-1].reshape(kernel.shape)
        else:
            swapped = kernel.reshape(shape).transpose(1, 0, 2, 3)
            changed["weights/kernel"] = swapped.reshape(kernel.shape)
        trainer.load_state(changed)
        try:
            return reference_export.write(to, trainer, card, form, folder)
        finally:
            trainer.load_state(before)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_deepness_reads_what_it_looks_for(tmp_path, dtype):
    """Keys and types of values as its code reads them; tile_size, not tiles_size."""
    order = make_order(tmp_path, "deepness", dtype)
    export_clients.write("deepness", order, tmp_path / "out")
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert model.ir_version == 9
    assert max(each.version for each in model.opset_import) <= 20
    (image,), (answer,) = model.graph.input, model.graph.output
    assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    sides = [
        [axis.dim_value for axis in each.type.tensor_type.shape.dim[1:]] for each in (image, answer)
    ]
    assert sides == [[3, 64, 64], [6, 64, 64]]
    found = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert found["model_type"] == "Segmentor"
    assert found["class_names"] == {str(k): f"class {k}" for k in range(6)}
    assert found["resolution"] == 50.0
    assert found["tile_size"] == 64
    assert "tiles_size" not in found
    assert isinstance(found["tiles_overlap"], int)
    assert found["seg_thresh"] == 0
    assert found["seg_small_segment"] == 0
    bands = order.card.bands
    np.testing.assert_allclose(np.array(found["standardization_mean"]) * 255, bands.mean)
    np.testing.assert_allclose(np.array(found["standardization_std"]) * 255, bands.std)
    tile_HWC = order.images[0][0, :64, :64]
    unit = np.float32(tile_HWC * 1.0 / 255.0)
    standardised = (unit - np.float32(found["standardization_mean"])) / np.float32(
        found["standardization_std"]
    )
    tile_1CHW = standardised.transpose(2, 0, 1)[None]
    (scores,) = run_graph(tmp_path / "out" / "model.onnx", tile_1CHW).values()
    assert scores.shape == (1, 6, 64, 64)
    expected_HW = Model(order.card, order.trainer).predict(tile_HWC)
    assert len(np.unique(expected_HW)) > 2
    np.testing.assert_array_equal(scores.argmax(axis=1)[0], expected_HW)


def test_deepness_asks_for_one_size_of_pixels(tmp_path):
    order = make_order(tmp_path, "deepness")
    unknown = replace(order, card=replace(order.card, pixel_metres=None))
    text = refused("SEG-X090", export_clients.check, "deepness", unknown)
    assert "--cm-per-pixel" in text
    oblong = PixelSizes((0.5, 0.5), (0.7, 0.7))
    both = replace(order, card=replace(order.card, pixel_metres=oblong))
    assert "0.5 m wide" in refused("SEG-X090", export_clients.check, "deepness", both)
    given = replace(both, options=ClientOptions(cm_per_pixel=60.0))
    export_clients.check("deepness", given)
    tiny = PixelSizes.square(1e-7, 1e-7)
    microscope = replace(order, card=replace(order.card, pixel_metres=tiny))
    assert "bioimageio" in refused("SEG-X091", export_clients.check, "deepness", microscope)
    single = LabelMap("one", order.card.label_map.classes[:1])
    one_class = replace(given, card=replace(given.card, label_map=single))
    assert "one class" in refused("SEG-X091", export_clients.check, "deepness", one_class)
    for wrong in (0.0, -1.0, float("nan")):
        order = replace(given, options=ClientOptions(cm_per_pixel=wrong))
        refused("SEG-X090", export_clients.check, "deepness", order)


@pytest.mark.parametrize("client", ["arcgis", "deepness"])
def test_programs_that_cut_tiles_take_no_model_of_one_size(tmp_path, client):
    order = make_order(tmp_path, client, image_size=(32, 48))
    assert "32×48" in refused("SEG-X091", export_clients.check, client, order)
    for size in (0, 15, 10**6):
        wrong = make_order(tmp_path, client, tile_size=size)
        refused("SEG-X090", export_clients.check, client, wrong)


@pytest.mark.parametrize("client", ["bioimageio", "triton"])
def test_models_of_one_size_say_so(tmp_path, client):
    order = make_order(tmp_path, client, image_size=(32, 48), shape=(32, 48))
    written = export_clients.write(client, order, tmp_path / "out")
    assert any("32 rows and 48 columns" in limit for limit in written.limits)


def test_options_are_asked_for_by_name_and_refused_where_idle(tmp_path):
    for name, word in (("authors", "--author"), ("license", "--license"), ("cite", "--cite")):
        order = make_order(tmp_path, "bioimageio", **{name: ABOUT[name][:0]})
        assert f"needs {word}" in refused("SEG-X090", export_clients.check, "bioimageio", order)
    for wrong in ({"license": "the usual one"}, {"doi": "see the paper"}):
        order = make_order(tmp_path, "bioimageio", **wrong)
        refused("SEG-X090", export_clients.check, "bioimageio", order)
    idle = make_order(tmp_path, "triton", license="MIT")
    assert "--license means nothing" in refused("SEG-X090", export_clients.check, "triton", idle)
    assert "deepness" in refused("SEG-X004", export_clients.check, "deepnes", idle)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_bioimageio_describes_what_its_library_does(tmp_path, dtype):
    order = make_order(tmp_path, "bioimageio", dtype)
    classes = tuple(
        LabelClass(name, f"#0000{k:02X}", (k,))
        for k, name in enumerate(["tree", "bare soil", "bare-soil", "4x4", "Wald/Feld", "ß"])
    )
    order = replace(order, card=replace(order.card, label_map=LabelMap("land", classes)))
    out = tmp_path / "out"
    export_clients.write("bioimageio", order, out)
    found = json.loads((out / "rdf.yaml").read_text(encoding="utf-8"))
    assert found["format_version"].startswith("0.5.")
    assert found["license"] == "CC-BY-4.0"
    assert found["cite"] == [{"text": "Lovelace 1843", "doi": "10.5281/zenodo.1234567"}]
    (image,), (answer,) = found["inputs"], found["outputs"]
    assert image["data"] == {"type": dtype}
    for tensor, names in ((image, order.card.bands.names), (answer, order.card.label_map.names)):
        words = tensor["axes"][1]["channel_names"]
        assert len(set(words)) == len(names)
        assert all(word.isidentifier() for word in words)
        assert not any("halo" in axis for axis in tensor["axes"])
        assert [axis.get("id", axis["type"]) for axis in tensor["axes"]] == [
            "batch",
            "channel",
            "y",
            "x",
        ]
    assert found["config"]["terrazzo"]["classes"] == [each.name for each in classes]
    assert [axis["size"] for axis in image["axes"][2:]] == [{"min": 16, "step": 1}] * 2
    assert [axis["scale"] for axis in image["axes"][2:]] == [0.5, 0.5]
    to_float = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    first, standardise, last = image["preprocessing"]
    assert first == last == to_float
    assert standardise["kwargs"]["mean"] == list(order.card.bands.mean)
    assert answer["postprocessing"] == [{"id": "softmax", "kwargs": {"axis": "channel"}}]
    for entry in (image["test_tensor"], answer["test_tensor"], found["weights"]["onnx"]):
        content = (out / entry["source"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    test_1CHW = np.load(out / "test_input.npy")
    assert test_1CHW.dtype == dtype
    mean, std = (np.array(standardise["kwargs"][key])[:, None, None] for key in ("mean", "std"))
    standardised = ((test_1CHW - mean) / std).astype(np.float32)
    (scores,) = run_graph(out / "model.onnx", standardised).values()
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, np.load(out / "test_output.npy"), atol=1e-4)
    expected_HW = Model(order.card, order.trainer).predict(test_1CHW[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(scores.argmax(axis=1)[0], expected_HW)
    with zipfile.ZipFile(out / "Fields_2026_11.zip") as package:
        assert {"rdf.yaml", "README.md", "model.onnx", "test_input.npy"} <= set(package.namelist())
        assert all(package.read(name) == (out / name).read_bytes() for name in package.namelist())


@pytest.mark.parametrize(
    ("dtype", "name"), [("uint8", "UINT8"), ("uint16", "UINT16"), ("float32", "FP32")]
)
def test_triton_is_told_the_shapes_of_the_graph(tmp_path, dtype, name):
    order = make_order(tmp_path, "triton", dtype)
    out = tmp_path / "out" / "Fields_2026_11"
    export_clients.write("triton", order, tmp_path / "out")
    text = (out / "config.pbtxt").read_text(encoding="utf-8")
    assert 'backend: "onnxruntime"' in text
    assert "max_batch_size: 8" in text
    tensors = re.findall(r'name: "(\w+)" data_type: TYPE_(\w+) dims: (\[.*?\])', text)
    assert tensors == [
        ("image", name, "[3, -1, -1]"),
        ("probabilities", "FP32", "[6, -1, -1]"),
        ("labels", "UINT8", "[-1, -1]"),
    ]
    image_HWC = order.images[0][0]
    found = run_graph(out / "1" / "model.onnx", image_HWC.transpose(2, 0, 1)[None])
    expected_HW = Model(order.card, order.trainer).predict(image_HWC)
    np.testing.assert_array_equal(found["labels"][0], expected_HW)
    np.testing.assert_array_equal(found["probabilities"].argmax(axis=1)[0], expected_HW)


ARCGIS = """
import importlib.util, json, sys
import numpy as np
sys.path.insert(0, ".")
emd = sys.argv[1]
name = json.load(open(emd, encoding="utf-8"))["InferenceFunction"][:-3]
spec = importlib.util.spec_from_file_location(name, name + ".py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
function = getattr(module, name)()
function.initialize(model=emd)
assert {p["name"] for p in function.getParameterInfo()} >= {"raster", "model", "device", "padding"}
configuration = function.getConfiguration(padding=8, batch_size=1)
assert (configuration["tx"], configuration["ty"]) == (48, 48), configuration
assert configuration["extractBands"] == (0, 1, 2)
info = function.updateRasterInfo(output_info={})["output_info"]
table = json.loads(info["rasterAttributeTable"])
assert info["bandCount"] == 1 and info["pixelType"] == "u1"
assert [f["attributes"]["Value"] for f in table["features"]] == list(range(6))
blocks = function.updatePixels(
    (0, 0), (64, 64), {}, raster_pixels=np.load("pixels.npy"), raster_mask=np.load("mask.npy")
)
np.savez("answer.npz", pixels=blocks["output_pixels"], mask=blocks["output_mask"])
assert "terrazzo" not in sys.modules
"""


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_raster_function_runs_by_itself_and_knows_nodata(tmp_path, dtype):
    """From the zip, in a process without this package: margin cut, nodata the band's mean."""
    order = make_order(tmp_path, "arcgis", dtype)
    export_clients.write("arcgis", order, tmp_path / "out")
    place = tmp_path / "opened"
    with zipfile.ZipFile(tmp_path / "out" / "Fields_2026_11.dlpk") as package:
        assert sorted(package.namelist()) == [
            "Fields_2026_11.emd",
            "TerrazzoClassifier.py",
            "model.onnx",
        ]
        package.extractall(place)
    image_HWC = order.images[0][0, :64, :64].copy()
    mask_HW = np.ones((64, 64), np.uint8)
    mask_HW[20:30, 40:] = 0
    np.save(place / "pixels.npy", image_HWC.transpose(2, 0, 1))
    np.save(place / "mask.npy", np.broadcast_to(mask_HW, (3, 64, 64)))
    script = [sys.executable, "-I", "-c", ARCGIS, "Fields_2026_11.emd"]
    done = subprocess.run(script, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = np.load(place / "answer.npz")
    seen_HWC = image_HWC.astype(np.float32)
    seen_HWC[mask_HW == 0] = np.nan
    expected_HW = order.trainer.predict_labels(seen_HWC[None])[0]
    assert answer["pixels"].shape == (1, 48, 48)
    np.testing.assert_array_equal(answer["pixels"][0], expected_HW[8:-8, 8:-8])
    np.testing.assert_array_equal(answer["mask"][0], mask_HW[8:-8, 8:-8])
    definition = json.loads((place / "Fields_2026_11.emd").read_text(encoding="utf-8"))
    assert definition["ModelFile"] == "model.onnx"
    assert definition["Classes"][2] == {"Value": 2, "Name": "class 2", "Color": [80, 0, 255]}


def test_zips_depend_on_what_is_in_them_alone(tmp_path):
    order = make_order(tmp_path, "arcgis")
    for name in ("first", "second"):
        export_clients.write("arcgis", order, tmp_path / name)
    first, second = (
        (tmp_path / name / "Fields_2026_11.dlpk").read_bytes() for name in ("first", "second")
    )
    assert first == second


def test_missing_mlflow_is_told_with_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.pyfunc", None)
    order = replace(make_order(tmp_path, "triton"), options=ClientOptions())
    assert "pip install mlflow" in refused("SEG-X081", export_clients.check, "mlflow", order)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_what_mlflow_runs_takes_raw_pixels(tmp_path, dtype):
    """The code of the model, without MLflow around it."""
    order = make_order(tmp_path, "triton", dtype)
    reference_export.write("onnx", order.trainer, order.card, mlflow.form(order), tmp_path)
    model = mlflow_model.SegmentationModel()
    artifacts = {"model": str(tmp_path / "model.onnx")}
    model.load_context(types.SimpleNamespace(artifacts=artifacts))
    images_BHWC = order.images[0]
    expected_HW = Model(order.card, order.trainer).predict(images_BHWC[0])
    np.testing.assert_array_equal(model.predict(None, images_BHWC)[0], expected_HW)
    both = model.predict(None, images_BHWC, {"probabilities": True})
    np.testing.assert_array_equal(both["labels"][0], expected_HW)
    expected_BHWK = order.trainer.predict(images_BHWC)
    np.testing.assert_allclose(both["probabilities"], expected_BHWK, atol=1e-5)


def test_images_with_missing_values_verify_models_of_whole_numbers(tmp_path):
    """Such images come as floats with NaN."""
    order = make_order(tmp_path, "triton")
    images = order.images[0].astype(np.float32)
    images[0, 10:20, 10:20] = np.nan
    written = export_clients.write("triton", order.with_images(images), tmp_path / "out")
    assert written.agreement.differing == 0


@pytest.fixture
def stored_run(tmp_path):
    return make_model(tmp_path / "run" / "model", pixel_metres=HALF_A_METRE).parent


@pytest.mark.parametrize("client", ["triton", "deepness"])
def test_a_run_becomes_a_folder_that_says_what_it_is(tmp_path, stored_run, client):
    out = tmp_path / "out"
    limits = for_client.export_for(stored_run, client, out)
    assert limits
    description = json.loads((out / "export.json").read_text(encoding="utf-8"))
    assert description["to"] == client
    assert description["run"]["name"] == "run"
    assert description["verified"]["differing"] == 0
    assert exported_model.read(out).card.bands.names == ("band 1", "band 2", "band 3")
    refused("SEG-X082", exported_model.load, out)
    text = refused("SEG-C002", for_client.export_for, stored_run, client, out)
    assert "--overwrite" in text
    for_client.export_for(stored_run, client, out, overwrite=True)
    refused("SEG-X032", for_client.export_for, stored_run, client, stored_run)


def test_options_of_formats_and_of_programs_do_not_mix():
    nothing = ClientOptions()
    for_client.require_one_aim("onnx", None, "float16", "NCHW", nothing)
    for_client.require_one_aim(None, "triton", "float32", "NHWC", nothing)
    for wrong in (
        ("onnx", "triton", "float32", "NHWC", nothing),
        (None, "triton", "float16", "NHWC", nothing),
        (None, "triton", "float32", "NCHW", nothing),
        (None, None, "float32", "NHWC", ClientOptions(authors=("A",))),
        ("onnx", None, "float32", "NHWC", ClientOptions(tile_size=64)),
    ):
        refused("SEG-X090", for_client.require_one_aim, *wrong)


@pytest.mark.parametrize(
    ("crs", "side", "expected"),
    [
        ("EPSG:3857", 2.0, (2.0, 2.0)),
        ("EPSG:32633", 0.5, (0.5, 0.5)),
        ("EPSG:4326", 1e-5, None),
        ("EPSG:2264", 3.0, None),  # feet
        (None, 1.0, None),
    ],
)
def test_sizes_on_the_map_are_the_maps_own(tmp_path, crs, side, expected):
    """Of a map that stretches they are not those on the ground."""
    corner = {"EPSG:4326": (10, 50), "EPSG:3857": (1_000_000, 8_000_000)}
    x, y = corner.get(crs, (392_000, 5_820_000))
    transform = Affine(side, 0, x, 0, -side, y)
    path = make_scene(tmp_path / "a.tif", (20, 30, 3), crs=crs, transform=transform)
    assert ground.sides_on_map(rasters.info(path)) == expected
    if crs == "EPSG:3857":
        assert ground.pixel_sides(rasters.info(path))[0] < 1.2


def test_the_size_on_the_map_goes_before_the_one_on_the_ground(tmp_path):
    order = make_order(tmp_path, "deepness")
    assert order.cm_per_pixel == 50
    limits = export_clients.write("deepness", order, tmp_path / "ground").limits
    assert any("Web Mercator" in limit for limit in limits)
    order = replace(order, on_map=PixelSizes.square(0.8, 0.8))
    assert order.cm_per_pixel == 80
    limits = export_clients.write("deepness", order, tmp_path / "map").limits
    assert not any("Web Mercator" in limit for limit in limits)
    assert replace(order, options=ClientOptions(cm_per_pixel=30)).cm_per_pixel == 30


def test_the_command_prints_place_and_limits(tmp_path, stored_run, capsys):
    command.export(stored_run, client="deepness", out=tmp_path / "out", tile_size=32)
    place, *limits = capsys.readouterr().out.splitlines()
    assert place == str(tmp_path / "out")
    assert len(limits) >= 5
    assert all(limit.startswith("- ") for limit in limits)
    model = onnx.load(tmp_path / "out" / "model.onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[3].dim_value == 32
    refused("SEG-X090", partial(command.export, stored_run, license_id="MIT", out=tmp_path / "b"))
    assert not (tmp_path / "b").exists()
