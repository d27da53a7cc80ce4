"""What a prediction is asked for, and every file it will write, named before any is written."""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from terrazzo.base.atomic_write import move_into_place, refuse_folder
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.output_paths import refuse_existing, refuse_inputs
from terrazzo.data.mask_files import LocatedMasks
from terrazzo.data.scene_stack import Align
from terrazzo.inference import legends, polygonize, prediction_area, qgis_styles
from terrazzo.inference.labelling import programs
from terrazzo.inference.min_area import MinArea
from terrazzo.inference.scene_files import SceneFiles
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.inference.uncertainty import Measure, require_measure
from terrazzo.inference.unfinished_map import folder_of, has_rows
from terrazzo.io import images, sentinel2
from terrazzo.io.folders import walk_files
from terrazzo.io.raster_formats import (
    RASTER_SUFFIXES,
    PermittedPath,
    Plane,
    at_plane,
    holds_raster,
    is_folder_raster,
    is_tiff,
)
from terrazzo.models.mask_refinement import MaskSettings
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.models.test_time_augmentation import Augmentation, require_augmentation

_LONGEST_CLASS = 40  # letters of a class in a file name


@dataclass(frozen=True, slots=True)
class Settings:
    """How files are predicted, and what is written of them.

    Attributes:
        tiling: tiles and their blending, for scenes and large images.
        whole_images_up_to: pixels of an ordinary image that is predicted at once; a larger one is
            cut into tiles as scenes are.
        bands: names, or numbers from 1, of the scene's bands in the model's order; empty: all.
        area: polygons outside of which nothing of a scene is predicted; None: everything is.
        area_layer: of the GeoPackage of an area with several.
        probabilities: also write the probabilities of all classes.
        uncertainty: also write how uncertain the model is of each pixel, by this measure of
            `terrazzo.inference.uncertainty`.
        augmentation: at test time, see `terrazzo.models.test_time_augmentation`; None: none.
        cloud_optimised: write cloud optimised GeoTIFF, with overviews.
        polygons: also write polygons: a GeoPackage for one map, a folder for several.
        layer_per_class: write a layer of polygons for each class in place of one.
        min_area: of a patch; smaller ones are given to a neighbour before polygons are made.
        sieve_map: do so in the map, too.
        labels_for: also write what this labelling program reads, one of `programs.NAMES`; None:
            nothing.
        contours: draw the borders of areas on the overlays of images, not their colours.
        raw_values: write the raw values of the label map on the maps of images, not train ids.
        masks: files, with what their numbers mean, that say which pixels of one scene count; the
            map has no data elsewhere.
        align: whether files of a scene, and masks, may lie on other grids than its first file;
            None: as its list says, or ``exact``.
        any_pixel_size: take pixels of another size on the ground than those of training.
        workers: processes that share the rows of scenes; None: one, or all of a Ray cluster.
        ray: address of a Ray cluster, whose actors are the workers.
        runtime: what computes the model; None: see `terrazzo.runs.model_source.choose`; on a
            cluster the framework.
        precision: of its arithmetic; None: that of training, or float32.
        ensemble: further runs, whose probabilities are averaged with those of the run.
        refinement: where probabilities are averaged inside masks at last; None: nowhere.
        plane: which plane of stacks is predicted; see `raster_formats.Plane`.
        resume: go on with what was begun; maps that are there are left alone.
        overwrite: replace what is there.
    """

    tiling: Tiling = field(default_factory=Tiling)
    whole_images_up_to: int = 1 << 22
    bands: tuple[str, ...] = ()
    area: Path | None = None
    area_layer: str | None = None
    probabilities: bool = False
    uncertainty: Measure | None = None
    augmentation: Augmentation | None = None
    cloud_optimised: bool = False
    polygons: Path | None = None
    layer_per_class: bool = False
    min_area: MinArea | None = None
    sieve_map: bool = False
    labels_for: str | None = None
    contours: bool = False
    raw_values: bool = False
    masks: LocatedMasks = ()
    align: Align | None = None
    any_pixel_size: bool = False
    workers: int | None = None
    ray: str | None = None
    runtime: str | None = None
    precision: ComputePrecision | None = None
    ensemble: tuple[Path, ...] = ()
    refinement: MaskSettings | None = None
    plane: Plane = ()
    resume: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One input with the places of all that is made of it.

    Attributes:
        source: a scene, such as a GeoTIFF or a Sentinel-2 folder, the first file of a scene of
            several, or an ordinary image.
        map: classes; a GeoTIFF, or PNG of an ordinary image.
        polygons: of the classes, those of an ordinary image in pixels; None: not asked for.
        probabilities: of all classes of a scene, a GeoTIFF; None: not asked for.
        class_probabilities: of an ordinary image, a PNG a class; empty: not asked for.
        uncertainty: of the model, a GeoTIFF, or PNG of an ordinary image; None: not asked for.
        overlay: of the map on an ordinary image; None for a scene.
        confidence: mean probabilities of the classes on an ordinary image, JSON; None: not asked
            for.
        areas: pixels, hectares and share of each class on the map of a scene, CSV; None for an
            image.
        style: by which QGIS shows the map of a scene, beside it under its name; None for an
            ordinary image.
        name: of the source in the folder that was named.
        replaces: whether files that are there may go: by ``--overwrite``, in this process or in one
            that was killed.
        scene: the files of a scene that was named by them; None: it is `source` alone.
    """

    source: Path
    map: Path
    polygons: Path | None = None
    probabilities: Path | None = None
    overlay: Path | None = None
    confidence: Path | None = None
    areas: Path | None = None
    style: Path | None = None
    name: Path = Path()
    replaces: bool = False
    scene: SceneFiles | None = None
    uncertainty: Path | None = None
    class_probabilities: tuple[Path, ...] = ()

    @property
    def is_scene(self) -> bool:
        """Whether the input is a raster."""
        return self.overlay is None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that will be written, the map first."""
        others = (
            self.polygons,
            self.probabilities,
            self.overlay,
            self.confidence,
            self.areas,
            self.style,
            self.uncertainty,
            *self.class_probabilities,
        )
        return (self.map, *(path for path in others if path is not None))

    def inside(self, folder: Path) -> Work:
        """Return the same work with all its files inside a folder, under names that differ."""

        def place(name: str, path: Path | None) -> Path | None:
            return None if path is None else folder / f"{name}{path.suffix}"

        return Work(
            self.source,
            folder / f"map{self.map.suffix}",
            place("polygons", self.polygons),
            place("probabilities", self.probabilities),
            place("overlay", self.overlay),
            place("confidence", self.confidence),
            place("areas", self.areas),
            place("style", self.style),
            uncertainty=place("uncertainty", self.uncertainty),
            class_probabilities=tuple(
                folder / f"probability_{k}{path.suffix}"
                for k, path in enumerate(self.class_probabilities)
            ),
        )

    def put_in_place(self, unfinished: Sequence[Path]) -> None:
        """Move finished files to where they belong, the map last.

        Where the very same map is there already, what is beside it stays and the rest is added.

        Args:
            unfinished: in the order of `files`.

        Raises:
            CheckpointError: SEG-C002, other files are there and may not go; nothing was moved.
            ResourceError: SEG-R004, the disk is full or refuses.
        """
        pairs = list(zip(unfinished, self.files, strict=True))
        there = [final for final in self.files if os.path.lexists(final)]
        if there and not self.replaces:
            if not _same_bytes(unfinished[0], self.map):
                raise CheckpointError(
                    "SEG-C002",
                    "another file is where a file of this prediction belongs",
                    file=there[0],
                    next_step="--overwrite replaces it, --out takes another place",
                )
            pairs = [(temporary, final) for temporary, final in pairs if final not in there]
        for temporary, final in reversed(pairs):
            move_into_place(temporary, final)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is `missing` and no file is about to be replaced."""
        return not self.missing and not folder_of(self.map).exists()

    @property
    def missing(self) -> tuple[Path, ...]:
        """Those of the files that are not there and need the model."""
        from_map = (self.areas, self.style)
        return tuple(path for path in self.files if path not in from_map and not path.exists())


class _Input(NamedTuple):
    source: Path
    name: Path
    scene: SceneFiles | None = None

    @property
    def is_scene(self) -> bool:
        return self.scene is not None or holds_raster(self.source)


def plan_outputs(
    inputs: Sequence[Path | SceneFiles],
    out: Path,
    settings: Settings,
    model: Path | None = None,
    classes: Sequence[str] = (),
) -> list[Work]:
    """Name every file that will be written, and refuse whatever would destroy one.

    Args:
        inputs: files, Sentinel-2 folders, folders whose images and rasters are taken, and scenes
            of several files.
        out: a path ending in ``.tif`` for one scene, otherwise a folder.
        settings: what is asked for.
        model: folder of the model, which is an input too; None: it lies elsewhere.
        classes: names of the K classes, for files of each.

    Raises:
        ConfigError: SEG-X100, there are no inputs; SEG-X032, `out` or the place of polygons does
            not fit the inputs, an output is an input, or two outputs are one; SEG-X003, what writes
            polygons is not installed; SEG-X094, an option has nothing to work on; SEG-X108, masks
            of several inputs; SEG-X093, the least area is on the ground and an image is not;
            SEG-X118, an area is given and an image lies nowhere; SEG-X004, no such labelling
            program, measure or augmentation; SEG-X087, it does not show a scene.
        CheckpointError: SEG-C002, an output or its beginnings exist.
        DataError: SEG-D016, a folder holds nothing to predict.
    """
    if not inputs:
        raise ConfigError(
            "SEG-X100",
            "there is nothing to predict",
            allowed="GeoTIFF files, images, folders, or --scene with a list of scenes",
            next_step="name a scene",
        )
    _refuse_idle_options(settings, any(isinstance(each, SceneFiles) for each in inputs))
    if settings.uncertainty is not None:
        require_measure(settings.uncertainty)
    if settings.augmentation is not None:
        require_augmentation(settings.augmentation)
    shared = () if settings.labels_for is None else programs.files(settings.labels_for, out)
    works = list(_works(list(_files(inputs, settings.plane)), out, settings, classes))
    if settings.masks:
        _refuse_masks_of_several(works)
    pictured = not all(work.is_scene for work in works)
    if not pictured:
        _refuse_options_of_images(settings)
    legend = legends.files(out) if pictured else ()
    for work in works:
        if settings.min_area is not None and not work.is_scene:
            settings.min_area.refuse_unknown_ground(work.source, None)
        if settings.area is not None and not work.is_scene:
            prediction_area.refuse_image(work.source)
    _refuse_clashes(works, shared, legend, model, settings)
    return [
        replace(work, replaces=settings.overwrite or folder_of(work.map).exists()) for work in works
    ]


def _refuse_masks_of_several(works: Sequence[Work]) -> None:
    """Refuse masks that are not of one scene: they lie where that one does."""
    if len(works) != 1 or not works[0].is_scene:
        raise ConfigError(
            "SEG-X108",
            "--mask is of one scene",
            observed=f"{len(works)} inputs"
            if len(works) != 1
            else f"{works[0].source}, which is no GeoTIFF",
            allowed="one GeoTIFF scene, or one scene of a list",
            next_step="predict the scenes one by one, each with its own masks, or give each its "
            "`mask` in a scenes.toml for --scene",
        )


def _refuse_idle_options(settings: Settings, has_sets: bool) -> None:
    """Refuse options that change what is not asked for."""
    given = settings.min_area is not None
    if settings.layer_per_class and settings.polygons is None:
        raise _idle("--layer-per-class", "--polygons")
    if settings.area_layer is not None and settings.area is None:
        raise _idle("--area-layer", "--area")
    if settings.sieve_map and not given:
        raise _idle("--sieve-map", "--min-area")
    if given and settings.polygons is None and not settings.sieve_map:
        raise _idle("--min-area", "--polygons or --sieve-map")
    if settings.align is not None and not (has_sets or settings.masks):
        raise _idle("--align", "--scene or --mask")
    if settings.raw_values and settings.labels_for is not None:
        raise ConfigError(
            "SEG-X094",
            "--labels-for is made from train ids, which --raw-values replaces",
            observed="--raw-values with --labels-for",
            allowed="one of the two",
            next_step="leave one of them out, or predict twice, into two folders",
        )


def _refuse_options_of_images(settings: Settings) -> None:
    for option, is_given in (
        ("--raw-values", settings.raw_values),
        ("--contours", settings.contours),
    ):
        if is_given:
            raise _idle(option, "images that are no GeoTIFF")


def _idle(option: str, needs: str) -> ConfigError:
    return ConfigError(
        "SEG-X094",
        f"{option} has nothing to work on",
        observed=f"{option} without {needs}",
        allowed=f"{option} with {needs}",
        next_step=f"add {needs}, or leave {option} out",
    )


def _files(inputs: Sequence[Path | SceneFiles], plane: Plane) -> Iterator[_Input]:
    """Yield each file or scene with the name its map gets."""
    suffixes = (*RASTER_SUFFIXES, *images.IMAGE_SUFFIXES)
    for path in inputs:
        if isinstance(path, SceneFiles):
            path = path.at_plane(plane)
            # Names have no ending: `with_suffix` would take the part behind a dot for one.
            yield _Input(path.files[0].path, path.name.with_name(f"{path.name.name}.tif"), path)
            continue
        if sentinel2.is_zipped(path):
            raise sentinel2.refused_zip(path)
        if path.is_dir() and not is_folder_raster(path):
            found = sorted(
                path / lead / name
                for lead, names in walk_files(path)
                if not sentinel2.is_inside(lead)
                for name in names
                if Path(name).suffix.lower() in suffixes or sentinel2.is_product(path / lead / name)
            )
            if not found:
                raise DataError(
                    "SEG-D016",
                    "there is nothing to predict in the folder",
                    file=path,
                    allowed=", ".join(suffixes),
                    next_step="name a folder of images or GeoTIFF files, or a Sentinel-2 folder "
                    f"that ends in {sentinel2.SUFFIX}",
                )
            yield from (_Input(at_plane(p, plane), p.relative_to(path)) for p in found)
        else:
            yield _Input(at_plane(path, plane), Path(path.name))


def _works(
    files: list[_Input], out: Path, settings: Settings, classes: Sequence[str]
) -> Iterator[Work]:
    for each in files if settings.labels_for is not None else ():
        if each.is_scene:
            programs.refuse_scene(each.source)
    if out.suffix.lower() in images.IMAGE_SUFFIXES:
        raise ConfigError(
            "SEG-X032",
            "--out names an image",
            file=out,
            observed=out.name,
            allowed="a folder, or MAP.tif for one GeoTIFF scene",
            next_step=f"name a folder: the map of an image is called as the image, with --out "
            f"{out.parent} it is {out.parent / files[0].name.with_suffix('.png')}",
        )
    if is_tiff(out):
        first, *more = files
        if more or not first.is_scene:
            raise ConfigError(
                "SEG-X032",
                "--out names one GeoTIFF",
                observed=f"{len(files)} inputs, the first one {first.source}",
                allowed="one GeoTIFF scene, or a folder in --out",
                next_step="name a folder with --out DIR",
            )
        if settings.polygons is not None:
            polygonize.require_extra(settings.polygons)
        yield _scene(first, out, settings.polygons, settings)
        return
    if settings.polygons is not None:
        polygonize.require_extra(settings.polygons / f"any{polygonize.SUFFIX}")
    for each in files:
        source, name, _ = each
        polygons = settings.polygons and settings.polygons / name.with_suffix(polygonize.SUFFIX)
        scene_map = out / name.with_suffix(".tif")
        if each.is_scene:
            yield _scene(each, scene_map, polygons, settings)
        else:
            map_path = out / name.with_suffix(".png")
            overlay, confidence = _beside(map_path, "overlay"), _beside(map_path, "confidence")
            yield Work(
                source,
                map_path,
                polygons,
                None,
                overlay,
                confidence.with_suffix(".json") if settings.labels_for in programs.SCORED else None,
                name=name,
                uncertainty=_beside(map_path, "uncertainty") if settings.uncertainty else None,
                class_probabilities=tuple(
                    _beside(map_path, f"probability_{k:02d}_{_in_file_names(each)}")
                    for k, each in enumerate(classes if settings.probabilities else ())
                ),
            )


def _scene(each: _Input, map_path: Path, polygons: Path | None, settings: Settings) -> Work:
    probabilities = _beside(map_path, "probabilities") if settings.probabilities else None
    areas = _beside(map_path, "areas").with_suffix(".csv")
    style = map_path.with_suffix(qgis_styles.SUFFIX)
    return Work(
        each.source,
        map_path,
        polygons,
        probabilities,
        areas=areas,
        style=style,
        uncertainty=_beside(map_path, "uncertainty") if settings.uncertainty else None,
        scene=each.scene,
    )


def _beside(map_path: Path, what: str) -> Path:
    return map_path.with_name(f"{map_path.stem}_{what}{map_path.suffix}")


def _in_file_names(name: str) -> str:
    """Return the name of a class without what a file name had better not hold."""
    return re.sub(r"[^\w-]+", "_", name)[:_LONGEST_CLASS]


def _same_bytes(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _behind(inputs: Sequence[Path]) -> list[Path]:
    """Return the files that others of formats a person allowed lead to: sources of VRT."""
    permitted = [path for path in inputs if isinstance(path, PermittedPath) and path.is_file()]
    if not permitted:
        return []
    from terrazzo.io import rasters  # GDAL is loaded by those who need it

    return [behind for path in permitted for behind in rasters.files_behind(path)]


def _refuse_clashes(
    works: list[Work],
    shared: Sequence[Path],
    legend: Sequence[Path],
    model: Path | None,
    settings: Settings,
) -> None:
    inputs = [*(work.source for work in works), *(path for path, _ in settings.masks)]
    for scene in (work.scene for work in works if work.scene is not None):
        inputs += [scene.origin, *(file.path for file in scene.files)]
        inputs += [path for path, _ in scene.masks]
    inputs += [] if settings.area is None else [settings.area]
    inputs += _behind(inputs)
    if model is not None and model.is_dir():
        inputs += [path for path in model.iterdir() if path.is_file()]
    once = (*shared, *legend)
    refuse_inputs((*(path for work in works for path in work.files), *once), inputs)
    for path in once:
        refuse_folder(path)
    # Files of a labelling program without any of its maps are not of a prediction.
    if not (settings.overwrite or (settings.resume and any(w.map.exists() for w in works))):
        refuse_existing(shared)
    for work in works:
        for path in work.files:
            refuse_folder(path)
        there = next((path for path in work.files if os.path.lexists(path)), None)
        begun = has_rows(folder_of(work.map))
        if settings.overwrite:
            continue
        if settings.resume:
            # Files without the map, and no beginnings of it, are not of a prediction.
            ours = there is None or os.path.lexists(work.map) or folder_of(work.map).exists()
            if ours:
                continue
        elif there is None and not begun:
            continue
        raise CheckpointError(
            "SEG-C002",
            "the map exists"
            if there == work.map
            else "a file that would be written exists"
            if there
            else "the map was begun and not finished",
            file=there or work.map,
            next_step="--overwrite replaces it, --out takes another place"
            if there
            else "--resume goes on with it, --overwrite begins anew",
        )
