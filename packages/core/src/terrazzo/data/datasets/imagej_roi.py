"""ImageJ and Fiji: a ``.roi`` file, or a ``.zip`` set of the ROI Manager, for each image.

    images/cells.tif …
    images/cells.zip …         or  annotations/cells_rois.zip with annotations = "annotations"
                               and annotation_suffix = "_rois"

    [data.options]
    classes = ["nucleus", "debris"]

Polygons, rectangles, ovals, ellipses, freehand, traced and composite selections are read, with
holes and several parts; lines by the width they were given, or ``line_width``, which points need
as well. ``class_from`` says what the class is: the ``name`` without the number that the ROI Manager
adds (``nucleus-2`` is ``nucleus``; names that ImageJ makes of places, such as ``0034-0012``, and
bare numbers are ``unnamed``), the ``group`` (``group 3``), or the ``stroke_colour`` (``#FF0000``).
ROIs are drawn in the order of the file, the last one on top; those of another slice than the one
that is read (``plane``, else the first) are refused, and those of no slice are of every one. The
files state no size of their image.

Whole numbers are corners of pixels in selections of an area, so that a traced object has its own
pixels again, and centres of pixels in lines and points.
Source: imagej.net, "ij.gui.Roi" on the coordinates and "ij.io.RoiDecoder" on the files.
"""

from __future__ import annotations

import functools
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets._annotated_images import AnnotatedImages, open_per_image
from terrazzo.data.datasets._annotation_files import not_readable, read_bytes
from terrazzo.data.datasets._pairing import Pair
from terrazzo.data.datasets._planes_of_shapes import ReadPlane
from terrazzo.data.datasets._shape_options import PerImageOptions
from terrazzo.io.annotations.shapes import (
    AnnotatedImage,
    Ellipse,
    Geometry,
    Line,
    Part,
    Polygon,
    Shape,
    box,
)

LABELS = None
_LARGEST = 1 << 26
"""Bytes of one ROI, unpacked: more is no outline of an image that can be read."""
_MOST = 1 << 16  # ROIs of one file
_PLACE = re.compile(r"\d+|\d{4,}(-\d{4,}){1,2}")
_NUMBERED = re.compile(r"-\d+$")
_UNNAMED = "unnamed"
_FRACTION_AT = 52  # bytes before the aspect ratio of an ellipse, the width of a turned rectangle

ClassFrom = Literal["name", "group", "stroke_colour"]


class Options(PerImageOptions):
    """Where images and files lie, and what the class of a ROI is."""

    annotations: str = "images"
    """Folder of the ``.roi`` and ``.zip`` files; may hold ``{split}``."""
    class_from: ClassFrom = "name"
    """What of a ROI is its class."""


