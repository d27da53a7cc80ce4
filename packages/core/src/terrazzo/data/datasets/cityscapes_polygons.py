"""Cityscapes' polygon files: one JSON file an image, as its labelling tool writes them.

    leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
    gtFine/train/aachen/aachen_000000_000019_gtFine_polygons.json

    [data.options]
    classes = ["road", "sidewalk", "car"]

Polygons are drawn in the order of the file, the last one on top; a label such as ``cargroup``, of
objects that cannot be told apart, is ``car`` where that is among the classes. Objects marked as
deleted are not drawn. With ``fill = "inclusive"``, the default here, masks are those of Cityscapes'
scripts.
Source: github.com/mcordts/cityscapesScripts, "annotation" and "json2labelImg".
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from terrazzo.data.datasets._annotated_images import AnnotatedImages, open_per_image
from terrazzo.data.datasets._annotation_files import Fields, read_json
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._shape_options import ClassName, PerImageOptions
from terrazzo.io.annotations.shapes import AnnotatedImage, Part, Polygon, Shape

LABELS = None
_GROUP = "group"


class Options(PerImageOptions):
    """Where images and files lie."""

    images: str = "leftImg8bit/{split}"
    """Folder of the images; may hold ``{split}``."""
    annotations: str = "gtFine/{split}"
    """Folder of the JSON files; may hold ``{split}``."""
    fill: Literal["centre", "inclusive"] = "inclusive"
    """As Cityscapes' own masks."""
    undrawn: tuple[ClassName, ...] = ("license plate",)
    """Names whose shapes are counted and not drawn."""
    image_suffix: str = "_leftImg8bit"
    """What the stems of images have beyond the name."""
    annotation_suffix: str = "_gtFine_polygons"
    """What the stems of annotation files have beyond the name."""


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `open_per_image`.
        DataError: see `open_per_image`.
    """

    def load(pair: Pair, size: tuple[int, int]) -> AnnotatedImage:  # noqa: ARG001
        return _load(pair, frozenset(options.classes))

    return open_per_image(root, split, options, load, _names_in)


def _names_in(path: Path) -> list[str]:
    objects = Fields(read_json(path, "cityscapes_polygons"), path, "").tables("objects")
    return [each.text("label") for each in objects if not _is_deleted(each)]


def _is_deleted(each: Fields) -> bool:
    return "deleted" in each and each.number("deleted") != 0


def _load(pair: Pair, classes: frozenset[str]) -> AnnotatedImage:
    file = Fields(read_json(pair.mask, "cityscapes_polygons"), pair.mask, "")
    objects = [each for each in file.tables("objects") if not _is_deleted(each)]
    shapes = tuple(
        Shape(
            _class_of(each.text("label"), classes),
            "polygon",
            Polygon((Part(each.points("polygon")),)),
            each.place,
        )
        for each in objects
    )
    return AnnotatedImage(file.size("imgHeight", "imgWidth"), shapes)


def _class_of(label: str, classes: frozenset[str]) -> str:
    single = label.removesuffix(_GROUP)
    return single if label not in classes and single in classes else label
