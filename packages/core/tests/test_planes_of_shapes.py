"""Shapes that QuPath has drawn in one plane of a stack; those of ImageJ: test_imagej_rois.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets

CORNERS = [[0, 0], [9, 0], [9, 8], [0, 8], [0, 0]]


def source(root, plane_of_shape, plane):
    for folder in ("images", "annotations"):
        (root / folder).mkdir()
    stack_TZHW = np.arange(10, dtype=np.uint8).reshape(2, 5, 1, 1) * np.ones((20, 30), np.uint8)
    tifffile.imwrite(root / "images/a.tif", stack_TZHW, imagej=True, metadata={"axes": "TZYX"})
    geometry = {"type": "Polygon", "coordinates": [CORNERS], **plane_of_shape}
    named = {"objectType": "annotation", "classification": {"name": "a"}}
    feature = {"type": "Feature", "geometry": geometry, "properties": named}
    (root / "annotations/a.geojson").write_text(json.dumps([feature]))
    options = {"split": {"train": 1, "val": 0, "test": 0}, "classes": ["a"], "plane": plane}
    return datasets.open_source(
        DataConfig(format="qupath", root=str(root), options=options), "train"
    )


def test_objects_of_the_plane_that_is_read_are_drawn(tmp_path):
    raw = source(tmp_path, {"plane": {"c": -1, "z": 3, "t": 1}}, {"z": 3, "t": 1}).read(0)

    assert (raw.image_HWC == 8).all()
    assert np.count_nonzero(raw.raw_label == 1) == 72


@pytest.mark.parametrize("drawn", [{}, {"plane": {"c": -1, "z": 3, "t": 0}}])
def test_objects_of_another_plane_are_refused(tmp_path, drawn):
    """QuPath writes no plane where it is the first."""
    with pytest.raises(DataError) as caught:
        source(tmp_path, drawn, {"z": 3, "t": 1}).read(0)

    assert caught.value.code == "SEG-D116"
    assert "z = 3, t = 1" in caught.value.allowed
