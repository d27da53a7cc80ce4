"""`terrazzo run --ray` and `evaluate --ray`: what `train` and `evaluate` do, on a cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from terrazzo.base.config_parsing import StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import Config, from_anywhere, load_recipe
from terrazzo.evaluation import stored
from terrazzo.evaluation.paired import PairedDifference
from terrazzo.evaluation.result import Evaluation
from terrazzo.runs.folder import RunFolder, refuse_occupied, reopen_run
from terrazzo.workflows.evaluate import evaluate, name_of_scores
from terrazzo.workflows.finished_run import FinishedRun, StopRequested
from terrazzo.workflows.ray_workers import run_in_workers
from terrazzo.workflows.train import train

MAX_FAILURES = 3


def train_on_ray(
    recipe: Config | StrPath,
    out: StrPath | None = None,
    *,
    address: str,
    workers: int | None = None,
    max_failures: int = MAX_FAILURES,
    resume: bool = False,
    overwrite: bool = False,
    allow_changed_data: bool = False,
    allow_other_processes: bool = False,
    progress: Progress | None = None,
    stop_requested: StopRequested = lambda: False,
) -> FinishedRun:
    """Do what `terrazzo.workflows.train.train` does in several processes of a Ray cluster.

    Data and run folder lie where every machine of the cluster sees them under the same path.

    Args:
        recipe: as `train`.
        out: as `train`.
        address: of the cluster: ``HOST:6379``, ``auto`` or ``local``.
        workers: how many processes; None: one for each GPU, or CPU where there is none.
        max_failures: how often to go on from the last checkpoint after a worker was lost.
        resume: as `train`.
        overwrite: as `train`.
        allow_changed_data: as `train`.
        allow_other_processes: as `train`.
        progress: as `train`.
        stop_requested: as `train`; asked twice a second.

    Raises:
        TerrazzoError: as `train`; SEG-X075 a backend that trains in one process; and as
            `ray_workers.run_in_workers`.
    """
    recipe = from_anywhere(recipe if isinstance(recipe, Config) else load_recipe(recipe))
    _require_torch(recipe.backend)
    folder = RunFolder((Path("runs") / recipe.name if out is None else Path(out)).absolute())
    if resume:
        reopen_run(folder.path, recipe)
    else:
        refuse_occupied(folder.path, overwrite=overwrite)
    options = {
        "resume": resume,
        "overwrite": overwrite,
        "allow_changed_data": allow_changed_data,
        "allow_other_processes": allow_other_processes,
    }
    run_in_workers(
        address,
        workers,
        folder.path,
        _Training(recipe, folder.path, _identity(folder.config), options),
        max_failures=max_failures,
        progress=Silent() if progress is None else progress,
        stop_requested=stop_requested,
    )
    return _finished(folder, "test")


def evaluate_on_ray(
    run: StrPath,
    split: str = "test",
    *,
    address: str,
    workers: int | None = None,
    data: StrPath | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> FinishedRun:
    """Do what `terrazzo.workflows.evaluate.evaluate` does in several processes of a Ray cluster.

    Args:
        run: as `evaluate`.
        split: as `evaluate`.
        address: as `train_on_ray`.
        workers: as `train_on_ray`.
        data: as `evaluate`.
        progress: as `evaluate`.
        options: the others of `evaluate`.

    Raises:
        TerrazzoError: as `evaluate` and `train_on_ray`.
    """
    folder = RunFolder(Path(run).absolute())
    _require_torch(folder.read_config().backend)
    options = _with_absolute_paths(options)
    if options.get("runtime") is not None:
        raise ConfigError(
            "SEG-X082",
            "the processes of a cluster score with the run's own framework",
            observed=f"--ray with --runtime {options['runtime']}",
            allowed="--ray without --runtime, or --runtime without --ray",
        )
    others = None if data is None else Path(data).absolute()
    run_in_workers(
        address,
        workers,
        folder.path,
        _Scoring(folder.path, split, others, options),
        max_failures=MAX_FAILURES,
        progress=Silent() if progress is None else progress,
        stop_requested=lambda: False,
    )
    name = split if others is None else f"{others.stem}-{split}"
    return _finished(folder, name_of_scores(name, **options))


@dataclass(frozen=True)
class _Training:
    """The job of a training; `before` tells the run that was in the folder before it."""

    recipe: Config
    out: Path
    before: tuple[int, int] | None
    options: dict[str, bool]

    def __call__(self, attempt: int, progress: Progress, stop_requested: StopRequested) -> None:
        options = self.options
        now = _identity(RunFolder(self.out).config)
        if attempt > 0 and now not in (None, self.before):  # begun by an earlier attempt
            options = options | {"resume": True, "overwrite": False}
        train(self.recipe, self.out, progress=progress, stop_requested=stop_requested, **options)


@dataclass(frozen=True)
class _Scoring:
    """The job of an evaluation."""

    run: Path
    split: str
    data: Path | None
    options: dict[str, Any]

    def __call__(self, _: int, progress: Progress, __: StopRequested) -> None:
        evaluate(self.run, self.split, data=self.data, progress=progress, **self.options)


def _with_absolute_paths(options: dict[str, Any]) -> dict[str, Any]:
    """Return options for processes that work in another folder."""
    found = dict(options)
    found["ensemble"] = tuple(Path(each).absolute() for each in options.get("ensemble", ()))
    if (masks := options.get("masks")) is not None:
        found["masks"] = replace(masks, folder=masks.folder.absolute())
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    """Tell one file of a name from the next one of that name."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _require_torch(backend: str) -> None:
    if backend != "torch":
        raise ConfigError(
            "SEG-X075",
            f"the backend {backend!r} trains in one process",
            observed=f"--ray with --backend {backend}",
            allowed="--ray with --backend torch",
            next_step="leave --ray out, or train several runs side by side: `terrazzo study --ray`",
        )


def _finished(folder: RunFolder, name: str) -> FinishedRun:
    """Read what the workers have written."""
    record = stored.read(folder)
    (scored,) = (each for each in record.scored if each.summary["split"] == name)
    evaluation = Evaluation(
        name,
        scored.summary["step"],
        scored.names,
        scored.counts_NKK,
        scored.ignored_N,
        extra=scored.extra,
    )
    beside = scored.summary.get("beside")
    difference = None if beside is None else PairedDifference.of_record(beside)
    page = folder.path / "report.html"
    return FinishedRun(folder, record.label_map, evaluation, page, difference)
