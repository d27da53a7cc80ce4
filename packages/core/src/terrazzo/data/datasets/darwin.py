"""V7 Darwin: one JSON file an image, version 2.0 as V7 exports it.

    images/a.jpg …
    annotations/a.json …

    [data.options]
    classes = ["road", "car"]

Polygons are read even-odd over all of their paths, so that inner ones are holes, and boxes; lines
and key points once they have a ``line_width``. A polygon's own bounding box is no second shape,
and tags are of whole images. Masks of raster layers, ellipses, cuboids, skeletons and videos are
refused. Shapes are drawn in the order of the file, the last one on top.
Source: docs.v7labs.com, "Darwin JSON Format" and "Importing Complex Polygons".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.datasets._annotated_images import AnnotatedImages, open_per_image
from terrazzo.data.datasets._annotation_files import Fields, kind_not_read, not_readable, read_json
from terrazzo.data.datasets._annotation_pairs import refuse_other_image
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._shape_options import PerImageOptions
from terrazzo.io.annotations.shapes import AnnotatedImage, Geometry, Line, Part, Polygon, Shape, box

LABELS = None
_KINDS = ("polygon", "bounding_box", "line", "keypoint")
"""That are read; a polygon comes with its bounding box."""
_OTHERS = ("frames", "mask", "raster_layer", "ellipse", "cuboid", "skeleton", "graph", "string")
_OF_IMAGES = ("tag",)


class Options(PerImageOptions):
    """Where images and files lie."""


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `open_per_image`.
        DataError: see `open_per_image`.
    """
    return open_per_image(root, split, options, _load, _names_in)


def _names_in(path: Path) -> list[str]:
    return [each.text("name") for each in _shapes_of(Fields(read_json(path, "darwin"), path, ""))]


def _shapes_of(file: Fields) -> Iterator[Fields]:
    for each in file.tables("annotations"):
        if not any(kind in each for kind in _OF_IMAGES):
            yield each


def _load(pair: Pair, size: tuple[int, int]) -> AnnotatedImage:  # noqa: ARG001
    file = Fields(read_json(pair.mask, "darwin"), pair.mask, "")
    item = file.table("item")
    refuse_other_image(pair, item.text("name"), "item.name")
    slots = item.tables("slots")
    if len(slots) != 1 or slots[0].text("type") != "image":
        told = "a video or volume" if len(slots) == 1 else f"an item of {len(slots)} slots"
        raise kind_not_read(item, told, "items of one slot, an image")
    shapes = tuple(_shape(each) for each in _shapes_of(file))
    return AnnotatedImage(slots[0].size("height", "width"), shapes)


def _shape(each: Fields) -> Shape:
    other = next((kind for kind in _OTHERS if kind in each), None)
    kind = next((kind for kind in _KINDS if kind in each), None)
    if other is not None or kind is None:
        told = other or next((key for key in each.values if key not in ("id", "name")), "nothing")
        allowed = "polygon, bounding_box; line and keypoint with data.options.line_width"
        raise kind_not_read(each, told, allowed)
    return Shape(each.text("name"), kind, _geometry(each.table(kind), kind), each.place)


def _geometry(shape: Fields, kind: str) -> Geometry:
    match kind:
        case "polygon":
            paths = [
                _path(path, shape, f"{shape.place}.paths[{number}]")
                for number, path in enumerate(shape.list_of("paths"))
            ]
            return Polygon(tuple(map(Part, paths)), is_even_odd=True)
        case "bounding_box":
            x, y, width, height = map(shape.number, ("x", "y", "w", "h"))
            return box(x, y, x + width, y + height, about="corner")
        case "line":
            return Line(_path(shape.list_of("path"), shape, f"{shape.place}.path"))
        case _:
            return Line(np.array([[shape.number("x"), shape.number("y")]]))


def _path(points: object, shape: Fields, place: str) -> NDArray[np.float64]:
    if not isinstance(points, list) or not points:
        raise not_readable(shape.path, f"{place} is no list of points")
    read = [Fields(point, shape.path, f"{place}[{n}]") for n, point in enumerate(points)]
    return np.array([[point.number("x"), point.number("y")] for point in read])
