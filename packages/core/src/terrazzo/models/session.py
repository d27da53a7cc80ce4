"""What an exported model is in any runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Session(Protocol):
    """An exported model in its runtime."""

    @property
    def device(self) -> str:
        """Where and by what it is computed, for the record: ``cpu openvino 2026.4.1 float32``."""
        ...

    @property
    def threads(self) -> int:
        """Threads that share the work."""
        ...

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K."""
        ...

    def probabilities(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, which add up to 1 over K."""
        ...

    def labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W, in any integer type."""
        ...
