"""Test-time augmentation: a model asked about several forms of an image, and the mean taken.

``flips`` are the identity, left and right exchanged, upper and lower exchanged, and both; it takes
four times as long. ``flips+scales`` asks about these four at 0.75, 1 and 1.25 times the size; it
takes about thirteen times as long. What is averaged is softmax probabilities, each brought back to
the place and the size of the image. Classes that differ by left and right, such as lanes of a road,
or by up and down are mixed.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import unknown_name
from terrazzo.data.model_input import seen_at_size
from terrazzo.io.resize import Size
from terrazzo.models.contract import Predictor
from terrazzo.models.derived import Derived
from terrazzo.models.probabilities import batch_at_size

Augmentation = Literal["flips", "flips+scales"]

SCALES = (0.75, 1.0, 1.25)
"""Of rows and columns; in this order sums are made, so that the last bit is always the same."""

DEFINITIONS: dict[Augmentation, str] = {
    "flips": "mean of the softmax probabilities of the image and its three mirror images",
    "flips+scales": "mean of the softmax probabilities of the image and its three mirror images, "
    "each at 0.75, 1 and 1.25 times its size and brought back bilinearly",
}
"""What a score by test-time augmentation says of itself."""

_ROWS, _COLUMNS = 1, 2  # axes of B×H×W×C
_FLIPS: tuple[tuple[int, ...], ...] = ((_COLUMNS,), (_ROWS,), (_ROWS, _COLUMNS))
"""All but the identity; in this order sums are made, so that the last bit is always the same."""


def require_augmentation(word: str) -> None:
    """Refuse what is no test-time augmentation.

    Raises:
        ConfigError: SEG-X004.
    """
    if word not in get_args(Augmentation):
        raise unknown_name("test-time augmentation", word, get_args(Augmentation))


def augmented(trainer: Predictor, augmentation: Augmentation | None) -> Predictor:
    """Return a model with test-time augmentation; None: the model itself."""
    if augmentation is None:
        return trainer
    flipped = mean_over_flips(trainer)
    return flipped if augmentation == "flips" else mean_over_scales(flipped)


def mean_over_flips(trainer: Predictor) -> Predictor:
    """Return a model whose probabilities are means over the four flips of each image."""
    return Derived((trainer,), partial(_over_flips, trainer))


def mean_over_scales(trainer: Predictor) -> Predictor:
    """Return a model whose probabilities are means over each image at every one of `SCALES`."""
    return Derived((trainer,), partial(_over_scales, trainer))


def _over_flips(trainer: Predictor, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    total_BHWK = np.array(trainer.predict(images_BHWC), np.float32)
    for axes in _FLIPS:
        flipped_BHWC = np.ascontiguousarray(np.flip(images_BHWC, axes))
        total_BHWK += np.flip(trainer.predict(flipped_BHWC), axes)
    total_BHWK *= np.float32(1 / (1 + len(_FLIPS)))
    return total_BHWK


def _over_scales(trainer: Predictor, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    size = images_BHWC.shape[1:3]
    total_BHWK: NDArray[np.float32] | None = None
    for scale in SCALES:
        scaled = scaled_size(size, scale)
        seen_BHWC = images_BHWC
        if scaled != size:
            seen_BHWC = np.stack(
                [seen_at_size(image_HWC, scaled, trainer.bands) for image_HWC in images_BHWC]
            )
        found_BHWK = batch_at_size(trainer.predict(seen_BHWC), size)
        total_BHWK = np.array(found_BHWK) if total_BHWK is None else total_BHWK + found_BHWK
    assert total_BHWK is not None
    total_BHWK *= np.float32(1 / len(SCALES))
    return total_BHWK


def scaled_size(size: tuple[int, ...], scale: float) -> Size:
    """Return rows and columns at a scale, one at least."""
    rows, columns = (max(1, round(side * scale)) for side in size)
    return rows, columns
