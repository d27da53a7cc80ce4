"""Polygons as labels and as areas: GeoJSON by itself, GeoPackage and Shapefile through pyogrio."""

from __future__ import annotations

import json
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.warp import transform_geom

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets import geotiff
from terrazzo.io import rasters
from terrazzo.io.rasters import handles

DATA = os.environ.get("TERRAZZO_DATA")
LEFT, TOP = 392_000, 5_820_000
PLACE = {"crs": "EPSG:32633", "transform": Affine(2, 0, LEFT, 0, -2, TOP)}
SHAPE = (60, 80)
SQUARES = {"field": (4, 6, 20, 30), "lake": (30, 40, 50, 70)}
"""First row, first column, end row, end column."""
RAW = {"field": 3, "lake": 7}


def ring(first_row, first_column, end_row, end_column):
    x = (LEFT + 2 * first_column, LEFT + 2 * end_column)
    y = (TOP - 2 * first_row, TOP - 2 * end_row)
    return [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]


def geometries(crs="EPSG:32633"):
    shapes = [{"type": "Polygon", "coordinates": [ring(*box)]} for box in SQUARES.values()]
    return shapes if crs == "EPSG:32633" else transform_geom("EPSG:32633", crs, shapes)


def write_geojson(path: Path, crs="EPSG:32633", named=None):
    features = [
        {"type": "Feature", "geometry": shape, "properties": {"kind": kind, "raw": RAW[kind]}}
        for kind, shape in zip(SQUARES, geometries(crs), strict=True)
    ]
    document = {"type": "FeatureCollection", "features": features}
    if named:
        document["crs"] = {"type": "name", "properties": {"name": named}}
    path.write_text(json.dumps(document))


def write_with_pyogrio(path: Path, crs="EPSG:32633", layer=None):
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    shapes = shapely.from_geojson([json.dumps(shape) for shape in geometries(crs)])
    columns = [np.array(list(SQUARES), object), np.array(list(RAW.values()), np.int32)]
    pyogrio.raw.write(
        path,
        shapely.to_wkb(shapes),
        columns,
        ["kind", "raw"],
        driver={".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[path.suffix],
        geometry_type="Polygon",
        crs=crs,
        **({"layer": layer} if layer else {}),
    )


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.tif"
    values_HWC = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint16).reshape(*SHAPE, 1) + 1
    rasters.write(path, values_HWC, **PLACE)
    return path


def opened(root, label, area=None, layer=None, **changes):
    """Open one training chip that holds the whole scene, and read it."""
    scene = {"images": ("image.tif",), "label": label, "area": area, "layer": layer}
    options = {
        "scenes": (scene,),
        "chip": 80,
        "block": 1,
        "split": {"train": 1, "val": 0, "test": 0},
    }
    return geotiff.open_split(root, "train", geotiff.Options(**options, **changes)).read(0)


def expected(values=RAW, background=0):
    label_HW = np.full(SHAPE, background)
    for kind, (first_row, first_column, end_row, end_column) in SQUARES.items():
        label_HW[first_row:end_row, first_column:end_column] = values[kind]
    return label_HW


SUFFIXES = [".geojson", ".gpkg", ".shp"]


def write_label(path: Path, crs="EPSG:32633"):
    if path.suffix == ".geojson":
        write_geojson(path, crs, named=crs)
    else:
        write_with_pyogrio(path, crs)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_classes_from_attributes(tmp_path, image, suffix):
    write_label(tmp_path / f"a{suffix}")
    raw = opened(tmp_path, f"a{suffix}", burn_property="raw")
    np.testing.assert_array_equal(raw.raw_label[:60], expected())
    raw = opened(
        tmp_path,
        f"a{suffix}",
        burn_property="kind",
        burn_values={"field": 1, "lake": 300},
        background=9,
    )
    np.testing.assert_array_equal(raw.raw_label[:60], expected({"field": 1, "lake": 300}, 9))
    raw = opened(tmp_path, f"a{suffix}", burn=5)
    np.testing.assert_array_equal(raw.raw_label[:60], expected(dict.fromkeys(RAW, 5)))
    assert raw.valid_HW[:60].all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_shapes_of_another_crs(tmp_path, image, suffix):
    write_label(tmp_path / f"a{suffix}", "EPSG:4326")
    with pytest.raises(DataError, match="SEG-D025") as caught:
        opened(tmp_path, f"a{suffix}", burn_property="raw")
    assert "EPSG:4326" in str(caught.value)
    raw = opened(tmp_path, f"a{suffix}", burn_property="raw", align="reproject")
    assert (raw.raw_label[:60] == expected()).mean() > 0.999


