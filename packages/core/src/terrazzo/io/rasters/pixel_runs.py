"""Rows of labels as runs of equal pixels, and which runs of neighbouring rows touch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STRIP_PIXELS = 1 << 19
"""Pixels that are looked at together: memory grows with them."""

Numbers = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Runs:
    """N runs of equal pixels in the rows of a strip, from its first pixel to its last.

    Attributes:
        row: of the strip, from 0.
        start: first column.
        stop: column after the last one.
        label: of its pixels.
        upper: runs of P pairs that share a side, in the upper row; sorted as the pixels are.
        lower: runs of the same P pairs in the row below.
    """

    row: NDArray[np.int32]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    label: NDArray[Any]
    upper: NDArray[np.int32]
    lower: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.row)

    def only(self, kept_N: NDArray[np.bool_]) -> Runs:
        """Return some of the runs, with the pairs among these."""
        number_N = np.cumsum(kept_N, dtype=np.int32) - np.int32(1)
        pairs = kept_N[self.upper] & kept_N[self.lower]
        return Runs(
            self.row[kept_N],
            self.start[kept_N],
            self.stop[kept_N],
            self.label[kept_N],
            number_N[self.upper[pairs]],
            number_N[self.lower[pairs]],
        )


def strips_of(groups: Iterable[NDArray[np.integer]]) -> Iterator[NDArray[np.integer]]:
    """Yield the rows of groups in strips of some pixels, none across two groups."""
    for group_RW in groups:
        step = max(1, _STRIP_PIXELS // group_RW.shape[1])
        for first in range(0, len(group_RW), step):
            yield group_RW[first : first + step]


def runs_of(labels_RW: NDArray[np.integer]) -> Runs:
    """Return the runs of a strip.

    Args:
        labels_RW: any integers; at least one row and one column.
    """
    columns = labels_RW.shape[1]
    begins_RW = np.empty(labels_RW.shape, bool)
    begins_RW[:, 0] = True
    np.not_equal(labels_RW[:, 1:], labels_RW[:, :-1], out=begins_RW[:, 1:])
    first_N = np.flatnonzero(begins_RW)
    row_N = (first_N // columns).astype(np.int32)
    start_N = (first_N - row_N * np.int64(columns)).astype(np.int32)
    stop_N = np.append(start_N[1:], np.int32(0))
    stop_N[stop_N == 0] = columns
    run_of_pixel = np.cumsum(begins_RW.ravel(), dtype=np.int32) - np.int32(1)
    # Where a run begins in either of two rows, another pair begins.
    pair_P = np.flatnonzero(begins_RW[:-1] | begins_RW[1:])
    return Runs(
        row_N,
        start_N,
        stop_N,
        labels_RW.reshape(-1)[first_N],
        run_of_pixel[pair_P],
        run_of_pixel[pair_P + columns],
    )


def components(size: int, ones: Numbers, others: Numbers) -> NDArray[np.int64]:
    """Return for each of N things the least that is linked with it, directly or by others.

    Args:
        size: N.
        ones: of each link, the one end.
        others: the other end.
    """
    least_N = np.arange(size)
    ones, others = np.asarray(ones, np.int64), np.asarray(others, np.int64)
    while len(ones):
        one, other = least_N[ones], least_N[others]
        apart = one != other
        ones, others, one, other = ones[apart], others[apart], one[apart], other[apart]
        low, high = np.minimum(one, other), np.maximum(one, other)
        np.minimum.at(least_N, high, low)
        while True:
            further_N = least_N[least_N]
            if np.array_equal(further_N, least_N):
                break
            least_N = further_N
    return least_N


def ranges(first: Numbers, lengths: Numbers) -> NDArray[np.int64]:
    """Return `lengths` numbers from each `first` on, one after the other."""
    begins = np.cumsum(lengths) - lengths
    numbers: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(first - begins, lengths)
    return numbers
