"""Lines and points by their width: against rasterisers that share no line with ours."""

from __future__ import annotations

import json

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.features import rasterize

from terrazzo.base.errors import DataError
from terrazzo.data.datasets import geotiff
from terrazzo.io import rasters

ROADS = [
    ("road", [(20, 15), (60, 35), (130, 30)]),
    ("road", [(70, 5), (75, 90)]),
    ("path", [(10, 80), (50, 60), (120, 85)]),
]
"""Corners as columns and rows of 100×140 pixels."""
SHAPE = (100, 140)
CHOSEN = {
    "burn_property": "kind",
    "burn_values": {"road": 1, "path": 2},
    "burn_width": {"road": 12.0, "path": 5.0},
}


def from_origin(west, north, width, height):
    return Affine(width, 0, west, 0, -height, north)


def write(root, place, *shapes, crs=None):
    """Write an image and shapes, each a geometry of shapely with its kind."""
    rasters.write(root / "image.tif", np.ones((*SHAPE, 1), np.uint8), **place)
    features = [
        {"type": "Feature", "properties": {"kind": kind}, "geometry": shapely.geometry.mapping(s)}
        for kind, s in shapes
    ]
    document = {"type": "FeatureCollection", "features": features}
    if crs:
        document["crs"] = {"type": "name", "properties": {"name": crs}}
    (root / "a.geojson").write_text(json.dumps(document))


def opened(root, **changes):
    scene = {"images": ("image.tif",), "label": "a.geojson"}
    everything = {"chip": 140, "block": 1, "split": {"train": 1, "val": 0, "test": 0}}
    options = geotiff.Options(scenes=(scene,), **everything, **changes)
    return geotiff.open_split(root, "train", options)


def drawn(root, **changes):
    return opened(root, **changes).open_scenes[0].label_HW


def lines(place):
    t = place["transform"]
    return [
        (kind, shapely.LineString([(t.c + c * t.a, t.f + r * t.e) for c, r in corners]))
        for kind, corners in ROADS
    ]


UTM = {"crs": "EPSG:32633", "transform": from_origin(392_000.3, 5_820_000.7, 2, 2)}


def test_equal_to_buffers_of_shapely_burnt_by_rasterio(tmp_path):
    """IoU 1: on a grid in metres, nothing but the width is added to what the libraries do."""
    write(tmp_path, UTM, *lines(UTM), ("road", shapely.Point(392_101, 5_819_850)))
    shapes = [*lines(UTM), ("road", shapely.Point(392_101, 5_819_850))]
    width, value = CHOSEN["burn_width"], CHOSEN["burn_values"]
    expected_HW = rasterize(
        [(line.buffer(width[kind] / 2), value[kind]) for kind, line in shapes],
        out_shape=SHAPE,
        transform=UTM["transform"],
    )
    np.testing.assert_array_equal(drawn(tmp_path, **CHOSEN), expected_HW)
    assert len(np.unique(expected_HW)) == 3


SOME_HW = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 9 == 0
"""A ninth of the pixels, in a pattern askew."""


def within(line, place, radius):
    """Tell for each pixel whether its centre is within `radius` metres of a line, by geodesics.

    Each pixel is looked at from itself: the line's points, 1 m apart, by distance on the ellipsoid.
    """
    geod = pyproj.CRS.from_user_input(place["crs"]).get_geod()
    rows, columns = np.indices(SHAPE) + 0.5
    t = place["transform"]
    x, y = t.c + t.a * columns, t.f + t.e * rows
    near_HW = SOME_HW & shapely.dwithin(shapely.points(x, y), line, 30e-5)  # 13 m at least
    inside_HW = np.zeros(SHAPE, bool)
    nearest = np.full(int(near_HW.sum()), np.inf)
    for px, py in shapely.get_coordinates(line.segmentize(1e-5)):
        _, _, metres = geod.inv(
            x[near_HW], y[near_HW], np.full_like(nearest, px), np.full_like(nearest, py)
        )
        nearest = np.minimum(nearest, metres)
    inside_HW[near_HW] = nearest <= radius
    return inside_HW


