"""From the files of a scene to the bands that a model sees: which they are, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.progress import Progress
from terrazzo.data import band_names, ground
from terrazzo.data.mask_files import open_mask
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.data.scene_stack import Band, Raster, all_bands, bands_unless_named, join
from terrazzo.inference.outputs import Settings
from terrazzo.inference.prediction_area import open_area
from terrazzo.inference.scene_files import BandFile, Names, SceneFiles
from terrazzo.inference.tiled_prediction import Scene
from terrazzo.io import rasters, sentinel2
from terrazzo.io.rasters import RasterInfo
from terrazzo.models import compatibility
from terrazzo.models.card import ModelCard


def open_scene(
    source: Path | SceneFiles, card: ModelCard, settings: Settings, progress: Progress
) -> Scene:
    """Find the model's bands in a scene, and refuse one that the model does not know.

    Args:
        source: a GeoTIFF file, or the files of a scene.
        card: what the model is.
        settings: which bands are chosen, masks besides those of the scene, whether files may lie
            on other grids, and whether any size of pixels will do.
        progress: told how alpha bands and georeferencing are taken.

    Raises:
        DataError: as `rasters.info`, `scene_stack.join`, `compatibility.require_known_pixels` and
            `open_mask` and `open_area`; SEG-D090 a file of a band is not there; SEG-D092 several
            are, or a file has other bands than its list says.
        ConfigError: SEG-X031, a chosen band is not there; SEG-X011 as `scene_stack.all_bands`;
            as `open_mask` and `open_area`; SEG-X101 nothing tells which file holds which band.
    """
    is_set = isinstance(source, SceneFiles)
    scene = source if isinstance(source, SceneFiles) else _single(source)
    for note in scene.notes:
        progress.say(note)
    files, places = scene.files, None
    if scene.has_names:
        files, places = _by_names(scene, card, settings)
    masks = (*scene.masks, *settings.masks)
    alpha = _alpha(files, card, settings, progress, may_be_bands=places is None)
    opened = [
        Raster(file.path, rasters.info(file.path, alpha=alpha), file.resampling) for file in files
    ]
    first = opened[0]
    if sentinel2.is_product(first.path):
        grid = _grid_of_product(first.path, card, settings, scene.band_names)
        first = opened[0] = first._replace(info=grid)
    for each in opened:
        unused = rasters.unused_georeferencing(each.path)
        beside = rasters.unused_side_files(each.path, used=[path for path, _ in masks])
        for text in [*([] if unused is None else [unused]), *beside]:
            progress.say(text)
    if places is None:
        known = all_bands(opened, scene.band_names)
        # Microscopes name their channels and store them in any order.
        by_name = is_set or rasters.names_channels(first.path)
        chosen = _in_order(opened, known, card, settings, by_name=by_name)
        told = [band.name for band in known]
    else:
        chosen = [_named(band, files, opened, card) for band in places]
        told = [_first(names) for file in scene.files for names in file.names]
    placing = scene.placing
    if settings.align is not None:
        placing = placing.model_copy(update={"align": settings.align})
    stack = join(opened, chosen, placing, apply_scale=card.rules.apply_scale)
    compatibility.require_known_pixels(
        card,
        compatibility.pixels_of_stack(first.path, first.info, stack, card, told),
        any_pixel_size=settings.any_pixel_size,
    )
    area = None
    if settings.area is not None:
        area = open_area(settings.area, first.path, first.info, progress.say, settings.area_layer)
    return Scene(
        first.path,
        stack.parts,
        card.rules._replace(alpha=alpha or card.rules.alpha),
        stack.dtype if len(stack.parts) > 1 else None,
        tuple(open_mask(path, mask, first.path, first.info, placing) for path, mask in masks),
        area,
        first.info if sentinel2.is_product(first.path) else None,
    )


def _single(path: Path) -> SceneFiles:
    return SceneFiles(Path(path.name), (BandFile(path),), path)


def _grid_of_product(
    path: Path, card: ModelCard, settings: Settings, called: Sequence[str]
) -> RasterInfo:
    """Return the grid of a product: that of a resolution the model knows.

    It is the finest of the bands in use, unless the model was trained on another one.

    Args:
        path: the product, the first file of a scene.
        card: what the model is.
        settings: which bands are chosen.
        called: what a list calls the bands of the scene; none: what the product does.
    """
    stored = rasters.info(path).band_names
    known = called[: len(stored)] or stored
    stored_as = dict(zip(known, stored, strict=False))
    words = _names_of_words(settings.bands or card.file_bands, known)
    names = [stored_as.get(word, word) for word in words]
    finest = rasters.grid_for(path, names)
    for resolution in (None, *sentinel2.RESOLUTIONS) if card.pixel_metres is not None else ():
        grid = finest if resolution is None else rasters.grid_for(path, names, resolution)
        sides = ground.pixel_sides(grid)
        fits = (
            sides is not None
            and card.pixel_metres is not None
            and PixelSizes.of_pixels([sides]).within(
                card.pixel_metres, compatibility.PIXEL_SIZE_TOLERANCE
            )
        )
        if fits:
            return grid
    return finest


def _names_of_words(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names of bands that a person may have named by number, from 1."""
    return [
        known[int(word) - 1]
        if word not in known and word.isdecimal() and 1 <= int(word) <= len(known)
        else word
        for word in words
    ]