def test_geojson_without_a_crs(tmp_path, image):
    """In the grid's coordinates, or by RFC 7946 in degrees where it is to be reprojected."""
    write_geojson(tmp_path / "metres.geojson")
    write_geojson(tmp_path / "degrees.geojson", "EPSG:4326")
    for name, align in (("metres", "exact"), ("degrees", "reproject")):
        raw = opened(tmp_path, f"{name}.geojson", burn_property="raw", align=align)
        assert (raw.raw_label[:60] == expected()).mean() > 0.999
    for name, align in (("metres", "reproject"), ("degrees", "exact")):
        with pytest.raises(DataError, match="SEG-D028") as caught:
            opened(tmp_path, f"{name}.geojson", burn_property="raw", align=align)
        assert "392000" in str(caught.value)


def test_what_no_polygon_covers_may_be_unlabelled(tmp_path, image):
    write_geojson(tmp_path / "a.geojson")
    raw = opened(tmp_path, "a.geojson", burn_property="raw", background="ignore")
    np.testing.assert_array_equal(raw.valid_HW[:60], expected() > 0)
    np.testing.assert_array_equal(raw.raw_label[raw.valid_HW], expected()[expected() > 0])


def test_what_lies_outside_the_area_is_ignored(tmp_path, image):
    write_geojson(tmp_path / "a.geojson")
    label_HW = np.indices(SHAPE)[0].astype(np.uint8)
    rasters.write(tmp_path / "label.tif", label_HW[..., None], **PLACE)
    raw = opened(tmp_path, "label.tif", area="a.geojson")
    np.testing.assert_array_equal(raw.valid_HW[:60], expected() > 0)
    np.testing.assert_array_equal(raw.raw_label[:60], label_HW)
    with pytest.raises(ConfigError, match="polygons"):
        opened(tmp_path, "label.tif", area="label.tif")


def test_splits_share_the_polygons_they_have_drawn(tmp_path, image):
    write_geojson(tmp_path / "a.geojson")
    scenes = ({"images": ("image.tif",), "label": "a.geojson"},)
    options = geotiff.Options(scenes=scenes, chip=8, burn=1)
    train, test = (geotiff.open_split(tmp_path, name, options) for name in ("train", "test"))
    assert train.open_scenes[0] is test.open_scenes[0]
    other = geotiff.open_split(tmp_path, "val", options.model_copy(update={"burn": 7}))
    assert other.open_scenes[0].label_HW.max() == 7


def test_bad_attributes(tmp_path, image):
    write_geojson(tmp_path / "a.geojson")
    for changes, words in (
        ({"burn_property": "colour"}, "'colour'"),
        ({"burn_property": "kind"}, "'field' of shape 0"),
        ({"burn_property": "kind", "burn_values": {"field": 1}}, "'lake' of shape 1"),
    ):
        with pytest.raises(DataError, match="SEG-D012") as caught:
            opened(tmp_path, "a.geojson", **changes)
        assert words in str(caught.value)
    document = json.loads((tmp_path / "a.geojson").read_text())
    for wrong in (-1, 70_000, 1.5, None):
        document["features"][1]["properties"]["raw"] = wrong
        (tmp_path / "a.geojson").write_text(json.dumps(document))
        with pytest.raises(DataError, match=f"{wrong} of shape 1"):
            opened(tmp_path, "a.geojson", burn_property="raw")
    with pytest.raises(ValueError, match="burn_property"):
        opened(tmp_path, "a.geojson", burn_values={"field": 1})


