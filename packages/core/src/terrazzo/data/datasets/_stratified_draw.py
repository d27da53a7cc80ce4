"""Groups of images divided so that each part has its share of the pixels of every class.

Greedy, the rarest class first, as iterative stratification does for images with several labels
(Sechidis, Tsoumakas and Vlahavas 2011), with pixels in place of labels; then groups are exchanged
between parts while that brings the shares closer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_EXCHANGES = 4000
"""Tried at most."""


def stratified(
    pixels_GK: NDArray[np.int64], sizes_P: Sequence[int], seed: int
) -> NDArray[np.int64]:
    """Return the part of each of G groups.

    Args:
        pixels_GK: pixels of each class in each group.
        sizes_P: how many groups each of P parts gets; G together.
        seed: decides between what is equally good.
    """
    draw = np.random.Generator(np.random.Philox(seed))
    order = draw.permutation(len(pixels_GK))
    present_K = pixels_GK.sum(axis=0) > 0
    shares_GK = pixels_GK[order][:, present_K] / np.maximum(pixels_GK.sum(axis=0)[present_K], 1)
    wanted_P = np.array(sizes_P, np.float64) / max(sum(sizes_P), 1)
    part_G = _greedy(shares_GK, wanted_P, np.array(sizes_P))
    _exchange(shares_GK, wanted_P, part_G, draw)
    found_G = np.empty_like(part_G)
    found_G[order] = part_G
    return found_G


def _greedy(
    shares_GK: NDArray[np.float64], wanted_P: NDArray[np.float64], room_P: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give out groups of the rarest class first, the one with most of it first."""
    part_G = np.full(len(shares_GK), -1)
    room_P = room_P.copy()
    have_PK = np.zeros((len(wanted_P), shares_GK.shape[1]))
    left_G = np.ones(len(shares_GK), np.bool_)
    while left_G.any():
        holders_K = (shares_GK[left_G] > 0).sum(axis=0)
        if not holders_K.any():
            break
        k = int(np.where(holders_K > 0, holders_K, len(shares_GK) + 1).argmin())
        group = int(np.where(left_G, shares_GK[:, k], -1).argmax())
        need_P = np.where(room_P > 0, 1 - have_PK[:, k] / np.maximum(wanted_P, 1e-9), -np.inf)
        part = int(np.lexsort((-wanted_P, -need_P))[0])
        part_G[group], left_G[group] = part, False
        room_P[part] -= 1
        have_PK[part] += shares_GK[group]
    part_G[left_G] = np.repeat(np.arange(len(room_P)), room_P)
    return part_G


def _exchange(
    shares_GK: NDArray[np.float64],
    wanted_P: NDArray[np.float64],
    part_G: NDArray[np.int64],
    draw: np.random.Generator,
) -> None:
    """Exchange groups of two parts, in place, where the classes are divided better then."""
    if len(part_G) < 2:
        return
    have_PK = np.stack([shares_GK[part_G == part].sum(axis=0) for part in range(len(wanted_P))])
    for one, other in draw.integers(0, len(part_G), (_EXCHANGES, 2)).tolist():
        first, second = part_G[one], part_G[other]
        if first == second:
            continue
        moved_K = shares_GK[other] - shares_GK[one]
        both = [first, second]
        after = have_PK[both] + np.stack([moved_K, -moved_K])
        if _cost(after, wanted_P[both]) < _cost(have_PK[both], wanted_P[both]) - 1e-12:
            have_PK[both] = after
            part_G[one], part_G[other] = second, first


def _cost(have_PK: NDArray[np.float64], wanted_P: NDArray[np.float64]) -> float:
    """Return how far parts are from their shares; a class that is missing costs most."""
    relative_PK = have_PK / np.maximum(wanted_P, 1e-9)[:, None] - 1
    return float(np.square(relative_PK).sum() + 10 * (have_PK <= 1e-12).sum())
