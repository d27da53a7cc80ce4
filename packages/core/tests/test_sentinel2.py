"""Sentinel-2 folders: bands by name, one grid, reflectance, and the maps of stacked GeoTIFF."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.warp import reproject

from terrazzo.base import config_parsing
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check import check_data
from terrazzo.data import datasets, mask_files
from terrazzo.data.datasets import geotiff
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.inference import scene_lists
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters, sentinel2
from terrazzo.io.pixels import ReadingRules
from terrazzo.runs import data_fingerprint
from terrazzo.testing.scenes import make_model
from terrazzo.testing.sentinel2 import place, write_product
from terrazzo.workflows import evaluate as evaluate_workflow
from terrazzo.workflows import train as train_workflow

TILING = Tiling(tile=32, overlap=12, batch_size=3)
SCALED = ReadingRules(apply_scale=True)
MIXED = ("B02", "B04", "B11", "B09")
"""Of 10, 20 and 60 m."""
NAMES = 'name = "m"\nclasses = [{ name = "a", colour = "#000000", raw = [0] }, '
NAMES += '{ name = "b", colour = "#00FF00", raw = [1] }]\n'


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "m.toml").write_text(NAMES)
    return tmp_path


def label(root, resolution=10, name="label.tif"):
    side = 1200 // resolution
    label_HW = (np.indices((side, side)).sum(axis=0) // 7 % 2).astype(np.uint8)
    rasters.write(root / name, label_HW[..., None], **place(resolution))
    return name


def by_rasterio(folder, name, resolution, onto=10):
    """One band on the grid of `onto` metres, by nothing of ours."""
    (path,) = folder.glob(f"GRANULE/*/IMG_DATA/**/*_{name}_{resolution}m.jp2")
    with rasterio.open(path) as dataset:
        values_HW = dataset.read(1)
        if resolution == onto:
            return values_HW
        side = 1200 // onto
        out_HW = np.zeros((side, side), values_HW.dtype)
        reproject(
            values_HW,
            out_HW,
            src_transform=dataset.transform,
            src_crs=dataset.crs,
            src_nodata=0,
            dst_transform=place(onto)["transform"],
            dst_crs=dataset.crs,
            dst_nodata=0,
            resampling=Resampling.nearest if name == "SCL" else Resampling.bilinear,
        )
        return out_HW


def read(folder, names, **rules):
    info = rasters.info(folder)
    bands = tuple(info.band_names.index(name) for name in names)
    return rasters.read_window(
        folder, 0, 0, info.rows, info.columns, bands, rules=ReadingRules(**rules)
    )


def test_bands_by_name_on_one_grid(root):
    folder = write_product(root)
    info = rasters.info(folder)
    assert info.band_names == (*(b for b in sentinel2.SPECTRAL if b != "B10"), "SCL")
    assert (info.rows, info.columns, info.nodata, info.dtype) == (120, 120, 0, "uint16")
    assert info.transform == place(10)["transform"]
    assert set(info.scaling) == {(1e-4, -0.1), (1.0, 0.0)}
    pixels = read(folder, [*MIXED, "SCL"])
    expected = [("B02", 10), ("B04", 10), ("B11", 20), ("B09", 60), ("SCL", 20)]
    for at, (name, resolution) in enumerate(expected):
        np.testing.assert_array_equal(
            pixels.image_HWC[..., at], by_rasterio(folder, name, resolution), err_msg=name
        )
    assert rasters.read(folder).image_HWC.shape == (120, 120, 12)  # without the classes
    assert rasters.block_shape(folder) == (20, 20)


def test_before_and_after_baseline_4_the_reflectance_is_the_same(root):
    """The same ground: the newer numbers are larger by 1000, and 0 is no data in both."""
    new_HW = np.random.default_rng(0).integers(1001, 65535, (120, 120)).astype(np.uint16)
    new_HW[:9, :9] = 0
    old_HW = np.where(new_HW == 0, 0, new_HW - 1000).astype(np.uint16)
    found = []
    for baseline, offset, image_HW in (("05.10", -1000, new_HW), ("02.14", None, old_HW)):
        for level in ("2A", "1C"):
            folder = write_product(
                root,
                level=level,
                baseline=baseline,
                offset=offset,
                bands=("B04",),
                pixels={("B04", 10): image_HW},
            )
            found.append(read(folder, ["B04"], apply_scale=True))
    for pixels in found:
        assert pixels.image_HWC.tobytes() == found[0].image_HWC.tobytes()
        assert not pixels.valid_HW[:9, :9].any()
        assert pixels.valid_HW.sum() == 120**2 - 81
    expected_HW = (old_HW / 10000).astype(np.float32)
    valid_HW = found[0].valid_HW
    np.testing.assert_allclose(found[0].image_HWC[..., 0][valid_HW], expected_HW[valid_HW], 1e-6)


def options(*names, **changes):
    scenes = [{"images": [name], "label": "label.tif"} for name in names]
    whole = {"split": {"train": 0.5, "val": 0.25, "test": 0.25}}
    return {"scenes": scenes, "chip": 40, "block": 1, "buffer": 0, **whole, **changes}


def opened(root, *names, **changes):
    return geotiff.open_split(root, "train", geotiff.Options(**options(*names, **changes)))


def test_scenes_of_two_baselines_need_their_offsets_applied(root):
    label(root)
    names = [
        write_product(root, baseline=baseline, offset=offset).name
        for baseline, offset in (("05.10", -1000), ("02.14", None))
    ]
    with pytest.raises(DataError) as caught:
        trained(root, root / "run", options(*names, bands=["B02", "B04"]))
    assert caught.value.code == "SEG-D053"
    assert "apply_scale = true" in caught.value.next_step
    trained(root, root / "run", options(*names, bands=["B02", "B04"], apply_scale=True))


@pytest.mark.parametrize(
    ("bands", "resolution", "metres"),
    [((), None, 10), (("B05", "B11"), None, 20), (("B02", "B11"), 20, 20), (("B09",), None, 60)],
)
def test_the_grid_is_the_finest_of_the_bands_in_use(root, bands, resolution, metres):
    folder = write_product(root)
    label(root, metres)
    source = opened(root, folder.name, bands=list(bands), resolution=resolution)
    assert source.grid(0).pixel_size == (metres, metres)
    assert source.band_names == (bands or rasters.info(folder).band_names[:-1])
    scene = source.open_scenes[0]
    side = 1200 // metres
    pixels = scene.read_image((0, 0, side, side))
    for at, name in enumerate(bands):
        np.testing.assert_array_equal(
            pixels.image_HWC[..., at], by_rasterio(folder, name, metres, metres), err_msg=name
        )


def trained(root, run, chosen):
    recipe = config_parsing.parse(
        Config,
        {
            "name": "scene",
            "backend": "reference",
            "data": {
                "format": "geotiff",
                "root": str(root),
                "labels": str(root / "m.toml"),
                "options": chosen,
            },
            "model": {"name": "pixel_softmax", "options": {"features": "neighbourhood"}},
            "training": {"steps": 3, "batch_size": 2, "schedule": {"learning_rate": 0.1}},
        },
        where="here",
    )
    train_workflow.train(recipe, run, progress=Silent())
    return run


def stacked(root, folder, names, metres=10):
    """What the product holds as one GeoTIFF, band by band as rasterio has them."""
    finest = {"B02": 10, "B04": 10, "B08": 10, "B11": 20, "B05": 20, "B09": 60}
    bands = [by_rasterio(folder, name, max(metres, finest[name]), metres) for name in names]
    profile = {"nodata": 0, "band_names": names, **place(metres)}
    rasters.write(root / "stack.tif", np.stack(bands, axis=2), **profile)
    with rasterio.open(root / "stack.tif", "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4,) * len(names), (-0.1,) * len(names)
    return root / "stack.tif"


@pytest.mark.parametrize(
    ("names", "metres", "apply_scale"),
    [(MIXED, 10, False), (MIXED, 10, True), (("B05", "B11"), 20, True)],
)
def test_maps_have_the_bytes_of_those_of_stacked_geotiff(root, names, metres, apply_scale):
    folder = write_product(root)
    label(root, metres)
    stack = stacked(root, folder, names, metres)
    maps, weights, scores = [], [], []
    for scene in (folder, stack):
        run = root / f"run_{scene.stem[:3]}"
        chosen = options(scene.name, bands=list(names), apply_scale=apply_scale)
        trained(root, run, chosen)
        scored = evaluate_workflow.evaluate(run, "val")
        out = root / f"{scene.stem[:3]}_map.tif"
        settings = Settings(tiling=TILING, probabilities=True)
        predict(run, [scene], out, settings, progress=Silent())
        maps.append([p.read_bytes() for p in (out, out.with_name(f"{out.stem}_probabilities.tif"))])
        weights.append((run / "model" / "weights.safetensors").read_bytes())
        scores.append((scored.evaluation.counts_NKK, scored.evaluation.maps[0].image_HWC))
    assert weights[0] == weights[1]
    for one, other in zip(*scores, strict=True):
        np.testing.assert_array_equal(one, other)
    assert maps[0] == maps[1]
    with rasterio.open(out) as dataset:
        labels_HW = dataset.read(1)
    assert (labels_HW == 255).any()
    assert len(np.unique(labels_HW)) > 1


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_and_resumed_the_map_has_the_same_bytes(root):
    folder = write_product(root)
    label(root)
    run = trained(root, root / "run", options(folder.name, bands=list(MIXED)))
    predict(run, [folder], root / "straight.tif", Settings(tiling=TILING), progress=Silent())
    words = ["predict", str(run), str(folder), "--out", str(root / "map.tif")]
    words += ["--tile", "32", "--overlap", "12", "--batch-size", "3"]

    def process(at, *more):
        command = [sys.executable, "-m", "terrazzo.testing.kill", at, *words, *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert process("sync:5").returncode == -signal.SIGKILL
    resumed = process("step:0", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "rows finished" in resumed.stderr
    assert (root / "map.tif").read_bytes() == (root / "straight.tif").read_bytes()
    settings = Settings(tiling=TILING, workers=2)
    predict(run, [folder], root / "shared.tif", settings, progress=Silent())
    assert (root / "shared.tif").read_bytes() == (root / "straight.tif").read_bytes()


def test_a_resume_finds_other_metadata(root, monkeypatch):
    """The offset lies in the XML alone."""
    from terrazzo.inference import map_writer

    folder = write_product(root)
    label(root)
    run = trained(root, root / "run", options(folder.name, bands=["B02"], apply_scale=True))
    monkeypatch.setattr(map_writer, "_write_files", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(run, [folder], root / "map.tif", Settings(tiling=TILING), progress=Silent())
    monkeypatch.undo()
    metadata = folder / "MTD_MSIL2A.xml"
    metadata.write_text(metadata.read_text().replace(">-1000<", ">-500<"))
    settings = Settings(tiling=TILING, resume=True)
    with pytest.raises(CheckpointError, match="SEG-C011"):
        predict(run, [folder], root / "map.tif", settings, progress=Silent())


def test_training_finds_other_metadata_too(root):
    folder = write_product(root)
    label(root)
    chosen = options(folder.name, bands=["B02"], apply_scale=True)
    labels = str(root / "m.toml")
    data = DataConfig(format="geotiff", root=str(root), labels=labels, options=chosen)
    found = []
    for offset in ("-1000", "-500"):
        splits = {"train": datasets.open_split(data, "train")}
        found.append(data_fingerprint.fingerprint(splits))
        metadata = folder / "MTD_MSIL2A.xml"
        metadata.write_text(metadata.read_text().replace(f">{offset}<", ">-500<"))
    assert data_fingerprint.differences(*found)
    assert not data_fingerprint.differences(found[1], found[1])


def test_a_model_gets_the_resolution_and_the_order_it_knows(root):
    """Trained at 20 m on bands that also exist at 10 m; the product names them in another order."""
    folder = write_product(root)
    label(root, 20)
    run = trained(root, root / "run", options(folder.name, bands=["B11", "B04"], resolution=20))
    predict(run, [folder], root / "maps", Settings(tiling=TILING), progress=Silent())
    with rasterio.open(root / "maps" / f"{folder.stem}.tif") as dataset:
        assert dataset.transform == place(20)["transform"]
        labels_HW = dataset.read(1)
    stack = stacked(root, folder, ("B11", "B04"), 20)
    predict(run, [stack], root / "stacked.tif", Settings(tiling=TILING), progress=Silent())
    with rasterio.open(root / "stacked.tif") as dataset:
        np.testing.assert_array_equal(labels_HW, dataset.read(1))


@pytest.mark.parametrize(("metres", "dem_first"), [(10, False), (20, False), (20, True)])
def test_a_list_of_scenes_holds_a_product_and_another_raster(root, metres, dem_first):
    """The grid is that of the first file; the map is that of one file of all bands."""
    folder = write_product(root)
    label(root, metres)
    side = 1200 // metres
    heights_HW = (np.indices((side, side)).sum(axis=0) * 90 + 1).astype(np.uint16)
    rasters.write(root / "dem.tif", heights_HW[..., None], band_names=("height",), **place(metres))
    images = ["dem.tif", folder.name] if dem_first else [folder.name, "dem.tif"]
    names = ["height", "B04", "B11"] if dem_first else ["B04", "B11", "height"]
    scenes = [{"images": images, "label": "label.tif"}]
    more = {} if dem_first else {"resolution": metres}
    run = trained(root, root / "run", options(scenes=scenes, bands=names, **more))
    assert evaluate_workflow.evaluate(run, "val").evaluation.maps[0].image_HWC is not None
    listed = f"scenes = [{{ images = {images} }}]\n"
    (root / "scenes.toml").write_text(listed.replace("'", '"'))
    listed_scenes = scene_lists.read(str(root / "scenes.toml"))
    predict(run, listed_scenes, root / "map.tif", Settings(tiling=TILING), progress=Silent())
    found = {
        "height": heights_HW,
        "B04": by_rasterio(folder, "B04", metres, metres),
        "B11": by_rasterio(folder, "B11", 20, metres),
    }
    stack_HWC = np.stack([found[name] for name in names], axis=2)
    # 0 is no data of the product, and no height is 0.
    profile = {"nodata": 0, "band_names": tuple(names), **place(metres)}
    rasters.write(root / "stack.tif", stack_HWC, **profile)
    with rasterio.open(root / "stack.tif", "r+") as dataset:
        shifts = [0 if name == "height" else -0.1 for name in names]
        dataset.scales = [1 if name == "height" else 1e-4 for name in names]
        dataset.offsets = shifts
    predict(run, [root / "stack.tif"], root / "one.tif", Settings(tiling=TILING), progress=Silent())
    assert (root / "map.tif").read_bytes() == (root / "one.tif").read_bytes()
    metadata = folder / "MTD_MSIL2A.xml"
    assert metadata in rasters.files_behind(folder)


def test_how_bands_are_resampled_is_for_reflectance_alone(root):
    """Classes are never mixed."""
    folder = write_product(root)
    label(root)
    images = [{"file": folder.name, "resampling": "cubic"}]
    scenes = [{"images": images, "label": "label.tif"}]
    names = ("B11", "SCL", "B02")
    image_HWC, plain_HWC = (
        opened(root, *used, bands=list(names), resolution=10, **changes)
        .open_scenes[0]
        .read_image((0, 0, 120, 120))
        .image_HWC
        for used, changes in (((), {"scenes": scenes}), ((folder.name,), {}))
    )
    assert (image_HWC[..., 0] != plain_HWC[..., 0]).any()
    np.testing.assert_array_equal(image_HWC[..., 1:], plain_HWC[..., 1:])


def test_a_folder_of_products_is_predicted_product_by_product(root):
    (root / "many").mkdir()
    label(root)
    names = [write_product(root / "many", baseline=f"0{n}.00", bands=("B02",)) for n in (4, 5)]
    shutil.copytree(names[0], root / names[0].name)
    run = trained(root, root / "run", options(names[0].name, bands=["B02"]))
    predict(run, [root / "many"], root / "maps", Settings(tiling=TILING), progress=Silent())
    assert sorted(p.stem for p in (root / "maps").glob("*.tif")) == sorted(n.stem for n in names)


def test_check_looks_at_a_product(root):
    folder = write_product(root)
    label(root)
    chosen = options(folder.name, bands=["B02", "B11"])
    labels = str(root / "m.toml")
    report = check_data(DataConfig(format="geotiff", root=str(root), labels=labels, options=chosen))
    assert not [each for each in report.findings if each.level.name == "ERROR"], report.as_text()


def test_level_1c_has_its_bands_and_offsets(root):
    folder = write_product(root, level="1C", baseline="05.10")
    info = rasters.info(folder)
    assert info.band_names == sentinel2.SPECTRAL
    assert set(info.scaling) == {(1e-4, -0.1)}
    assert not info.by_name_only
    assert rasters.grid_for(folder, ["B02", "B03"], 20).rows == 60
    assert pickle.loads(pickle.dumps(info)) == info


def changed(folder, old, new):
    (path,) = folder.glob("MTD_MSIL*.xml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<n1:General_Info>", "<n1:General_Info", "not well-formed"),
        ("?>\n", '?>\n<!DOCTYPE a [<!ENTITY e "x">]>\n', "DOCTYPE"),
        (">10000<", ">ten<", "QUANTIFICATION_VALUE 'ten'"),
        (">10000<", ">0<", "quantification 0"),
        ("BOA_ADD_OFFSET band_id", "OTHER band_id", "not well-formed|mismatched"),
        ("IMAGE_FILE>GRANULE", "IMAGE_FILE>../GRANULE", "IMAGE_FILE ../GRANULE"),
        ("<IMAGE_FILE>GRANULE/L2A", "<IMAGE_FILE>/GRANULE/L2A", "IMAGE_FILE /GRANULE"),
    ],
)
def test_metadata_that_cannot_be_used(root, old, new, words):
    folder = write_product(root, bands=("B02",))
    changed(folder, old, new)
    with pytest.raises(DataError, match=words) as caught:
        rasters.info(folder)
    assert caught.value.code == "SEG-D099"


def test_offsets_that_are_missing_are_not_taken_for_0(root):
    folder = write_product(root, baseline="04.00", offset=None, bands=("B02",))
    with pytest.raises(DataError, match=r"04\.00 on, without offsets"):
        rasters.info(folder)


def test_what_is_no_product_is_named(root):
    empty = root / "S2A_MSIL2A.SAFE"
    empty.mkdir()
    with pytest.raises(DataError, match=r"no MTD_MSIL2A\.xml"):
        rasters.info(empty)
    packed = root / "S2A_MSIL2A_20240613T102021.SAFE.zip"
    packed.write_bytes(b"PK\x03\x04")
    model = make_model(root / "model", 1, "uint16", names=("B02",))
    for look in (rasters.info, lambda path: predict(model, [path], root / "map.tif")):
        with pytest.raises(DataError, match="SEG-D099") as caught:
            look(packed)
        assert "unzip" in caught.value.next_step


def test_bands_that_are_not_there_are_named(root):
    folder = write_product(root, bands=("B02", "B03"))
    label(root)
    with pytest.raises(DataError, match=r"B04_10m.jp2 is not there") as caught:
        opened(root, folder.name, bands=["B02", "B04"])
    assert caught.value.code == "SEG-D099"
    with pytest.raises(ConfigError, match="SEG-X011") as caught:
        opened(root, folder.name, bands=["B10"])
    assert "B02" in caught.value.allowed
    with pytest.raises(ConfigError, match="SEG-X111"):
        opened(root, folder.name, bands=["B02"], resolution=30)
    assert opened(root, folder.name, bands=["B02", "B03"]).band_names == ("B02", "B03")


@pytest.mark.parametrize("metres", [10, 20])
def test_a_product_beside_another_raster_is_read_at_its_resolution(root, metres):
    """The first file gives the grid, here a terrain model."""
    folder = write_product(root)
    label(root, metres)
    side = 1200 // metres
    heights_HWC = np.indices((side, side)).sum(axis=0).astype(np.uint16)[..., None]
    rasters.write(root / "dem.tif", heights_HWC, band_names=("height",), **place(metres))
    names = ("height", "B02", "B11")
    scenes = [{"images": ["dem.tif", folder.name], "label": "label.tif"}]
    source = opened(root, scenes=scenes, bands=list(names))
    (scene,) = source.open_scenes
    assert (scene.band_names, scene.dtype) == (names, "uint16")
    image_HWC = scene.read_image((0, 0, side, side)).image_HWC
    np.testing.assert_array_equal(image_HWC[..., :1], heights_HWC)
    for at, resolution in ((1, metres), (2, 20)):
        expected_HW = by_rasterio(folder, names[at], resolution, metres)
        np.testing.assert_array_equal(image_HWC[..., at], expected_HW)
    moved = write_product(root / "moved", sixty=10)
    shutil.move(moved, root / "small.SAFE")
    scenes[0]["images"][1] = "small.SAFE"
    with pytest.raises(DataError, match="SEG-D009"):
        opened(root, scenes=scenes, bands=list(names))
    reprojected = opened(root, scenes=scenes, bands=list(names), align="reproject")
    valid_HW = reprojected.open_scenes[0].read_image((0, 0, side, side)).valid_HW
    assert valid_HW[: side // 2, : side // 2].any()
    assert not valid_HW[side // 2 + 1 :].any()  # outside of the product
    assert not valid_HW[:, side // 2 + 1 :].any()


def test_numbers_of_bands_give_the_grid_that_their_names_give(root):
    folder = write_product(root)
    model = make_model(root / "model", 2, "uint16", names=("B11", "B12"))
    known = rasters.info(folder).band_names
    numbers = tuple(str(known.index(name) + 1) for name in ("B11", "B12"))
    maps = []
    for bands, out in (((), "names.tif"), (numbers, "numbers.tif")):
        settings = Settings(tiling=TILING, bands=bands)
        predict(model, [folder], root / out, settings, progress=Silent())
        with rasterio.open(root / out) as dataset:
            assert dataset.transform == place(20)["transform"]
            maps.append(dataset.read(1))
    np.testing.assert_array_equal(*maps)


def test_bands_that_a_list_calls_otherwise_give_the_grid_of_their_own(root):
    folder = write_product(root)
    stored = rasters.info(folder).band_names
    model = make_model(root / "model", 2, "uint16", names=("swir B11", "swir B12"))
    names = [f"swir {name}" for name in stored]
    (root / "scenes.toml").write_text(
        f'band_names = {json.dumps(names)}\nscenes = [{{ images = ["{folder.name}"] }}]\n'
    )
    listed = scene_lists.read(str(root / "scenes.toml"))
    predict(model, listed, root / "listed.tif", Settings(tiling=TILING), progress=Silent())
    model = make_model(root / "own", 2, "uint16", names=("B11", "B12"))
    predict(model, [folder], root / "own.tif", Settings(tiling=TILING), progress=Silent())
    assert rasters.info(root / "own.tif").transform == place(20)["transform"]
    assert (root / "listed.tif").read_bytes() == (root / "own.tif").read_bytes()


def test_where_no_resolution_is_that_of_training_the_finest_is_taken(root):
    folder = write_product(root)
    metres = PixelSizes.of_pixels([(30.0, 30.0)])
    model = make_model(root / "model", 2, "uint16", names=("B02", "B04"), pixel_metres=metres)
    with pytest.raises(DataError, match="SEG-D028"):
        predict(model, [folder], root / "m.tif", Settings(tiling=TILING), progress=Silent())
    settings = Settings(tiling=TILING, any_pixel_size=True)
    predict(model, [folder], root / "m.tif", settings, progress=Silent())
    with rasterio.open(root / "m.tif") as dataset:
        assert dataset.transform == place(10)["transform"]


def test_a_resume_finds_another_resampling(root, monkeypatch):
    from terrazzo.inference import map_writer

    folder = write_product(root)
    model = make_model(root / "model", 2, "uint16", names=("B02", "B11"))
    listed = {}
    for how in ("nearest", "cubic"):
        (root / f"{how}.toml").write_text(
            'scenes = [{ name = "n", images = [{ '
            f'file = "{folder.name}", resampling = "{how}" }}] }}]'
        )
        (listed[how],) = scene_lists.read(str(root / f"{how}.toml"))
    monkeypatch.setattr(map_writer, "_write_files", lambda *_: 1 / 0)
    settings = Settings(tiling=TILING)
    with pytest.raises(ZeroDivisionError):
        predict(model, [listed["nearest"]], root / "map.tif", settings, progress=Silent())
    monkeypatch.undo()
    settings = Settings(tiling=TILING, resume=True)
    with pytest.raises(CheckpointError, match="SEG-C011"):
        predict(model, [listed["cubic"]], root / "map.tif", settings, progress=Silent())
    predict(model, [listed["nearest"]], root / "map.tif", settings, progress=Silent())


def test_a_product_is_no_mask(root):
    folder = write_product(root)
    rasters.write(root / "s.tif", np.ones((120, 120, 1), np.uint8), **place(10))
    model = make_model(root / "model", 1)
    mask = mask_files.parse_mask(f"values:0@1={folder}")
    settings = Settings(tiling=TILING, masks=((folder, mask),))
    with pytest.raises(DataError, match=r"SEG-D095(.*\n)+.*SCL_20m"):
        predict(model, [root / "s.tif"], root / "map.tif", settings, progress=Silent())
    label(root)
    chosen = {"scenes": [{"images": ["s.tif"], "label": "label.tif"}]}
    chosen["scenes"][0]["mask"] = {"file": folder.name, "values": [0], "band": 1}
    data = DataConfig(format="geotiff", root=str(root), labels=str(root / "m.toml"), options=chosen)
    with pytest.raises(DataError, match="SEG-D095"):
        datasets.open_split(data, "train")
