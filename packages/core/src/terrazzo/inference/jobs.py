"""A band of a scene's rows as a job for any process, and the executors that do such jobs."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from terrazzo.base.atomic_write import make_folder, replace_text
from terrazzo.base.errors import CheckpointError, TerrazzoError
from terrazzo.base.file_lock import locked
from terrazzo.base.memory import memory_for
from terrazzo.inference import tiled_prediction
from terrazzo.inference.row_journal import Layer, RowBand, RowJournal
from terrazzo.inference.tiled_prediction import Scene, Tiling
from terrazzo.inference.uncertainty import Measure
from terrazzo.models.contract import Predictor
from terrazzo.models.mask_refinement import MaskSettings, refined
from terrazzo.models.test_time_augmentation import Augmentation, augmented


@dataclass(frozen=True, slots=True)
class BandTask:
    """Rows to predict; small, and the same in every process that sees the files.

    Attributes:
        map: the map that the rows belong to.
        scene: what to look at.
        tiling: how it is cut.
        num_classes: K.
        nodata: label of pixels without data.
        folder: of the band's journal.
        band: the rows.
        layers: what the journal holds.
        uncertainty: measure of it; None: it is not asked for.
        augmentation: at test time; None: none.
        refinement: where probabilities are averaged inside masks; None: nowhere.
    """

    map: Path
    scene: Scene
    tiling: Tiling
    num_classes: int
    nodata: int
    folder: Path
    band: RowBand
    layers: tuple[Layer, ...]
    uncertainty: Measure | None = None
    augmentation: Augmentation | None = None
    refinement: MaskSettings | None = None


class Executor(Protocol):
    """Processes that have loaded the model and do jobs."""

    @property
    def size(self) -> int:
        """How many jobs are done at a time."""
        ...

    def do(self, tasks: Iterable[BandTask]) -> Iterator[BandTask]:
        """Yield jobs as they are finished, in any order; the next is taken when there is time.

        Raises:
            TerrazzoError: that a job met.
        """
        ...


def _say_nothing(_: str) -> None:
    """Take a line that nobody reads."""


@dataclass(frozen=True)
class ThisProcess:
    """An executor that does one job after another itself.

    Attributes:
        trainer: the model.
        row_done: called after every row of tiles.
        size: one.
        say: told where fewer tiles a forward pass have to do.
    """

    trainer: Predictor
    row_done: Callable[[], None]
    size: int = 1
    say: Callable[[str], None] = _say_nothing

    def do(self, tasks: Iterable[BandTask]) -> Iterator[BandTask]:
        """Do one job after another."""
        for task in tasks:
            work(self.trainer, task, self.row_done, self.say)
            yield task


Worker = TypeVar("Worker", bound=Hashable)


def share_out(
    tasks: Iterable[BandTask],
    workers: Sequence[Worker],
    start: Callable[[Worker, BandTask], None],
    wait: Callable[[Mapping[Worker, BandTask]], Iterable[Worker]],
) -> Iterator[BandTask]:
    """Hand jobs to whoever is free; yield them as they are finished.

    Args:
        tasks: taken one by one, when a worker is free.
        workers: who does them.
        start: hands a job to a worker; returns at once.
        wait: returns after something has happened: the workers that have finished, perhaps none.
    """
    waiting, idle = iter(tasks), list(workers)
    busy: dict[Worker, BandTask] = {}
    while True:
        while idle and (task := next(waiting, None)) is not None:
            worker = idle.pop()
            start(worker, task)
            busy[worker] = task
        if not busy:
            return
        for worker in wait(busy):
            idle.append(worker)
            yield busy.pop(worker)


def attempt(
    load: Callable[[], Predictor],
    task: BandTask,
    row_done: Callable[[], None],
    say: Callable[[str], None] = _say_nothing,
) -> Exception | None:
    """Do a job in a process of a pool; return what went wrong in a form that can travel.

    Args:
        load: returns the model.
        task: the band.
        row_done: called after every row of tiles.
        say: told where fewer tiles a forward pass have to do.
    """
    try:
        work(load(), task, row_done, say)
    except TerrazzoError as error:
        return error
    except Exception:  # it may not travel between processes; its text does
        return RuntimeError(traceback.format_exc())
    return None


def work(
    trainer: Predictor,
    task: BandTask,
    row_done: Callable[[], None],
    say: Callable[[str], None] = _say_nothing,
) -> None:
    """Predict what is missing of a band.

    Args:
        trainer: the model.
        task: the band.
        row_done: called after every row of tiles.
        say: told where fewer tiles a forward pass have to do.

    Raises:
        CheckpointError: SEG-C011, some rows of the band come from another kind of device.
        DataError: as `tiled_prediction.predict_rows`.
        ResourceError: SEG-R004 the disk is full; SEG-R006 out of memory; SEG-C009 another process
            works on these rows.
    """
    make_folder(task.folder)
    with locked(task.folder):
        journal = RowJournal.open(task.folder, task.band, task.layers)
        _refuse_other_device(journal, trainer.device)
        with memory_for(
            f"predicting rows {task.band.first}…{task.band.last - 1}",
            file=task.scene.path,
            size=f"tiles of {task.tiling.tile}×{task.tiling.tile}",
            next_step="go on with --resume and fewer --workers, or begin anew with a smaller "
            "--tile and --overwrite",
        ):
            tiled_prediction.predict_rows(
                refined(augmented(trainer, task.augmentation), task.refinement),
                task.scene,
                task.num_classes,
                task.tiling,
                journal,
                nodata=task.nodata,
                row_done=row_done,
                say=say,
                uncertainty=task.uncertainty,
            )


def _refuse_other_device(journal: RowJournal, device: str) -> None:
    """Refuse to go on on another device: its rows would not be the same to the last bit."""
    path = journal.folder / "device"
    before = path.read_text(encoding="utf-8") if journal.lines and path.is_file() else device
    if before != device:
        raise CheckpointError(
            "SEG-C011",
            "the rows that are finished were predicted on another device",
            file=journal.folder,
            observed=device,
            allowed=before,
            next_step="resume on that device, or begin anew with --overwrite",
        )
    replace_text(path, device)
