"""GeoPackages that are filled through SQLite are those that GDAL would have made."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
import rasterio
from affine import Affine

from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.inference import polygonize
from terrazzo.io.rasters import RasterInfo
from terrazzo.testing.scenes import UTM

pyogrio = pytest.importorskip("pyogrio", reason="terrazzo[vector] is not installed")
shapely = pytest.importorskip("shapely", reason="terrazzo[vector] is not installed")

CLASSES = LabelMap(
    "odd names",
    tuple(
        LabelClass(name, "#000000", (k,)) for k, name in enumerate(("a \"b\" 'c'", "A", "a", "é"))
    ),
)


def write(path, labels_HW, place=UTM["transform"], **settings):
    crs = rasterio.crs.CRS.from_user_input(UTM["crs"])
    size = RasterInfo(*labels_HW.shape, ("class",), "uint8", 255, crs, place, "uint8")
    polygonize.write(path, [labels_HW], size, CLASSES, **settings)


def labels(shape, seed=0):
    found_HW = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    found_HW[found_HW == 3] = 255
    return found_HW


def test_the_index_answers_as_the_shapes_do(tmp_path):
    """Of no leaf of its own, of one level of them, and of two; boxes that meet it are enough."""
    for number, shape in enumerate([(1, 2), (20, 20), (60, 70), (200, 210)]):
        path = tmp_path / f"{number}.gpkg"
        write(path, labels(shape))
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT rtreecheck('rtree_classes_geom')").fetchone() == ("ok",)
            (indexed,) = database.execute("SELECT count(*) FROM rtree_classes_geom").fetchone()
            (extent,) = database.execute(
                "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE data_type = 'features'"
            ).fetchall()
            depth = database.execute("SELECT data FROM rtree_classes_geom_node WHERE nodeno = 1")
            assert int.from_bytes(depth.fetchone()[0][:2], "big") == (0, 1, 1, 2)[number]
        fids, shapes = pyogrio.raw.read(path, layer="classes", return_fids=True)[1:3]
        shapes = shapely.from_wkb(shapes)
        assert indexed == len(shapes)
        assert fids.tolist() == list(range(1, len(shapes) + 1))
        info = pyogrio.read_info(path, layer="classes")
        assert info["features"] == len(shapes)
        assert info["capabilities"]["fast_spatial_filter"]
        np.testing.assert_array_equal(info["total_bounds"], shapely.total_bounds(shapes))
        assert extent == info["total_bounds"]
        left, bottom, right, top = info["total_bounds"]
        for low, high in ((0.1, 0.3), (0.5, 0.52), (-1, -0.5)):
            box = (
                left + low * (right - left),
                bottom + low * (top - bottom),
                left + high * (right - left),
                bottom + high * (top - bottom),
            )
            found = pyogrio.raw.read(path, layer="classes", bbox=box, return_fids=True)[1]
            meets = shapely.box(*shapely.bounds(shapes).T).tolist()
            expected = fids[shapely.intersects(shapely.box(*box), np.array(meets))]
            # The index may hold a box a float32 wider; GDAL looks at the shapes themselves.
            exact = fids[shapely.intersects(shapely.box(*box), shapes)]
            assert set(exact) <= set(found) <= set(expected)


def test_the_boxes_of_the_index_are_not_smaller_than_the_shapes(tmp_path):
    """They are float32, which these coordinates are not."""
    path = tmp_path / "p.gpkg"
    write(path, labels((20, 20)), Affine(0.013, 0, 392_000.07, 0, -0.013, 5_820_000.03))
    bounds = shapely.bounds(shapely.from_wkb(pyogrio.raw.read(path, layer="classes")[2]))
    with closing(sqlite3.connect(path)) as database:
        columns = "minx, miny, maxx, maxy"
        rows = database.execute(f"SELECT {columns} FROM rtree_classes_geom ORDER BY id").fetchall()
    boxes = np.array(rows)
    assert (boxes[:, :2] <= bounds[:, :2]).all()
    assert (boxes[:, 2:] >= bounds[:, 2:]).all()
    assert np.abs(boxes - bounds).max() < 1


def test_what_is_added_later_is_counted_and_indexed(tmp_path):
    """By the triggers of GDAL, which were put aside."""
    path = tmp_path / "p.gpkg"
    write(path, labels((9, 9)))
    before = pyogrio.read_info(path, layer="classes")["features"]
    pyogrio.raw.write(
        path,
        geometry=np.array([shapely.to_wkb(shapely.box(0, 0, 1, 1))], object),
        field_data=[np.array([1], np.int32)],
        fields=["class_id"],
        geometry_type="Polygon",
        crs=UTM["crs"],
        layer="classes",
        append=True,
    )
    assert pyogrio.read_info(path, layer="classes")["features"] == before + 1
    assert len(pyogrio.raw.read(path, layer="classes", bbox=(0, 0, 1, 1))[2]) == 1


def test_a_layer_for_each_class(tmp_path):
    path = tmp_path / "p.gpkg"
    labels_HW = labels((30, 40))
    write(path, labels_HW)
    _, _, shapes, fields = pyogrio.raw.read(path, layer="classes")
    write(path, labels_HW, layer_per_class=True)
    names = [f"{k} {name}" for k, name in enumerate(CLASSES.names)]
    assert pyogrio.list_layers(path)[:, 0].tolist() == [*names, "layer_styles"]
    with closing(sqlite3.connect(path)) as database:
        styled = database.execute("SELECT f_table_name FROM layer_styles").fetchall()
    assert styled == [(name,) for name in names]
    for k, name in enumerate(names):
        meta, _, some, columns = pyogrio.raw.read(path, layer=name)
        assert meta["crs"] == UTM["crs"]
        expected = shapes[fields[0] == k]
        assert some.tolist() == expected.tolist()
        assert (len(some) > 0) == (k < 3)
        assert columns[2].tolist() == fields[2][fields[0] == k].tolist()
        assert set(columns[1]) <= {CLASSES.names[k]}


def test_a_map_without_a_class_makes_an_empty_layer(tmp_path):
    path = tmp_path / "p.gpkg"
    write(path, np.full((9, 9), 255, np.uint8))
    assert pyogrio.read_info(path, layer="classes")["features"] == 0


def test_without_the_module_of_the_index_there_is_none(tmp_path, monkeypatch):
    from terrazzo.io import geopackage

    monkeypatch.setattr(geopackage, "_has_rtree", lambda: False)
    write(tmp_path / "p.gpkg", labels((9, 9)))
    info = pyogrio.read_info(tmp_path / "p.gpkg", layer="classes")
    assert not info["capabilities"]["fast_spatial_filter"]
    assert len(pyogrio.raw.read(tmp_path / "p.gpkg", layer="classes")[2]) == info["features"] > 0
