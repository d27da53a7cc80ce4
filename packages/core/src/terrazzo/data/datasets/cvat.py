"""CVAT: the XML of "CVAT for images 1.1" or "CVAT for video 1.1", one file for many images.

    images/a.jpg …
    annotations.xml

    [data.options]
    annotations = "annotations.xml"
    classes = ["road", "car"]

Polygons, boxes and ellipses (turned ones too) and masks are read, polylines and points once they
have a ``line_width``; cuboids and skeletons are refused. Shapes are drawn by ``z_order``, and in
the order of the file where that is equal, the last one on top. Tags are of whole images: they are
counted and not drawn. Of a video, images are called ``frame_000000`` and so on, as CVAT exports
them; those in the folder are labelled, also where no object is.
Source: docs.cvat.ai, "CVAT for images 1.1" and "CVAT for video 1.1".
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._annotated_images import AnnotatedImages, annotated_images
from terrazzo.data.datasets._annotation_files import (
    Fields,
    kind_not_read,
    not_readable,
    parsed_once,
    points_of,
    read_bytes,
)
from terrazzo.data.datasets._annotation_pairs import SUFFIXES, file_of, pair_entries
from terrazzo.data.datasets._cvat_tracks import (
    Tracks,
    frame_of,
    read_tracks,
    refuse_missing,
    two_of_one_frame,
)
from terrazzo.data.datasets._pairing import files_by_name
from terrazzo.data.datasets._shape_options import ShapeOptions
from terrazzo.io.annotations.draw import undrawable
from terrazzo.io.annotations.run_lengths import mask_of_runs
from terrazzo.io.annotations.shapes import (
    AnnotatedImage,
    Ellipse,
    Geometry,
    Line,
    Mask,
    Part,
    Polygon,
    Shape,
    box,
)

LABELS = None
_NO_SHAPES = ("tag", "attribute")


class Options(ShapeOptions):
    """Where the file and the images are."""

    annotations: str = "annotations.xml"
    """The file; may hold ``{split}``."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image of the file; its shapes from the lowest to the highest."""

    path: str
    size: tuple[int, int]
    shapes: tuple[tuple[str, Fields], ...]


