"""Joint changes of picture and label while training.

All geometry of a sample is one affine map, applied once: resize to the model's size, random scale,
rotation about the centre, quarter turns, the cut of the window, flips. The picture is sampled
linearly and the label by its nearest pixel. Where the window reaches beyond the picture, the label
is IGNORE and the picture goes on as its mirror image, so that no edge appears that is not there.

Coordinates are continuous: the pixel in column j covers x from j to j + 1, its centre is j + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.config import AugmentConfig
from terrazzo.sample import Sample

Array = NDArray[Any]
"""Pixels: uint8, uint16 or float32 images, uint8 or uint16 labels."""
Size = tuple[int, int]
"""Rows, columns."""


@dataclass(frozen=True, slots=True)
class _Draws:
    """Numbers in [0, 1) behind one sample.

    All are drawn always, in this order, so that switching one option on leaves the others as they
    were.
    """

    scale: float
    angle: float
    turns: float
    flip_horizontal: float
    flip_vertical: float
    row: float
    column: float
    brightness: float
    contrast: float
    noise: float
    blur: float


@dataclass(frozen=True, slots=True)
class _Geometry:
    """From the picture to the window, in the order of the fields.

    Attributes:
        source: size of the picture as it is.
        scaled: size after resize and random scale, whole pixels.
        angle: radians, counter-clockwise as seen, about the centre of the scaled picture.
        turns: counter-clockwise quarter turns of the scaled picture, as in `np.rot90`.
        offset: row and column of the window's corner in the turned picture; may be negative.
        window: size of the result.
        flip_rows: upside down.
        flip_columns: left to right.
    """

    source: Size
    scaled: Size
    angle: float
    turns: int
    offset: Size
    window: Size
    flip_rows: bool
    flip_columns: bool


def augment(
    sample: Sample,
    settings: AugmentConfig,
    image_size: Size | None,
    rng: np.random.Generator,
    ignore_index: int,
) -> Sample:
    """Change one sample at random; a pure function of the arguments and the state of `rng`.

    Args:
        sample: any number of bands.
        settings: what to change, and how much.
        image_size: rows and columns before the random scale; None: those of the picture.
        rng: private to this sample.
        ignore_index: label of pixels outside the picture.

    Returns:
        A new sample; where nothing changed its arrays are those of `sample`. Its size is
        `settings.crop`, else `image_size`, else the picture's own. Types are kept. Labels are
        values of the sample's label or `ignore_index`. Without a crop, a quarter turn that would
        exchange the rows and columns of a picture that is not square is a half turn or none.
    """
    draws = _Draws(*rng.random(11).tolist())
    colour_C: NDArray[np.float64] = np.asarray(rng.random(sample.image_HWC.shape[2]))
    geometry = _choose_geometry(sample.label_HW.shape, settings, image_size, draws)
    image_HWC = _move_image(sample.image_HWC, geometry)
    label_HW = _move_label(sample.label_HW, geometry, ignore_index)
    image_HWC = _recolour(image_HWC, settings, draws, colour_C)
    image_HWC = _blur_and_noise(image_HWC, settings, draws, rng)
    return Sample(sample.name, image_HWC, label_HW, sample.image_file)


def resize_image(image_HWC: Array, size: Size) -> Array:
    """Resample a picture to `size` (rows, columns); each pixel keeps covering its own area.

    An axis that shrinks below one half is averaged over the area of its new pixels, any other is
    interpolated linearly. Returns the same array where nothing changes.
    """
    rows, columns = image_HWC.shape[:2]
    shrunk_HWC = _resample(image_HWC, _averaged((rows, columns), size), cv2.INTER_AREA)
    return _resample(shrunk_HWC, size, cv2.INTER_LINEAR)


def _averaged(size: Size, wanted: Size) -> Size:
    """Return the size after averaging: the wanted length where an axis shrinks below one half.

    Down to one half each old pixel is next to a new one, so linear sampling leaves none out.
    """
    rows, columns = (new if 2 * new < old else old for old, new in zip(size, wanted, strict=True))
    return rows, columns


def _resample(image_HWC: Array, size: Size, interpolation: int) -> Array:
    if image_HWC.shape[:2] == size:
        return image_HWC
    return _by_fours(
        image_HWC, lambda bands: cv2.resize(bands, size[::-1], interpolation=interpolation)
    )


def _by_fours(array: Array, change: Callable[[Array], Array]) -> Array:
    """Apply `change` to four bands at a time, the most that OpenCV resamples in one call."""
    if array.ndim == 2:
        return change(array)
    # OpenCV drops the axis of a single band.
    groups = [
        np.atleast_3d(change(np.ascontiguousarray(array[..., band : band + 4])))
        for band in range(0, array.shape[2], 4)
    ]
    return groups[0] if len(groups) == 1 else np.concatenate(groups, axis=2)


def _choose_geometry(
    source: tuple[int, ...], settings: AugmentConfig, image_size: Size | None, draws: _Draws
) -> _Geometry:
    rows, columns = source
    base = image_size or (rows, columns)
    window = settings.crop or base
    low, high = (math.log(bound) for bound in settings.scale)
    scale = math.exp(low + (high - low) * draws.scale)
    # Whole pixels, so that a shrunk picture needs no second interpolation to be cut.
    scaled = max(1, round(base[0] * scale)), max(1, round(base[1] * scale))
    turns = int(draws.turns * 4) if settings.turns else 0
    if settings.crop is None and window[0] != window[1]:
        turns = turns // 2 * 2
    turned = scaled[::-1] if turns % 2 else scaled
    angle = math.radians(settings.rotate * (2 * draws.angle - 1))
    flip_rows = draws.flip_vertical < settings.flip_vertical
    flip_columns = draws.flip_horizontal < settings.flip_horizontal
    if settings.rotations:
        angle = math.radians(
            settings.rotations * int(draws.angle * (180 // settings.rotations + 1))
        )
        flip_rows, flip_columns = ((False, False), (True, False), (False, True))[
            int(draws.flip_vertical * 3)
        ]
    return _Geometry(
        source=(rows, columns),
        scaled=scaled,
        angle=angle,
        turns=turns,
        offset=(
            _place(draws.row, turned[0] - window[0]),
            _place(draws.column, turned[1] - window[1]),
        ),
        window=window,
        flip_rows=flip_rows,
        flip_columns=flip_columns,
    )


def _place(draw: float, slack: int) -> int:
    """Choose evenly from 0…slack, or from slack…0 where the window is the larger one."""
    chosen = int(draw * (abs(slack) + 1))
    return chosen if slack >= 0 else -chosen


def _move_image(image_HWC: Array, geometry: _Geometry) -> Array:
    # Linear sampling alone would skip pixels of a picture that shrinks much; averaging first is
    # also what `resize_image` does for evaluation.
    shrunk = _averaged(geometry.source, geometry.scaled)
    image_HWC = _resample(image_HWC, shrunk, cv2.INTER_AREA)
    if shrunk == geometry.scaled and geometry.angle == 0:
        return _cut(image_HWC, geometry, cv2.BORDER_REFLECT, 0)
    matrix = _window_to_pixels(geometry, shrunk)
    return _warp(image_HWC, matrix, geometry.window, cv2.INTER_LINEAR, cv2.BORDER_REFLECT, 0)


def _move_label(label_HW: Array, geometry: _Geometry, ignore_index: int) -> Array:
    if geometry.source == geometry.scaled and geometry.angle == 0:
        return _cut(label_HW, geometry, cv2.BORDER_CONSTANT, ignore_index)
    matrix = _window_to_pixels(geometry, geometry.source)
    return _warp(
        label_HW, matrix, geometry.window, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, ignore_index
    )


def _cut(array: Array, geometry: _Geometry, border: int, fill: int) -> Array:
    """Turn, cut and flip whole pixels; contiguous."""
    turned = np.rot90(array, geometry.turns)
    (row, column), (rows, columns) = geometry.offset, geometry.window
    inside = turned[max(row, 0) : row + rows, max(column, 0) : column + columns]
    if inside.shape[:2] != (rows, columns):
        above, left = max(-row, 0), max(-column, 0)
        below, right = rows - inside.shape[0] - above, columns - inside.shape[1] - left
        sides = (above, below, left, right)
        padded = cv2.copyMakeBorder(np.ascontiguousarray(inside), *sides, border, value=(fill,) * 4)
        inside = padded.reshape(rows, columns, *array.shape[2:])
    flipped = inside[:: -1 if geometry.flip_rows else 1, :: -1 if geometry.flip_columns else 1]
    return np.ascontiguousarray(flipped)


def _warp(
    array: Array, matrix: NDArray[np.float64], size: Size, how: int, border: int, fill: int
) -> Array:
    def warp(bands: Array) -> Array:
        warped: Array = cv2.warpAffine(
            bands,
            matrix,
            size[::-1],
            flags=how | cv2.WARP_INVERSE_MAP,
            borderMode=border,
            borderValue=(fill,) * 4,
        )
        return warped

    # OpenCV 5.0 warps four 8-bit bands in half the time of three, to the same values.
    if array.dtype == np.uint8 and array.shape[2:] == (3,):
        four_HWC = cv2.cvtColor(array, cv2.COLOR_RGB2RGBA)
        three_HWC: Array = cv2.cvtColor(warp(four_HWC), cv2.COLOR_RGBA2RGB)
        return three_HWC
    return _by_fours(array, warp)


def _window_to_pixels(geometry: _Geometry, size: Size) -> NDArray[np.float64]:
    """Return 2×3: from (column, row) of a pixel in the window to those in the picture at `size`."""
    (rows, columns), (scaled_rows, scaled_columns) = size, geometry.scaled
    matrix: NDArray[np.float64] = (
        _shift(-0.5, -0.5)
        @ np.diag([columns / scaled_columns, rows / scaled_rows, 1.0])
        @ _rotation(geometry)
        @ _turn_back(geometry)
        @ _shift(geometry.offset[1], geometry.offset[0])
        @ _flip(geometry)
        @ _shift(0.5, 0.5)
    )
    return matrix[:2]


def _shift(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _rotation(geometry: _Geometry) -> NDArray[np.float64]:
    x, y = geometry.scaled[1] / 2, geometry.scaled[0] / 2
    cosine, sine = math.cos(geometry.angle), math.sin(geometry.angle)
    # Rows count downwards, so this looks up the source of a counter-clockwise turn.
    linear = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    about_centre: NDArray[np.float64] = _shift(x, y) @ linear @ _shift(-x, -y)
    return about_centre


def _turn_back(geometry: _Geometry) -> NDArray[np.float64]:
    rows, columns = (float(length) for length in geometry.scaled)
    corner_x, corner_y = ((0.0, 0.0), (columns, 0.0), (columns, rows), (0.0, rows))[geometry.turns]
    cosine, sine = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[geometry.turns]
    return np.array([[cosine, -sine, corner_x], [sine, cosine, corner_y], [0.0, 0.0, 1.0]])


def _flip(geometry: _Geometry) -> NDArray[np.float64]:
    rows, columns = geometry.window
    matrix = np.eye(3)
    if geometry.flip_columns:
        matrix[0] = (-1.0, 0.0, columns)
    if geometry.flip_rows:
        matrix[1] = (0.0, -1.0, rows)
    return matrix


def _recolour(
    image_HWC: Array, settings: AugmentConfig, draws: _Draws, colour_C: NDArray[np.float64]
) -> Array:
    """Brightness, contrast about each band's mean, a factor a band: together one line a band."""
    if settings.brightness == settings.contrast == settings.colour == 0:
        return image_HWC
    contrast = 1 + settings.contrast * (2 * draws.contrast - 1)
    gain_C = 1 + settings.colour * (2 * colour_C - 1)
    gain_C *= 1 + settings.brightness * (2 * draws.brightness - 1)
    offset_C = gain_C * (1 - contrast) * _band_means(image_HWC)
    gain_C *= contrast
    if image_HWC.dtype == np.uint8:
        table_VC = np.arange(256.0)[:, None] * gain_C + offset_C
        table_VC = _to_range(table_VC, image_HWC.dtype)
        changed: Array = cv2.LUT(image_HWC, table_VC[None]).reshape(image_HWC.shape)
        return changed
    return _to_range(
        image_HWC * gain_C.astype(np.float32) + offset_C.astype(np.float32), image_HWC.dtype
    )


