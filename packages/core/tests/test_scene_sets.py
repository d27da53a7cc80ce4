"""A scene that lies in several files: trained on, scored and predicted as one file of all bands."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tomli_w
from affine import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.data.datasets import geotiff
from terrazzo.data.scene_stack import Placing, Raster, all_bands, join
from terrazzo.inference import map_writer, scene_lists
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Scene, Tiling
from terrazzo.io import rasters
from terrazzo.io.rasters import Part
from terrazzo.runs import saved_model
from terrazzo.testing.scenes import make_model
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

ROWS, COLUMNS = 96, 128
FINE: dict[str, Any] = {
    "crs": "EPSG:32633",
    "transform": Affine(10, 0, 392_000, 0, -10, 5_820_000),
}
COARSE = {"crs": "EPSG:32633", "transform": Affine(60, 0, 391_970, 0, -60, 5_820_030)}
IN_DEGREES = {"crs": "EPSG:4326", "transform": Affine(0.0009, 0, 13.395, 0, -0.0006, 52.525)}
NAMES = ("B02", "B03", "B01", "height")
SMALL = Tiling(tile=64, overlap=20, batch_size=3)
LAYOUTS = ({}, {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate"})
LABELS = """
name = "m"
classes = [
    { name = "a", colour = "#000000", raw = [0] },
    { name = "b", colour = "#FF0000", raw = [1] },
]
"""


def write(path, values_HWC, place, names=None, **profile):
    """Write by rasterio itself."""
    rows, columns, bands = values_HWC.shape
    size = {"height": rows, "width": columns, "count": bands, "dtype": values_HWC.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **{**size, **place, **profile}) as dataset:
        dataset.write(np.moveaxis(values_HWC, 2, 0))
        if names:
            dataset.descriptions = names


def on_grid(path, resampling, nodata):
    """Return a raster on the grid of the scene, by rasterio alone, a block at a time."""
    settings: dict[str, Any] = {"resampling": resampling}
    if nodata is not None:
        settings |= {"src_nodata": nodata, "nodata": nodata, "UNIFIED_SRC_NODATA": "PARTIAL"}
    with (
        rasterio.open(path) as source,
        WarpedVRT(source, width=COLUMNS, height=ROWS, tolerance=1e-3, **FINE, **settings) as warped,
    ):
        blocks = [warped.read(window=Window(0, row, COLUMNS, 32)) for row in range(0, ROWS, 32)]
    return np.concatenate(blocks, axis=1)[0]


def make_files(root: Path, dtype="uint16", nodata=None, height_dtype=None, **layout) -> None:
    """Write a file for each band, and ``stacked.tif`` of the same pixels."""
    rng = np.random.default_rng(0)
    top = 1.0 if dtype.startswith("f") else float(np.iinfo(dtype).max)
    label_HW = np.kron(rng.integers(0, 2, (ROWS // 8, COLUMNS // 8)), np.ones((8, 8), int))
    pixels = {}
    for name in NAMES:
        shape = {"B01": (18, 24), "height": (60, 70)}.get(name, (ROWS, COLUMNS))
        values_HW = rng.random(shape) * 0.3 + 0.3
        if shape == label_HW.shape:
            values_HW += 0.3 * label_HW
        pixels[name] = (values_HW * top).astype(dtype)
        if nodata is not None:
            pixels[name][:3, : 4 + len(name)] = nodata
            pixels[name][5:12, 10:20] = nodata  # of the heights, the corner of the scene
    pixels["height"] = pixels["height"].astype(height_dtype or dtype)
    places = {"B01": COARSE, "height": IN_DEGREES}
    for name, values_HW in pixels.items():
        place = places.get(name, FINE)
        write(root / f"{name}.tif", values_HW[..., None], place, nodata=nodata, **layout)
    wanted = height_dtype if height_dtype not in (None, dtype) else dtype
    stacked = [pixels["B02"], pixels["B03"]]
    stacked.append(on_grid(root / "B01.tif", Resampling.bilinear, nodata))
    stacked.append(on_grid(root / "height.tif", Resampling.cubic, nodata))
    stacked_HWC = np.stack(stacked, axis=2).astype("float32" if wanted != dtype else dtype)
    write(root / "stacked.tif", stacked_HWC, FINE, NAMES, nodata=nodata, **layout)
    write(root / "label.tif", label_HW.astype(np.uint8)[..., None], FINE)
    (root / "m.toml").write_text(LABELS)


FILES = ("B02.tif", "B03.tif", "B01.tif", {"file": "height.tif", "resampling": "cubic"})


def recipe(root: Path, images) -> Config:
    options = {
        "scenes": [{"images": list(images), "label": "label.tif"}],
        "band_names": list(NAMES),
        "align": "reproject",
        "chip": 32,
        "block": 1,
        "buffer": 0,
    }
    data = {"format": "geotiff", "root": str(root), "labels": str(root / "m.toml")}
    return Config.model_validate(
        {
            "backend": "reference",
            "name": "sets",
            "data": {**data, "options": options},
            "model": {"name": "pixel_softmax", "options": {"features": "neighbourhood"}},
            "training": {"batch_size": 2, "steps": 4, "schedule": {"learning_rate": 0.3}},
            "checkpoint": {"every_steps": 2},
        }
    )


def scenes_toml(root: Path, images=FILES, **more) -> Path:
    table = {
        "align": "reproject",
        "band_names": list(NAMES),
        "scenes": [{"name": "north", "images": list(images), "label": "label.tif"}],
    }
    path = root / "scenes.toml"
    path.write_text(tomli_w.dumps({**table, **more}))
    return path


def sets(source, **allowed):
    return scene_lists.read(str(source), **allowed)


def run(model, inputs, out, **settings):
    return predict(model, inputs, out, Settings(**{"tiling": SMALL, **settings}), progress=Silent())


@pytest.mark.parametrize(
    ("dtype", "nodata", "height_dtype", "layout"),
    [
        ("uint16", None, None, 0),
        ("uint16", 0, None, 1),
        ("uint8", 255, None, 1),
        ("float32", -9999.0, None, 0),
        ("uint16", None, "float32", 1),
        ("uint8", None, "int16", 0),
    ],
)
def test_many_files_are_one_file_of_all_bands(tmp_path, dtype, nodata, height_dtype, layout):
    """Weights, scores and maps are those of the stacked file, in every byte."""
    make_files(tmp_path, dtype, nodata, height_dtype, **LAYOUTS[layout])
    several = train(recipe(tmp_path, FILES), tmp_path / "several", progress=Silent()).path
    stacked = train(recipe(tmp_path, ["stacked.tif"]), tmp_path / "one", progress=Silent()).path
    weights = [path / "model" / "weights.safetensors" for path in (several, stacked)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    scores = [evaluate(path, "val", progress=Silent()).scores for path in (several, stacked)]
    assert scores[0].mean_iou == scores[1].mean_iou
    run(stacked, tmp_path / "stacked.tif", tmp_path / "stacked_map.tif", probabilities=True)
    run(several, sets(scenes_toml(tmp_path)), tmp_path / "north.tif", probabilities=True)
    for end in ("", "_probabilities"):
        maps = [tmp_path / f"{stem}{end}.tif" for stem in ("north", "stacked_map")]
        assert maps[0].read_bytes() == maps[1].read_bytes()
    with rasterio.open(tmp_path / "north.tif") as dataset:
        assert (dataset.read(1) == 255).any() == (nodata is not None)


def trained(root: Path, **files):
    make_files(root, **files)
    return train(recipe(root, FILES), root / "run", progress=Silent()).path


def model_of(root: Path, names=NAMES, dtype="uint16") -> Path:
    return make_model(root / "model", len(names), dtype, names=names)


def test_killed_and_resumed_by_several_workers(tmp_path):
    """One process straight on, or killed and taken up by two: the same bytes."""
    make_files(tmp_path, nodata=0)
    model = model_of(tmp_path)
    listed = scenes_toml(tmp_path)
    tiling = ("--tile", "32", "--overlap", "12", "--probabilities")

    def command(module, out, *more):
        words = ("predict", model, "--scene", listed, "--out", out, *tiling, *more)
        line = [sys.executable, "-m", *module, *map(str, words)]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    straight = command(("terrazzo",), tmp_path / "straight.tif")
    assert straight.returncode == 0, straight.stderr
    assert "B02.tif and 3 other files" in straight.stderr
    out = tmp_path / "killed.tif"
    killed = command(("terrazzo.testing.kill", "sync:6"), out)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = command(("terrazzo",), out, "--resume", "--workers", "2")
    assert resumed.returncode == 0, resumed.stderr
    assert "rows finished" in resumed.stderr
    for end in (".tif", "_probabilities.tif"):
        pair = [tmp_path / f"{stem}{end}" for stem in ("killed", "straight")]
        assert pair[0].read_bytes() == pair[1].read_bytes()


def test_a_window_of_a_warped_raster_is_that_of_the_whole(tmp_path):
    """GDAL warps large windows at once, and rounds otherwise than block by block."""
    rng = np.random.default_rng(0)
    size = (700, 900)
    coarse_HWC = (rng.random((120, 152, 1)) * 60_000).astype(np.uint16)
    write(tmp_path / "coarse.tif", coarse_HWC, COARSE, nodata=0)
    write(tmp_path / "fine.tif", np.zeros((*size, 1), np.uint8), FINE)
    part = Part(tmp_path / "coarse.tif", None, rasters.info(tmp_path / "fine.tif"))
    whole_HWC = rasters.read_stack([part], (0, 0, *size)).image_HWC
    strips = [
        rasters.read_stack([part], (row, 0, 100, 900)).image_HWC for row in range(0, 700, 100)
    ]
    np.testing.assert_array_equal(np.concatenate(strips), whole_HWC)


@pytest.mark.parametrize("nodata", [None, 0])
def test_pixels_beside_a_file_are_no_pixels_and_its_nodata_is_of_its_band(tmp_path, nodata):
    write(tmp_path / "fine.tif", np.full((60, 60, 1), 7, np.uint8), FINE)
    half_HWC = np.full((10, 5, 1), 9, np.uint8)
    half_HWC[:5] = 0
    place = {**FINE, "transform": Affine(60, 0, 392_000, 0, -60, 5_820_000)}
    write(tmp_path / "half.tif", half_HWC, place, nodata=nodata)
    grid = rasters.info(tmp_path / "fine.tif")
    parts = [Part(tmp_path / "fine.tif"), Part(tmp_path / "half.tif", None, grid)]
    _, valid_HW, present_HWC = rasters.read_stack(parts, (0, 0, 60, 60))
    assert valid_HW[:, :30].all()
    assert not valid_HW[:, 30:].any()
    assert present_HWC[:20, :30, 1].any() == (nodata is None)
    assert present_HWC[:, :30, 0].all()


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average", "mode"])
def test_each_file_is_resampled_as_it_says(tmp_path, resampling):
    make_files(tmp_path)
    images = ["B02.tif", {"file": "B01.tif", "resampling": resampling}]
    scenes = ({"images": images, "label": "label.tif"},)
    options = geotiff.Options(scenes=scenes, chip=64, align="reproject", buffer=0)
    (scene,) = geotiff.open_split(tmp_path, "train", options).open_scenes
    read_HWC = scene.read_image((0, 0, ROWS, COLUMNS)).image_HWC
    expected_HW = on_grid(tmp_path / "B01.tif", Resampling[resampling], None)
    np.testing.assert_array_equal(read_HWC[..., 1], expected_HW)
    listed = scenes_toml(tmp_path, images, band_names=["B02", "B01"])
    run(model_of(tmp_path, ("B02", "B01")), sets(listed), tmp_path / "map.tif")
    assert rasters.info(tmp_path / "map.tif").rows == ROWS


def test_a_palette_is_not_mixed(tmp_path):
    make_files(tmp_path)
    write(tmp_path / "palette.tif", np.zeros((20, 20, 1), np.uint8), COARSE, photometric="palette")
    with rasterio.open(tmp_path / "palette.tif", "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3, 255)})
    images = ["B02.tif", {"file": "palette.tif", "resampling": "cubic"}]
    options = geotiff.Options(
        scenes=({"images": images, "label": "label.tif"},), align="reproject", chip=64
    )
    with pytest.raises(ConfigError, match="SEG-X103"):
        geotiff.open_split(tmp_path, "train", options)
    with pytest.raises(ConfigError, match="SEG-X002"):
        scene_lists.read(str(scenes_toml(tmp_path, [{"file": "B02.tif", "resampling": "best"}])))


def test_other_grids_are_refused_unless_reprojected(tmp_path):
    make_files(tmp_path)
    model = model_of(tmp_path)
    listed = scenes_toml(tmp_path, align="exact")
    with pytest.raises(DataError, match="--align reproject") as caught:
        run(model, sets(listed), tmp_path / "map.tif")
    assert "B01.tif" in str(caught.value)
    run(model, sets(listed), tmp_path / "map.tif", align="reproject")
    run(model, sets(scenes_toml(tmp_path)), tmp_path / "same.tif")
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "same.tif").read_bytes()
    with pytest.raises(ConfigError, match="SEG-X094"):
        run(model, [tmp_path / "stacked.tif"], tmp_path / "other.tif", align="reproject")


@pytest.mark.parametrize("changed", ["B01.tif", "height.tif", "resampling"])
def test_a_resume_finds_every_file_unchanged(tmp_path, monkeypatch, changed):
    make_files(tmp_path)
    model = model_of(tmp_path)
    out = tmp_path / "map.tif"
    monkeypatch.setattr(map_writer, "_write_files", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(model, sets(scenes_toml(tmp_path)), out)
    monkeypatch.undo()
    images = list(FILES)
    if changed == "resampling":
        images[3] = "height.tif"
    else:
        path = tmp_path / changed
        with rasterio.open(path, "r+") as dataset:
            dataset.write(dataset.read() + 1)
    with pytest.raises(CheckpointError, match="SEG-C011"):
        run(model, sets(scenes_toml(tmp_path, images)), out, resume=True)
    run(model, sets(scenes_toml(tmp_path, images)), out, overwrite=True)


def test_a_training_run_finds_every_file_unchanged(tmp_path):
    folder = trained(tmp_path)
    (folder / "evaluation" / "test.json").unlink()
    with rasterio.open(tmp_path / "height.tif", "r+") as dataset:
        dataset.write(dataset.read() + 1)
    with pytest.raises(CheckpointError, match="SEG-C015"):
        train(recipe(tmp_path, FILES), folder, resume=True, progress=Silent())


def test_the_order_of_files_is_the_lists_and_of_bands_the_models(tmp_path):
    """Bands are found by name, wherever they lie; the first file listed gives the grid."""
    make_files(tmp_path)
    expected = tmp_path / "expected.tif"
    model = model_of(tmp_path)
    run(model, sets(scenes_toml(tmp_path)), expected)
    order = (1, 3, 0, 2)
    listed = scenes_toml(tmp_path, [FILES[n] for n in order], band_names=[NAMES[n] for n in order])
    run(model, sets(listed), tmp_path / "map.tif")
    assert (tmp_path / "map.tif").read_bytes() == expected.read_bytes()
    # The first bands of a file of several, with one of another file between them.
    images = ["stacked.tif", "B02.tif"]
    listed = scenes_toml(tmp_path, images, band_names=["blue", *NAMES[1:], "B02"])
    run(model, sets(listed), tmp_path / "mixed.tif")
    assert (tmp_path / "mixed.tif").read_bytes() == expected.read_bytes()


def test_a_scene_of_several_files_travels_to_other_processes(tmp_path):
    make_files(tmp_path)
    files = [Raster(tmp_path / n, rasters.info(tmp_path / n)) for n in ("B02.tif", "B01.tif")]
    stack = join(files, all_bands(files), Placing(align="reproject"), apply_scale=False)
    scene = Scene(files[0].path, stack.parts, dtype=stack.dtype)
    other = pickle.loads(pickle.dumps(scene))
    window = (3, 5, 40, 60)
    np.testing.assert_array_equal(other.read(window).image_HWC, scene.read(window).image_HWC)
    assert other.info.crs == scene.info.crs


def test_other_scales_than_those_of_training_are_refused_in_any_file(tmp_path):
    make_files(tmp_path)
    folder = trained(tmp_path)
    with rasterio.open(tmp_path / "B01.tif", "r+") as dataset:
        dataset.scales = (0.0001,)
    with pytest.raises(DataError, match="SEG-D053"):
        run(folder, sets(scenes_toml(tmp_path)), tmp_path / "map.tif")
    assert saved_model.read_card(folder / "model").bands.names == NAMES


@pytest.mark.parametrize(("bands", "shown"), [(("B01",), ""), (("B01", "B03"), "B03.tif")])
def test_a_scene_is_shown_by_a_file_that_lies_on_its_grid(tmp_path, bands, shown):
    """The pixels beside truth and prediction are read without bringing them onto the grid."""
    make_files(tmp_path)
    options = recipe(tmp_path, FILES).data.options
    chosen = geotiff.Options.model_validate({**options, "bands": bands})
    (placed,) = geotiff.open_split(tmp_path, "test", chosen).scenes
    assert placed.image == (str(tmp_path / shown) if shown else "")
