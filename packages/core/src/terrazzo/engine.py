"""The one train loop and the one evaluate loop, for every backend."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo import checkpoint, runs
from terrazzo.config import Config, DataConfig, LoaderConfig
from terrazzo.datasets import Split
from terrazzo.errors import NonFiniteLossError, Stopped
from terrazzo.evaluation import Evaluation, Example
from terrazzo.further_counts import Counter, Further
from terrazzo.loader import TrainingOrder, evaluation_samples, training_batches
from terrazzo.metrics import ConfusionMatrix
from terrazzo.progress import Progress
from terrazzo.runs import RunFolder
from terrazzo.sample import Sample
from terrazzo.scene_map import Mapper
from terrazzo.schedules import learning_rate
from terrazzo.trainer import StepResult, Trainer

_EXAMPLES = 8


@dataclass
class Position:
    """Where a run stands: all that a resume needs beside the trainer's own state.

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
class Agenda:
    """Which things happen after which step: pure arithmetic on the recipe."""

    recipe: Config
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run, if it is not stopped early."""
        training = self.recipe.training
        return training.steps or (training.epochs or 0) * self.steps_per_epoch

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

    def stops_early(self, position: Position) -> bool:
        """Tell whether patience is at its end."""
        patience = self.recipe.validation.patience
        return patience is not None and position.validations_since_best >= patience


def train(
    run: RunFolder,
    trainer: Trainer,
    recipe: Config,
    train_split: Split,
    val_split: Split,
    *,
    progress: Progress,
    stop_requested: Callable[[], bool] = lambda: False,
    logged: Callable[[], None] = lambda: None,
) -> Position:
    """Train to the end, from the newest checkpoint in the run folder if there is one.

    Kill it at any moment and call it again: weights and log end up the same, bit for bit. `logged`
    is called once the log is cut back to where the run goes on, and whenever it has grown.

    Raises:
        NonFiniteLossError: SEG-R008; the weights and the last checkpoint are as before the step.
        Stopped: a stop was requested; the state is saved.
        ResourceError: a checkpoint could not be written.
        DataError: a picture or a mask is wrong.
    """
    world = trainer.world
    order = TrainingOrder(
        len(train_split), recipe.training.batch_size, recipe.seed, world.rank, world.size
    )
    agenda = Agenda(recipe, order.steps_per_epoch)
    position = _resume(run, trainer, progress)
    logged()
    if agenda.is_last(position.step) or agenda.stops_early(position):
        return position
    unread: list[_Unread] = []
    begun_at, clock = position.step, _Clock(position.step)
    batches = training_batches(
        train_split,
        recipe.data,
        recipe.augment,
        recipe.loader,
        order,
        start_step=position.step,
        stop_step=agenda.total_steps,
    )
    with closing(batches):
        for batch in batches:
            rate = learning_rate(
                recipe.training.schedule,
                step=position.step,
                total_steps=agenda.total_steps,
                steps_per_epoch=agenda.steps_per_epoch,
                scores=[score for _, score in position.scores],
            )
            result = trainer.train_step(batch, rate)
            if position.step == begun_at and world.rank == 0:
                _log_first_step(run, result, clock, position.step)
            position.step += 1
            unread.append(_Unread(position.step, batch.files, result))
            stopping = stop_requested()
            saving = stopping or agenda.saves(position.step)
            logging = agenda.logs(position.step)
            if saving or logging or not trainer.asynchronous:
                _read_losses(unread, position)
            if logging:
                _log_losses(run, agenda, position, rate, clock, world.rank)
                loss = f"loss {result.loss:.4f}"
                progress.advance(position.step, agenda.total_steps, f"train  {loss}")
            if agenda.validates(position.step):
                _validate(run, trainer, recipe, agenda, val_split, position, progress)
                clock.restart(position.step)
            if logging or agenda.validates(position.step):
                logged()
            if saving:
                _save(run, trainer, recipe, position)
            if stopping:
                raise _stopped(position.step, run)
            if agenda.stops_early(position):
                progress.say(f"stopped early after step {position.step}: no better score")
                break
    return position


@dataclass(frozen=True, slots=True)
class _Unread:
    """A step whose loss may still be on the device."""

    step: int
    files: tuple[str, ...]
    result: StepResult


def _read_losses(unread: list[_Unread], position: Position) -> None:
    """Move the losses from the device into `position`; waits for the device.

    Raises:
        NonFiniteLossError: naming the first such step and its files.
    """
    for item in unread:
        loss = item.result.loss
        if not np.isfinite(loss):
            raise NonFiniteLossError(
                "SEG-R008",
                f"the loss is {loss} at step {item.step}; that update was left out",
                file=", ".join(item.files),
                observed=loss,
                allowed="a finite loss",
                next_step="look at these pictures (`terrazzo check`), lower the learning rate, or "
                "set training.clip_norm; --resume goes on from the last checkpoint",
            )
        position.losses.append(loss)
    unread.clear()


class _Clock:
    """Seconds and steps since training began or last came back from a validation."""

    def __init__(self, step: int) -> None:
        self.restart(step)

    def restart(self, step: int) -> None:
        self.step, self.seconds = step, time.perf_counter()

    def read(self, step: int) -> dict[str, float]:
        elapsed = time.perf_counter() - self.seconds
        return {"step": step, "seconds": elapsed, "steps_per_second": (step - self.step) / elapsed}


def peak_memory() -> dict[str, int]:
    """Return the most bytes this process ever had in use, the accelerator's apart.

    Empty on Windows, where Python cannot tell.
    """
    if sys.platform == "linux":
        # `getrusage` begins with the peak of the process that started this one.
        kilobytes = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
        return {"peak_memory_bytes": 1024 * int(kilobytes)}
    if sys.platform == "darwin":
        import resource

        return {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    return {}


def _log_first_step(run: RunFolder, result: StepResult, clock: _Clock, step: int) -> None:
    """Note how long this process took to its first update: reading, tracing, compiling."""
    _ = result.loss  # waits for the device
    seconds = clock.read(step)["seconds"]
    runs.append(run.timing, {"step": step + 1, "seconds_to_first_step": seconds})


def _log_losses(
    run: RunFolder, agenda: Agenda, position: Position, rate: float, clock: _Clock, rank: int
) -> None:
    if rank == 0:
        line = {
            "kind": "train",
            "step": position.step,
            "epoch": (position.step - 1) // agenda.steps_per_epoch,
            "loss": float(np.mean(position.losses)),
            "learning_rate": rate,
        }
        runs.append(run.log, line)
        runs.append(run.timing, clock.read(position.step) | peak_memory())
    position.losses.clear()


def _validate(
    run: RunFolder,
    trainer: Trainer,
    recipe: Config,
    agenda: Agenda,
    val_split: Split,
    position: Position,
    progress: Progress,
) -> None:
    outcome = evaluate(
        trainer,
        val_split,
        recipe.data,
        recipe.loader,
        batch_size=recipe.validation.batch_size,
        step=position.step,
        progress=progress,
    )
    scores = outcome.matrix.scores()
    position.scores.append((position.step, float(np.nan_to_num(scores.mean_iou))))
    best = position.best_step == position.step
    line = {
        "kind": "validation",
        "step": position.step,
        "epoch": position.step // agenda.steps_per_epoch,
        "mean_iou": position.scores[-1][1],
        "pixel_accuracy": float(np.nan_to_num(scores.pixel_accuracy)),
        "iou": [None if np.isnan(iou) else float(iou) for iou in scores.iou],
        "best": best,
    }
    if trainer.world.rank == 0:
        runs.append(run.log, line)
    progress.say(
        f"step {position.step}/{agenda.total_steps}  epoch {line['epoch']}  "
        f"val mean IoU {scores.mean_iou:.4f}{'  best so far' if best else ''}"
    )


def _save(run: RunFolder, trainer: Trainer, recipe: Config, position: Position) -> None:
    """Write a checkpoint, then delete those that are no longer needed."""
    if trainer.world.rank != 0:
        return
    record = {
        "scores": position.scores,
        "losses": position.losses,
        "log_bytes": run.log.stat().st_size if run.log.exists() else 0,
    }
    checkpoint.write(run.checkpoints, position.step, trainer.state(), record)
    checkpoint.sweep(run.checkpoints, keep=recipe.checkpoint.keep, also=position.best_step)


def _resume(run: RunFolder, trainer: Trainer, progress: Progress) -> Position:
    """Bring trainer and log back to the newest checkpoint; to the beginning if there is none."""
    if trainer.world.rank == 0:
        checkpoint.clear_leftovers(run.checkpoints)
    newest, passed_over = checkpoint.latest(run.checkpoints)
    for error in passed_over:
        progress.say(f"passed over: {error}")
    if newest is None:
        if trainer.world.rank == 0:
            runs.truncate(run.log, 0)
        return Position()
    trainer.load_state(newest.state())
    if trainer.world.rank == 0:
        runs.truncate(run.log, newest.record["log_bytes"])
    progress.say(f"resuming after step {newest.step}")
    return Position(
        step=newest.step,
        scores=[(step, score) for step, score in newest.record["scores"]],
        losses=list(newest.record["losses"]),
    )


def _stopped(step: int, run: RunFolder) -> Stopped:
    return Stopped(
        "SEG-R013",
        f"stopped by a signal after step {step}; everything is saved",
        file=run.path,
        next_step="the same command with --resume goes on from here",
    )


def evaluate(
    trainer: Trainer,
    split: Split,
    data: DataConfig,
    loader: LoaderConfig,
    *,
    batch_size: int,
    step: int,
    progress: Progress,
    num_examples: int = _EXAMPLES,
    counter: Counter | None = None,
    mapper: Mapper | None = None,
) -> Evaluation:
    """Score a model on a split: every pixel of every label file counts exactly once.

    Pictures are brought to the model's size; probabilities are brought back to the size of the
    label file and only then turned into classes, so scores do not depend on the model's size.

    Args:
        trainer: the model.
        split: pictures and labels.
        data: for the model's picture size.
        loader: threads.
        batch_size: pictures a forward pass.
        step: optimiser steps behind the weights, for the record.
        progress: told after every batch.
        num_examples: how many pictures to keep for people, evenly spaced over the split.
        counter: counts more of each picture; changes no score.
        mapper: puts the pictures on maps of their scenes.
    """
    world, label_map = trainer.world, split.label_map
    num_samples, num_classes = len(split), len(label_map)
    counts_NKK = np.zeros((num_samples, num_classes, num_classes), np.int64)
    ignored_N = np.zeros(num_samples, np.int64)
    wanted = set(np.linspace(0, num_samples - 1, min(num_examples, num_samples)).astype(int))
    examples: list[Example] = []
    done = 0
    with closing(evaluation_samples(split, data, loader, world=world)) as samples:
        for group in _same_size(samples, batch_size):
            predictions = _predict(trainer, group, counter is not None and counter.probabilities)
            for (index, _, sample), (prediction_HW, probabilities_HWK) in zip(
                group, predictions, strict=True
            ):
                matrix = ConfusionMatrix(num_classes, label_map.ignore_index)
                matrix.update(sample.label_HW, prediction_HW)
                assert matrix.counts.sum() + matrix.ignored == sample.label_HW.size
                counts_NKK[index], ignored_N[index] = matrix.counts, matrix.ignored
                if counter is not None:
                    counter.add(index, sample, prediction_HW, probabilities_HWK)
                if mapper is not None:
                    mapper.add(index, sample.label_HW, prediction_HW)
                if index in wanted:
                    examples.append(
                        Example(sample.name, sample.image_HWC, sample.label_HW, prediction_HW)
                    )
            done += len(group)
            progress.advance(done, -(-num_samples // world.size), f"score {split.name}")
    return Evaluation(
        split=split.name,
        step=step,
        names=split.names,
        counts_NKK=world.sum(counts_NKK),
        ignored_N=world.sum(ignored_N),
        examples=tuple(examples),
        further=Further() if counter is None else counter.counted(world),
        maps=() if mapper is None else mapper.maps(world),
    )


_Prepared = tuple[int, NDArray[np.generic], Sample]
"""Index in the split, picture at the model's size, sample as the files hold it."""


