"""GeoTIFF scenes with a label raster, or with polygons, of the same place."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

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
    if len(shapes) == 1 and len(images) == 1:
        return _of_shapes(tree, images[0], shapes[0])
    if not shapes and len(images) == len(labels) == 1:
        return _of_raster(tree, images[0], labels[0])
    if len(images) > 1 and len(labels) == len(images) and not shapes:
        return None  # pairs of files by name
    if not shapes and not labels and tool_exports.tools(tree):
        return None  # tiles whose labels a tool has drawn
    raise _unclear(tree, images, labels, shapes)


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


def _scene(image: str, label: str) -> tuple[dict[str, Any], dict[str, str]]:
    options: dict[str, Any] = {"scenes": [{"images": [image], "label": label}]}
    reasons = {"format": "a GeoTIFF with labels of its place", "scenes": "image and labels"}
    return options, reasons


def _of_raster(tree: Tree, image: str, label: str) -> Layout:
    options, reasons = _scene(image, label)
    unsure: list[str] = []
    _fit(tree.root, options, reasons, unsure)
    return Layout(tree.root, "geotiff", options, reasons, tuple(unsure))


def _of_shapes(tree: Tree, image: str, label: str) -> Layout:
    options, reasons = _scene(image, label)
    unsure: list[str] = []
    names = _classes_of_shapes(tree.root / label, options, reasons, unsure)
    _fit(tree.root, options, reasons, unsure)
    return Layout(tree.root, "geotiff", options, reasons, tuple(unsure), names)


def _classes_of_shapes(
    path: Path, options: dict[str, Any], reasons: dict[str, str], unsure: list[str]
) -> dict[int, str]:
    """Decide which attribute tells classes apart, and return the names of raw values."""
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    columns = {
        name: sorted({str(value) for value in values if value is not None})
        for name, values in rasters.attribute_values(path).items()
    }
    may_be = rasters.attributes(path)
    words = ("class", "label", "type", "kind", "category", "name", "code", "landuse")
    fitting = [
        name
        for name, values in columns.items()
        if may_be.get(name) and 2 <= len(values) <= _MOST_CLASSES
    ]
    fitting.sort(key=lambda name: next((n for n, w in enumerate(words) if w in name.lower()), 99))
    if not fitting:
        options["burn"], reasons["burn"] = 1, "no attribute tells classes apart: all shapes are one"
        return {0: "background", 1: path.stem}
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


def _fit(root: Path, options: dict[str, Any], reasons: dict[str, str], unsure: list[str]) -> None:
    """Choose the size of chips; where files lie on other grids, bring them onto one."""
    from terrazzo.data.datasets import geotiff
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    scene = options["scenes"][0]
    info = rasters.info(root / scene["images"][0])
    chip = 256
    while chip > 32 and (info.rows // chip) * (info.columns // chip) < 40:
        chip //= 2
    options["chip"] = chip
    reasons["chip"] = f"a scene of {info.rows}×{info.columns} gives some chips to each split"
    options["buffer"] = min(32, chip // 4)
    reasons["buffer"] = "pixels between splits that count nowhere, so that they share no place"
    try:
        geotiff.open_split(root, "train", geotiff.Options(**options))
    except TerrazzoError as error:
        if error.code == "SEG-D012" or rasters.is_vector(root / scene["label"]):
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
