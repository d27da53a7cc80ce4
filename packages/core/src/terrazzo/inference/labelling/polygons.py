"""Areas of classes as outlines without holes, ordered so that nothing is hidden.

Labelling programs know no holes: what lies inside an outline is drawn above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_Ring = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Outline:
    """The outline of one area of a class.

    Attributes:
        train_id: its class.
        corners: x and y of each, in pixels from the upper left corner of the image; three at least.
        depth: in how many other outlines it lies: it is drawn above those of lesser depth.
    """

    train_id: int
    corners: tuple[tuple[float, float], ...]
    depth: int


def outlines(labels_HW: NDArray[np.integer], nodata: int, tolerance: float) -> list[Outline]:
    """Return the outlines of all areas; pixels that share a side are one area.

    Args:
        labels_HW: uint8 or uint16.
        nodata: value of pixels that belong to no class.
        tolerance: pixels that an outline may be off to have fewer corners; at 0, drawing the
            outlines by their depth gives the labels again, but for `nodata` inside of an area.
    """
    from terrazzo.io import rasters  # GDAL is loaded by those who need it

    areas = [
        (k, geometry["coordinates"])
        for geometry, k in rasters.areas_of_equal_pixels(labels_HW, 0, nodata)
    ]
    # What lies inside of an area is smaller than its outline.
    areas.sort(key=lambda area: -_enclosed(area[1][0]))
    depth_HW = np.zeros(labels_HW.shape, np.int32)
    found = []
    for k, (ring, *holes) in areas:
        x, y = min(ring, key=lambda corner: (corner[1], corner[0]))  # its pixel is of the area
        depth = int(depth_HW[int(y), int(x)])
        for hole in holes:
            _fill(depth_HW, hole, depth + 1)
        found.append(Outline(k, _simplified(ring[:-1], tolerance), depth))
    return found


def _enclosed(ring: _Ring) -> float:
    x, y = np.array(ring).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def _fill(depth_HW: NDArray[np.int32], ring: _Ring, value: int) -> None:
    """Give the pixels inside a ring of whole numbers a value."""
    from rasterio import features
    from rasterio.transform import Affine

    left, top = (int(side) for side in np.min(ring, axis=0))
    right, bottom = (int(side) for side in np.max(ring, axis=0))
    polygon: dict[str, Any] = {"type": "Polygon", "coordinates": [ring]}
    inside = features.rasterize(
        [(polygon, 1)],
        (bottom - top, right - left),
        transform=Affine.translation(left, top),
        dtype="uint8",
    )
    depth_HW[top:bottom, left:right][inside == 1] = value


def _simplified(ring: _Ring, tolerance: float) -> tuple[tuple[float, float], ...]:
    if tolerance > 0:
        corners = cv2.approxPolyDP(np.array(ring, np.float32)[:, None], tolerance, closed=True)
        if len(corners) >= 3:
            return tuple((float(x), float(y)) for x, y in corners[:, 0])
    return tuple((float(x), float(y)) for x, y in ring)
