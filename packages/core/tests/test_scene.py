"""Scenes in, maps out: the grid, the blend, the resume, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.windows import Window

from terrazzo.base import config_parsing
from terrazzo.base.errors import CheckpointError, ConfigError, DataError, ResourceError
from terrazzo.base.progress import Silent
from terrazzo.inference import blending, map_writer, outputs, predict, tiled_prediction
from terrazzo.inference.jobs import ThisProcess
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import image_headers, rasters
from terrazzo.runs import manifest, saved_model
from terrazzo.testing.scenes import LABELS, UTM, make_model, make_scene

DATA = os.environ.get("TERRAZZO_DATA")
SMALL = Tiling(tile=32, overlap=12, batch_size=3)


def run(model: Path, source: Path, out: Path, **settings):
    settings = Settings(**{"tiling": SMALL, **settings})
    return predict.predict(model, [source], out, settings, progress=Silent())[0].tally


def labels_of(path: Path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.mark.parametrize("shape", [(1, 97), (97, 1), (1, 1), (20, 25), (101, 61), (64, 96)])
def test_the_map_has_the_grid_of_the_scene(tmp_path, model, shape):
    source = make_scene(tmp_path / "s.tif", (*shape, 3), nodata=0)
    out = tmp_path / "map.tif"
    tally = run(model, source, out)
    check_same_grid(source, out)
    assert tally.pixels_K.sum() + tally.nodata == shape[0] * shape[1]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 5, 8])
def test_bands_and_types(tmp_path, bands, dtype):
    model = make_model(tmp_path / "model", bands, dtype)
    nodata = float("nan") if dtype == "float32" else 0
    source = make_scene(tmp_path / "s.tif", (45, 70, bands), dtype, nodata=nodata)
    tally = run(model, source, tmp_path / "map.tif")
    check_same_grid(source, tmp_path / "map.tif")
    assert tally.nodata > 0


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "place",
    [
        {"crs": None, "transform": None},
        {"crs": "EPSG:4326", "transform": Affine(0.8, -0.6, 9, 0.6, 0.8, 50)},
    ],
    ids=["no CRS", "rotated"],
)
def test_places(tmp_path, model, place):
    source = make_scene(tmp_path / "s.tif", (50, 40, 3), **place)
    run(model, source, tmp_path / "map.tif")
    check_same_grid(source, tmp_path / "map.tif")


@pytest.mark.skipif(DATA is None, reason="TERRAZZO_DATA is not set")
def test_nc_landsat(tmp_path):
    source = Path(DATA) / "nc_landsat7" / "lsat7_2000_b12345.tif"
    tally = run(make_model(tmp_path / "model", 5), source, tmp_path / "map.tif")
    check_same_grid(source, tmp_path / "map.tif")
    assert tally.nodata == 443 * 489 - rasters.read(source)[1].sum()


def check_same_grid(source: Path, out: Path) -> None:
    before, after = rasters.info(source), rasters.info(out)
    assert (after.rows, after.columns) == (before.rows, before.columns)
    assert after.crs == before.crs
    assert after.transform == before.transform
    assert after.nodata == LABELS.ignore_index
    with rasterio.open(source) as dataset:
        valid_HW = dataset.dataset_mask() > 0  # not by the reader that prediction uses
    labels_HW = labels_of(out)
    np.testing.assert_array_equal(labels_HW != LABELS.ignore_index, valid_HW)
    assert (labels_HW[valid_HW] < len(LABELS)).all()


def test_what_the_map_says_of_itself(tmp_path, model):
    source = make_scene(tmp_path / "s.tif", (80, 600, 3))
    run(model, source, tmp_path / "map.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "map.qml", "map.tif", "map_areas.csv", "model", "s.tif"
    ]  # fmt: skip
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.profile["tiled"]
        assert dataset.compression.name == "deflate"
        assert dataset.colormap(1)[2] == (80, 0, 255, 255)
        assert json.loads(dataset.tags()["TERRAZZO_CLASSES"]) == list(LABELS.names)
        assert dataset.tags()["CLASS_3"] == "class 3"


def whole(model: Path, source: Path):
    """Predict a scene in one piece."""
    _, trainer = saved_model.load(model)
    return trainer.predict(rasters.read(source)[0][None])[0]


@pytest.mark.parametrize("blend", ["linear", "cosine", "none"])
def test_blending_equals_the_whole_image(tmp_path, model, blend):
    """Overlaps are thrown away beyond the model's reach, so tiles leave no trace at all."""
    source = make_scene(tmp_path / "s.tif", (101, 131, 3))
    tiling = Tiling(tile=32, overlap=12, blend=blend, batch_size=3)
    run(model, source, tmp_path / "map.tif", tiling=tiling, probabilities=True)
    with rasterio.open(tmp_path / "map_probabilities.tif") as dataset:
        blended_HWK = np.moveaxis(dataset.read(), 0, 2)
        assert dataset.descriptions == LABELS.names
    expected_HWK = whole(model, source)
    np.testing.assert_allclose(blended_HWK, expected_HWK, atol=2e-6)
    certain = np.diff(np.sort(expected_HWK, axis=2)[..., -2:], axis=2)[..., 0] > 1e-4
    labels_HW = labels_of(tmp_path / "map.tif")
    np.testing.assert_array_equal(labels_HW[certain], expected_HWK.argmax(2)[certain])
    assert certain.mean() > 0.99


