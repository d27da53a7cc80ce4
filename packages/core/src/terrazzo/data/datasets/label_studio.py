"""Label Studio: its own JSON export, one file for many images.

    images/a.jpg …
    project.json

    [data.options]
    annotations = "project.json"
    classes = ["Road", "Car"]

Polygons, rectangles and ellipses (turned ones too) and brushes are read, key points once they have
a ``line_width``. Coordinates are per cent of the sizes that the file states; turns are of pixels,
not of per cent. A brush is where its alpha is at least half. Regions are drawn in the order of the
file, the last one on top. Of an image that several people labelled one must be chosen by
``annotator``; answers that were cancelled, and predictions, are not drawn.
Source: labelstud.io, "Label Studio JSON format"; its converter for brushes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets._annotated_images import AnnotatedImages, annotated_images
from terrazzo.data.datasets._annotation_files import (
    Fields,
    kind_not_read,
    not_readable,
    parsed_once,
    read_json,
)
from terrazzo.data.datasets._annotation_pairs import SUFFIXES, file_of
from terrazzo.data.datasets._faults import refuse
from terrazzo.data.datasets._pairing import Pair, files_by_name, list_names
from terrazzo.data.datasets._shape_options import ShapeOptions
from terrazzo.io.annotations.draw import undrawable
from terrazzo.io.annotations.run_lengths import brush_mask
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

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
_REGION_KEYS = ("points", "rle", "x", "vertices")
_NAME_KEYS = (
    "polygonlabels",
    "rectanglelabels",
    "ellipselabels",
    "brushlabels",
    "keypointlabels",
    "labels",
)


class Options(ShapeOptions):
    """Where the file and the images are, and whose answers count."""

    annotations: str = "project.json"
    """The file; may hold ``{split}``."""
    annotator: str | None = None
    """Where several people labelled one image: ``completed_by`` of the one that counts, a number
    or an address as the file has it."""
    image_key: str | None = None
    """Which value of a task's data is the image. None: the only one that ends as images do."""


