"""Where chips are cut: on a grid, or at random about tiles drawn evenly or by their classes.

A tile is a chip of the grid. A random chip is a tile moved by up to half its side in both
directions; where that would touch a block of another split, or leave the scene, it is tried again,
and in the end the tile itself is taken. So no pixel of another split comes into an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.datasets._spatial_blocks import Blocks

Place = tuple[int, int, int]
"""Scene, first row and first column in pixels."""

_TRIES = 8


def draw(
    tiles: Sequence[Place],
    weights_N: NDArray[np.float64] | None,
    blocks: Blocks,
    *,
    chip: int,
    count: int,
    seed: int,
) -> list[Place]:
    """Draw places of chips.

    Args:
        tiles: N places of the grid that belong to the split.
        weights_N: chance of each tile; None: all come equally often.
        blocks: what must not be touched.
        chip: rows and columns of a chip; at most a block's.
        count: how many.
        seed: of the draw.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    if weights_N is None:
        rounds = -(-count // len(tiles))
        drawn = np.concatenate([rng.permutation(len(tiles)) for _ in range(rounds)])[:count]
    else:
        drawn = rng.choice(len(tiles), count, p=weights_N / weights_N.sum())
    moves = rng.integers(-(chip // 2), chip - chip // 2, (count, _TRIES, 2))
    return [
        _moved(tiles[tile], tries, blocks, chip)
        for tile, tries in zip(drawn.tolist(), moves, strict=True)
    ]


def _moved(tile: Place, moves: NDArray[np.int64], blocks: Blocks, chip: int) -> Place:
    scene, row, column = tile
    last_row = blocks.grids[scene].rows - chip
    last_column = blocks.grids[scene].columns - chip
    for down, across in moves.tolist():
        at_row, at_column = row + down, column + across
        if (
            0 <= at_row <= last_row
            and 0 <= at_column <= last_column
            and blocks.owns(scene, at_row, at_column, chip)
        ):
            return scene, at_row, at_column
    return tile


def weights(counts_NV: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the chance of each tile so that every class is asked for equally often.

    A class is drawn first, each with the same chance, and then a tile by its pixels of that class.

    Args:
        counts_NV: pixels of each class in each tile.
    """
    totals_V = counts_NV.sum(axis=0)
    there = totals_V > 0
    chances: NDArray[np.float64] = (counts_NV[:, there] / totals_V[there]).mean(axis=1)
    return chances
