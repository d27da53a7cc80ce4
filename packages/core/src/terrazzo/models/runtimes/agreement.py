"""Whether an exported model gives what the model itself gives.

Sums of float32 taken in another order differ in their last bits, so logits agree within a share of
their range. A label may then differ only where the two best classes are as close as that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.sample import Bands

TOLERANCE = 1e-4
"""Largest difference of float32 logits, as a share of the range of the reference's."""
SIZES = ((64, 96), (61, 97), (63, 95), (65, 96), (64, 97), (7, 9))
"""Rows and columns to compare at: multiples of every stride and not, one more and one less in
either axis, and smaller than a stride."""


@dataclass(frozen=True)
class Agreement:
    """How the logits of one batch compare.

    Attributes:
        shape: of the reference's logits, B×H×W×K.
        observed_shape: of the exported model's.
        error: largest difference, as a share of the reference's range; infinite where the shapes
            differ or a number is not finite.
        pixels: B·H·W.
        changed: pixels whose label differs.
        unexplained: those of them whose two best classes lie further apart than twice the error.
    """

    shape: tuple[int, ...]
    observed_shape: tuple[int, ...]
    error: float
    pixels: int
    changed: int
    unexplained: int

    @property
    def holds(self) -> bool:
        """Whether it is the same model, of float32."""
        return self.error <= TOLERANCE and self.unexplained == 0


def compare(
    reference_BHWK: NDArray[np.float32],
    observed_BHWK: NDArray[np.float32],
    labels_BHW: NDArray[np.integer] | None = None,
) -> Agreement:
    """Hold logits against those of the model itself.

    Args:
        reference_BHWK: of the model itself.
        observed_BHWK: of the exported one.
        labels_BHW: that the exported one gives; None: it gives none.
    """
    pixels = int(np.prod(reference_BHWK.shape[:3]))
    shapes = reference_BHWK.shape, observed_BHWK.shape
    labels_fit = labels_BHW is None or labels_BHW.shape == reference_BHWK.shape[:3]
    if shapes[0] != shapes[1] or not labels_fit or not np.isfinite(observed_BHWK).all():
        return Agreement(*shapes, float("inf"), pixels, pixels, pixels)
    difference = float(np.abs(observed_BHWK - reference_BHWK).max())
    spread = float(np.ptp(reference_BHWK))
    if labels_BHW is None:
        labels_BHW = observed_BHWK.argmax(axis=3)
    changed_BHW = labels_BHW != reference_BHWK.argmax(axis=3)
    margin_BHW = margin(reference_BHWK)
    unexplained = int((changed_BHW & (margin_BHW > 2 * difference)).sum())
    error = difference / spread if spread else float(difference > 0) * float("inf")
    return Agreement(*shapes, error, pixels, int(changed_BHW.sum()), unexplained)


def margin(scores_BHWK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far the best class is ahead of the second."""
    if scores_BHWK.shape[3] == 1:
        return np.full(scores_BHWK.shape[:3], np.inf, np.float32)
    two_BHW2 = np.partition(scores_BHWK, -2, axis=3)[..., -2:]
    margin_BHW: NDArray[np.float32] = two_BHW2[..., 1] - two_BHW2[..., 0]
    return margin_BHW


def noise(
    bands: Bands, batch: int, size: tuple[int, int], seed: int, *, missing: bool = False
) -> NDArray[np.generic]:
    """Return images B×H×W×C of noise that is spread as the bands are.

    Args:
        bands: their means, deviations and dtype.
        batch: B.
        size: H and W.
        seed: of the noise.
        missing: without some values, as models are shown such images: float32 with NaN.

    Returns:
        As the model is shown them: of the bands' dtype; float32 where values are missing, as they
        are wherever bands are floats, and where images are normalised each by itself.
    """
    random = np.random.default_rng(seed)
    images = random.normal(bands.mean, 2 * np.array(bands.std), (batch, *size, len(bands)))
    dtype = np.dtype(bands.seen_dtype)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        images = images.clip(limits.min, limits.max).astype(dtype)
        if not missing:
            return images
        dtype = np.dtype(np.float32)
    images = images.astype(dtype)
    images[random.random(images.shape) < 0.02] = np.nan
    images[:, : size[0] // 4, : size[1] // 4] = np.nan
    return images
