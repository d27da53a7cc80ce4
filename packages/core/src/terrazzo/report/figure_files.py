"""Figures as PNG and SVG files, on white, with their own legend and axis names."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from terrazzo.report.palettes import FILE_PALETTE, Palette

FORMATS = ("png", "svg")
_DOTS_AN_INCH = {"png": 300, "svg": 72}
_MARGIN_INCHES = 0.06


def encode(figure: Figure, kind: str) -> bytes:
    """Return the figure as a file; the same figure gives the same bytes.

    Args:
        figure: drawn in `palettes.FILE_PALETTE`.
        kind: one of `FORMATS`; letters in SVG are paths, so that they look the same on any machine.
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
    axes: Axes,
    entries: Sequence[tuple[str, str, str]],
    *,
    columns: int,
    palette: Palette = FILE_PALETTE,
) -> None:
    """Put a legend above the axes.

    Args:
        axes: of the figure.
        entries: name, colour and marker of each; marker "" for a line without one.
        columns: largest number of entries side by side.
        palette: for the letters.
    """
    handles = [
        mpl.lines.Line2D([], [], color=colour, marker=marker or None, markersize=4.5, linewidth=1.4)
        for _, colour, marker in entries
    ]
    axes.legend(
        handles, [plain(name) for name, _, _ in entries], loc="lower left", frameon=False,
        bbox_to_anchor=(0, 1), borderaxespad=0.4, ncols=min(columns, len(entries)), fontsize=10,
        labelcolor=palette.text, handlelength=1.6, columnspacing=1.4, borderpad=0,
    )  # fmt: skip


def label(
    axes: Axes, *, x: str | None = None, y: str | None = None, palette: Palette = FILE_PALETTE
) -> None:
    """Set the names of the axes; on a page, the heading above the figure names them."""
    if x is not None:
        axes.set_xlabel(x, color=palette.text, size=11)
    if y is not None:
        axes.set_ylabel(y, color=palette.text, size=11)


def plain(text: str) -> str:
    """Return text that matplotlib draws as it is, not as mathematics.

    A byte of a file's name that is no UTF-8 is drawn as an escape.
    """
    return text.encode(errors="backslashreplace").decode().replace("$", r"\$")
