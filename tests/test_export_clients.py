"""Exports for programs of others, opened by the programs' own code in environments of their own.

A torch unet is trained for a minute on a real scene. `make clients` makes the environments in
``.clients``; the variable TERRAZZO_CLIENTS names another folder of them. What is not there is
skipped.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="needs terrazzo[onnxruntime]")
pytest.importorskip("terrazzo_torch", reason="needs terrazzo-torch")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = Path(os.environ.get("TERRAZZO_CLIENTS", ROOT / ".clients"))
DATA = os.environ.get("TERRAZZO_DATA")
SIDE = 128
CLEAR = 1e-4
"""Two classes whose probabilities differ by less may change places in another order of sums."""
SETTINGS = {
    "training.epochs": "4",
    "validation.every_epochs": "4",
    "model.options.width": "8",
    "data.options.count": "64",
}

ANSWERS = """
import sys
import numpy as np, rasterio
from terrazzo.inference.model import load_model
model = load_model(sys.argv[1])
with rasterio.open(sys.argv[2]) as scene:
    image_HWC = scene.read().transpose(1, 2, 0)
side = int(sys.argv[3])
tiles_THWC = np.stack([
    image_HWC[row : row + side, column : column + side]
    for row in (40, 150, 260) for column in (60, 190, 310)
])
probabilities = np.stack([model.predict_probabilities(tile) for tile in tiles_THWC])
two = np.sort(probabilities, axis=-1)[..., -2:]
np.savez(
    sys.argv[4],
    tiles=tiles_THWC,
    labels=np.stack([model.predict(tile) for tile in tiles_THWC]),
    margin=two[..., 1] - two[..., 0],
)
"""


def environment(name):
    """The Python of an environment; the test is skipped where it is not there."""
    path = ENVIRONMENTS / name / "bin" / "python"
    if not path.exists():
        pytest.skip(f"no environment {path}: make clients")
    return path


def finish(words, folder, **more):
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | more,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def alone(python, script, folder, *arguments):
    """Run a script in another environment, which sees nothing of ours."""
    return finish([python, "-c", script, *arguments], folder, PYTHONPATH="", PYTHONNOUSERSITE="1")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    if DATA is None:
        pytest.skip("TERRAZZO_DATA is not set")
    folder = tmp_path_factory.mktemp("clients")
    assigned = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    recipe = ROOT / "recipes/landsat/unet_torch.toml"
    words = [sys.executable, "-m", "terrazzo"]
    finish([*words, "run", "--config", recipe, "--out", folder / "run", *assigned], folder)
    scene = Path(DATA) / "nc_landsat7/lsat7_2000_b12345.tif"
    answers = [sys.executable, "-c", ANSWERS, folder / "run", scene, SIDE, folder / "answers.npz"]
    finish(answers, folder)
    return folder


@pytest.fixture(scope="module")
def answers(place):
    found = dict(np.load(place / "answers.npz"))
    assert len(np.unique(found["labels"])) >= 3
    return found


def export(place, client, *options):
    words = [sys.executable, "-m", "terrazzo", "export", place / "run", "--for", client]
    told = finish([*words, "--out", place / client, "--overwrite", *options], place)
    assert told.count("\n- ") >= 2  # its limits
    return place / client


def require_equal(labels_THW, answers):
    other = labels_THW != answers["labels"]
    assert labels_THW.shape == answers["labels"].shape
    assert int((other & (answers["margin"] > CLEAR)).sum()) == 0
    assert other.mean() < 1e-4


DEEPNESS = """
import json, sys
import numpy as np, onnxruntime
assert onnxruntime.__version__.startswith("1.17"), onnxruntime.__version__
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
known = session.get_modelmeta().custom_metadata_map
mean, std = (
    np.array(json.loads(known["standardization_" + name]), np.float32) for name in ("mean", "std")
)
assert str(json.loads(known["model_type"])).capitalize() == "Segmentor"
names = json.loads(known["class_names"])
assert sorted(map(int, names)) == list(range(session.get_outputs()[0].shape[1]))
assert session.get_inputs()[0].shape[-2:] == [int(json.loads(known["tile_size"]))] * 2
assert session.get_outputs()[0].shape[-2:] == session.get_inputs()[0].shape[-2:]
tiles = np.load(sys.argv[2])
unit = np.float32(tiles * 1.0 / 255.0)
batch = np.transpose((unit - mean) / std, (0, 3, 1, 2))
answer = np.clip(session.run(None, {session.get_inputs()[0].name: batch})[0], 0, 1)
answer[answer < float(json.loads(known["seg_thresh"]))] = 0
np.save(sys.argv[3], np.argmax(answer, axis=1))
"""


def test_deepness_in_its_runtime(place, answers):
    """ONNX Runtime 1.17, to which the plugin is pinned, and the arithmetic of the plugin."""
    python = environment("deepness")
    folder = export(place, "deepness", "--tile-size", SIDE)
    np.save(place / "tiles.npy", answers["tiles"])
    alone(python, DEEPNESS, place, folder / "model.onnx", "tiles.npy", "labels.npy")
    require_equal(np.load(place / "labels.npy"), answers)


QGIS = """
import os, sys
import numpy as np
from qgis.core import QgsApplication, QgsRasterLayer, QgsRectangle
QgsApplication.setPrefixPath("/usr", True)
program = QgsApplication([], False)
program.initQgis()
layer = QgsRasterLayer(sys.argv[1], "scene")
assert layer.isValid()
centimetres, side = float(sys.argv[2]), int(sys.argv[3])
unit, extent, provider = centimetres / 100, layer.extent(), layer.dataProvider()
provider.enableProviderResampling(True)
provider.setZoomedInResamplingMethod(provider.ResamplingMethod.Bilinear)
provider.setZoomedOutResamplingMethod(provider.ResamplingMethod.Bilinear)
tiles = []
for row in (40, 150, 260):
    for column in (60, 190, 310):
        west, north = extent.xMinimum() + column * unit, extent.yMaximum() - row * unit
        box = QgsRectangle(west, north - side * unit, west + side * unit, north)
        bands = []
        for band in range(1, layer.bandCount() + 1):
            block = provider.block(band, box, side, side)
            bands.append(np.frombuffer(bytes(block.data()), np.uint8).reshape(side, side))
        tiles.append(np.stack(bands, axis=2))
