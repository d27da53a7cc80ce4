"""Reliability curves (accuracy by predicted probability) of one run or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from terrazzo.data.labels import LabelMap
from terrazzo.evaluation import extra_scores
from terrazzo.evaluation.extra_counts import ExtraCounts
from terrazzo.metrics import calibration, roc
from terrazzo.metrics.calibration import CalibrationCounts
from terrazzo.metrics.image_counts import mean_of_defined
from terrazzo.report import inline_svg
from terrazzo.report.palettes import PAGE_PALETTE, run_style

MAX_CLASS_FIGURES = 24
"""With more classes, only the predicted class has a figure; the table has all classes."""
MIN_BIN_PIXELS = 30
"""A bin with fewer pixels is not drawn: its accuracy would be noise."""

_POINTS_AN_INCH = 72


@dataclass(frozen=True)
class ReliabilityFigure:
    """One figure; `colour` is that of its class, empty for the predicted class."""

    title: str
    colour: str
    svg: str


@dataclass(frozen=True)
class ClassCalibration:
    """Calibration error and ROC area of each class of a run, and their means; NaN: not defined.

    `area_errors` is how far the areas can be off, see `terrazzo.metrics.roc.area_errors`.
    """

    errors: tuple[float, ...]
    areas: tuple[float, ...]
    area_errors: tuple[float, ...]
    mean_error: float
    mean_area: float
    mean_area_error: float


def figures(
    runs: Sequence[ExtraCounts], label_map: LabelMap, *, prefix: str = ""
) -> tuple[ReliabilityFigure, ...]:
    """Draw the curves of the predicted class and of each class, all runs in each.

    Args:
        runs: calibration counts of each run.
        label_map: names and colours.
        prefix: of the figures' ids; unique on the page.
    """
    totals = _totals(runs)
    rows = [("Predicted class", "")]
    if len(label_map) <= MAX_CLASS_FIGURES:
        rows += [(each.name, each.colour) for each in label_map.classes]
    drawn = (
        (title, colour, draw(title, f"{prefix}{row}", totals, row))
        for row, (title, colour) in enumerate(rows)
    )
    return tuple(
        ReliabilityFigure(title, colour, Markup(svg))  # noqa: S704 - matplotlib escapes the class names
        for title, colour, svg in drawn
        if svg
    )


def class_calibration(run: ExtraCounts) -> ClassCalibration | None:
    """Return the scores of each class; None where probabilities were not counted."""
    if run.calibration is None:
        return None
    counts = extra_scores.total(run.calibration)
    errors_K, areas_K = calibration.class_calibration_errors(counts), roc.areas(counts.scores)
    area_errors_K = roc.area_errors(counts.scores)
    # A class that is not in the ground truth has an error, of its false alarms, but no area.
    return ClassCalibration(
        tuple(map(float, errors_K)),
        tuple(map(float, areas_K)),
        tuple(map(float, area_errors_K)),
        mean_of_defined(np.asarray(errors_K)),
        mean_of_defined(np.asarray(areas_K)),
        mean_of_defined(np.asarray(area_errors_K)),
    )


def _totals(runs: Sequence[ExtraCounts]) -> list[CalibrationCounts | None]:
    return [
        None if run.calibration is None else extra_scores.total(run.calibration) for run in runs
    ]


def draw(name: str, figure_id: str, runs: Sequence[CalibrationCounts | None], row: int) -> str:
    """Draw the share of right pixels against the predicted probability, a curve a run.

    Args:
        name: title of the figure, for its description.
        figure_id: part of its ids; unique on the page.
        runs: counts of each run over all images; None where it has none.
        row: 0 for the predicted class, 1 + k for class k.

    Returns:
        An ``<svg>`` element; empty where no bin has `MIN_BIN_PIXELS`, and for a class that is not
        in the ground truth.
    """
    figure = Figure(figsize=(230 / _POINTS_AN_INCH, 200 / _POINTS_AN_INCH))
    axes = figure.add_axes((0.16, 0.17, 0.81, 0.8))
    axes.plot([0, 1], [0, 1], color=PAGE_PALETTE.text, linewidth=0.9, linestyle=(0, (3, 3)))
    descriptions = []
    for run, counts in enumerate(runs):
        if counts is None or (row and not counts.right[row].any()):
            continue
        enough = counts.pixels[row] >= MIN_BIN_PIXELS
        if enough.any():
            pixels = counts.pixels[row][enough]
            colour, marker = run_style(run)
            (line,) = axes.plot(
                counts.confidence[row][enough] / pixels, counts.right[row][enough] / pixels,
                color=colour, linewidth=1.4, marker=marker, markersize=4,
            )  # fmt: skip
            line.set_gid(f"run-{run}")
            descriptions.append(f"run {run + 1} over {int(pixels.sum()):,} pixels")
    if not descriptions:
        return ""
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.set_xlabel("probability", color=PAGE_PALETTE.text, size=10)
    axes.tick_params(length=0, pad=4, labelsize=10, labelcolor=PAGE_PALETTE.text)
    axes.grid(color=PAGE_PALETTE.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    text = f"{name}: share that is right against probability: {'; '.join(descriptions)}."
    return inline_svg.render(figure, f"reliability-{figure_id}", text)
