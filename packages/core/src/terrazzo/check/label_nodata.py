"""Label rasters whose nodata value is the raw value of a class, which then is nowhere labelled."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path

import numpy as np

from terrazzo.base.errors import DataError
from terrazzo.check.finding import Finding, Level
from terrazzo.data.datasets import MaskedLabels, Source
from terrazzo.data.labels import LabelMap
from terrazzo.io.raster_formats import is_raster

_STRIP = 256  # rows looked at together


def find(sources: Iterable[Source], label_map: LabelMap | None) -> Iterator[Finding]:
    """Yield the label rasters that call a class nodata; QGIS writes 0 as nodata by itself."""
    if label_map is None:
        return
    name_of = {code: each.name for each in label_map.classes for code in each.raw}
    files = {
        source.files(index)[-1]: None
        for source in sources
        if isinstance(source, MaskedLabels)
        for index in range(len(source.names))
    }
    for file in filter(is_raster, files):
        try:
            found = _nodata_share(file, name_of)
        except DataError:  # found by decoding
            continue
        if found is not None and found[1] > 0:
            yield _finding(file, *found, name_of[found[0]])


def _nodata_share(file: Path, raws: Container[int]) -> tuple[int, float] | None:
    """Return the nodata value and the share of pixels that have it; None: it is no class."""
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    info = rasters.info(file)
    if info.nodata is None or info.nodata != int(info.nodata) or int(info.nodata) not in raws:
        return None
    count = 0
    for row in range(0, info.rows, _STRIP):
        rows = min(_STRIP, info.rows - row)
        label_HW, _ = rasters.read_label_with_mask(file, row, 0, rows, info.columns)
        count += int(np.count_nonzero(label_HW == info.nodata))
    return int(info.nodata), count / (info.rows * info.columns)


def _finding(file: Path, value: int, share: float, name: str) -> Finding:
    return Finding(
        Level.WARNING,
        "SEG-D047",
        "the label raster calls the raw value of a class nodata, so no pixel has that class",
        str(file),
        f"nodata {value} at {share:.1%} of the pixels, which are ignored; in the label map {value} "
        f"is the class {name!r}",
        "a nodata value that is no class",
        f"if {value} means {name!r}, take the declaration away (`gdal_edit.py -unsetnodata FILE`); "
        f"if it means no label, put {value} into `ignored` of the label map",
    )
