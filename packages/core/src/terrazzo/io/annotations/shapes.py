"""What a labelling tool's file says of one image: its size and its shapes, in the file's order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """An outline, and the outlines of its holes; each N×2 float64, x and y in pixels."""

    outline: NDArray[np.float64]
    holes: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True, slots=True)
class Polygon:
    """The union of its parts; even-odd: where an odd number of them is."""

    parts: tuple[Part, ...]
    is_even_odd: bool = False


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse: centre and radii in pixels, turned clockwise on the screen by degrees."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    degrees: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A line through N×2 points, or one point; it has an area once it has a width.

    Attributes:
        points: N×2.
        width: of its own, in pixels, where no other is asked for.
    """

    points: NDArray[np.float64]
    width: float | None = None


@dataclass(frozen=True, slots=True)
class Mask:
    """Pixels: rows × columns bool, whose first pixel lies at `top`, `left` in the image."""

    mask_HW: NDArray[np.bool_]
    top: int = 0
    left: int = 0


Geometry = Polygon | Ellipse | Line | Mask


@dataclass(frozen=True, slots=True)
class Shape:
    """One object.

    Attributes:
        name: of its class, as the file has it.
        kind: what the tool calls it: polygon, rectangle, brush …
        geometry: where it is.
        place: where it stands in the file, for messages.
        is_crowd: whether it stands for many objects at once (COCO's ``iscrowd``).
    """

    name: str
    kind: str
    geometry: Geometry
    place: str
    is_crowd: bool = False


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """Everything a file says of one image.

    Attributes:
        size: rows and columns that the coordinates refer to; None: the file does not say.
        shapes: the last one lies on top.
        is_displayed: whether its tool is known to draw on the picture as it is displayed, which an
            Exif orientation may turn.
    """

    size: tuple[int, int] | None
    shapes: tuple[Shape, ...]
    is_displayed: bool = False


def box_around(points_N2: NDArray[np.float64]) -> Polygon:
    """Return the upright rectangle around N×2 points, as a polygon."""
    (left, top), (right, bottom) = points_N2.min(axis=0), points_N2.max(axis=0)
    return box(left, top, right, bottom, about="corner")


def box(
    left: float, top: float, right: float, bottom: float, degrees: float = 0.0, *, about: str
) -> Polygon:
    """Return a rectangle as a polygon.

    Args:
        left: in pixels, as `top`, `right` and `bottom`.
        top: see `left`.
        right: see `left`.
        bottom: see `left`.
        degrees: turned clockwise on the screen.
        about: ``centre`` of the box, or its first ``corner``, which the turn leaves in place.
    """
    corners_42 = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)
    if degrees:
        fixed = corners_42[0] if about == "corner" else corners_42.mean(axis=0)
        angle = np.deg2rad(degrees)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners_42 = (corners_42 - fixed) @ turn + fixed
    return Polygon((Part(corners_42),))
