"""What a prediction is asked for, and every file it will write, named before any is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.data.datasets._paired_files import RASTER_SUFFIXES, is_raster
from terrazzo.inference import polygonize
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.inference.unfinished_map import folder_of, has_rows
from terrazzo.io import images
from terrazzo.io.folders import walk_files


@dataclass(frozen=True, slots=True)
class Settings:
    """How files are predicted, and what is written of them.

    Attributes:
        tiling: tiles and their blending, for scenes and large images.
        whole_images_up_to: pixels of an ordinary image that is predicted at once; a larger one is
            cut into tiles as scenes are.
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
    whole_images_up_to: int = 1 << 22
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
class Work:
    """One input with the places of all that is made of it.

    Attributes:
        source: a GeoTIFF scene, or an ordinary image.
        map: classes; a GeoTIFF, or PNG of an ordinary image.
        polygons: of the classes, those of an ordinary image in pixels; None: not asked for.
        probabilities: of all classes, a GeoTIFF; None: not asked for.
        overlay: of the map on an ordinary image; None for a scene.
    """

    source: Path
    map: Path
    polygons: Path | None = None
    probabilities: Path | None = None
    overlay: Path | None = None

    @property
    def is_scene(self) -> bool:
        """Whether the input is a GeoTIFF."""
        return self.overlay is None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that will be written, the map first."""
        others = (self.polygons, self.probabilities, self.overlay)
        return (self.map, *(path for path in others if path is not None))

    @property
    def missing(self) -> tuple[Path, ...]:
        """Those of the files that are not there."""
        return tuple(path for path in self.files if not path.exists())


def plan_outputs(inputs: Sequence[Path], out: Path, settings: Settings) -> list[Work]:
    """Name every file that will be written, and refuse whatever would destroy one.

    Args:
        inputs: files, or folders whose images and GeoTIFF files are taken.
        out: a path ending in ``.tif`` for one scene, otherwise a folder.
        settings: what is asked for.

    Raises:
        ConfigError: SEG-X032, `out` or the place of polygons does not fit the inputs, an output is
            an input, or two outputs are one; SEG-X003, what writes polygons is not installed.
        CheckpointError: SEG-C002, an output or its beginnings exist.
        DataError: SEG-D016, a folder holds nothing to predict.
    """
    works = list(_works(list(_files(inputs)), out, settings))
    _refuse_clashes(works, settings)
    return works


def _files(inputs: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield each file with the name its map gets."""
    suffixes = (*RASTER_SUFFIXES, *images.IMAGE_SUFFIXES)
    for path in inputs:
        if path.is_dir():
            found = sorted(
                path / lead / name
                for lead, names in walk_files(path)
                for name in names
                if Path(name).suffix.lower() in suffixes
            )
            if not found:
                raise DataError(
                    "SEG-D016",
                    "there is nothing to predict in the folder",
                    file=path,
                    allowed=", ".join(suffixes),
                    next_step="name a folder of images or GeoTIFF files",
                )
            yield from ((p, p.relative_to(path)) for p in found)
        else:
            yield path, Path(path.name)


def _works(files: list[tuple[Path, Path]], out: Path, settings: Settings) -> Iterator[Work]:
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
            polygonize.require_extra(settings.polygons)
        yield _scene(source, out, settings.polygons, settings)
        return
    if settings.polygons is not None:
        polygonize.require_extra(settings.polygons / f"any{polygonize.SUFFIX}")
    for source, name in files:
        polygons = settings.polygons and settings.polygons / name.with_suffix(polygonize.SUFFIX)
        scene_map = out / name.with_suffix(".tif")
        if is_raster(source):
            yield _scene(source, scene_map, polygons, settings)
        else:
            probabilities = _beside(scene_map, "probabilities") if settings.probabilities else None
            map_path = out / name.with_suffix(".png")
            yield Work(source, map_path, polygons, probabilities, _beside(map_path, "overlay"))


def _scene(source: Path, map_path: Path, polygons: Path | None, settings: Settings) -> Work:
    probabilities = _beside(map_path, "probabilities") if settings.probabilities else None
    return Work(source, map_path, polygons, probabilities)


def _beside(map_path: Path, what: str) -> Path:
    return map_path.with_name(f"{map_path.stem}_{what}{map_path.suffix}")


def _refuse_clashes(works: list[Work], settings: Settings) -> None:
    inputs = {work.source.resolve() for work in works}
    outputs = Counter(path.resolve() for work in works for path in work.files)
    for work in works:
        for path in work.files:
            if path.resolve() in inputs or outputs[path.resolve()] > 1:
                raise ConfigError(
                    "SEG-X032",
                    "the map would replace an input or another map",
                    file=path,
                    observed=f"the map of {work.source}",
                    next_step="choose another place with --out",
                )
        if settings.overwrite or settings.resume:
            continue
        there = next((path for path in work.files if path.exists()), None)
        if there is not None or has_rows(folder_of(work.map)):
            raise CheckpointError(
                "SEG-C002",
                "the map exists" if there else "the map was begun and not finished",
                file=there or work.map,
                next_step="--overwrite replaces it, --out takes another place"
                if there
                else "--resume goes on with it, --overwrite begins anew",
            )
