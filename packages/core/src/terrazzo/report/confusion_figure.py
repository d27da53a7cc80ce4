"""Figures as files: on white, with their own legend, as PNG and SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from terrazzo.report.curves import PAPER, Ink

FORMATS = ("png", "svg")
_DOTS_AN_INCH = {"png": 300, "svg": 72}
_MARGIN_INCHES = 0.06
_SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#084582"])
_DARK = 0.65
"""Share from which white letters are read more easily."""
_MAX_NUMBERED = 24
"""More classes than these leave no room for numbers in the cells."""


def encode(figure: Figure, kind: str) -> bytes:
    """Return the figure as a file; the same figure gives the same bytes.

    Args:
        figure: drawn in `PAPER`.
        kind: one of `FORMATS`; letters in SVG are shapes, so that they look the same anywhere.
    """
    buffer = io.BytesIO()
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[kind]
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "terrazzo"}):
        figure.savefig(
            buffer, format=kind, dpi=_DOTS_AN_INCH[kind], metadata=metadata, facecolor="white",
            bbox_inches="tight", pad_inches=_MARGIN_INCHES,
        )  # fmt: skip
    return buffer.getvalue()


def add_legend(
    axes: Axes, entries: Sequence[tuple[str, str, str]], *, columns: int, ink: Ink = PAPER
) -> None:
    """Put a legend above the axes.

    Args:
        axes: of the figure.
        entries: name, colour and marker, or "" for a line without one.
        columns: most entries side by side.
        ink: for the letters.
    """
    handles = [
        mpl.lines.Line2D([], [], color=colour, marker=marker or None, markersize=4.5, linewidth=1.4)
        for _, colour, marker in entries
    ]
    axes.legend(
        handles, [plain(name) for name, _, _ in entries], loc="lower left", frameon=False,
        bbox_to_anchor=(0, 1), borderaxespad=0.4, ncols=min(columns, len(entries)), fontsize=10,
        labelcolor=ink.text, handlelength=1.6, columnspacing=1.4, borderpad=0,
    )  # fmt: skip


def label(axes: Axes, *, x: str | None = None, y: str | None = None, ink: Ink = PAPER) -> None:
    """Name the axes, which on a page their heading does."""
    if x is not None:
        axes.set_xlabel(x, color=ink.text, size=11)
    if y is not None:
        axes.set_ylabel(y, color=ink.text, size=11)


def draw_confusion(
    counts_KK: NDArray[np.int64], classes: Sequence[str], ink: Ink = PAPER
) -> Figure:
    """Draw a confusion matrix: shades and per cent of each row of the truth.

    Args:
        counts_KK: rows truth, columns prediction.
        classes: K names.
        ink: for letters and lines.
    """
    num = len(classes)
    totals_K = counts_KK.sum(axis=1, keepdims=True)
    share_KK = np.divide(counts_KK, totals_K, out=np.full((num, num), np.nan), where=totals_K > 0)
    side = max(2.2, 0.36 * num if num <= _MAX_NUMBERED else 0.2 * num)
    figure = Figure(figsize=(side, side))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(share_KK, cmap=_SHADES, vmin=0, vmax=1, aspect="equal", interpolation="none")
    names = [plain(name) for name in classes]
    axes.set_xticks(range(num), names, rotation=90)
    axes.set_yticks(range(num), names)
    axes.tick_params(length=0, pad=4, labelsize=9, labelcolor=ink.text)
    axes.set_xticks(np.arange(num - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(num - 1) + 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color=ink.grid, linewidth=0.6)
    axes.spines[:].set(color=ink.grid, linewidth=0.6)
    label(axes, x="prediction", y="truth", ink=ink)
    if num <= _MAX_NUMBERED:
        _write_numbers(axes, share_KK, ink)
    return figure


def _write_numbers(axes: Axes, share_KK: NDArray[np.float64], ink: Ink) -> None:
    for row, column in np.argwhere(~np.isnan(share_KK)):
        share = share_KK[row, column]
        if share > 0:
            axes.text(
                column, row, "<1" if share < 0.005 else f"{100 * share:.0f}", size=8,
                horizontalalignment="center", verticalalignment="center",
                color="white" if share > _DARK else ink.text,
            )  # fmt: skip


def plain(text: str) -> str:
    """Return text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")
