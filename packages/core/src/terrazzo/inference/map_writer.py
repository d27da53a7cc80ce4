"""The files of a map, written from its rows while these are still being made."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import flush_file, make_folder
from terrazzo.base.errors import CheckpointError
from terrazzo.base.file_lock import locked
from terrazzo.data import class_areas
from terrazzo.data.class_map import CLASS_TAG
from terrazzo.data.labels import LabelMap
from terrazzo.evaluation.prediction_method import METHOD_TAG, PLAIN, PredictionMethod
from terrazzo.inference import (
    polygonize,
    qgis_styles,
    row_journal,
    tiled_prediction,
    uncertainty,
    unfinished_map,
)
from terrazzo.inference.jobs import BandTask, Executor
from terrazzo.inference.min_area import MinArea
from terrazzo.inference.outputs import Work
from terrazzo.inference.row_journal import Layer
from terrazzo.inference.tiled_prediction import Scene, Tally, Tiling
from terrazzo.inference.uncertainty import Measure
from terrazzo.inference.unfinished_map import PartialMap
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo
from terrazzo.models.mask_refinement import MaskSettings
from terrazzo.models.test_time_augmentation import Augmentation

_SECONDS_BETWEEN_LOOKS = 0.02  # at rows that are not there yet


@dataclass(frozen=True, slots=True)
class MapOrder:
    """What is to be made of a scene.

    Attributes:
        scene: what to look at.
        label_map: K classes.
        work: the files to write.
        tiling: tiles and their blending.
        plan: all that the rows depend on, as JSON holds it.
        cloud_optimised: write cloud optimised GeoTIFF, with overviews.
        layer_per_class: write a layer of polygons for each class.
        min_area: of a patch on the polygons; None: any.
        sieve_map: of a patch on the map, too.
        uncertainty: measure of it; None: it is not asked for.
        augmentation: at test time; None: none.
        refinement: where probabilities are averaged inside masks; None: nowhere.
        method: how predictions are made, for a tag of the map.
    """

    scene: Scene
    label_map: LabelMap
    work: Work
    tiling: Tiling
    plan: Mapping[str, object]
    cloud_optimised: bool = False
    layer_per_class: bool = False
    min_area: MinArea | None = None
    sieve_map: bool = False
    uncertainty: Measure | None = None
    augmentation: Augmentation | None = None
    refinement: MaskSettings | None = None
    method: PredictionMethod = PLAIN

    @property
    def out(self) -> Path:
        """The map, ending in ``.tif``."""
        return self.work.map

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What each row of the map's journal holds."""
        columns, label_map = self.scene.info.columns, self.label_map
        layers = [Layer("labels", (columns,), str(label_map.dtype))]
        if self.work.probabilities is not None:
            layers.append(Layer("probabilities", (columns, len(label_map)), "float32"))
        if self.work.uncertainty is not None:
            layers.append(Layer("uncertainty", (columns,), "uint8"))
        return tuple(layers)


class _GivenUp(Exception):  # noqa: N818 - nobody sees it
    """The rows will not come."""


class MapInProgress:
    """A map whose rows are being made; a thread writes its files from those that are finished.

    End it by `finish` or `give_up`. Until then no other process can work on this map.
    """

    def __init__(self, order: MapOrder, rows: PartialMap, unlock: ExitStack) -> None:
        self.order, self.rows = order, rows
        self._unlock = unlock
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="terrazzo-map")
        self._files: Future[list[Path]] = self._thread.submit(_write_files, order, rows, self._wait)

    @classmethod
    def begin(cls, order: MapOrder, *, resume: bool, most_bands: int) -> Self:
        """Begin a map anew, or go on with one that was begun.

        Raises:
            CheckpointError: SEG-C011, it was begun with other settings, another model or scene.
            ResourceError: SEG-R004 the disk is full; SEG-C009 another process makes this map.
        """
        folder = unfinished_map.folder_of(order.out)
        make_folder(folder)
        with ExitStack() as stack:
            stack.enter_context(locked(folder))
            if resume and unfinished_map.has_rows(folder):
                rows = PartialMap.reopen(folder, order.plan, order.layers)
            else:
                bands = order.tiling.row_bands(order.scene.info.rows, most_bands)
                rows = PartialMap.begin(folder, order.plan, bands, order.layers)
            return cls(order, rows, stack.pop_all())
        raise AssertionError  # the context above swallows nothing

    @property
    def tasks(self) -> tuple[BandTask, ...]:
        """The bands of its rows, finished ones too."""
        order = self.order
        return tuple(
            BandTask(
                order.out,
                order.scene,
                order.tiling,
                len(order.label_map),
                order.label_map.ignore_index,
                self.rows.journal_folder(band),
                band,
                self.rows.layers,
                order.uncertainty,
                order.augmentation,
                order.refinement,
            )
            for band in self.rows.bands
        )

    def finish(self) -> Tally:
        """Put the files in their places, when all rows are there; the map is the last of them.

        Raises:
            CheckpointError: SEG-C002, as `Work.put_in_place`.
            ResourceError: SEG-R004, the disk is full or refuses.
        """
        size = self.order.scene.info
        lines = [line for band in self.rows.bands for line in self.rows.lines(band)]
        tally = tiled_prediction.tally(lines, len(self.order.label_map))
        assert int(tally.pixels_K.sum()) + tally.nodata == size.rows * size.columns
        try:
            try:
                self.order.work.put_in_place(self._files.result())
            except CheckpointError:
                self.rows.delete()  # or a resume would take the file that is there for its own
                raise
            self.rows.delete()
        finally:
            self.give_up()
        return tally

    def give_up(self) -> None:
        """Stop writing; finished rows stay in the journal, and others may go on with them."""
        self._stop.set()
        self._thread.shutdown()
        self._unlock.close()

    def _wait(self) -> None:
        if self._stop.wait(_SECONDS_BETWEEN_LOOKS):
            raise _GivenUp


