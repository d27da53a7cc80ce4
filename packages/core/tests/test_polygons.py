"""Classes as polygons: every pixel in one of them, whole across the seams between row bands."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from xml.etree import ElementTree as Xml

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio import features

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.progress import Silent
from terrazzo.data import ground
from terrazzo.data.datasets import demo
from terrazzo.inference import polygonize
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict as predict_scenes
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo
from terrazzo.testing.scenes import LABELS, UTM, make_model, make_scene

try:
    import pyogrio
    import shapely
except ImportError:
    pyogrio = shapely = None

needs_extra = pytest.mark.skipif(shapely is None, reason="terrazzo[vector] is not installed")
SMALL = Tiling(tile=32, overlap=12)


def blobs(shape, seed=0, smooth=3.0):
    """Return labels in blobs, some of them without data."""
    rng = np.random.default_rng(seed)
    layers_KHW = [cv2.GaussianBlur(rng.random(shape), (0, 0), smooth) for _ in range(4)]
    labels_HW = np.argmax(layers_KHW, axis=0).astype(np.uint8)
    labels_HW[labels_HW == 3] = 255
    return labels_HW


CRS_OF_UTM = rasterio.crs.CRS.from_epsg(32633)


def write(path, labels_HW, rows, crs="EPSG:32633", transform=UTM["transform"]):
    crs = None if crs is None else rasterio.crs.CRS.from_user_input(crs)
    size = RasterInfo(*labels_HW.shape, ("class",), "uint8", 255, crs, transform, "uint8")
    groups = (labels_HW[row : row + rows] for row in range(0, len(labels_HW), rows))
    polygonize.write(path, groups, size, LABELS)
    meta, _, geometry, fields = pyogrio.raw.read(path, layer="classes")
    return meta, shapely.from_wkb(geometry), dict(zip(meta["fields"], fields, strict=True))


def burn(shapes, ids, shape, transform):
    pairs = [(one, int(k)) for one, k in zip(shapes, ids, strict=True)]
    return features.rasterize(pairs, shape, fill=255, transform=transform, dtype="uint8")


@needs_extra
@pytest.mark.parametrize("smooth", [0.3, 3.0], ids=["noise", "blobs"])
@pytest.mark.parametrize("rows", [3, 16, 90])
def test_polygons_hold_every_pixel(tmp_path, rows, smooth):
    labels_HW = blobs((90, 70), smooth=smooth)
    _, shapes, fields = write(tmp_path / "p.gpkg", labels_HW, rows)
    assert shapely.is_valid(shapes).all()
    burned_HW = burn(shapes, fields["class_id"], labels_HW.shape, UTM["transform"])
    np.testing.assert_array_equal(burned_HW, labels_HW)
    for k in range(3):
        areas, _ = cv2.connectedComponents((labels_HW == k).astype(np.uint8), connectivity=4)
        assert (fields["class_id"] == k).sum() == areas - 1
    assert fields["pixels"].sum() == (labels_HW != 255).sum()
    np.testing.assert_allclose(shapely.area(shapes), fields["pixels"] * 0.25)
    # On the ground, where a metre of UTM is 1.00026 m here.
    size = RasterInfo(90, 70, ("class",), "uint8", 255, CRS_OF_UTM, UTM["transform"], "uint8")
    width, height = ground.pixel_sides(size)
    assert 0.50005 < width < 0.5005
    np.testing.assert_allclose(fields["area_m2"], fields["pixels"] * width * height, rtol=1e-6)
    assert set(fields["class_name"]) == {"class 0", "class 1", "class 2"}


@needs_extra
def test_seams_leave_no_corners(tmp_path):
    labels_HW = np.zeros((40, 10), np.uint8)
    labels_HW[:, 5:] = 1
    _, shapes, _ = write(tmp_path / "p.gpkg", labels_HW, 8)
    assert [shapely.get_num_coordinates(one) for one in shapes] == [5, 5]


@needs_extra
@pytest.mark.parametrize("crs", ["EPSG:4326", None])
def test_places_and_units(tmp_path, crs):
    turned = Affine(0.8, -0.6, 9, 0.6, 0.8, 0)
    labels_HW = blobs((30, 40))
    meta, shapes, fields = write(tmp_path / "p.gpkg", labels_HW, 16, crs, turned)
    if crs is not None:
        assert meta["crs"] == crs
    np.testing.assert_array_equal(
        burn(shapes, fields["class_id"], labels_HW.shape, turned), labels_HW
    )
    if crs is None:
        assert np.isnan(fields["area_m2"]).all()
        return
    # Pixels of a square degree, from the equator to 48 degrees north.
    pixel_m2 = fields["area_m2"] / fields["pixels"]
    assert pixel_m2.max() < 1.24e10
    assert pixel_m2.min() > 0.6 * 1.24e10


@needs_extra
def test_the_file_holds_their_style(tmp_path):
    write(tmp_path / "p.gpkg", blobs((30, 40)), 16)
    with closing(sqlite3.connect(tmp_path / "p.gpkg")) as database:
        wanted = "f_table_name, f_geometry_column, useAsDefault, styleQML"
        ((table, column, default, style),) = database.execute(f"SELECT {wanted} FROM layer_styles")
        known = database.execute("SELECT column_name FROM gpkg_geometry_columns").fetchall()
    assert (table, [(column,)], default) == ("classes", known, 1)
    root = Xml.fromstring(style)
    (renderer,) = root.iter("renderer-v2")
    assert renderer.get("attr") == "class_name"
    shown = [(one.get("value"), one.get("label")) for one in root.iter("category")]
    assert shown == [(name, name) for name in LABELS.names]
    colours = [one.get("value") for one in root.iter("Option") if one.get("name") == "color"]
    assert colours == [",".join(map(str, (*colour, 255))) for colour in LABELS.colours.tolist()]


@needs_extra
def test_they_are_read_as_labels_without_naming_a_layer(tmp_path):
    labels_HW = blobs((90, 70))
    _, shapes, _ = write(tmp_path / "p.gpkg", labels_HW, 90)
    size = RasterInfo(90, 70, ("class",), "uint8", 255, CRS_OF_UTM, UTM["transform"], "uint8")
    found = rasters.read_features(tmp_path / "p.gpkg", size, attribute="class_name")
    assert len(found.geometries) == len(shapes)
    assert rasters.attributes(tmp_path / "p.gpkg")["class_name"]


@needs_extra
def test_polygons_of_predicted_scenes(tmp_path):
    model = make_model(tmp_path / "model")
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        make_scene(tmp_path / "in" / f"{name}.tif", (90, 50, 3), nodata=0)
    settings = Settings(tiling=SMALL, polygons=tmp_path / "vectors")
    predict_scenes(model, [tmp_path / "in"], tmp_path / "out", settings, progress=Silent())
    for name in ("a", "b"):
        path = tmp_path / "vectors" / f"{name}.gpkg"
        meta, _, geometry, fields = pyogrio.raw.read(path, layer="classes")
        assert meta["crs"] == "EPSG:32633"
        labels_HW = rasters.read(tmp_path / "out" / f"{name}.tif")[0][..., 0]
        burned_HW = burn(shapely.from_wkb(geometry), fields[0], (90, 50), UTM["transform"])
        np.testing.assert_array_equal(burned_HW, labels_HW)
    with pytest.raises(CheckpointError, match="exists"):
        predict_scenes(model, [tmp_path / "in"], tmp_path / "other", settings, progress=Silent())


def test_what_cannot_be_written_is_refused_first(tmp_path, monkeypatch):
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (40, 40, 3))

    def predict(name):
        settings = Settings(polygons=tmp_path / name)
        predict_scenes(model, [source], tmp_path / "m.tif", settings, progress=Silent())

    with pytest.raises(ConfigError, match=r"ends in \.gpkg"):
        predict("p.shp")
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(ConfigError, match=r"terrazzo\[vector\]"):
        predict("p.gpkg")
    assert not (tmp_path / "m.tif").exists()


@needs_extra
def test_polygons_of_the_demo_are_those_of_the_whole_map(tmp_path):
    """Class, shape with its holes, and area, with noise on it too."""
    demo.open_split(tmp_path, "val", demo.Options())  # draws the scene
    labels_HW = rasters.read(tmp_path / "labels.tif")[0][:300, :320, 0]
    noise = np.random.default_rng(0).random(labels_HW.shape) < 0.05
    labels_HW[150:][noise[150:]] = 1
    labels_HW[labels_HW > 4] = 255
    _, shapes, fields = write(tmp_path / "p.gpkg", labels_HW, 64)
    found = features.shapes(labels_HW, labels_HW != 255, 4)
    expected = [(int(k), shapely.geometry.shape(one)) for one, k in found]
    in_pixels = np.array([one for _, one in expected], object)
    size = RasterInfo(300, 320, ("c",), "uint8", 255, CRS_OF_UTM, UTM["transform"], "uint8")
    areas_m2 = ground.areas_m2(in_pixels, size)
    a, b, c, d, e, f = UTM["transform"][:6]
    placed = shapely.transform(in_pixels, lambda xy: xy @ [[a, d], [b, e]] + [c, f])
    assert shapely.is_valid(shapes).all()

    def rows(ids, polygons, pixels, areas):
        wkb = shapely.to_wkb(shapely.normalize(polygons)).tolist()
        return sorted(zip(ids, wkb, pixels, np.round(areas, 6), strict=True))

    ids = [k for k, _ in expected]
    wanted = rows(ids, placed, shapely.area(in_pixels).astype(int).tolist(), areas_m2)
    ids, pixels = (fields[name].tolist() for name in ("class_id", "pixels"))
    assert rows(ids, shapes, pixels, fields["area_m2"]) == wanted
    assert sum(len(one.interiors) > 3 for one in shapes) > 5
