"""Prediction of a scene that is larger than memory: windows in, finished rows out.

Memory holds one row of windows, with its probabilities, at a time: it grows with the tile and the
width of the scene, not with its height. A thread reads the next row of windows while the model
works on this one; another blends, takes the best class and puts finished rows into a
`row_journal`. The GeoTIFF is written from there in one go, so its bytes depend on the rows alone,
however often the work was killed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from terrazzo import config, rasters, tiles
from terrazzo.errors import DataError
from terrazzo.progress import Progress
from terrazzo.row_journal import RowJournal
from terrazzo.tiles import Blend, Share
from terrazzo.trainer import Trainer

_PIXELS_AT_ONCE = 1 << 15
"""Pixels whose probabilities stay in a core's cache while the best class is sought."""


class Tiling(config.Frozen):
    """How a scene is cut into windows."""

    tile: config.Count = 512
    """Rows and columns of a window."""
    overlap: Annotated[int, Field(ge=0)] = 128
    """Rows and columns that two neighbours share at least; a quarter of it at each side of a seam
    is thrown away."""
    blend: Blend = "linear"
    """How neighbours are mixed; ``none`` takes each pixel from one window."""
    batch_size: config.Count = 4
    """Windows a forward pass."""

    @pydantic.model_validator(mode="after")
    def _some_stride(self) -> Tiling:
        if self.overlap >= self.tile:
            msg = f"overlap {self.overlap} must be smaller than tile {self.tile}"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class Tally:
    """What was predicted.

    Attributes:
        pixels_K: int64 pixels of each class.
        nodata: pixels without data.
        seams: pairs of neighbours that a seam between columns of windows divides, and how many of
            them differ in class.
        elsewhere: the same for all other pairs of neighbours in a row.
    """

    pixels_K: NDArray[np.int64]
    nodata: int
    seams: tuple[int, int]
    elsewhere: tuple[int, int]

    @property
    def seam_score(self) -> float:
        """How much more often classes change at a seam than elsewhere; 1 is invisible.

        NaN where there is no seam or nothing changes elsewhere.
        """
        (at, changed), (others, usual) = self.seams, self.elsewhere
        return (changed / at) / (usual / others) if at and usual else float("nan")


@dataclass(frozen=True)
class Scene:
    """A raster and the bands of it that the model sees, in the model's order."""

    path: Path
    bands: tuple[int, ...]

    @property
    def info(self) -> rasters.RasterInfo:
        """What the file says of itself."""
        return rasters.info(self.path)


@dataclass(frozen=True, slots=True)
class _Strip:
    """The scene's rows under one row of windows."""

    number: int
    image_HWC: NDArray[Any]
    valid_HW: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Predicted:
    """What a batch of windows gave; windows without data are left out of it."""

    number: int
    columns: tuple[Share, ...]
    outputs: NDArray[Any]


@dataclass(frozen=True, slots=True)
class _EndOfStrip:
    number: int
    valid_HW: NDArray[np.bool_]


