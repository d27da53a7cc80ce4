"""The figures of a comparison as files for papers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from terrazzo.base.atomic_write import replacing
from terrazzo.comparison.compare import Comparison
from terrazzo.comparison.tables import run_file_names
from terrazzo.evaluation.stored import column
from terrazzo.metrics.confidence_intervals import Interval
from terrazzo.report import comparison_figures, confusion_figure
from terrazzo.report.curves import PAPER
from terrazzo.report.run_page import MAX_MATRIX_CLASSES

SCORES = {"IoU": "iou", "Precision": "precision", "Recall": "recall", "F1": "f1"}
_LEGEND_COLUMNS = 3
_ROW_INCHES = 0.3
_COLUMN_POINTS = 130
"""Width of a score with its interval."""


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write every figure as PNG and SVG into a folder, which is made; return the paths.

    Raises:
        ResourceError: SEG-R004 the disk is full or refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in draw(comparison):
        for kind in confusion_figure.FORMATS:
            path = folder / f"{name}.{kind}"
            with replacing(path) as unfinished:
                unfinished.write_bytes(confusion_figure.encode(figure, kind))
            written.append(path)
    return written


def draw(comparison: Comparison) -> Iterator[tuple[str, Figure]]:
    """Draw the figures one after the other; yields each with its file name, without suffix."""
    yield "ranking", _ranking(comparison)
    for title, key in SCORES.items():
        yield key, _dots(comparison, title, key)
    for name, title, kind, key in (
        ("validation", "Mean IoU", "validation", "mean_iou"),
        ("loss", "Training loss", "train", "loss"),
    ):
        runs = [column(run.record.log, kind, key) for run in comparison.competitors]
        if any(steps for steps, _ in runs):
            figure = comparison_figures.draw_curves(title, runs, PAPER)
            confusion_figure.label(
                figure.axes[0], y=title if kind == "train" else f"{title}, validation"
            )
            _add_runs(comparison, figure)
            yield name, figure
    classes = comparison.label_map.names
    if len(classes) <= MAX_MATRIX_CLASSES:
        for file_name, run in zip(run_file_names(comparison), comparison.competitors, strict=True):
            counts_KK = run.scored.counts_NKK.sum(axis=0)
            yield f"confusion_{file_name}", confusion_figure.draw_confusion(counts_KK, classes)


def _dots(comparison: Comparison, title: str, key: str) -> Figure:
    runs = comparison.intervals.runs
    figure = comparison_figures.draw_dots(
        comparison.label_map.names,
        [run.per_class[key] for run in runs],
        [run.scalars[f"mean_{key}"] for run in runs],
        PAPER,
    )
    confusion_figure.label(figure.axes[0], x=title)
    _add_runs(comparison, figure)
    return figure


def _add_runs(comparison: Comparison, figure: Figure) -> None:
    entries = [
        (run.name, *comparison_figures.look(number, PAPER))
        for number, run in enumerate(comparison.competitors)
    ]
    confusion_figure.add_legend(figure.axes[0], entries, columns=_LEGEND_COLUMNS)


def _ranking(comparison: Comparison) -> Figure:
    """Draw mean IoU with its interval, a run a row, and the difference to the first beside it."""
    runs = comparison.intervals.runs
    figure = Figure(figsize=(2.8, _ROW_INCHES * len(runs) + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    found = [run.scalars["mean_iou"] for run in runs]
    for row, interval in enumerate(found):
        colour, marker = comparison_figures.look(row, PAPER)
        axes.plot([interval.low, interval.high], [row, row], color=colour, linewidth=1.4)
        axes.plot(interval.estimate, row, marker, color=colour, markersize=5)
        lead = comparison.intervals.differences[row, 0].scalars["mean_iou"] if row else None
        beside = ("mean IoU", _told(interval)), ("difference to the first", _lead(lead))
        for column_number, (head, text) in enumerate(beside):
            _write(axes, row, column_number, text)
            if row == 0:
                _write(axes, -0.8, column_number, head, weight="bold")
    low, high = _bounds(found)
    axes.set_xlim(low, high)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    names = [confusion_figure.plain(run.name) for run in comparison.competitors]
    axes.set_yticks(range(len(runs)), names)
    axes.tick_params(length=0, pad=5, labelsize=10, labelcolor=PAPER.text)
    axes.grid(axis="x", color=PAPER.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    confusion_figure.label(axes, x="mean IoU")
    return figure


def _write(axes: Axes, row: float, number: int, text: str, *, weight: str = "normal") -> None:
    """Write into a column of text to the right of the axes."""
    axes.annotate(
        text, (1, row), xycoords=axes.get_yaxis_transform(), annotation_clip=False,
        xytext=(12 + number * _COLUMN_POINTS, 0), textcoords="offset points",
        verticalalignment="center", size=10, weight=weight, color=PAPER.text,
    )  # fmt: skip


def _bounds(found: list[Interval]) -> tuple[float, float]:
    """Return the part of 0…1 that the intervals take, with some room."""
    ends = np.array([(each.low, each.high) for each in found], np.float64)
    if np.isnan(ends).all():
        return 0.0, 1.0
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = max(0.05 * (high - low), 0.01)
    return max(low - room, -0.01), min(high + room, 1.01)


def _told(found: Interval, sign: str = "") -> str:
    if np.isnan(found.estimate):
        return "not defined"
    values = (found.estimate, found.low, found.high)
    estimate, low, high = (f"{value:{sign}.3f}".replace("-", "−") for value in values)
    return f"{estimate} [{low}, {high}]"


def _lead(difference: Interval | None) -> str:
    if difference is None:
        return "–"
    return _told(difference, "+") + ("*" if difference.excludes_zero else "")
