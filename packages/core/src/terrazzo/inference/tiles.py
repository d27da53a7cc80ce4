"""Tiles over a scene larger than a model's input, and how their predictions are blended.

Pure arithmetic on one axis at a time: a scene's tiles are the product of its rows' and its
columns', and so is the weight of a pixel in a tile. Along an axis of tiles t₀, t₁, … the weight
of tile i at x is

    S(x − seam i−1) − S(x − seam i)

where a seam lies in the middle of the overlap of two neighbours and S climbs from 0 to 1 about 0.
Over all tiles the terms cancel and the sum is 1 at every pixel, whatever the overlaps: no pixel is
left out, none counts twice, and nothing has to be divided by a sum of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Blend = Literal["linear", "cosine", "none"]
"""How S climbs: along a line, along half a cosine, or at once (each pixel from one tile)."""

BLENDS: tuple[Blend, ...] = ("linear", "cosine", "none")


@dataclass(frozen=True, slots=True)
class Share:
    """What one tile gives to an axis.

    Attributes:
        start: first pixel of the tile.
        stop: one past its last pixel.
        first: first pixel with a weight above 0.
        last: one past the last pixel with a weight above 0.
        weights: float32, one for each of `first`…`last`; exactly 1 between the ramps.
        ramp_in: pixels from `first` on that are shared with an earlier tile.
        ramp_out: pixels up to `last` that are shared with a later tile.
    """

    start: int
    stop: int
    first: int
    last: int
    weights: NDArray[np.float32]
    ramp_in: int
    ramp_out: int


def starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """Return the first pixel of each tile along an axis.

    Tiles are `tile` − `overlap` apart; the last one ends with the axis, so it may overlap its
    neighbour by more. One tile is enough for an axis no longer than `tile`; it is then shorter
    than `tile`.

    Args:
        length: pixels of the axis, at least 1.
        tile: pixels of a tile, at least 1.
        overlap: pixels that two neighbours share at least, 0…`tile` − 1.
    """
    assert length >= 1
    assert 0 <= overlap < tile
    if length <= tile:
        return (0,)
    return (*range(0, length - tile, tile - overlap), length - tile)


def shares(length: int, tile: int, overlap: int, blend: Blend = "linear") -> tuple[Share, ...]:
    """Return the tiles along an axis with their weights.

    A quarter of the overlap at each inner edge of a tile has weight 0: what a network sees there
    is mostly padding. The edge of the scene has no neighbour, so weights stay 1 up to it.

    Args:
        length: pixels of the axis.
        tile: pixels of a tile.
        overlap: pixels that two neighbours share at least.
        blend: how the weight passes from one tile to the next.
    """
    begins = starts(length, tile, overlap)
    ends = [min(begin + tile, length) for begin in begins]
    # Twice the seam's place, to stay with whole numbers.
    seams = [end + begin for end, begin in zip(ends[:-1], begins[1:], strict=True)]
    ramp = 0 if blend == "none" else overlap - 2 * (overlap // 4)
    # Rising edges: before the first tile and after the last one there is none.
    edges = [_edge(seam, ramp) for seam in seams]
    bounds = [(0, 0), *edges, (length, length)]
    return tuple(
        _share(begin, end, number, seams, bounds, ramp, blend)
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True))
    )


def _edge(seam: int, ramp: int) -> tuple[int, int]:
    """Return where S − of a seam given twice − leaves 0 and where it has reached 1."""
    first = (seam - ramp) // 2 if ramp else seam // 2
    last = -(-(seam + ramp) // 2) if ramp else seam // 2
    return first, last


def _share(
    begin: int,
    end: int,
    number: int,
    seams: list[int],
    bounds: list[tuple[int, int]],
    ramp: int,
    blend: Blend,
) -> Share:
    first, last = bounds[number][0], bounds[number + 1][1]
    assert begin <= first < last <= end
    x = np.arange(first, last)
    weights = np.ones(last - first)
    if number > 0:
        weights = _climb(x, seams[number - 1], ramp, blend)
    if number < len(seams):
        weights = weights - _climb(x, seams[number], ramp, blend)
    return Share(
        begin,
        end,
        first,
        last,
        weights.astype(np.float32),
        ramp_in=min(bounds[number][1], last) - first,
        ramp_out=last - max(bounds[number + 1][0], first),
    )


def _climb(x: NDArray[np.int64], seam: int, ramp: int, blend: Blend) -> NDArray[np.float64]:
    """Return S at the centres of pixels `x` about a seam that is given twice."""
    distance = (2 * x + 1 - seam) / 2
    if ramp == 0:
        # The pixel is the later tile's from the seam on; a seam may lie on a pixel's centre.
        return (x >= seam // 2).astype(np.float64)
    line = np.clip(distance / ramp + 0.5, 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * line) if blend == "cosine" else line


def first_open(axis: tuple[Share, ...]) -> tuple[int, ...]:
    """Return, after each tile along an axis, its first pixel that later tiles still touch."""
    return (*(later.first for _, later in pairwise(axis)), axis[-1].last)
