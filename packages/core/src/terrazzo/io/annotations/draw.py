"""Shapes of one image become its label; every shape is counted in and out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.io.annotations import fill_centre, fill_inclusive
from terrazzo.io.annotations.shapes import AnnotatedImage, Ellipse, Geometry, Line, Mask, Polygon

BACKGROUND = 0
"""Raw value of pixels in no shape; classes follow from 1 on."""

FillRule = Literal["centre", "inclusive"]
"""When a pixel is inside a polygon: ``centre``: its centre is; ``inclusive``: as Pillow draws."""

CrowdRule = Literal["keep", "ignore", "background"]

_FURTHEST = float(1 << 22)
"""Pixels; no image is as large, and whole numbers of float32 end soon after."""

_Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class DrawingRules:
    """How shapes become pixels.

    Attributes:
        values: raw value of each class.
        fill: see `FillRule`. Ellipses and lines are drawn by their pixels' centres under both.
        line_width: in pixels, of lines and points. None: their own; those without are refused.
        crowds: objects that stand for many are kept, ignored, or not drawn.
        ignored: raw value of what is ignored.
        undrawn: classes that are counted and not drawn.
    """

    values: Mapping[str, int]
    fill: FillRule = "centre"
    line_width: float | None = None
    crowds: CrowdRule = "keep"
    ignored: int = 255
    undrawn: frozenset[str] = frozenset()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of labels: uint8, or uint16 where a value needs it."""
        return np.dtype(np.uint8 if max([self.ignored, *self.values.values()]) < 256 else np.uint16)


@dataclass(slots=True)
class Account:
    """What became of the shapes of one image or of many.

    Attributes:
        shapes: by what the tool calls them, all that the files hold.
        undrawn: of these, crowds that count as background, and classes that are not drawn.
        empty: shapes that cover no pixel of the image, by class.
        hidden: shapes that later ones cover entirely, by class.
        clipped: shapes that reach beyond the image.
        overlaps: pixels that one class takes from another, by the two names, the upper one first.
        pixels: of each class, at the end.
    """

    shapes: Counter[str] = field(default_factory=Counter)
    undrawn: int = 0
    empty: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    clipped: int = 0
    overlaps: Counter[tuple[str, str]] = field(default_factory=Counter)
    pixels: Counter[str] = field(default_factory=Counter)

    def add(self, other: Account) -> None:
        """Add the counts of other images."""
        for name in ("shapes", "empty", "hidden", "overlaps", "pixels"):
            getattr(self, name).update(getattr(other, name))
        self.undrawn += other.undrawn
        self.clipped += other.clipped


@dataclass(frozen=True, slots=True)
class Drawn:
    """The label of one image, H×W raw values, and what became of its shapes."""

    label_HW: NDArray[Any]
    account: Account


def draw(
    image: AnnotatedImage, size: tuple[int, int], rules: DrawingRules, *, file: str, counts: bool
) -> Drawn:
    """Draw shapes in their order, the last one on top.

    Args:
        image: its shapes.
        size: rows and columns.
        rules: how.
        file: the shapes' file, for messages.
        counts: whether to find out what lies over what, which takes another array.

    Raises:
        DataError: SEG-D112 a class that is not in `rules`; SEG-D113 a shape that has no area, or
            coordinates that are no numbers; SEG-D116 a line or a point without a width.
    """
    label_HW = np.full(size, BACKGROUND, rules.dtype)
    on_top_HW = np.full(size if counts else (0, 0), -1, np.int32)
    account = Account(Counter(shape.kind for shape in image.shapes))
    names = [shape.name for shape in image.shapes]
    drawn: Counter[str] = Counter()
    for number, shape in enumerate(image.shapes):
        if shape.name in rules.undrawn:
            account.undrawn += 1
            continue
        value = rules.values.get(shape.name)
        where = f"{shape.place} ({shape.kind}, class {shape.name!r})"
        if value is None:
            raise _unknown_class(shape.name, where, rules, file)
        _refuse_undrawable(shape.geometry, where, rules, file)
        if shape.is_crowd and rules.crowds == "background":
            account.undrawn += 1
            continue
        if shape.is_crowd and rules.crowds == "ignore":
            value = rules.ignored
        drawn[shape.name] += 1
        box, is_clipped = _box(shape.geometry, size, rules)
        filled_HW = _fill(shape.geometry, box, rules)
        window = np.s_[box[0] : box[2], box[1] : box[3]]
        label_HW[window][filled_HW] = value
        if counts:
            account.clipped += is_clipped
            if not filled_HW.any():
                account.empty[shape.name] += 1
            _count_overlaps(on_top_HW[window][filled_HW], names, shape.name, account)
            on_top_HW[window][filled_HW] = number
    if counts:
        _count_rest(on_top_HW, names, drawn, account)
    return Drawn(label_HW, account)


def _count_overlaps(
    beneath_P: NDArray[np.int32], names: Sequence[str], name: str, account: Account
) -> None:
    numbers, pixels = np.unique(beneath_P[beneath_P >= 0], return_counts=True)
    for number, count in zip(numbers.tolist(), pixels.tolist(), strict=True):
        if names[number] != name:
            account.overlaps[name, names[number]] += count


def _count_rest(
    on_top_HW: NDArray[np.int32], names: Sequence[str], drawn: Counter[str], account: Account
) -> None:
    numbers, pixels = np.unique(on_top_HW[on_top_HW >= 0], return_counts=True)
    for number, count in zip(numbers.tolist(), pixels.tolist(), strict=True):
        account.pixels[names[number]] += count
    seen = Counter(names[number] for number in numbers.tolist())
    account.hidden.update(drawn - seen - account.empty)


