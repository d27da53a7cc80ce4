"""Training curves of one run: loss, learning rate and validation scores by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from terrazzo.evaluation.stored import column
from terrazzo.report import inline_svg
from terrazzo.report.palettes import PAGE_PALETTE, Palette

MAX_POINTS = 150
"""More points than these are drawn as means of this many bins: more cannot be seen at this size."""

_POINTS_AN_INCH = 72
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def loss_svg(steps: Sequence[int], losses: Sequence[float]) -> str:
    """Draw the training loss; the axis is logarithmic where it spans a decade.

    Args:
        steps: ascending.
        losses: as many, finite or NaN.

    Returns:
        An ``<svg>`` element.
    """
    figure = draw_loss(steps, losses, PAGE_PALETTE)
    return inline_svg.render(figure, "loss", f"Training loss: {_first_and_last(steps, losses)}.")


def draw_loss(steps: Sequence[int], losses: Sequence[float], palette: Palette) -> Figure:
    """Draw the figure of `loss_svg`."""
    values = np.asarray(losses, dtype=np.float64)
    figure, axes = step_axes(max(steps), palette)
    _draw_binned(axes, np.asarray(steps), values, palette)
    if np.nanmin(values) > 0 and np.nanmax(values) / np.nanmin(values) > 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(_PLAIN)  # a logarithmic axis brings its own
    else:
        axes.set_ylim(bottom=min(0.0, float(np.nanmin(values))))
    return figure


def learning_rate_svg(steps: Sequence[int], rates: Sequence[float]) -> str:
    """Draw the learning rate. Arguments and result as for `loss_svg`."""
    figure = draw_learning_rate(steps, rates, PAGE_PALETTE)
    return inline_svg.render(figure, "rate", f"Learning rate: {_first_and_last(steps, rates)}.")


def draw_learning_rate(steps: Sequence[int], rates: Sequence[float], palette: Palette) -> Figure:
    """Draw the figure of `learning_rate_svg`."""
    figure, axes = step_axes(max(steps), palette)
    _draw_binned(axes, np.asarray(steps), np.asarray(rates, dtype=np.float64), palette)
    axes.set_ylim(bottom=0, top=max(rates) * 1.08)
    return figure


def gradient_norm_svg(steps: Sequence[int], norms: Sequence[float]) -> str:
    """Draw the norm of the gradient. Arguments and result as for `loss_svg`."""
    figure = draw_loss(steps, norms, PAGE_PALETTE)
    description = f"Norm of the gradient: {_first_and_last(steps, norms)}."
    return inline_svg.render(figure, "gradient", description)


def cross_entropy_svg(
    steps: Sequence[int], validation: Sequence[float], training: Sequence[float]
) -> str:
    """Draw the cross-entropy of the validations.

    Args:
        steps: ascending.
        validation: as many, of the validation split; finite or NaN.
        training: as many, of the training images scored; NaN where none were.

    Returns:
        An ``<svg>`` element.
    """
    figure = draw_cross_entropy(steps, validation, training, PAGE_PALETTE)
    description = f"Cross-entropy of the validations: {_first_and_last(steps, validation)}."
    return inline_svg.render(figure, "entropy", description)


def draw_cross_entropy(
    steps: Sequence[int],
    validation: Sequence[float],
    training: Sequence[float],
    palette: Palette,
) -> Figure:
    """Draw the figure of `cross_entropy_svg`."""
    figure, axes = step_axes(max(steps), palette)
    if not np.isnan(training).all():
        axes.plot(
            steps, training, color=palette.second, linestyle=(0, (4, 2)), marker="s", markersize=2
        )
    axes.plot(steps, validation, color=palette.first, marker="o", markersize=2.5)
    axes.set_ylim(bottom=0)
    return figure


def best_validation(log: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the position, among the validations of a log, of the one whose weights were kept."""
    _, best = column(log, "validation", "best")
    return max((position for position, is_best in enumerate(best) if is_best), default=None)


def validation_svg(
    steps: Sequence[int],
    mean_iou: Sequence[float],
    pixel_accuracy: Sequence[float],
    best: int | None,
) -> str:
    """Draw the validation scores from 0 to 1.

    Args:
        steps: ascending.
        mean_iou: as many, 0…1 or NaN.
        pixel_accuracy: as many, 0…1 or NaN.
        best: position in `steps` of the validation whose weights were kept.

    Returns:
        An ``<svg>`` element.
    """
    description = f"Mean IoU on the validation split: {_first_and_last(steps, mean_iou)}."
    if best is not None:
        description += f" Best: {mean_iou[best]:.3f} at step {steps[best]:,}."
    return inline_svg.render(
        draw_validation(steps, mean_iou, pixel_accuracy, best, PAGE_PALETTE),
        "validation",
        description,
    )


def draw_validation(
    steps: Sequence[int],
    mean_iou: Sequence[float],
    pixel_accuracy: Sequence[float],
    best: int | None,
    palette: Palette,
) -> Figure:
    """Draw the figure of `validation_svg`."""
    figure, axes = step_axes(max(steps), palette)
    dashes = (0, (4, 2))
    axes.plot(
        steps, pixel_accuracy, color=palette.second, linestyle=dashes, marker="s", markersize=2,
        label="pixel accuracy",
    )  # fmt: skip
    axes.plot(steps, mean_iou, color=palette.first, marker="o", markersize=2.5, label="mean IoU")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if best is not None:
        axes.plot(steps[best], mean_iou[best], "o", color=palette.first, markersize=6)
        right = steps[best] > max(steps) / 2
        axes.annotate(
            f"best {mean_iou[best]:.3f} at {steps[best]:,}",
            (steps[best], mean_iou[best]),
            xytext=(4 if right else -4, -18 if mean_iou[best] > 0.2 else 10),
            textcoords="offset points",
            horizontalalignment="right" if right else "left",
            color=palette.first,
            size=11,
        )
    return figure


def step_axes(last_step: int, palette: Palette = PAGE_PALETTE) -> tuple[Figure, Axes]:
    """Return a figure for a curve over the steps from 0 to `last_step`."""
    figure = Figure(figsize=(360 / _POINTS_AN_INCH, 240 / _POINTS_AN_INCH))
    axes = figure.add_axes((0.125, 0.165, 0.855, 0.8))
    axes.set_xlim(0, max(last_step, 1) * 1.02)
    axes.set_xlabel("step", color=palette.text, size=11)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.tick_params(length=0, pad=5, labelsize=11, labelcolor=palette.text)
    axes.grid(axis="y", color=palette.grid, linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=palette.text, linewidth=1)
    return figure, axes


def _draw_binned(
    axes: Axes, steps: NDArray[np.int64], values: NDArray[np.float64], palette: Palette
) -> None:
    if len(steps) > MAX_POINTS:
        parts = np.array_split(values, MAX_POINTS)
        steps = np.array([int(part[-1]) for part in np.array_split(steps, MAX_POINTS)])
        lows, highs = [part.min() for part in parts], [part.max() for part in parts]
        axes.fill_between(steps, lows, highs, color=palette.first, alpha=0.2, linewidth=0)
        values = np.array([part.mean() for part in parts])
    marker = "o" if len(steps) == 1 else ""
    axes.plot(steps, values, color=palette.first, linewidth=1.6, marker=marker)


def _first_and_last(steps: Sequence[int], values: Sequence[float]) -> str:
    first, last = f"{values[0]:.3g} at step {steps[0]:,}", f"{values[-1]:.3g} at step {steps[-1]:,}"
    return first if len(steps) == 1 else f"from {first} to {last}"
