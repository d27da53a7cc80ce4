"""GeoTIFF images and labels: do they lie on one grid of the ground?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from terrazzo.base.errors import DataError
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.io.raster_formats import is_raster

_TOLERANCE = 0.01  # of a pixel: rounding in the file, not an offset


def find(survey: Survey) -> Iterator[Finding]:
    """Yield pairs of GeoTIFF whose corners or reference systems differ.

    Codes of reference systems are compared by what they mean to GDAL, and where the grids agree a
    difference is a warning: data sets name one system in several ways.
    """
    seen = set()
    for scanned in survey.scanned_images:
        pair = scanned.files[:2]
        if survey.sources[scanned.split].is_cut_from_scenes:
            continue  # opening it compared them, by its own settings
        if len(scanned.files) == 2 and all(map(is_raster, pair)) and pair not in seen:
            seen.add(pair)
            yield from _compare(scanned, *pair)


def _compare(scanned: ScannedImage, image: Path, label: Path) -> Iterator[Finding]:
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    try:
        first, second = rasters.info(image), rasters.info(label)
    except DataError:  # found by decoding
        return
    if not (first.has_place and second.has_place):
        return
    # Affine is nine numbers, row by row; corners of the label, in pixels of the image.
    to_ground, label_to_ground = (
        np.array(info.transform, np.float64).reshape(3, 3) for info in (first, second)
    )
    corners = np.array([[0, first.columns, 0], [0, 0, first.rows], [1, 1, 1]], np.float64)
    offset = float(np.abs(np.linalg.solve(to_ground, label_to_ground @ corners) - corners).max())
    two_systems = first.crs is not None and second.crs is not None and first.crs != second.crs
    if offset > _TOLERANCE and two_systems:
        yield Finding(
            Level.ERROR,
            "SEG-D025",
            "image and label lie in different reference systems",
            scanned.label_file,
            f"{second.crs}, {first.crs} in {image}",
            "one reference system",
            "warp the label to the grid of the image, e.g. `gdalwarp -r near -t_srs`",
        )
    elif offset > _TOLERANCE:
        yield Finding(
            Level.ERROR,
            "SEG-D026",
            "image and label do not lie on one grid",
            scanned.label_file,
            f"corners up to {offset:.2f} pixels apart: origin ({second.transform.c:g}, "
            f"{second.transform.f:g}), ({first.transform.c:g}, {first.transform.f:g}) in {image}",
            "the same corners",
            "warp the label to the grid of the image, e.g. `gdalwarp -r near`",
        )
    elif two_systems:
        yield Finding(
            Level.WARNING,
            "SEG-D025",
            "image and label name different reference systems",
            scanned.label_file,
            f"{second.crs}, {first.crs} in {image}",
            "one reference system",
            "the grids agree, so it may be one system under two names: look at both in a GIS",
        )
