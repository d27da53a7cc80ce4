"""The format ``geotiff``: grids that must agree, chips, blocks and the buffer between them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import geotiff
from terrazzo.io import rasters

DATA = os.environ.get("TERRAZZO_DATA")
PLACE = {"crs": "EPSG:32633", "transform": Affine(2, 0, 392_000, 0, -2, 5_820_000)}
NC_LABELS = """
name = "nc"
classes = [
    { name = "developed", colour = "#FF0000", raw = [1] },
    { name = "agriculture", colour = "#FFFF00", raw = [2] },
    { name = "herbaceous", colour = "#AAFF00", raw = [3] },
    { name = "shrubland", colour = "#AA5500", raw = [4] },
    { name = "forest", colour = "#00AA00", raw = [5] },
    { name = "water", colour = "#0000FF", raw = [6] },
    { name = "sediment", colour = "#AAAAAA", raw = [7] },
]
"""
needs_data = pytest.mark.skipif(DATA is None, reason="TERRAZZO_DATA is not set")


def write_scene(root: Path, shape=(100, 130), bands=2, nodata=None, label_nodata=None, **label_at):
    """Write an image whose bands hold the row and the column, and a label of four classes."""
    rows, columns = np.indices(shape)
    image_HWC = np.stack([rows, columns, rows + columns][:bands], axis=2).astype(np.uint16)
    names = ("row", "column", "sum")[:bands]
    rasters.write(root / "image.tif", image_HWC, nodata=nodata, band_names=names, **PLACE)
    label_HW = ((rows // 7 + columns // 5) % 4).astype(np.uint8)
    rasters.write(
        root / "label.tif", label_HW[..., None], nodata=label_nodata, **{**PLACE, **label_at}
    )
    return image_HWC, label_HW


def options(**changes):
    scenes = ({"images": ("image.tif",), "label": "label.tif"},)
    return geotiff.Options(**{"scenes": scenes, "chip": 16, "block": 2, "buffer": 10, **changes})


def pixels(source, image_HWC):
    """Return what every pixel of the scene is to a split: taught, and its chips' own content."""
    seen = np.zeros(image_HWC.shape[:2], int)
    for index in range(len(source.names)):
        raw = source.read(index)
        assert raw.image_HWC.shape[:2] == raw.raw_label.shape == (source.options.chip,) * 2
        rows, columns = raw.image_HWC[raw.valid_HW][:, 0], raw.image_HWC[raw.valid_HW][:, 1]
        seen[rows, columns] += 1
        expected = (rows // 7 + columns // 5) % 4
        np.testing.assert_array_equal(raw.raw_label[raw.valid_HW], expected)
    return seen


def test_test_pixels_come_once_and_training_keeps_its_distance(tmp_path):
    image_HWC, _ = write_scene(tmp_path)
    splits = {s: geotiff.open_split(tmp_path, s, options()) for s in datasets.SPLITS}
    seen = {name: pixels(source, image_HWC) for name, source in splits.items()}
    assert all(count.max() == 1 for count in seen.values())
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert nearest(seen[one], seen[other]) >= 10
    # Without a buffer every pixel is in exactly one split: the buffer alone takes pixels away.
    whole = [geotiff.open_split(tmp_path, s, options(buffer=0)) for s in datasets.SPLITS]
    np.testing.assert_array_equal(sum(pixels(source, image_HWC) for source in whole), 1)
    np.testing.assert_array_equal(seen["test"], pixels(whole[2], image_HWC))
    assert 0.2 < seen["train"].sum() / pixels(whole[0], image_HWC).sum() < 1


def nearest(one, other):
    """Return the smallest distance between pixels of two sets, pair by pair."""
    a, b = np.argwhere(one), np.argwhere(other)
    return min(np.hypot(*(b - point).T).min() for point in a)


def test_a_kept_draw_gives_the_same_chips(tmp_path):
    write_scene(tmp_path)
    labels = tmp_path / "labels.toml"
    classes = ", ".join(f'{{name="c{k}", colour="#00000{k}", raw=[{k}]}}' for k in range(4))
    labels.write_text(f'name = "four"\nclasses = [{classes}]\n')
    data = DataConfig(
        format="geotiff",
        root=str(tmp_path),
        labels=str(labels),
        options=options().model_dump(mode="json", exclude_none=True),
    )
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    datasets.keep_draw(splits, tmp_path / "splits.json")
    other_seed = {**data.options, "split": {"train": 0.6, "val": 0.2, "test": 0.2, "seed": 9}}
    again = datasets.with_kept_draw(
        data.model_copy(update={"options": other_seed}), tmp_path / "splits.json"
    )
    for name, split in splits.items():
        reopened = datasets.open_split(again, name)
        assert reopened.source.names == split.source.names
        for index in range(len(split)):
            one, other = split.read(index), reopened.read(index)
            np.testing.assert_array_equal(one.label_HW, other.label_HW)
    finer = again.model_copy(update={"options": {**again.options, "chip": 8}})
    with pytest.raises(DataError, match="SEG-D014"):
        datasets.open_split(finer, "train")


def test_nodata_of_image_and_label_is_invalid(tmp_path):
    image_HWC, label_HW = write_scene(tmp_path, bands=2, nodata=3, label_nodata=2)
    everything = {"split": {"train": 1, "val": 0, "test": 0}}
    source = geotiff.open_split(tmp_path, "train", options(**everything))
    seen = pixels(source, image_HWC)
    np.testing.assert_array_equal(seen, (image_HWC != 3).any(axis=2) & (label_HW != 2))
    assert seen[0, 0] == 1  # zero is a value like any other


def test_bands_of_several_rasters_are_stacked_and_chosen(tmp_path):
    image_HWC, _ = write_scene(tmp_path, bands=3)
    rasters.write(tmp_path / "more.tif", image_HWC[..., :1] * 2, band_names=("double",), **PLACE)
    scenes = ({"images": ("image.tif", "more.tif"), "label": "label.tif"},)
    source = geotiff.open_split(tmp_path, "train", options(scenes=scenes))
    assert source.band_names == ("row", "column", "sum", "double")
    assert (lambda im: (im[..., 0] * 2 == im[..., 3]).all())(source.read(0).image_HWC)
    chosen = options(scenes=scenes, bands=("sum", "row", "double"))
    source = geotiff.open_split(tmp_path, "train", chosen)
    assert source.band_names == ("sum", "row", "double")
    image = source.read(0).image_HWC
    assert (image[..., 1] * 2 == image[..., 2]).all()
    assert (image[..., 0] >= image[..., 1]).all()
    with pytest.raises(ConfigError, match="nir"):
        geotiff.open_split(tmp_path, "train", options(bands=("nir",)))


@pytest.mark.parametrize(
    ("label_at", "code", "words"),
    [
        ({"crs": "EPSG:32632"}, "SEG-D025", ("EPSG:32632", "EPSG:32633")),
        ({"crs": None}, "SEG-D025", ("none", "unknown distance")),
        (
            {"crs": "EPSG:4326", "transform": Affine(2e-5, 0, 13, 0, -2e-5, 52)},
            "SEG-D025",
            ("EPSG:4326", "EPSG:32633"),
        ),
        ({"transform": Affine(2, 0, 392_001, 0, -2, 5_820_000)}, "SEG-D026", ("0.50 px",)),
        (
            {"transform": Affine(2, 0, 392_020, 0, -2, 5_820_000)},
            "SEG-D026",
            ("10.00 px", "392020"),
        ),
        ({"transform": Affine(2, 0, 392_000, 0, 2, 5_819_800)}, "SEG-D026", ("px apart",)),
    ],
)
def test_grids_that_differ_are_refused(tmp_path, label_at, code, words):
    write_scene(tmp_path, **label_at)
    with pytest.raises(DataError) as caught:
        geotiff.open_split(tmp_path, "train", options())
    assert caught.value.code == code
    assert all(word in str(caught.value) for word in words), caught.value
    assert "label.tif" in str(caught.value)
    assert "image.tif" in str(caught.value)


def test_label_of_another_size_is_refused(tmp_path):
    _, label_HW = write_scene(tmp_path)
    rasters.write(tmp_path / "label.tif", label_HW[:-1, :, None], **PLACE)
    with pytest.raises(DataError, match="SEG-D009"):
        geotiff.open_split(tmp_path, "train", options())


def test_labels_are_reprojected_when_asked(tmp_path):
    """A label at half the pixel size and shifted by whole pixels: the values are known."""
    _, label_HW = write_scene(tmp_path)
    fine_HW = label_HW.repeat(2, axis=0).repeat(2, axis=1)[40:, :200]
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 392_000, 0, -1, 5_820_000 - 40)}
    rasters.write(tmp_path / "label.tif", fine_HW[..., None], **place)
    everything = options(align="reproject", split={"train": 1, "val": 0, "test": 0})
    source = geotiff.open_split(tmp_path, "train", everything)
    seen = pixels(source, np.zeros((100, 130, 1)))
    expected = np.zeros((100, 130), int)
    expected[20:, :100] = 1  # elsewhere there are no labels
    np.testing.assert_array_equal(seen, expected)


