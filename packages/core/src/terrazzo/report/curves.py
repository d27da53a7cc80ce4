"""Training curves as inline SVG that takes its colours and fonts from the page around it."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

MAX_POINTS = 150
"""More points than these are drawn as means of as many bins: the eye sees no more at this size."""

# matplotlib knows fixed colours only. It draws with these, `inline` puts the page's in place.
TEXT, GRID, _FIRST, _SECOND = "#000001", "#000002", "#000003", "#000004"
_THEME = {
    TEXT: "var(--muted)",
    GRID: "var(--line)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
}
RUNS = tuple(f"#0000{number:02x}" for number in range(0xA1, 0xA9))
"""Colours of runs that are compared; after the eighth they begin anew, with another marker."""
_THEME |= {drawn: f"var(--run-{number})" for number, drawn in enumerate(RUNS, start=1)}


@dataclass(frozen=True)
class Ink:
    """Colours that a figure is drawn with."""

    text: str
    grid: str
    first: str
    second: str
    runs: tuple[str, ...]


PAGE = Ink(TEXT, GRID, _FIRST, _SECOND, RUNS)
"""For `inline`, which puts the page's colours in place of these."""
PAPER = Ink(
    text="#202428",
    grid="#dfe3e7",
    first="#0064a6",
    second="#b34a00",
    runs=(
        "#0064a6", "#c04f00", "#00805c", "#9b3f86", "#7d6400", "#3b3f45", "#2a86b8", "#8a5a36",
    ),
)  # fmt: skip
"""For files: the page's colours in the light, see ``report.css`` and ``compare.css``."""
_POINTS_AN_INCH = 72
_PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def loss(steps: Sequence[int], losses: Sequence[float]) -> str:
    """Draw the training loss; the axis is logarithmic where it spans a decade.

    Args:
        steps: ascending.
        losses: as many, finite or NaN.

    Returns:
        An ``<svg>`` element.
    """
    figure = draw_loss(steps, losses, PAGE)
    return inline(figure, "loss", f"Training loss: {_first_and_last(steps, losses)}.")


def draw_loss(steps: Sequence[int], losses: Sequence[float], ink: Ink) -> Figure:
    """Draw what `loss` is made of."""
    values = np.asarray(losses, dtype=np.float64)
    figure, axes = step_axes(max(steps), ink)
    _draw_binned(axes, np.asarray(steps), values, ink)
    if np.nanmin(values) > 0 and np.nanmax(values) / np.nanmin(values) > 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(_PLAIN)  # a logarithmic axis brings its own
    else:
        axes.set_ylim(bottom=min(0.0, float(np.nanmin(values))))
    return figure


def learning_rate(steps: Sequence[int], rates: Sequence[float]) -> str:
    """Draw the learning rate. Arguments and result as for `loss`."""
    figure = draw_learning_rate(steps, rates, PAGE)
    return inline(figure, "rate", f"Learning rate: {_first_and_last(steps, rates)}.")


def draw_learning_rate(steps: Sequence[int], rates: Sequence[float], ink: Ink) -> Figure:
    """Draw what `learning_rate` is made of."""
    figure, axes = step_axes(max(steps), ink)
    _draw_binned(axes, np.asarray(steps), np.asarray(rates, dtype=np.float64), ink)
    axes.set_ylim(bottom=0, top=max(rates) * 1.08)
    return figure


