"""Doing what a study plans: every run in a process of its own, then one comparison.

<out>/  study.toml       the study as read            recipes/NAME.toml   each run's resolved recipe
        runs/NAME/       run folders, see `runs`      data/NAME.toml      what all are scored on
        comparison.html  with .csv and .tex beside it

A run folder holds ``.trained`` and ``.scored`` once that part is done. Whatever is killed, and
wherever, the same command with ``--resume`` goes on: what is done is skipped, what is not goes on
from its own newest checkpoint.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import tomli_w

from terrazzo.base.atomic_write import not_written, replace_text, writing
from terrazzo.base.errors import CheckpointError, ResourceError, Stopped, TerrazzoError
from terrazzo.base.file_lock import LOCK
from terrazzo.base.output_paths import refuse_inputs
from terrazzo.base.processes import STOP_SIGNALS
from terrazzo.base.recipe import DataConfig
from terrazzo.comparison import compare
from terrazzo.comparison.compare import Comparison
from terrazzo.data import datasets
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder, claimed, reopen_run
from terrazzo.workflows.compare import write_comparison_files
from terrazzo.workflows.study import plan as study_plan
from terrazzo.workflows.study.plan import Plan, PlannedRun, run_folder_of

_TRAINED, _SCORED = ".trained", ".scored"
_STOPPED = 75
_PR_SET_PDEATHSIG = 1


def run(plan: Plan, *, resume: bool, say: Callable[[str], None]) -> dict[Path, Comparison]:
    """Train and score what is not done yet, then compare.

    Args:
        plan: the study.
        resume: go on with what is in its folder.
        say: told before every step.

    Returns:
        One comparison a test with at least two runs, by the path of its page.

    Raises:
        TerrazzoError: of every kind; of a run that fails, with that run's exit code.
    """
    for name in plan.study.at_scale.leave_out:
        say(f"left out at scale {plan.study.scale!r}: {name}")
    _open_data(plan)
    _refuse_occupied(plan, resume=resume)
    recipes = [_recipe_file(plan, planned) for planned in plan.runs]
    data = [] if plan.score_data is None else [_data_file(plan)]
    refuse_inputs([plan.out / "study.toml", *recipes, *data], plan.inputs)
    with claimed(plan.out):
        _refuse_occupied(plan, resume=resume)  # another process may have come first
        _write_plan(plan)
        for number, planned in enumerate(plan.runs, start=1):
            title = f"[{number}/{len(plan.runs)}] {planned.name}"
            _train(plan, planned, title, say)
            _score(plan, planned, title, say)
        return _compare(plan)


def folder_of(plan: Plan, planned: PlannedRun) -> RunFolder:
    """Return the run folder of one run."""
    return RunFolder(run_folder_of(plan.out, planned.name))


def _open_data(plan: Plan) -> None:
    """List every image that will be needed, so that a missing folder is found now."""
    tables: list[DataConfig] = []
    for planned in plan.runs:
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
        _write_toml(_recipe_file(plan, planned), study_plan.as_toml(planned.recipe))
    if plan.score_data is not None:
        _write_toml(_data_file(plan), {"data": study_plan.as_toml(plan.score_data)})


def _write_toml(path: Path, values: dict[str, Any]) -> None:
    replace_text(path, tomli_w.dumps(values))


def _recipe_file(plan: Plan, planned: PlannedRun) -> Path:
    return plan.out / "recipes" / f"{planned.name}.toml"


def _data_file(plan: Plan) -> Path:
    return plan.out / "data" / f"{plan.study.score.data}.toml"


def _train(plan: Plan, planned: PlannedRun, title: str, say: Callable[[str], None]) -> None:
    folder = folder_of(plan, planned)
    if (folder.path / _TRAINED).exists():
        say(f"{title}: done")
        return
    words = ["run", "--config", str(_recipe_file(plan, planned)), "--out", str(folder.path)]
    if checkpoint.found(folder.checkpoints):
        words.append("--resume")
    elif folder.path.exists():  # killed before its first checkpoint: begun anew, with the same bits
        words.append("--overwrite")
    say(f"{title}: {'goes on' if '--resume' in words else 'begins'}")
    _in_a_process(words, planned.name)
    _mark(folder.path / _TRAINED)


def _score(plan: Plan, planned: PlannedRun, title: str, say: Callable[[str], None]) -> None:
    """Score on what is compared, unless that is the run's own test split, scored already."""
    folder = folder_of(plan, planned)
    if plan.split == "test" or (folder.path / _SCORED).exists():
        return
    words = ["evaluate", str(folder.path), "--split", plan.study.score.split]
    if plan.score_data is not None:
        words += ["--data", str(_data_file(plan))]
    say(f"{title}: is scored on {plan.split}")
    _in_a_process(words, planned.name)
    _mark(folder.path / _SCORED)


def _mark(path: Path) -> None:
    """Say by an empty file that a part of the study is done."""
    with writing(path, then="then go on with --resume"):
        path.touch()


def _in_a_process(words: list[str], name: str) -> None:
    """Run one command of ours to its end; hand signals on to it.

    Raises:
        Stopped: SEG-R013, a signal asked for it.
        ResourceError: SEG-R050, something killed it.
        TerrazzoError: SEG-R051, it failed; with its exit code.
    """
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "terrazzo", *words],
        stdout=subprocess.DEVNULL,  # its table is in its report; the study prints the ranking
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )
    with _handing_on(process) as received:
        code = process.wait()
    if code == _STOPPED or received:
        raise Stopped(
            "SEG-R013",
            "the study was stopped by a signal; everything is saved",
            file=name,
            next_step="the same command with --resume goes on from here",
        )
    if code < 0:
        raise ResourceError(
            "SEG-R050",
            f"the process of the run {name!r} was killed",
            observed=signal.Signals(-code).name,
            next_step="SIGKILL most often means too little memory: make the batch smaller, or give "
            "it more; then go on with --resume",
        )
    if code != 0:
        failed = TerrazzoError(
            "SEG-R051",
            f"the run {name!r} failed; what it says is above",
            observed=f"exit code {code}",
            next_step="put it right, then go on with --resume: what is done is not done again",
        )
        failed.exit_code = code
        raise failed


def _end_with_parent() -> None:
    """Have the kernel of Linux, which alone knows how, kill this process when the study is killed.

    An orphan would go on training and hold the lock of its run; a resume would then be refused.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


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


def _compare(plan: Plan) -> dict[Path, Comparison]:
    tests = {name: some for name, some in plan.tests.items() if len(some) > 1}
    pages = {}
    for name, some in tests.items():
        stem = "comparison" if len(tests) == 1 else f"comparison_{name or 'test'}"
        comparison = compare.compare(
            [folder_of(plan, planned).path for planned in some],
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
