"""How far a training is, what is due after which step, and both saved and brought back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from terrazzo.base.atomic_write import cut_file, flush_file, flushed_bytes, replacing
from terrazzo.base.errors import CheckpointError, Stopped
from terrazzo.base.json_files import cut_unfinished_line, json_lines_before_damage
from terrazzo.base.processes import first_does, json_from_first
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config
from terrazzo.models.contract import Trainer
from terrazzo.runs import checkpoint
from terrazzo.runs.checkpoint import Checkpoint
from terrazzo.runs.folder import RunFolder


@dataclass
class TrainingState:
    """Steps, scores and losses so far: what a resume needs beside the trainer's own state.

    Attributes:
        step: optimiser steps done.
        scores: (step, mean IoU) of every validation so far; a mean that is undefined counts as 0.
        losses: of the steps since the last line of the log.
    """

    step: int = 0
    scores: list[tuple[int, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def best_step(self) -> int | None:
        """Step of the best score, the first of equals; None before any validation."""
        return max(self.scores, key=lambda score: score[1])[0] if self.scores else None

    @property
    def validations_since_best(self) -> int:
        """Validations that brought nothing better."""
        best = self.best_step
        return 0 if best is None else sum(step > best for step, _ in self.scores)


@dataclass(frozen=True)
class EventSchedule:
    """After which steps a run logs, validates, saves and ends: pure arithmetic on the recipe."""

    recipe: Config
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run, if it is not stopped early."""
        training = self.recipe.training
        if training.steps is not None:
            return training.steps
        epochs = training.epochs or (training.passes or 0) * self.recipe.augment.versions
        return epochs * self.steps_per_epoch

    @property
    def most_checkpoints(self) -> int:
        """How many lie on the disk at most: the newest, the best, and one that is being written."""
        most = self.recipe.checkpoint.keep + 2
        saves = (step for step in range(1, self.total_steps + 1) if self.saves(step))
        return len(list(itertools.islice(saves, most)))

    def is_last(self, step: int) -> bool:
        """Tell whether the run ends after this many steps."""
        return step >= self.total_steps

    def validates(self, step: int) -> bool:
        """Tell whether the model is scored after this many steps; always at the end."""
        validation = self.recipe.validation
        period = validation.every_steps or (validation.every_epochs or 0) * self.steps_per_epoch
        return self.is_last(step) or (period > 0 and step % period == 0)

    def saves(self, step: int) -> bool:
        """Tell whether a checkpoint is due; always at a validation."""
        period = self.recipe.checkpoint.every_steps
        return self.validates(step) or (period is not None and step % period == 0)

    def logs(self, step: int) -> bool:
        """Tell whether the training loss is written."""
        return self.is_last(step) or step % self.recipe.log.every_steps == 0

    def lacks_validation(self, state: TrainingState) -> bool:
        """Tell whether the run was stopped while the validation after its last step went on."""
        done = any(step == state.step for step, _ in state.scores)
        return state.step > 0 and self.validates(state.step) and not done

    def stops_early(self, state: TrainingState) -> bool:
        """Tell whether patience is at its end."""
        patience = self.recipe.validation.patience
        return patience is not None and state.validations_since_best >= patience


def save(run: RunFolder, trainer: Trainer, recipe: Config, state: TrainingState) -> None:
    """Write a checkpoint, then delete those that are no longer needed.

    No process goes on before it is there: all read the best one at the end.
    """

    def write() -> None:
        log = flushed_bytes(run.log)
        record = {"scores": state.scores, "losses": state.losses, "log_bytes": len(log)}
        checkpoint.write(run.checkpoints, state.step, trainer.state(), record, log)
        checkpoint.sweep(run.checkpoints, keep=recipe.checkpoint.keep, also=state.best_step)

    first_does(trainer.world, write)


def resume(run: RunFolder, trainer: Trainer, recipe: Config, progress: Progress) -> TrainingState:
    """Bring trainer and log back to the newest checkpoint; to the beginning if there is none."""
    newest: Checkpoint | None = None
    passed_over: list[CheckpointError] = []

    def newest_step() -> int | None:
        nonlocal newest, passed_over
        checkpoint.clear_leftovers(run.checkpoints)
        cut_unfinished_line(run.timing)
        newest, passed_over = checkpoint.latest(run.checkpoints, lambda each: _log_fits(run, each))
        for error in passed_over:
            progress.say(f"passed over: {error}")
        if newest is None:
            cut_file(run.log, 0)
            return None
        _bring_log_back(run, newest, progress)
        return newest.step

    step = json_from_first(trainer.world, newest_step)
    if step is None:
        return TrainingState()
    newest = newest or checkpoint.read(run.checkpoints, step)
    trainer.load_state(newest.state())
    progress.say(f"resuming after step {newest.step}")
    state = TrainingState(
        step=newest.step,
        scores=[(step, score) for step, score in newest.record["scores"]],
        losses=list(newest.record["losses"]),
    )
    if trainer.world.rank == 0 and not passed_over:
        # A process that was killed after a save, the last one perhaps, has not deleted all.
        checkpoint.sweep(run.checkpoints, keep=recipe.checkpoint.keep, also=state.best_step)
    return state


def _log_fits(run: RunFolder, found: Checkpoint) -> bool:
    """Tell whether the log up to a checkpoint is there: in it, or, of older versions, whole."""
    ends = {0, *(end for _, end in json_lines_before_damage(run.log))}
    return found.log is not None or found.record["log_bytes"] in ends


def _bring_log_back(run: RunFolder, found: Checkpoint, progress: Progress) -> None:
    """Cut the log to what it was at a checkpoint, or restore it where it is not that any more."""
    cut_file(run.log, found.record["log_bytes"])
    if found.log is not None and run.log.read_bytes() != found.log:
        progress.say(f"{run.log} was damaged or cut short; it is restored from {found.folder.name}")
        with replacing(run.log) as temporary:
            temporary.write_bytes(found.log)
            flush_file(temporary)


def stopped(step: int, run: RunFolder, rank: int) -> Stopped:
    """Compose what a run ends with that was asked to stop; rank 0 prints it for all."""
    error = Stopped(
        "SEG-R013",
        f"stopped by a signal after step {step}; everything is saved",
        file=run.path,
        next_step="the same command with --resume goes on from here",
    )
    error.shared, error.told_elsewhere = True, rank != 0
    return error
