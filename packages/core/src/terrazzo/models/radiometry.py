"""Whether the values of images are like those a model was trained on, by mean and deviation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.datasets import Split
from terrazzo.data.normalization import moments
from terrazzo.data.sample import Bands

CODE = "SEG-D054"
"""Of the warning."""
_IMAGES = 20  # of a data set, evenly spaced, whose values are compared
DEVIATIONS = 4.0
"""A mean further off than this many deviations of training is far. Of 1,417 images of CamVid, Pets,
Dubai and sperm cells, each beside its own training split, none is further off than 1.9."""
TIMES_LARGER = 5.0
"""So is a deviation this many times larger; of those images, none has one more than 1.7 times."""
TIMES_SMALLER = 8.0
"""So are a mean and a deviation that are both this many times smaller, as 12 bits are among 16; the
darkest of those images, a black cat, is 6 times."""


def unlike_training(
    bands: Bands, mean_C: NDArray[np.float64], std_C: NDArray[np.float64]
) -> str | None:
    """Say which band lies far from what a model was trained on; None: none does.

    Finds data in another unit or number of bits, whose tags say nothing. An image that is merely
    dark, bright or flat is not far.

    Args:
        bands: of the model.
        mean_C: of the images to be seen, in their own units.
        std_C: deviations of the same.
    """
    if _is_not_of_data(bands):
        return None
    for band, name in enumerate(bands.names):
        mean, std = bands.mean[band], bands.std[band]
        off = abs(mean_C[band] - mean) / std > DEVIATIONS
        wider = std_C[band] > TIMES_LARGER * std
        smaller = (
            max(abs(mean_C[band]) / max(abs(mean), 1e-12), std_C[band] / std) < 1 / TIMES_SMALLER
        )
        if off or wider or smaller:
            return (
                f"the values of {name} are not like those of training: mean {mean_C[band]:.4g}, "
                f"deviation {std_C[band]:.4g}; the model was trained on mean {mean:.4g}, deviation "
                f"{std:.4g}. Another unit, scale or number of bits?"
            )
    return None


def split_unlike_training(bands: Bands, split: Split) -> str | None:
    """Say which band lies far from training in a data set, by some of its images.

    Raises:
        DataError: one of them cannot be read.
    """
    chosen = range(0, len(split), max(1, -(-len(split) // _IMAGES)))
    return unlike_training(bands, *moments(map(split.source.read_image, chosen), len(bands)))


def _is_not_of_data(bands: Bands) -> bool:
    """Tell whether the means were given by hand, as for ``normalize = "none"``."""
    return not any(bands.mean)