def test_a_shape_that_is_none(tmp_path, image):
    write_geojson(tmp_path / "a.geojson")
    document = json.loads((tmp_path / "a.geojson").read_text())
    document["features"][1]["geometry"]["coordinates"] = [[[LEFT, TOP], [LEFT + 9, TOP]]]
    (tmp_path / "a.geojson").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"SEG-D012(.|\n)*shape 1 is a Polygon"):
        opened(tmp_path, "a.geojson")


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_files_under_a_wrong_name_are_refused_unopened(tmp_path, image, suffix):
    """A description of another file, which GDAL would follow, under the name of a vector file."""
    (tmp_path / f"a{suffix}").write_text(
        "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>/etc/passwd</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>"
    )
    with pytest.raises(DataError, match="SEG-D012"):
        opened(tmp_path, f"a{suffix}")
    with pytest.raises(DataError, match="SEG-D030"):
        rasters.read_features(Path(f"/vsicurl/x/a{suffix}"), rasters.info(image))


def test_a_damaged_file(tmp_path, image):
    write_with_pyogrio(tmp_path / "a.gpkg")
    data = (tmp_path / "a.gpkg").read_bytes()
    (tmp_path / "a.gpkg").write_bytes(data[:3000])
    with pytest.raises(DataError, match="SEG-D011"):
        opened(tmp_path, "a.gpkg")


def test_one_of_several_layers(tmp_path, image):
    for layer in ("one", "two"):
        write_with_pyogrio(tmp_path / "a.gpkg", layer=layer)
    with pytest.raises(ConfigError, match="one, two"):
        opened(tmp_path, "a.gpkg")
    raw = opened(tmp_path, "a.gpkg", layer="two", burn_property="raw")
    np.testing.assert_array_equal(raw.raw_label[:60], expected())


def test_a_missing_package_names_the_pip_line(tmp_path, image, monkeypatch):
    (tmp_path / "a.shp").write_bytes(b"\0\0\x27\x0a")
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(ConfigError, match=r"terrazzo\[vector\]"):
        opened(tmp_path, "a.shp")


@pytest.mark.skipif(DATA is None, reason="TERRAZZO_DATA is not set")
def test_real_shapefile():
    """34 polygons drawn on the Landsat scene; most of their pixels agree with its land cover."""
    pytest.importorskip("pyogrio")
    root = Path(DATA) / "nc_landsat7"
    scene = {"images": ("lsat7_2000_b12345.tif",), "label": "landsat96_polygons.shp"}
    options = geotiff.Options(
        scenes=(scene,),
        chip=489,
        block=1,
        split={"train": 1, "val": 0, "test": 0},
        burn_property="id",
        background="ignore",
        crs_tolerance=0.1,
    )
    raw = geotiff.open_split(root, "train", options).read(0)
    truth_HW = rasters.read_label(root / "landclass96_strata.tif", "index")
    found = raw.raw_label[:443][raw.valid_HW[:443]]
    assert len(found) == 2121
    assert (found == truth_HW[raw.valid_HW[:443]]).mean() > 0.95


def test_shapes_are_drawn_while_other_threads_open_files(tmp_path):
    """Both tell `warnings` what to leave out, which is one setting for all threads."""
    path = tmp_path / "s.tif"
    rasters.write(path, np.zeros((*SHAPE, 1), np.uint8), **PLACE)
    write_geojson(tmp_path / "s.geojson")
    info = rasters.info(path)
    shapes = rasters.read_features(tmp_path / "s.geojson", info)

    def draw():
        for _ in range(1500):
            rasters.inside(shapes, info)

    def open_and_close():
        for _ in range(1500):
            handles.open_quietly(path).close()

    with warnings.catch_warnings(), ThreadPoolExecutor(4) as threads:
        warnings.simplefilter("error")
        for each in [threads.submit(work) for work in (draw, open_and_close) * 2]:
            each.result()
