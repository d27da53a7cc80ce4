"""Joint changes of image and label while training.

All geometry of a sample is one affine map, applied once: resize to the model's size, random scale,
rotation about the centre, the cut of the window; then quarter turns and flips, which move whole
pixels. A rotation by a multiple of 90 degrees is quarter turns, of another window: it moves whole
pixels too. The image is sampled linearly and the label by its nearest pixel. Where the window
reaches beyond the image, the label is IGNORE and the image goes on as its mirror image, so that no
edge appears that is not there. Deformations (`terrazzo.data.deformation`) bend the window before
that map, and all is still sampled once.

Without a rotation or deformation the map is separable: only the part of the image below the window
is resized, in a quarter of the time of a general warp, and by the function that evaluation resizes
with.

Coordinates are continuous: the pixel in column j covers x from j to j + 1, its centre is j + 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import AugmentConfig
from terrazzo.data.deformation import Coordinates, deformed, own_draws
from terrazzo.data.sample import Sample
from terrazzo.io.pixels import fill_missing, mark_missing
from terrazzo.io.resize import Array, Size, averaged, by_fours, part_of_axis, resample
from terrazzo.io.resize import resize_image as resize_image


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


_NUM_DRAWS = 11


@dataclass(frozen=True, slots=True)
class _Geometry:
    """From the image to the window, in the order of the fields.

    Attributes:
        source: size of the image as it is.
        scaled: size after resize and random scale, whole pixels.
        angle: radians, counter-clockwise as seen, about the centre of the scaled image.
        offset: row and column of the window's corner in the scaled image; may be negative.
        window: size of the window.
        turns: counter-clockwise quarter turns of the window, as in `np.rot90`.
        flip_rows: upside down.
        flip_columns: left to right.
        bent: where in the window its pixels come from, before all else; None: from where they are.
    """

    source: Size
    scaled: Size
    angle: float
    offset: Size
    window: Size
    turns: int
    flip_rows: bool
    flip_columns: bool
    bent: Coordinates | None = None

    @property
    def separable(self) -> bool:
        """Whether rows and columns are resized each by itself."""
        return self.angle == 0 and self.bent is None


def augment(
    sample: Sample,
    settings: AugmentConfig,
    image_size: Size | None,
    rng: np.random.Generator,
    ignore_index: int,
    mean_C: NDArray[np.float64] | None = None,
    *,
    deviation_C: NDArray[np.float64] | None = None,
) -> Sample:
    """Change one sample at random; a pure function of the arguments and the state of `rng`.

    Args:
        sample: any number of bands.
        settings: what to change, and how much.
        image_size: rows and columns before the random scale; None: those of the image.
        rng: private to this sample.
        ignore_index: label of pixels outside the image.
        mean_C: of the bands, in the image's units; needed where values are missing.
        deviation_C: of each band over the data set, in the file's units, see
            `terrazzo.data.normalization.noise_deviations`; needed for noise in other types than
            uint8.

    Returns:
        A new sample; where nothing changed its arrays are those of `sample`. Where values are
        missing its image is float32 with NaN there, whatever the type was: they are filled with the
        mean of their band before pixels are mixed, and no colour change touches them. Its size is
        `settings.crop`, else `image_size`, else the image's own. Types are kept. Labels are
        values of the sample's label or `ignore_index`. Without a crop, a quarter turn that would
        exchange the rows and columns of an image that is not square is a half turn or none.
    """
    numbers = rng.random(_NUM_DRAWS + sample.image_HWC.shape[2])
    draws, colour_C = _Draws(*numbers[:_NUM_DRAWS].tolist()), numbers[_NUM_DRAWS:]
    geometry = _choose_geometry(sample.label_HW.shape, settings, image_size, draws)
    further = own_draws(rng) if _draws_further(settings) else rng
    geometry = replace(geometry, bent=deformed(geometry.window, settings, further))
    image_HWC, present_HWC = sample.image_HWC, sample.present_HWC
    if present_HWC is not None:
        assert mean_C is not None
        image_HWC = fill_missing(image_HWC, present_HWC, mean_C)
        present_HWC = _move_present(present_HWC, geometry)
    image_HWC = _move_image(image_HWC, geometry)
    label_HW = _move_label(sample.label_HW, geometry, ignore_index)
    image_HWC = _equalise(image_HWC, settings, further)
    image_HWC = _recolour(image_HWC, settings, draws, colour_C, present_HWC)
    image_HWC = _blur(image_HWC, settings, draws)
    if settings.noise > 0:
        range_C = _noise_range(image_HWC, deviation_C)
        image_HWC = _add_noise(image_HWC, settings.noise * draws.noise * range_C, rng)
    if present_HWC is not None:
        image_HWC = mark_missing(image_HWC, present_HWC)
    return Sample(sample.name, image_HWC, label_HW, sample.image_file)


def require_eight_bits_for_clahe(settings: AugmentConfig, dtype: str) -> None:
    """Refuse `augment.clahe` for images whose histogram has no 256 numbers.

    Args:
        settings: of the recipe.
        dtype: of the training images.

    Raises:
        ConfigError: SEG-X011.
    """
    if settings.clahe and dtype != "uint8":
        raise ConfigError(
            "SEG-X011",
            "augment.clahe is for images of 8 bits",
            observed=dtype,
            allowed="uint8",
            next_step="set augment.clahe = 0; brightness and contrast change images of any type",
        )


def _draws_further(settings: AugmentConfig) -> bool:
    """Whether an option is on that draws from a generator of its own."""
    return any(
        (
            settings.elastic,
            settings.grid_distortion,
            settings.optical_distortion,
            settings.clahe,
        )
    )


def _choose_geometry(
    source: tuple[int, ...], settings: AugmentConfig, image_size: Size | None, draws: _Draws
) -> _Geometry:
    rows, columns = source
    base = image_size or (rows, columns)
    window = settings.crop or base
    low, high = (math.log(bound) for bound in settings.scale)
    scale = math.exp(low + (high - low) * draws.scale)
    # Whole pixels: an image that keeps its size is cut and not sampled again.
    scaled = max(1, round(base[0] * scale)), max(1, round(base[1] * scale))
    turns = int(draws.turns * 4) if settings.turns else 0
    if settings.crop is None and window[0] != window[1]:
        turns = turns // 2 * 2
    if turns % 2:
        window = window[1], window[0]
    angle, quarters = math.radians(settings.rotate * (2 * draws.angle - 1)), 0
    flip_rows = draws.flip_vertical < settings.flip_vertical
    flip_columns = draws.flip_horizontal < settings.flip_horizontal
    if settings.rotations:
        degrees = settings.rotations * int(draws.angle * (180 // settings.rotations + 1))
        quarters, degrees = divmod(degrees, 90) if degrees % 90 == 0 else (0, degrees)
        angle = math.radians(degrees)
        flip_rows, flip_columns = ((False, False), (True, False), (False, True))[
            int(draws.flip_vertical * 3)
        ]
    geometry = _Geometry(
        source=(rows, columns),
        scaled=scaled,
        angle=angle,
        offset=(
            _place(draws.row, scaled[0] - window[0]),
            _place(draws.column, scaled[1] - window[1]),
        ),
        window=window,
        turns=turns,
        flip_rows=flip_rows,
        flip_columns=flip_columns,
    )
    return _turned_about_centre(geometry, quarters) if quarters else geometry


def _turned_about_centre(geometry: _Geometry, quarters: int) -> _Geometry:
    """Rotate the scaled image by one or two quarter turns about its centre, by whole pixels.

    The window that shows it is cut out before the turn instead of after it. Where rows and columns
    differ by an odd number, the centre would put pixels between pixels: the image goes up or to
    the left by half a pixel, and its label with it.
    """
    rows, columns = geometry.scaled
    turned = (columns, rows) if quarters == 1 else (rows, columns)
    height, width = geometry.window
    # The window's corner in the turned image.
    row = geometry.offset[0] - (rows - turned[0]) // 2
    column = geometry.offset[1] - (columns - turned[1]) // 2
    if quarters == 1:
        offset, window = (column, columns - row - height), (width, height)
    else:
        offset, window = (rows - row - height, columns - column - width), (height, width)
    return replace(geometry, offset=offset, window=window, turns=quarters)


def _place(draw: float, slack: int) -> int:
    """Choose evenly from 0…slack, or from slack…0 where the window is the larger one."""
    chosen = int(draw * (abs(slack) + 1))
    return chosen if slack >= 0 else -chosen


def _move_image(image_HWC: Array, geometry: _Geometry) -> Array:
    if geometry.separable:
        image_HWC = _cut(image_HWC, geometry, resize_image, cv2.BORDER_REFLECT, 0)
    else:
        # Linear sampling alone would skip pixels of an image that shrinks much; averaging first
        # is also what `resize_image` does.
        shrunk = averaged(geometry.source, geometry.scaled)
        image_HWC = resample(image_HWC, shrunk, cv2.INTER_AREA)
        image_HWC = _warp(image_HWC, geometry, cv2.INTER_LINEAR, cv2.BORDER_REFLECT, 0)
    return _turn_and_flip(image_HWC, geometry)


def _move_label(label_HW: Array, geometry: _Geometry, ignore_index: int) -> Array:
    if geometry.separable:
        label_HW = _cut(label_HW, geometry, _resize_label, cv2.BORDER_CONSTANT, ignore_index)
    else:
        label_HW = _warp(label_HW, geometry, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT, ignore_index)
    return _turn_and_flip(label_HW, geometry)


def _move_present(present_HWC: NDArray[np.bool_], geometry: _Geometry) -> NDArray[np.bool_]:
    """Move what is there as the image is moved, by its nearest pixels."""
    flags_HWC = present_HWC.astype(np.uint8)
    if geometry.separable:
        flags_HWC = _cut(flags_HWC, geometry, _resize_label, cv2.BORDER_REFLECT, 0)
    else:
        flags_HWC = _warp(flags_HWC, geometry, cv2.INTER_NEAREST, cv2.BORDER_REFLECT, 0)
    return _turn_and_flip(flags_HWC, geometry) > 0


def _resize_label(label_HW: Array, size: Size) -> Array:
    return resample(label_HW, size, cv2.INTER_NEAREST_EXACT)


def _cut(
    array: Array,
    geometry: _Geometry,
    resize: Callable[[Array, Size], Array],
    border: int,
    fill: int,
) -> Array:
    """Resize what lies below the window, and go on beyond it as `border` says."""
    if not _overlaps(geometry):
        if border == cv2.BORDER_CONSTANT:
            return np.full(geometry.window, fill, array.dtype)
        # Its label is IGNORE all over; any part of the image will do.
        geometry = replace(geometry, offset=(0, 0))
    if geometry.source == geometry.scaled == geometry.window:
        return array
    down, across = map(
        part_of_axis, geometry.source, geometry.scaled, geometry.offset, geometry.window
    )
    part = resize(array[down.pixels, across.pixels], (down.length, across.length))
    part = part[down.inside, across.inside]
    sides = (down.before, down.after, across.before, across.after)
    if not any(sides):
        return part
    padded: Array = cv2.copyMakeBorder(part, *sides, border, value=(fill,) * 4)
    return padded.reshape(*geometry.window, *array.shape[2:])


def _overlaps(geometry: _Geometry) -> bool:
    """Whether the window shows any of the image; a turned one may not."""
    axes = zip(geometry.offset, geometry.window, geometry.scaled, strict=True)
    return all(offset < length and offset + size > 0 for offset, size, length in axes)


_TURNS = (0, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
"""OpenCV's name of each number of quarter turns; it takes a tenth of NumPy's time."""


def _turn_and_flip(array: Array, geometry: _Geometry) -> Array:
    if geometry.turns:
        array = by_fours(array, lambda bands: cv2.rotate(bands, _TURNS[geometry.turns]))
    if geometry.flip_rows or geometry.flip_columns:
        # −1 is both ways.
        code = int(geometry.flip_columns) if geometry.flip_rows != geometry.flip_columns else -1
        array = cv2.flip(array, code).reshape(array.shape)
    return array


def _warp(array: Array, geometry: _Geometry, how: int, border: int, fill: int) -> Array:
    """Bend, rotate and scale what lies below the window; `array` may have been averaged before."""
    matrix = _window_to_pixels(geometry, array.shape)
    bent = geometry.bent
    if bent is not None:
        x_HW, y_HW = bent
        across, down = (
            (line[0] * x_HW + line[1] * y_HW + line[2]).astype(np.float32) for line in matrix
        )

    def warp(bands: Array) -> Array:
        if bent is not None:
            remapped: Array = cv2.remap(
                bands, across, down, how, borderMode=border, borderValue=(fill,) * 4
            )
            return remapped
        warped: Array = cv2.warpAffine(
            bands,
            matrix,
            geometry.window[::-1],
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
    return by_fours(array, warp)


def _window_to_pixels(geometry: _Geometry, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return 2×3: from (column, row) of a pixel in the window to those in an image of `shape`."""
    (rows, columns), (scaled_rows, scaled_columns) = shape[:2], geometry.scaled
    matrix: NDArray[np.float64] = (
        _shift(-0.5, -0.5)
        @ np.diag([columns / scaled_columns, rows / scaled_rows, 1.0])
        @ _rotation(geometry)
        @ _shift(geometry.offset[1], geometry.offset[0])
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


_TILES = (8, 8)
"""Across and down, of whose histograms `_equalise` takes one each."""


def _equalise(image_HWC: Array, settings: AugmentConfig, rng: np.random.Generator) -> Array:
    """Equalise each band over tiles, in half of the samples; missing values count as the mean."""
    if settings.clahe == 0:
        return image_HWC
    require_eight_bits_for_clahe(settings, str(image_HWC.dtype))
    chosen, limit = rng.random(2).tolist()
    if chosen >= 0.5:
        return image_HWC
    equaliser = cv2.createCLAHE(1 + (settings.clahe - 1) * limit, _TILES)
    bands = [equaliser.apply(band_HW) for band_HW in cv2.split(image_HWC)]
    return np.stack(bands, axis=-1)


def _recolour(
    image_HWC: Array,
    settings: AugmentConfig,
    draws: _Draws,
    colour_C: NDArray[np.float64],
    present_HWC: NDArray[np.bool_] | None,
) -> Array:
    """Brightness, contrast about each band's mean, a factor a band: together one line a band."""
    if settings.brightness == settings.contrast == settings.colour == 0:
        return image_HWC
    contrast = 1 + settings.contrast * (2 * draws.contrast - 1)
    gain_C = 1 + settings.colour * (2 * colour_C - 1)
    gain_C *= 1 + settings.brightness * (2 * draws.brightness - 1)
    offset_C = gain_C * (1 - contrast) * _band_means(image_HWC, present_HWC)
    gain_C *= contrast
    if image_HWC.dtype == np.uint8:
        table_VC = np.arange(256.0)[:, None] * gain_C + offset_C
        table_VC = _to_range(table_VC, image_HWC.dtype)
        changed: Array = cv2.LUT(image_HWC, table_VC[None]).reshape(image_HWC.shape)
        return changed
    return _to_range(
        image_HWC * gain_C.astype(np.float32) + offset_C.astype(np.float32), image_HWC.dtype
    )


def _band_means(image_HWC: Array, present_HWC: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Means of the values that are there; 0 for a band without any."""
    if present_HWC is not None:
        counts_C = np.maximum(present_HWC.sum(axis=(0, 1)), 1)
        return np.asarray(
            image_HWC.sum(axis=(0, 1), where=present_HWC, dtype=np.float64) / counts_C
        )
    rows_VC = image_HWC.reshape(-1, image_HWC.shape[2])
    means = cv2.reduce(rows_VC, 0, cv2.REDUCE_AVG, dtype=cv2.CV_64F)
    return np.asarray(means[0], dtype=np.float64)


def _blur(image_HWC: Array, settings: AugmentConfig, draws: _Draws) -> Array:
    """Blur; before noise, as optics come before the sensor."""
    sigma = settings.blur * draws.blur
    # OpenCV takes sigma 0 as "choose one".
    if sigma == 0:
        return image_HWC
    return by_fours(
        image_HWC,
        lambda bands: cv2.GaussianBlur(bands, (0, 0), sigma, borderType=cv2.BORDER_REFLECT),
    )


_RANGE_IN_DEVIATIONS = 4.4
"""255, of which noise is a share in 8 bits, in deviations of a photograph (ImageNet: 58)."""


def _noise_range(image_HWC: Array, deviation_C: NDArray[np.float64] | None) -> Any:
    """Return what noise is a share of: 255 in 8 bits, and as much for the eye in any other type.

    The range of other types says nothing: 12-bit data fill a sixteenth of uint16, and one outlier
    sets the range of a float.
    """
    if image_HWC.dtype == np.uint8:
        return 255.0
    assert deviation_C is not None, "noise in other types than uint8 needs the bands' deviations"
    return _RANGE_IN_DEVIATIONS * deviation_C


def _add_noise(image_HWC: Array, sigma: Any, rng: np.random.Generator) -> Array:
    """Add Gaussian noise of this deviation, one number or one a band."""
    noise_HWC = rng.standard_normal(image_HWC.shape, dtype=np.float32)
    noise_HWC *= np.asarray(sigma, dtype=np.float32)
    noise_HWC += image_HWC
    return _to_range(noise_HWC, image_HWC.dtype)


def _to_range(values: NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> Array:
    """Round and clip to an integer type; float32 stays as it is."""
    if dtype.kind == "u":
        values = np.clip(np.rint(values), 0, np.iinfo(dtype).max)
    return values.astype(dtype, copy=False)
