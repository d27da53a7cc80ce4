"""A session of a runtime as the predictor that scenes, images and scores are made with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.processes import SingleProcess
from terrazzo.data.sample import Bands
from terrazzo.models.session import Session

_NO_MEMORY = ("bad_alloc", "Failed to allocate", "could not allocate", "out of memory")


@dataclass(frozen=True, eq=False)
class SessionPredictor:
    """An exported model behind `terrazzo.models.contract.Predictor`.

    Attributes:
        session: computes.
        bands: that it was built for.
        label_dtype: of the labels.
        world: this process alone.
    """

    session: Session
    bands: Bands
    label_dtype: np.dtype[np.unsignedinteger]
    world: SingleProcess = field(default_factory=SingleProcess)

    @property
    def device(self) -> str:
        """Where and by what it is computed, for the record."""
        return self.session.device

    @property
    def threads(self) -> int:
        """Threads that share the work."""
        return self.session.threads

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K."""
        return self.session.probabilities(images_BHWC)

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W in the label map's dtype."""
        return self.session.labels(images_BHWC).astype(self.label_dtype, copy=False)

    def out_of_memory(self, error: Exception) -> bool:
        """Tell whether a runtime says by this error that there is no memory left."""
        return isinstance(error, RuntimeError) and any(w in str(error) for w in _NO_MEMORY)
