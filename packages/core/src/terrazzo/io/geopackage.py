"""Polygons added to layers of a GeoPackage, some at a time.

GDAL makes the file and its tables. Rows are added through SQLite, for GDAL opens, indexes and
counts a layer anew each time something is added to it: its time grows with the square of the parts.
The triggers that keep index and count up to date call functions of GDAL's; they are put aside until
all rows are there, and the index is filled beside the rows.

Needs the extra ``terrazzo[vector]``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.io.rtree import IndexFiller

_HEADER = np.dtype(
    [("magic", "S2"), ("version", "u1"), ("flags", "u1"), ("srs_id", "<i4"), ("box", "<f8", 4)]
)
_LITTLE_ENDIAN_WITH_BOX = 0b011


class PolygonFile:
    """A new GeoPackage: `complete` it in the end, or `abandon` it."""

    def __init__(
        self, path: Path, layers: Sequence[str], fields: Mapping[str, Any], crs: str
    ) -> None:
        """Make the file with empty layers.

        Args:
            path: where to; replaced if it is there.
            layers: their names.
            fields: NumPy type by name of field; object for text.
            crs: as WKT, or `terrazzo.io.rasters.NO_CRS`.

        Raises:
            RuntimeError: GDAL cannot make it.
            sqlite3.Error: SQLite cannot open it.
        """
        import pyogrio.raw

        path.unlink(missing_ok=True)
        for number, layer in enumerate(layers):
            pyogrio.raw.write(
                str(path),
                geometry=np.array([], object),
                field_data=[np.array([], dtype) for dtype in fields.values()],
                fields=list(fields),
                geometry_type="Polygon",
                crs=crs,
                driver="GPKG",
                layer=layer,
                layer_options={"SPATIAL_INDEX": "YES" if _has_rtree() else "NO"},
                append=number > 0,
            )
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")  # the file is new: there is no way back
        self._database.execute("PRAGMA synchronous = OFF")
        self._layers = {layer: _Layer(self._database, layer, list(fields)) for layer in layers}
        self._triggers = self._put_triggers_aside()
        self._database.execute("BEGIN")

    def add(
        self, layer: str, wkb: NDArray[np.object_], boxes: NDArray[np.float64], columns: Any
    ) -> None:
        """Add N polygons.

        Args:
            layer: its name.
            wkb: N geometries.
            boxes: N×4: least x and y, greatest x and y.
            columns: N values of each field.
        """
        self._layers[layer].add(wkb, boxes, columns)

    def complete(self) -> None:
        """Write what belongs at the end, and close the file."""
        for layer in self._layers.values():
            layer.finish()
        for sql in self._triggers:
            self._database.execute(sql)
        self._database.execute("COMMIT")
        self._database.close()

    def abandon(self) -> None:
        """Close the file as it is; nothing happens where it is complete."""
        self._database.close()

    def _put_triggers_aside(self) -> list[str]:
        found = []
        for name, table, sql in self._database.execute(
            "SELECT name, tbl_name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            if table in self._layers:
                self._database.execute(f"DROP TRIGGER {_quoted(name)}")
                found.append(sql)
        return found


class _Layer:
    def __init__(self, database: sqlite3.Connection, name: str, fields: Iterable[str]) -> None:
        self.database, self.name, self.features = database, name, 0
        self.box = np.array([np.inf, np.inf, -np.inf, -np.inf])
        (self.geometry, self.srs_id) = database.execute(
            "SELECT column_name, srs_id FROM gpkg_geometry_columns WHERE table_name = ?", [name]
        ).fetchone()
        names = ["fid", self.geometry, *fields]
        places = ", ".join("?" * len(names))
        columns = ", ".join(map(_quoted, names))
        self.insert = f"INSERT INTO {_quoted(name)} ({columns}) VALUES ({places})"  # noqa: S608 - quoted
        index = f"rtree_{name}_{self.geometry}"
        self.index = IndexFiller(database, index) if _has_table(database, index) else None

    def add(self, wkb: NDArray[np.object_], boxes: NDArray[np.float64], columns: Any) -> None:
        if len(wkb) == 0:
            return
        headers = np.empty(len(wkb), _HEADER)
        headers["magic"], headers["version"] = b"GP", 0
        headers["flags"], headers["srs_id"] = _LITTLE_ENDIAN_WITH_BOX, self.srs_id
        headers["box"] = boxes[:, [0, 2, 1, 3]]
        texts, size = headers.tobytes(), _HEADER.itemsize
        blobs = [texts[size * n : size * (n + 1)] + each for n, each in enumerate(wkb)]
        fids = range(self.features + 1, self.features + len(wkb) + 1)
        values = [column.tolist() for column in columns]
        self.database.executemany(self.insert, zip(fids, blobs, *values, strict=True))
        if self.index is not None:
            self.index.add(np.array(fids), headers["box"])
        self.features += len(wkb)
        self.box[:2] = np.minimum(self.box[:2], boxes[:, :2].min(axis=0))
        self.box[2:] = np.maximum(self.box[2:], boxes[:, 2:].max(axis=0))

    def finish(self) -> None:
        if self.features == 0:
            return
        if self.index is not None:
            self.index.finish()
        self.database.execute(
            "UPDATE gpkg_contents SET min_x = ?, min_y = ?, max_x = ?, max_y = ? "
            "WHERE table_name = ?",
            [*self.box.tolist(), self.name],
        )
        self.database.execute(
            "UPDATE gpkg_ogr_contents SET feature_count = ? WHERE table_name = ?",
            [self.features, self.name],
        )


def feature_counts(database: sqlite3.Connection, layers: Iterable[str]) -> dict[str, int]:
    """Count the features of some layers of an open GeoPackage."""
    counts = {}
    for layer in layers:
        question = f"SELECT count(*) FROM {_quoted(layer)}"  # noqa: S608 - quoted
        (counts[layer],) = database.execute(question).fetchone()
    return counts


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _has_table(database: sqlite3.Connection, name: str) -> bool:
    found = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [name]).fetchone()
    return found is not None


def _has_rtree() -> bool:
    """Tell whether this Python's SQLite can fill the index; a layer without one is slower only."""
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute("CREATE VIRTUAL TABLE tried USING rtree(id, a, b)")
        except sqlite3.OperationalError:
            return False
    return True