def validation(
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
    told = f"Mean IoU on the validation split: {_first_and_last(steps, mean_iou)}."
    if best is not None:
        told += f" Best: {mean_iou[best]:.3f} at step {steps[best]:,}."
    return inline(draw_validation(steps, mean_iou, pixel_accuracy, best, PAGE), "validation", told)


def draw_validation(
    steps: Sequence[int],
    mean_iou: Sequence[float],
    pixel_accuracy: Sequence[float],
    best: int | None,
    ink: Ink,
) -> Figure:
    """Draw what `validation` is made of."""
    figure, axes = step_axes(max(steps), ink)
    dashes = (0, (4, 2))
    axes.plot(
        steps, pixel_accuracy, color=ink.second, linestyle=dashes, marker="s", markersize=2,
        label="pixel accuracy",
    )  # fmt: skip
    axes.plot(steps, mean_iou, color=ink.first, marker="o", markersize=2.5, label="mean IoU")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if best is not None:
        axes.plot(steps[best], mean_iou[best], "o", color=ink.first, markersize=6)
        right = steps[best] > max(steps) / 2
        axes.annotate(
            f"best {mean_iou[best]:.3f} at {steps[best]:,}",
            (steps[best], mean_iou[best]),
            xytext=(4 if right else -4, -18 if mean_iou[best] > 0.2 else 10),
            textcoords="offset points",
            horizontalalignment="right" if right else "left",
            color=ink.first,
            size=11,
        )
    return figure


def step_axes(last_step: int, ink: Ink = PAGE) -> tuple[Figure, Axes]:
    """Return a figure for a curve over the steps from 0 to `last_step`."""
    figure = Figure(figsize=(360 / _POINTS_AN_INCH, 240 / _POINTS_AN_INCH))
    axes = figure.add_axes((0.125, 0.165, 0.855, 0.8))
    axes.set_xlim(0, max(last_step, 1) * 1.02)
    axes.set_xlabel("step", color=ink.text, size=11)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.yaxis.set_major_formatter(_PLAIN)
    axes.tick_params(length=0, pad=5, labelsize=11, labelcolor=ink.text)
    axes.grid(axis="y", color=ink.grid, linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.spines["bottom"].set(visible=True, color=ink.text, linewidth=1)
    return figure, axes


def _draw_binned(
    axes: Axes, steps: NDArray[np.int64], values: NDArray[np.float64], ink: Ink
) -> None:
    if len(steps) > MAX_POINTS:
        parts = np.array_split(values, MAX_POINTS)
        steps = np.array([int(part[-1]) for part in np.array_split(steps, MAX_POINTS)])
        lows, highs = [part.min() for part in parts], [part.max() for part in parts]
        axes.fill_between(steps, lows, highs, color=ink.first, alpha=0.2, linewidth=0)
        values = np.array([part.mean() for part in parts])
    marker = "o" if len(steps) == 1 else ""
    axes.plot(steps, values, color=ink.first, linewidth=1.6, marker=marker)


def _first_and_last(steps: Sequence[int], values: Sequence[float]) -> str:
    first, last = f"{values[0]:.3g} at step {steps[0]:,}", f"{values[-1]:.3g} at step {steps[-1]:,}"
    return first if len(steps) == 1 else f"from {first} to {last}"


def inline(figure: Figure, name: str, told: str) -> str:
    """Return the figure as an element of an HTML page; `told` is its text for screen readers."""
    buffer = io.StringIO()
    for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
        patch.set_visible(False)  # the page is behind it, light or dark
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "terrazzo"}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - our own figure
    for element in root.iter():
        element.tag = _local(element.tag)
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.set(_local(key), value)
    _drop(root, {"metadata", "style"})
    for element in root.iter():
        _adapt(element, name)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": told,
        "class": "figure",
    }
    text = ET.tostring(root, encoding="unicode")
    for drawn, themed in _THEME.items():
        text = text.replace(drawn, themed)
    return text


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _drop(root: ET.Element, tags: set[str]) -> None:
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in tags]:
            parent.remove(child)


def _adapt(element: ET.Element, figure_name: str) -> None:
    """Keep only the ids that are referred to, apart from those of other figures; drop the font."""
    attributes = element.attrib
    if "id" in attributes:
        if attributes["id"].startswith("run-"):
            attributes["data-run"] = attributes["id"].removeprefix("run-")
        if element.tag in {"path", "clipPath"}:
            attributes["id"] = f"{figure_name}-{attributes['id']}"
        else:
            del attributes["id"]
    for key in ("href", "clip-path"):
        if key in attributes:
            attributes[key] = attributes[key].replace("#", f"#{figure_name}-")
    if "style" in attributes:
        attributes["style"] = _without_font_family(attributes["style"])


def _without_font_family(style: str) -> str:
    kept = []
    for declaration in style.split(";"):
        key, _, value = declaration.strip().partition(":")
        if key == "font":  # "11px 'DejaVu Sans', ..." until matplotlib 3.10
            kept.append(f"font-size: {value.split()[0]}")
        elif key != "font-family":
            kept.append(declaration.strip())
    return "; ".join(kept)
