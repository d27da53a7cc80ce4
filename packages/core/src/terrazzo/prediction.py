"""``terrazzo predict``: a trained model over GeoTIFF scenes, pictures and folders of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo import engine, evaluation, images, map_making, model_folder, model_input, polygons
from terrazzo.augment import resize_image
from terrazzo.band_task import Alone, Crew
from terrazzo.datasets._pairs import RASTER_SUFFIXES, is_raster
from terrazzo.errors import CheckpointError, ConfigError, DataError
from terrazzo.map_making import MapInProgress, MapOrder
from terrazzo.model_folder import ModelCard
from terrazzo.partial_map import has_rows
from terrazzo.progress import Progress
from terrazzo.remote import RemotePath
from terrazzo.runs import RunFolder
from terrazzo.scene import Scene, Tally, Tiling
from terrazzo.trainer import Trainer

_OVERLAY = 0.5  # share of the class colours in an overlay
_FORMAT = 2  # of what a journal holds; raise it when rows would come out differently


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line may ask for.

    Attributes:
        tiling: windows and their blending, for scenes.
        bands: names, or numbers from 1, of the scene's bands in the model's order; empty: all.
        probabilities: also write the probabilities of all classes.
        cloud_optimised: write cloud optimised GeoTIFF, with overviews.
        polygons: also write polygons: a GeoPackage for one map, a folder for several.
        any_pixel_size: take pixels of another size on the ground than those of training.
        workers: processes that share the rows of scenes; None: one, or all of a Ray cluster.
        ray: address of a Ray cluster, whose actors are the workers.
        resume: go on with what was begun; maps that are there are left alone.
        overwrite: replace what is there.
    """

    tiling: Tiling = field(default_factory=Tiling)
    bands: tuple[str, ...] = ()
    probabilities: bool = False
    cloud_optimised: bool = False
    polygons: Path | None = None
    any_pixel_size: bool = False
    workers: int | None = None
    ray: str | None = None
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """One map: where it is, and what is on it; no tally for an ordinary picture."""

    path: Path
    tally: Tally | None


@dataclass(frozen=True, slots=True)
class _Work:
    """One input with the places of what is made of it; no polygons of a picture."""

    source: Path
    out: Path
    polygons: Path | None

    @property
    def outputs(self) -> tuple[Path, ...]:
        return (self.out,) if self.polygons is None else (self.out, self.polygons)


def predict(
    run_folder: Path,
    inputs: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    progress: Progress,
) -> list[Written]:
    """Predict every scene and picture.

    One GeoTIFF and an `out` that ends in ``.tif`` make one map; otherwise `out` is a folder that
    gets a map for each input, GeoTIFF for GeoTIFF, and PNG with an overlay beside it for pictures.

    Maps of scenes appear complete or not at all. Kill this at any moment and call it again with
    `resume`: the bytes are those of maps that were never interrupted.

    Args:
        run_folder: a run, or its ``model/``.
        inputs: files, or folders whose pictures and GeoTIFF files are taken, sub-folders included.
        out: a file or a folder.
        settings: see `Settings`.
        progress: told how far it is.

    Returns:
        Maps of scenes and then of pictures, without those that were finished before.

    Raises:
        TerrazzoError: of every kind; see `map_making` and `images.read_image`.
    """
    works = list(_works(list(_files(inputs)), out, settings))
    _refuse_clashes(works, settings)
    folder = RunFolder(run_folder).model
    folder = folder if folder.is_dir() else run_folder
    card = model_folder.read_card(folder)
    scenes = {
        work.source: model_input.scene_for(
            work.source, card, settings.bands, any_pixel_size=settings.any_pixel_size
        )
        for work in works
        if is_raster(work.source)
    }
    if scenes and card.image_size is not None:
        progress.say(
            "the model was trained on pictures resized to "
            f"{card.image_size[0]}×{card.image_size[1]}; scenes are taken at their own scale"
        )
    for work in works:
        if settings.resume and work.out.exists():
            progress.say(f"{work.out} was finished before")
        for path in work.outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
    works = [work for work in works if not (settings.resume and work.out.exists())]
    model = _plan_of_model(card, folder)
    orders = [
        order_for(scenes[work.source], card, work.out, settings, model, work.polygons)
        for work in works
        if work.source in scenes
    ]
    written = [Written(*made) for made in _predict_scenes(orders, folder, settings, progress)]
    pictures = [work for work in works if work.source not in scenes]
    if pictures:
        card, trainer = model_folder.load(folder)
        for work in pictures:
            predict_picture(trainer, card, work.source, work.out)
            progress.say(f"{work.source} → {work.out}")
            written.append(Written(work.out, None))
    return written


