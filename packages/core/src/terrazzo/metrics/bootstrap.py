"""Units of resampling, and draws of the bootstrap, whatever is scored.

A unit (image or group) is a row of sums, such as pixels; a draw adds up the rows it holds. What
is worked out of such a total is a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError

RESAMPLES = 10_000

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From …×F sums to …×S scores; NaN where a score is not defined."""

_CHUNK = 1024  # resamples at a time: bounds the memory at about 100 MB for 1000 images


def units(
    sums_NF: NDArray[np.float64], groups: Sequence[object] | None, *, least: int = 2
) -> NDArray[np.float64]:
    """Return the rows that are drawn: of images, or of groups of them.

    Args:
        sums_NF: of N images.
        groups: N labels; images of one label are one row. None: each image is one.
        least: number of rows that are needed.

    Raises:
        DataError: SEG-M010 there are fewer images or groups; SEG-M011 there are not as many group
            labels as images.
    """
    if groups is not None:
        sums_NF = _summed_by_group(sums_NF, groups)
    if len(sums_NF) < least:
        raise DataError(
            "SEG-M010",
            f"{least} images or groups are needed at least",
            observed=len(sums_NF),
            next_step="score more images, or take single images instead of groups",
        )
    return sums_NF


def _summed_by_group(sums_NF: NDArray[np.float64], groups: Sequence[object]) -> NDArray[np.float64]:
    if len(groups) != len(sums_NF):
        raise DataError(
            "SEG-M011",
            "every image needs a group",
            observed=f"{len(groups)} groups",
            allowed=f"{len(sums_NF)}, one an image",
        )
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    summed = np.zeros((len(numbers), sums_NF.shape[1]))
    np.add.at(summed, [numbers[group] for group in groups], sums_NF)
    return summed


def resampled(
    units_UF: NDArray[np.float64], statistic: Statistic, resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return resamples × scores. The draws depend on U, `resamples` and `seed` alone."""
    random = np.random.default_rng(seed)
    chunks = []
    for start in range(0, resamples, _CHUNK):
        draws = min(_CHUNK, resamples - start)
        chunks.append(statistic(_weights(random, draws, len(units_UF)) @ units_UF))
    return np.concatenate(chunks)


def _weights(random: np.random.Generator, draws: int, num_units: int) -> NDArray[np.float64]:
    """How often each draw holds each unit: multinomial, by counting drawn positions."""
    drawn = random.integers(0, num_units, (draws, num_units), dtype=np.int32)
    drawn += (np.arange(draws, dtype=np.int32) * num_units)[:, None]
    times = np.bincount(drawn.reshape(-1), minlength=draws * num_units)
    return times.reshape(draws, num_units).astype(np.float64)