def make_maps(
    orders: Sequence[MapOrder],
    executor: Executor,
    *,
    resume: bool = False,
    begun: Callable[[MapInProgress], None] = lambda _: None,
) -> Iterator[tuple[MapOrder, Tally]]:
    """Make maps of scenes; yield each order once its files are in their places.

    Each appears complete or not at all. However the rows were shared and however often the work
    was interrupted, the bytes are the same.

    Args:
        orders: what to make.
        executor: does the work. The rows of a scene are divided where there are fewer scenes than
            it can do at a time.
        resume: go on with what was begun.
        begun: told when the work on a map begins.

    Raises:
        DataError: a scene cannot be read.
        CheckpointError: SEG-C011, a map was begun with other settings, another model, another
            scene or on another device.
        ResourceError: SEG-R004 the disk is full; SEG-C009 another process makes this map;
            SEG-R001 a process of the executor died.
    """
    most_bands = -(-executor.size // len(orders))
    making: dict[Path, MapInProgress] = {}
    left: Counter[Path] = Counter()

    def tasks() -> Iterator[BandTask]:
        for order in orders:
            one = MapInProgress.begin(order, resume=resume, most_bands=most_bands)
            making[order.out] = one
            begun(one)
            left[order.out] = len(one.tasks)
            yield from one.tasks

    try:
        for task in executor.do(tasks()):
            left[task.map] -= 1
            if left[task.map] == 0:
                one = making.pop(task.map)
                yield one.order, one.finish()
    finally:
        for one in making.values():
            one.give_up()


def write_map(
    path: Path,
    size: RasterInfo,
    groups: Iterable[NDArray[np.integer]],
    label_map: LabelMap,
    *,
    cloud_optimised: bool = False,
    method: PredictionMethod = PLAIN,
) -> None:
    """Write the map of a scene; its bytes depend on nothing but the arguments.

    Args:
        path: where to, ending in ``.tif``.
        size: of the scene, with its CRS and transform.
        groups: labels R×W from the first row to the last.
        label_map: K classes, written as attribute table, palette and tags.
        cloud_optimised: write cloud optimised GeoTIFF, with overviews.
        method: how predictions were made; a tag says so where it is otherwise than by one model.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    rasters.write_rows(
        path,
        size,
        (group_RW[None] for group_RW in groups),
        dtype=str(label_map.dtype),
        nodata=label_map.ignore_index,
        band_names=("class",),
        classes=rasters.ClassTable(label_map.names, label_map.colours),
        tags=_class_tags(label_map) | _method_tags(method),
        cloud_optimised=cloud_optimised,
    )


def _class_tags(label_map: LabelMap) -> dict[str, str]:
    tags = {CLASS_TAG: json.dumps(list(label_map.names), ensure_ascii=False)}
    return tags | {f"CLASS_{k}": name for k, name in enumerate(label_map.names)}


def _method_tags(method: PredictionMethod) -> dict[str, str]:
    return {} if method == PLAIN else {METHOD_TAG: method.as_json()}


def _write_files(order: MapOrder, rows: PartialMap, wait: Callable[[], None]) -> list[Path]:
    """Write all files inside the journal; return them in the order of `Work.files`."""
    work = order.work.inside(rows.folder)
    label_map, size = order.label_map, order.scene.info
    if work.probabilities is not None:
        rasters.write_rows(
            work.probabilities,
            size,
            (np.moveaxis(g, 2, 0) for g in rows.groups("probabilities", rasters.BLOCK, wait)),
            dtype="float32",
            nodata=float("nan"),
            band_names=label_map.names,
            tags=_class_tags(label_map) | _method_tags(order.method),
            cloud_optimised=order.cloud_optimised,
        )

    if work.uncertainty is not None:
        rasters.write_rows(
            work.uncertainty,
            size,
            (group[None] for group in rows.groups("uncertainty", rasters.BLOCK, wait)),
            dtype="uint8",
            nodata=uncertainty.NODATA,
            band_names=(f"uncertainty ({order.uncertainty})",),
            scaling=uncertainty.SCALING,
            tags={},
            cloud_optimised=order.cloud_optimised,
        )

    def labels() -> Iterator[NDArray[np.integer]]:
        return rows.groups("labels", rasters.BLOCK, wait)

    sieved: rasters.Groups = labels
    if order.min_area is not None:
        sieved = order.min_area.sieved(labels, size, label_map.ignore_index)
    on_map = sieved if order.sieve_map else labels
    if work.polygons is not None:
        polygonize.write(
            work.polygons, sieved(), size, label_map, layer_per_class=order.layer_per_class
        )
    if work.style is not None:
        qgis_styles.write_map_style(work.style, label_map)
    passing = class_areas.PassingAreas(size, label_map, order.work.map)
    groups = iter(on_map()) if work.areas is None else passing.passing(on_map())
    write_map(
        work.map,
        size,
        groups,
        label_map,
        cloud_optimised=order.cloud_optimised,
        method=order.method,
    )
    if work.areas is not None:
        class_areas.write(work.areas, passing.areas)
    for path in work.files:  # to the disk before its name
        with row_journal.writing_rows(path.parent):
            flush_file(path)
    return list(work.files)
