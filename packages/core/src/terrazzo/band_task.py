"""A band of a scene's rows as a piece of work for any process, and who does such work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from terrazzo import runs, scene
from terrazzo.errors import CheckpointError
from terrazzo.row_journal import Layer, RowBand, RowJournal
from terrazzo.runs import RunFolder
from terrazzo.scene import Scene, Tiling
from terrazzo.trainer import Trainer


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
    """

    map: Path
    scene: Scene
    tiling: Tiling
    num_classes: int
    nodata: int
    folder: Path
    band: RowBand
    layers: tuple[Layer, ...]


class Crew(Protocol):
    """Processes that have loaded the model and do tasks."""

    @property
    def size(self) -> int:
        """How many tasks are done at a time."""
        ...

    def do(self, tasks: Iterable[BandTask]) -> Iterator[BandTask]:
        """Yield tasks as they are finished, in any order; the next is taken when there is time.

        Raises:
            TerrazzoError: that a task met.
        """
        ...


@dataclass(frozen=True)
class Alone:
    """This process does all the work.

    Attributes:
        trainer: the model.
        row_done: called after every row of windows.
    """

    trainer: Trainer
    row_done: Callable[[], None]
    size: int = 1

    def do(self, tasks: Iterable[BandTask]) -> Iterator[BandTask]:
        """Do one task after another."""
        for task in tasks:
            work(self.trainer, task, self.row_done)
            yield task


def work(trainer: Trainer, task: BandTask, row_done: Callable[[], None]) -> None:
    """Predict what is missing of a band.

    Args:
        trainer: the model.
        task: the band.
        row_done: called after every row of windows.

    Raises:
        CheckpointError: SEG-C011, some rows of the band come from another kind of device.
        DataError: as `scene.predict_rows`.
        ResourceError: SEG-R004 the disk is full; SEG-C009 another process works on these rows.
    """
    task.folder.mkdir(parents=True, exist_ok=True)
    with runs.locked(RunFolder(task.folder)):
        journal = RowJournal.open(task.folder, task.band, task.layers)
        _refuse_other_device(journal, trainer.device)
        scene.predict_rows(
            trainer,
            task.scene,
            task.num_classes,
            task.tiling,
            journal,
            nodata=task.nodata,
            row_done=row_done,
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
    path.write_text(device, encoding="utf-8")