def _same_size(samples: Iterator[_Prepared], most: int) -> Iterator[list[_Prepared]]:
    """Group neighbours of one size, up to `most` of them."""
    group: list[_Prepared] = []
    for item in samples:
        if group and (len(group) == most or item[1].shape != group[0][1].shape):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


_Predicted = tuple[NDArray[np.integer], NDArray[np.float32] | None]
"""Labels H×W at the size of the label file; probabilities H×W×K at the model's size."""


def _predict(
    trainer: Trainer, group: list[_Prepared], with_probabilities: bool
) -> Iterator[_Predicted]:
    """Yield what is predicted for each picture; the labels are the same with probabilities."""
    images_BHWC = np.stack([image for _, image, _ in group])
    size = images_BHWC.shape[1:3]
    if all(sample.label_HW.shape == size for _, _, sample in group):
        # Not the argmax of rounded probabilities, where two classes may have become equal.
        labels_BHW = trainer.predict_labels(images_BHWC)
        probabilities = trainer.predict(images_BHWC) if with_probabilities else [None] * len(group)
        yield from zip(labels_BHW, probabilities, strict=True)
        return
    probabilities_BHWK = trainer.predict(images_BHWC)
    for probabilities_HWK, (_, _, sample) in zip(probabilities_BHWK, group, strict=True):
        yield resample_labels(probabilities_HWK, sample.label_HW.shape), probabilities_HWK


def resample_labels(
    probabilities_HWK: NDArray[np.float32], size: tuple[int, ...]
) -> NDArray[np.integer]:
    """Resample probabilities bilinearly to `size` (rows, columns), then take the best class.

    Returns:
        uint8 or uint16 train ids; the lower id where two are equal, as `argmax` does.
    """
    rows, columns = size
    num_classes = probabilities_HWK.shape[2]
    labels_HW = np.zeros((rows, columns), np.uint8 if num_classes <= 254 else np.uint16)
    best_HW = np.full((rows, columns), -1, np.float32)
    # Plane by plane: a running maximum is several times faster than argmax over the last axis.
    for k in range(num_classes):
        plane = np.ascontiguousarray(probabilities_HWK[..., k])
        plane_HW = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_LINEAR)
        better = plane_HW > best_HW
        labels_HW[better] = k
        np.maximum(best_HW, plane_HW, out=best_HW)
    return labels_HW
