"""Polygons that overlap, cross themselves or lie in each other: who wins, and what is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from affine import Affine

from terrazzo.data.datasets import geotiff
from terrazzo.io import rasters

SHAPE = (40, 50)
PLACE = {"crs": "EPSG:32633", "transform": Affine(1, 0, 0, 0, -1, 40)}
NAMES = {"burn_property": "kind", "burn_values": {"building": 1, "road": 2, "tree": 3}}


def ring(left, top, width, height):
    """Return a ring of pixels, by its first column and row."""
    right, low, high = left + width, 40 - top - height, 40 - top
    return [[left, high], [right, high], [right, low], [left, low], [left, high]]


def box(kind, *place):
    return kind, {"type": "Polygon", "coordinates": [ring(*place)]}


def write(root, *shapes):
    rasters.write(root / "image.tif", np.ones((*SHAPE, 1), np.uint8), **PLACE)
    features = [
        {"type": "Feature", "properties": {"kind": kind}, "geometry": geometry}
        for kind, geometry in shapes
    ]
    named = {"type": "name", "properties": {"name": "EPSG:32633"}}
    document = {"type": "FeatureCollection", "crs": named, "features": features}
    (root / "a.geojson").write_text(json.dumps(document))


def opened(root, **changes):
    scene = {"images": ("image.tif",), "label": "a.geojson"}
    everything = {"chip": 50, "block": 1, "split": {"train": 1, "val": 0, "test": 0}}
    options = geotiff.Options(scenes=(scene,), **everything, **changes)
    return geotiff.open_split(root, "train", options)


def drawn(root, **changes):
    return opened(root, **changes).open_scenes[0].label_HW


THREE = (box("building", 5, 5, 20, 20), box("road", 15, 0, 5, 40), box("tree", 0, 10, 50, 2))


def test_later_shapes_lie_on_top_unless_a_priority_is_set(tmp_path):
    write(tmp_path, *THREE)
    assert drawn(tmp_path, **NAMES)[10, 15] == 3
    label_HW = drawn(tmp_path, **NAMES, priority=("building", "road"))
    assert label_HW[10, 15] == 1  # all three
    assert label_HW[10, 3] == 3
    assert label_HW[7, 16] == 1  # building under road in the file
    assert (label_HW == 1).sum() == 400
    assert drawn(tmp_path, **NAMES, priority=("road",))[10, 15] == 2
    assert drawn(tmp_path, **NAMES, priority=("road",))[10, 7] == 3  # unnamed: as in the file


def test_a_priority_by_numbers(tmp_path):
    write(tmp_path, (7, THREE[0][1]), (4, THREE[1][1]))
    assert drawn(tmp_path, burn_property="kind")[7, 16] == 4
    assert drawn(tmp_path, burn_property="kind", priority=("7",))[7, 16] == 7


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"burn": 1, "priority": ("road",)}, "burn_property"),
        ({**NAMES, "priority": ("raod",)}, "raod"),
        ({**NAMES, "priority": ("road", "road")}, "twice"),
    ],
)
def test_a_priority_that_cannot_be_meant_is_refused(tmp_path, changes, word):
    write(tmp_path, *THREE)
    with pytest.raises(ValueError, match=word):
        opened(tmp_path, **changes)


def overlap_note(root, **changes):
    return [note for note in opened(root, **changes).notes if "several classes" in note]


def test_pixels_that_several_classes_claim_are_counted(tmp_path, monkeypatch):
    """Counted class by class with NumPy, also where the grid is looked at in strips."""
    write(tmp_path, *THREE, box("tree", 40, 30, 5, 5), box("tree", 41, 31, 2, 2))
    layers = np.zeros((3, *SHAPE), bool)
    layers[0, 5:25, 5:25] = True
    layers[1, :, 15:20] = True
    layers[2, 10:12] = True
    several = int((layers.sum(axis=0) > 1).sum())
    (note,) = overlap_note(tmp_path, **NAMES)
    assert f": {several} pixels lie in shapes of several classes" in note
    assert "90 px with raw values 1 (building) to 2 (road)" in note
    assert "40 px with raw values 1 (building) to 3 (tree)" in note
    assert "later shape" in note
    monkeypatch.setattr("terrazzo.io.rasters.rasterize._STRIP", 50 * 7)
    assert overlap_note(tmp_path, **NAMES) == [note]
    (note,) = overlap_note(tmp_path, **NAMES, priority=("road",))
    assert "priority = ['road']" in note


def test_shapes_of_one_class_may_overlap_without_a_word(tmp_path):
    write(tmp_path, box("tree", 0, 0, 9, 9), box("tree", 4, 4, 9, 9), box("road", 30, 0, 5, 5))
    assert opened(tmp_path, **NAMES).notes == ()


BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [20, 20], [20, 0], [0, 20], [0, 0]]]}
TWO_HOLES = {
    "type": "Polygon",
    "coordinates": [ring(25, 26, 12, 12), ring(27, 28, 8, 8), ring(29, 30, 4, 4)],
}
NESTED = {"type": "MultiPolygon", "coordinates": [[ring(25, 5, 20, 20)], [ring(30, 10, 5, 5)]]}


def test_bow_ties_and_rings_within_rings_are_named_with_what_becomes_of_them(tmp_path):
    write(
        tmp_path, box("road", 0, 0, 3, 3), ("tree", BOW_TIE), ("tree", NESTED), ("tree", TWO_HOLES)
    )
    split = opened(tmp_path, **NAMES)
    (note,) = [note for note in split.notes if "cross themselves" in note]
    assert "3 of 4 shapes" in note
    assert "shape 1: self-intersection at (10, 10)" in note
    assert "shape 2: nested shells" in note
    assert "shape 3: holes are nested" in note
    assert "odd number" in note
    label_HW = split.open_scenes[0].label_HW
    assert label_HW[12, 32] == 3  # inside both polygons of one shape: joined, as the note says
    assert label_HW[6, 26] == 3
    assert [label_HW[32, 25 + n] for n in (1, 3, 5)] == [3, 0, 3]  # inside 1, 2 and 3 rings
    assert label_HW[22, 10] == 0  # above the crossing of the bow-tie
    assert label_HW[30, 2] == 3


def test_crossed_areas_are_named_as_well(tmp_path):
    write(tmp_path, *THREE)
    area = {"type": "FeatureCollection", "features": []}
    area["features"] = [{"type": "Feature", "properties": {}, "geometry": BOW_TIE}]
    (tmp_path / "area.geojson").write_text(json.dumps(area))
    scene = {"images": ("image.tif",), "label": "a.geojson", "area": "area.geojson"}
    options = geotiff.Options(scenes=(scene,), chip=50, block=1, **NAMES)
    notes = geotiff.open_split(tmp_path, "train", options).notes
    assert any("area.geojson" in note and "self-intersection" in note for note in notes)