def _band_means(image_HWC: Array) -> NDArray[np.float64]:
    rows_VC = image_HWC.reshape(-1, image_HWC.shape[2])
    means = cv2.reduce(rows_VC, 0, cv2.REDUCE_AVG, dtype=cv2.CV_64F)
    return np.asarray(means[0], dtype=np.float64)


def _blur_and_noise(
    image_HWC: Array, settings: AugmentConfig, draws: _Draws, rng: np.random.Generator
) -> Array:
    """Blur before noise, as optics come before the sensor."""
    if settings.blur > 0:
        sigma = settings.blur * draws.blur
        # OpenCV takes sigma 0 as "choose one".
        if sigma > 0:
            image_HWC = _by_fours(
                image_HWC,
                lambda bands: cv2.GaussianBlur(bands, (0, 0), sigma, borderType=cv2.BORDER_REFLECT),
            )
    if settings.noise > 0:
        sigma = settings.noise * draws.noise * _full_range(image_HWC)
        noise_HWC = rng.standard_normal(image_HWC.shape, dtype=np.float32)
        noise_HWC *= np.float32(sigma)
        noise_HWC += image_HWC
        image_HWC = _to_range(noise_HWC, image_HWC.dtype)
    return image_HWC


def _full_range(image_HWC: Array) -> float:
    """Largest value of an integer type; for float32 the largest absolute value of the picture."""
    if image_HWC.dtype.kind == "u":
        return float(np.iinfo(image_HWC.dtype).max)
    return float(np.abs(image_HWC).max())


def _to_range(values: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> Array:
    """Round and clip to an integer type; float32 stays as it is."""
    if dtype.kind == "u":
        values = np.clip(np.rint(values), 0, np.iinfo(dtype).max)
    return values.astype(dtype, copy=False)
