"""Curves over thresholds of several runs, for a paper: reliability, ROC, precision and recall."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from terrazzo.comparison.compare import Comparison
from terrazzo.evaluation import extra_scores
from terrazzo.metrics import roc
from terrazzo.metrics.calibration import CalibrationCounts
from terrazzo.report import figure_files
from terrazzo.report.palettes import FILE_PALETTE, run_style
from terrazzo.report.reliability_curves import MAX_CLASS_FIGURES, MIN_BIN_PIXELS

_COLUMNS = 4
_SIDE_INCHES = 2.2

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Values across and up, in the order in which they are joined."""


def draw(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    """Yield the figures with their file names; none where no run has counted probabilities."""
    totals = [
        None if run.scored.extra.calibration is None
        else extra_scores.total(run.scored.extra.calibration)
        for run in comparison.competitors
    ]  # fmt: skip
    if not any(total is not None for total in totals):
        return
    yield "reliability", _panels(comparison, totals, _reliability, "probability", "share right")
    yield "roc", _panels(comparison, totals, _roc, "false positive rate", "recall", start=1)
    yield (
        "precision_recall",
        _panels(
            comparison,
            totals,
            _precision_recall,
            "recall",
            "precision",
            start=1,
            diagonal=False,
        ),
    )


def _reliability(counts: CalibrationCounts, row: int) -> Curve:
    pixels_B = counts.pixels[row]
    enough_B = pixels_B >= MIN_BIN_PIXELS
    return (
        counts.confidence[row][enough_B] / pixels_B[enough_B],
        counts.right[row][enough_B] / pixels_B[enough_B],
    )


def _roc(counts: CalibrationCounts, row: int) -> Curve:
    others_S, of_it_S = roc.above_thresholds(counts.scores[row - 1])
    return others_S / others_S[-1], of_it_S / of_it_S[-1]


def _precision_recall(counts: CalibrationCounts, row: int) -> Curve:
    others_S, of_it_S = roc.above_thresholds(counts.scores[row - 1])
    some_S = of_it_S > 0  # before the first hit there is no recall, and any precision
    others_S, of_it_S = others_S[some_S], of_it_S[some_S]
    return of_it_S / of_it_S[-1], of_it_S / (others_S + of_it_S)


def _panels(
    comparison: Comparison,
    totals: Sequence[CalibrationCounts | None],
    curve: Callable[[CalibrationCounts, int], Curve],
    x: str,
    y: str,
    *,
    start: int = 0,
    diagonal: bool = True,
) -> Figure:
    """Draw a panel for the predicted class (row 0) and each class, with a curve a run.

    The diagonal is what a perfectly calibrated model, or one that guesses, would have.
    """
    names = ["Predicted class", *comparison.label_map.names]
    stop = len(names) if len(names) - 1 <= MAX_CLASS_FIGURES else 1
    rows = [row for row in range(start, stop) if any(_has(each, row) for each in totals)]
    columns = min(_COLUMNS, max(1, len(rows)))
    lines = max(1, math.ceil(len(rows) / columns))
    figure = Figure(figsize=(_SIDE_INCHES * columns, _SIDE_INCHES * lines + 0.3))
    figure.subplots_adjust(wspace=0.35, hspace=0.5)
    grid = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for axes, row in zip(grid, rows, strict=False):
        if diagonal:
            axes.plot([0, 1], [0, 1], color=FILE_PALETTE.text, linewidth=0.8, linestyle=(0, (3, 3)))
        for run, counts in enumerate(totals):
            if counts is not None and _has(counts, row):
                colour, _ = run_style(run, FILE_PALETTE)
                axes.plot(*curve(counts, row), color=colour, linewidth=1.3)
        _frame(axes, figure_files.plain(names[row]), x, y)
    for axes in grid[len(rows) :]:
        axes.set_visible(False)
    entries = [
        (run.name, run_style(number, FILE_PALETTE)[0], "")
        for number, run in enumerate(comparison.competitors)
    ]
    figure_files.add_legend(figure.axes[0], entries, columns=2)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    legend.set_bbox_to_anchor((0, 1.12))  # above the title of the first panel
    return figure


def _has(counts: CalibrationCounts | None, row: int) -> bool:
    """Whether the row has pixels that are right and, of a class, others too."""
    if counts is None or not counts.right[row].any():
        return False
    return row == 0 or bool(counts.scores[row - 1][0].any())


def _frame(axes: Axes, title: str, x: str, y: str) -> None:
    palette = FILE_PALETTE
    axes.set_title(title, loc="left", size=9, color=palette.text, pad=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel(x, color=palette.text, size=8, labelpad=1)
    axes.set_ylabel(y, color=palette.text, size=8, labelpad=1)
    axes.tick_params(length=0, pad=3, labelsize=8, labelcolor=palette.text)
    axes.grid(color=palette.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
