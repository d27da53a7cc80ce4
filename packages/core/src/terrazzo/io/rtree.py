"""The R*-tree index of an SQLite table filled at once, node by node.

Added one by one, boxes take several times as long. The format of the nodes is SQLite's own
(https://www.sqlite.org/rtree.html, section 5): big-endian, the depth of the tree in the first two
bytes of the root, the number of cells, then for each an id and the box in float32.
"""

from __future__ import annotations

import sqlite3

import numpy as np
from numpy.typing import NDArray

_CELL = np.dtype([("id", "i8"), ("box", "f4", 4)])
_STORED_CELL = np.dtype([("id", ">i8"), ("box", ">f4", 4)])
_HEADER_BYTES = 4
_BATCH = 1 << 14
"""Boxes that are sorted together; only the nodes above them stay in memory."""
_ROOT = 1


class IndexFiller:
    """Fills an empty index; `finish` writes its upper nodes."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        """Look at the index.

        Args:
            database: open for writing.
            name: of the virtual table, of two dimensions: id, least and greatest x, the same of y.
        """
        quoted = name.replace('"', '""')
        self._database = database
        self._tables = {part: f'"{quoted}_{part}"' for part in ("node", "rowid", "parent")}
        (self._node_bytes,) = database.execute(
            f"SELECT length(data) FROM {self._tables['node']} WHERE nodeno = {_ROOT}"  # noqa: S608
        ).fetchone()
        self._most = (self._node_bytes - _HEADER_BYTES) // _CELL.itemsize
        self._waiting: list[NDArray[np.void]] = []
        self._count = 0
        self._next_node = _ROOT + 1
        self._leaves: list[NDArray[np.void]] = []

    def add(self, ids: NDArray[np.integer], boxes: NDArray[np.float64]) -> None:
        """Add boxes.

        Args:
            ids: N ids that were not added before.
            boxes: N×4: least and greatest x, least and greatest y.
        """
        cells = np.empty(len(ids), _CELL)
        cells["id"] = ids
        cells["box"] = _outwards(boxes)
        self._waiting.append(cells)
        self._count += len(ids)
        if self._count >= _BATCH:
            self._write_leaves()

    def finish(self) -> None:
        """Write what is left, and the nodes above the leaves."""
        if not self._leaves and self._count <= self._most:
            leaf = np.concatenate([np.empty(0, _CELL), *self._waiting])
            self._note_rows(leaf["id"], np.full(len(leaf), _ROOT))
            self._replace_root(leaf, 0)
            return
        self._write_leaves()
        nodes = np.concatenate(self._leaves)
        depth = 1
        while len(nodes) > self._most:
            nodes = self._write_nodes(nodes, depth)
            depth += 1
        self._note_parents(nodes["id"], np.full(len(nodes), _ROOT))
        self._replace_root(nodes, depth)

    def _write_leaves(self) -> None:
        if self._count == 0:
            return
        cells = np.concatenate(self._waiting)
        self._leaves.append(self._write_nodes(cells, 0))
        self._waiting, self._count = [], 0

    def _write_nodes(self, cells: NDArray[np.void], depth: int) -> NDArray[np.void]:
        """Write nodes of cells that lie near each other; return a cell for each."""
        cells = cells[_near_each_other(cells["box"].astype(np.float64), self._most)]
        first = np.arange(0, len(cells), self._most)
        numbers = self._next_node + np.arange(len(first))
        self._next_node += len(first)
        node_of_cell = np.repeat(numbers, self._most)[: len(cells)]
        note = self._note_parents if depth else self._note_rows
        note(cells["id"], node_of_cell)
        stored = cells.astype(_STORED_CELL)
        self._insert(
            "node",
            "nodeno, data",
            (
                (int(number), self._node(stored[begin : begin + self._most], 0))
                for number, begin in zip(numbers, first, strict=True)
            ),
        )
        above = np.empty(len(first), _CELL)
        above["id"] = numbers
        boxes = cells["box"]
        above["box"][:, 0::2] = np.minimum.reduceat(boxes[:, 0::2], first)
        above["box"][:, 1::2] = np.maximum.reduceat(boxes[:, 1::2], first)
        return above

    def _node(self, cells: NDArray[np.void], depth: int) -> bytes:
        header = depth.to_bytes(2, "big") + len(cells).to_bytes(2, "big")
        return (header + cells.tobytes()).ljust(self._node_bytes, b"\0")

    def _replace_root(self, cells: NDArray[np.void], depth: int) -> None:
        self._database.execute(
            f"UPDATE {self._tables['node']} SET data = ? WHERE nodeno = {_ROOT}",  # noqa: S608
            [self._node(cells.astype(_STORED_CELL), depth)],
        )

    def _note_rows(self, ids: NDArray[np.integer], nodes: NDArray[np.integer]) -> None:
        order = np.argsort(ids)
        pairs = zip(ids[order].tolist(), nodes[order].tolist(), strict=True)
        self._insert("rowid", "rowid, nodeno", pairs)

    def _note_parents(self, ids: NDArray[np.integer], nodes: NDArray[np.integer]) -> None:
        pairs = zip(ids.tolist(), nodes.tolist(), strict=True)
        self._insert("parent", "nodeno, parentnode", pairs)

    def _insert(self, part: str, columns: str, rows: object) -> None:
        self._database.executemany(
            f"INSERT INTO {self._tables[part]} ({columns}) VALUES (?, ?)",  # noqa: S608
            rows,  # type: ignore[arg-type]
        )


def _outwards(boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32 so that no box becomes smaller."""
    rounded = boxes.astype(np.float32)
    least, greatest = rounded[:, 0::2], rounded[:, 1::2]
    too_high, too_low = least > boxes[:, 0::2], greatest < boxes[:, 1::2]
    least[too_high] = np.nextafter(least[too_high], np.float32(-np.inf))
    greatest[too_low] = np.nextafter(greatest[too_low], np.float32(np.inf))
    return rounded


def _near_each_other(boxes: NDArray[np.float64], most: int) -> NDArray[np.intp]:
    """Order boxes by columns of about square tiles, and within these by y."""
    count = len(boxes)
    nodes = -(-count // most)
    across = int(np.ceil(np.sqrt(nodes)))
    by_x = np.argsort(boxes[:, 0] + boxes[:, 1], kind="stable")
    slab = np.empty(count, np.int64)
    slab[by_x] = np.arange(count) // (most * -(-nodes // across))
    return np.lexsort((boxes[:, 2] + boxes[:, 3], slab))
