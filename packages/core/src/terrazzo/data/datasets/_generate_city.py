"""Draws the city of the `demo` data set: what a satellite might see of a small town by a river.

Nothing here is measured; the values are reflectances that look right. Colour alone does not tell
the classes apart, as in life: flat roofs are as grey as roads, brown roofs as brown as bare ground,
and shadows as dark as water.

Shapes: image H×W×4 float32 reflectance (red, green, blue, near-infrared), label H×W uint8.
Coordinates are x (column), y (row) in pixels of half a metre.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = 1024

Points = NDArray[np.float64]
"""N×2 of x, y."""
Reflectance = tuple[float, float, float, float]
"""Red, green, blue, near-infrared."""


class Land(IntEnum):
    """Classes, by the value in the label raster."""

    BUILDING = 0
    ROAD = 1
    VEGETATION = 2
    WATER = 3
    BARE = 4


_STREET: Reflectance = (0.205, 0.205, 0.205, 0.24)
_AVENUE: Reflectance = (0.17, 0.17, 0.18, 0.20)
_MARKING: Reflectance = (0.42, 0.42, 0.40, 0.44)
_GRASS: Reflectance = (0.165, 0.23, 0.125, 0.44)
_TREE: Reflectance = (0.085, 0.14, 0.075, 0.38)
_WATER: Reflectance = (0.075, 0.125, 0.145, 0.04)
_SOIL: Reflectance = (0.345, 0.285, 0.215, 0.38)
_SAND: Reflectance = (0.43, 0.385, 0.305, 0.45)
_TILE: Reflectance = (0.37, 0.20, 0.145, 0.33)
_SLATE: Reflectance = (0.13, 0.135, 0.155, 0.17)
_TAR: Reflectance = (0.20, 0.20, 0.20, 0.23)
_GRAVEL: Reflectance = (0.44, 0.435, 0.42, 0.46)
_BROWN: Reflectance = (0.32, 0.26, 0.20, 0.35)
_STEEL: Reflectance = (0.25, 0.31, 0.37, 0.32)

_HOUSE_ROOFS = (_TILE, _TILE, _TILE, _SLATE, _BROWN, _TAR)
_BLOCK_ROOFS = (_TAR, _GRAVEL, _SLATE, _TILE, _BROWN)
_HALL_ROOFS = (_GRAVEL, _STEEL, _TAR, _GRAVEL)
_CAR_COLOURS: tuple[Reflectance, ...] = (
    (0.55, 0.55, 0.55, 0.5),
    (0.08, 0.08, 0.09, 0.1),
    (0.40, 0.10, 0.08, 0.3),
    (0.12, 0.18, 0.35, 0.3),
)

_TURN = np.deg2rad(9.0)  # of the street grid against north
_SUN = np.array([0.62, 0.78])  # direction in which shadows fall


@dataclass
class _Canvas:
    """What has been drawn so far.

    Attributes:
        rng: the only source of chance.
        image: H×W×4 reflectance.
        label: H×W classes.
        shadow: H×W, 1 where something throws a shadow.
        taken: H×W, 1 where no building may stand.
    """

    rng: np.random.Generator
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    taken: NDArray[np.uint8]

    def fill(self, outline: Points, land: Land, colour: Reflectance) -> None:
        corners = [np.round(outline).astype(np.int32)]
        cv2.fillPoly(self.image, corners, colour)
        cv2.fillPoly(self.label, corners, int(land))

    def stroke(self, line: Points, width: int, land: Land, colour: Reflectance) -> None:
        corners = [np.round(line).astype(np.int32)]
        cv2.polylines(self.image, corners, False, colour, width)
        cv2.polylines(self.label, corners, False, int(land), width)
        cv2.polylines(self.taken, corners, False, 1, width + 10)

    def dot(self, centre: Points, radius: int, land: Land, colour: Reflectance) -> None:
        x, y = (round(float(value)) for value in centre)
        cv2.circle(self.image, (x, y), radius, colour, -1)
        cv2.circle(self.label, (x, y), radius, int(land), -1)

    def throw_shadow(self, outline: Points, length: float) -> None:
        swept = np.concatenate([outline, outline + length * _SUN]).astype(np.float32)
        cv2.fillPoly(self.shadow, [np.round(cv2.convexHull(swept)).astype(np.int32)], 1)

    def is_free(self, outline: Points) -> bool:
        """Tell whether a building of this outline stands clear of roads, water and buildings."""
        low = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
        high = np.ceil(outline.max(axis=0)).astype(int) + 1
        patch = self.taken[low[1] : high[1], low[0] : high[0]]
        if patch.size == 0:
            return False
        inside = np.zeros_like(patch)
        cv2.fillPoly(inside, [np.round(outline - low).astype(np.int32)], 1)
        return not (patch & inside).any()


def draw(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draw the city.

    Returns:
        Image H×W×4 reflectance 0…1 and label H×W with values of `Land`.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    canvas = _Canvas(
        rng=rng,
        image=np.empty((SIZE, SIZE, 4), np.float32),
        label=np.empty((SIZE, SIZE), np.uint8),
        shadow=np.zeros((SIZE, SIZE), np.uint8),
        taken=np.zeros((SIZE, SIZE), np.uint8),
    )
    _draw_ground(canvas)
    columns, rows = _grid_lines(rng), _grid_lines(rng)
    _draw_streets(canvas, columns, rows)
    for left, right in pairwise(columns):
        for top, bottom in pairwise(rows):
            _draw_quarter(canvas, left + 12, top + 12, right - 12, bottom - 12)
    _draw_street_trees(canvas, columns, rows)
    return _photograph(canvas), canvas.label


def _turned(points: Points) -> Points:
    """Turn from the frame of the street grid to that of the image."""
    cosine, sine = np.cos(_TURN), np.sin(_TURN)
    middle = SIZE / 2
    turned: Points = (np.asarray(points) - middle) @ np.array([[cosine, sine], [-sine, cosine]])
    return turned + middle


def _rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    return _turned(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))


def _clouds(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Return smooth H×W noise of about −1…1 with `cells` bumps along a side."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), np.float32)


def _grid_lines(rng: np.random.Generator) -> list[float]:
    lines = [-120.0]
    while lines[-1] < SIZE + 120:
        lines.append(lines[-1] + float(rng.uniform(88, 150)))
    return lines


def _draw_ground(canvas: _Canvas) -> None:
    """Grass and bare ground in soft patches."""
    bare = _clouds(canvas.rng, 14) + 0.6 * _clouds(canvas.rng, 40) > 1.0
    canvas.label[:] = np.where(bare, Land.BARE, Land.VEGETATION)
    canvas.image[:] = np.where(bare[..., None], _SOIL, _GRASS)


def _draw_streets(canvas: _Canvas, columns: list[float], rows: list[float]) -> None:
    """Streets, then the river over them, then the bridges and the avenue over the river."""
    far = SIZE + 200
    lines = [_turned(np.array([[x, -200], [x, far]])) for x in columns]
    lines += [_turned(np.array([[-200, y], [far, y]])) for y in rows]
    for line in lines:
        canvas.stroke(line, 10, Land.ROAD, _STREET)
    along = np.linspace(-60, SIZE + 60, 160)
    river = np.stack([along, 690 + 120 * np.sin(along / 175) - 0.22 * along], axis=1)
    canvas.stroke(river, 118, Land.VEGETATION, _GRASS)
    canvas.stroke(river, 92, Land.BARE, _SAND)
    canvas.stroke(river, 74, Land.WATER, _WATER)
    avenue = np.array([[-40, 130], [430, 420], [SIZE + 40, 905]])
    for line in (*lines[1::4], avenue):
        width = 20 if line is avenue else 14
        canvas.stroke(line, width, Land.ROAD, _AVENUE)
        _draw_traffic(canvas, line, width)


def _draw_traffic(canvas: _Canvas, line: Points, width: int) -> None:
    """Dashes along the middle and cars in both lanes; the label stays road."""
    for start, end in pairwise(line):
        length = float(np.hypot(*(end - start)))
        forward = (end - start) / length
        aside = np.array([-forward[1], forward[0]])
        for distance in np.arange(0, length, 12):
            ends = np.stack([start + distance * forward, start + (distance + 5) * forward])
            cv2.polylines(canvas.image, [np.round(ends).astype(np.int32)], False, _MARKING, 1)
        for distance in np.arange(0, length, 9):
            if canvas.rng.random() < 0.25:
                lane = canvas.rng.choice([-1, 1]) * width / 4
                rear = start + distance * forward + lane * aside
                sides = np.stack([rear, rear + 7 * forward])
                car = np.concatenate([sides - 1.2 * aside, (sides + 1.2 * aside)[::-1]])
                colour = _CAR_COLOURS[canvas.rng.integers(len(_CAR_COLOURS))]
                cv2.fillPoly(canvas.image, [np.round(car).astype(np.int32)], colour)


def _draw_quarter(canvas: _Canvas, left: float, top: float, right: float, bottom: float) -> None:
    """Fill the ground between four streets; what stands there depends on the way to the centre."""
    middle = _turned(np.array([[(left + right) / 2, (top + bottom) / 2]]))[0]
    if (middle < -80).any() or (middle > SIZE + 80).any():
        return
    from_centre = float(np.hypot(*(middle - (560, 380)))) / SIZE
    draw = canvas.rng.random()
    if draw < 0.13:
        _draw_park(canvas, left, top, right, bottom)
    elif draw < 0.19:
        _draw_building_site(canvas, left, top, right, bottom)
    elif from_centre < 0.27:
        _draw_rows(canvas, (left, top, right, bottom), (24, 46), (20, 27), _BLOCK_ROOFS, 9)
    elif draw < 0.30:
        _draw_yard(canvas, left, top, right, bottom)
        _draw_rows(canvas, (left, top, right, bottom), (40, 64), (30, 44), _HALL_ROOFS, 6)
    elif from_centre > 0.5 and draw < 0.48:
        _draw_field(canvas, left, top, right, bottom)
    else:
        _draw_rows(canvas, (left, top, right, bottom), (15, 24), (13, 18), _HOUSE_ROOFS, 5)
        _draw_trees(canvas, (left, top, right, bottom), number=14, radii=(2, 5))


def _draw_rows(
    canvas: _Canvas,
    area: tuple[float, float, float, float],
    lengths: tuple[int, int],
    depths: tuple[int, int],
    roofs: tuple[Reflectance, ...],
    height: float,
) -> None:
    """Buildings in rows that face the streets, with gardens between."""
    left, top, right, bottom = area
    y = top + canvas.rng.uniform(1, 4)
    while y + depths[0] < bottom:
        depth = canvas.rng.uniform(*depths)
        x = left + canvas.rng.uniform(1, 5)
        while x + lengths[0] < right:
            length = canvas.rng.uniform(*lengths)
            outline = _rectangle(x, y, min(x + length, right), min(y + depth, bottom))
            if not canvas.is_free(outline):
                x += 6
                continue
            roof = roofs[canvas.rng.integers(len(roofs))]
            _draw_building(canvas, outline, roof, height * canvas.rng.uniform(0.7, 1.5))
            x += length + canvas.rng.uniform(3, 10)
        y += depth + canvas.rng.uniform(9, 16)


def _draw_building(canvas: _Canvas, outline: Points, roof: Reflectance, height: float) -> None:
    canvas.throw_shadow(outline, height)
    cv2.fillPoly(canvas.taken, [np.round(outline).astype(np.int32)], 1)
    tint = canvas.rng.uniform(0.85, 1.15)
    bright, dim = (_scaled(roof, tint), _scaled(roof, tint * 0.72))
    canvas.fill(outline, Land.BUILDING, bright)
    if roof in (_TILE, _SLATE, _BROWN):  # a ridge: the half away from the sun is darker
        ridge = (outline[[0, 1]] + outline[[3, 2]]) / 2
        canvas.fill(np.concatenate([ridge, outline[[2, 3]]]), Land.BUILDING, dim)
        return
    edge = np.round(outline).astype(np.int32)
    cv2.polylines(canvas.image, [edge], True, dim, 1)
    for _ in range(int(canvas.rng.integers(0, 4))):  # chimneys, vents, lifts
        weights = canvas.rng.dirichlet((3, 3, 3, 3))
        canvas.dot(weights @ outline, 1, Land.BUILDING, _scaled(roof, tint * 1.35))


def _draw_park(canvas: _Canvas, left: float, top: float, right: float, bottom: float) -> None:
    canvas_area = _rectangle(left, top, right, bottom)
    if canvas.is_free(canvas_area):
        canvas.fill(canvas_area, Land.VEGETATION, _GRASS)
        centre = canvas_area.mean(axis=0)
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius = 0.3 * min(right - left, bottom - top)
        wobble = radius * (1 + 0.18 * np.sin(2 * angles + canvas.rng.uniform(0, 6)))
        pond = centre + np.stack([1.25 * np.cos(angles), np.sin(angles)], 1) * wobble[:, None]
        canvas.fill(centre + 1.18 * (pond - centre), Land.BARE, _SAND)
        canvas.fill(pond, Land.WATER, _WATER)
    _draw_trees(canvas, (left, top, right, bottom), number=45, radii=(3, 7))


def _draw_building_site(
    canvas: _Canvas, left: float, top: float, right: float, bottom: float
) -> None:
    """Bare ground with a few new buildings."""
    _draw_yard(canvas, left, top, right, bottom)
    inner = (left + 20, top + 18, right - 20, bottom - 18)
    _draw_rows(canvas, inner, (22, 30), (18, 22), (_GRAVEL, _BROWN), 4)


def _draw_yard(canvas: _Canvas, left: float, top: float, right: float, bottom: float) -> None:
    """Bare ground, where nothing else is yet."""
    yard = np.zeros_like(canvas.taken)
    outline = _rectangle(left, top, right, bottom)
    cv2.fillPoly(yard, [np.round(outline).astype(np.int32)], 1)
    inside = (yard == 1) & (canvas.taken == 0)
    canvas.label[inside] = Land.BARE
    canvas.image[inside] = _scaled(_SOIL, canvas.rng.uniform(0.85, 1.1))


def _draw_field(canvas: _Canvas, left: float, top: float, right: float, bottom: float) -> None:
    """A ploughed or a green field, with furrows."""
    ploughed = canvas.rng.random() < 0.5
    land, colour = (Land.BARE, _SOIL) if ploughed else (Land.VEGETATION, _GRASS)
    if not canvas.is_free(_rectangle(left, top, right, bottom)):
        _draw_trees(canvas, (left, top, right, bottom), number=40, radii=(3, 6))
        return
    canvas.fill(_rectangle(left, top, right, bottom), land, colour)
    for x in np.arange(left + 3, right - 3, 5):
        furrow = _turned(np.array([[x, top + 2], [x, bottom - 2]]))
        darker = _scaled(colour, canvas.rng.uniform(0.78, 0.9))
        cv2.polylines(canvas.image, [np.round(furrow).astype(np.int32)], False, darker, 2)


def _draw_trees(
    canvas: _Canvas,
    area: tuple[float, float, float, float],
    *,
    number: int,
    radii: tuple[int, int],
) -> None:
    left, top, right, bottom = area
    low, high = np.array([left, top]), np.array([right, bottom])
    for centre in _turned(low + canvas.rng.random((number, 2)) * (high - low)):
        x, y = np.round(centre).astype(int)
        if not (0 <= x < SIZE and 0 <= y < SIZE):
            continue
        if canvas.label[y, x] in (Land.VEGETATION, Land.BARE):
            _draw_tree(canvas, centre, int(canvas.rng.integers(*radii)))


def _draw_tree(canvas: _Canvas, centre: Points, radius: int) -> None:
    tint = canvas.rng.uniform(0.8, 1.25)
    x, y = np.round(centre + 0.8 * radius * _SUN).astype(int).tolist()
    cv2.circle(canvas.shadow, (x, y), radius, 1, -1)
    canvas.dot(centre, radius, Land.VEGETATION, _scaled(_TREE, tint))
    lit = np.round(centre - 0.35 * radius * _SUN).astype(int).tolist()
    cv2.circle(canvas.image, lit, max(radius // 2, 1), _scaled(_TREE, 1.5 * tint), -1)


def _draw_street_trees(canvas: _Canvas, columns: list[float], rows: list[float]) -> None:
    """Trees beside every third street."""
    for x in columns[::3]:
        for y in np.arange(rows[0], rows[-1], 17):
            for side in (-9, 9):
                centre = _turned(np.array([[x + side, y]]))[0]
                column, row = np.round(centre).astype(int)
                inside = 0 <= column < SIZE and 0 <= row < SIZE
                if inside and canvas.label[row, column] == Land.VEGETATION:
                    _draw_tree(canvas, centre, int(canvas.rng.integers(3, 5)))


def _scaled(colour: Reflectance, factor: float) -> Reflectance:
    red, green, blue, infrared = (factor * value for value in colour)
    return red, green, blue, infrared


def _photograph(canvas: _Canvas) -> NDArray[np.float32]:
    """Add what lies between the ground and the file: texture, shadow, optics, light, noise."""
    rng, label = canvas.rng, canvas.label
    rough = np.array([0.03, 0.03, 0.16, 0.05, 0.10], np.float32)[label]  # by class
    grain = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
    patches = 0.5 * _clouds(rng, 24) + 0.5 * _clouds(rng, 90)
    image: NDArray[np.float32] = canvas.image * (1 + rough * (0.5 * grain + patches))[..., None]
    shade = (canvas.shadow == 1) & (label != Land.BUILDING)
    image[shade] *= np.array(
        [0.36, 0.40, 0.48, 0.34], np.float32
    )  # the sky lights shadows with blue
    image = cv2.GaussianBlur(image, (0, 0), 0.7)
    light = np.linspace(0.93, 1.07, SIZE, dtype=np.float32)
    image *= (light[:, None] * light[None, ::-1])[..., None]
    image += 0.006 * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image, np.float32(0.001), np.float32(1))
