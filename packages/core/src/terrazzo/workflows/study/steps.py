"""What is to be done next for a run of a study, told from what lies in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from terrazzo.base.disk_errors import writing
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder
from terrazzo.workflows.study.plan import Plan, PlannedRun, run_folder_of

_TRAINED, _SCORED = ".trained", ".scored"


def folder_of(plan: Plan, planned: PlannedRun) -> RunFolder:
    """Return the run folder of one run."""
    return RunFolder(run_folder_of(plan.out, planned.name))


def recipe_file(plan: Plan, planned: PlannedRun) -> Path:
    """Return where the resolved recipe of a run lies."""
    return plan.out / "recipes" / f"{planned.name}.toml"


def data_file(plan: Plan) -> Path:
    """Return where the data that all are scored on are described."""
    return plan.out / "data" / f"{plan.study.score.data}.toml"


def is_trained(plan: Plan, planned: PlannedRun) -> bool:
    """Tell whether the training of a run is done."""
    return (folder_of(plan, planned).path / _TRAINED).exists()


class Step(NamedTuple):
    """One command of a run's.

    Attributes:
        words: of the command, behind ``terrazzo``.
        what: what it does, for people.
        marker: file that says that it is done.
    """

    words: list[str]
    what: str
    marker: Path


def next_step(plan: Plan, planned: PlannedRun) -> Step | None:
    """Return what is to be done next for a run; None when all is done."""
    folder = folder_of(plan, planned)
    trained, scored = folder.path / _TRAINED, folder.path / _SCORED
    if not trained.exists():
        words = ["run", "--config", str(recipe_file(plan, planned)), "--out", str(folder.path)]
        if checkpoint.found(folder.checkpoints):
            return Step([*words, "--resume"], "goes on", trained)
        # Killed before its first checkpoint, it is begun anew, with the same bits.
        return Step([*words, *(["--overwrite"] if folder.path.exists() else [])], "begins", trained)
    # The run's own test split it has scored already.
    if plan.split == "test" or scored.exists():
        return None
    words = ["evaluate", str(folder.path), "--split", plan.study.score.split]
    if plan.score_data is not None:
        words += ["--data", str(data_file(plan))]
    return Step(words, f"is scored on {plan.split}", scored)


def mark(path: Path) -> None:
    """Say by an empty file that a part of the study is done."""
    with writing(path, then="then go on with --resume"):
        path.touch()
