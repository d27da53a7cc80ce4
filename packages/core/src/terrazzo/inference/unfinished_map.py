"""A map that is not finished yet: a folder beside its place with a journal for each band of rows.

``plan.json`` says what is being made and how its rows are divided; each band has a `row_journal`
of its own, so that several processes can work on one map. Rows can be read while they are made.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import make_folder, short_name
from terrazzo.base.errors import CheckpointError
from terrazzo.base.file_lock import locked
from terrazzo.base.json_files import read_json, replace_json
from terrazzo.inference import row_journal
from terrazzo.inference.row_journal import Layer, RowBand

_PLAN = "plan.json"
_LONGEST_NAME = 240  # bytes of a map's name that its folder keeps


@dataclass(frozen=True, slots=True)
class PartialMap:
    """The folder of an unfinished map; made by `begin` or `reopen`.

    Attributes:
        folder: where it lies.
        bands: divide the rows of the scene, from the first to the last.
        layers: what each row holds.
    """

    folder: Path
    bands: tuple[RowBand, ...]
    layers: tuple[Layer, ...]

    @classmethod
    def begin(
        cls,
        folder: Path,
        plan: Mapping[str, Any],
        bands: tuple[RowBand, ...],
        layers: tuple[Layer, ...],
    ) -> Self:
        """Begin anew; whatever is in the folder is deleted, but for files with a dot before.

        Raises:
            ResourceError: SEG-R004, the disk is full or refuses.
        """
        with row_journal.writing_rows(folder):
            _empty(folder)
        divided = [[band.first, band.last] for band in bands]
        replace_json(folder / _PLAN, {"bands": divided, "plan": dict(plan)})
        return cls(folder, bands, layers)

    @classmethod
    def reopen(cls, folder: Path, plan: Mapping[str, Any], layers: tuple[Layer, ...]) -> Self:
        """Go on with what was begun.

        Raises:
            CheckpointError: SEG-C011, it was begun with another plan.
        """
        found = read_json(folder / _PLAN)
        before = found.get("plan", {})
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
        return cls(folder, tuple(RowBand(*band) for band in found["bands"]), layers)

    def journal_folder(self, band: RowBand) -> Path:
        """Return where the journal of a band lies."""
        return self.folder / f"rows-{band.first:07d}-{band.last:07d}"

    def lines(self, band: RowBand) -> list[dict[str, Any]]:
        """Return what is noted of the finished rows of a band."""
        return row_journal.read_lines(self.journal_folder(band), band, self.layers)

    @property
    def finished_rows(self) -> int:
        """How many rows are finished, wherever they lie."""
        return sum(self._next_row(band) - band.first for band in self.bands)

    def groups(self, name: str, rows: int, wait: Callable[[], None]) -> Iterator[NDArray[Any]]:
        """Yield the rows of a layer from the first to the last; the last group may be shorter.

        Args:
            name: of the layer.
            rows: of a group.
            wait: called again and again while rows are missing; raise there to give up.
        """
        layer = next(layer for layer in self.layers if layer.name == name)
        total = self.bands[-1].last
        finished = {band: band.first for band in self.bands}
        for start in range(0, total, rows):
            stop = min(start + rows, total)
            group = np.empty((stop - start, *layer.row_shape), layer.dtype)
            for band in self.bands:
                first, last = max(start, band.first), min(stop, band.last)
                if first >= last:
                    continue
                if finished[band] < last:
                    finished[band] = self._await(band, last, wait)
                piece = group[first - start : last - start]
                row_journal.read_rows(self.journal_folder(band), band, layer, first, last, piece)
            yield group

    def _await(self, band: RowBand, row: int, wait: Callable[[], None]) -> int:
        """Return the first row of a band that is not finished, when those before `row` are."""
        folder, seen = self.journal_folder(band), None
        while True:
            # Before the lines: those that come in between are seen the next time.
            sizes = row_journal.sizes(folder, self.layers)
            if sizes != seen:
                seen, next_row = sizes, self._next_row(band)
                if next_row >= row:
                    return next_row
            wait()

    def delete(self) -> None:
        """Delete the folder; what tells that a map was begun here goes last."""
        for path in self.folder.glob("[!.]*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _PLAN:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _next_row(self, band: RowBand) -> int:
        lines = self.lines(band)
        return int(lines[-1]["stop"]) if lines else band.first


def folder_of(map_path: Path) -> Path:
    """Return where the unfinished map of a place lies."""
    return map_path.with_name(f".{short_name(map_path.name, _LONGEST_NAME)}.partial")


@contextmanager
def emptied(map_path: Path) -> Iterator[Path]:
    """Give an empty, locked folder to write the files of a map into; nothing is left of it.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; SEG-C009, another process makes this
            map.
    """
    folder = folder_of(map_path)
    make_folder(folder)
    with locked(folder):
        _empty(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # where a file that is open cannot be deleted


def _empty(folder: Path) -> None:
    """Delete what is in the folder, but for files with a dot before: the lock."""
    for path in folder.glob("[!.]*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def has_rows(folder: Path) -> bool:
    """Tell whether a map was begun here that holds anything to go on with."""
    return any(path.stat().st_size > 0 for path in folder.glob("rows-*/rows.jsonl"))
