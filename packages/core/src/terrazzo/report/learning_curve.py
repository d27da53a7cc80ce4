"""Mean IoU by the number of training images, for runs that differ in nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from terrazzo.comparison.compare import Comparison
from terrazzo.comparison.competitor import Competitor
from terrazzo.metrics.confidence_intervals import Interval
from terrazzo.report import inline_svg
from terrazzo.report.curves import step_axes
from terrazzo.report.palettes import Palette, run_style

_OF_A_POINT = ("name", "seed", "init.run", "data.limit")
"""Beginnings of the settings in which the points of one curve may differ."""


@dataclass(frozen=True)
class Point:
    """One run of a curve.

    Attributes:
        run: number of the run in the comparison.
        images: that it was trained on.
        score: mean IoU with its interval.
    """

    run: int
    images: int
    score: Interval


def learning_curves(comparison: Comparison) -> list[list[Point]]:
    """Return the curves of a comparison: lists of points with two numbers of images or more."""
    curves: dict[str, list[Point]] = {}
    for number, (run, found) in enumerate(
        zip(comparison.competitors, comparison.intervals.runs, strict=True)
    ):
        images = _training_images(run)
        if images is None:
            continue
        rest = {k: v for k, v in run.settings.items() if not k.startswith(_OF_A_POINT)}
        point = Point(number, images, found.scalars["mean_iou"])
        curves.setdefault(repr(sorted(rest.items())), []).append(point)
    ordered = (sorted(points, key=lambda point: point.images) for points in curves.values())
    return [points for points in ordered if len({point.images for point in points}) > 1]


def _training_images(run: Competitor) -> int | None:
    splits = run.record.run.get("data", {}).get("splits", {})
    images = splits.get("train", {}).get("images")
    return None if images is None else int(images)


def learning_curve_svg(curves: Sequence[Sequence[Point]], palette: Palette) -> str:
    """Draw curves as an ``<svg>`` element; empty where there are none."""
    if not curves:
        return ""
    ends = "; ".join(
        f"{points[0].score.estimate:.3f} with {points[0].images} images to "
        f"{points[-1].score.estimate:.3f} with {points[-1].images}"
        for points in curves
    )
    figure = draw_learning_curve(curves, palette)
    return inline_svg.render(figure, "learning-curve", f"Mean IoU by training images: {ends}.")


def draw_learning_curve(curves: Sequence[Sequence[Point]], palette: Palette) -> Figure:
    """Draw the figure of `learning_curve_svg`: the line goes through the mean over seeds."""
    numbers = sorted({point.images for points in curves for point in points})
    figure, axes = step_axes(numbers[-1], palette)
    for points in curves:
        colour, _ = run_style(points[0].run, palette)
        sizes = sorted({point.images for point in points})
        means = [
            float(np.mean([point.score.estimate for point in points if point.images == size]))
            for size in sizes
        ]
        axes.plot(sizes, means, color=colour, linewidth=1.4)
        for point in points:
            _draw_point(axes, point, palette)
    axes.set_xscale("log")
    axes.set_xlim(numbers[0] / 1.2, numbers[-1] * 1.2)
    axes.set_xticks(numbers)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    axes.set_xlabel("training images", color=palette.text, size=11)
    axes.set_ylim(0, 1)
    return figure


def _draw_point(axes: Axes, point: Point, palette: Palette) -> None:
    colour, marker = run_style(point.run, palette)
    score = point.score
    if not math.isnan(score.low):
        (line,) = axes.plot(
            [point.images] * 2, [score.low, score.high], color=colour, linewidth=1.2
        )
        line.set_gid(f"run-{point.run}")
    (dot,) = axes.plot(point.images, score.estimate, marker, color=colour, markersize=4.5)
    dot.set_gid(f"run-{point.run}")
