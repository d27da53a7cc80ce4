"""Draws the streets of the `street` data set: what a camera in a car might see of a plain town.

Boxes, walls and discs in perspective, painted from far to near, with light, haze and noise over
them. Nothing is measured: a synthetic domain for studies of synthetic and real images.

Shapes: image H×W×3 uint8, label H×W uint8. Places in the street are x (right), y (up), z
(ahead), in metres from the point of the road below the camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = 240, 320

Colour = tuple[float, float, float]
"""Red, green, blue, 0…255."""
Place = tuple[float, float, float]


class Street(IntEnum):
    """Classes, by their number in the label map ``camvid``."""

    SKY = 0
    BUILDING = 1
    POLE = 2
    ROAD = 3
    PAVEMENT = 4
    TREE = 5
    SIGN = 6
    FENCE = 7
    CAR = 8
    PEDESTRIAN = 9
    BICYCLIST = 10


_SKIES: tuple[Colour, ...] = ((120, 165, 225), (205, 212, 220), (235, 238, 240), (165, 185, 210))
_WALLS: tuple[Colour, ...] = (
    (150, 85, 65), (190, 165, 130), (170, 170, 165), (120, 105, 95), (205, 195, 180), (95, 80, 75),
)  # fmt: skip
_CARS: tuple[Colour, ...] = (
    (180, 180, 185), (35, 35, 40), (140, 25, 25), (30, 50, 110), (220, 220, 215), (60, 75, 65),
)  # fmt: skip
_CLOTHES: tuple[Colour, ...] = ((40, 40, 60), (150, 45, 45), (55, 75, 125), (190, 180, 160))
_SIGNS: tuple[Colour, ...] = ((200, 35, 35), (35, 75, 180), (235, 200, 50), (235, 235, 235))
_GREENS: tuple[Colour, ...] = ((60, 90, 40), (85, 110, 55), (45, 70, 45), (110, 115, 60))
_DARK: Colour = (30, 32, 38)
_SKIN: Colour = (200, 160, 135)
_FAR = 90.0
_NEAR = 2.0


@dataclass
class _Scene:
    """A camera and what it has seen so far.

    Attributes:
        rng: the only source of chance.
        image: H×W×3.
        label: H×W.
        horizon: its row.
        focal: pixels.
        x: of the camera from the middle of the road.
        height: of the camera.
        kerb: half the width of the road.
        facade: from the middle of the road to the walls.
    """

    rng: np.random.Generator
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    horizon: float
    focal: float
    x: float
    height: float
    kerb: float
    facade: float

    def pixel(self, place: Place) -> tuple[int, int]:
        x, y, z = place
        scale = self.focal / z
        return round(COLUMNS / 2 + scale * (x - self.x)), round(
            self.horizon + scale * (self.height - y)
        )

    def fill(self, corners: list[Place], kind: Street, colour: Colour) -> None:
        points = [np.array([self.pixel(corner) for corner in corners], np.int32)]
        cv2.fillPoly(self.image, points, colour)
        cv2.fillPoly(self.label, points, int(kind))

    def wall(
        self, x: float, z: tuple[float, float], y: tuple[float, float], kind: Street, colour: Colour
    ) -> None:
        """Fill an upright rectangle along the street."""
        (low, high), (near, far) = y, z
        self.fill([(x, low, near), (x, high, near), (x, high, far), (x, low, far)], kind, colour)

    def face(
        self, x: tuple[float, float], z: float, y: tuple[float, float], kind: Street, colour: Colour
    ) -> None:
        """Fill an upright rectangle across the street."""
        (left, right), (low, high) = x, y
        self.fill(
            [(left, low, z), (right, low, z), (right, high, z), (left, high, z)], kind, colour
        )

    def disc(self, place: Place, radii: tuple[float, float], kind: Street, colour: Colour) -> None:
        axes = tuple(max(1, round(self.focal * radius / place[2])) for radius in radii)
        for canvas, value in ((self.image, colour), (self.label, (int(kind),))):
            cv2.ellipse(canvas, self.pixel(place), axes, 0, 0, 360, value, -1)

    def one_of(self, colours: tuple[Colour, ...]) -> Colour:
        """Choose a colour and change it a little."""
        return self.tinted(colours[self.rng.integers(len(colours))])

    def tinted(self, colour: Colour, spread: float = 0.12) -> Colour:
        factors = self.rng.uniform(1 - spread, 1 + spread) * self.rng.uniform(0.95, 1.05, 3)
        red, green, blue = np.clip(np.multiply(colour, factors), 0, 255)
        return float(red), float(green), float(blue)


def draw(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one street.

    Returns:
        Image H×W×3 and label H×W with values of `Street`.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    kerb = float(rng.uniform(3.0, 5.5))
    scene = _Scene(
        rng=rng,
        image=np.zeros((ROWS, COLUMNS, 3), np.uint8),
        label=np.zeros((ROWS, COLUMNS), np.uint8),
        horizon=ROWS * float(rng.uniform(0.40, 0.54)),
        focal=COLUMNS * float(rng.uniform(0.75, 1.05)),
        x=float(rng.uniform(-0.3, 0.5)) * kerb,
        height=float(rng.uniform(1.2, 1.7)),
        kerb=kerb,
        facade=kerb + float(rng.uniform(1.8, 4.5)),
    )
    _draw_ground(scene)
    for side in (-1, 1):
        _draw_lots(scene, side)
    for z, x, draw_at in sorted(_things(scene), key=lambda thing: -thing[0]):
        draw_at(scene, z, x)
    return _photograph(scene), scene.label


def _draw_ground(scene: _Scene) -> None:
    """Sky, pavement, road and the marks on it."""
    scene.image[:] = scene.one_of(_SKIES)
    grey = scene.rng.uniform(75, 130)
    below = slice(round(scene.horizon), None)
    scene.image[below] = scene.tinted((grey + 35, grey + 30, grey + 25))
    scene.label[below] = Street.PAVEMENT
    road = scene.tinted((grey, grey, grey + 4))
    _draw_strip(scene, (-scene.kerb, scene.kerb), (_NEAR / 2, 900), road)
    if scene.rng.random() < 0.7:
        for z in np.arange(_NEAR, 60, 6) + scene.rng.uniform(0, 3):
            _draw_strip(scene, (-0.07, 0.07), (z, z + 2.5), (215, 215, 205))
    if scene.rng.random() < 0.4:
        for side in (-1.0, 1.0):
            x = side * (scene.kerb - 0.4)
            _draw_strip(scene, (x - 0.06, x + 0.06), (_NEAR, 80), (200, 190, 120))


def _draw_strip(
    scene: _Scene, x: tuple[float, float], z: tuple[float, float], colour: Colour
) -> None:
    (left, right), (near, far) = x, z
    corners: list[Place] = [(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)]
    scene.fill(corners, Street.ROAD, colour)


def _draw_lots(scene: _Scene, side: int) -> None:
    """What stands along one side of the street, from far to near."""
    far = _FAR
    while far > _NEAR:
        near = max(_NEAR * 0.7, far - float(scene.rng.uniform(7, 18)))
        kind = scene.rng.choice(3, p=(0.62, 0.2, 0.18))
        if kind == 0:
            _draw_building(scene, side, near, far)
        else:
            for z in np.arange(far, near, -4.0):
                _draw_tree(scene, float(z), side * (scene.facade + scene.rng.uniform(2.5, 5)))
        if kind == 2:
            _draw_fence(scene, side, near, far)
        far = near


def _draw_building(scene: _Scene, side: int, near: float, far: float) -> None:
    """A wall along the street and one towards the camera, with windows in both."""
    colour, height = scene.one_of(_WALLS), float(scene.rng.uniform(4.5, 15))
    x, away = side * scene.facade, side * (scene.facade + 12)
    shade = float(scene.rng.uniform(0.65, 0.95))
    darker = (colour[0] * shade, colour[1] * shade, colour[2] * shade)
    scene.face((x, away), near, (0, height), Street.BUILDING, darker)
    scene.wall(x, (near, far), (0, height), Street.BUILDING, colour)
    glass = scene.tinted((70, 80, 95), 0.4)
    for floor in np.arange(0.9, height - 1.6, 3.0):
        for z in np.arange(near + 1, far - 1.2, 2.6):
            scene.wall(x, (z, z + 1.1), (floor, floor + 1.4), Street.BUILDING, glass)


def _draw_fence(scene: _Scene, side: int, near: float, far: float) -> None:
    """Boards, with a darker one now and then."""
    height, x = float(scene.rng.uniform(0.9, 1.8)), side * scene.facade
    colour = scene.tinted((110, 95, 75), 0.35)
    scene.wall(x, (near, far), (0, height), Street.FENCE, colour)
    dark = (colour[0] * 0.7, colour[1] * 0.7, colour[2] * 0.7)
    for z in np.arange(near, far, 0.5 if far < 40 else 2.0):
        scene.wall(x, (z, z + 0.15), (0, height), Street.FENCE, dark)


def _draw_tree(scene: _Scene, z: float, x: float) -> None:
    """A trunk and a crown of many discs."""
    height = float(scene.rng.uniform(4, 9))
    scene.face((x - 0.15, x + 0.15), z, (0, height / 2), Street.TREE, (75, 60, 45))
    green = scene.one_of(_GREENS)
    for _ in range(14):
        dx, dy = scene.rng.normal(0, (0.18 * height, 0.16 * height))
        radius = float(scene.rng.uniform(0.10, 0.2)) * height
        place = (x + float(dx), max(1.8, 0.72 * height + float(dy)), z)
        scene.disc(place, (radius, radius), Street.TREE, scene.tinted(green, 0.25))


_DrawAt = Callable[[_Scene, float, float], None]
"""Draws something at z and x."""
_Thing = tuple[float, float, _DrawAt]
"""z, x, and what draws it there."""


def _things(scene: _Scene) -> list[_Thing]:
    """Choose what stands and moves in the street."""
    rng, kerb, facade = scene.rng, scene.kerb, scene.facade
    # How many at least and at most, how near, what, and how far from the middle of the road.
    kinds: tuple[tuple[int, int, float, _DrawAt, float, float], ...] = (
        (1, 4, 7, _draw_car, kerb - 1.3, kerb - 0.9),
        (0, 2, 9, _draw_car, 1.0, kerb - 1.5),
        (1, 3, 5, _draw_pole, kerb + 0.3, kerb + 0.6),
        (1, 3, 5, _draw_sign, kerb + 0.3, kerb + 0.9),
        (0, 2, 8, _draw_tree, kerb + 0.6, kerb + 1.2),
        (1, 5, 5, _draw_pedestrian, kerb + 0.5, facade - 0.4),
        (0, 2, 6, _draw_cyclist, kerb - 1.0, kerb - 0.4),
    )
    things: list[_Thing] = []
    for least, most, nearest, draw_at, low, high in kinds:
        for _ in range(rng.integers(least, most + 1)):
            x = float(rng.choice((-1, 1)) * rng.uniform(low, high))
            things.append((float(nearest + rng.gamma(1.6, 9)), x, draw_at))
    return things


def _draw_car(scene: _Scene, z: float, x: float) -> None:
    """A body and a cabin as two boxes; the back and the side that can be seen."""
    colour, glass = scene.one_of(_CARS), scene.tinted((55, 62, 70), 0.3)
    left, right = x - 0.9, x + 0.9
    inner = right if x < scene.x else left
    side = (colour[0] * 0.8, colour[1] * 0.8, colour[2] * 0.8)
    _draw_strip(scene, (left - 0.1, right + 0.1), (z - 0.2, z + 4.3), (38, 38, 42))
    scene.wall(inner, (z + 0.6, z + 3.3), (0.9, 1.45), Street.CAR, glass)
    scene.face((left + 0.15, right - 0.15), z + 0.5, (0.9, 1.45), Street.CAR, glass)
    scene.wall(inner, (z, z + 4.2), (0.22, 0.92), Street.CAR, side)
    scene.face((left, right), z, (0.22, 0.95), Street.CAR, colour)
    for edge in (left, right - 0.22):
        scene.face((edge, edge + 0.22), z, (0.0, 0.3), Street.CAR, _DARK)
        scene.face((edge, edge + 0.22), z, (0.65, 0.8), Street.CAR, (190, 40, 40))


def _draw_pole(scene: _Scene, z: float, x: float) -> None:
    colour, height = scene.tinted((95, 98, 100), 0.3), float(scene.rng.uniform(4, 7.5))
    scene.face((x - 0.08, x + 0.08), z, (0, height), Street.POLE, colour)
    arm = x - np.sign(x) * 1.3
    scene.face((min(x, arm), max(x, arm)), z, (height - 0.12, height), Street.POLE, colour)


def _draw_sign(scene: _Scene, z: float, x: float) -> None:
    """A disc, a board or a traffic light on a thin pole."""
    height = float(scene.rng.uniform(2.2, 3.2))
    scene.face((x - 0.05, x + 0.05), z, (0, height), Street.POLE, scene.tinted((105, 105, 108)))
    match scene.rng.integers(3):
        case 0:
            scene.disc((x, height, z), (0.36, 0.36), Street.SIGN, scene.one_of(_SIGNS))
            scene.disc((x, height, z), (0.2, 0.2), Street.SIGN, (225, 225, 225))
        case 1:
            board = (x - 0.45, x + 0.45)
            scene.face(board, z, (height - 0.3, height + 0.3), Street.SIGN, scene.one_of(_SIGNS))
        case _:
            scene.face((x - 0.2, x + 0.2), z, (height - 0.3, height + 0.7), Street.SIGN, _DARK)
            lamp = ((225, 40, 40), (40, 200, 90))[scene.rng.integers(2)]
            scene.disc((x, height + 0.4, z), (0.11, 0.11), Street.SIGN, lamp)


def _draw_pedestrian(scene: _Scene, z: float, x: float) -> None:
    _draw_person(scene, (x, 0, z), Street.PEDESTRIAN)


def _draw_cyclist(scene: _Scene, z: float, x: float) -> None:
    """Two wheels seen from behind or aslant, and somebody on them."""
    aslant = float(scene.rng.uniform(0.0, 0.5))
    for shift in (-aslant, aslant):
        place = (x + shift, 0.34, z)
        scene.disc(place, (0.05 + aslant * 0.6, 0.34), Street.BICYCLIST, _DARK)
    _draw_person(scene, (x, 0.35, z), Street.BICYCLIST)


def _draw_person(scene: _Scene, place: Place, kind: Street) -> None:
    """Legs, body and head."""
    x, foot, z = place
    size = float(scene.rng.uniform(0.85, 1.08))
    hip, neck, width = foot + 0.8 * size, foot + 1.45 * size, 0.23 * size
    scene.face((x - width * 0.7, x + width * 0.7), z, (foot, hip), kind, scene.one_of(_CLOTHES))
    scene.face((x - width, x + width), z, (hip, neck), kind, scene.one_of(_CLOTHES))
    scene.disc((x, neck + 0.13 * size, z), (0.11 * size, 0.14 * size), kind, scene.tinted(_SKIN))


def _photograph(scene: _Scene) -> NDArray[np.uint8]:
    """Add light that varies over the image, haze towards the horizon, blur and noise."""
    rng = scene.rng
    coarse = rng.normal(1.0, 0.14, (5, 6)).astype(np.float32)
    light_HW = cv2.resize(coarse, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
    seen = scene.image.astype(np.float32) * light_HW[..., None] * rng.uniform(0.75, 1.2)
    rows = np.abs(np.arange(ROWS, dtype=np.float32) - scene.horizon) / ROWS
    haze_HW1 = (rng.uniform(0, 0.35) * np.exp(-rows * 9))[:, None, None].astype(np.float32)
    seen += haze_HW1 * (rng.uniform(190, 225) - seen)
    seen = cv2.GaussianBlur(seen, (0, 0), float(rng.uniform(0.4, 0.9)))
    seen += rng.normal(0, rng.uniform(2, 7), seen.shape).astype(np.float32)
    exposed: NDArray[np.uint8] = np.clip(seen, 0, 255).astype(np.uint8)
    return exposed