@dataclass(frozen=True, slots=True)
class _Task:
    """One task: where its image lies, and the answers that were not cancelled."""

    place: str
    data: Fields
    answers: tuple[Fields, ...]


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X122 `annotator` labelled nothing; see `annotated_images`.
        DataError: SEG-D014 images are missing or have one name; SEG-D111 the file is no such JSON;
            SEG-D117 several people labelled one image.
    """
    path = file_of(root, split, options)
    folder = root / options.images.replace("{split}", split)
    tasks, cancelled = _parse(path)
    chosen = _chosen(tasks, options.annotator, path)
    there = _images_of([task for task, _ in chosen], folder, options, path, root)
    answers = {
        name: (answer, image)
        for (_, answer), (name, image) in zip(chosen, there, strict=True)
        if image is not None
    }
    pairs = [Pair(name, image, path) for name, (_, image) in sorted(answers.items())]
    load = {pair.name: partial(_load, answers[pair.name][0], path) for pair in pairs}
    unanswered = len(tasks) - len(chosen)
    notes: tuple[str, ...] = ()
    if unanswered:
        notes += (f"{path}: {unanswered} tasks have no answer that counts, and are left out",)
    if cancelled:
        notes += (f"{path}: {cancelled} answers were cancelled, and are not drawn",)
    return annotated_images(
        root,
        split,
        options,
        pairs,
        load,
        lambda: [name for _, answer in chosen for name in _names_in(answer)],
        notes=notes,
    )


@parsed_once
def _parse(path: Path) -> tuple[tuple[_Task, ...], int]:
    tasks: list[_Task] = []
    cancelled = 0
    for number, value in enumerate(read_json(path, "label_studio")):
        task = Fields(value, path, f"[{number}]")
        answers = task.tables("annotations") if "annotations" in task else []
        counting = [each for each in answers if not each.values.get("was_cancelled")]
        cancelled += len(answers) - len(counting)
        tasks.append(_Task(f"[{number}]", task.table("data"), tuple(counting)))
    return tuple(tasks), cancelled


def _annotator(answer: Fields) -> str:
    told = answer.values.get("completed_by")
    if isinstance(told, dict):
        told = told.get("email", told.get("id"))
    return "unknown" if told is None else str(told)


def _chosen(
    tasks: Sequence[_Task], annotator: str | None, path: Path
) -> list[tuple[_Task, Fields]]:
    """Return the answer that counts of each task that has one."""
    people = sorted({_annotator(answer) for task in tasks for answer in task.answers})
    if annotator is not None and annotator not in people:
        raise ConfigError(
            "SEG-X122",
            "data.options.annotator has labelled nothing",
            file=path,
            observed=annotator,
            allowed=", ".join(people),
            next_step="name one of these",
        )
    chosen: list[tuple[_Task, Fields]] = []
    for task in tasks:
        answers = [
            each for each in task.answers if annotator is None or _annotator(each) == annotator
        ]
        if len(answers) > 1:
            told = ", ".join(map(_annotator, answers))
            error = DataError(
                "SEG-D117",
                "an image was labelled several times, and one answer must be chosen",
                file=path,
                observed=f"task {task.place}: by {told}",
                allowed="one answer for each image",
                next_step=f'set data.options.annotator = "{_annotator(answers[0])}", or cancel '
                "the others in Label Studio and export again",
            )
            refuse(error)
        if answers:
            chosen.append((task, answers[0]))
    return chosen


def _images_of(
    tasks: Sequence[_Task], folder: Path, options: Options, path: Path, root: Path
) -> list[tuple[str, Path | None]]:
    """Return name and file of the image of each task; None: it is missing."""
    names: dict[Path, str] = {
        file: name
        for name, files in files_by_name(folder, SUFFIXES, root=root).items()
        for file in files
    }
    by_end: dict[str, list[Path]] = {}
    for file in names:
        by_end.setdefault(file.name, []).append(file)
    found: list[tuple[str, Path | None]] = []
    missing: list[str] = []
    taken: dict[Path, str] = {}
    twice: list[str] = []
    for task in tasks:
        address = _address(task, options.image_key, path)
        image = _file_of(address, by_end, folder)
        if image is None:
            missing.append(address)
            found.append(("", None))
            continue
        if image in taken:
            twice.append(f"{image.name} ({taken[image]} and {task.place})")
        taken[image] = task.place
        found.append((names[image], image))
    faults = {
        "images that are missing, or of several folders": missing,
        "images of two tasks": twice,
    }
    if any(faults.values()):
        error = DataError(
            "SEG-D014",
            "tasks and images do not pair up",
            file=path,
            observed="; ".join(list_names(title, each) for title, each in faults.items() if each),
            allowed=f"one image below {folder} for every task, by its file name",
            next_step="bring the images, set data.options.images, or export each image once",
        )
        refuse(error)
    return found


def _address(task: _Task, key: str | None, path: Path) -> str:
    if key is not None:
        return task.data.text(key)
    texts = [
        each
        for each in task.data.values.values()
        if isinstance(each, str) and _path_of(each).lower().endswith(SUFFIXES)
    ]
    if len(texts) != 1:
        raise not_readable(
            path,
            f"task {task.place}: {len(texts)} of its data are images: set "
            f"data.options.image_key to one of {', '.join(map(str, task.data.values))}",
        )
    return texts[0]


def _path_of(address: str) -> str:
    """Return the path in an address; of local files it stands behind ``?d=``."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def _file_of(address: str, by_end: dict[str, list[Path]], folder: Path) -> Path | None:
    path = PurePosixPath(_path_of(address))
    for name in (path.name, _UPLOADED.sub("", path.name)):
        files = by_end.get(name, [])
        if len(files) == 1:
            return files[0]
        # Of several the one whose folders are those of the address, as far as they go.
        alike = [
            file
            for file in files
            if path.parts[-len(file.relative_to(folder).parts) :] == file.relative_to(folder).parts
        ]
        if len(alike) >= 1:
            return max(alike, key=lambda file: len(file.parts))
    return None


