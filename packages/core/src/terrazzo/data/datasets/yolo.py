"""YOLO segmentation: one text file an image, a line for each polygon.

    images/train/a.jpg …
    labels/train/a.txt …        number of the class, then x y x y … as shares of width and height

    [data.options]
    images = "images/{split}"
    annotations = "labels/{split}"
    classes = ["person", "car"]

``classes`` are the ``names`` of ``data.yaml`` in their order: the first one has the number 0. A
line of five numbers is a box of object detection and is refused. Lines are drawn in their order,
the last one on top. An image without objects has an empty file, or none: see ``unannotated``.
Source: docs.ultralytics.com, "Instance segmentation datasets".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._annotated_images import AnnotatedImages, annotated_images
from terrazzo.data.datasets._annotation_files import not_readable, read_bytes
from terrazzo.data.datasets._annotation_pairs import pair_annotations
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._shape_options import PerImageOptions
from terrazzo.io.annotations.shapes import AnnotatedImage, Part, Polygon, Shape

LABELS = None
_BOX = 5
_MOST = 1e6  # times the size of the image: no share is as large


class Options(PerImageOptions):
    """Where images and files lie."""

    annotations: str = "labels"
    """Folder of the text files; may hold ``{split}``."""


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `annotated_images`.
        DataError: see `pair_annotations`.
    """
    pairs, notes = pair_annotations(root, split, options, (".txt",))
    load = {pair.name: partial(_load, pair, options.classes) for pair in pairs}
    found = partial(_class_names, pairs)
    return annotated_images(root, split, options, pairs, load, found, notes=notes)


def _class_names(pairs: Sequence[Pair]) -> list[str]:
    """Return the numbers up to the largest: the files hold no names."""
    largest = -1
    for pair in pairs:
        try:
            largest = max([largest, *(number for _, number, _ in _lines(pair.mask))])
        except DataError:  # found again where the file is read
            continue
    return [str(number) for number in range(largest + 1)]


def _lines(path: Path) -> list[tuple[str, int, list[float]]]:
    """Return place, number of the class and shares of each line."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise not_readable(path, str(error)) from None
    return [
        _line(line.split(), f"line {number}", path)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _line(words: Sequence[str], place: str, path: Path) -> tuple[str, int, list[float]]:
    try:
        number, *shares = int(words[0]), *map(float, words[1:])
    except ValueError as error:
        raise not_readable(path, f"{place}: {error}") from None
    if len(words) == _BOX:
        raise DataError(
            "SEG-D116",
            "a box of object detection says nothing of the pixels in it",
            file=path,
            observed=f"{place} holds five numbers",
            allowed="polygons: the number of the class, and three corners or more",
            next_step="use the segmentation labels of the data set",
        )
    if number < 0 or len(shares) % 2 or not all(abs(share) < _MOST for share in shares):
        raise not_readable(path, f"{place}: no class and pairs of shares: {' '.join(words)[:80]}")
    return place, number, shares


def _load(pair: Pair, classes: Sequence[str], size: tuple[int, int]) -> AnnotatedImage:
    rows, columns = size
    shapes = []
    for place, number, shares in _lines(pair.mask):
        # A number without a name is no class; `draw` says so.
        known = classes[number] if number < len(classes) else str(number)
        points_N2 = np.array(shares, np.float64).reshape(-1, 2) * [columns, rows]
        shapes.append(Shape(known, "polygon", Polygon((Part(points_N2),)), place))
    return AnnotatedImage(None, tuple(shapes))
