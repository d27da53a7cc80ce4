"""Finished rows of an output on disk, so that work that was killed can go on.

A journal is a folder for one band of rows: ``<name>.rows`` hold the finished rows as raw bytes, and
``rows.jsonl`` gets one line for each group of rows once its bytes are on the disk. What lies behind
the last line is cut off when the journal is opened again. A GeoTIFF itself cannot serve: until it
is closed it is a file of 254 bytes that opens and reads as zeros.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import cut_file
from terrazzo.base.disk_errors import writing
from terrazzo.base.json_files import append_json_line, json_lines_before_damage

_LINES = "rows.jsonl"


@dataclass(frozen=True, slots=True)
class RowBand:
    """Rows of a scene from `first` up to, but not including, `last`."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One array that grows by rows: its name, and the shape and type of one row."""

    name: str
    row_shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.row_shape)) * np.dtype(self.dtype).itemsize


class RowJournal:
    """Layers of the rows of a band that grow together; made by `open`."""

    def __init__(
        self, folder: Path, band: RowBand, layers: tuple[Layer, ...], lines: list[dict[str, Any]]
    ):
        self.folder = folder
        self.band = band
        self.layers = layers
        self.lines = lines

    @classmethod
    def open(cls, folder: Path, band: RowBand, layers: tuple[Layer, ...]) -> Self:
        """Go on after the last group of rows that is whole, or begin where there is no folder.

        Raises:
            ResourceError: SEG-R004, the disk is full or refuses.
        """
        with writing_rows(folder):
            folder.mkdir(parents=True, exist_ok=True)
            journal = cls(folder, band, layers, read_lines(folder, band, layers))
            journal._cut()
        return journal

    @property
    def next_row(self) -> int:
        """First row that is not finished."""
        return int(self.lines[-1]["stop"]) if self.lines else self.band.first

    def append(self, arrays: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
        """Add finished rows to every layer.

        Args:
            arrays: R×… by the name of the layer.
            note: what to remember of them; see `lines`.

        Raises:
            ResourceError: SEG-R004, the disk is full or refuses; earlier rows are safe.
        """
        stop = self.next_row + len(next(iter(arrays.values())))
        assert stop <= self.band.last
        line = {"stop": stop, **note}
        rows = len(next(iter(arrays.values())))
        needed_bytes = sum(rows * layer.row_bytes for layer in self.layers)
        with writing_rows(self.folder, needed_bytes):
            for layer in self.layers:
                array = np.ascontiguousarray(arrays[layer.name], dtype=layer.dtype)
                assert array.shape[1:] == layer.row_shape
                with _layer_file(self.folder, layer).open("ab") as file:
                    file.write(array.data)
                    file.flush()
                    os.fsync(file.fileno())
            append_json_line(self.folder / _LINES, line, flush=True)
        self.lines.append(line)

    def _cut(self) -> None:
        rows = self.next_row - self.band.first
        for layer in self.layers:
            path = _layer_file(self.folder, layer)
            path.touch()
            os.truncate(path, rows * layer.row_bytes)
        path = self.folder / _LINES
        lengths = {line["stop"]: end for line, end in json_lines_before_damage(path)}
        cut_file(path, lengths[self.next_row] if self.lines else 0)


def read_lines(folder: Path, band: RowBand, layers: tuple[Layer, ...]) -> list[dict[str, Any]]:
    """Return the lines whose rows are whole; also while another process appends to the journal."""
    lines = [line for line, _ in json_lines_before_damage(folder / _LINES)]
    while lines and not all(
        _holds(folder, layer, lines[-1]["stop"] - band.first) for layer in layers
    ):
        lines.pop()
    return lines


def sizes(folder: Path, layers: tuple[Layer, ...]) -> tuple[int, ...]:
    """Return what changes whenever `read_lines` may return something else.

    To ask the system for it is a hundredth of the work of reading the lines.
    """
    paths = (folder / _LINES, *(_layer_file(folder, layer) for layer in layers))
    return tuple(path.stat().st_size if path.is_file() else -1 for path in paths)


def read_rows(
    folder: Path, band: RowBand, layer: Layer, first: int, last: int, into: NDArray[Any]
) -> None:
    """Read finished rows `first` up to `last` of the scene into a contiguous array R×…."""
    with _layer_file(folder, layer).open("rb") as file:
        file.seek((first - band.first) * layer.row_bytes)
        read = file.readinto(into.data.cast("B"))
    assert read == (last - first) * layer.row_bytes


def _layer_file(folder: Path, layer: Layer) -> Path:
    return folder / f"{layer.name}.rows"


def _holds(folder: Path, layer: Layer, rows: int) -> bool:
    path = _layer_file(folder, layer)
    return path.is_file() and path.stat().st_size >= rows * layer.row_bytes


def writing_rows(
    folder: Path, needed_bytes: int | None = None
) -> contextlib.AbstractContextManager[None]:
    """Turn what a disk refuses in the block into an error about the rows in a folder."""
    return writing(
        folder,
        problem="finished rows could not be written",
        needed_bytes=needed_bytes,
        then="then go on with --resume",
    )
