"""Prediction of files: a trained model over GeoTIFF scenes, images and folders of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from terrazzo.base.atomic_write import make_folder, replacing, sweep_temporaries
from terrazzo.base.config_parsing import StrPath
from terrazzo.base.progress import Progress, Silent
from terrazzo.data import class_areas
from terrazzo.data.mask_files import absolute_masks
from terrazzo.data.normalization import moments
from terrazzo.evaluation.prediction_method import MethodMember, PredictionMethod
from terrazzo.inference import legends, map_writer, polygonize, qgis_styles
from terrazzo.inference.composition import Composition, method_of
from terrazzo.inference.images import predict_image
from terrazzo.inference.jobs import Executor, ThisProcess
from terrazzo.inference.labelling import programs
from terrazzo.inference.labelling.source import PredictedImage
from terrazzo.inference.map_writer import MapInProgress, MapOrder
from terrazzo.inference.model import Model, model_folder
from terrazzo.inference.outputs import Settings, Work, plan_outputs
from terrazzo.inference.scene_files import SceneFiles
from terrazzo.inference.scene_opening import open_scene
from terrazzo.inference.tiled_prediction import Scene, Tally, touches
from terrazzo.inference.tiles import first_open
from terrazzo.io import rasters
from terrazzo.io.raster_formats import PermittedPath
from terrazzo.io.remote_paths import RemotePath
from terrazzo.models import radiometry
from terrazzo.models.card import ModelCard
from terrazzo.models.mask_refinement import backend_for_masks, mask_backend
from terrazzo.runs import model_source, saved_model
from terrazzo.runs.ensemble_source import FurtherModel, read_further, with_others
from terrazzo.runs.model_source import ModelSource

_SAMPLE_SIDE, _SAMPLES_ACROSS = 64, 6  # windows whose values are compared with training
_DIGEST_SHOWN = 12  # of the weights, in what labelling programs show as the model
_ANY_SIZE = 1 << 62  # pixels of an image that is predicted at once
_FORMAT = 3  # of what a journal holds; raise it when rows would come out differently


@dataclass(frozen=True, slots=True)
class Written:
    """One map: where it is, and what is on it; no tally and no areas for an ordinary image."""

    path: Path
    tally: Tally | None
    areas: Path | None = None


def predict(
    run: StrPath,
    inputs: StrPath | SceneFiles | Sequence[StrPath | SceneFiles],
    out: StrPath,
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
) -> list[Written]:
    """Predict every scene and image.

    One GeoTIFF and an `out` that ends in ``.tif`` make one map; otherwise `out` is a folder that
    gets a map for each input, GeoTIFF for GeoTIFF, and PNG with an overlay beside it for images.

    Maps of scenes appear complete or not at all. Kill this at any moment and call it again with
    `resume`: the bytes are those of maps that were never interrupted.

    Args:
        run: a run folder, its ``model/``, or an exported folder.
        inputs: a file or several, folders whose images and GeoTIFF files are taken, sub-folders
            included, or scenes of several files as `scene_lists.read` returns them.
        out: a file or a folder.
        settings: see `Settings`; None: its defaults.
        progress: told how far it is; None: shows nothing.

    Returns:
        Maps of scenes and then of images, without those that were finished before.

    Raises:
        TerrazzoError: of every kind; see `map_writer` and `images.read_image`.
    """
    settings = Settings() if settings is None else settings
    progress = Silent() if progress is None else progress
    sources = _sources(inputs)
    place, run = Path(out), Path(run)
    if settings.ray is not None:  # its processes work in a folder of their own
        sources = [p if isinstance(p, RemotePath) else p.absolute() for p in sources]
        place, run = place.absolute(), run.absolute()
        if settings.polygons is not None:
            settings = replace(settings, polygons=settings.polygons.absolute())
        settings = replace(
            settings,
            masks=absolute_masks(settings.masks),
            ensemble=tuple(path.absolute() for path in settings.ensemble),
        )
        if settings.refinement is not None:
            masks = replace(settings.refinement, folder=settings.refinement.folder.absolute())
            settings = replace(settings, refinement=masks)
    folder = model_folder(run)
    card = saved_model.read_card(folder, progress.say)
    works = plan_outputs(sources, place, settings, folder, card.label_map.names)
    others = read_further(
        card, folder, [model_folder(path) for path in settings.ensemble], progress.say
    )
    if settings.labels_for is not None:
        programs.refuse_unfit(settings.labels_for, card.label_map, _images_of(works, card))
    if any(not work.is_scene for work in works):
        if settings.raw_values:
            card.label_map.require_raw_values()
        legends.prepare(
            place, card.label_map, raw_values=settings.raw_values, overwrite=settings.overwrite
        )
    scenes = {
        work.map: open_scene(work.scene or work.source, card, settings, progress)
        for work in works
        if work.is_scene
    }
    if settings.min_area is not None:
        for scene in scenes.values():
            settings.min_area.refuse_unknown_ground(scene.path, scene.info)
    if scenes and card.image_size is not None:
        progress.say(
            "the model was trained on images resized to "
            f"{card.image_size[0]}×{card.image_size[1]}; scenes are taken at their own scale"
        )
    _say_what_does_nothing(works, settings, progress)
    for scene in scenes.values():
        if (warning := scene_unlike_training(scene, card)) is not None:
            progress.say(f"warning {radiometry.CODE}: {scene.title}: {warning}")
    with _no_empty_folder_left([path.parent for work in works for path in work.files]):
        models = _Models(run.absolute().name, folder, card, others)
        written = _make_maps(works, scenes, models, settings, progress)
        if any(not work.is_scene for work in works):
            legends.write(place, card.label_map, raw_values=settings.raw_values)
        if settings.labels_for is not None:
            digest = model_source.digest(folder)[:_DIGEST_SHOWN]
            version = f"{card.backend}-{card.model.name}-{digest}"
            images = _images_of(works, card)
            programs.write(
                settings.labels_for, place, images, card.label_map, version, progress.say
            )
        return written


def _sources(
    inputs: StrPath | SceneFiles | Sequence[StrPath | SceneFiles],
) -> list[Path | SceneFiles]:
    if isinstance(inputs, str | os.PathLike | SceneFiles):
        return _sources([inputs])
    return [each if isinstance(each, Path | SceneFiles) else Path(each) for each in inputs]


def _images_of(works: Sequence[Work], card: ModelCard) -> list[PredictedImage]:
    return [
        PredictedImage(work.source, work.name.as_posix(), work.map, work.confidence, card.label_map)
        for work in works
        if not work.is_scene
    ]


@contextmanager
def _no_empty_folder_left(folders: Sequence[Path]) -> Iterator[None]:
    """Take away those folders that were not there before and that nothing was written into."""
    made = {each for path in folders for each in (path, *path.parents)}
    made = {each for each in made if not os.path.lexists(each)}
    try:
        yield
    finally:
        for path in sorted(made, key=lambda each: len(each.parts), reverse=True):
            with suppress(OSError):
                path.rmdir()


def _make_maps(
    works: Sequence[Work],
    scenes: Mapping[Path, Scene],
    models: _Models,
    settings: Settings,
    progress: Progress,
) -> list[Written]:
    folder, card = models.folder, models.card
    for work in works:
        for path in work.files:
            make_folder(path.parent)
            sweep_temporaries(path.parent)
            if work.is_scene or path.suffix in (".tif", polygonize.SUFFIX):
                # Written in the folder of the map; the files of images under a name of our own.
                rasters.refuse_other_than_utf8(path if work.is_scene else path.parent)
    if settings.resume:
        works = [work for work in works if not _is_finished(work, card, progress)]
    if not works:
        return []
    source = model_source.choose(
        folder,
        card,
        runtime=settings.runtime or (None if settings.ray is None else model_source.OWN),
        precision=settings.precision,
        fixed_size=(settings.tiling.tile, settings.tiling.tile),
        say=progress.say,
    )
    source = with_others(
        source,
        card,
        models.others,
        runtime=settings.runtime or (None if settings.ray is None else model_source.OWN),
        precision=settings.precision,
        say=progress.say,
    )
    settings = _with_mask_backend(settings, source, card)
    model_plan = source.plan(card)
    orders = [
        order_for(scenes[work.map], card, work, settings, model_plan, models.members())
        for work in works
        if work.is_scene
    ]
    written = list(_predict_scenes(orders, source, settings, progress))
    images = [work for work in works if not work.is_scene]
    if images:
        model, settings, method = _for_images(source, models, settings, progress)
        for work in images:
            predict_image(model, work, settings, progress, method)
            progress.say(f"{work.source} → {work.map}")
            written.append(Written(work.map, None))
    return written


@dataclass(frozen=True)
class _Models:
    """The model of the run, and those of further runs of an ensemble."""

    name: str
    folder: Path
    card: ModelCard
    others: tuple[FurtherModel, ...]

    def members(self) -> tuple[MethodMember, ...]:
        """Return what maps say of the members of an ensemble; empty where there is none."""
        if not self.others:
            return ()
        first = MethodMember(self.name, model_source.digest(self.folder))
        return (first, *(MethodMember(each.name, each.sha256) for each in self.others))


def _with_mask_backend(settings: Settings, source: ModelSource, card: ModelCard) -> Settings:
    if settings.refinement is None:
        return settings
    own = None if source.runtime is not None else card.backend
    masks = replace(settings.refinement, backend=backend_for_masks(own))
    mask_backend(masks.backend).mask_model_digest(masks.folder)  # before anything is predicted
    return replace(settings, refinement=masks)


def _for_images(
    source: ModelSource, models: _Models, settings: Settings, progress: Progress
) -> tuple[Model, Settings, PredictionMethod]:
    """Load the models; return them as one that sees ordinary images, and how it is used.

    Masks are of whole images, so that tiles are put together before them.
    """
    (card, first), *others = source.load_members()
    members = [first, *(member for _, member in others)]
    by_tiles = settings.whole_images_up_to == 0
    composition = Composition(
        settings.augmentation, settings.tiling if by_tiles else None, settings.refinement
    )
    method = method_of(composition, models.members())
    sized = any(member.image_size is not None for member in members)
    if by_tiles and sized:
        progress.say(
            "a model was trained on images resized to its image size; tiles are taken at the "
            "images' own scale"
        )
    if composition.takes_own_size(members):
        card = replace(card, image_size=None)
    if composition.masks is None and (by_tiles or not sized):
        # `predicted_rows` cuts the tiles, with memory for some rows of the image alone.
        shown = [replace(member, image_size=None) for member in members]
        composition = replace(composition, tiling=None)
        return Model(card, composition.of(shown, card.label_map, progress.say)), settings, method
    if composition.takes_own_size(members):
        settings = replace(settings, whole_images_up_to=_ANY_SIZE)
    return Model(card, composition.of(members, card.label_map, progress.say)), settings, method


def _is_finished(work: Work, card: ModelCard, progress: Progress) -> bool:
    """Tell whether all that is asked for is there; what is not is made, and the map again.

    What needs no prediction, as beside maps of earlier versions, is written at once.
    """
    if work.is_finished:
        if work.areas is not None and not work.areas.exists():
            with replacing(work.areas) as temporary:
                class_areas.write(temporary, class_areas.of_map(work.map))
            progress.say(f"{work.map} → {work.areas}")
        if work.style is not None and not work.style.exists():
            with replacing(work.style) as temporary:
                qgis_styles.write_map_style(temporary, card.label_map)
            progress.say(f"{work.map} → {work.style}")
        progress.say(f"{work.map} was finished before")
    elif work.missing and work.map.exists():
        lacking = ", ".join(path.name for path in work.missing)
        progress.say(f"{work.map} was finished before, without {lacking}: it is made again")
    return work.is_finished


def _say_what_does_nothing(works: Sequence[Work], settings: Settings, progress: Progress) -> None:
    """Name the options that do nothing for ordinary images."""
    if all(work.is_scene for work in works):
        return
    idle = {
        "--cog": settings.cloud_optimised,
        "--workers": (settings.workers or 1) > 1,
        "--ray": settings.ray is not None,
        "--bands": bool(settings.bands),
        "--plane": bool(settings.plane),
    }
    given = [name for name, is_given in idle.items() if is_given]
    if given:
        progress.say(
            f"{' and '.join(given)} {'do' if len(given) > 1 else 'does'} nothing for images that "
            "are no GeoTIFF: their maps are PNG, made one after the other in this process, of the "
            "bands as they are"
        )


def scene_unlike_training(scene: Scene, card: ModelCard) -> str | None:
    """Say whether the values of a scene are far from those of training, by some windows of it.

    Raises:
        DataError: as `rasters.read_stack`.
    """
    files = (*scene.files, *(mask.path for mask in scene.masks))
    if any(isinstance(path, RemotePath) for path in files):  # each window would be a request
        return None
    size, side = scene.info, _SAMPLE_SIDE
    windows = [
        (row, column, min(side, size.rows - row), min(side, size.columns - column))
        for row in _spread(size.rows, side)
        for column in _spread(size.columns, side)
    ]
    mean_C, std_C = moments(map(scene.read, windows), len(card.bands))
    return radiometry.unlike_training(card.bands, mean_C, std_C) if mean_C.any() else None


def _spread(length: int, side: int) -> list[int]:
    """Return the beginnings of up to `_SAMPLES_ACROSS` windows, evenly spaced along an axis."""
    last = max(length - side, 0)
    return sorted({last * number // (_SAMPLES_ACROSS - 1) for number in range(_SAMPLES_ACROSS)})


def order_for(
    scene: Scene,
    card: ModelCard,
    work: Work,
    settings: Settings,
    model: Sequence[str],
    members: tuple[MethodMember, ...] = (),
) -> MapOrder:
    """Return what is to be made of a scene.

    Args:
        scene: what to look at.
        card: what the model is.
        work: what to write where.
        settings: see `Settings`.
        model: what tells the model from any other, which a resume must find unchanged.
        members: of an ensemble, for a tag of the map; empty: there is none.
    """
    plan = {
        "format": _FORMAT,
        **_pixels_plan(scene),
        "rules": [scene.rules.nodata_rule, scene.rules.apply_scale, scene.rules.alpha],
        "model": list(model),
        "classes": list(card.label_map.names),
        "tiling": settings.tiling.model_dump(mode="json"),
        "probabilities": work.probabilities is not None,
        "uncertainty": settings.uncertainty,
        "augmentation": settings.augmentation,
        "area": None if scene.area is None else scene.area.digest,
    }
    if settings.refinement is not None:
        plan["refinement"] = settings.refinement.record()
    return MapOrder(
        scene,
        card.label_map,
        work,
        settings.tiling,
        plan,
        settings.cloud_optimised,
        settings.layer_per_class,
        settings.min_area,
        settings.sieve_map,
        settings.uncertainty,
        settings.augmentation,
        settings.refinement,
        method_of(Composition(settings.augmentation, None, settings.refinement), members),
    )


def _pixels_plan(scene: Scene) -> dict[str, object]:
    """Return what the pixels of a scene depend on, besides the rules of reading.

    What it has none of is not named: maps that were begun before there was any go on.
    """
    plan: dict[str, object] = {}
    if len(scene.parts) == 1 and scene.files == (scene.parts[0].path,):  # as ever
        plan["scene"] = _fingerprint(scene.path)
        plan["bands"] = list(scene.parts[0].bands or ())
        if scene.grid is not None and scene.parts[0].resampling is not None:
            plan["resampling"] = scene.parts[0].resampling
    else:
        numbers = {path: number for number, path in enumerate(scene.files)}
        plan["scene"] = [_fingerprint(path) for path in scene.files]
        plan["bands"] = [
            [numbers[part.path], list(part.bands or ()), part.resampling, part.onto is not None]
            for part in scene.parts
        ]
    if scene.grid is not None:  # a product, at one of its resolutions
        plan["grid"] = [scene.grid.rows, scene.grid.columns]
    if scene.rules.derivation is not None:
        plan["derived"] = scene.rules.derivation.as_plan()
    planes = [
        list(map(list, path.plane)) for path in scene.files if isinstance(path, PermittedPath)
    ]
    if any(planes):
        plan["planes"] = planes
    if scene.masks:
        plan["masks"] = [_mask_plan(mask) for mask in scene.masks]
    return plan


def _mask_plan(mask: rasters.MaskPart) -> list[Any]:
    rule = {name: list(numbers) for name, numbers in mask.rule._asdict().items() if numbers}
    return [_fingerprint(mask.path), mask.band, rule, mask.onto is not None]


def _fingerprint(path: Path) -> list[str | int]:
    if isinstance(path, RemotePath):
        return [path.gdal_name]
    found: list[str | int] = []
    for file in rasters.files_behind(path):
        stat = file.stat()
        found += [str(Path(str(file)).resolve()), stat.st_size, stat.st_mtime_ns]
    return found


def _predict_scenes(
    orders: Sequence[MapOrder], source: ModelSource, settings: Settings, progress: Progress
) -> Iterator[Written]:
    if not orders:
        return
    counter = _RowsDone(progress, sum(map(_tile_rows, orders)), sum(map(_pixels, orders)))
    with _executor(source, settings, counter.row_done, progress.say) as executor:
        for order, tally in map_writer.make_maps(
            orders, executor, resume=settings.resume, begun=counter.map_begun
        ):
            if not tally.pixels_K.any():
                progress.say(_without_data(order, tally, settings))
            progress.say(f"{order.scene.title} → {order.out}")
            yield Written(order.out, tally, order.work.areas)


def _without_data(order: MapOrder, tally: Tally, settings: Settings) -> str:
    scene, masked = order.scene.title, " or masked" if order.scene.masks else ""
    if settings.area is not None:
        but = " that no mask takes away" if masked else ""
        return (
            f"warning SEG-D023: {scene} holds no data{but} inside {settings.area}, nor does the map"
        )
    return (
        f"warning SEG-D023: {scene} holds no data: all {tally.nodata} pixels are nodata "
        f"({order.scene.info.nodata}){masked}, and so is the map"
    )


@contextmanager
def _executor(
    source: ModelSource,
    settings: Settings,
    row_done: Callable[[], None],
    say: Callable[[str], None],
) -> Iterator[Executor]:
    if settings.ray is not None:
        from terrazzo.inference.ray_pool import RayPool

        with RayPool(settings.ray, source, settings.workers, row_done) as actors:
            yield actors
    elif settings.workers is not None and settings.workers > 1:
        from terrazzo.inference.process_pool import ProcessPool

        with ProcessPool(source, settings.workers, row_done, say) as workers:
            yield workers
    else:
        yield ThisProcess(source.load()[1], row_done, say=say)


@dataclass
class _RowsDone:
    """Counts rows of tiles over all scenes, and how fast they are.

    Attributes:
        progress: is told.
        total: rows of tiles of all scenes.
        pixels: of all scenes that are predicted.
        clock: tells seconds.
    """

    progress: Progress
    total: int
    pixels: int
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    _before: int = 0  # rows of tiles that another process has done
    _begun: float | None = None

    def row_done(self) -> None:
        # Bands and resumes do a row of tiles again, so the end may come early.
        self.done = min(self.done + 1, self.total)
        self._show()

    def map_begun(self, making: MapInProgress) -> None:
        finished, rows = making.rows.finished_rows, making.order.scene.info.rows
        if finished:
            before = _tile_rows(making.order) * finished // rows
            self.done += before
            self._before += before
            self.progress.say(f"resuming with {finished} of {rows} rows finished")
        if self._begun is None:
            self._begun = self.clock()
        self._show()  # so that the pace has a beginning

    def _show(self) -> None:
        seconds = 0.0 if self._begun is None else self.clock() - self._begun
        megapixels = self.pixels * (self.done - self._before) / max(self.total, 1) / 1e6
        speed = f"  {megapixels / seconds:.2f} Mpx/s" if megapixels > 0 and seconds > 0 else ""
        self.progress.advance(self.done, self.total, f"predict{speed}")


def _tile_rows(order: MapOrder) -> int:
    """Count the rows of tiles that hold a pixel to predict."""
    rows = order.tiling.shares(order.scene.info.rows)
    return sum(touches(order.scene.area, row) for row in rows)


def _pixels(order: MapOrder) -> int:
    """Count the pixels of these rows, between the first and the last column to predict."""
    rows, area = order.tiling.shares(order.scene.info.rows), order.scene.area
    first, last = (0, order.scene.info.columns) if area is None else area.columns
    finals = zip(rows, first_open(rows), strict=True)
    return (last - first) * sum(final - r.first for r, final in finals if touches(area, r))
