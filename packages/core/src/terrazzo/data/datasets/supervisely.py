"""Supervisely: one JSON file an image, of projects as it exports them.

    img/a.jpg …              or  DATASET/img/a.jpg with images = "DATASET/img"
    ann/a.jpg.json …             and annotations = "DATASET/ann"

    [data.options]
    classes = ["road", "car"]

Polygons with holes, rectangles and bitmaps are read, lines and points once they have a
``line_width``. Objects are drawn in the order of the file, the last one on top. Bitmaps are exact.
Source: docs.supervisely.com, "Supervisely annotation format".
"""

from __future__ import annotations

import base64
import binascii
import zlib
from pathlib import Path

import numpy as np

from terrazzo.data.datasets._annotated_images import AnnotatedImages, open_per_image
from terrazzo.data.datasets._annotation_files import (
    Fields,
    kind_not_read,
    not_readable,
    points_of,
    read_json,
)
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._shape_options import PerImageOptions
from terrazzo.io import images
from terrazzo.io.annotations.draw import undrawable
from terrazzo.io.annotations.shapes import (
    AnnotatedImage,
    Geometry,
    Line,
    Mask,
    Part,
    Polygon,
    Shape,
    box_around,
)

LABELS = None
_LARGEST = 1 << 28
"""Bytes of a bitmap, unpacked: more is no mask of an image that can be read."""


class Options(PerImageOptions):
    """Where images and files lie."""

    images: str = "img"
    """Folder of the images; may hold ``{split}``."""
    annotations: str = "ann"
    """Folder of the JSON files; may hold ``{split}``."""


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `open_per_image`.
        DataError: see `open_per_image`.
    """
    return open_per_image(root, split, options, _load, _names_in, after_suffix=True)


def _names_in(path: Path) -> list[str]:
    objects = Fields(read_json(path, "supervisely"), path, "").tables("objects")
    return [each.text("classTitle") for each in objects]


def _load(pair: Pair, size: tuple[int, int]) -> AnnotatedImage:  # noqa: ARG001
    file = Fields(read_json(pair.mask, "supervisely"), pair.mask, "")
    stated = file.table("size").size("height", "width")
    return AnnotatedImage(stated, tuple(_shape(each) for each in file.tables("objects")))


def _shape(each: Fields) -> Shape:
    kind = each.text("geometryType")
    return Shape(each.text("classTitle"), kind, _geometry(each, kind), each.place)


def _geometry(each: Fields, kind: str) -> Geometry:
    if kind == "bitmap":
        return _bitmap(each.table("bitmap"))
    if kind not in ("polygon", "rectangle", "line", "point"):
        raise kind_not_read(
            each, kind, "polygon, rectangle, bitmap; line and point with data.options.line_width"
        )
    points = each.table("points")
    outline_N2 = points.points("exterior")
    match kind:
        case "polygon":
            holes = points.list_of("interior") if "interior" in points else []
            rings = [points_of(hole, each.path, f"{points.place}.interior") for hole in holes]
            return Polygon((Part(outline_N2, tuple(rings)),))
        case "rectangle":
            return box_around(outline_N2)
        case _:
            return Line(outline_N2)


def _bitmap(bitmap: Fields) -> Mask:
    try:
        packed = base64.b64decode(bitmap.text("data"), validate=True)
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(packed, _LARGEST)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise not_readable(bitmap.path, f"{bitmap.place}: {error}") from None
    origin = bitmap.list_of("origin")
    if len(origin) != 2 or any(type(each) is not int for each in origin):
        raise undrawable(
            "the origin of a bitmap is a pixel",
            f"{str(origin)[:80]} at {bitmap.place}",
            "[column, row]",
            str(bitmap.path),
        )
    mask_HW: np.ndarray = images.decode_bitmap(content, bitmap.path)
    return Mask(mask_HW, origin[1], origin[0])