np.save(sys.argv[4], np.stack(tiles))
sys.stdout.flush()
os._exit(0)  # QGIS may fall over its own layers when Python clears them away
"""


def test_deepness_on_tiles_that_qgis_cuts(place, answers):
    """Headless QGIS reads tiles of the scene at the size of pixels that the file tells."""
    python = environment("deepness")
    qgis = os.environ.get("TERRAZZO_QGIS_PYTHON", "/usr/bin/python3")
    needs = [qgis, "-c", "import qgis.core, numpy"]
    if subprocess.run(needs, capture_output=True, check=False).returncode:
        pytest.skip(f"{qgis} has no QGIS: apt install python3-qgis, or TERRAZZO_QGIS_PYTHON")
    import onnx

    folder = export(place, "deepness", "--tile-size", SIDE)
    model = onnx.load(folder / "model.onnx")
    facts = {each.key: json.loads(each.value) for each in model.metadata_props}
    scene = Path(DATA) / "nc_landsat7/lsat7_2000_b12345.tif"
    words = [qgis, "-c", QGIS, scene, facts["resolution"], facts["tile_size"], "qgis.npy"]
    finish(words, place, PYTHONPATH="", QT_QPA_PLATFORM="offscreen")
    np.testing.assert_array_equal(np.load(place / "qgis.npy"), answers["tiles"])
    alone(python, DEEPNESS, place, folder / "model.onnx", "qgis.npy", "labels.npy")
    require_equal(np.load(place / "labels.npy"), answers)


BIOIMAGEIO = """
import sys
import numpy as np
from bioimageio.core import create_prediction_pipeline, predict
from bioimageio.spec import load_model_description
model = load_model_description(sys.argv[1])
pipeline = create_prediction_pipeline(model, weight_format=sys.argv[4])
tiles = np.load(sys.argv[2]).transpose(0, 3, 1, 2)
answers = []
for tile in tiles:
    answer = predict(model=pipeline, inputs={"image": tile[None]})
    answers.append(np.asarray(answer.members["probabilities"].data.data))
    assert answers[-1].shape == (1, 7, *tile.shape[1:])