def _names_in(answer: Fields) -> list[str]:
    try:
        return [name for each in _results(answer) for name in _names_of(each)]
    except DataError:
        return []  # found again where the shapes are drawn


def _results(answer: Fields) -> list[Fields]:
    return [each for each in answer.tables("result") if "value" in each]


def _names_of(result: Fields) -> list[str]:
    value = result.table("value")
    names = [name for key in _NAME_KEYS if key in value for name in value.list_of(key)]
    if not all(isinstance(name, str) and name for name in names):
        raise not_readable(result.path, f"{result.place}: classes are texts, and not {names}")
    return names


def _load(answer: Fields, path: Path, size: tuple[int, int]) -> AnnotatedImage:
    results = _results(answer)
    named: dict[str, list[str]] = {}
    for each in results:
        known = named.setdefault(str(each.values.get("id", each.place)), [])
        known += [name for name in _names_of(each) if name not in known]
    regions: dict[str, Fields] = {}
    for each in results:
        if any(key in each.table("value") for key in _REGION_KEYS):
            regions.setdefault(str(each.values.get("id", each.place)), each)
    stated = {each.size("original_height", "original_width") for each in regions.values()}
    other = next((found for found in sorted(stated) if found != size), None)
    if other is not None:
        return AnnotatedImage(other, ())
    return AnnotatedImage(
        size, tuple(_shape(each, named[key], path, size) for key, each in regions.items())
    )


def _shape(each: Fields, names: Sequence[str], path: Path, size: tuple[int, int]) -> Shape:
    kind = each.text("type").removesuffix("labels") or "region"
    if len(names) != 1:
        raise undrawable(
            "a region must be of one class",
            f"{len(names)} ({', '.join(names)}) at {each.place}",
            "1",
            str(path),
        )
    if "image_rotation" in each and each.number("image_rotation") % 360:
        raise DataError(
            "SEG-D116",
            "the image was turned in Label Studio, and which way its shapes mean is not told",
            file=path,
            observed=f"image_rotation {each.number('image_rotation'):g} at {each.place}",
            allowed="0",
            next_step="turn the image file itself, and label it upright",
        )
    return Shape(names[0], kind, _geometry(each, kind, size), each.place)


def _geometry(each: Fields, kind: str, size: tuple[int, int]) -> Geometry:
    value = each.table("value")
    rows, columns = size
    if "points" in value:
        points_N2 = value.points("points") * [columns / 100, rows / 100]
        return Polygon((Part(points_N2),))
    if "rle" in value:
        return _brush(value, size)
    degrees = value.number("rotation") if "rotation" in value else 0.0
    if "x" in value and "y" in value:
        x, y = value.number("x") * columns / 100, value.number("y") * rows / 100
        if "radiusX" in value:
            radius_x = value.number("radiusX") * columns / 100
            radius_y = value.number("radiusY") * rows / 100
            return Ellipse(x, y, radius_x, radius_y, degrees)
        if "height" in value:
            right = x + value.number("width") * columns / 100
            bottom = y + value.number("height") * rows / 100
            return box(x, y, right, bottom, degrees, about="corner")
        if kind.startswith("keypoint"):
            return Line(np.array([[x, y]]))
    raise kind_not_read(
        each, kind, "polygon, rectangle, ellipse, brush; key points with data.options.line_width"
    )


def _brush(value: Fields, size: tuple[int, int]) -> Mask:
    try:
        return Mask(brush_mask(value.list_of("rle"), *size))
    except DataError:
        raise
    except ValueError as error:
        raise undrawable(
            "a brush does not fit its image",
            f"{value.place}: {error}",
            "runs of red, green, blue and alpha of all its pixels",
            str(value.path),
        ) from None
