"""The train loop: one for every backend."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from terrazzo.base.errors import NonFiniteLossError
from terrazzo.base.json_files import append_json_line
from terrazzo.base.ordered_map import Abandoned
from terrazzo.base.processes import World, any_says
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config
from terrazzo.data.datasets import Split, SpreadSamples
from terrazzo.data.loader import TrainingOrder, training_batches
from terrazzo.data.sample import Batch
from terrazzo.evaluation.loop import evaluate
from terrazzo.evaluation.result import Evaluation
from terrazzo.models.contract import StepResult, Trainer
from terrazzo.models.memory import step_memory
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder
from terrazzo.training import first_batch
from terrazzo.training.learning_rate import learning_rate
from terrazzo.training.state import EventSchedule, TrainingState, resume, save, stopped


def train(
    run: RunFolder,
    trainer: Trainer,
    recipe: Config,
    train_split: Split,
    val_split: Split,
    *,
    progress: Progress,
    deviations: tuple[float, ...] | None = None,
    stop_requested: Callable[[], bool] = lambda: False,
    logged: Callable[[], None] = lambda: None,
) -> TrainingState:
    """Train to the end, from the newest checkpoint in the run folder if there is one.

    Kill it at any moment and call it again: weights and log end up the same, bit for bit. `logged`
    is called once the log is cut back to where the run goes on, and whenever it has grown.
    `deviations` is for `training_batches`.

    Raises:
        NonFiniteLossError: SEG-R008; the weights and the last checkpoint are as before the step.
        Stopped: a stop was requested; the state is saved.
        ResourceError: SEG-R004, a checkpoint could not be written; SEG-R006, out of memory.
        DataError: an image or a mask is wrong.
    """
    world = trainer.world
    order = TrainingOrder(
        len(train_split), recipe.training.batch_size, recipe.seed, world.rank, world.size
    )
    schedule = EventSchedule(recipe, order.steps_per_epoch)
    # Several processes would have to agree to stop, and those that wait for this one cannot.
    abandoned = stop_requested if world.size == 1 else lambda: False
    state = resume(run, trainer, recipe, progress)
    train_sample = _train_sample(recipe, train_split, val_split)

    def validate() -> None:
        _validate(
            run, trainer, recipe, schedule, val_split, train_sample, state, progress, abandoned
        )

    if schedule.lacks_validation(state):
        with _saved_if_abandoned(run, trainer, recipe, state, []):
            validate()
        save(run, trainer, recipe, state)
    logged()
    if schedule.is_last(state.step) or schedule.stops_early(state):
        return state
    unread: list[_Unread] = []
    pixels = _PixelCount(train_split.label_map.ignore_index)
    begun_at, clock = state.step, _Clock(state.step)
    batches = training_batches(
        train_split,
        recipe.data,
        recipe.augment,
        recipe.loader,
        order,
        # Those since the last line of the log once more, to count their pixels.
        start_step=state.step - len(state.losses),
        stop_step=schedule.total_steps,
        bands=trainer.bands,
        deviations=deviations,
        abandoned=abandoned,
    )
    with _saved_if_abandoned(run, trainer, recipe, state, unread), closing(batches):
        for step in range(state.step - len(state.losses), state.step):
            pixels.add(next(batches), order, step)
        for batch in batches:
            pixels.add(batch, order, state.step)
            rate = learning_rate(
                recipe.training.schedule,
                step=state.step,
                total_steps=schedule.total_steps,
                steps_per_epoch=schedule.steps_per_epoch,
                scores=[score for _, score in state.scores],
            )
            if state.step == 0 and world.rank == 0:
                first_batch.write(batch, train_split.label_map, run.first_batch)
            trainer.measures_gradient = schedule.logs(state.step + 1)
            with step_memory(trainer, batch.images_BHWC, state.step + 1):
                result = trainer.train_step(batch, rate)
            if state.step == begun_at and world.rank == 0:
                _log_first_step(run, result, clock, state.step)
            state.step += 1
            unread.append(_Unread(state.step, batch.files, result))
            stopping = stop_requested()
            if world.size > 1:
                stopping = any_says(world, stopping)
            saving = stopping or schedule.saves(state.step)
            logging = schedule.logs(state.step)
            if saving or logging or not trainer.asynchronous:
                with step_memory(trainer, batch.images_BHWC, state.step):
                    _read_losses(unread, state)
            if world.rank == 0 and (logging or stopping or schedule.validates(state.step)):
                # Also where the clock stops, or the seconds since the last line would be lost.
                append_json_line(run.timing, clock.read(state.step) | peak_memory())
            if logging:
                ignored_share = pixels.take_ignored_share(world)
                norm = result.gradient_norm
                _log_losses(run, schedule, state, rate, ignored_share, norm, world.rank)
                text = f"train  loss {result.loss:.4f}  ignored {ignored_share:.0%}"
                progress.advance(state.step, schedule.total_steps, text)
            if schedule.validates(state.step):
                validate()
                clock.restart(state.step)
            if logging or schedule.validates(state.step):
                logged()
            if saving:
                save(run, trainer, recipe, state)
            if stopping:
                raise stopped(state.step, run, world.rank)
            if schedule.stops_early(state):
                progress.say(f"stopped early after step {state.step}: no better score")
                break
    return state


@contextmanager
def _saved_if_abandoned(
    run: RunFolder, trainer: Trainer, recipe: Config, state: TrainingState, unread: list[_Unread]
) -> Iterator[None]:
    """Save the state and stop where a stop came while a file was being waited for.

    Raises:
        Stopped: SEG-R013.
    """
    try:
        yield
    except Abandoned:
        _read_losses(unread, state)
        if state.step not in checkpoint.found(run.checkpoints):
            save(run, trainer, recipe, state)
        raise stopped(state.step, run, trainer.world.rank) from None


@dataclass(frozen=True, slots=True)
class _Unread:
    """A step whose loss may still be on the device."""

    step: int
    files: tuple[str, ...]
    result: StepResult


@dataclass
class _PixelCount:
    """Label pixels of this process's batches since the last line of the log.

    Attributes:
        ignore_index: label of the pixels that teach nothing.
        ignored: such pixels.
        whole: all pixels.
    """

    ignore_index: int
    ignored: int = 0
    whole: int = 0

    def add(self, batch: Batch, order: TrainingOrder, step: int) -> None:
        """Count the batch of a step, unless it only stands in for a share that is empty."""
        if len(order.batch(step)[1]) > 0:
            self.ignored += int(np.count_nonzero(batch.labels_BHW == self.ignore_index))
            self.whole += batch.labels_BHW.size

    def take_ignored_share(self, world: World) -> float:
        """Return the share of ignored pixels over all processes, and begin again at 0."""
        ignored, whole = world.sum(np.array([self.ignored, self.whole], np.int64)).tolist()
        self.ignored = self.whole = 0
        return float(ignored / whole)


def _read_losses(unread: list[_Unread], state: TrainingState) -> None:
    """Move the losses from the device into `state`; waits for the device.

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
                next_step="look at these images (`terrazzo check`), lower the learning rate, or "
                "set training.clip_norm; --resume goes on from the last checkpoint",
            )
        state.losses.append(loss)
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
    append_json_line(run.timing, {"step": step + 1, "seconds_to_first_step": seconds})