def open_split(root: Path, split: str, options: Options) -> AnnotatedImages:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X003, roifile is not installed; see `open_per_image`.
        DataError: see `open_per_image`.
    """
    _roifile()

    def load(pair: Pair, size: tuple[int, int]) -> AnnotatedImage:  # noqa: ARG001
        plane = ReadPlane.of(pair.image, options.plane)
        return AnnotatedImage(None, tuple(_shapes(pair.mask, options.class_from, plane)))

    def names_in(path: Path) -> list[str]:
        return [_class_of(roi, name, options.class_from) for roi, name, _ in _rois(path)]

    return open_per_image(root, split, options, load, names_in, (".roi", ".zip"))


@functools.cache
def _roifile() -> Any:
    try:
        import roifile
    except ImportError as error:
        raise ConfigError(
            "SEG-X003",
            "the format imagej_roi needs roifile, which is not installed",
            observed=error,
            next_step="pip install 'terrazzo[microscopy]'",
        ) from error
    return roifile


def _rois(path: Path) -> Iterator[tuple[Any, str, bytes]]:
    """Yield each ROI with its name and its bytes."""
    content = read_bytes(path)
    for name, data in _entries(content, path):
        try:
            roi = _roifile().ImagejRoi.frombytes(data)
        except (
            *(ValueError, TypeError, IndexError, AssertionError, RuntimeError),  # of Unicode too
            *(struct.error, MemoryError, OverflowError),
        ) as error:
            raise not_readable(path, f"{name}: {error}") from None
        yield roi, roi.name or PurePosixPath(name).stem, data


def _entries(content: bytes, path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix.lower() != ".zip":
        yield path.name, content
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [each for each in archive.infolist() if not each.is_dir()]
            _refuse_others(files, path)
            for each in files:
                yield each.filename, archive.read(each)
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
        *(ValueError, OSError, struct.error, MemoryError, OverflowError),  # of places in the file
    ) as error:
        raise not_readable(path, str(error)) from None


def _refuse_others(files: list[zipfile.ZipInfo], path: Path) -> None:
    others = [each.filename for each in files if not each.filename.lower().endswith(".roi")]
    if others or not files:
        told = f"it holds {others[0]!r}" if others else "it is empty"
        raise not_readable(path, f"{told}, and a set of ROIs holds .roi files alone")
    large = next((each for each in files if each.file_size > _LARGEST), None)
    if large is not None or len(files) > _MOST:
        told = f"{len(files)} ROIs" if large is None else f"{large.filename}: {large.file_size} B"
        raise not_readable(path, f"{told}; at most {_MOST} ROIs of {_LARGEST} B each are read")


def _class_of(roi: Any, name: str, class_from: ClassFrom) -> str:
    match class_from:
        case "group":
            return f"group {roi.group}" if roi.group else "no group"
        case "stroke_colour":
            colour = roi.hexcolor(roi.stroke_color)
            return colour.upper() if colour else "no colour"
        case "name":
            if _PLACE.fullmatch(name):
                return _UNNAMED
            return _NUMBERED.sub("", name) or _UNNAMED


def _shapes(path: Path, class_from: ClassFrom, plane: ReadPlane) -> Iterator[Shape]:
    for number, (roi, name, data) in enumerate(_rois(path)):
        place = f"ROI {number} ({name!r})"
        kind = _kind(roi)
        other = _other_slice(roi, plane)
        if other is not None:
            allowed = f"ROIs of {plane.told} (slices count from 1), or of no slice"
            raise _not_read(path, f"{kind} at {other}, {place}", allowed)
        for geometry in _geometries(roi, kind, data, path, place):
            yield Shape(_class_of(roi, name, class_from), kind, geometry, place)


def _kind(roi: Any) -> str:
    if roi.shape_roi_size > 0:
        return "composite"
    subtype: str = roi.subtype.name.lower()
    kind: str = roi.roitype.name.lower()
    return kind if subtype == "undefined" else subtype


def _other_slice(roi: Any, plane: ReadPlane) -> str | None:
    """Return the slice of a ROI, counted from 1, where it is another than the one that is read."""
    slices = {"z": roi.z_position, "t": roi.t_position}
    numbered = {axis: number - 1 for axis, number in slices.items() if number > 0}
    other = plane.other_axis(numbered)
    if other is not None:
        return f"{other.upper()} {slices[other]}"
    if numbered or roi.position < 1:
        return None
    # In a stack of one axis the number of the slice; of several it tells the first slice alone.
    is_read = {roi.position - 1} == ({*plane.chosen.values()} or {0})
    if is_read and (len(plane.chosen) < 2 or roi.position == 1):
        return None
    return f"position {roi.position}"


def _geometries(roi: Any, kind: str, data: bytes, path: Path, place: str) -> Iterator[Geometry]:
    options = type(roi.options)
    if roi.options & options.SPLINE_FIT:
        raise _not_read(path, f"{kind} with a fitted spline, {place}", "the interpolated selection")
    match kind:
        case "polygon" | "freehand" | "traced":
            yield Polygon((Part(_points(roi, path, place)),))
        case "rect" | "oval" if not roi.rounded_rect_arc_size:
            left, top, right, bottom = _bounds(roi)
            if kind == "rect":
                yield box(left, top, right, bottom, about="corner")
            else:
                width, height = right - left, bottom - top
                yield Ellipse(left + width / 2, top + height / 2, width / 2, height / 2)
        case "ellipse":
            yield _ellipse(roi, data)
        case "rotated_rect":
            yield _turned_box(roi, data)
        case "composite":
            yield Polygon(tuple(Part(ring_N2) for ring_N2 in _rings(roi, path, place)), True)
        case "line" | "polyline" | "freeline":
            width = float(roi.float_stroke_width or roi.stroke_width)
            yield Line(_points(roi, path, place) + 0.5, width if width > 0 else None)
        case "point":
            for point_2 in _points(roi, path, place):
                yield Line(point_2[None] + 0.5)
        case _:
            told = "rectangle with round corners" if kind in ("rect", "oval") else kind
            raise _not_read(
                path,
                f"{told}, {place}",
                "polygon, rectangle, oval, ellipse, freehand, traced, composite; line with a width "
                "of its own or data.options.line_width; point with that",
            )


def _bounds(roi: Any) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom."""
    if roi.subpixelrect:
        return roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
    return roi.left, roi.top, roi.right, roi.bottom


