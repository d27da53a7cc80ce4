"""Pixels of each raw value in each tile, counted once and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import replacing
from terrazzo.base.config_parsing import cache_folder
from terrazzo.base.errors import ResourceError

_VERSION = 1
"""Raised where counts mean something else than before."""


@dataclass(frozen=True)
class Histogram:
    """Pixels that count, by tile and raw value.

    Attributes:
        values_V: the raw values that occur, sorted.
        counts_NV: int64 pixels of each in each of N tiles.
    """

    values_V: NDArray[np.int64]
    counts_NV: NDArray[np.int64]

    def of(self, values: Sequence[int]) -> NDArray[np.int64]:
        """Return N×V counts of some of the values; of all where none are named."""
        return self.counts_NV[:, np.isin(self.values_V, values)] if values else self.counts_NV


def count(
    read: Callable[[int], NDArray[Any]],
    num_tiles: int,
    *,
    files: Iterable[Path],
    settings: Any,
) -> Histogram:
    """Count the values of all tiles, or take the counts of an earlier call.

    Args:
        read: returns the raw values that count in a tile; called from several threads.
        num_tiles: N.
        files: all that is read; earlier counts hold while their sizes and times stay.
        settings: all else the counts depend on, as JSON can hold it.
    """
    file = _cache_file(files, settings)
    try:
        with np.load(file, allow_pickle=False) as kept:
            return Histogram(kept["values"], kept["counts"])
    except (OSError, ValueError, KeyError, EOFError):  # none yet, or not one of ours
        found = _count(read, num_tiles)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, values=found.values_V, counts=found.counts_NV)
    except (OSError, ResourceError):
        pass  # only costs time the next time
    return found


def _count(read: Callable[[int], NDArray[Any]], num_tiles: int) -> Histogram:
    def look(tile: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        return np.unique(read(tile), return_counts=True)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as executor:
        found = list(executor.map(look, range(num_tiles)))
    values_V = np.unique(np.concatenate([values for values, _ in found])).astype(np.int64)
    counts_NV = np.zeros((num_tiles, len(values_V)), np.int64)
    for tile, (values, counts) in enumerate(found):
        counts_NV[tile, np.searchsorted(values_V, values)] = counts
    return Histogram(values_V, counts_NV)


def _cache_file(files: Iterable[Path], settings: Any) -> Path:
    stamps = sorted((str(f.resolve()), *_state(f)) for f in set(files))
    told = json.dumps([_VERSION, stamps, settings], sort_keys=True)
    name = hashlib.sha256(told.encode()).hexdigest()[:16]
    return cache_folder() / "tiles" / f"{name}.npz"


def _state(file: Path) -> tuple[int, int]:
    state = file.stat()
    return state.st_size, state.st_mtime_ns
