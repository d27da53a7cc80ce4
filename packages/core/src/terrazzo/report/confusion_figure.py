"""Figure of a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from terrazzo.report.figure_files import label, plain
from terrazzo.report.palettes import FILE_PALETTE, Palette

_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#084582"])
_DARK_SHARE = 0.65
"""Above this share, white letters are easier to read than dark ones."""
_MAX_NUMBERED_CLASSES = 24
"""With more classes there is no room for numbers in the cells."""


def draw_confusion(
    counts_KK: NDArray[np.int64], classes: Sequence[str], palette: Palette = FILE_PALETTE
) -> Figure:
    """Draw a confusion matrix: shades and per cent of each row.

    Args:
        counts_KK: pixels; rows ground truth, columns prediction.
        classes: K names.
        palette: for letters and lines.
    """
    num = len(classes)
    totals_K = counts_KK.sum(axis=1, keepdims=True)
    share_KK = np.divide(counts_KK, totals_K, out=np.full((num, num), np.nan), where=totals_K > 0)
    side = max(2.2, 0.36 * num if num <= _MAX_NUMBERED_CLASSES else 0.2 * num)
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(share_KK, cmap=_SHADES, vmin=0, vmax=1, aspect="equal", interpolation="none")
    names = [plain(name) for name in classes]
    axes.set_xticks(range(num), names, rotation=90)
    axes.set_yticks(range(num), names)
    axes.tick_params(length=0, pad=4, labelsize=9, labelcolor=palette.text)
    axes.set_xticks(np.arange(num - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(num - 1) + 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color=palette.grid, linewidth=0.6)
    axes.spines[:].set(color=palette.grid, linewidth=0.6)
    label(axes, x="prediction", y="ground truth", palette=palette)
    if num <= _MAX_NUMBERED_CLASSES:
        _write_numbers(axes, share_KK, palette)
    return figure


def _write_numbers(axes: Axes, share_KK: NDArray[np.float64], palette: Palette) -> None:
    for row, column in np.argwhere(~np.isnan(share_KK)):
        share = share_KK[row, column]
        if share > 0:
            axes.text(
                column, row, "<1" if share < 0.005 else f"{100 * share:.0f}", size=8,
                horizontalalignment="center", verticalalignment="center",
                color="white" if share > _DARK_SHARE else palette.text,
            )  # fmt: skip
