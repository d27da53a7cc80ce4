"""Reliability curves of one run or several, for their pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from terrazzo import further_scores
from terrazzo.further_counts import Further
from terrazzo.labels import LabelMap
from terrazzo.metrics import calibration, roc
from terrazzo.metrics.calibration import CalibrationCounts
from terrazzo.metrics.picture_counts import mean_of_defined
from terrazzo.report import comparison_figures

MAX_FIGURES = 24
"""Classes of more than these have no curves of their own: their table is there."""


@dataclass(frozen=True)
class Reliability:
    """One figure; `colour` of its class, empty for that of the predicted class."""

    title: str
    colour: str
    svg: str


@dataclass(frozen=True)
class ClassCalibration:
    """Calibration error and ROC area of each class of a run, and their means; NaN undefined."""

    errors: tuple[float, ...]
    areas: tuple[float, ...]
    mean_error: float
    mean_area: float


def figures(
    runs: Sequence[Further], label_map: LabelMap, *, prefix: str = ""
) -> tuple[Reliability, ...]:
    """Draw the curves of the predicted class and of each class, all runs in each.

    Args:
        runs: counts of each run.
        label_map: names and colours.
        prefix: of the figures' ids, apart from all others of the page.
    """
    totals = _totals(runs)
    rows = [("Predicted class", "")]
    if len(label_map) <= MAX_FIGURES:
        rows += [(each.name, each.colour) for each in label_map.classes]
    drawn = (
        (title, colour, comparison_figures.reliability(title, f"{prefix}{row}", totals, row))
        for row, (title, colour) in enumerate(rows)
    )
    return tuple(
        Reliability(title, colour, Markup(svg))  # noqa: S704 - matplotlib escapes the class names
        for title, colour, svg in drawn
        if svg
    )


def of_classes(run: Further) -> ClassCalibration | None:
    """Return the scores of each class; None where probabilities were not counted."""
    if run.calibration is None:
        return None
    counts = further_scores.total(run.calibration)
    errors_K, areas_K = calibration.class_calibration_errors(counts), roc.areas(counts.scores)
    # A class that is not in the truth has an error, of its false alarms, but no area.
    return ClassCalibration(
        tuple(map(float, errors_K)),
        tuple(map(float, areas_K)),
        mean_of_defined(np.asarray(errors_K)),
        mean_of_defined(np.asarray(areas_K)),
    )


def _totals(runs: Sequence[Further]) -> list[CalibrationCounts | None]:
    return [
        None if run.calibration is None else further_scores.total(run.calibration) for run in runs
    ]
