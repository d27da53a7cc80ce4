"""GeoTIFF scenes with a label raster, or with polygons, of the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from terrazzo.base import config_parsing
from terrazzo.base.errors import DataError, TerrazzoError
from terrazzo.io.raster_formats import RASTER_SUFFIXES
from terrazzo.workflows.init import folder_words, tool_exports
from terrazzo.workflows.init.layout import Layout, Tree

_VECTORS = (".gpkg", ".geojson", ".shp")
_MOST_SCENES = 20
_MOST_CLASSES = 60


def detect(tree: Tree) -> Layout | None:
    """Recognise GeoTIFF with labels of their place; a folder of many is one of images.

    Raises:
        DataError: SEG-D121, it is not clear which file holds the labels.
    """
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    paths = [
        f"{lead}/{name}" if lead else name for lead, names in tree.files.items() for name in names
    ]
    found = sorted(path for path in paths if path.lower().endswith(RASTER_SUFFIXES))
    shapes = sorted(path for path in paths if path.lower().endswith(_VECTORS))
    if not 1 <= len(found) <= _MOST_SCENES or any(
        path.lower().endswith((".jpg", ".jpeg", ".png")) for path in paths
    ):
        return None
    infos = {}
    for path in found:
        try:
            infos[path] = rasters.info(tree.root / path)
        except DataError:
            return None
    if not any(info.has_place for info in infos.values()):
        return None
    labels = [path for path in found if _is_label(tree, path, infos[path])]
    images = [path for path in found if path not in labels]
    scenes = _scenes(images, shapes)
    if scenes and not labels:
        return _of_shapes(tree, scenes)
    if len(shapes) == 1 and len(images) == 1:
        return _of_shapes(tree, [(images[0], shapes[0])])
    if not shapes and len(images) == len(labels) == 1:
        return _of_raster(tree, [(images[0], labels[0])])
    if len(images) > 1 and len(labels) == len(images) and not shapes:
        return None  # pairs of files by name
    if not shapes and not labels and tool_exports.tools(tree):
        return None  # tiles whose labels a tool has drawn
    raise _unclear(tree, images, labels, shapes)


def asked_for(tree: Tree, given: Mapping[str, Any]) -> Layout:
    """Return the layout where the person names the scenes; what they leave open is looked up.

    Raises:
        ConfigError: the options are none of the format.
        DataError: the files do not go together.
    """
    from terrazzo.data.datasets import geotiff
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    read = config_parsing.parse(geotiff.Options, dict(given), where="data.options (geotiff)")
    options: dict[str, Any] = {"scenes": given["scenes"]}
    reasons = {"format": "the scenes are named with --set", "scenes": "asked for with --set"}
    unsure: list[str] = []
    shapes = [scene.label for scene in read.scenes if rasters.is_vector(tree.root / scene.label)]
    names: dict[int, str] = {}
    if shapes and not {"burn", "burn_property"} & given.keys():
        names = _classes_of_shapes(tree.root, shapes, options, reasons, unsure)
    _fit(tree.root, options, reasons, unsure, given)
    return Layout(tree.root, "geotiff", options, reasons, tuple(unsure), names)


def _scenes(images: Sequence[str], shapes: Sequence[str]) -> list[tuple[str, str]]:
    """Return the shapes of each image where their names go together; empty: they do not."""
    if len(images) != len(shapes):
        return []
    scenes = []
    for image in images:
        stem = str(PurePosixPath(image).with_suffix("")).casefold()
        own = [each for each in shapes if _belongs(each, stem, images)]
        if len(own) != 1:
            return []
        scenes.append((image, own[0]))
    return scenes if len({shape for _, shape in scenes}) == len(scenes) else []


def _belongs(shape: str, stem: str, images: Sequence[str]) -> bool:
    """Tell whether shapes are called after an image, and after none with a longer name."""
    own = str(PurePosixPath(shape).with_suffix("")).casefold()
    fitting = [
        name
        for name in (str(PurePosixPath(image).with_suffix("")).casefold() for image in images)
        if own == name or (own.startswith(name) and not own[len(name)].isalnum())
    ]
    return max(fitting, key=len, default=None) == stem


def _is_label(tree: Tree, path: str, info: Any) -> bool:
    from terrazzo.io import rasters  # GDAL is loaded by those who need it

    stem = PurePosixPath(path).stem
    role = folder_words.role_of(stem) or (folder_words.base_of(path) or ("",))[0]
    words = ("class", "strata", "landcover", "land_cover", "lulc")
    named = role == "masks" or any(word in stem.lower() for word in words)
    # The header of a raster with a palette tells of the three bands of its colours.
    one_band = len(info.band_names) == 1 or rasters.has_palette(tree.root / path)
    return bool(named) and one_band and not info.stored_dtype.startswith("float")


def _unclear(tree: Tree, images: list[str], labels: list[str], shapes: list[str]) -> DataError:
    return DataError(
        "SEG-D121",
        "it is not clear which files are images and which hold their labels",
        file=tree.root,
        observed=f"image rasters: {', '.join(images) or 'none'}; label rasters by their names: "
        f"{', '.join(labels) or 'none'}; shapes: {', '.join(shapes) or 'none'}",
        allowed="one GeoTIFF with one label raster or one file of shapes",
        next_step="which is which? --set data.format=geotiff --set 'data.options.scenes="
        '[{ images = ["IMAGE.tif"], label = "LABELS" }]\'',
    )


def _scene(files: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], dict[str, str]]:
    scenes = [{"images": [image], "label": label} for image, label in files]
    several = "a GeoTIFF" if len(files) == 1 else f"{len(files)} GeoTIFFs"
    reasons = {"format": f"{several} with labels of the same place", "scenes": "image and labels"}
    return {"scenes": scenes}, reasons


def _of_raster(tree: Tree, files: Sequence[tuple[str, str]]) -> Layout:
    options, reasons = _scene(files)
    unsure: list[str] = []
    _fit(tree.root, options, reasons, unsure)
    return Layout(tree.root, "geotiff", options, reasons, tuple(unsure))


def _of_shapes(tree: Tree, files: Sequence[tuple[str, str]]) -> Layout:
    options, reasons = _scene(files)
    unsure: list[str] = []
    labels = [label for _, label in files]
    names = _classes_of_shapes(tree.root, labels, options, reasons, unsure)
    _fit(tree.root, options, reasons, unsure)
    return Layout(tree.root, "geotiff", options, reasons, tuple(unsure), names)


def _classes_of_shapes(
    root: Path,
    labels: Sequence[str],
    options: dict[str, Any],
    reasons: dict[str, str],
    unsure: list[str],
) -> dict[int, str]:
    """Decide which attribute tells classes apart, and return the names of raw values."""
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    found = [rasters.attribute_values(root / label) for label in labels]
    columns = {
        name: sorted({str(v) for values in found for v in values[name] if v is not None})
        for name in found[0]
        if all(name in values for values in found)
    }
    may_be = rasters.attributes(root / labels[0])
    words = ("class", "label", "type", "kind", "category", "name", "code", "landuse")
    fitting = [
        name
        for name, values in columns.items()
        if may_be.get(name) and 2 <= len(values) <= _MOST_CLASSES
    ]
    fitting.sort(key=lambda name: next((n for n, w in enumerate(words) if w in name.lower()), 99))
    if not fitting:
        options["burn"], reasons["burn"] = 1, "no attribute tells classes apart: all shapes are one"
        return {0: "background", 1: PurePosixPath(labels[0]).stem if len(labels) == 1 else "shape"}
    chosen = fitting[0]
    options["burn_property"] = chosen
    reasons["burn_property"] = f"the attribute with {len(columns[chosen])} different values"
    if len(fitting) > 1:
        unsure.append(
            f"is {chosen!r} the attribute that holds the class? {', '.join(fitting[1:])} may be it "
            "as well: --set data.options.burn_property=NAME"
        )
    values = {word: number for number, word in enumerate(columns[chosen], start=1)}
    options["burn_values"], reasons["burn_values"] = values, "raw values of these words"
    return {0: "background"} | {number: word for word, number in values.items()}


def _fit(
    root: Path,
    options: dict[str, Any],
    reasons: dict[str, str],
    unsure: list[str],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Choose the size of chips; where files lie on other grids, bring them onto one.

    Args:
        root: of the data set.
        options: with the scenes; gets the others.
        reasons: by option.
        unsure: questions.
        given: options that were asked for, which stay as they are.
    """
    from terrazzo.data.datasets import geotiff
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    scenes = geotiff.Options(**{**options, **given}).scenes
    infos = [rasters.info(root / scene.image_files[0]) for scene in scenes]
    chip = 256
    while chip > 32 and sum((i.rows // chip) * (i.columns // chip) for i in infos) < 40:
        chip //= 2
    of = f"a scene of {infos[0].rows}×{infos[0].columns}" if len(infos) == 1 else "the scenes"
    options["chip"] = given.get("chip", chip)
    reasons["chip"] = f"{of} give{'s' * (len(infos) == 1)} some chips to each split"
    options["buffer"] = min(32, options["chip"] // 4)
    reasons["buffer"] = "pixels between splits that count nowhere, so that they share no place"
    options |= {key: value for key, value in given.items() if key != "scenes"}
    try:
        geotiff.open_split(root, "train", geotiff.Options(**options))
    except TerrazzoError as error:
        if {"align", "crs_tolerance"} & given.keys():
            raise
        if error.code == "SEG-D012" or rasters.is_vector(root / scenes[0].label):
            moved = options | {"align": "reproject"}
        else:
            moved = options | {"crs_tolerance": 0.1}
            try:
                geotiff.open_split(root, "train", geotiff.Options(**moved))
            except TerrazzoError:
                moved = options | {"align": "reproject"}
        geotiff.open_split(root, "train", geotiff.Options(**moved))  # says what else is wrong
        key = next(iter(moved.keys() - options.keys()))
        options[key] = moved[key]
        reasons[key] = f"the files differ: {error.problem}"
        unsure.append(f"do image and labels show the same place? {error.problem}: {key} is set")