def predict_rows(
    trainer: Trainer,
    scene: Scene,
    num_classes: int,
    tiling: Tiling,
    journal: RowJournal,
    *,
    nodata: int,
    progress: Progress,
) -> Tally:
    """Predict all rows that the journal does not hold yet.

    Args:
        trainer: the model.
        scene: what to look at.
        num_classes: K.
        tiling: how it is cut.
        journal: gets the layer ``labels``, R×W, and, if it has it, ``probabilities``, R×W×K.
        nodata: label of pixels without data; their probabilities are NaN.
        progress: told after every row of windows.

    Raises:
        DataError: as `rasters.read_window`; SEG-D023 the scene holds no data at all.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    size = scene.info
    rows = tiles.shares(size.rows, tiling.tile, tiling.overlap, tiling.blend)
    columns = tiles.shares(size.columns, tiling.tile, tiling.overlap, tiling.blend)
    final = tiles.first_open_rows(rows)
    wants_probabilities = any(layer.name == "probabilities" for layer in journal.layers)
    only_labels = tiling.blend == "none" and not wants_probabilities
    # Rows that are not final may have been touched by earlier windows: those are done again.
    begin = sum(share.last <= journal.rows for share in rows)
    predict = trainer.predict_labels if only_labels else trainer.predict
    keeper = _RowKeeper(rows, columns, final, num_classes, nodata, journal, only_labels)
    if journal.rows < size.rows:
        with (
            rasters.small_cache(),
            closing(_read_ahead(_strips(scene, rows, begin))) as strips,
            _in_background(keeper.take) as put,
        ):
            for strip in strips:
                for batch in _batches(strip, columns, tiling.batch_size):
                    images_BHWC = np.stack(
                        [strip.image_HWC[:, share.start : share.stop] for share in batch]
                    )
                    put(_Predicted(strip.number, batch, predict(images_BHWC)))
                put(_EndOfStrip(strip.number, strip.valid_HW))
                progress.advance(strip.number + 1, len(rows), "predict")
    tally = _sum(journal, num_classes)
    assert int(tally.pixels_K.sum()) + tally.nodata == size.rows * size.columns
    if tally.pixels_K.sum() == 0:
        raise DataError(
            "SEG-D023",
            "the scene holds no data",
            file=scene.path,
            observed=f"all {tally.nodata} pixels are nodata ({size.nodata})",
            next_step="check the nodata value of the file",
        )
    return tally


def _strips(scene: Scene, rows: tuple[Share, ...], begin: int) -> Iterator[_Strip]:
    """Read the rows of each row of windows; rows that two of them share are read once."""
    columns = scene.info.columns
    image_HWC: NDArray[Any] = np.empty(0)
    valid_HW: NDArray[np.bool_] = np.empty(0, bool)
    for number in range(begin, len(rows)):
        share = rows[number]
        kept = rows[number - 1].stop - share.start if number > begin else 0
        first = share.start + kept
        new_HWC, new_valid_HW = rasters.read_window(
            scene.path, first, 0, share.stop - first, columns, scene.bands
        )
        if kept:
            new_HWC = np.concatenate([image_HWC[-kept:], new_HWC])
            new_valid_HW = np.concatenate([valid_HW[-kept:], new_valid_HW])
        image_HWC, valid_HW = new_HWC, new_valid_HW
        yield _Strip(number, image_HWC, valid_HW)


def _batches(
    strip: _Strip, columns: tuple[Share, ...], batch_size: int
) -> Iterator[tuple[Share, ...]]:
    """Group the windows of a row that hold any data."""
    filled = [share for share in columns if strip.valid_HW[:, share.start : share.stop].any()]
    for first in range(0, len(filled), batch_size):
        yield tuple(filled[first : first + batch_size])


class _RowKeeper:
    """Blends the windows of one row after another; holds no more than one row of windows."""

    def __init__(
        self,
        rows: tuple[Share, ...],
        columns: tuple[Share, ...],
        final: tuple[int, ...],
        num_classes: int,
        nodata: int,
        journal: RowJournal,
        only_labels: bool,
    ) -> None:
        self.rows, self.final = rows, final
        self.width = columns[-1].stop
        self.seams = np.array([later.first + later.ramp_in // 2 for later in columns[1:]], int)
        self.num_classes, self.nodata, self.journal = num_classes, nodata, journal
        self.only_labels = only_labels
        self.depth = 1 if only_labels else num_classes
        self.strip: NDArray[Any] | None = None
        self.carried: NDArray[np.float32] | None = None

    def take(self, item: _Predicted | _EndOfStrip) -> None:
        """Take what the model gave, in the order of the windows."""
        if self.strip is None:
            share = self.rows[item.number]
            dtype = self.journal.layers[0].dtype if self.only_labels else np.float32
            # Rows × (columns · K): weights then multiply along one long inner axis.
            self.strip = np.zeros((share.last - share.first, self.width * self.depth), dtype)
        if isinstance(item, _Predicted):
            for column, output in zip(item.columns, item.outputs, strict=True):
                self._add(self.rows[item.number], column, output)
        else:
            self._finish(item)

    def _add(self, row: Share, column: Share, output: NDArray[Any]) -> None:
        assert self.strip is not None
        depth = self.depth
        inside = output[row.first - row.start : row.last - row.start].reshape(
            row.last - row.first, -1
        )[:, (column.first - column.start) * depth : (column.last - column.start) * depth]
        target = self.strip[:, column.first * depth : column.last * depth]
        if self.only_labels:
            target[...] = inside
            return
        left, right = column.ramp_in * depth, inside.shape[1] - column.ramp_out * depth
        if left >= right:  # ramps meet: overlaps of more than half a window
            target += inside * np.repeat(column.weights, depth)
            return
        weights = np.repeat(column.weights, depth)
        target[:, :left] += inside[:, :left] * weights[:left]
        target[:, left:right] = inside[:, left:right]
        target[:, right:] += inside[:, right:] * weights[right:]

    def _finish(self, end: _EndOfStrip) -> None:
        """Make the rows final that no later window reaches, and carry the others over."""
        assert self.strip is not None
        row, strip, number = self.rows[end.number], self.strip, end.number
        self.strip = None
        if not self.only_labels:
            lower = min(len(strip) - row.ramp_out, len(strip))
            upper = min(row.ramp_in, lower)
            strip[:upper] *= row.weights[:upper, None]
            strip[lower:] *= row.weights[lower:, None]
            if self.carried is not None:
                strip[: len(self.carried)] += self.carried
            self.carried = strip[self.final[number] - row.first :].copy()
        done = self.journal.rows
        if self.final[number] <= done:  # a resume does these again for what they carry over
            return
        assert done >= row.first
        ready = strip[done - row.first : self.final[number] - row.first]
        valid_RW = end.valid_HW[done - row.start : self.final[number] - row.start]
        self._write(number, ready, valid_RW)

    def _write(self, number: int, ready: NDArray[Any], valid_RW: NDArray[np.bool_]) -> None:
        arrays: dict[str, NDArray[Any]] = {}
        if self.only_labels:
            labels_RW = ready
        else:
            ready_RWK = ready.reshape(len(ready), self.width, self.num_classes)
            labels_RW = best_class(ready_RWK, np.dtype(self.journal.layers[0].dtype))
            if len(self.journal.layers) > 1:
                ready_RWK[~valid_RW] = np.nan
                arrays["probabilities"] = ready_RWK
        labels_RW[~valid_RW] = self.nodata
        arrays["labels"] = labels_RW
        counts = np.bincount(labels_RW.ravel(), minlength=self.nodata + 1)
        changes = labels_RW[:, 1:] != labels_RW[:, :-1]
        at_seams = int(np.count_nonzero(changes[:, self.seams - 1]))
        num_seams = len(labels_RW) * len(self.seams)
        note = {
            "tile_row": number,
            "pixels": counts[: self.num_classes].tolist(),
            "nodata": int(counts[self.nodata]),
            "seams": [num_seams, at_seams],
            "elsewhere": [changes.size - num_seams, int(np.count_nonzero(changes)) - at_seams],
        }
        self.journal.append(arrays, note)


def best_class(probabilities_RWK: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.integer]:
    """Return the most probable class of each pixel, the lower one of equals: R×W of `dtype`.

    A running maximum over the classes, on a piece that stays in cache: NumPy's argmax over a short
    last axis takes several times as long.
    """
    rows, columns, num_classes = probabilities_RWK.shape
    flat_PK = probabilities_RWK.reshape(-1, num_classes)
    labels_P = np.zeros(len(flat_PK), dtype)
    for start in range(0, len(flat_PK), _PIXELS_AT_ONCE):
        piece_PK = flat_PK[start : start + _PIXELS_AT_ONCE]
        best_P, chosen_P = piece_PK[:, 0].copy(), labels_P[start : start + _PIXELS_AT_ONCE]
        for k in range(1, num_classes):
            plane_P = piece_PK[:, k]
            np.copyto(chosen_P, np.asarray(k, dtype), where=plane_P > best_P)
            np.maximum(best_P, plane_P, out=best_P)
    return labels_P.reshape(rows, columns)


def _sum(journal: RowJournal, num_classes: int) -> Tally:
    pixels_K = np.zeros(num_classes, np.int64)
    nodata, seams, elsewhere = 0, np.zeros(2, np.int64), np.zeros(2, np.int64)
    for line in journal.lines:
        pixels_K += np.array(line["pixels"], np.int64)
        nodata += line["nodata"]
        seams += line["seams"]
        elsewhere += line["elsewhere"]
    return Tally(
        pixels_K, nodata, (int(seams[0]), int(seams[1])), (int(elsewhere[0]), int(elsewhere[1]))
    )


Item = TypeVar("Item")

_END = object()


def _read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Yield `items`, made by a thread that is one item ahead. Close it to stop the thread early."""
    made: queue.Queue[Any] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def make() -> None:
        try:
            for item in items:
                if not _put(made, item, stop):
                    return
            _put(made, _END, stop)
        except BaseException as error:  # it is raised in the thread that waits
            _put(made, error, stop)

    thread = threading.Thread(target=make, name="terrazzo-read", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _put(into: queue.Queue[Any], item: object, stop: threading.Event) -> bool:
    """Put an item unless told to stop; tell whether it was put."""
    while not stop.is_set():
        try:
            into.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False


@contextmanager
def _in_background(take: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Give a function that hands an item to `take` in a thread; its error is raised here.

    All items are taken when the block ends well.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=2)
    failed = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        while (item := waiting.get()) is not _END:
            try:
                take(item)
            except BaseException as error:  # it is raised in the thread that puts
                errors.append(error)
                failed.set()
                return

    thread = threading.Thread(target=work, name="terrazzo-write", daemon=True)
    thread.start()

    def put(item: object) -> None:
        if not _put(waiting, item, failed):
            raise errors[0]

    try:
        yield put
    finally:
        _put(waiting, _END, failed)
        thread.join()
    if errors:
        raise errors[0]