def test_without_overlap_seams_show(tmp_path, model):
    """The test above can fail: each tile pads its own edges, and nothing is thrown away here."""
    source = make_scene(tmp_path / "s.tif", (101, 131, 3))
    tiling = Tiling(tile=32, overlap=0)
    run(model, source, tmp_path / "map.tif", tiling=tiling, probabilities=True)
    with rasterio.open(tmp_path / "map_probabilities.tif") as dataset:
        difference = np.abs(np.moveaxis(dataset.read(), 0, 2) - whole(model, source)).max(axis=2)
    assert difference[:, [31, 32]].max() > 0.05
    assert difference[5:27, 5:27].max() < 2e-6


@pytest.mark.parametrize("overlap", [1, 5, 17, 31])
def test_any_overlap_blends(tmp_path, overlap):
    """With a model of single pixels every tile says the same, so every blend must."""
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (75, 66, 3))
    tiling = Tiling(tile=32, overlap=overlap, blend="linear")
    run(model, source, tmp_path / "map.tif", tiling=tiling, probabilities=True)
    with rasterio.open(tmp_path / "map_probabilities.tif") as dataset:
        np.testing.assert_allclose(dataset.read().sum(axis=0), 1, atol=3e-6)


@pytest.mark.parametrize("by_numba", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_best_class_is_argmax(by_numba, dtype):
    find = blending.best_class
    if by_numba:
        pytest.importorskip("numba")
        find = blending.compiled_best_class()
    rng = np.random.default_rng(0)
    probabilities_HWK = rng.integers(0, 4, (40, 2000, 5)).astype(np.float32)  # many equal ones
    best_HW = np.ones((40, 1500), dtype)
    find(probabilities_HWK.reshape(40, -1)[:, 500:8000], 5, best_HW)
    np.testing.assert_array_equal(best_HW, probabilities_HWK[:, 100:1600].argmax(axis=2))


@pytest.mark.parametrize("columns", [32, 40, 75])
@pytest.mark.parametrize("nodata", [None, 0])
def test_pieces_of_a_row_of_tiles_change_no_byte(tmp_path, model, monkeypatch, columns, nodata):
    """Rows that two rows of tiles share, batches and what is no data reach over their seams."""
    source = make_scene(tmp_path / "s.tif", (101, 131, 3), nodata=nodata)
    asked = {"probabilities": True, "uncertainty": "entropy"}
    run(model, source, tmp_path / "whole" / "map.tif", **asked)
    windows = []
    read_stack = rasters.read_stack
    monkeypatch.setattr(
        rasters, "read_stack", lambda *a, **more: windows.append(a[1]) or read_stack(*a, **more)
    )
    monkeypatch.setattr(tiled_prediction, "_PIECE_COLUMNS", columns)
    monkeypatch.setattr(rasters, "block_shape", lambda _: (1, 1))
    run(model, source, tmp_path / "pieces" / "map.tif", **asked)
    read = [window for window in windows if window[2] > predict._SAMPLE_SIDE // 10]
    assert max(window[3] for window in read[-7:]) <= columns  # the first ones look at the values
    for name in ("map.tif", "map_probabilities.tif", "map_uncertainty.tif"):
        pieces, whole = (tmp_path / each / name for each in ("pieces", "whole"))
        assert pieces.read_bytes() == whole.read_bytes(), name


def test_files_of_wide_blocks_are_read_by_whole_rows(tmp_path, monkeypatch):
    """Piece after piece would have the same blocks decoded again."""
    monkeypatch.setattr(tiled_prediction, "_PIECE_COLUMNS", 64)
    for blocks, expected in ((32, 64), (48, 131)):
        source = tmp_path / f"{blocks}.tif"
        profile = {"height": 50, "width": 131, "count": 3, "dtype": "uint8", **UTM}
        tiled = {"tiled": True, "blockxsize": blocks, "blockysize": 16}
        with rasterio.open(source, "w", **profile, **tiled) as dataset:
            dataset.write(np.zeros((3, 50, 131), np.uint8))
        scene = tiled_prediction.Scene.of_file(source, (0, 1, 2))
        assert tiled_prediction._piece_columns(scene) == expected


@pytest.mark.parametrize(("batch_size", "expected"), [(None, 1), (3, 3)])
def test_tiles_of_a_forward_pass(tmp_path, model, batch_size, expected):
    """On a CPU they are predicted one by one unless told otherwise: a batch takes its memory."""
    source = make_scene(tmp_path / "s.tif", (50, 131, 3))
    card, trainer = saved_model.load(model)
    sizes = []

    class Counting:
        device = trainer.device

        def predict(self, images_BHWC):
            sizes.append(len(images_BHWC))
            return trainer.predict(images_BHWC)

    settings = Settings(tiling=Tiling(tile=32, overlap=12, batch_size=batch_size))
    scene = tiled_prediction.Scene.of_file(source, (0, 1, 2))
    order = predict.order_for(scene, card, outputs.Work(source, tmp_path / "m.tif"), settings, ())
    (_,) = map_writer.make_maps([order], ThisProcess(Counting(), lambda: None))
    assert max(sizes) == expected


@pytest.mark.parametrize(("seconds_of_the_model", "expected"), [(0.0, True), (20.0, False)])
def test_numba_is_imported_where_it_saves_time(monkeypatch, seconds_of_the_model, expected):
    """Seeking the best class takes 1 s of a clock that goes on while the model works."""
    pytest.importorskip("numba")
    monkeypatch.setattr(blending, "NUMBA_FROM_PIXELS", 100)
    blending.compiled_best_class.cache_clear()
    now = 0.0

    def clock():
        nonlocal now
        now += 1
        return now

    find = blending.BestClass(clock)
    block = np.random.default_rng(0).random((10, 10 * 3), np.float32)
    for _ in range(4):
        now += seconds_of_the_model
        labels_RW = np.full((10, 10), 9, np.uint8)
        find(block, 3, labels_RW)
        np.testing.assert_array_equal(labels_RW, block.reshape(10, 10, 3).argmax(axis=2))
    assert (blending.compiled_best_class.cache_info().currsize > 0) == expected
    compiled = blending.compiled_best_class()
    assert blending.BestClass()._find is compiled  # what is there is taken at once


def test_best_class_of_missing_numbers():
    """By NumPy or by numba: a class that is NaN is never the best, unless it is the first."""
    kernel = pytest.importorskip("numba") and blending.compiled_best_class()
    nan = np.nan
    block = np.array([[0.1, nan, 0.3], [nan, 0.2, 0.3], [0.2, nan, 0.1]], np.float32)
    found = np.full((2, 3, 1), 9, np.uint8)
    blending.best_class(block, 3, found[0])
    kernel(block, 3, found[1])
    assert found[0].ravel().tolist() == found[1].ravel().tolist() == [2, 0, 0]


def test_seam_score(tmp_path):
    tally = tiled_prediction.Tally(np.array([5, 5]), 0, seams=(100, 30), elsewhere=(1000, 100))
    assert tally.seam_score == pytest.approx(3)
    assert np.isnan(tiled_prediction.Tally(np.array([1]), 0, (0, 0), (9, 3)).seam_score)


KILLS = ("sync:3", "sync:5", "sync:6", "sync:10", "rename:1", "renamed:1")
"""Inside the first and second groups of rows, before a line of the journal, about the renames."""


def command(model: Path, source: Path, out: Path, *more: str) -> list[str]:
    tiling = ("--tile", "32", "--overlap", "12", "--probabilities")
    return ["predict", str(model), str(source), "--out", str(out), *tiling, *more]


def process(module: tuple[str, ...], arguments: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *module, *arguments], capture_output=True, text=True, check=False
    )


MAIN = ("terrazzo.testing.kill", "step:0")  # never dies


def test_killed_and_resumed_maps_are_equal(tmp_path, model):
    source = make_scene(tmp_path / "s.tif", (100, 90, 3), nodata=0)
    done = process(MAIN, command(model, source, tmp_path / "straight.tif"))
    assert done.returncode == 0, done.stderr
    names = ("{}.tif", "{}_probabilities.tif", "{}.qml")
    expected = [(tmp_path / name.format("straight")).read_bytes() for name in names]
    for kill in KILLS:
        stem = kill.replace(":", "")
        out = tmp_path / f"{stem}.tif"
        killed = process(("terrazzo.testing.kill", kill), command(model, source, out))
        assert killed.returncode == -signal.SIGKILL, (kill, killed.stderr)
        assert not out.exists(), kill
        resumed = process(MAIN, command(model, source, out, "--resume"))
        assert resumed.returncode == 0, (kill, resumed.stderr)
        assert ("rows finished" in resumed.stderr) == (kill != "sync:3")
        written = [(tmp_path / name.format(stem)).read_bytes() for name in names]
        assert written == expected, kill
        assert not list(tmp_path.glob(".*.partial"))


def test_a_resume_does_only_what_is_left(tmp_path, model, monkeypatch):
    source = make_scene(tmp_path / "s.tif", (200, 40, 3))
    out = tmp_path / "map.tif"
    monkeypatch.setattr(predict, "scene_unlike_training", lambda *_: None)  # it reads a few windows
    asked = []
    original = rasters.read_stack

    def counted(parts, window, **rules):
        asked.append(window[0])
        if len(asked) == 6:
            raise DataError("SEG-D011", "cut off")
        return original(parts, window, **rules)

    monkeypatch.setattr(rasters, "read_stack", counted)
    with pytest.raises(DataError, match="cut off"):
        run(model, source, out, probabilities=True)
    assert not out.exists()
    firsts = []
    monkeypatch.setattr(
        rasters,
        "read_stack",
        lambda parts, window, **k: firsts.append(window[0]) or original(parts, window, **k),
    )
    run(model, source, out, probabilities=True, resume=True)
    assert min(firsts) >= 60
    run(model, source, tmp_path / "straight.tif", probabilities=True)
    for end in (".tif", "_probabilities.tif"):
        resumed, straight = tmp_path / f"map{end}", tmp_path / f"straight{end}"
        assert resumed.read_bytes() == straight.read_bytes()


@pytest.mark.parametrize("change", ["weights", "tiling", "scene"])
def test_resume_with_something_else_is_refused(tmp_path, model, monkeypatch, change):
    source = make_scene(tmp_path / "s.tif", (100, 40, 3))
    out = tmp_path / "map.tif"
    monkeypatch.setattr(map_writer, "_write_files", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(model, source, out)
    monkeypatch.undo()
    settings = {}
    match change:
        case "weights":
            path = model / "weights.safetensors"
            path.write_bytes(path.read_bytes()[:-1] + b"\x01")
            (model / "MANIFEST.json").unlink()
            manifest.write(model, 1)  # another model, not a damaged one
        case "tiling":
            settings = {"tiling": Tiling(tile=48, overlap=12)}
        case "scene":
            make_scene(source, (100, 40, 3), seed=1)
    with pytest.raises(CheckpointError, match="SEG-C011"):
        run(model, source, out, resume=True, **settings)
    with pytest.raises(CheckpointError, match="was begun and not finished"):
        run(model, source, out, **settings)
    run(model, source, out, overwrite=True, **settings)
    assert out.exists()


@pytest.mark.parametrize("layer", ["labels.rows", "map.tif"])
def test_disk_full(tmp_path, model, layer):
    """A limit on the size of files stands for a full disk; it needs no rights."""
    source = make_scene(tmp_path / "s.tif", (300, 300, 3))
    out = tmp_path / "map.tif"
    # Noise in 6 classes takes 90 kB as labels and about 36 kB as GeoTIFF.
    limit = 30_000
    if layer == "map.tif":
        run_partly = (
            "from terrazzo.inference import map_writer as m\n"
            "import resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "whole = m._write_files\n"
            "def limited(order, rows, wait):\n"
            "    list(rows.groups('labels', 256, wait))\n"  # then all rows are there
            f"    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            "    return whole(order, rows, wait)\n"
            "m._write_files = limited\n"
        )
    else:
        run_partly = (
            "import resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        )
    code = run_partly + "import sys\nfrom terrazzo.cli.app import main\nmain()\n"
    arguments = command(model, source, out)
    arguments.remove("--probabilities")
    full = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert full.returncode == ResourceError.exit_code, full.stderr
    assert "SEG-R004" in full.stderr
    assert "free on this disk" in full.stderr
    assert not out.exists()
    resumed = process(MAIN, [*arguments, "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert out.exists()


def test_silently_lost_bytes_are_found(tmp_path, model, monkeypatch):
    """GDAL may report nothing when the disk was full: only reading back finds it."""
    source = make_scene(tmp_path / "s.tif", (60, 60, 3))
    original = rasters.write_rasters._refuse_unlike

    def damage(path, sums):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size - 300)
            file.write(bytes(64))
        return original(path, sums)

    monkeypatch.setattr(rasters.write_rasters, "_refuse_unlike", damage)
    with pytest.raises(ResourceError, match="SEG-R004"):
        run(model, source, tmp_path / "map.tif")
    assert not (tmp_path / "map.tif").exists()


def test_cloud_optimised(tmp_path, model):
    source = make_scene(tmp_path / "s.tif", (700, 900, 3))
    tiling = Tiling(tile=256, overlap=32)
    run(model, source, tmp_path / "plain.tif", tiling=tiling)
    run(model, source, tmp_path / "cog.tif", tiling=tiling, cloud_optimised=True)
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]
        assert dataset.colormap(1)[1] == (40, 0, 255, 255)
        assert dataset.nodata == 255
    np.testing.assert_array_equal(
        labels_of(tmp_path / "cog.tif"), labels_of(tmp_path / "plain.tif")
    )


@pytest.mark.skipif(importlib.util.find_spec("rio_cogeo") is None, reason="no rio-cogeo")
def test_other_tools_find_the_files_valid(tmp_path, model):
    source = make_scene(tmp_path / "s.tif", (700, 900, 3), nodata=0)
    run(model, source, tmp_path / "cog.tif", cloud_optimised=True, tiling=Tiling(tile=256))
    code = (
        "import sys; from rasterio.rio.main import main_group as rio; path = sys.argv[1]\n"
        "rio(['info', path], standalone_mode=False)\n"
        "rio(['cogeo', 'validate', '--strict', path], standalone_mode=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "cog.tif"],
        capture_output=True,
        text=True,
        check=False,
    )
    info, _, validity = done.stdout.partition("\n")
    assert json.loads(info)["shape"] == [700, 900]
    assert "is a valid cloud optimized GeoTIFF" in validity, done


def refusal(kind, *arguments, **settings):
    with pytest.raises(kind) as caught:
        run(*arguments, **settings)
    return caught.value


def test_bands_are_checked(tmp_path):
    model = make_model(tmp_path / "model", names=("red", "green", "blue"))
    names = ("blue", "green", "red")
    source = make_scene(tmp_path / "s.tif", (40, 40, 3), names=names)
    out = tmp_path / "map.tif"
    error = refusal(DataError, model, source, out)
    assert error.code == "SEG-D020"
    assert "blue, green, red" in str(error)
    assert "--bands red,green,blue" in str(error)
    run(model, source, out, bands=("red", "green", "blue"))
    run(model, source, tmp_path / "by_number.tif", bands=("3", "2", "1"))
    assert out.read_bytes() == (tmp_path / "by_number.tif").read_bytes()
    error = refusal(ConfigError, model, source, tmp_path / "x.tif", bands=("red", "green", "nir"))
    assert "'nir'" in str(error)
    five = make_scene(tmp_path / "five.tif", (40, 40, 5))
    assert "5 bands" in str(refusal(DataError, model, five, tmp_path / "x.tif"))
    deep = make_scene(tmp_path / "deep.tif", (40, 40, 3), "uint16", names=("red", "green", "blue"))
    error = refusal(DataError, model, deep, tmp_path / "x.tif")
    assert (error.code, error.observed, error.allowed) == ("SEG-D019", "uint16", "uint8")


def test_alpha_and_inner_mask_are_honoured(tmp_path, model):
    image_HWC = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    image_HWC[..., 3] = 255
    image_HWC[5:10, 6:30, 3] = 0
    profile = {"driver": "GTiff", "height": 40, "width": 50, "dtype": "uint8", **UTM}
    with rasterio.open(tmp_path / "alpha.tif", "w", count=4, **profile) as dataset:
        dataset.write(np.moveaxis(image_HWC, 2, 0))  # GDAL takes a fourth 8-bit band for alpha
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "mask.tif", "w", count=3, **profile) as dataset,
    ):
        dataset.write(np.moveaxis(image_HWC[..., :3], 2, 0))
        dataset.write_mask(image_HWC[..., 3])
    for name in ("alpha", "mask"):
        run(model, tmp_path / f"{name}.tif", tmp_path / f"{name}_map.tif")
        expected = image_HWC[..., 3] > 0
        np.testing.assert_array_equal(labels_of(tmp_path / f"{name}_map.tif") != 255, expected)


def test_value_zero_is_ordinary_unless_declared(tmp_path, model):
    image_HWC = np.zeros((40, 40, 3), np.uint8)
    rasters.write(tmp_path / "s.tif", image_HWC, **UTM)
    tally = run(model, tmp_path / "s.tif", tmp_path / "map.tif")
    assert (tally.nodata, tally.pixels_K.sum()) == (0, 1600)


def test_bad_scenes(tmp_path):
    model = make_model(tmp_path / "model", 1, "float32")
    image_HWC = np.random.default_rng(0).random((70, 50, 1), np.float32)
    image_HWC[41, 17] = np.inf
    rasters.write(tmp_path / "inf.tif", image_HWC, **UTM)
    error = refusal(DataError, model, tmp_path / "inf.tif", tmp_path / "map.tif")
    assert error.code == "SEG-D022"
    assert "band 1 at row 41, column 17" in str(error)
    assert not (tmp_path / "map.tif").exists()


def test_a_scene_without_data_gets_a_map_without_data_and_stops_no_other(tmp_path):
    model = make_model(tmp_path / "model", 1, "float32")
    image_HWC = np.random.default_rng(0).random((70, 50, 1), np.float32)
    for name, values in (
        ("a", image_HWC),
        ("b", np.full_like(image_HWC, np.nan)),
        ("c", image_HWC),
    ):
        (tmp_path / "in").mkdir(exist_ok=True)
        rasters.write(tmp_path / "in" / f"{name}.tif", values, nodata=np.nan, **UTM)
    said = []
    progress = SimpleNamespace(say=said.append, advance=Silent().advance)
    polygons = tmp_path / "polygons" if importlib.util.find_spec("pyogrio") is not None else None
    settings = Settings(tiling=SMALL, probabilities=True, polygons=polygons)
    made = predict.predict(model, tmp_path / "in", tmp_path / "out", settings, progress=progress)
    assert [each.path.name for each in made] == ["a.tif", "b.tif", "c.tif"]
    assert (labels_of(tmp_path / "out" / "b.tif") == LABELS.ignore_index).all()
    assert (labels_of(tmp_path / "out" / "c.tif") != LABELS.ignore_index).all()
    (warning,) = [line for line in said if "SEG-D023" in line]
    assert str(tmp_path / "in" / "b.tif") in warning
    assert "all 3500 pixels are nodata" in warning
    if polygons is not None:
        assert sorted(path.name for path in polygons.iterdir()) == ["a.gpkg", "b.gpkg", "c.gpkg"]
    assert not list((tmp_path / "out").glob(".*"))
    again = Settings(tiling=SMALL, probabilities=True, polygons=polygons, resume=True)
    assert predict.predict(model, tmp_path / "in", tmp_path / "out", again) == []


def test_nodata_outside_the_type_is_refused(tmp_path, model):
    source = make_scene(tmp_path / "s.tif", (40, 40, 3), nodata=77)
    data = source.read_bytes()
    assert data.count(b"77\0") == 1  # the text of the tag GDAL_NODATA
    source.write_bytes(data.replace(b"77\0", b"-1\0"))
    error = refusal(DataError, model, source, tmp_path / "map.tif")
    assert error.code == "SEG-D024"
    assert "nodata -1 in bands of uint8" in str(error)


@pytest.mark.parametrize("big", ["yes", "no"])
@pytest.mark.parametrize(("nodata", "text"), [(7, "7"), (250, "250"), (None, None)])
def test_nodata_is_read_from_the_file_itself(tmp_path, big, nodata, text):
    profile = {"driver": "GTiff", "height": 4, "width": 4, "count": 1, "dtype": "uint8", **UTM}
    with rasterio.open(tmp_path / "s.tif", "w", nodata=nodata, bigtiff=big, **profile) as dataset:
        dataset.write(np.zeros((1, 4, 4), np.uint8))
    assert image_headers.tiff_nodata(tmp_path / "s.tif") == text


def test_damaged_and_disguised_scenes(tmp_path, model):
    whole_scene = make_scene(tmp_path / "s.tif", (200, 200, 3))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole_scene.read_bytes()[:60_000])
    assert refusal(DataError, model, cut, tmp_path / "m.tif").code in ("SEG-D011", "SEG-D029")
    vrt = tmp_path / "vrt.tif"
    vrt.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    assert refusal(DataError, model, vrt, tmp_path / "m.tif").code == "SEG-D030"
    remote = Path("/vsicurl/http:/x.invalid/a.tif")
    assert refusal(DataError, model, remote, tmp_path / "m.tif").code == "SEG-D030"
    holes = tmp_path / "holes.tif"
    profile = {"driver": "GTiff", "height": 512, "width": 512, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        holes, "w", tiled=True, sparse_ok=True, blockxsize=256, blockysize=256, **profile, **UTM
    ) as dataset:
        dataset.write(np.ones((3, 256, 256), np.uint8), window=Window(0, 0, 256, 256))
    assert refusal(DataError, model, holes, tmp_path / "m.tif").code == "SEG-D029"
    assert not (tmp_path / "m.tif").exists()


