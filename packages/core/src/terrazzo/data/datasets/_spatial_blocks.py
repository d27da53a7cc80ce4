"""Spatial blocks: which split a place belongs to, and which pixels are too near to another split.

Neighbouring pixels are much alike, so splits are drawn by square blocks, and pixels of training
nearer than a buffer to a block of val or test are ignored, as are those of val near test. Scenes
that overlap or touch keep their distance from each other too, across ±180° as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo

Block = tuple[int, int, int]
"""Scene, row and column, the last two counted in blocks."""

AVOIDED: Mapping[str, tuple[str, ...]] = {"train": ("val", "test"), "val": ("test",), "test": ()}
"""Splits whose blocks the pixels of a split keep their distance from."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of all scenes, seen from one split.

    Attributes:
        grids: of the scenes.
        side: rows and columns of a block in pixels.
        buffer: pixels; a pixel in a block of another split is too near in any case.
        split: whose pixels are asked for.
        owner: the split of every block.
    """

    grids: tuple[RasterInfo, ...]
    side: int
    buffer: int
    split: str
    owner: Mapping[Block, str]

    def owns(self, scene: int, row: int, column: int, size: int) -> bool:
        """Tell whether every block under a square of at most a block's size is the split's."""
        return all(
            self.owner.get((scene, r // self.side, c // self.side), self.split) == self.split
            for r in (row, row + size - 1)
            for c in (column, column + size - 1)
        )

    def far(
        self, scene: int, row: int, column: int, rows: int, columns: int
    ) -> NDArray[np.bool_] | None:
        """Return H×W, which pixels keep the distance from other splits; None: all of them."""
        reach = max(self.buffer, 1)
        boxes_M4 = self._avoided[scene]
        down = _gap(row, row + rows, boxes_M4[:, 0], boxes_M4[:, 1])
        across = _gap(column, column + columns, boxes_M4[:, 2], boxes_M4[:, 3])
        corner = np.array([row, row, column, column], np.int64)
        near_M4 = boxes_M4[np.hypot(down, across) < reach] - corner
        if len(near_M4) == 0:
            return None
        pixel_H, pixel_W = np.arange(rows), np.arange(columns)
        far_HW = np.ones((rows, columns), bool)
        for first_row, end_row, first_column, end_column in near_M4:
            down = _gap(pixel_H, pixel_H + 1, first_row, end_row)
            across = _gap(pixel_W, pixel_W + 1, first_column, end_column)
            far_HW &= np.hypot(down[:, None], across[None]) >= reach
        # Found once more in a way that has nothing in common with the one above.
        assert distance_to(near_M4, far_HW, reach) >= reach
        return far_HW

    @cached_property
    def _avoided(self) -> tuple[NDArray[np.int64], ...]:
        """Boxes to keep away from, for each scene on its grid: first and end row, then column."""
        own = [self._boxes(scene) for scene in range(len(self.grids))]
        return tuple(
            np.concatenate(
                # Its own as well: a scene around the earth meets itself at ±180°.
                [rasters.boxes_on(self.grids[scene], self.grids[n], own[n]) for n in (scene, *near)]
            )
            for scene, near in enumerate(rasters.neighbours(self.grids, self.buffer))
        )

    def _boxes(self, scene: int) -> NDArray[np.int64]:
        grid = self.grids[scene]
        boxes = [
            (
                row * self.side,
                min((row + 1) * self.side, grid.rows),
                column * self.side,
                min((column + 1) * self.side, grid.columns),
            )
            for (number, row, column), owner in self.owner.items()
            if number == scene and owner in AVOIDED[self.split]
        ]
        return np.array(boxes, np.int64).reshape(-1, 4)


def distance_to(boxes_M4: NDArray[np.int64], pixels_HW: NDArray[np.bool_], reach: int) -> float:
    """Return how far the nearest of some pixels is from boxes, by a distance transform.

    Args:
        boxes_M4: first and end row, first and end column, counted from the first pixel.
        pixels_HW: which pixels.
        reach: distances beyond this need not be told apart.
    """
    rows, columns = pixels_HW.shape
    outside = np.ones((rows + 2 * reach, columns + 2 * reach), np.uint8)
    for first_row, end_row, first_column, end_column in boxes_M4 + reach:
        outside[max(first_row, 0) : max(end_row, 0), max(first_column, 0) : max(end_column, 0)] = 0
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    inner = distance[reach : reach + rows, reach : reach + columns]
    return round(float(inner[pixels_HW].min(initial=np.inf)), 3)


def _gap(start: Any, end: Any, other_start: Any, other_end: Any) -> NDArray[np.int64]:
    """Return how far pixels start…end − 1 are from others; 0 where they meet, 1 for neighbours."""
    gap: NDArray[np.int64] = np.maximum(np.maximum(other_start - end, start - other_end) + 1, 0)
    return gap
