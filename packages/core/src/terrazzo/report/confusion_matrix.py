"""The confusion matrix as the tables of both pages show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_MATRIX_CLASSES = 60
"""With more classes a matrix is too large to read, and its page slow to open."""
_NUM_CONFUSIONS = 5


@dataclass(frozen=True)
class Cell:
    """One cell: its pixels, and their share of the row, None where the row is empty."""

    count: int
    share: float | None


@dataclass(frozen=True)
class Confusion:
    """Pixels of one class that were predicted as another, and their share of the true class."""

    truth: str
    prediction: str
    count: int
    share: float


def cells(counts_KK: NDArray[np.int64]) -> list[list[Cell]] | None:
    """Return the cells of a confusion matrix; None with more than `MAX_MATRIX_CLASSES`.

    Args:
        counts_KK: pixels; rows ground truth, columns prediction.
    """
    if len(counts_KK) > MAX_MATRIX_CLASSES:
        return None
    totals_K = counts_KK.sum(axis=1)
    return [
        [Cell(int(n), int(n) / int(total) if total else None) for n in row_K]
        for row_K, total in zip(counts_KK, totals_K, strict=True)
    ]


def largest_confusions(counts_KK: NDArray[np.int64], names: Sequence[str]) -> list[Confusion]:
    """Return the largest cells off the diagonal, most pixels first.

    Args:
        counts_KK: pixels; rows ground truth, columns prediction.
        names: K names of classes.
    """
    wrong_KK = counts_KK - np.diag(np.diag(counts_KK))
    largest = np.argsort(-wrong_KK, axis=None, kind="stable")[:_NUM_CONFUSIONS]
    positions = [divmod(int(position), len(names)) for position in largest]
    return [
        Confusion(names[i], names[j], int(wrong_KK[i, j]), wrong_KK[i, j] / counts_KK[i].sum())
        for i, j in positions
        if wrong_KK[i, j] > 0
    ]
