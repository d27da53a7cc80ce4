"""What a raster of classes, or a file beside it, says of its values: names and colours.

Looked for, the first that tells counts: a raster attribute table in the TIFF (GDAL 3.12 writes it
there, as we do), one in ``X.tif.aux.xml``, ``X.tif.vat.dbf`` as ArcGIS writes it, category names in
``X.tif.aux.xml``, and the colour table. What cannot be read tells nothing: these files are no part
of the data.

Sources: GDAL 3.12, documentation of GDALRasterAttributeTable and PAM; dBASE III file structure.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from rasterio.enums import ColorInterp

from terrazzo.base.errors import DataError
from terrazzo.io import image_headers
from terrazzo.io.rasters import tiff_kinds
from terrazzo.io.rasters.handles import handle
from terrazzo.io.remote_paths import RemotePath

_MOST_BYTES = 1 << 24  # of a table that is read
_MOST_ROWS = 1 << 16
_LARGEST = (1 << 16) - 1
_TEXT, _NUMBER = "2", "1"
"""Types of columns as GDAL numbers them: of a string, of a real number."""
_USES = {"5": "value", "3": "value", "2": "name", "6": "red", "7": "green", "8": "blue"}
_VALUES = ("value", "min", "grid_code", "code")
_NAMES = (
    "class_name",
    "classname",
    "class",
    "class_names",
    "category",
    "label",
    "label3",
    "legend",
    "name",
    "land_cover",
    "landcover",
    "nlcd_land",
    "description",
)
"""Columns that hold names, in lower case, where none is marked so; the first that is there counts,
or else the first column of text."""


@dataclass(frozen=True, slots=True)
class StoredClass:
    """What a file says of one value; empty and None: nothing."""

    name: str = ""
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    use: str
    kind: str


def stored_classes(path: Path) -> dict[int, StoredClass]:
    """Return what a GeoTIFF and the files beside it say of its values; empty: nothing."""
    names: dict[int, str] = {}
    colours: dict[int, int] = {}
    beside = (_in_the_tiff, _beside, _vat_of, _categories_of)
    for source in (*(() if isinstance(path, RemotePath) else beside), _colour_table_of):
        try:
            found = dict(source(path))
        except (OSError, ValueError, struct.error, IndexError, ElementTree.ParseError, DataError):
            continue
        for value, each in found.items():
            if each.name:
                names.setdefault(value, each.name)
            if each.colour is not None:
                colours.setdefault(value, each.colour)
    return {
        value: StoredClass(names.get(value, ""), colours.get(value))
        for value in sorted(names.keys() | colours.keys())
    }


_Found = Iterable[tuple[int, StoredClass]]


def _in_the_tiff(path: Path) -> _Found:
    found = image_headers.tiff_metadata(path)
    return () if found is None else _attribute_table(found[1].rstrip(b"\0"))


def _beside(path: Path) -> _Found:
    return _attribute_table(_read(path.with_name(f"{path.name}.aux.xml")))


def _categories_of(path: Path) -> _Found:
    """Yield the names that GDAL calls categories: the position of each is its value."""
    tree = _parsed(_read(path.with_name(f"{path.name}.aux.xml")))
    band = tree.find("PAMRasterBand")
    categories = [] if band is None else band.findall("CategoryNames/Category")
    return [(value, StoredClass(name=_tidy(each.text))) for value, each in enumerate(categories)]


def _colour_table_of(path: Path) -> _Found:
    dataset = handle(path).dataset
    if dataset.colorinterp[0] is not ColorInterp.palette or tiff_kinds.is_white_zero(dataset):
        return ()
    return [
        (value, StoredClass(colour=red << 16 | green << 8 | blue))
        for value, (red, green, blue, *_) in dataset.colormap(1).items()
    ]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST_BYTES)


def _parsed(xml: bytes) -> ElementTree.Element:
    if b"<!DOCTYPE" in xml or b"<!ENTITY" in xml:  # none of GDAL's, and can be abused
        raise ValueError
    return ElementTree.fromstring(xml)  # noqa: S314 - no entities, see above


def _attribute_table(xml: bytes) -> _Found:
    table = next(_parsed(xml).iter("GDALRasterAttributeTable"), None)
    if table is None:
        return ()
    columns = [
        _Column(*(each.findtext(key, "") for key in ("Name", "Usage", "Type")))
        for each in sorted(table.findall("FieldDefn"), key=lambda each: int(each.get("index", 0)))
    ]
    rows = [[cell.text or "" for cell in row.findall("F")] for row in table.findall("Row")]
    first, size = float(table.get("Row0Min", 0)), float(table.get("BinSize", 1))
    return _classes(columns, rows, [first + size * number for number in range(len(rows))])


def _vat_of(path: Path) -> _Found:
    """Yield what a value attribute table in dBASE form says."""
    data = _read(path.with_name(f"{path.name}.vat.dbf"))
    num_rows, first, length = struct.unpack_from("<IHH", data, 4)
    columns, starts = [], [1]  # a row begins with a mark of deletion
    for at in range(32, first - 1, 32):
        if data[at] == 0x0D:
            break
        name, kind, width = struct.unpack_from("<11sc4xB", data, at)
        text = name.split(b"\0")[0].decode("latin-1")
        columns.append(_Column(text, "", _TEXT if kind == b"C" else _NUMBER))
        starts.append(starts[-1] + width)
    rows = []
    for at in range(first, first + min(num_rows, _MOST_ROWS) * length, length):
        row = data[at : at + length]
        if len(row) == length and row[:1] != b"*":
            cells = [row[start:end] for start, end in itertools.pairwise(starts)]
            rows.append([_decoded(cell).strip() for cell in cells])
    return _classes(columns, rows, None)


def _decoded(cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell.decode("latin-1")


def _classes(
    columns: Sequence[_Column], rows: Sequence[Sequence[str]], usual: Sequence[float] | None
) -> Iterator[tuple[int, StoredClass]]:
    """Yield what rows say; `usual` are the values they stand for where no column tells."""
    at_value = _find(columns, "value", _VALUES)
    at_name = _find(columns, "name", _NAMES)
    if at_name is None:
        at_name = next((at for at, each in enumerate(columns) if each.kind == _TEXT), None)
    at_colours = [_find(columns, each, (each,)) for each in ("red", "green", "blue")]
    shares = _are_shares(rows, at_colours)
    for number, row in enumerate(rows[:_MOST_ROWS]):
        if len(row) != len(columns) or (at_value is None and usual is None):
            continue
        value = float(row[at_value]) if at_value is not None else (usual or ())[number]
        if value % 1 or not 0 <= value <= _LARGEST:
            continue
        name = "" if at_name is None else _tidy(row[at_name])
        yield int(value), StoredClass(name, _colour(row, at_colours, shares))


def _find(columns: Sequence[_Column], use: str, names: Sequence[str]) -> int | None:
    marked = [at for at, each in enumerate(columns) if _USES.get(each.use) == use]
    named = [
        at for name in names for at, each in enumerate(columns) if each.name.casefold() == name
    ]
    return next(iter(marked + named), None)


def _are_shares(rows: Sequence[Sequence[str]], at_colours: Sequence[int | None]) -> bool:
    """Tell whether colours go from 0 to 1, as those of ERDAS do, and not to 255."""
    told = [row[at] for row in rows for at in at_colours if at is not None and at < len(row)]
    return any("." in each for each in told) and all(float(each) <= 1 for each in told)


def _colour(row: Sequence[str], at_colours: Sequence[int | None], shares: bool) -> int | None:
    if None in at_colours:
        return None
    levels = [float(row[at]) * (255 if shares else 1) for at in at_colours if at is not None]
    if not all(0 <= level <= 255 for level in levels):
        return None
    red, green, blue = (round(level) for level in levels)
    return red << 16 | green << 8 | blue


def _tidy(text: str | None) -> str:
    return " ".join((text or "").split())
