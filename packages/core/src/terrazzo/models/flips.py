"""Test-time augmentation: a model asked about an image and its mirror images, and the mean taken.

The identity, left and right exchanged, upper and lower exchanged, and both. It takes four times as
long. Classes that differ by left and right, such as lanes of a road, or by up and down are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import unknown_name
from terrazzo.base.processes import World
from terrazzo.data.sample import Bands
from terrazzo.models.contract import Predictor

Augmentation = Literal["flips"]

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
    return trainer if augmentation is None else MeanOverFlips(trainer)


@dataclass(frozen=True, eq=False)
class MeanOverFlips:
    """A model whose probabilities are means over the four flips of each image.

    Attributes:
        trainer: the model itself.
    """

    trainer: Predictor

    @property
    def world(self) -> World:
        """As of the model."""
        return self.trainer.world

    @property
    def device(self) -> str:
        """As of the model."""
        return self.trainer.device

    @property
    def threads(self) -> int:
        """As of the model."""
        return self.trainer.threads

    @property
    def bands(self) -> Bands:
        """As of the model."""
        return self.trainer.bands

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K."""
        total_BHWK = np.array(self.trainer.predict(images_BHWC), np.float32)
        for axes in _FLIPS:
            flipped_BHWC = np.ascontiguousarray(np.flip(images_BHWC, axes))
            total_BHWK += np.flip(self.trainer.predict(flipped_BHWC), axes)
        total_BHWK *= np.float32(1 / (1 + len(_FLIPS)))
        return total_BHWK

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W uint8 or uint16; the lower one of equals."""
        probabilities_BHWK = self.predict(images_BHWC)
        dtype = np.uint8 if probabilities_BHWK.shape[3] <= np.iinfo(np.uint8).max else np.uint16
        labels_BHW: NDArray[np.integer] = probabilities_BHWK.argmax(axis=3).astype(dtype)
        return labels_BHW

    def out_of_memory(self, error: Exception) -> bool:
        """As of the model."""
        return self.trainer.out_of_memory(error)
