"""The tiles of a scene blended into rows of classes.

Only what later tiles still touch is kept: the overlap with the next tile, and the overlap of
this row of tiles with the next one. Everywhere else a tile's own probabilities give the class,
without ever being copied. So memory grows with overlap × width, and most pixels are read once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.inference import uncertainty
from terrazzo.inference.tiles import Share, first_open
from terrazzo.inference.uncertainty import Measure

NUMBA_FROM_PIXELS = 1 << 22
"""Pixels that are done by NumPy before numba is thought of: it takes a second, and 120 MB."""

NUMBA_FROM_SHARE = 0.1
"""Of the time that passes; below it the model is so slow that numba would save nothing."""

_PIXELS_AT_ONCE = 1 << 15
"""Pixels whose probabilities stay in a core's cache while NumPy seeks the best class."""


_NOTHING = np.empty((0, 0), np.float32)
_NO_TILE = -2  # not the one before tile 0


@dataclass(frozen=True, slots=True)
class FinishedRows:
    """Rows that no later tile touches.

    Attributes:
        labels_RW: the most probable classes.
        probabilities_RWK: float32; None: they were not asked for.
        uncertainty_RW: 0…`uncertainty.STEPS`, `uncertainty.NODATA` where there was no tile; None:
            it was not asked for.
    """

    labels_RW: NDArray[np.integer]
    probabilities_RWK: NDArray[np.float32] | None
    uncertainty_RW: NDArray[np.uint8] | None


