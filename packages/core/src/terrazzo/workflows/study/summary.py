"""What `terrazzo study` prints: what it is doing, and the ranking at the end."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table

from terrazzo.base.console import PlainConsole
from terrazzo.base.progress import PlainLines
from terrazzo.comparison.compare import Comparison
from terrazzo.metrics.confidence_intervals import Interval
from terrazzo.workflows.study import plan as study_plan
from terrazzo.workflows.study import runner
from terrazzo.workflows.study.plan import load_study, plan_study


def run_and_print(
    file: Path,
    assignments: tuple[str, ...],
    out: Path | None,
    *,
    resume: bool,
    ray: str | None = None,
    workers: int | None = None,
) -> None:
    """Run the study in `file`; print one ranking a test and the paths of the pages.

    Args:
        file: the study.
        assignments: ``key=value`` for its keys.
        out: its folder. None: ``runs/NAME``, with the scale behind it where that is not full.
        resume: go on with what is there.
        ray: as `runner.run`.
        workers: as `runner.run`.

    Raises:
        TerrazzoError: of every kind.
    """
    settings = load_study(file, assignments)
    named = (
        settings.name if settings.scale == study_plan.FULL else f"{settings.name}_{settings.scale}"
    )
    plan = plan_study(settings, file, out or Path("runs") / named)
    console = PlainConsole()
    if not console.is_terminal:
        console.width = 110  # Rich takes a file for 80 columns, which is too few for the table
    for page, comparison in runner.run(
        plan, resume=resume, say=PlainLines().say, ray=ray, workers=workers
    ).items():
        console.print(ranking(comparison, settings.name))
        console.print(f"comparison: {page}", soft_wrap=True)


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
