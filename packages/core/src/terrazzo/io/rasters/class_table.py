"""Names and colours of classes inside a GeoTIFF, as a raster attribute table.

GDAL keeps the table of a TIFF in a file beside it (``.aux.xml``) up to 3.11; from 3.12 on it also
reads and writes one in the tag GDAL_METADATA, as an item whose role is ``rat``. Earlier releases
pass over that item. They cannot be made to write it, so a text of the same length is written in its
place, which they carry along like any other, and the finished file gets the table instead of it.

Source: documentation of GDAL 3.12, GTiff driver, and the tables its own driver writes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from terrazzo.base import printable
from terrazzo.io import image_headers

_KEY = "DEFAULT_RASTER_ATTRIBUTE_TABLE"
_ROLE = ' role="rat"'
_FILLING = "_"
_INTEGER, _TEXT = ("Integer", 0), ("String", 2)
_COLUMNS = (
    ("Value", _INTEGER, ("MinMax", 5)),
    ("Class", _TEXT, ("Name", 2)),
    ("Red", _INTEGER, ("Red", 6)),
    ("Green", _INTEGER, ("Green", 7)),
    ("Blue", _INTEGER, ("Blue", 8)),
)
"""Name, type and use of each column, with the numbers that GDAL has for them."""


@dataclass(frozen=True)
class ClassTable:
    """What pixels of a class map mean.

    Attributes:
        names: K names; the position of each is the value of its pixels.
        colours_K3: K×3 uint8, red, green, blue.
    """

    names: tuple[str, ...]
    colours_K3: NDArray[np.uint8]

    @property
    def palette(self) -> dict[int, tuple[int, int, int, int]]:
        """Red, green, blue and opacity by value, as rasterio takes them."""
        return {
            k: (int(red), int(green), int(blue), 255)
            for k, (red, green, blue) in enumerate(self.colours_K3)
        }

    @property
    def place_holder(self) -> dict[str, str]:
        """The item of the band's metadata that `put_into` turns into the table."""
        return {_KEY: _FILLING * self._length}

    def put_into(self, path: Path) -> bool:
        """Put the table where a GeoTIFF has `place_holder`; no other byte of it changes.

        Returns:
            Whether the place was found. It is not in a file that was cut short.

        Raises:
            OSError: the disk refuses.
        """
        try:
            found = image_headers.tiff_metadata(path)
        except struct.error:
            return False
        first, text = found or (0, b"")
        at = text.find(self._old_item)
        if at < 0:
            return False
        with path.open("r+b") as file:
            file.seek(first + at)
            file.write(self._new_item)
        return True

    @property
    def _length(self) -> int:
        return len(_ROLE) + len(self._xml.encode())

    @property
    def _old_item(self) -> bytes:
        return f'<Item name="{_KEY}" sample="0">{_FILLING * self._length}</Item>'.encode()

    @property
    def _new_item(self) -> bytes:
        return f'<Item name="{_KEY}" sample="0"{_ROLE}>{self._xml}</Item>'.encode()

    @property
    def _xml(self) -> str:
        columns = (
            f'<FieldDefn index="{number}"><Name>{name}</Name>'
            f'<Type typeAsString="{kind[0]}">{kind[1]}</Type>'
            f'<Usage usageAsString="{use[0]}">{use[1]}</Usage></FieldDefn>'
            for number, (name, kind, use) in enumerate(_COLUMNS)
        )
        rows = (
            f'<Row index="{k}"><F>{k}</F><F>{escape(printable.one_line(name))}</F>'
            f"<F>{red}</F><F>{green}</F><F>{blue}</F></Row>"
            for k, (name, (red, green, blue)) in enumerate(
                zip(self.names, self.colours_K3.tolist(), strict=True)
            )
        )
        return (
            '<GDALRasterAttributeTable tableType="thematic">'
            f"{''.join(columns)}{''.join(rows)}</GDALRasterAttributeTable>"
        )