def _fill(geometry: Geometry, box: _Box, rules: DrawingRules) -> NDArray[np.bool_]:
    top, left, below, beyond = box
    filled_HW = np.zeros((max(below - top, 0), max(beyond - left, 0)), bool)
    if not filled_HW.size:
        return filled_HW
    match geometry:
        case Polygon(parts):
            ring = fill_centre if rules.fill == "centre" else fill_inclusive
            for part in parts:
                part_HW = ring.fill_ring(part.outline, box)
                for hole in part.holes:
                    part_HW &= ~ring.fill_ring(hole, box)
                if geometry.is_even_odd:
                    filled_HW ^= part_HW
                else:
                    filled_HW |= part_HW
            return filled_HW
        case Ellipse(x, y, radius_x, radius_y, degrees):
            return fill_centre.fill_ellipse(x, y, radius_x, radius_y, degrees, box)
        case Line(points):
            return fill_centre.fill_line(points, _width(geometry, rules) or 0, box)
        case Mask(mask_HW, mask_top, mask_left):
            rows = slice(top - mask_top, below - mask_top)
            return mask_HW[rows, left - mask_left : beyond - mask_left]


def _box(geometry: Geometry, size: tuple[int, int], rules: DrawingRules) -> tuple[_Box, bool]:
    """Return the pixels of the image that a shape may cover, and whether it reaches beyond."""
    match geometry:
        case Polygon(parts):
            points_N2 = np.concatenate([part.outline for part in parts])
            low, high = points_N2.min(axis=0), points_N2.max(axis=0)
        case Ellipse(x, y, radius_x, radius_y, degrees):
            cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
            reach = np.hypot(
                [radius_x * cosine, radius_x * sine], [radius_y * sine, radius_y * cosine]
            )
            low, high = np.array([x, y]) - reach, np.array([x, y]) + reach
        case Line(points):
            half = (_width(geometry, rules) or 0) / 2
            low, high = points.min(axis=0) - half, points.max(axis=0) + half
        case Mask(mask_HW, mask_top, mask_left):
            low = np.array([mask_left, mask_top], float)
            high = low + mask_HW.shape[::-1]
    rows, columns = size
    is_clipped = bool((low < 0).any() or high[0] > columns or high[1] > rows)
    # One pixel more on each side: `inclusive` reaches beyond an outline by its own rounding.
    margin = 0 if isinstance(geometry, Mask) else 1
    top, left = (int(np.floor(low[axis])) - margin for axis in (1, 0))
    below, beyond = (int(np.ceil(high[axis])) + 1 + margin for axis in (1, 0))
    if isinstance(geometry, Mask):
        below, beyond = below - 1, beyond - 1
    top, left = min(max(top, 0), rows), min(max(left, 0), columns)
    below, beyond = max(min(below, rows), top), max(min(beyond, columns), left)
    return (top, left, below, beyond), is_clipped


def _width(line: Line, rules: DrawingRules) -> float | None:
    return line.width if rules.line_width is None else rules.line_width


def _refuse_undrawable(geometry: Geometry, where: str, rules: DrawingRules, file: str) -> None:
    match geometry:
        case Polygon(parts):
            rings = [ring for part in parts for ring in (part.outline, *part.holes)]
            numbers = np.concatenate(rings) if rings else np.zeros((0, 2))
            fewest = min((_corners(ring) for ring in rings), default=0)
            if fewest < 3:
                raise undrawable(
                    "a polygon needs three corners", f"{fewest} in {where}", "3 or more", file
                )
        case Ellipse(x, y, radius_x, radius_y, degrees):
            numbers = np.array([x, y, radius_x, radius_y, degrees])
            if not (radius_x > 0 and radius_y > 0):
                raise undrawable(
                    "an ellipse needs radii",
                    f"{radius_x:g} and {radius_y:g} in {where}",
                    "numbers above 0",
                    file,
                )
        case Line(points):
            numbers = points
            if _width(geometry, rules) is None:
                raise DataError(
                    "SEG-D116",
                    "lines and points have no area, and none is skipped without a word",
                    file=file,
                    observed=where,
                    allowed="polygons, boxes, ellipses and masks; lines and points with a width",
                    next_step="set data.options.line_width = 3.0 (pixels), or delete the shape",
                )
        case Mask():
            return
    if not (np.isfinite(numbers).all() and (np.abs(numbers) < _FURTHEST).all()):
        raise undrawable(
            "a coordinate is no place in an image",
            f"{numbers[~(np.abs(numbers) < _FURTHEST)].flat[0]:g} in {where}",
            f"numbers below {_FURTHEST:.0f}",
            file,
        )


def _corners(ring_N2: NDArray[np.float64]) -> int:
    """Return how many points a ring has; the first one, repeated at the end, is none."""
    is_closed = len(ring_N2) > 1 and bool((ring_N2[0] == ring_N2[-1]).all())
    return len(ring_N2) - is_closed


def undrawable(problem: str, observed: str, allowed: str, file: str) -> DataError:
    """Compose the error for a shape that cannot be drawn."""
    return DataError(
        "SEG-D113",
        problem,
        file=file,
        observed=observed,
        allowed=allowed,
        next_step="correct or delete the shape in the tool and export again",
    )


def _unknown_class(name: str, where: str, rules: DrawingRules, file: str) -> DataError:
    return DataError(
        "SEG-D112",
        "a shape is of a class that data.options.classes does not name",
        file=file,
        observed=f"{name!r}: {where}",
        allowed=", ".join(rules.values),
        next_step="add the class at the end of data.options.classes and to the label map, or "
        "correct the shape; a class that should not count goes to `ignored` of the label map",
    )