def test_reprojection_from_another_crs(tmp_path):
    """Vertical stripes of classes, written in degrees: back in metres most pixels agree."""
    write_scene(tmp_path)
    left, top = 392_000, 5_820_000
    bounds = (left - 50, top - 250, left + 310, top + 50)
    west, south, east, north = transform_bounds("EPSG:32633", "EPSG:4326", *bounds)
    shape = (900, 1000)
    transform = Affine((east - west) / shape[1], 0, west, 0, (south - north) / shape[0], north)
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    lon = west + transform.a * columns.ravel()
    lat = north + transform.e * rows.ravel()
    x, y = rasterio.warp.transform("EPSG:4326", "EPSG:32633", lon, lat)
    i, j = (top - np.array(y)) // 2, (np.array(x) - left) // 2
    label_HW = ((i // 7 + j // 5) % 4).astype(np.uint8).reshape(shape)
    rasters.write(tmp_path / "label.tif", label_HW[..., None], crs="EPSG:4326", transform=transform)
    everything = options(align="reproject", split={"train": 1, "val": 0, "test": 0})
    source = geotiff.open_split(tmp_path, "train", everything)
    right = total = 0
    for index in range(len(source.names)):
        raw = source.read(index)
        rows, columns = np.moveaxis(raw.image_HWC[raw.valid_HW], 1, 0)
        right += int(((rows // 7 + columns // 5) % 4 == raw.raw_label[raw.valid_HW]).sum())
        total += len(rows)
    assert total == 100 * 130
    assert right / total > 0.97  # nearest neighbour errs along borders only


@needs_data
def test_nc_landsat_with_two_names_for_one_crs(tmp_path):
    """EPSG:3358 and an unnamed datum: refused by default, taken within a tenth of a pixel."""
    (tmp_path / "nc.toml").write_text(NC_LABELS)
    scenes = ({"images": ("lsat7_2000_b12345.tif",), "label": "landclass96_strata.tif"},)
    chosen = {"scenes": scenes, "chip": 64, "block": 1, "buffer": 16}
    root = Path(DATA) / "nc_landsat7"
    with pytest.raises(DataError, match="SEG-D025"):
        geotiff.open_split(root, "train", geotiff.Options(**chosen))
    data = DataConfig(
        format="geotiff",
        root=str(root),
        labels=str(tmp_path / "nc.toml"),
        options={**chosen, "buffer": 0, "crs_tolerance": 0.1},
    )
    image_HWC, valid_HW, _ = rasters.read(root / "lsat7_2000_b12345.tif")
    truth_HW = rasters.read_label(root / "landclass96_strata.tif", "index")
    expected = np.bincount(truth_HW[valid_HW & (truth_HW > 0)], minlength=8)[1:]
    counted = np.zeros(7, int)
    for name in datasets.SPLITS:
        split = datasets.open_split(data, name)
        for index in range(len(split)):
            label_HW = split.read(index).label_HW
            counted += np.bincount(label_HW[label_HW < 255], minlength=7)
    np.testing.assert_array_equal(counted, expected)
    assert image_HWC.shape == (443, 489, 5)


@needs_data
def test_spacenet_polygons_give_the_published_mask(tmp_path):
    root = Path(DATA) / "spacenet_buildings"
    scenes = ({"images": ("sample_geotiff.tif",), "label": "geotiff_labels.geojson"},)
    chosen = options(
        scenes=scenes, burn=255, chip=900, block=1, split={"train": 1, "val": 0, "test": 0}
    )
    raw = geotiff.open_split(root, "train", chosen).read(0)
    published = rasters.read_label(root / "sample_fp_mask_from_geojson.tif", "index")
    np.testing.assert_array_equal(raw.raw_label, published)
    assert (published > 0).sum() == 33_818


def square(value, left, bottom, side, **properties):
    x, y = 392_000 + left, 5_820_000 + bottom
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    return {
        "type": "Feature",
        "properties": {"kind": value, **properties},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def test_polygons_with_values_and_bad_ones(tmp_path):
    write_scene(tmp_path)
    path = tmp_path / "label.geojson"
    document = {"type": "FeatureCollection", "features": [square(3, 0, -20, 20)]}
    scenes = ({"images": ("image.tif",), "label": "label.geojson"},)
    chosen = options(scenes=scenes, burn_property="kind", background=1)
    path.write_text(json.dumps(document))
    source = geotiff.open_split(tmp_path, "train", chosen)
    expected = np.ones((100, 130), np.uint8)
    expected[:10, :10] = 3
    np.testing.assert_array_equal(source.open_scenes[0].label_HW, expected)
    document["crs"] = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="SEG-D025"):
        geotiff.open_split(tmp_path, "train", chosen)
    path.write_text('{"type": "FeatureCollection", "features": [{"geometry"')
    with pytest.raises(DataError, match="SEG-D012"):
        geotiff.open_split(tmp_path, "train", chosen)


def test_unwritten_label_blocks_are_refused(tmp_path):
    write_scene(tmp_path, shape=(512, 512))
    profile = {"driver": "GTiff", "height": 512, "width": 512, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "label.tif",
        "w",
        tiled=True,
        sparse_ok=True,
        blockxsize=256,
        blockysize=256,
        **profile,
        **PLACE,
    ) as dataset:
        dataset.write(np.ones((1, 256, 256), np.uint8), window=((0, 256), (0, 256)))
    source = geotiff.open_split(
        tmp_path, "train", options(chip=512, split={"train": 1, "val": 0, "test": 0})
    )
    with pytest.raises(DataError, match="SEG-D029"):
        source.read(0)