def _in_order(
    opened: Sequence[Raster],
    known: Sequence[Band],
    card: ModelCard,
    settings: Settings,
    *,
    by_name: bool,
) -> list[Band]:
    """Return bands that count file by file, in the model's order, with the names that count.

    What was chosen by number is a person's word, unless the file gives the band another of the
    model's names.
    """
    path, names = opened[0].path, tuple(band.name for band in known)
    words = settings.bands
    if not words and len(opened) == 1 and sentinel2.is_product(path):
        words = card.file_bands
    found = band_names.positions(card.file_bands, names) if by_name else None
    if found is not None and not settings.bands:
        return [known[position] for position in found]
    if not words:
        return bands_unless_named(opened, known)
    chosen: list[Band] = []
    for word, position in zip(words, compatibility.chosen_bands(path, names, words), strict=True):
        is_word = word not in names and names[position] not in card.file_bands
        name = f"band {position + 1}" if is_word else names[position]
        chosen.append(known[position]._replace(name=name))
    return chosen


def _by_names(
    scene: SceneFiles, card: ModelCard, settings: Settings
) -> tuple[tuple[BandFile, ...], list[Band]]:
    """Return the files that hold the model's bands, in their order, and where each band is."""
    wanted = settings.bands or card.file_bands
    if not settings.bands and not all(map(band_names.is_name, wanted)):
        raise ConfigError(
            "SEG-X101",
            "nothing tells which file holds which band of the model",
            file=scene.origin,
            observed=f"the bands of the model have no names; those of the files are {_told(scene)}",
            allowed="--bands with a name for each band, in the model's order",
            next_step=f"name {len(wanted)} of them with --bands A,B,…",
        )
    places = [_place(scene, word) for word in wanted]
    numbers = list(dict.fromkeys(file for file, _ in places))
    bands = [
        Band(word, numbers.index(file), position)
        for word, (file, position) in zip(wanted, places, strict=True)
    ]
    return tuple(scene.files[number] for number in numbers), bands


def _place(scene: SceneFiles, word: str) -> tuple[int, int]:
    """Return file and position of the band that goes by a name; a more binding name comes first."""
    bands = [
        (file, position, names)
        for file, each in enumerate(scene.files)
        for position, names in enumerate(each.names)
    ]
    for level in range(max(len(names) for *_, names in bands)):
        found = [(f, p) for f, p, names in bands if names[level : level + 1] == (word,)]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                "SEG-D092",
                f"several files of a scene hold the band {word!r}",
                file=scene.origin,
                observed=", ".join(str(scene.files[file].path) for file, _ in found),
                allowed="one file for each band",
                next_step="name the scene more narrowly, or list its files in a scenes.toml",
            )
    raise DataError(
        "SEG-D090",
        f"no file of the scene {scene.name} holds the band {word!r}",
        file=scene.origin,
        observed=_told(scene),
        allowed=f"a file for the band {word!r}",
        next_step="add the file; or, where it goes by another name, name the files' bands in the "
        "model's order with --bands",
    )


def _told(scene: SceneFiles) -> str:
    each = (names for file in scene.files for names in file.names)
    return ", ".join("/".join(dict.fromkeys(filter(None, names))) for names in each)


def _first(names: Names) -> str:
    return next(filter(None, names), "band")


def _named(
    band: Band, files: Sequence[BandFile], opened: Sequence[Raster], card: ModelCard
) -> Band:
    """Return a band with the name that counts: the model's, where it goes by one of these.

    Every other one is a person's word for it, by ``--bands``.
    """
    file, raster = files[band.file], opened[band.file]
    if len(file.names) != raster.info.bands:
        raise DataError(
            "SEG-D092",
            "the file has another number of bands than are named for it",
            file=file.path,
            observed=f"{raster.info.bands} bands ({', '.join(raster.info.band_names)})",
            allowed=f"{len(file.names)}: {', '.join(map(_first, file.names))}",
            next_step="list the files in a scenes.toml, where bands count file by file",
        )
    inside = raster.info.band_names[band.position]
    names: Names = (band.name, *file.names[band.position], inside)
    known = (name for name in names if name in card.file_bands)
    return band._replace(name=next(known, f"band {band.position + 1}"))


def _alpha(
    files: Sequence[BandFile],
    card: ModelCard,
    settings: Settings,
    progress: Progress,
    *,
    may_be_bands: bool,
) -> str | None:
    """Say how bands are read that files mark as alpha and do not name.

    They are alpha unless the model has as many bands as the scene has with them, or a person has
    chosen one.
    """
    infos = [rasters.info(file.path) for file in files]
    if not any(info.alpha_bands for info in infos):
        return None
    marked = [
        (file.path, band)
        for file, info in zip(files, infos, strict=True)
        for band in info.alpha_bands
    ]
    words = {word for _, band in marked for word in (str(band), f"band {band}")}
    as_many = len(card.file_bands) == sum(info.bands for info in infos) + len(marked)
    chosen = len(files) == 1 and words & set(settings.bands)
    wanted = may_be_bands and (as_many or chosen)
    for path, band in marked:
        progress.say(
            f"{path}: band {band} is read as a band of the model, not as alpha"
            if wanted
            else f"{path}: band {band} is read as alpha: there is no map where it is 0"
        )
    return "none" if wanted else None
