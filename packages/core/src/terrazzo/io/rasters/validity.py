"""Polygons that cross themselves, or whose rings lie in each other as they should not."""

from __future__ import annotations

import importlib.util
import re

from terrazzo.io.rasters.read_vectors import Features

_PLACE = re.compile(r"(.*?)\[(\S+) (\S+)\]")


def faults_of(shapes: Features) -> dict[int, str]:
    """Return what is wrong with polygons, by their number in the file.

    Nothing is found without shapely, which is not needed for GeoJSON otherwise.
    """
    if importlib.util.find_spec("shapely") is None:
        return {}
    import shapely

    found = {}
    for number, geometry in zip(shapes.numbers, shapes.geometries, strict=True):
        if not geometry["type"].endswith("Polygon"):
            continue
        reason = str(shapely.is_valid_reason(shapely.geometry.shape(geometry)))
        if reason != "Valid Geometry":
            found[number] = _in_words(reason)
    return found


def _in_words(reason: str) -> str:
    told = _PLACE.fullmatch(reason)
    if told is None:
        return reason.lower()
    x, y = (f"{float(number):.9g}" for number in told.groups()[1:])
    return f"{told[1].lower()} at ({x}, {y})"
