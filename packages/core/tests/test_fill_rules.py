"""Polygons as pixels: both rules against GDAL and Pillow, and what must hold whatever the shape."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
from PIL import Image, ImageDraw
from rasterio import features

from terrazzo.base.errors import DataError
from terrazzo.io.annotations import draw, fill_centre, fill_inclusive
from terrazzo.io.annotations.draw import DrawingRules
from terrazzo.io.annotations.shapes import AnnotatedImage, Ellipse, Line, Mask, Part, Polygon, Shape

NUMBER = 400


def rings(seed):
    """Random rings: whole and broken numbers, crossing themselves, beyond the image, tiny."""
    rng = np.random.default_rng(seed)
    for number in range(NUMBER):
        rows, columns = (int(size) for size in rng.integers(2, 40, 2))
        corners = int(rng.integers(3, 10))
        low, high = ([0, 0], [columns, rows]), ([-6, -6], [columns + 6, rows + 6])
        match number % 4:
            case 0:
                ring = rng.uniform(*low, (corners, 2))
            case 1:
                ring = rng.integers(0, [columns + 1, rows + 1], (corners, 2)).astype(float)
            case 2:
                ring = rng.uniform(*high, (corners, 2))
            case _:  # a pixel or two
                ring = rng.uniform(0, 2, (corners, 2)) + rng.integers(0, [columns, rows])
        yield ring, (rows, columns)


def filled(ring, size, fill=fill_centre):
    return fill.fill_ring(np.asarray(ring, float), (0, 0, *size))


def by_gdal(ring, size, *holes):
    outlines = [[*each.tolist(), each[0].tolist()] for each in (ring, *holes)]
    shape = {"type": "Polygon", "coordinates": outlines}
    return features.rasterize([(shape, 1)], out_shape=size).astype(bool)


def by_pillow(ring, size):
    image = Image.new("L", size[::-1])
    ImageDraw.Draw(image).polygon([tuple(point) for point in ring.tolist()], fill=1, outline=1)
    return np.array(image) > 0


def test_centre_is_what_gdal_fills():
    for ring, size in rings(1):
        np.testing.assert_array_equal(filled(ring, size), by_gdal(ring, size), str(ring.tolist()))


def test_centre_with_holes_is_what_gdal_fills():
    rng = np.random.default_rng(2)
    num_holes = 0
    for _ in range(250):
        size = tuple(rng.integers(8, 40, 2).tolist())
        angles = (np.arange(9) + rng.uniform(0, 0.8, 9)) * 2 * np.pi / 9
        round_92 = np.stack([np.cos(angles), np.sin(angles)], 1)
        ring = np.array(size[::-1]) / 2 + round_92 * rng.uniform(4, 25)
        hole = np.array(size[::-1]) / 2 + round_92 * rng.uniform(0.5, 4)
        shape = Shape("a", "polygon", Polygon((Part(ring, (hole,)),)), "[0]")
        label_HW = drawn([shape], size).label_HW
        np.testing.assert_array_equal(label_HW > 0, by_gdal(ring, size, hole))
        num_holes += (filled(ring, size) & (label_HW == 0)).any()
    assert num_holes > 100


@pytest.mark.skipif(PIL.__version__.split(".")[0] != "13", reason="Pillow 13 is what it follows")
def test_inclusive_is_what_pillow_13_fills():
    for ring, size in rings(3):
        ours = filled(ring, size, fill_inclusive)
        np.testing.assert_array_equal(ours, by_pillow(ring, size), str(ring.tolist()))


@pytest.mark.parametrize("fill", [fill_centre, fill_inclusive])
def test_a_part_of_the_image_has_the_same_pixels(fill):
    for ring, (rows, columns) in rings(4):
        whole = filled(ring, (rows, columns), fill)
        top, left = rows // 3, columns // 3
        part = fill.fill_ring(ring, (top, left, rows, columns))
        np.testing.assert_array_equal(part, whole[top:, left:], str(ring.tolist()))


def test_the_way_round_the_start_and_the_closing_point_change_nothing():
    for ring, size in rings(5):
        expected = filled(ring, size)
        for same in (ring[::-1], np.roll(ring, 2, axis=0), np.concatenate([ring, ring[:1]])):
            np.testing.assert_array_equal(filled(same, size), expected)


def test_a_mirrored_ring_fills_the_mirrored_pixels():
    """Where no centre lies on an edge: there one side has to be chosen."""
    num_seen = 0
    for ring, size in rings(6):
        if (ring != np.round(ring)).all():
            mirrored = [size[1], 0] + ring * [-1, 1]
            np.testing.assert_array_equal(filled(mirrored, size), filled(ring, size)[:, ::-1])
            upside_down = [0, size[0]] + ring * [1, -1]
            np.testing.assert_array_equal(filled(upside_down, size), filled(ring, size)[::-1])
            num_seen += 1
    assert num_seen >= 200


def test_shapes_that_share_a_border_leave_no_gap_and_claim_nothing_twice():
    rng = np.random.default_rng(7)
    for number in range(250):
        rows, columns = size = tuple(rng.integers(3, 40, 2).tolist())
        border = rng.uniform(0, [columns, rows], (int(rng.integers(2, 7)), 2))
        if number % 2:  # through centres of pixels
            border = np.floor(border) + 0.5
        border = border[np.argsort(border[:, 1])]
        border = np.array([[columns / 2, 0], *border, [columns / 3, rows]])
        left = filled([[0, rows], [0, 0], *border], size)
        right = filled([[columns, 0], [columns, rows], *border[::-1]], size)
        assert (left ^ right).all(), border.tolist()


def test_halves_go_one_way_for_every_shape():
    """Squares on half pixels, side by side, tile the image."""
    total = np.zeros((6, 6), int)
    for x in np.arange(-0.5, 6, 1):
        for y in np.arange(-0.5, 6, 1):
            ring = [[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]]
            total += filled(ring, (6, 6))
            total += filled(ring[::-1], (6, 6))
    assert (total == 2).all()


# Whole images


def drawn(shapes, size, counts=True, **rules):
    rules = DrawingRules({"a": 1, "b": 2}, **rules)
    return draw.draw(AnnotatedImage(None, tuple(shapes)), size, rules, file="f", counts=counts)


def square(name, left, top, side, **more):
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]]) + np.array([left, top], float)
    return Shape(name, "polygon", Polygon((Part(corners),)), f"{name}{left}", **more)


def test_the_last_shape_lies_on_top_and_every_shape_is_counted():
    shapes = [
        square("a", 0, 0, 4),
        square("b", 2, 0, 4),
        square("a", 3.6, 0.6, 0.3),  # between two centres
        square("b", 6, 6, 1),
        square("a", 5, 5, 4),
    ]
    found = drawn(shapes, (8, 8))
    assert found.label_HW[0].tolist() == [1, 1, 2, 2, 2, 2, 0, 0]
    account = found.account
    assert account.shapes == {"polygon": 5}
    assert account.empty == {"a": 1}
    assert account.hidden == {"b": 1}
    assert account.clipped == 1
    assert account.overlaps == {("b", "a"): 8, ("a", "b"): 1}
    assert account.pixels == {"a": 8 + 9, "b": 16}
    assert np.array_equal(found.label_HW, drawn(shapes, (8, 8), counts=False).label_HW)


@pytest.mark.parametrize(("crowds", "value"), [("keep", 1), ("ignore", 255), ("background", 0)])
def test_crowds_are_kept_ignored_or_not_drawn(crowds, value):
    found = drawn([square("a", 0, 0, 2, is_crowd=True)], (2, 2), crowds=crowds)
    assert (found.label_HW == value).all()
    assert found.account.undrawn == (value == 0)


def test_parts_are_united_and_not_even_odd():
    """Two parts of an object stay filled where they overlap; a ring with itself does not."""
    parts = tuple(square("a", at, 0, 3).geometry.parts[0] for at in (0, 1))
    label_HW = drawn([Shape("a", "polygon", Polygon(parts), "[0]")], (3, 4)).label_HW
    assert (label_HW == 1).all()
    twice = np.concatenate([part.outline for part in parts[:1] * 2])
    assert not filled(twice, (3, 4)).any()


def test_a_hole_beyond_its_outline_takes_away_and_never_adds():
    outline, hole = (square("a", at, 0, 3).geometry.parts[0].outline for at in (0, 2))
    label_HW = drawn([Shape("a", "polygon", Polygon((Part(outline, (hole,)),)), "[0]")], (3, 6))
    assert label_HW.label_HW[0].tolist() == [1, 1, 0, 0, 0, 0]


def test_ellipses_and_lines_have_their_area():
    ellipse = Shape("a", "ellipse", Ellipse(50, 40, 30, 12, 30), "[0]")
    area = np.count_nonzero(drawn([ellipse], (100, 100)).label_HW)
    assert area == pytest.approx(np.pi * 30 * 12, rel=0.01)
    turned = drawn([ellipse], (100, 100)).label_HW
    assert turned[52, 71] == 1  # clockwise on the screen: the right end lies below
    assert turned[28, 71] == 0
    line = Shape("b", "line", Line(np.array([[20.0, 20.0], [80.0, 20.0]])), "[0]")
    label_HW = drawn([line], (100, 100), line_width=4.0).label_HW
    assert (label_HW[18:22, 20:80] == 2).all()
    assert np.count_nonzero(label_HW) == pytest.approx(60 * 4 + np.pi * 4, abs=4)


def test_masks_beyond_the_image_are_cut_and_counted():
    mask = Shape("a", "mask", Mask(np.ones((4, 4), bool), -2, 1), "[0]")
    found = drawn([mask], (3, 3))
    assert found.label_HW.tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 0]]
    assert found.account.clipped == 1


@pytest.mark.parametrize(
    ("shape", "code", "told"),
    [
        (Shape("c", "polygon", square("a", 0, 0, 1).geometry, "[7]"), "SEG-D112", "'c': [7]"),
        (
            Shape("a", "polygon", Polygon((Part(np.array([[0.0, 0], [1, 1], [0, 0]])),)), "[7]"),
            "SEG-D113",
            "2 in [7]",
        ),
        (
            Shape("a", "polygon", Polygon((Part(np.array([[0, 0], [1, np.nan], [3, 3]])),)), "[7]"),
            "SEG-D113",
            "nan in [7]",
        ),
        (
            Shape("a", "polygon", Polygon((Part(np.array([[0, 0], [1, 1e30], [3, 3]])),)), "[7]"),
            "SEG-D113",
            "1e+30 in [7]",
        ),
        (Shape("a", "ellipse", Ellipse(1, 1, 0, 1), "[7]"), "SEG-D113", "0 and 1 in [7]"),
        (Shape("a", "line", Line(np.zeros((2, 2))), "[7]"), "SEG-D116", "[7] (line"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(shape, code, told):
    with pytest.raises(DataError) as caught:
        drawn([shape], (4, 4))
    assert caught.value.code == code
    assert told in str(caught.value)
