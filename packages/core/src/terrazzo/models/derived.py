"""A predictor made of another one: the same processes, device and bands, other probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.processes import World
from terrazzo.data.sample import Bands
from terrazzo.models.contract import Predictor

Probabilities = Callable[[NDArray[np.generic]], NDArray[np.float32]]
"""Images B×H×W×C to probabilities B×H×W×K."""


@dataclass(frozen=True, eq=False)
class Derived:
    """A predictor whose probabilities are computed by a function of the images.

    Attributes:
        predictors: what the function asks, one or more; the first one tells device and bands.
        probabilities: of images B×H×W×C, float32 B×H×W×K that sum to 1 over K.
    """

    predictors: tuple[Predictor, ...]
    probabilities: Probabilities

    @property
    def world(self) -> World:
        """As of the first predictor."""
        return self.predictors[0].world

    @property
    def device(self) -> str:
        """As of the first predictor."""
        return self.predictors[0].device

    @property
    def threads(self) -> int:
        """As of the first predictor."""
        return self.predictors[0].threads

    @property
    def bands(self) -> Bands:
        """As of the first predictor."""
        return self.predictors[0].bands

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K."""
        return self.probabilities(images_BHWC)

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W uint8 or uint16; the lower one of equals."""
        probabilities_BHWK = self.predict(images_BHWC)
        dtype = np.uint8 if probabilities_BHWK.shape[3] <= np.iinfo(np.uint8).max else np.uint16
        labels_BHW: NDArray[np.integer] = probabilities_BHWK.argmax(axis=3).astype(dtype)
        return labels_BHW

    def out_of_memory(self, error: Exception) -> bool:
        """As of any of the predictors."""
        return any(predictor.out_of_memory(error) for predictor in self.predictors)
