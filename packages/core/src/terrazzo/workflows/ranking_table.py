"""The ranking of a comparison as a table on the terminal."""

from __future__ import annotations

import math

from rich.table import Table

from terrazzo.base.console import PlainConsole
from terrazzo.comparison import verdicts
from terrazzo.comparison.compare import Comparison
from terrazzo.metrics.confidence_intervals import Interval, RunIntervals


def show(console: PlainConsole, comparison: Comparison, title: str) -> None:
    """Print the ranking of a comparison."""
    if not console.is_terminal:
        console.width = 110  # Rich takes a file for 80 columns, which is too few for the table
    console.print(ranking(comparison, title))
    console.print(verdicts.of_whom(judges_methods=comparison.judges_methods))
    if comparison.by_method is not None:
        console.print(methods(comparison))


def ranking(comparison: Comparison, title: str) -> Table:
    """Return the runs, best first, with intervals and the paired difference to the first."""
    table = Table(title=f"{title}: {len(comparison.images)} images of {comparison.split}")
    table.add_column("run", no_wrap=True)
    for column in ("mean IoU", "95 % interval", "difference to the first", "adjusted"):
        table.add_column(column, justify="right")
    for number, each in enumerate(comparison.competitors):
        cells = _cells(comparison.intervals, number, verdicts.NETWORKS)
        table.add_row(each.name, *cells)
    return table


def methods(comparison: Comparison) -> Table:
    """Return the methods that have seeds enough, best first; `Comparison.by_method` is not None."""
    assert comparison.by_method is not None
    table = Table(title="methods, over images and seeds")
    table.add_column("method", no_wrap=True)
    for column in ("seeds", "mean IoU", "95 % interval", "difference to the first", "adjusted"):
        table.add_column(column, justify="right")
    for number, each in enumerate(comparison.by_method.methods):
        cells = _cells(comparison.by_method.intervals, number, verdicts.METHODS)
        table.add_row(each.name, str(len(each.runs)), *cells)
    return table


def _cells(intervals: RunIntervals, number: int, differ: str) -> list[str]:
    found = intervals.runs[number].scalars["mean_iou"]
    cells = [f"{found.estimate:.3f}", _bounds(found, "")]
    if not number:
        return [*cells, "", ""]
    difference = intervals.differences[number, 0].scalars["mean_iou"]
    estimate = "" if math.isnan(difference.estimate) else f"{difference.estimate:+.3f} "
    return [*cells, f"{estimate}{_bounds(difference, '+')}", verdicts.of(difference, differ)]


def _bounds(interval: Interval, sign: str) -> str:
    if math.isnan(interval.low):
        return verdicts.too_few(interval) if interval.too_few else "no interval"
    return f"[{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
