"""``terrazzo predict``: a trained model over GeoTIFF scenes, pictures and folders of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo import engine, evaluation, images, model_folder, rasters, runs, scene
from terrazzo.augment import resize_image
from terrazzo.datasets._pairs import RASTER_SUFFIXES
from terrazzo.errors import CheckpointError, ConfigError, DataError
from terrazzo.model_folder import ModelCard
from terrazzo.progress import Progress
from terrazzo.row_journal import Layer, RowJournal, has_rows
from terrazzo.runs import RunFolder
from terrazzo.scene import Scene, Tally, Tiling
from terrazzo.trainer import Trainer

_NAMELESS = re.compile(r"band \d+")
_OVERLAY = 0.5  # share of the class colours in an overlay
_FORMAT = 1  # of what a journal holds; raise it when rows would come out differently


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line may ask for.

    Attributes:
        tiling: windows and their blending, for scenes.
        bands: names, or numbers from 1, of the scene's bands in the model's order; empty: all.
        probabilities: also write the probabilities of all classes.
        cloud_optimised: write cloud optimised GeoTIFF, with overviews.
        resume: go on with what was begun; maps that are there are left alone.
        overwrite: replace what is there.
    """

    tiling: Tiling = field(default_factory=Tiling)
    bands: tuple[str, ...] = ()
    probabilities: bool = False
    cloud_optimised: bool = False
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """One map: where it is, and what is on it; no tally for an ordinary picture."""

    path: Path
    tally: Tally | None


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

    Args:
        run_folder: a run, or its ``model/``.
        inputs: files, or folders whose pictures and GeoTIFF files are taken, sub-folders included.
        out: a file or a folder.
        settings: see `Settings`.
        progress: told how far it is.

    Raises:
        TerrazzoError: of every kind; see `predict_scene` and `images.read_image`.
    """
    files = list(_files(inputs))
    pairs = list(_outputs(files, out))
    _refuse_clashes(pairs, settings)
    folder = RunFolder(run_folder).model
    folder = folder if folder.is_dir() else run_folder
    card = model_folder.read_card(folder)
    scenes = {
        source: _scene(source, card, settings.bands) for source, _ in pairs if _is_tif(source)
    }
    card, trainer = model_folder.load(folder)
    if scenes and card.image_size is not None:
        progress.say(
            "the model was trained on pictures resized to "
            f"{card.image_size[0]}×{card.image_size[1]}; scenes are taken at their own scale"
        )
    written = []
    for source, target in pairs:
        if settings.resume and target.exists():
            progress.say(f"{target} was finished before")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source in scenes:
            tally = predict_scene(
                trainer, card, folder, scenes[source], target, settings, progress=progress
            )
            written.append(Written(target, tally))
        else:
            predict_picture(trainer, card, source, target)
            written.append(Written(target, None))
        progress.say(f"{source} → {target}")
    return written


def predict_scene(
    trainer: Trainer,
    card: ModelCard,
    model: Path,
    source: Scene,
    out: Path,
    settings: Settings,
    *,
    progress: Progress,
) -> Tally:
    """Write the map of one scene on the scene's own grid; it appears complete or not at all.

    Kill it at any moment and call it again with `resume`: the bytes are those of a map that was
    never interrupted.

    Args:
        trainer: the model.
        card: what the model is.
        model: its folder, whose weights a resume must find unchanged.
        source: the scene and its bands.
        out: a path ending in ``.tif``.
        settings: see `Settings`.
        progress: told after every row of windows.

    Raises:
        DataError: the scene cannot be read, or holds no data.
        CheckpointError: SEG-C002, `out` or the beginnings of it exist; SEG-C011, they were begun
            with other settings, another model or another scene.
        ResourceError: SEG-R004 the disk is full; SEG-C009 another process makes this map.
    """
    size, label_map = source.info, card.label_map
    layers = [Layer("labels", (size.columns,), str(label_map.dtype))]
    if settings.probabilities:
        layers.append(Layer("probabilities", (size.columns, len(label_map)), "float32"))
    place = _journal_folder(out)
    plan = _plan(card, model, source, settings, trainer.device)
    if settings.resume and has_rows(place):
        journal = RowJournal.reopen(place, plan, tuple(layers))
        progress.say(f"resuming after row {journal.rows} of {size.rows}")
    else:
        journal = RowJournal.create(place, plan, tuple(layers))
    with runs.locked(RunFolder(place)):
        tally = scene.predict_rows(
            trainer,
            source,
            len(label_map),
            settings.tiling,
            journal,
            nodata=label_map.ignore_index,
            progress=progress,
        )
        finished = _write_maps(journal, source, card, out, settings)
        for temporary, final in finished:
            temporary.rename(final)
    journal.delete()
    return tally


def predict_picture(trainer: Trainer, card: ModelCard, source: Path, out: Path) -> None:
    """Write the map of one ordinary picture as PNG, and an overlay on the picture beside it.

    Raises:
        DataError: as `images.read_image`; SEG-D019 and SEG-D020 the picture is not of the kind the
            model knows.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    image_HWC = images.read_image(source)
    _check_pixels(source, image_HWC.shape[2], str(image_HWC.dtype), card)
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