def order_for(
    scene: Scene,
    card: ModelCard,
    out: Path,
    settings: Settings,
    model: Sequence[str],
    polygons_to: Path | None = None,
) -> MapOrder:
    """Return what is to be made of a scene.

    Args:
        scene: what to look at.
        card: what the model is.
        out: a path ending in ``.tif``.
        settings: see `Settings`.
        model: what tells the model from any other, which a resume must find unchanged.
        polygons_to: a GeoPackage to write too.
    """
    plan = {
        "format": _FORMAT,
        "scene": _fingerprint(scene.path),
        "bands": list(scene.bands),
        "model": list(model),
        "classes": list(card.label_map.names),
        "tiling": settings.tiling.model_dump(mode="json"),
        "probabilities": settings.probabilities,
    }
    return MapOrder(
        scene,
        card.label_map,
        out,
        settings.tiling,
        plan,
        settings.probabilities,
        settings.cloud_optimised,
        polygons_to,
    )


def _plan_of_model(card: ModelCard, folder: Path) -> tuple[str, ...]:
    with (folder / "weights.safetensors").open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return card.backend, card.model.name, weights


def _fingerprint(path: Path) -> list[str | int]:
    if isinstance(path, RemotePath):
        return [path.gdal_name]
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _predict_scenes(
    orders: Sequence[MapOrder], folder: Path, settings: Settings, progress: Progress
) -> Iterator[tuple[Path, Tally]]:
    if not orders:
        return
    counter = _RowsDone(progress, sum(_windows_down(order) for order in orders))
    with _crew(folder, settings, counter.row_done) as crew:
        for order, tally in map_making.make_maps(
            orders, crew, resume=settings.resume, begun=counter.map_begun
        ):
            progress.say(f"{order.scene.path} → {order.out}")
            yield order.out, tally


@contextmanager
def _crew(folder: Path, settings: Settings, row_done: Callable[[], None]) -> Iterator[Crew]:
    if settings.ray is not None:
        from terrazzo.ray_cluster import RayActors

        with RayActors(settings.ray, folder, settings.workers, row_done) as actors:
            yield actors
    elif settings.workers is not None and settings.workers > 1:
        from terrazzo.workers import Workers

        with Workers(folder, settings.workers, row_done) as workers:
            yield workers
    else:
        yield Alone(model_folder.load(folder)[1], row_done)


@dataclass
class _RowsDone:
    """Counts rows of windows over all scenes."""

    progress: Progress
    total: int
    done: int = 0

    def row_done(self) -> None:
        # Bands and resumes do a row of windows again, so the end may come early.
        self.done = min(self.done + 1, self.total)
        self.progress.advance(self.done, self.total, "predict")

    def map_begun(self, making: MapInProgress) -> None:
        finished, rows = making.rows.finished_rows, making.order.scene.info.rows
        if finished:
            self.done += _windows_down(making.order) * finished // rows
            self.progress.say(f"resuming with {finished} of {rows} rows finished")


def _windows_down(order: MapOrder) -> int:
    return len(order.tiling.shares(order.scene.info.rows))


