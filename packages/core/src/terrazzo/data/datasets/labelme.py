"""labelme: one JSON file an image, beside it or in a folder of its own.

    photos/a.jpg, photos/a.json …

    [data.options]
    images = "photos"
    annotations = "photos"
    classes = ["cat", "dog"]

Polygons, rectangles, circles and masks are read, lines and points once they have a ``line_width``
(labelme draws a line 10 pixels wide). Shapes are drawn in the order of the file, the last one on
top. ``fill = "inclusive"`` gives the pixels that labelme's own masks have.
Source: github.com/wkentaro/labelme, the files that its versions 3 to 6 write.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import numpy as np

from terrazzo.data.datasets._annotated_images import AnnotatedImages, open_per_image
from terrazzo.data.datasets._annotation_files import Fields, kind_not_read, not_readable, read_json
from terrazzo.data.datasets._annotation_pairs import refuse_other_image
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._shape_options import PerImageOptions
from terrazzo.io import images
from terrazzo.io.annotations.draw import undrawable
from terrazzo.io.annotations.shapes import (
    AnnotatedImage,
    Ellipse,
    Geometry,
    Line,
    Mask,
    Part,
    Polygon,
    Shape,
    box_around,
)

LABELS = None
_FURTHEST = 1 << 22


class Options(PerImageOptions):
    """Where images and files lie."""

    images: str = "."
    """Folder of the images; may hold ``{split}``."""
    annotations: str = "."
    """Folder of the JSON files; may hold ``{split}``."""


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `open_per_image`.
        DataError: see `open_per_image`.
    """
    return open_per_image(root, split, options, _load, _names_in)


def _names_in(path: Path) -> list[str]:
    shapes = Fields(read_json(path, "labelme"), path, "").tables("shapes")
    return [each.text("label") for each in shapes]


def _load(pair: Pair, size: tuple[int, int]) -> AnnotatedImage:  # noqa: ARG001
    file = Fields(read_json(pair.mask, "labelme"), pair.mask, "")
    refuse_other_image(pair, file.text("imagePath"), "imagePath")
    stated = None
    if "imageHeight" in file or "imageWidth" in file:
        stated = file.size("imageHeight", "imageWidth")
    shapes = tuple(_shape(each) for each in file.tables("shapes"))
    # Its versions from 4 on turn a photo by its Exif orientation before it is drawn on.
    major = str(file.values.get("version", "")).partition(".")[0]
    return AnnotatedImage(stated, shapes, is_displayed=major.isdecimal() and int(major) >= 4)


def _shape(each: Fields) -> Shape:
    kind = each.text("shape_type") if "shape_type" in each else "polygon"
    return Shape(each.text("label"), kind, _geometry(each, kind), each.place)


def _geometry(each: Fields, kind: str) -> Geometry:
    points_N2 = each.points("points")
    needed = {"rectangle": 2, "circle": 2, "mask": 2, "line": 2, "point": 1}
    if kind in needed and len(points_N2) != needed[kind]:
        raise undrawable(
            "a shape has another number of points than its kind",
            f"{len(points_N2)} of a {kind} at {each.place}",
            str(needed[kind]),
            str(each.path),
        )
    match kind:
        case "polygon" | "oriented_rectangle":
            return Polygon((Part(points_N2),))
        case "rectangle":
            return box_around(points_N2)
        case "circle":
            (x, y), edge = points_N2[0].tolist(), points_N2[1] - points_N2[0]
            radius = float(np.hypot(*edge))
            return Ellipse(x, y, radius, radius)
        case "line" | "linestrip" | "point":
            return Line(points_N2)
        case "mask":
            return _mask(each, points_N2)
        case _:
            raise kind_not_read(
                each,
                kind,
                "polygon, rectangle, oriented_rectangle, circle, mask; line, linestrip and point "
                "with data.options.line_width",
            )


def _mask(each: Fields, points_N2: np.ndarray) -> Mask:
    if not (np.abs(points_N2) < _FURTHEST).all():
        raise undrawable(
            "a coordinate is no place in an image",
            f"{points_N2.tolist()} at {each.place}",
            f"numbers below {_FURTHEST}",
            str(each.path),
        )
    # Cut to whole numbers, which name pixels, as labelme does.
    (left, top), (right, bottom) = points_N2.astype(int).tolist()
    try:
        content = base64.b64decode(each.text("mask"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise not_readable(each.path, f"{each.place}.mask: {error}") from None
    mask_HW = images.decode_label(content, each.path) != 0
    size = bottom - top + 1, right - left + 1
    if mask_HW.shape != size:
        raise undrawable(
            "the mask of a shape does not fit its box",
            f"{mask_HW.shape[0]}×{mask_HW.shape[1]} (rows×columns) at {each.place}",
            f"{size[0]}×{size[1]}",
            str(each.path),
        )
    return Mask(mask_HW, top, left)
