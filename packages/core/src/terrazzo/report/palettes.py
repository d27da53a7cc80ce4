"""Colours of figures, on a page and in a file, and the colour and marker of each run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours that a figure is drawn with, as ``#rrggbb``.

    Attributes:
        text: letters and axes.
        grid: grid lines.
        first: first curve of one run.
        second: second curve of one run.
        runs: curves of compared runs; after the last they begin anew, with another marker.
    """

    text: str
    grid: str
    first: str
    second: str
    runs: tuple[str, ...]


# matplotlib knows fixed colours only: `inline_svg` replaces these by the variables of the page.
PAGE_PALETTE = Palette(
    text="#000001",
    grid="#000002",
    first="#000003",
    second="#000004",
    runs=tuple(f"#0000{number:02x}" for number in range(0xA1, 0xA9)),
)
"""Placeholders for figures of a page, whose colours depend on the reader's light or dark mode."""

PAGE_VARIABLES = {
    PAGE_PALETTE.text: "var(--muted)",
    PAGE_PALETTE.grid: "var(--line)",
    PAGE_PALETTE.first: "var(--first)",
    PAGE_PALETTE.second: "var(--second)",
} | {colour: f"var(--run-{number})" for number, colour in enumerate(PAGE_PALETTE.runs, start=1)}
"""CSS variables of ``page.css`` by placeholder."""

FILE_PALETTE = Palette(
    text="#202428",
    grid="#dfe3e7",
    first="#0064a6",
    second="#b34a00",
    runs=(
        "#0064a6", "#c04f00", "#00805c", "#9b3f86", "#7d6400", "#3b3f45", "#2a86b8", "#8a5a36",
    ),
)  # fmt: skip
"""For figures in files, on white: the colours of ``page.css`` in light mode."""

NUM_RUN_COLOURS = len(PAGE_PALETTE.runs)
_MARKERS = {
    "o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "p": "⬟",
}  # fmt: skip
"""Characters that look like the markers of matplotlib. Runs differ in marker as well as colour."""


def run_style(run: int, palette: Palette = PAGE_PALETTE) -> tuple[str, str]:
    """Return colour and matplotlib marker of a run; the first 64 runs all differ."""
    markers = tuple(_MARKERS)
    marker = markers[(run + run // NUM_RUN_COLOURS) % len(markers)]
    return palette.runs[run % NUM_RUN_COLOURS], marker


def run_sign(run: int) -> str:
    """Return the marker of a run as a character."""
    return _MARKERS[run_style(run)[1]]