def predict_picture(trainer: Trainer, card: ModelCard, source: Path, out: Path) -> None:
    """Write the map of one ordinary picture as PNG, and an overlay on the picture beside it.

    Raises:
        DataError: as `images.read_image`; SEG-D019 and SEG-D020 the picture is not of the kind the
            model knows.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    image_HWC = images.read_image(source)
    model_input.require_pixels(source, image_HWC.shape[2], str(image_HWC.dtype), card)
    size = image_HWC.shape[:2]
    seen_HWC = image_HWC if card.image_size is None else resize_image(image_HWC, card.image_size)
    if seen_HWC.shape[:2] == size:
        labels_HW: NDArray[np.generic] = trainer.predict_labels(seen_HWC[None])[0]
    else:
        labels_HW = engine.resample_labels(trainer.predict(seen_HWC[None])[0], size)
    images.write_png(out, labels_HW)
    colours_HWC = card.label_map.colourise(labels_HW)
    shown_HWC = evaluation.as_rgb(image_HWC)
    overlay_HWC = cv2.addWeighted(shown_HWC, 1 - _OVERLAY, colours_HWC, _OVERLAY, 0)
    images.write_png(_overlay_of(out), overlay_HWC)


def _files(inputs: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each file with the name its map gets."""
    suffixes = (*RASTER_SUFFIXES, *images.IMAGE_SUFFIXES)
    for path in inputs:
        if path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in suffixes]
            if not found:
                raise DataError(
                    "SEG-D016",
                    "there is nothing to predict in the folder",
                    file=path,
                    allowed=", ".join(suffixes),
                    next_step="name a folder of pictures or GeoTIFF files",
                )
            yield from ((p, p.relative_to(path)) for p in found)
        else:
            yield path, Path(path.name)


def _works(files: list[tuple[Path, Path]], out: Path, settings: Settings) -> Iterator[_Work]:
    """Yield each file with the places of what is made of it.

    Raises:
        ConfigError: SEG-X032, `out` or the place of polygons does not fit the inputs; SEG-X003,
            what writes polygons is not installed.
    """
    if is_raster(out):
        (source, _), *more = files
        if more or not is_raster(source):
            raise ConfigError(
                "SEG-X032",
                "--out names one GeoTIFF",
                observed=f"{len(files)} inputs, the first one {source}",
                allowed="one GeoTIFF scene, or a folder in --out",
                next_step="name a folder with --out DIR",
            )
        if settings.polygons is not None:
            polygons.require_extra(settings.polygons)
        yield _Work(source, out, settings.polygons)
        return
    if settings.polygons is not None:
        polygons.require_extra(settings.polygons / f"any{polygons.SUFFIX}")
    for source, name in files:
        if not is_raster(source):
            yield _Work(source, out / name.with_suffix(".png"), None)
            continue
        where = settings.polygons and settings.polygons / name.with_suffix(polygons.SUFFIX)
        yield _Work(source, out / name.with_suffix(".tif"), where)


def _refuse_clashes(works: list[_Work], settings: Settings) -> None:
    """Refuse whatever would destroy a file, before a model is loaded.

    Raises:
        ConfigError: SEG-X032, an output is an input or two outputs are one.
        CheckpointError: SEG-C002, an output or its beginnings exist.
    """
    inputs = {work.source.resolve() for work in works}
    outputs = [path.resolve() for work in works for path in work.outputs]
    for work in works:
        for path in work.outputs:
            if path.resolve() in inputs or outputs.count(path.resolve()) > 1:
                raise ConfigError(
                    "SEG-X032",
                    "the map would replace an input or another map",
                    file=path,
                    observed=f"the map of {work.source}",
                    next_step="choose another place with --out",
                )
        if settings.overwrite or settings.resume:
            continue
        there = next((path for path in work.outputs if path.exists()), None)
        if there is not None or has_rows(map_making.journal_folder(work.out)):
            raise CheckpointError(
                "SEG-C002",
                "the map exists" if there else "the map was begun and not finished",
                file=there or work.out,
                next_step="--overwrite replaces it, --out takes another place"
                if there
                else "--resume goes on with it, --overwrite begins anew",
            )


def _overlay_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_overlay.png")