@dataclass(frozen=True, slots=True)
class _File:
    """Classes in the order of the file, its images, and tags, which are not drawn.

    A video has its tracks in place of images.
    """

    classes: tuple[str, ...]
    images: tuple[_Entry, ...]
    tags: int
    tracks: Tracks | None = None


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: see `annotated_images`.
        DataError: see `pair_entries` and `_cvat_tracks`; SEG-D014 two images of one frame;
            SEG-D111 the file is no such XML.
    """
    path = file_of(root, split, options)
    file = _parse(path)
    entries = file.images
    if file.tracks is not None:
        entries = _frames(file.tracks, root, split, options)
    found, notes = pair_entries(root, split, options, entries)
    load = {pair.name: partial(_load, entry) for pair, entry in found.items()}
    if file.tags:
        notes += (f"{path}: {file.tags} tags are of whole images and not drawn",)
    return annotated_images(
        root, split, options, tuple(found), load, lambda: file.classes, notes=notes
    )


def _frames(tracks: Tracks, root: Path, split: str, options: Options) -> tuple[_Entry, ...]:
    """Return the images of a video that are there, each with the objects of its frame."""
    folder = root / options.images.replace("{split}", split)
    entries: dict[int, _Entry] = {}
    path = file_of(root, split, options)
    for name, files in files_by_name(folder, SUFFIXES, root=root).items():
        frame = frame_of(name)
        if frame is None or frame > tracks.last:
            continue
        places = [each.relative_to(folder).as_posix() for each in files]
        if frame in entries or len(files) > 1:
            known = [entries[frame].path] if frame in entries else []
            raise two_of_one_frame([*known, *places], path)
        shapes = sorted(tracks.shapes.get(frame, ()), key=lambda each: _z_order(each[1]))
        entries[frame] = _Entry(places[0], tracks.size, tuple(shapes))
    refuse_missing(tracks, entries, folder, path)
    return tuple(entries.values())


@parsed_once
def _parse(path: Path) -> _File:
    top = _read_xml(path)
    declared = [each.text or "" for each in top.iterfind("meta//labels/label/name") if each.text]
    if top.find("track") is not None:
        if top.find("image") is not None:
            raise not_readable(path, "it holds both <track> and <image>")
        tracks = read_tracks(top, path)
        return _File(tuple(dict.fromkeys([*declared, *tracks.labels])), (), 0, tracks)
    entries: list[_Entry] = []
    tags = 0
    for image in top.iterfind("image"):
        place = f"image {image.get('name', image.get('id', '?'))!r}"
        fields = Fields(image.attrib, path, place)
        shapes = list(_shapes_of(image, path, place))
        tags += sum(each.tag == "tag" for each in image)
        # Python's sort keeps the order of equal ones.
        shapes.sort(key=lambda kind_and_fields: _z_order(kind_and_fields[1]))
        entries.append(_Entry(fields.text("name"), fields.size("height", "width"), tuple(shapes)))
    used = [fields.values.get("label", "") for entry in entries for _, fields in entry.shapes]
    classes = dict.fromkeys(name for name in [*declared, *used] if name)
    return _File(tuple(classes), tuple(entries), tags)


def _shapes_of(image: ElementTree.Element, path: Path, place: str) -> Iterator[tuple[str, Fields]]:
    number = 0
    for each in image:
        if each.tag not in _NO_SHAPES:
            yield each.tag, Fields(each.attrib, path, f"{place}, shape {number}")
            number += 1


def _z_order(fields: Fields) -> int:
    return int(fields.number("z_order")) if "z_order" in fields else 0


def _read_xml(path: Path) -> ElementTree.Element:
    content = read_bytes(path)
    if b"\0" in content:
        raise not_readable(path, "it is not in UTF-8")
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise not_readable(path, "it declares a document type, which CVAT does not")
    try:
        top = ElementTree.fromstring(content)  # noqa: S314 - entities are refused above
    except ElementTree.ParseError as error:
        raise not_readable(path, str(error)) from None  # it ends in line and column
    if top.tag != "annotations":
        raise DataError(
            "SEG-D111",
            "the file is not CVAT for images 1.1",
            file=path,
            observed=f"the element <{top.tag}>",
            allowed="<annotations> with <image> or <track> elements",
            next_step='export the task again as "CVAT for images 1.1"',
        )
    return top


def _load(entry: _Entry, size: tuple[int, int]) -> AnnotatedImage:
    if entry.size != size:
        return AnnotatedImage(entry.size, ())
    return AnnotatedImage(
        size,
        tuple(
            Shape(each.text("label"), kind, geometry, each.place)
            for kind, each in entry.shapes
            for geometry in _geometries(kind, each, size)
        ),
    )


def _geometries(kind: str, each: Fields, size: tuple[int, int]) -> list[Geometry]:
    """Return the shape, or the single points that stand together in one."""
    if kind == "points":
        return [Line(point_2[None]) for point_2 in _points(each)]
    return [_geometry(kind, each, size)]


def _geometry(kind: str, each: Fields, size: tuple[int, int]) -> Geometry:
    degrees = each.number("rotation") if "rotation" in each else 0.0
    match kind:
        case "polygon":
            return Polygon((Part(_points(each)),))
        case "polyline":
            return Line(_points(each))
        case "box":
            left, top, right, bottom = map(each.number, ("xtl", "ytl", "xbr", "ybr"))
            return box(left, top, right, bottom, degrees, about="centre")
        case "ellipse":
            x, y, radius_x, radius_y = map(each.number, ("cx", "cy", "rx", "ry"))
            return Ellipse(x, y, radius_x, radius_y, degrees)
        case "mask":
            return _mask(each, size)
    raise kind_not_read(
        each,
        f"<{kind}>",
        "polygon, box, ellipse, mask; polyline and points with data.options.line_width",
    )


def _points(each: Fields) -> NDArray[np.float64]:
    pairs = [pair.split(",") for pair in each.text("points").split(";")]
    return points_of(pairs, each.path, each.place)


def _mask(each: Fields, size: tuple[int, int]) -> Mask:
    rows, columns = each.size("height", "width")
    top, left = each.whole("top"), each.whole("left")
    try:
        # First the box: its runs may claim any number of pixels.
        _refuse_beyond((top, left, top + rows, left + columns), size)
        lengths = [int(text) for text in each.text("rle").split(",")]
        return Mask(mask_of_runs(lengths, rows, columns, by_columns=False), top, left)
    except DataError:
        raise
    except ValueError as error:
        raise undrawable(
            "the runs of a mask do not fit its box",
            f"{each.place}: {error}",
            "runs along the rows of a box inside the image, whose sum is its pixels",
            str(each.path),
        ) from None


def _refuse_beyond(box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    if box[2] > size[0] or box[3] > size[1]:
        msg = f"a box from row {box[0]} to {box[2]}, column {box[1]} to {box[3]}, of an image of "
        msg += f"{size[0]}×{size[1]} (rows×columns)"
        raise ValueError(msg)
