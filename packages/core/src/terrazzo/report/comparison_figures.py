"""Figures of a comparison: dots with intervals by class, and curves of all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from terrazzo.metrics.confidence_intervals import Interval
from terrazzo.report.curves import PAGE, RUNS, Ink, inline, step_axes

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
"""A run is told by its marker as well as by its colour."""
MARKER_SIGNS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "⬟")
"""The same for text."""
_POINTS_AN_INCH = 72


def look(run: int, ink: Ink = PAGE) -> tuple[str, str]:
    """Return colour and marker of a run; unlike those of the 63 others."""
    return ink.runs[run % len(RUNS)], MARKERS[(run + run // len(RUNS)) % len(MARKERS)]


def dots(
    score: str, classes: Sequence[str], runs: Sequence[Sequence[Interval]], mean: Sequence[Interval]
) -> str:
    """Draw one score of every class and its mean, a dot and an interval a run.

    Args:
        score: name, for the figure's text.
        classes: K names, top to bottom.
        runs: R times K.
        mean: R.

    Returns:
        An ``<svg>`` element.
    """
    told = "; ".join(f"run {run + 1} mean {each.estimate:.3f}" for run, each in enumerate(mean))
    name = f"dots-{score.lower().replace(' ', '-')}"
    figure = draw_dots(classes, runs, mean, PAGE)
    return inline(figure, name, f"{score} of each class and run: {told}. The table has all values.")


def draw_dots(
    classes: Sequence[str],
    runs: Sequence[Sequence[Interval]],
    mean: Sequence[Interval],
    ink: Ink,
) -> Figure:
    """Draw what `dots` is made of."""
    rows = [*classes, "Mean"]
    step = min(0.28, 0.75 / len(runs))
    height = max(22, 8.5 * len(runs)) * len(rows) + 34
    figure = Figure(figsize=(430 / _POINTS_AN_INCH, height / _POINTS_AN_INCH))
    axes = figure.add_axes((0.27, 22 / height, 0.70, 1 - 30 / height))
    for run, found in enumerate(runs):
        colour, marker = look(run, ink)
        offset = (run - (len(runs) - 1) / 2) * step
        for row, interval in enumerate([*found, mean[run]]):
            if not math.isnan(interval.estimate):
                where = row + offset
                (line,) = axes.plot(
                    [interval.low, interval.high], [where, where], color=colour, linewidth=1.4
                )
                (dot,) = axes.plot(interval.estimate, where, marker, color=colour, markersize=4.5)
                line.set_gid(f"run-{run}")
                dot.set_gid(f"run-{run}")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_yticks(range(len(rows)), rows)
    axes.axhline(len(rows) - 1.5, color=ink.text, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(length=0, pad=5, labelsize=10, labelcolor=ink.text)
    axes.grid(color=ink.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure


def curves(name: str, runs: Sequence[tuple[Sequence[int], Sequence[float]]]) -> str:
    """Draw one curve a run over the steps.

    Args:
        name: of the score, for the figure's text.
        runs: steps and values of each; empty where a run has none.

    Returns:
        An ``<svg>`` element, empty where no run has a value.
    """
    if not any(steps for steps, _ in runs):
        return ""
    ends = "; ".join(
        f"run {run + 1} ends at {values[-1]:.3g}"
        for run, (steps, values) in enumerate(runs)
        if steps
    )
    anchor = f"curves-{name.lower().replace(' ', '-')}"
    return inline(draw_curves(name, runs, PAGE), anchor, f"{name} by step: {ends}.")


def draw_curves(
    name: str, runs: Sequence[tuple[Sequence[int], Sequence[float]]], ink: Ink
) -> Figure:
    """Draw what `curves` is made of, where some run has a value."""
    figure, axes = step_axes(max(max(steps) for steps, _ in runs if steps), ink)
    for run, (steps, values) in enumerate(runs):
        if steps:
            colour, marker = look(run, ink)
            every = max(1, len(steps) // 8)
            (line,) = axes.plot(
                steps, values, color=colour, linewidth=1.4, marker=marker, markersize=4,
                markevery=every,
            )  # fmt: skip
            line.set_gid(f"run-{run}")
    highest = np.nanmax([np.nanmax(values) for steps, values in runs if steps])
    axes.set_ylim(0, max(1.0, highest * 1.05) if name == "Mean IoU" else highest * 1.05)
    return figure