def _log_losses(
    run: RunFolder,
    schedule: EventSchedule,
    state: TrainingState,
    rate: float,
    ignored_share: float,
    gradient_norm: float,
    rank: int,
) -> None:
    if rank == 0:
        line = {
            "kind": "train",
            "step": state.step,
            "epoch": (state.step - 1) // schedule.steps_per_epoch,
            "loss": float(np.mean(state.losses)),
            "ignored_share": ignored_share,
            "learning_rate": rate,
            "gradient_norm": gradient_norm if math.isfinite(gradient_norm) else None,
        }
        append_json_line(run.log, line)
    state.losses.clear()


def _train_sample(recipe: Config, train: Split, val: Split) -> SpreadSamples | None:
    """Return the training images that are scored at each validation, always the same."""
    wanted = recipe.validation.train_images
    if wanted is None:
        wanted = min(-(-len(val) // _VALIDATIONS_A_TRAIN_SCORE), _MOST_TRAIN_IMAGES)
    return SpreadSamples(train, wanted) if wanted else None


_VALIDATIONS_A_TRAIN_SCORE = 4
_MOST_TRAIN_IMAGES = 50
"""A training score costs a quarter of a validation by default, and no more than this."""


def _rounded(loss: float | None) -> float | None:
    """Return a loss to four digits after the point, as the log keeps it.

    The last bits of probabilities depend on how many images share a forward pass, and a log does
    not depend on `validation.batch_size`.
    """
    value = _or_none(loss)
    return None if value is None else round(value, 4)


def _or_none(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _pixels(outcome: Evaluation) -> int:
    return int(outcome.counts_NKK.sum() + outcome.ignored_N.sum())


def _validate(
    run: RunFolder,
    trainer: Trainer,
    recipe: Config,
    schedule: EventSchedule,
    val_split: Split,
    train_sample: SpreadSamples | None,
    state: TrainingState,
    progress: Progress,
    abandoned: Callable[[], bool],
) -> None:
    """Score the model on the validation split and on some training images; write both down."""

    def scored(split: Split | SpreadSamples, num_examples: int = 0) -> Evaluation:
        return evaluate(
            trainer,
            split,
            recipe.data,
            recipe.loader,
            batch_size=recipe.validation.batch_size,
            step=state.step,
            progress=progress,
            num_examples=num_examples,
            with_losses=True,
            abandoned=abandoned,
        )

    # Both before the state changes: a stop while a file is awaited leaves all of it to be redone.
    outcome = scored(val_split)
    on_train = None if train_sample is None else scored(train_sample)
    scores = outcome.matrix.scores()
    state.scores.append((state.step, float(np.nan_to_num(scores.mean_iou))))
    best = state.best_step == state.step
    line = {
        "kind": "validation",
        "step": state.step,
        "epoch": state.step // schedule.steps_per_epoch,
        "mean_iou": state.scores[-1][1],
        "pixel_accuracy": float(np.nan_to_num(scores.pixel_accuracy)),
        "iou": [None if np.isnan(iou) else float(iou) for iou in scores.iou],
        "best": best,
        "cross_entropy": _rounded(outcome.cross_entropy),
        "ignored_share": float(outcome.ignored_N.sum() / max(_pixels(outcome), 1)),
    }
    if train_sample is not None and on_train is not None:
        line["train_mean_iou"] = _or_none(on_train.matrix.scores().mean_iou)
        line["train_cross_entropy"] = _rounded(on_train.cross_entropy)
        line["train_images"] = len(train_sample)
    if trainer.world.rank == 0:
        append_json_line(run.log, line)
    progress.say(
        f"step {state.step}/{schedule.total_steps}  epoch {line['epoch']}  "
        f"val mean IoU {scores.mean_iou:.4f}{'  best so far' if best else ''}"
    )
