"""COCO: one JSON file for many images, with polygons or runs of pixels.

    images/000001.jpg …
    annotations/instances_train.json, annotations/instances_val.json …

    [data.options]
    annotations = "annotations/instances_{split}.json"
    images = "images/{split}"
    classes = ["person", "car"]

The polygons of one object are united; runs are read in both forms. Objects are drawn in the order
of the file, the last one on top: not by area, and not by id. An object that has a box alone, or key
points alone, has no outline and is refused.
Source: cocodataset.org, "data format"; Lin and others, "Microsoft COCO", ECCV 2014.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._annotated_images import AnnotatedImages, annotated_images
from terrazzo.data.datasets._annotation_files import (
    Fields,
    not_readable,
    parsed_once,
    points_of,
    read_json,
)
from terrazzo.data.datasets._annotation_pairs import file_of, pair_entries
from terrazzo.data.datasets._shape_options import ShapeOptions
from terrazzo.io.annotations.draw import undrawable
from terrazzo.io.annotations.run_lengths import coco_lengths, mask_of_runs
from terrazzo.io.annotations.shapes import AnnotatedImage, Geometry, Mask, Part, Polygon, Shape

LABELS = None


class Options(ShapeOptions):
    """Where the file and the images are, and what crowds count as."""

    annotations: str = "annotations.json"
    """The file; may hold ``{split}``."""
    iscrowd: Literal["keep", "ignore", "background"] = "keep"
    """Objects marked ``iscrowd``, which stand for many: of their class, ignored, or not drawn."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image of the file."""

    path: str
    size: tuple[int, int]
    objects: tuple[Fields, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """One file: classes by category id in the order of the file, images by id."""

    classes: dict[int, str]
    images: dict[int, _Entry]
    orphans: int


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `annotated_images`.
        DataError: see `read_json` and `pair_entries`; SEG-D111 the file contradicts itself.
    """
    path = file_of(root, split, options)
    file = _parse(path)
    found, notes = pair_entries(root, split, options, tuple(file.images.values()))
    load = {p.name: partial(_load, entry, file.classes, path) for p, entry in found.items()}
    if file.orphans:
        notes += (f"{path}: {file.orphans} objects are of images that the file does not list",)
    return annotated_images(
        root,
        split,
        options,
        tuple(found),
        load,
        lambda: list(file.classes.values()),
        crowds=options.iscrowd,
        notes=notes,
    )


@parsed_once
def _parse(path: Path) -> _File:
    whole = Fields(read_json(path, "coco"), path, "")
    classes: dict[int, str] = {}
    for category in whole.tables("categories"):
        number = category.whole("id")
        if number in classes:
            raise not_readable(path, f"two categories have the id {number}")
        classes[number] = category.text("name")
    twice = [name for name, count in Counter(classes.values()).items() if count > 1]
    if twice:
        raise not_readable(path, f"two categories are called {twice[0]!r}")
    objects: dict[int, list[Fields]] = {}
    for each in whole.tables("annotations"):
        objects.setdefault(each.whole("image_id"), []).append(each)
    images: dict[int, _Entry] = {}
    for image in whole.tables("images"):
        number = image.whole("id")
        if number in images:
            raise not_readable(path, f"two images have the id {number}")
        size = image.size("height", "width")
        images[number] = _Entry(image.text("file_name"), size, tuple(objects.pop(number, ())))
    return _File(classes, images, sum(map(len, objects.values())))


def _load(
    entry: _Entry, classes: dict[int, str], path: Path, size: tuple[int, int]
) -> AnnotatedImage:
    if entry.size != size:  # before runs of pixels of any size are unpacked
        return AnnotatedImage(entry.size, ())
    return AnnotatedImage(size, tuple(_shape(each, classes, path, size) for each in entry.objects))


def _shape(each: Fields, classes: dict[int, str], path: Path, size: tuple[int, int]) -> Shape:
    number = each.whole("category_id")
    if number not in classes:
        raise not_readable(path, f"{each.place}: no category has the id {number}")
    kind, geometry = _geometry(each, path, size, classes[number])
    is_crowd = "iscrowd" in each and each.whole("iscrowd") != 0
    return Shape(classes[number], kind, geometry, each.place, is_crowd)


def _geometry(each: Fields, path: Path, size: tuple[int, int], name: str) -> tuple[str, Geometry]:
    found = each.values.get("segmentation")
    if isinstance(found, list) and found:
        return "polygon", Polygon(tuple(_part(ring, path, each.place) for ring in found))
    if isinstance(found, dict) and found:
        return "mask", mask_of(Fields(found, path, f"{each.place}.segmentation"), size)
    has = [key for key in ("bbox", "keypoints") if each.values.get(key)]
    raise DataError(
        "SEG-D116",
        "an object has no outline and no mask, and none is skipped without a word",
        file=path,
        observed=f"{each.place} (class {name!r}) has {' and '.join(has) or 'nothing'} alone",
        allowed="a segmentation: polygons, or runs of pixels",
        next_step="export the outlines, or delete the object",
    )


def _part(ring: Any, path: Path, place: str) -> Part:
    if not isinstance(ring, list) or len(ring) % 2:
        raise undrawable(
            "a polygon is a list of x, y, x, y …",
            f"{str(ring)[:80]} at {place}",
            "an even number of numbers",
            str(path),
        )
    pairs = list(zip(ring[::2], ring[1::2], strict=True))
    return Part(points_of(pairs, path, f"{place}.segmentation"))


def mask_of(runs: Fields, size: tuple[int, int]) -> Mask:
    """Return the mask of runs in COCO's form, of an image of `size`."""
    stated = runs.list_of("size")
    counts = runs.values.get("counts")
    try:
        if tuple(stated) != size:
            msg = f"runs of {stated} pixels, and the image has {list(size)} (rows, columns)"
            raise ValueError(msg)  # noqa: TRY301
        if isinstance(counts, str):
            counts = coco_lengths(counts)
        if not isinstance(counts, list):
            raise runs.wrong("counts", "a text or a list")
        return Mask(mask_of_runs(counts, *size, by_columns=True))
    except DataError:
        raise
    except ValueError as error:
        raise undrawable(
            "the runs of a mask do not fit its image",
            f"{runs.place}: {error}",
            "runs down the columns, whose sum is rows × columns",
            str(runs.path),
        ) from None
