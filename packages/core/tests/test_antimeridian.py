"""Scenes and shapes at ±180°, where two numbers name one place."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform, transform_geom

from terrazzo.data.datasets import geotiff
from terrazzo.data.datasets._spatial_blocks import Blocks
from terrazzo.io import rasters
from terrazzo.io.rasters import turns

DEGREE = 1e-4
WEST_OF_IT = Affine(DEGREE, 0, 180 - 64 * DEGREE, 0, -DEGREE, -16)
EAST_OF_IT = Affine(DEGREE, 0, -180, 0, -DEGREE, -16)
ACROSS_IT = Affine(DEGREE, 0, 180 - 32 * DEGREE, 0, -DEGREE, -16)


def grid(root, transform, crs="EPSG:4326", rows=64, columns=64, name="image.tif"):
    rasters.write(root / name, np.ones((rows, columns, 1), np.uint8), crs=crs, transform=transform)
    return rasters.info(root / name)


def far_from(grids, owner, scene, buffer=10, side=64):
    """Return which pixels of a scene may train, where scenes belong to splits as `owner` says."""
    blocks = Blocks(tuple(grids), side, buffer, "train", owner)
    far_HW = blocks.far(scene, 0, 0, grids[scene].rows, grids[scene].columns)
    return np.ones((grids[scene].rows, grids[scene].columns), bool) if far_HW is None else far_HW


def test_scenes_on_both_sides_keep_their_buffer(tmp_path):
    """As two scenes do that lie side by side anywhere else, pixel by pixel."""
    owner = {(0, 0, 0): "train", (1, 0, 0): "val"}
    elsewhere = [
        grid(tmp_path, Affine(DEGREE, 0, 20 + n * 64 * DEGREE, 0, -DEGREE, -16)) for n in (0, 1)
    ]
    at_180 = [grid(tmp_path, WEST_OF_IT), grid(tmp_path, EAST_OF_IT)]
    expected_HW = far_from(elsewhere, owner, 0)
    assert expected_HW[:, :55].all()
    assert not expected_HW[:, 55:].any()
    np.testing.assert_array_equal(far_from(at_180, owner, 0), expected_HW)
    np.testing.assert_array_equal(
        far_from(at_180, {(0, 0, 0): "val", (1, 0, 0): "train"}, 1), expected_HW[:, ::-1]
    )
    assert rasters.neighbours(at_180, 0) == ((1,), (0,))


def test_longitudes_beyond_180_name_the_same_place(tmp_path):
    beyond = Affine(DEGREE, 0, 180, 0, -DEGREE, -16)
    grids = [grid(tmp_path, WEST_OF_IT), grid(tmp_path, beyond), grid(tmp_path, EAST_OF_IT)]
    assert rasters.neighbours(grids, 0) == ((1, 2), (0, 2), (0, 1))
    owner = {(0, 0, 0): "train", (1, 0, 0): "train", (2, 0, 0): "test"}
    assert not far_from(grids, owner, 1, buffer=0).any()  # they are one place


def test_mercator_at_its_edge(tmp_path):
    edge = float(transform(CRS.from_epsg(4326), CRS.from_epsg(3857), [180], [0])[0][0])
    west, east = (Affine(10, 0, x, 0, -10, 0) for x in (edge - 640, -edge))
    grids = [grid(tmp_path, each, "EPSG:3857") for each in (west, east)]
    assert rasters.neighbours(grids, 0) == ((1,), (0,))
    far_HW = far_from(grids, {(0, 0, 0): "train", (1, 0, 0): "val"}, 0)
    assert far_HW[:, :54].all()
    assert not far_HW[:, 56:].any()


def test_zone_60_and_zone_1(tmp_path):
    """A scene of each UTM zone: the pixels near the other one, by distances on the ellipsoid."""
    (x_60, x_1), (y_60, y_1) = zip(
        *(
            (a[0], b[0])
            for a, b in (
                transform(CRS.from_epsg(4326), CRS.from_epsg(code), [lon], [0.001])
                for code, lon in ((32660, 180 - 4e-4), (32601, -180 + 1e-4))
            )
        ),
        strict=True,
    )
    left = grid(tmp_path, Affine(1, 0, x_60 - 100, 0, -1, y_60), "EPSG:32660", 100, 100)
    right = grid(tmp_path, Affine(1, 0, x_1, 0, -1, y_1), "EPSG:32601", 100, 100)
    assert rasters.neighbours((left, right), 100) == ((1,), (0,))
    far_HW = far_from((left, right), {(0, 0, 0): "train", (1, 0, 0): "val"}, 0, 80, 100)
    # 5e-4 degrees are 55.7 m: the last 80 - 56 columns are too near.
    assert far_HW[:, :73].all()
    assert not far_HW[10:90, 79:].any()
    near = grid(tmp_path, Affine(1e-4, 0, 179.99, 0, -1e-4, 0.004))  # to 179.9964
    assert rasters.neighbours((left, right, near), 0) == ((), (), ())


def test_a_scene_across_180_meets_those_of_either_side(tmp_path):
    inner = Affine(DEGREE / 8, 0, 180 - 2 * DEGREE, 0, -DEGREE / 8, -16 - 10 * DEGREE)
    other = Affine(DEGREE / 8, 0, -180 + 2 * DEGREE, 0, -DEGREE / 8, -16 - 10 * DEGREE)
    far_away = Affine(DEGREE, 0, 0, 0, -DEGREE, -16)
    grids = [grid(tmp_path, ACROSS_IT)]
    grids += [grid(tmp_path, each, rows=8, columns=8) for each in (inner, other, far_away)]
    assert rasters.neighbours(grids, 0)[0] == (1, 2)
    owner = {(0, 0, 0): "train", (1, 0, 0): "val", (2, 0, 0): "test"}
    near_HW = ~far_from(grids, owner, 0, buffer=1)
    assert near_HW.nonzero()[0].tolist() == [10, 10]
    assert near_HW.nonzero()[1].tolist() == [30, 34]


def test_a_scene_around_the_earth_meets_itself(tmp_path):
    world = grid(tmp_path, Affine(1, 0, -180, 0, -1, 90), rows=180, columns=360)
    owner = {(0, 0, n): "train" for n in range(12)} | {(0, 0, 0): "val"}
    far_HW = far_from([world], owner, 0, buffer=5, side=180 // 6)[:20]
    assert far_HW.all(axis=0).nonzero()[0].tolist() == list(range(34, 356))


def test_turns_are_known_where_coordinates_go_round():
    expected = {"EPSG:4326": 360, "EPSG:4807": 400, "EPSG:3857": 40_075_016.6856}
    for name, turn in expected.items():
        assert turns.turn_of(CRS.from_user_input(name)) == pytest.approx(turn, abs=1e-3)
    for name in ("EPSG:32660", "EPSG:3035", "EPSG:3413", "EPSG:32119"):
        assert turns.turn_of(CRS.from_user_input(name)) is None


# Shapes


def write(root, *geometries, crs=None):
    features = [{"type": "Feature", "properties": {}, "geometry": each} for each in geometries]
    document = {"type": "FeatureCollection", "features": features}
    if crs:
        document["crs"] = {"type": "name", "properties": {"name": crs}}
    (root / "a.geojson").write_text(json.dumps(document))


def drawn(root, **changes):
    scene = {"images": ("image.tif",), "label": "a.geojson"}
    everything = {"chip": 64, "block": 1, "split": {"train": 1, "val": 0, "test": 0}}
    options = geotiff.Options(scenes=(scene,), **everything, **changes)
    return geotiff.open_split(root, "train", options).open_scenes[0].label_HW


def box(left, right, turn=0.0):
    """Return a box of columns of the scene across 180 degrees, at rows 10 to 19."""
    x = [180 + (column - 32) * DEGREE + turn for column in (left, right)]
    y = [-16 - row * DEGREE for row in (10, 20)]
    ring = [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]
    return {"type": "Polygon", "coordinates": [ring]}


def wrapped(geometry):
    """Return a geometry with longitudes between -180 and 180, as files have them."""
    if isinstance(geometry, list) and isinstance(geometry[0], float):
        x = geometry[0]
        return [x - 360 if x > 180 else x, geometry[1]]
    if isinstance(geometry, list):
        return [wrapped(each) for each in geometry]
    return {**geometry, "coordinates": wrapped(geometry["coordinates"])}


CUT = {
    "type": "MultiPolygon",
    "coordinates": [box(20, 32)["coordinates"], box(32, 50, -360)["coordinates"]],
}
"""As RFC 7946 has it: cut in two at 180 degrees."""


@pytest.mark.parametrize(
    "shape", [box(20, 50), wrapped(box(20, 50)), CUT], ids=["beyond 180", "a leap", "cut"]
)
def test_a_polygon_across_180_covers_a_scene_across_it(tmp_path, shape):
    grid(tmp_path, ACROSS_IT)
    write(tmp_path, shape)
    expected_HW = np.zeros((64, 64), np.uint8)
    expected_HW[10:20, 20:50] = 1
    np.testing.assert_array_equal(drawn(tmp_path), expected_HW)


@pytest.mark.parametrize(("place", "columns"), [(WEST_OF_IT, (52, 64)), (EAST_OF_IT, (0, 18))])
def test_each_side_gets_its_part(tmp_path, place, columns):
    grid(tmp_path, place)
    for shape in (wrapped(box(20, 50)), CUT):
        write(tmp_path, shape)
        label_HW = drawn(tmp_path)
        assert label_HW[10:20].any(axis=0).nonzero()[0].tolist() == list(range(*columns))
        assert label_HW.sum() == 10 * (columns[1] - columns[0])


def test_shapes_of_utm_on_a_scene_across_180(tmp_path):
    grid(tmp_path, ACROSS_IT)
    write(tmp_path, transform_geom("EPSG:4326", "EPSG:32760", box(20, 50)), crs="EPSG:32760")
    label_HW = drawn(tmp_path, align="reproject")
    assert 295 <= label_HW.sum() <= 305
    assert label_HW[15, 21:49].all()


@pytest.mark.parametrize("leap", [False, True])
def test_a_line_across_180_has_its_width_on_both_sides(tmp_path, leap):
    pytest.importorskip("shapely")
    grid(tmp_path, ACROSS_IT)
    y = -16 - 15.5 * DEGREE
    line = {"type": "LineString", "coordinates": [[180 - 20 * DEGREE, y], [180 + 20 * DEGREE, y]]}
    write(tmp_path, wrapped(line) if leap else line)
    label_HW = drawn(tmp_path, burn_width=55.0)  # a pixel is 11.1 m high
    assert label_HW[:, 12:52].sum(axis=0).tolist() == [5] * 40
    for place, columns in ((WEST_OF_IT, (44, 64)), (EAST_OF_IT, (0, 20))):
        grid(tmp_path, place)
        write(tmp_path, wrapped(line))
        label_HW = drawn(tmp_path, burn_width=55.0)
        assert (label_HW.sum(axis=0)[slice(*columns)] == 5).all()


def test_a_line_on_one_side_reaches_over(tmp_path):
    pytest.importorskip("shapely")
    grid(tmp_path, EAST_OF_IT)
    x, ends = 180 - DEGREE, (-16 - 10 * DEGREE, -16 - 50 * DEGREE)
    beside = {"type": "Point", "coordinates": [-180 + 40 * DEGREE, ends[0]]}
    write(tmp_path, {"type": "LineString", "coordinates": [[x, y] for y in ends]}, beside)
    label_HW = drawn(tmp_path, burn_width=64.1)  # 32 m, three pixels of 10.7 m, one of them here
    assert label_HW[30].nonzero()[0].tolist() == [0, 1]


def test_a_polygon_around_the_earth_stays_what_it_is(tmp_path):
    ring = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    for place in (WEST_OF_IT, ACROSS_IT, Affine(1, 0, -180, 0, -1, 32)):
        grid(tmp_path, place)
        write(tmp_path, {"type": "Polygon", "coordinates": [ring]})
        assert drawn(tmp_path).all()


def test_longitudes_from_0_to_360(tmp_path):
    grid(tmp_path, Affine(5.625, 0, 0, 0, -2.8125, 90))
    ring = [[-20, -10], [30, -10], [30, 40], [-20, 40], [-20, -10]]
    write(tmp_path, {"type": "Polygon", "coordinates": [ring]})
    columns = drawn(tmp_path).any(axis=0).nonzero()[0].tolist()
    assert columns == [0, 1, 2, 3, 4, 60, 61, 62, 63]


def test_shapes_that_lie_where_the_grid_does_are_left_as_they_are(tmp_path):
    here = grid(tmp_path, Affine(DEGREE, 0, 13, 0, -DEGREE, 52))
    x, y = 13.001, 51.999
    shapes = [
        {"type": "Point", "coordinates": (x, y, 30.0)},
        {"type": "LineString", "coordinates": [(x, y), (x + 170, y)]},
        {"type": "Polygon", "coordinates": [[(-170, 0), (170, 0), (170, 60), (-170, 0)]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": (x, y)}]},
    ]
    for before, after in zip(shapes, turns.brought_to(shapes, here), strict=True):
        assert before == after
    assert all(a != b for a, b in pairwise(shapes))
