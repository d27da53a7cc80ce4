"""All figures of a comparison as PNG and SVG files for a paper."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from terrazzo.comparison import verdicts
from terrazzo.comparison.compare import Comparison
from terrazzo.comparison.tables import CLASS_SCORES, NETWORKS_MARK, run_file_names
from terrazzo.evaluation.stored import column
from terrazzo.metrics.confidence_intervals import Interval
from terrazzo.report import (
    comparison_curve_files,
    comparison_figures,
    comparison_grid,
    figure_files,
    learning_curve,
)
from terrazzo.report.confusion_figure import draw_confusion
from terrazzo.report.confusion_matrix import MAX_MATRIX_CLASSES
from terrazzo.report.palettes import FILE_PALETTE, run_style

_LEGEND_COLUMNS = 3
_ROW_INCHES = 0.3
_COLUMN_POINTS = 130
"""Width of the text of a score with its interval."""


def all_figures(comparison: Comparison) -> dict[str, bytes]:
    """Return every figure as PNG and SVG by the names of their files."""
    return {
        f"{name}.{kind}": figure_files.encode(figure, kind)
        for name, figure in draw(comparison)
        for kind in figure_files.FORMATS
    }


def draw(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    """Draw the figures one after the other; yields each with its file name, without suffix."""
    yield "ranking", _ranking(comparison)
    for key, title in CLASS_SCORES.items():
        yield key, _class_scores(comparison, title, key)
    for name, title, kind, key in (
        ("validation", "Mean IoU", "validation", "mean_iou"),
        ("loss", "Training loss", "train", "loss"),
        ("learning_rate", "Learning rate", "train", "learning_rate"),
    ):
        runs = [column(run.record.log, kind, key) for run in comparison.competitors]
        if any(steps for steps, _ in runs):
            figure = comparison_figures.draw_run_curves(title, runs, FILE_PALETTE)
            figure_files.label(
                figure.axes[0], y=title if kind == "train" else f"{title}, validation"
            )
            _add_legend(comparison, figure)
            yield name, figure
    curves = learning_curve.learning_curves(comparison)
    if curves:
        figure = learning_curve.draw_learning_curve(curves, FILE_PALETTE)
        figure_files.label(figure.axes[0], y="mean IoU")
        _add_legend(comparison, figure)
        yield "learning_curve", figure
    classes = comparison.label_map.names
    if len(classes) <= MAX_MATRIX_CLASSES:
        for file_name, run in zip(run_file_names(comparison), comparison.competitors, strict=True):
            yield f"confusion_{file_name}", draw_confusion(run.counts_KK, classes)
    yield from comparison_curve_files.draw(comparison)
    grid = comparison_grid.draw(comparison)
    if grid is not None:
        yield "images", grid


def _class_scores(comparison: Comparison, title: str, key: str) -> Figure:
    runs = comparison.intervals.runs
    figure = comparison_figures.draw_class_scores(
        comparison.label_map.names,
        [run.per_class[key] for run in runs],
        [run.scalars[f"mean_{key}"] for run in runs],
        FILE_PALETTE,
    )
    figure_files.label(figure.axes[0], x=title)
    _add_legend(comparison, figure)
    return figure


def _add_legend(comparison: Comparison, figure: Figure) -> None:
    entries = [
        (run.name, *run_style(number, FILE_PALETTE))
        for number, run in enumerate(comparison.competitors)
    ]
    figure_files.add_legend(figure.axes[0], entries, columns=_LEGEND_COLUMNS)


def _ranking(comparison: Comparison) -> Figure:
    """Draw mean IoU with its interval, a run a row, and the difference to the first beside it."""
    runs = comparison.intervals.runs
    figure = Figure(figsize=(2.8, _ROW_INCHES * len(runs) + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    found = [run.scalars["mean_iou"] for run in runs]
    for row, interval in enumerate(found):
        colour, marker = run_style(row, FILE_PALETTE)
        axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=1.4)
        axes.plot(interval.estimate, row, marker, color=colour, markersize=5)
        difference = comparison.intervals.differences[row, 0].scalars["mean_iou"] if row else None
        beside = (
            ("mean IoU", _interval_text(interval)),
            ("difference to the first", _difference_text(difference)),
        )
        for column_number, (head, text) in enumerate(beside):
            _write(axes, row, column_number, text)
            if row == 0:
                _write(axes, -0.8, column_number, head, weight="bold")
    low, high = _limits(found)
    axes.set_xlim(low, high)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    names = [figure_files.plain(run.name) for run in comparison.competitors]
    axes.set_yticks(range(len(runs)), names)
    axes.tick_params(length=0, pad=5, labelsize=10, labelcolor=FILE_PALETTE.text)
    axes.grid(axis="x", color=FILE_PALETTE.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure_files.label(axes, x="mean IoU")
    return figure


def _write(axes: Axes, row: float, number: int, text: str, *, weight: str = "normal") -> None:
    """Write into a column of text to the right of the axes."""
    axes.annotate(
        text, (1, row), xycoords=axes.get_yaxis_transform(), annotation_clip=False,
        xytext=(12 + number * _COLUMN_POINTS, 0), textcoords="offset points",
        verticalalignment="center", size=10, weight=weight, color=FILE_PALETTE.text,
    )  # fmt: skip


def _limits(found: list[Interval]) -> tuple[float, float]:
    """Return limits of the axis around all intervals, with a margin."""
    ends = np.array([(each.low, each.high) for each in found], np.float64)
    if np.isnan(ends).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    margin = max(0.05 * (high - low), 0.01)
    return max(low - margin, -0.01), min(high + margin, 1.01)


def _interval_text(found: Interval, sign: str = "") -> str:
    if np.isnan(found.estimate):
        return "not defined"
    values = (found.estimate, found.low, found.high)
    estimate, low, high = (f"{value:{sign}.3f}".replace("-", "−") for value in values)
    if found.too_few:
        return f"{estimate}, {verdicts.too_few(found)}"
    return f"{estimate} [{low}, {high}]"


def _difference_text(difference: Interval | None) -> str:
    if difference is None:
        return "–"
    return _interval_text(difference, "+") + (NETWORKS_MARK if difference.excludes_zero else "")
