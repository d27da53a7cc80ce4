"""Finished rows of an output on disk, so that work that was killed can go on.

A folder beside the output: ``plan.json`` says what is being made, ``<name>.rows`` hold the finished
rows as raw bytes, and ``rows.jsonl`` gets one line for each group of rows once its bytes are on the
disk. What lies behind the last line is cut off when the journal is opened again. A GeoTIFF itself
cannot serve: until it is closed it is a file of 254 bytes that opens and reads as zeros.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from terrazzo import checkpoint
from terrazzo.errors import CheckpointError, ResourceError

_PLAN, _LINES = "plan.json", "rows.jsonl"


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
    """Layers of rows that grow together; made by `create` or `reopen`."""

    def __init__(self, folder: Path, layers: tuple[Layer, ...], lines: list[dict[str, Any]]):
        self.folder = folder
        self.layers = layers
        self.lines = lines

    @classmethod
    def create(cls, folder: Path, plan: Mapping[str, Any], layers: tuple[Layer, ...]) -> Self:
        """Begin anew; whatever is in the folder is deleted.

        Raises:
            ResourceError: SEG-R004, the disk is full or refuses.
        """
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for layer in layers:
                (folder / f"{layer.name}.rows").touch()
            (folder / _LINES).touch()
            checkpoint.write_json(folder / _PLAN, plan)
        except OSError as error:
            raise _refused(folder, error) from error
        return cls(folder, layers, [])

    @classmethod
    def reopen(cls, folder: Path, plan: Mapping[str, Any], layers: tuple[Layer, ...]) -> Self:
        """Go on after the last group of rows that is whole.

        Raises:
            CheckpointError: SEG-C011, the journal was begun with another plan.
        """
        before = checkpoint.read_json(folder / _PLAN)
        changed = [
            f"{key}: {before.get(key)} → {plan.get(key)}"
            for key in sorted(before.keys() | plan.keys())
            if before.get(key) != plan.get(key)
        ]
        if changed:
            raise CheckpointError(
                "SEG-C011",
                "what was begun here differs from what is asked for now",
                file=folder,
                observed="; ".join(changed),
                next_step="resume with the old settings, or begin anew with --overwrite",
            )
        lines = list(_whole_lines(folder / _LINES))
        while lines and not all(_holds(folder, layer, lines[-1]["stop"]) for layer in layers):
            lines.pop()
        journal = cls(folder, layers, lines)
        journal._cut()
        return journal

    @property
    def rows(self) -> int:
        """Rows that are finished."""
        return int(self.lines[-1]["stop"]) if self.lines else 0

    def append(self, arrays: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:
        """Add finished rows to every layer.

        Args:
            arrays: R×… by the name of the layer.
            note: what to remember of them; see `lines`.

        Raises:
            ResourceError: SEG-R004, the disk is full or refuses; earlier rows are safe.
        """
        stop = self.rows + len(next(iter(arrays.values())))
        line = {"stop": stop, **note}
        try:
            for layer in self.layers:
                array = np.ascontiguousarray(arrays[layer.name], dtype=layer.dtype)
                assert array.shape[1:] == layer.row_shape
                with (self.folder / f"{layer.name}.rows").open("ab") as file:
                    file.write(array.data)
                    file.flush()
                    os.fsync(file.fileno())
            with (self.folder / _LINES).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _refused(self.folder, error) from error
        self.lines.append(line)

    def groups(self, name: str, rows: int) -> Iterator[NDArray[Any]]:
        """Yield the finished rows of a layer, `rows` at a time; the last group may be shorter."""
        layer = next(layer for layer in self.layers if layer.name == name)
        with (self.folder / f"{name}.rows").open("rb") as file:
            for row in range(0, self.rows, rows):
                count = min(rows, self.rows - row)
                data = file.read(count * layer.row_bytes)
                yield np.frombuffer(data, layer.dtype).reshape(count, *layer.row_shape)

    def delete(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _cut(self) -> None:
        for layer in self.layers:
            os.truncate(self.folder / f"{layer.name}.rows", self.rows * layer.row_bytes)
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        (self.folder / _LINES).write_text(text, encoding="utf-8")


def has_rows(folder: Path) -> bool:
    """Tell whether a journal was begun here that holds anything to go on with."""
    lines = folder / _LINES
    return lines.is_file() and lines.stat().st_size > 0


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield lines up to the first one that was cut short."""
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not text.endswith("\n"):
            return
        yield json.loads(text)


def _holds(folder: Path, layer: Layer, rows: int) -> bool:
    return (folder / f"{layer.name}.rows").stat().st_size >= rows * layer.row_bytes


def _refused(folder: Path, error: OSError) -> ResourceError:
    place = folder if folder.is_dir() else folder.parent
    free = shutil.disk_usage(place).free / 1e6 if place.is_dir() else 0.0
    return ResourceError(
        "SEG-R004",
        "finished rows could not be written",
        file=folder,
        observed=f"{error.strerror or error}; {free:.1f} MB free on this disk",
        next_step="free some space, then go on with --resume",
    )