class Blender:
    """Takes the tiles of one row after another, from left to right; gives finished rows.

    Args:
        rows: shares of the scene's rows.
        columns: shares of its columns.
        num_classes: K.
        dtype: of the labels.
        begin: number of the first row of tiles that will come.
        keep_probabilities: also give the blended probabilities of finished rows.
        uncertainty: also give how uncertain they are, by this measure.
    """

    def __init__(
        self,
        rows: tuple[Share, ...],
        columns: tuple[Share, ...],
        num_classes: int,
        dtype: np.dtype[Any],
        *,
        begin: int = 0,
        keep_probabilities: bool = False,
        uncertainty: Measure | None = None,
    ) -> None:
        self.rows, self.columns = rows, columns
        self.open_rows, self.open_columns = first_open(rows), first_open(columns)
        self.width = columns[-1].last
        self.num_classes = num_classes
        self.dtype = dtype
        self.keep_probabilities = keep_probabilities
        self.uncertainty = uncertainty
        self._best_class = BestClass()
        # Arrays of probabilities are rows × (columns · K): one long inner axis for the weights.
        self._open = _NOTHING
        self._left_out: set[int] = set()
        self._begin(begin)

    def _begin(self, number: int) -> None:
        row = self.rows[number]
        final = self.open_rows[number] - row.first
        depth = self.width * self.num_classes
        self._labels = np.zeros((final, self.width), self.dtype)
        shape = (0, 0) if self.uncertainty is None else self._labels.shape
        self._uncertainty = np.full(shape, uncertainty.NODATA, np.uint8)
        self._take_over((row.last - row.first - final, depth))
        self._kept = np.zeros((final if self.keep_probabilities else 0, depth), np.float32)
        self._right: tuple[int, NDArray[np.float32]] = (_NO_TILE, _NOTHING)

    def _take_over(self, below: tuple[int, int]) -> None:
        """Let what the last row of tiles left open be what this one adds to.

        A tile reads its columns of it once and then leaves its own there, so one array does for
        both rows.

        Args:
            below: shape of what this row of tiles will leave open.
        """
        if len(self._open):
            for at in self._left_out:  # else what is two rows above would be added
                self._open[:, self._columns_of(at)] = 0
        self._above = self._open
        self._left_out = set(range(len(self.columns)))
        if below != self._open.shape:  # the last row of tiles, and the one before it
            self._open = np.zeros(below, np.float32)

    def _columns_of(self, at: int) -> slice:
        depth = self.num_classes
        return slice(self.columns[at].first * depth, self.open_columns[at] * depth)

    def add(self, number: int, at: int, output: NDArray[Any]) -> None:
        """Add a tile.

        Args:
            number: of the row of tiles.
            at: number of the tile in it. Tiles may be left out.
            output: labels H×W where no two tiles share a pixel and nothing else is asked for, else
                probabilities H×W×K float32, which may be overwritten.
        """
        row, column = self.rows[number], self.columns[at]
        down = slice(row.first - row.start, row.last - row.start)
        across = slice(column.first - column.start, column.last - column.start)
        place = slice(column.first, self.open_columns[at])
        if output.ndim == 2:
            self._labels[:, place] = output[down, across]
            return
        depth = self.num_classes
        flat = np.require(output, np.float32, ("C", "W")).reshape(len(output), -1)
        block = flat[down, across.start * depth : across.stop * depth]
        self._left_out.discard(at)
        block = self._blend_columns(block, at, (place.stop - place.start) * depth)
        self._blend_rows(block, number, place)

    def _blend_columns(self, block: NDArray[Any], at: int, ready: int) -> NDArray[np.float32]:
        """Add what earlier tiles gave; keep what later ones touch; return the rest."""
        column, depth = self.columns[at], self.num_classes
        weights, ramp_in = column.weights, min(column.ramp_in, ready // depth)
        block[:, : ramp_in * depth] *= np.repeat(weights[:ramp_in], depth)
        right = block[:, ready:] * np.repeat(weights[ready // depth :], depth)
        number, before = self._right
        if number == at - 1:  # else the tile between had no data, nor had its pixels here
            here = min(before.shape[1], ready)  # all of it, but where tiles share more than half
            block[:, :here] += before[:, :here]
            right[:, : before.shape[1] - here] += before[:, here:]
        self._right = at, right
        return block[:, :ready]

    def _blend_rows(self, block: NDArray[np.float32], number: int, place: slice) -> None:
        """Add what earlier rows gave; keep what later ones touch; find the class of the rest."""
        row, depth, final = self.rows[number], self.num_classes, len(self._labels)
        across = slice(place.start * depth, place.stop * depth)
        ramp_in = min(row.ramp_in, final)
        block[:ramp_in] *= row.weights[:ramp_in, None]
        here = min(len(self._above), final)  # all of it, but where tiles share more than half
        if here:
            block[:here] += self._above[:here, across]
        below, weights = block[final:], row.weights[final:, None]
        if len(self._above) > here:  # which is read before its place is written to
            below *= weights
            below[: len(self._above) - here] += self._above[here:, across]
            self._open[:, across] = below
        else:
            np.multiply(below, weights, out=self._open[:, across])
        if self.keep_probabilities:
            self._kept[:, across] = block[:final]
        self._best_class(block[:final], depth, self._labels[:, place])
        if self.uncertainty is not None:
            into_RW = self._uncertainty[:, place]
            uncertainty.measure(block[:final], depth, self.uncertainty, into_RW)

    def finish(self, number: int) -> FinishedRows:
        """End a row of tiles.

        Returns:
            The rows that no later tile touches, from the first one with a weight in this row of
            tiles.
        """
        labels_RW, uncertainty_RW, kept = self._labels, self._uncertainty, self._kept
        if number + 1 < len(self.rows):
            self._begin(number + 1)
        return FinishedRows(
            labels_RW,
            kept.reshape(len(kept), self.width, self.num_classes)
            if self.keep_probabilities
            else None,
            None if self.uncertainty is None else uncertainty_RW,
        )


def best_class(
    block: NDArray[np.float32], num_classes: int, labels_RW: NDArray[np.integer]
) -> None:
    """Find the most probable class of each pixel, the lower one of equals, with NumPy alone.

    A running maximum over the classes, on a piece that stays in cache: NumPy's argmax over a short
    last axis takes several times as long.

    Args:
        block: R×(W·K), the classes of a pixel side by side; rows may lie apart.
        num_classes: K.
        labels_RW: is filled.
    """
    rows, columns = labels_RW.shape
    step = max(1, _PIXELS_AT_ONCE // max(columns, 1))
    for first in range(0, rows, step):
        piece = block[first : first + step]
        best_RW = piece[:, ::num_classes].copy()
        chosen_RW = labels_RW[first : first + step]
        chosen_RW[...] = 0
        for k in range(1, num_classes):
            plane_RW = piece[:, k::num_classes]
            higher_RW = plane_RW > best_RW
            np.copyto(chosen_RW, np.asarray(k, labels_RW.dtype), where=higher_RW)
            np.copyto(best_RW, plane_RW, where=higher_RW)  # a maximum would let NaN win


class BestClass:
    """`best_class`, by numba once that saves time; which of the two it is changes no label.

    Args:
        clock: tells seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._begun = clock()
        self._spent, self._pixels = 0.0, 0
        # Where a scene before this one has compiled it, it is there.
        is_there = compiled_best_class.cache_info().currsize > 0
        self._find = (compiled_best_class() if is_there else None) or best_class

    def __call__(
        self, block: NDArray[np.float32], num_classes: int, labels_RW: NDArray[np.integer]
    ) -> None:
        """Fill `labels_RW` as `best_class` does."""
        before = self._clock()
        self._find(block, num_classes, labels_RW)
        if self._find is not best_class:
            return
        now = self._clock()
        self._spent += now - before
        self._pixels += labels_RW.size
        passed = now - self._begun
        if self._pixels >= NUMBA_FROM_PIXELS and self._spent > NUMBA_FROM_SHARE * passed:
            self._find = compiled_best_class() or best_class


@cache
def compiled_best_class() -> Callable[..., None] | None:
    """Compile the loop, once a process; None where numba cannot be imported."""
    try:
        import numba
    except ImportError:
        return None
    block, count = numba.types.float32[:, :], numba.types.int64
    signatures = [
        numba.types.void(block, count, labels[:, :])
        for labels in (numba.types.uint8, numba.types.uint16)
    ]
    try:
        compiled: Callable[..., None] = numba.njit(signatures, cache=True, nogil=True)(_best_class)
    except (RuntimeError, OSError):
        # No folder for the compiled code can be written: each process compiles anew.
        compiled = numba.njit(signatures, nogil=True)(_best_class)
    return compiled


def _best_class(
    block: NDArray[np.float32], num_classes: int, labels_RW: NDArray[np.integer]
) -> None:
    # Indices without a sign: from the end, as Python counts below 0, would be asked for each.
    one, depth = np.uint64(1), np.uint64(num_classes)
    for r in range(np.uint64(labels_RW.shape[0])):
        first = np.uint64(0)
        for c in range(np.uint64(labels_RW.shape[1])):
            best, highest = np.uint64(0), block[r, first]
            for k in range(one, depth):
                if block[r, first + k] > highest:
                    highest = block[r, first + k]
                    best = np.uint64(k)
            labels_RW[r, c] = best
            first += depth
