"""The ranking of a comparison as a table on the terminal."""

from __future__ import annotations

import math

from rich.table import Table

from terrazzo.base.console import PlainConsole
from terrazzo.comparison.compare import Comparison
from terrazzo.metrics.confidence_intervals import Interval


def show(console: PlainConsole, comparison: Comparison, title: str) -> None:
    """Print the ranking of a comparison."""
    if not console.is_terminal:
        console.width = 110  # Rich takes a file for 80 columns, which is too few for the table
    console.print(ranking(comparison, title))


def ranking(comparison: Comparison, title: str) -> Table:
    """Return the runs, best first, with intervals and the paired difference to the first."""
    table = Table(title=f"{title}: {len(comparison.images)} images of {comparison.split}")
    table.add_column("run", no_wrap=True)
    for column in ("mean IoU", "95 % interval", "difference to the first", "excludes zero"):
        table.add_column(column, justify="right")
    for number, each in enumerate(comparison.competitors):
        found = comparison.intervals.runs[number].scalars["mean_iou"]
        cells = ["", ""]
        if number:
            difference = comparison.intervals.differences[number, 0].scalars["mean_iou"]
            estimate = "" if math.isnan(difference.estimate) else f"{difference.estimate:+.3f}"
            verdict = "yes" if difference.excludes_zero else "no"
            cells = [f"{estimate} {_bounds(difference, '+')}", verdict]
        table.add_row(each.name, f"{found.estimate:.3f}", _bounds(found, ""), *cells)
    return table


def _bounds(interval: Interval, sign: str) -> str:
    if math.isnan(interval.low):
        return "no interval"
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
