"""What `terrazzo study` prints: what it is doing, and the ranking at the end."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.console import PlainConsole
from terrazzo.base.progress import PlainLines
from terrazzo.workflows import ranking_table
from terrazzo.workflows.study import plan as study_plan
from terrazzo.workflows.study import runner
from terrazzo.workflows.study.plan import load_study, plan_study, with_only


def run_and_print(
    file: Path,
    assignments: tuple[str, ...],
    out: Path | None,
    *,
    resume: bool,
    ray: str | None = None,
    workers: int | None = None,
    only: tuple[str, ...] = (),
) -> None:
    """Run the study in `file`; print one ranking a test and the paths of the pages.

    Args:
        file: the study.
        assignments: ``key=value`` for its keys.
        out: its folder. None: ``runs/NAME``, with the scale behind it where that is not full.
        resume: go on with what is there.
        ray: as `runner.run`.
        workers: as `runner.run`.
        only: as `plan.with_only`.

    Raises:
        TerrazzoError: of every kind.
    """
    settings = load_study(file, assignments)
    named = (
        settings.name if settings.scale == study_plan.FULL else f"{settings.name}_{settings.scale}"
    )
    say = PlainLines().say
    plan = with_only(plan_study(settings, file, out or Path("runs") / named, say), only)
    console = PlainConsole()
    pages = runner.run(plan, resume=resume, say=say, ray=ray, workers=workers)
    if not pages:
        console.print("fewer than two runs of one test are done: nothing to compare yet")
    for name in dict.fromkeys(run.pooled for run in plan.runs if run.pooled is not None):
        page = plan.out / "pooled" / name / "report.html"
        if page.is_file():
            console.print(f"all folds of {name}: {page}", soft_wrap=True)
    for page, comparison in pages.items():
        ranking_table.show(console, comparison, settings.name)
        console.print(f"comparison: {page}", soft_wrap=True)
