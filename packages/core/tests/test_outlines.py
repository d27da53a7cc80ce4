"""Outlines of areas by strips are those that GDAL finds in the whole map."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rasterio import features

from terrazzo.io import rasters
from terrazzo.io.rasters import pixel_runs
from terrazzo.io.rasters.linked_order import chains_of
from terrazzo.io.rasters.pixel_runs import components


def noise(shape, seed, smooth, classes, dtype, nodata):
    rng = np.random.default_rng(seed)
    layers_KHW = [cv2.GaussianBlur(rng.random(shape), (0, 0), smooth) for _ in range(classes + 1)]
    labels_HW = np.argmax(layers_KHW, axis=0).astype(dtype)
    labels_HW[labels_HW == classes] = nodata
    return labels_HW


def rings_in_rings(dtype, nodata):
    """Squares in squares, some without data, the inmost ones beside each other."""
    labels_HW = np.zeros((41, 37), dtype)
    for depth in range(1, 9):
        value = nodata if depth % 3 == 2 else depth % 4
        labels_HW[2 * depth : -2 * depth, 2 * depth : -2 * depth] = value
    labels_HW[18:20, 17:19] = 1
    labels_HW[20:22, 19:21] = 1
    labels_HW[5:9, 30] = labels_HW[30, 5:9] = 3
    return labels_HW


def spiral(dtype, nodata):
    labels_HW = np.full((32, 32), nodata, dtype)
    row, column, step = 0, 0, (0, 1)
    for length in (31, 31, 31, *(n for n in range(29, 2, -2) for _ in range(2))):
        for _ in range(length):
            labels_HW[row, column] = 1
            row, column = row + step[0], column + step[1]
        step = (step[1], -step[0])
    return labels_HW


def knots(dtype, nodata):
    """Areas that touch themselves and each other in corners, in many ways."""
    rng = np.random.default_rng(3)
    labels_HW = rng.integers(0, 2, (40, 40)).astype(dtype)
    labels_HW[10:14, 10:14] = nodata
    labels_HW[20:30, 20:30] = np.indices((10, 10)).sum(axis=0) % 2
    return labels_HW


MAPS = {
    "noise": lambda dtype, nodata: noise((50, 41), 0, 0.3, 3, dtype, nodata),
    "blobs": lambda dtype, nodata: noise((70, 60), 1, 2.5, 3, dtype, nodata),
    "two classes": lambda dtype, nodata: noise((60, 33), 2, 1.0, 2, dtype, nodata),
    "rings in rings": rings_in_rings,
    "spiral": spiral,
    "knots": knots,
    "one row": lambda dtype, nodata: noise((1, 50), 4, 0.5, 3, dtype, nodata),
    "one column": lambda dtype, nodata: noise((50, 1), 5, 0.5, 3, dtype, nodata),
    "one class": lambda dtype, nodata: np.ones((20, 7), dtype),
    "nothing": lambda dtype, nodata: np.full((20, 7), nodata, dtype),
}


def outlines(labels_HW, rows, nodata):
    """Return label, pixels and rings of all areas, in their order."""
    groups = (labels_HW[row : row + rows] for row in range(0, len(labels_HW), rows))
    found = []
    for one in rasters.outlines_of(groups, len(labels_HW), nodata):
        corners, rings = one.corners.tolist(), one.ring_offsets
        for number in range(len(one)):
            first, last = one.polygon_offsets[number : number + 2]
            parts = [corners[rings[ring] : rings[ring + 1]] for ring in range(first, last)]
            found.append((int(one.label[number]), int(one.pixels[number]), parts))
    return found


def canonical(ring):
    """Return a ring from its first corner on, to the right, without its end."""
    corners = [(y, x) for x, y in ring[:-1]]
    first = corners.index(min(corners))
    corners = corners[first:] + corners[:first]
    return tuple(corners if corners[1][0] == corners[0][0] else [corners[0], *corners[:0:-1]])


def as_set(areas):
    return sorted(
        (label, canonical(outline), tuple(sorted(map(canonical, holes))))
        for label, (outline, *holes) in areas
    )


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint16", 65535), ("uint16", 0)])
@pytest.mark.parametrize("name", MAPS)
def test_they_are_those_of_the_whole_map(name, dtype, nodata):
    labels_HW = MAPS[name](dtype, nodata)
    expected = [
        (int(label), geometry["coordinates"])
        for geometry, label in features.shapes(labels_HW, labels_HW != nodata, 4)
    ]
    whole = outlines(labels_HW, len(labels_HW), nodata)
    assert as_set([(label, rings) for label, _, rings in whole]) == as_set(expected)
    assert sum(pixels for _, pixels, _ in whole) == (labels_HW != nodata).sum()
    for rows in (1, 2, 7, 16):
        assert outlines(labels_HW, rows, nodata) == whole, rows


def test_their_order_and_their_corners_are_as_told():
    labels_HW = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0], [2, 2, 1]], np.uint8)
    (first, second, third, fourth) = outlines(labels_HW, 2, 255)
    assert first == (1, 1, [[[1, 1], [2, 1], [2, 2], [1, 2], [1, 1]]])
    outline, hole = second[2]
    assert second[:2] == (0, 8)
    assert outline == [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0]]
    assert hole == [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]]
    assert [third[:2], fourth[:2]] == [(2, 2), (1, 1)]


def test_strips_of_wide_maps_are_lower(monkeypatch):
    labels_HW = MAPS["blobs"]("uint8", 255)
    whole = outlines(labels_HW, 70, 255)
    monkeypatch.setattr(pixel_runs, "_STRIP_PIXELS", 100)
    heights = [len(strip) for strip in pixel_runs.strips_of([labels_HW])]
    assert heights == [1] * 70
    assert outlines(labels_HW, 70, 255) == whole


def test_each_corner_is_put_together_once(monkeypatch):
    """Of an area that every strip continues, however many strips there are."""
    from terrazzo.io.rasters import outlines as module

    moved = []
    original = module._flat
    monkeypatch.setattr(
        module, "_flat", lambda pieces: (moved.append(original(pieces)), moved[-1])[1]
    )
    labels_HW = np.zeros((64, 20), np.uint8)
    labels_HW[:, 1::2] = 1
    labels_HW[::2, -3] = 2
    whole = outlines(labels_HW, 1, 255)
    corners = sum(len(ring) - 1 for _, _, rings in whole for ring in rings)
    assert sum(map(len, moved)) <= corners


@pytest.mark.parametrize("seed", range(5))
def test_chains_are_followed_from_end_to_end(seed):
    rng = np.random.default_rng(seed)
    things = rng.permutation(500)
    lengths = [1, 2, 3, 1, 2, 200, 91, 200]
    following, chains, at = np.full(500, -1), [], 0
    for number, length in enumerate(lengths):
        chain = things[at : at + length].tolist()
        following[chain[:-1]] = chain[1:]
        if number % 2 == 0:
            following[chain[-1]] = chain[0]
        chains.append((chain, number % 2 == 0))
        at += length
    found = chains_of(following)
    parts = [
        found.order[first:last].tolist()
        for first, last in zip(found.first[:-1], found.first[1:], strict=True)
    ]
    for chain, is_ring in chains:
        (part,) = [part for part in parts if chain[0] in part]
        turned = part.index(chain[0]) if is_ring else 0
        assert part[turned:] + part[:turned] == chain


def test_what_is_linked_has_one_number():
    ones, others = np.array([5, 2, 9, 7, 3]), np.array([2, 8, 9, 3, 1])
    assert components(10, ones, others).tolist() == [0, 1, 2, 1, 4, 2, 6, 1, 2, 9]
    rng = np.random.default_rng(0)
    path = rng.permutation(300)
    assert components(301, path[1:], path[:-1]).tolist() == [0] * 300 + [300]
