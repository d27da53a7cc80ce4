"""How large the classes of a map are: pixels, hectares on the ground and shares, as CSV and text.

These are counts of the map. Its errors are in them; `terrazzo.metrics.area_estimation` corrects
for these by reference points.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.base import printable
from terrazzo.base.atomic_write import replace_text
from terrazzo.base.csv_names import csv_text, name_from_csv
from terrazzo.data import class_map
from terrazzo.data.ground import PixelAreas
from terrazzo.data.labels import LabelMap
from terrazzo.io.rasters import RasterInfo

NODATA = "(no data)"
"""In the place of a name, in the line of pixels without a class."""
SQUARE_METRES = 10_000.0
"""Of a hectare."""
_COLUMNS = ("class_id", "class_name", "pixels", "hectares", "share")


@dataclass(frozen=True, slots=True)
class ClassArea:
    """A class of a map.

    Attributes:
        id: its value; None: pixels without a class.
        name: of the class.
        pixels: how many.
        hectares: on the ellipsoid; NaN where the map does not say where it lies.
        share: of the area that has a class, 0…1; of the pixels where areas are not known. NaN for
            pixels without a class.
    """

    id: int | None
    name: str
    pixels: int
    hectares: float
    share: float


def of_groups(
    groups: Iterable[NDArray[np.integer]], info: RasterInfo, label_map: LabelMap, path: Path
) -> tuple[ClassArea, ...]:
    """Add up the classes of a map while its rows are there.

    Args:
        groups: labels R×W from the first row to the last.
        info: CRS and transform.
        label_map: K classes; its ignore value is no class.
        path: of the map, for messages.

    Returns:
        The K classes, those that are not there too, then the pixels without a class.
    """
    pairs = ((labels_RW, labels_RW != label_map.ignore_index) for labels_RW in groups)
    return _added_up(class_map.sums_by_row(pairs, info, path), info, label_map.names)


class PassingAreas:
    """Adds up the classes of a map while its rows pass on their way to another reader.

    Args:
        info: CRS and transform.
        label_map: K classes; its ignore value is no class.
        path: of the map, for messages.
    """

    def __init__(self, info: RasterInfo, label_map: LabelMap, path: Path) -> None:
        self._info, self._label_map, self._path = info, label_map, path
        self._sums: list[class_map.RowSums] = []

    def passing(self, groups: Iterable[NDArray[np.integer]]) -> Iterator[NDArray[np.integer]]:
        """Yield the groups, labels R×W from the first row to the last."""
        ours, others = tee(groups)
        ignored = self._label_map.ignore_index
        pairs = ((labels_RW, labels_RW != ignored) for labels_RW in ours)
        sums = class_map.sums_by_row(pairs, self._info, self._path)
        for labels_RW, of_group in zip(others, sums, strict=True):
            self._sums.append(of_group)
            yield labels_RW

    @property
    def areas(self) -> tuple[ClassArea, ...]:
        """As `of_groups` of what has passed."""
        return _added_up(self._sums, self._info, self._label_map.names)


def of_map(path: Path) -> tuple[ClassArea, ...]:
    """Add up the classes of a map that lies on the disk; those of `of_groups` in the same order.

    Raises:
        DataError: as `class_map.open_map` and `class_map.sums_by_row`.
    """
    found = class_map.open_map(path)
    sums = class_map.sums_by_row(found.groups(), found.info, path)
    return _added_up(sums, found.info, found.names)


def _added_up(
    sums: Iterable[class_map.RowSums], info: RasterInfo, names: Sequence[str]
) -> tuple[ClassArea, ...]:
    pixels: defaultdict[int | None, int] = defaultdict(int)
    parts: defaultdict[int | None, list[float]] = defaultdict(list)
    for each in sums:
        for at, id_ in enumerate(each.ids_V.tolist()):
            pixels[id_] += int(each.pixels_RV[:, at].sum())
            parts[id_].append(math.fsum(each.areas_RV[:, at]))
        pixels[None] += int(each.nodata_R.sum())
        parts[None].append(math.fsum(each.nodata_areas_R))
    ids = sorted({*range(len(names)), *(id_ for id_ in pixels if id_ is not None)})
    nothing = 0.0 if PixelAreas(info).known else math.nan
    hectares = {id_: math.fsum(parts[id_] or [nothing]) / SQUARE_METRES for id_ in (*ids, None)}
    weights = [hectares[id_] for id_ in ids]
    if math.isnan(sum(weights)):
        weights = [float(pixels[id_]) for id_ in ids]
    total = math.fsum(weights)
    rows = [
        ClassArea(
            id_,
            names[id_] if 0 <= id_ < len(names) else f"class {id_}",
            pixels[id_],
            hectares[id_],
            weight / total if total else math.nan,
        )
        for id_, weight in zip(ids, weights, strict=True)
    ]
    return (*rows, ClassArea(None, NODATA, pixels[None], hectares[None], math.nan))


def write(path: Path, areas: Sequence[ClassArea]) -> None:
    """Write areas as CSV; what is not known is an empty field.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for each in areas:
        id_ = "" if each.id is None else each.id
        name = each.name if each.id is None else csv_text(each.name)
        numbers = (_number(each.hectares, ".10g"), _number(each.share, ".8g"))
        lines.writerow((id_, name, each.pixels, *numbers))
    replace_text(path, text.getvalue())


def read(path: Path) -> tuple[ClassArea, ...]:
    """Read what `write` has written."""
    with path.open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return tuple(
        ClassArea(
            int(id_) if id_ else None,
            name_from_csv(name) if id_ else name,
            int(pixels),
            float(hectares or "nan"),
            float(share or "nan"),
        )
        for id_, name, pixels, hectares, share in rows
    )


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def text_lines(areas: Sequence[ClassArea]) -> list[str]:
    """Return a table for a terminal: classes that are on the map, and pixels without one."""
    shown = [each for each in areas if each.pixels]
    names = [printable.one_line(each.name) for each in shown]
    width = max(map(len, (*names, "class")))
    lines = [f"  {'class':<{width}}  {'pixels':>15}  {'hectares':>15}    share"]
    for name, each in zip(names, shown, strict=True):
        hectares = "unknown" if math.isnan(each.hectares) else f"{each.hectares:,.2f}"
        share = "" if math.isnan(each.share) else f"{100 * each.share:6.2f} %"
        lines.append(f"  {name:<{width}}  {each.pixels:>15,}  {hectares:>15}  {share}".rstrip())
    return lines
