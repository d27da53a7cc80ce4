"""Float GeoTIFF with NaN pixels that the file does not declare as nodata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import Survey
from terrazzo.io.raster_formats import is_raster


def find(survey: Survey) -> Iterator[Finding]:
    """Yield rasters with NaN where the file does not say that NaN means no data.

    They are read as pixels without data. Infinite pixels are refused when they are read, so they
    are in `Image.faults`.
    """
    seen: set[Path] = set()
    for scanned in survey.scanned_images:
        image = scanned.image
        if image is None or image.dtype != "float32" or image.valid == 1:
            continue
        for path in scanned.files:
            if is_raster(path) and path not in seen:
                seen.add(path)
                yield from _look(path)


def _look(path: Path) -> Iterator[Finding]:
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    try:
        found = rasters.undeclared_nan(path)
    except DataError:  # it has changed since
        return
    if found is not None:
        count, first = found
        yield Finding(
            Level.WARNING,
            "SEG-D022",
            "the raster has NaN pixels and does not declare them as nodata",
            str(path),
            f"{count} values are NaN, first in {first}",
            "finite numbers, or NaN as the nodata value",
            "they are left out of training and scores; if that is meant, say so in the file "
            "(`gdal_edit.py -a_nodata nan FILE`), else find the step that made them",
        )