def test_a_sidecar_changes_nothing(tmp_path, model):
    source = make_scene(tmp_path / "s.tif", (40, 40, 3))
    run(model, source, tmp_path / "before.tif")
    Path(f"{source}.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><NoDataValue>7</NoDataValue></PAMRasterBand>"
        "</PAMDataset>"
    )
    rasters.handles._handles.open.clear()
    run(model, source, tmp_path / "after.tif")
    assert (tmp_path / "before.tif").read_bytes() == (tmp_path / "after.tif").read_bytes()


def test_outputs_that_would_destroy_something_are_refused(tmp_path, model):
    source = make_scene(tmp_path / "s.tif", (40, 40, 3))
    before = source.read_bytes()
    assert refusal(ConfigError, model, source, source, overwrite=True).code == "SEG-X032"
    assert source.read_bytes() == before
    run(model, source, tmp_path / "map.tif")
    assert refusal(CheckpointError, model, source, tmp_path / "map.tif").code == "SEG-C002"
    with pytest.raises(ConfigError, match="smaller than tile"):
        config_parsing.parse(Tiling, {"tile": 64, "overlap": 64}, where="here")


@pytest.mark.parametrize("image_size", [None, (20, 24)])
def test_images_and_folders(tmp_path, image_size):
    model = make_model(tmp_path / "model", image_size=image_size)
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.jpg"):
        Image.fromarray(rng.integers(0, 256, (33, 47, 3), np.uint8)).save(tmp_path / "in" / name)
    make_scene(tmp_path / "in" / "c.tif", (40, 40, 3))
    out = tmp_path / "out"
    predict.predict(model, [tmp_path / "in"], out, Settings(tiling=SMALL), progress=Silent())
    found = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert found == [
        *("a.png", "a_overlay.png", "c.qml", "c.tif", "c_areas.csv", "classes.json", "legend.png"),
        *("sub/b.png", "sub/b_overlay.png"),
    ]
    for name in ("a", "sub/b"):
        with Image.open(out / f"{name}.png") as mask:
            assert (mask.size, mask.mode) == ((47, 33), "P")
            assert np.asarray(mask).max() < 6
        with Image.open(out / f"{name}_overlay.png") as overlay:
            assert (overlay.size >= (47, 33), overlay.mode) == (True, "RGB")