def _points(roi: Any, path: Path, place: str) -> NDArray[np.float64]:
    points_N2 = np.asarray(roi.coordinates(), np.float64).reshape(-1, 2)
    if not len(points_N2):
        raise not_readable(path, f"{place} has no point")
    return points_N2


def _rings(roi: Any, path: Path, place: str) -> list[NDArray[np.float64]]:
    try:
        rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
    except NotImplementedError:
        raise _not_read(path, f"composite with curves, {place}", "straight edges") from None
    except (IndexError, RuntimeError, ValueError, OverflowError) as error:
        raise not_readable(path, f"{place}: {error}") from None
    # What is left of a combined selection may be a line there and back, without any area.
    rings = [ring_N2 for ring_N2 in rings if len(np.unique(ring_N2, axis=0)) > 2]
    if not rings:
        raise not_readable(path, f"{place} has no outline")
    return rings


def _fraction(roi: Any, data: bytes) -> float:
    (number,) = struct.unpack_from(f"{roi.byteorder}f", data, _FRACTION_AT)
    return float(number)


def _ellipse(roi: Any, data: bytes) -> Ellipse:
    """Return the ellipse about a long axis, the other axis being a share of it."""
    along = math.hypot(roi.x2 - roi.x1, roi.y2 - roi.y1) / 2
    degrees = math.degrees(math.atan2(roi.y2 - roi.y1, roi.x2 - roi.x1))
    middle = (roi.x1 + roi.x2) / 2, (roi.y1 + roi.y2) / 2
    return Ellipse(*middle, along, along * _fraction(roi, data), degrees)


def _turned_box(roi: Any, data: bytes) -> Polygon:
    """Return the rectangle about a line between the middles of two of its sides."""
    start_2, end_2 = np.array([roi.x1, roi.y1]), np.array([roi.x2, roi.y2])
    length = float(np.hypot(*(end_2 - start_2))) or 1.0
    across_2 = (end_2 - start_2)[::-1] * [-1, 1] / length * _fraction(roi, data) / 2
    corners = [start_2 + across_2, end_2 + across_2, end_2 - across_2, start_2 - across_2]
    return Polygon((Part(np.array(corners)),))


def _not_read(path: Path, observed: str, allowed: str) -> DataError:
    return DataError(
        "SEG-D116",
        "this kind of ROI is not read, and none is skipped without a word",
        file=path,
        observed=observed,
        allowed=allowed,
        next_step="in ImageJ, draw it as one of these, `Edit > Selection > Interpolate` outlines, "
        "`ROI Manager > More > Remove Positions` where it is of every slice; or delete it",
    )