@pytest.mark.parametrize(
    ("longitude", "latitude"), [(13.4, 52.5), (25.7, 66.5), (-179.9995, -16.8)]
)
def test_a_width_on_an_image_in_degrees_is_metres_on_the_ground(tmp_path, longitude, latitude):
    place = {"crs": "EPSG:4326", "transform": from_origin(longitude, latitude, 1e-5, 1e-5)}
    write(tmp_path, place, *lines(place))
    label_HW = drawn(tmp_path, **CHOSEN)
    road_HW = np.logical_or.reduce(
        [within(line, place, 6.0) for kind, line in lines(place) if kind == "road"]
    )
    path_HW = within(lines(place)[2][1], place, 2.5)
    expected_HW = np.where(path_HW, 2, np.where(road_HW, 1, 0))
    # A circle is 64 corners there: half a per cent of the radius, at a few pixels of the edge.
    differ_HW = (label_HW != expected_HW) & SOME_HW
    assert differ_HW.sum() <= 0.01 * (expected_HW > 0).sum()
    assert all((expected_HW == value).sum() > 50 for value in (1, 2))


def test_lines_in_degrees_are_straight_in_degrees(tmp_path):
    """A line along a parallel stays on its row, though a straight one on the ground leaves it."""
    place = {"crs": "EPSG:4326", "transform": from_origin(20, 65.0005, 0.005, 1e-5)}
    row = place["transform"].f - 50.5e-5
    write(tmp_path, place, ("road", shapely.LineString([(20.0, row), (20.7, row)])))
    label_HW = drawn(tmp_path, burn=1, burn_width=1.2)  # the pixels are 1.1 m high and 234 m wide
    assert label_HW[:, 2:138].nonzero()[0].tolist() == [50] * 136


def test_a_disc_about_a_point_in_degrees_is_round_on_the_ground(tmp_path):
    place = {"crs": "EPSG:4326", "transform": from_origin(10, 60, 2e-5, 1e-5)}  # 1.11 m × 1.11 m
    point = shapely.Point(10 + 70.5 * 2e-5, 60 - 50.5e-5)
    write(tmp_path, place, ("road", point))
    label_HW = drawn(tmp_path, burn=1, burn_width=44.0)
    rows, columns = (np.ptp(axis.nonzero()[0]) + 1 for axis in (label_HW.any(1), label_HW.any(0)))
    assert abs(rows - 44 / 1.114) <= 1
    assert abs(columns - 44 / 1.117) <= 1


def test_grads_from_paris_are_degrees_too(tmp_path):
    place = {"crs": "EPSG:4807", "transform": from_origin(0, 54, 1e-5, 1e-5)}
    write(tmp_path, place, *lines(place)[1:2])
    label_HW = drawn(tmp_path, burn=1, burn_width=20.0)
    # A grad is 0.9 degrees: at 48.6 degrees north a hundred-thousandth of one is 0.66 m from west
    # to east; the line is nearly upright.
    assert abs(int((label_HW[50] > 0).sum()) - 20 / 0.664) <= 1


def test_corners_beyond_the_poles_are_named(tmp_path):
    place = {"crs": "EPSG:4326", "transform": from_origin(10, 60, 1e-5, 1e-5)}
    write(tmp_path, place, ("road", shapely.LineString([(10.001, 59.9999), (10.001, 95)])))
    with pytest.raises(DataError, match="latitude") as caught:
        drawn(tmp_path, burn=1, burn_width=6.0)
    assert "shape 0" in str(caught.value)


def test_a_width_in_stretched_map_units_is_told(tmp_path):
    place = {"crs": "EPSG:3857", "transform": from_origin(1_000_000, 8_399_737, 1, 1)}  # 60° N
    write(tmp_path, place, *lines(place))
    (note,) = [n for n in opened(tmp_path, **CHOSEN).notes if "burn_width" in n]
    assert "EPSG:3857" in note
    assert "0.5013 m on the ground" in note
    (tmp_path / "plain").mkdir()
    write(tmp_path / "plain", UTM, *lines(UTM))
    assert not [n for n in opened(tmp_path / "plain", **CHOSEN).notes if "burn_width" in n]


def test_a_long_line_is_as_wide_at_its_ends_as_in_the_middle(tmp_path):
    """Twenty degrees of a river: taken onto planes piece by piece, not onto one."""
    place = {"crs": "EPSG:4326", "transform": Affine(0.15, 0, 0, 0, -0.001, 60.05)}
    write(tmp_path, place, ("road", shapely.LineString([(0, 60), (21, 60)])))
    heights = (drawn(tmp_path, burn=1, burn_width=6000.0) > 0).sum(axis=0)
    assert set(heights[1:-1].tolist()) <= {53, 54}  # a pixel is 111.4 m high