def _write_maps(
    journal: RowJournal, source: Scene, card: ModelCard, out: Path, settings: Settings
) -> list[tuple[Path, Path]]:
    """Write GeoTIFF files inside the journal; return them with their places, the map last."""
    label_map, size = card.label_map, source.info
    tags = {"TERRAZZO_CLASSES": json.dumps(list(label_map.names), ensure_ascii=False)}
    tags |= {f"CLASS_{k}": name for k, name in enumerate(label_map.names)}
    written = []
    if settings.probabilities:
        path = journal.folder / "probabilities.tif"
        rasters.write_rows(
            path,
            size,
            (np.moveaxis(g, 2, 0) for g in journal.groups("probabilities", rasters.BLOCK)),
            dtype="float32",
            nodata=float("nan"),
            band_names=label_map.names,
            tags=tags,
            cloud_optimised=settings.cloud_optimised,
        )
        written.append((path, _probabilities_of(out)))
    path = journal.folder / "map.tif"
    rasters.write_rows(
        path,
        size,
        (group_RW[None] for group_RW in journal.groups("labels", rasters.BLOCK)),
        dtype=str(label_map.dtype),
        nodata=label_map.ignore_index,
        band_names=("class",),
        colours_K3=label_map.colours,
        tags=tags,
        cloud_optimised=settings.cloud_optimised,
    )
    written.append((path, out))
    return written


def _plan(
    card: ModelCard, model: Path, source: Scene, settings: Settings, device: str
) -> dict[str, object]:
    """Return all that the rows depend on, as JSON holds it."""
    stat = source.path.stat()
    with (model / "weights.safetensors").open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "format": _FORMAT,
        "scene": [str(source.path.resolve()), stat.st_size, stat.st_mtime_ns],
        "bands": list(source.bands),
        "model": [card.backend, card.model.name, weights],
        "classes": list(card.label_map.names),
        "device": device,
        "tiling": settings.tiling.model_dump(mode="json"),
        "probabilities": settings.probabilities,
    }


def _scene(path: Path, card: ModelCard, chosen: tuple[str, ...]) -> Scene:
    """Find the model's bands in a scene, and refuse one that the model does not know.

    Raises:
        ConfigError: SEG-X031, `chosen` names no band.
        DataError: as `rasters.info`; SEG-D019 another type of pixel; SEG-D020 other bands.
    """
    info = rasters.info(path)
    bands = tuple(_position(path, word, info.band_names) for word in chosen) or tuple(
        range(info.bands)
    )
    _check_pixels(path, len(bands), info.dtype, card)
    names, wanted = tuple(info.band_names[band] for band in bands), card.bands.names
    named = not any(map(_NAMELESS.fullmatch, (*names, *wanted)))
    if not chosen and named and names != wanted:
        raise DataError(
            "SEG-D020",
            "the bands of the scene are not those of the model, or in another order",
            file=path,
            observed=", ".join(names),
            allowed=", ".join(wanted),
            next_step="name the scene's bands in the model's order: --bands " + ",".join(wanted),
        )
    return Scene(path, bands)


def _position(path: Path, word: str, names: tuple[str, ...]) -> int:
    if word in names:
        return names.index(word)
    if word.isdigit() and 1 <= int(word) <= len(names):
        return int(word) - 1
    raise ConfigError(
        "SEG-X031",
        f"--bands: no band {word!r} in the scene",
        file=path,
        observed=word,
        allowed=", ".join(names) + f", or numbers in 1…{len(names)}",
        next_step="name the scene's bands in the order of the model's",
    )


def _check_pixels(path: Path, num_bands: int, dtype: str, card: ModelCard) -> None:
    if num_bands != len(card.bands):
        raise DataError(
            "SEG-D020",
            "the picture has another number of bands than the model",
            file=path,
            observed=f"{num_bands} bands",
            allowed=f"{len(card.bands)} ({', '.join(card.bands.names)})",
            next_step="choose the bands of a GeoTIFF with --bands, e.g. --bands "
            + ",".join(map(str, range(1, len(card.bands) + 1))),
        )
    if dtype != card.bands.dtype:
        raise DataError(
            "SEG-D019",
            "the picture has another type of pixel than the model was trained on",
            file=path,
            observed=dtype,
            allowed=card.bands.dtype,
            next_step="convert it with the scale of the training pictures",
        )


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


def _outputs(files: list[tuple[Path, Path]], out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file with the place of its map."""
    if out.suffix.lower() in RASTER_SUFFIXES:
        (source, _), *more = files
        if more or not _is_tif(source):
            raise ConfigError(
                "SEG-X032",
                "--out names one GeoTIFF",
                observed=f"{len(files)} inputs, the first one {source}",
                allowed="one GeoTIFF scene, or a folder in --out",
                next_step="name a folder with --out DIR",
            )
        yield source, out
        return
    for source, name in files:
        yield source, out / name.with_suffix(".tif" if _is_tif(source) else ".png")


def _refuse_clashes(pairs: list[tuple[Path, Path]], settings: Settings) -> None:
    """Refuse whatever would destroy a file, before a model is loaded.

    Raises:
        ConfigError: SEG-X032, an output is an input or two outputs are one.
        CheckpointError: SEG-C002, an output or its beginnings exist.
    """
    inputs = {source.resolve() for source, _ in pairs}
    outputs = [target.resolve() for _, target in pairs]
    for source, target in pairs:
        if target.resolve() in inputs or outputs.count(target.resolve()) > 1:
            raise ConfigError(
                "SEG-X032",
                "the map would replace an input or another map",
                file=target,
                observed=f"the map of {source}",
                next_step="choose another place with --out",
            )
        if settings.overwrite or settings.resume:
            continue
        if target.exists() or has_rows(_journal_folder(target)):
            raise CheckpointError(
                "SEG-C002",
                "the map exists" if target.exists() else "the map was begun and not finished",
                file=target,
                next_step="--overwrite replaces it, --out takes another place"
                if target.exists()
                else "--resume goes on with it, --overwrite begins anew",
            )


def _journal_folder(out: Path) -> Path:
    return out.with_name(f".{out.name}.partial")


def _probabilities_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_probabilities{out.suffix}")


def _overlay_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_overlay.png")


def _is_tif(path: Path) -> bool:
    return path.suffix.lower() in RASTER_SUFFIXES