np.save(sys.argv[3], np.concatenate(answers).argmax(axis=1))
"""


def test_the_bioimage_model_zoo(place, answers):
    python = environment("bioimageio")
    about = ("--author", "Ada Lovelace", "--license", "CC-BY-4.0", "--cite", "Lovelace 1843")
    folder = export(place, "bioimageio", *about, "--doi", "10.5281/zenodo.6200999")
    torch_too = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    formats = ["onnx", "torchscript"] if torch_too.returncode == 0 else ["onnx"]
    own = {"PYTHONPATH": "", "HOME": str(place), "XDG_CACHE_HOME": str(place / "cache")}
    for source in ("rdf.yaml", "run.zip"):
        for each in formats:
            test = [python.with_name("bioimageio"), "test", folder / source]
            finish([*test, f"--weight_format={each}"], place, **own)
    np.save(place / "tiles.npy", answers["tiles"])
    for each in formats:
        script = [python, "-c", BIOIMAGEIO, folder / "run.zip", "tiles.npy", "labels.npy", each]
        finish(script, place, **own)
        require_equal(np.load(place / "labels.npy"), answers)


MLFLOW_WRITE = """
import sys
sys.path += sys.argv[1].split(":")
from terrazzo.cli.app import main
sys.argv = ["terrazzo", *sys.argv[2:]]
sys.exit(main())
"""
MLFLOW_LOAD = """
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
assert model.metadata.metadata["terrazzo"]["dtype"] == "uint8"
tiles = np.load(sys.argv[2])
np.save(sys.argv[3], model.predict(tiles))
try:
    model.predict(tiles.astype(np.float64))
except mlflow.exceptions.MlflowException:
    pass
else:
    raise AssertionError("float64 was taken")
assert "terrazzo" not in sys.modules
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answer_of(url, content, seconds=120):
    request = urllib.request.Request(url, content, {"Content-Type": "application/json"})
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > until:
                raise
            time.sleep(0.5)


def test_mlflow_loads_and_serves(place, answers):
    """Written with the MLflow of its environment, whose other packages are ours."""
    python = environment("mlflow")
    paths = ":".join(path for path in sys.path if path)
    words = ["export", place / "run", "--for", "mlflow", "--out", place / "mlflow"]
    finish([python, "-c", MLFLOW_WRITE, paths, *words], place)
    np.save(place / "tiles.npy", answers["tiles"])
    alone(python, MLFLOW_LOAD, place, place / "mlflow", "tiles.npy", "labels.npy")
    require_equal(np.load(place / "labels.npy"), answers)
    port = free_port()
    serve = [python.with_name("mlflow"), "models", "serve", "-m", place / "mlflow"]
    local = ["--env-manager", "local", "-h", "127.0.0.1", "-p", port, "--workers", 1]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    alone_there = {"PYTHONPATH": "", "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (place / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [str(word) for word in (*serve, *local)],
            cwd=place,
            env=os.environ | alone_there,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        content = json.dumps({"inputs": answers["tiles"][:2].tolist()}).encode()
        found = answer_of(f"http://127.0.0.1:{port}/invocations", content)
        served = np.array(found["predictions"])
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
    require_equal(served, {name: array[:2] for name, array in answers.items()})


TRITON = """
import sys
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as proto
with open(sys.argv[1], encoding="utf-8") as file:
    config = text_format.Parse(file.read(), proto.ModelConfig())
assert (config.name, config.backend) == ("run", "onnxruntime")
assert config.max_batch_size == 8
for each in (*config.input, *config.output):
    print(each.name, proto.DataType.Name(each.data_type), list(each.dims))
assert config.parameters["classes"].string_value.startswith("[")
"""


def test_triton_reads_the_configuration(place, answers):
    python = environment("triton")
    folder = export(place, "triton") / "run"
    told = alone(python, TRITON, place, folder / "config.pbtxt")
    assert told.splitlines() == [
        "image TYPE_UINT8 [5, -1, -1]",
        "probabilities TYPE_FP32 [7, -1, -1]",
        "labels TYPE_UINT8 [-1, -1]",
    ]
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    batch = np.ascontiguousarray(answers["tiles"].transpose(0, 3, 1, 2))
    require_equal(session.run(["labels"], {"image": batch})[0], answers)


def test_arcgis_outside_arcgis(place, answers):
    folder = export(place, "arcgis", "--tile-size", SIDE)
    opened = place / "opened"
    with zipfile.ZipFile(folder / "run.dlpk") as package:
        package.extractall(opened)
    np.save(opened / "tiles.npy", answers["tiles"].transpose(0, 3, 1, 2))
    script = """
import sys
sys.path.insert(0, ".")
import numpy as np
from TerrazzoClassifier import TerrazzoClassifier
function = TerrazzoClassifier()
function.initialize(model="run.emd", device=-1)
function.getConfiguration(padding=0)
answers = []
for tile in np.load("tiles.npy"):
    mask = np.ones(tile.shape, "u1")
    answers.append(function.updatePixels((0, 0), (), {}, raster_pixels=tile, raster_mask=mask))
np.save("labels.npy", np.concatenate([each["output_pixels"] for each in answers]))
assert all((each["output_mask"] == 1).all() for each in answers)
assert "terrazzo" not in sys.modules
"""
    finish([sys.executable, "-I", "-c", script], opened)
    require_equal(np.load(opened / "labels.npy"), answers)
