"""Figures of a comparison: class scores with intervals, and training curves of all runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from terrazzo.metrics.confidence_intervals import Interval
from terrazzo.report import inline_svg
from terrazzo.report.curves import step_axes
from terrazzo.report.figure_files import plain
from terrazzo.report.palettes import PAGE_PALETTE, Palette, run_style

_POINTS_AN_INCH = 72


def class_scores_svg(
    score: str, classes: Sequence[str], runs: Sequence[Sequence[Interval]], mean: Sequence[Interval]
) -> str:
    """Draw one score of every class and its mean, a dot and an interval a run.

    Args:
        score: name of the score, for the figure's text.
        classes: K names, top to bottom.
        runs: intervals of the K classes in each of R runs.
        mean: interval of the mean over classes in each of R runs.

    Returns:
        An ``<svg>`` element.
    """
    means = "; ".join(f"run {run + 1} mean {each.estimate:.3f}" for run, each in enumerate(mean))
    name = f"dots-{score.lower().replace(' ', '-')}"
    figure = draw_class_scores(classes, runs, mean, PAGE_PALETTE)
    return inline_svg.render(
        figure, name, f"{score} of each class and run: {means}. The table has all values."
    )


def draw_class_scores(
    classes: Sequence[str],
    runs: Sequence[Sequence[Interval]],
    mean: Sequence[Interval],
    palette: Palette,
) -> Figure:
    """Draw the figure of `class_scores_svg`."""
    rows = [*map(plain, classes), "Mean"]
    step = min(0.28, 0.75 / len(runs))
    height = max(22, 8.5 * len(runs)) * len(rows) + 34
    figure = Figure(figsize=(430 / _POINTS_AN_INCH, height / _POINTS_AN_INCH))
    axes = figure.add_axes((0.27, 22 / height, 0.70, 1 - 30 / height))
    for run, found in enumerate(runs):
        colour, marker = run_style(run, palette)
        offset = (run - (len(runs) - 1) / 2) * step
        for row, interval in enumerate([*found, mean[run]]):
            if not math.isnan(interval.estimate):
                y = row + offset
                (line,) = axes.plot(
                    [interval.low, interval.high], [y, y], color=colour, linewidth=1.4
                )
                (dot,) = axes.plot(interval.estimate, y, marker, color=colour, markersize=4.5)
                line.set_gid(f"run-{run}")
                dot.set_gid(f"run-{run}")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_yticks(range(len(rows)), rows)
    axes.axhline(len(rows) - 1.5, color=palette.text, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(length=0, pad=5, labelsize=10, labelcolor=palette.text)
    axes.grid(color=palette.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return figure


def run_curves_svg(name: str, runs: Sequence[tuple[Sequence[int], Sequence[float]]]) -> str:
    """Draw one curve a run over the steps.

    Args:
        name: name of the score, for the figure's text.
        runs: steps and values of each run; empty where it has none.

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
    return inline_svg.render(
        draw_run_curves(name, runs, PAGE_PALETTE), anchor, f"{name} by step: {ends}."
    )


def draw_run_curves(
    name: str, runs: Sequence[tuple[Sequence[int], Sequence[float]]], palette: Palette
) -> Figure:
    """Draw the figure of `run_curves_svg`; some run must have a value."""
    figure, axes = step_axes(max(max(steps) for steps, _ in runs if steps), palette)
    for run, (steps, values) in enumerate(runs):
        if steps:
            colour, marker = run_style(run, palette)
            every = max(1, len(steps) // 8)
            (line,) = axes.plot(
                steps, values, color=colour, linewidth=1.4, marker=marker, markersize=4,
                markevery=every,
            )  # fmt: skip
            line.set_gid(f"run-{run}")
    highest = np.nanmax([np.nanmax(values) for steps, values in runs if steps])
    axes.set_ylim(0, max(1.0, highest * 1.05) if name == "Mean IoU" else highest * 1.05)
    return figure
