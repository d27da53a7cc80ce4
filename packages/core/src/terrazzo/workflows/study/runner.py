"""Doing what a study plans: every run in a process of its own, then one comparison.

<out>/  study.toml       the study as read            recipes/NAME.toml   each run's resolved recipe
        runs/NAME/       run folders, see `runs`      data/NAME.toml      what all are scored on
        comparison.html  with .csv and .tex beside it
        pooled/NAME/     the folds of a run together, see `pooled`

A run folder holds ``.trained`` and ``.scored`` once that part is done. Whatever is killed, and
wherever, the same command with ``--resume`` goes on: what is done is skipped, what is not goes on
from its own newest checkpoint.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import tomli_w

from terrazzo.base.atomic_write import replace_text, sweep_temporaries
from terrazzo.base.disk_errors import not_written
from terrazzo.base.errors import CheckpointError, ResourceError
from terrazzo.base.file_lock import LOCK
from terrazzo.base.output_paths import refuse_inputs
from terrazzo.base.processes import STOP_SIGNALS
from terrazzo.base.recipe import DataConfig
from terrazzo.comparison import compare
from terrazzo.comparison.compare import Comparison
from terrazzo.data import datasets
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import claimed, reopen_run
from terrazzo.workflows.compare import write_comparison_files
from terrazzo.workflows.study import child_process
from terrazzo.workflows.study import plan as study_plan
from terrazzo.workflows.study.plan import Plan, PlannedRun
from terrazzo.workflows.study.pooled import pool
from terrazzo.workflows.study.preflight import check_study
from terrazzo.workflows.study.steps import data_file, folder_of, mark, next_step, recipe_file


def run(
    plan: Plan,
    *,
    resume: bool,
    say: Callable[[str], None],
    ray: str | None = None,
    workers: int | None = None,
) -> dict[Path, Comparison]:
    """Train and score what is not done yet, then compare.

    Args:
        plan: the study.
        resume: go on with what is in its folder.
        say: told before every step.
        ray: address of a cluster, whose machines do several runs at a time.
        workers: how many; None: one for each GPU, or CPU where there is none.

    Returns:
        One comparison a test with at least two runs that are done, by the path of its page.

    Raises:
        TerrazzoError: of every kind; of a run that fails, with that run's exit code.
    """
    for name in plan.study.at_scale.leave_out:
        say(f"left out at scale {plan.study.scale!r}: {name}")
    _open_data(plan)
    _refuse_occupied(plan, resume=resume)
    recipes = [recipe_file(plan, planned) for planned in plan.runs]
    data = [] if plan.score_data is None else [data_file(plan)]
    refuse_inputs([plan.out / "study.toml", *recipes, *data], plan.inputs)
    check_study(plan, say, models=ray is None)
    with claimed(plan.out):
        _refuse_occupied(plan, resume=resume)  # another process may have come first
        _write_plan(plan)
        if ray is None:
            _one_after_another(plan, say)
        else:
            from terrazzo.workflows.study.side_by_side import run_side_by_side

            run_side_by_side(plan, ray, workers, say)
        return _compare(plan)


def _open_data(plan: Plan) -> None:
    """List every image that will be needed, so that a missing folder is found now."""
    tables: list[DataConfig] = []
    for planned in plan.chosen:
        if planned.recipe.data not in tables:
            tables.append(planned.recipe.data)
    for data in tables:
        for split in datasets.SPLITS:
            datasets.open_split(data, split)
    if plan.score_data is not None:
        datasets.open_split(plan.score_data, plan.study.score.split)


def _refuse_occupied(plan: Plan, *, resume: bool) -> None:
    """Refuse a folder that holds something else, or another study.

    Raises:
        CheckpointError: SEG-C001, SEG-C002, SEG-C011 as for a run; SEG-C045, a run is missing whose
            weights another one has begun with.
    """
    sweep_temporaries(plan.out)  # of a study that was killed before its first file was there
    if not plan.out.is_dir() or all(path.name == LOCK for path in plan.out.iterdir()):
        return
    if not (plan.out / "study.toml").is_file():
        raise CheckpointError(
            "SEG-C001",
            "the folder is not a study's",
            file=plan.out,
            observed="no study.toml in it",
            next_step="choose another place with --out DIR",
        )
    if not resume:
        raise CheckpointError(
            "SEG-C002",
            "the study's folder exists",
            file=plan.out,
            next_step="--resume goes on with it, --out DIR takes another place",
        )
    begun = {p.name for p in plan.runs if checkpoint.found(folder_of(plan, p).checkpoints)}
    for planned in plan.runs:
        folder = folder_of(plan, planned)
        if planned.name not in begun:
            continue
        reopen_run(folder.path, planned.recipe)
        if planned.begins_with is not None and planned.begins_with not in begun:
            raise CheckpointError(
                "SEG-C045",
                "the run whose weights another run has begun with is gone",
                file=folder.path,
                observed=f"no checkpoint of {planned.begins_with}",
                next_step="delete this run's folder too, then go on with --resume",
            )


def _write_plan(plan: Plan) -> None:
    """Write the study and what the processes of its runs are given."""
    try:
        plan.out.mkdir(parents=True, exist_ok=True)
        # First: without it the folder is not known for a study's, and cannot be gone on with.
        _write_toml(plan.out / "study.toml", study_plan.as_toml(plan.study))
        for name in ("recipes", "data"):
            (plan.out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        raise not_written(
            Path(error.filename or plan.out),
            error,
            problem="cannot write the study's folder",
            then="--out DIR takes another place",
            code="SEG-R005",
        ) from error
    for planned in plan.runs:
        _write_toml(recipe_file(plan, planned), study_plan.as_toml(planned.recipe))
    if plan.score_data is not None:
        _write_toml(data_file(plan), {"data": study_plan.as_toml(plan.score_data)})


def _write_toml(path: Path, values: dict[str, Any]) -> None:
    replace_text(path, tomli_w.dumps(values))


def _one_after_another(plan: Plan, say: Callable[[str], None]) -> None:
    for number, planned in enumerate(plan.runs, start=1):
        if planned not in plan.chosen:
            continue
        title = f"[{number}/{len(plan.runs)}] {planned.name}"
        if next_step(plan, planned) is None:
            say(f"{title}: done")
        while (step := next_step(plan, planned)) is not None:
            say(f"{title}: {step.what}")
            _in_a_process(step.words, planned.name)
            mark(step.marker)


def _in_a_process(words: list[str], name: str) -> None:
    """Run one command of ours to its end; hand signals on to it.

    Raises:
        Stopped: SEG-R013, a signal asked for it.
        ResourceError: SEG-R050, something killed it.
        TerrazzoError: SEG-R051, it failed; with its exit code.
    """
    process = child_process.start(words)
    with _handing_on(process) as received:
        code = process.wait()
    child_process.require_success(code, name, stopped=bool(received))


@contextmanager
def _handing_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Hand `STOP_SIGNALS` on to `process`, which saves its state; collect them."""
    received: list[int] = []

    def hand_on(number: int, _: FrameType | None) -> None:
        if not (number == signal.SIGINT and sys.stdin.isatty()):  # a terminal tells both by itself
            process.send_signal(number)
        received.append(number)

    before = {
        number: signal.signal(number, hand_on)
        for number in STOP_SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN  # as `nohup` starts a command
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _folders_done(plan: Plan, runs: Sequence[PlannedRun]) -> list[Path]:
    """Return the folders of what can be compared: runs that are done, folds of one run together."""
    folders = []
    for name in dict.fromkeys(run.pooled or run.name for run in runs):
        together = [run for run in runs if (run.pooled or run.name) == name]
        if not all(_is_done(plan, run) for run in together):
            continue
        if together[0].pooled is None:
            folders.append(folder_of(plan, together[0]).path)
        else:
            folders.append(pool(plan, name, together))
    return folders


def _is_done(plan: Plan, planned: PlannedRun) -> bool:
    """Tell whether a run can be compared; all can after a study that did all its runs."""
    return plan.only is None or next_step(plan, planned) is None


def _compare(plan: Plan) -> dict[Path, Comparison]:
    done = {name: _folders_done(plan, some) for name, some in plan.tests.items()}
    tests = {name: some for name, some in done.items() if len(some) > 1}
    several = sum(len(some) > 1 for some in plan.tests.values()) > 1
    pages = {}
    for name, some in tests.items():
        stem = "comparison" if not several else f"comparison_{name or 'test'}"
        comparison = compare.compare(
            some,
            split=plan.split,
            group=plan.study.group,
        )
        page = plan.out / f"{stem}.html"
        write_comparison_files(
            comparison,
            page,
            csv=page.with_suffix(".csv"),
            latex=page.with_suffix(".tex"),
            overwrite=True,  # in the study's own folder
        )
        pages[page] = comparison
    return pages
