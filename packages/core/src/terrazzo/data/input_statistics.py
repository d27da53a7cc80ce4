"""What images pretrained weights expect, and how a first convolution is fitted to others.

A network that was trained on (x − m) / s sees the same in (x − mean) / std if its first kernels are
multiplied by std / s, and the constant Σ kernel · (mean − m) / s is added to what they answer. At
the border of a padded convolution 0 stands for another colour, so there it is not quite the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.sample import Bands


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Mean and deviation that were taken from the bands of images, and divided by.

    Those of published weights are of 8-bit red, green and blue.

    Attributes:
        mean: of each band, in the units of the files: grey levels, 0…255, of 8 bits.
        std: likewise.
        dtype: of the pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: str = "uint8"

    def of_bands(self, bands: Bands) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Return means and deviations for the bands of a data set; None where they say nothing.

        They say nothing of images that are normalised each by itself: no one scale leads to those.

        A grey image counts as one whose three bands are equal, and gets their averages.
        """
        if bands.dtype != self.dtype or bands.per_image:
            return None
        if len(bands) == len(self.mean):
            return self.mean, self.std
        if (len(bands), len(self.mean), self.dtype) == (1, 3, "uint8"):
            return (float(np.mean(self.mean)),), (float(np.mean(self.std)),)
        return None

    @property
    def images(self) -> str:
        """What they were taken from, in words."""
        if (len(self.mean), self.dtype) == (3, "uint8"):
            return "8-bit red, green and blue"
        return f"{len(self.mean)} bands of {self.dtype}"


IMAGENET = InputStatistics((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Deng et al. 2009, as used by torchvision and transformers, × 255."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A first convolution for other images.

    Attributes:
        kernels: float32 …×C×O.
        offset_O: float32, to be added to what the convolution answers.
        remark: a sentence for the log.
    """

    kernels: NDArray[np.float32]
    offset_O: NDArray[np.float32]
    remark: str


def fitted(
    kernels: NDArray[np.floating],
    statistics: InputStatistics,
    bands: Bands,
    *,
    padding: int,
) -> Fitted | None:
    """Fit the kernels of a first convolution to images normalised as `bands` says.

    Args:
        kernels: …×C×O, as they are for images normalised by `statistics`.
        statistics: of the weights.
        bands: of the run.
        padding: pixels of 0 at each side, for the remark.

    Returns:
        None where nothing has to be changed, or where `statistics` says nothing of the bands; see
        `remark_unfit`.
    """
    wanted = statistics.of_bands(bands)
    if wanted is None or wanted == (bands.mean, bands.std):
        return None
    mean_C, std_C = np.array(wanted[0]), np.array(wanted[1])
    own_mean_C, own_std_C = np.array(bands.mean), np.array(bands.std)
    wide = kernels.astype(np.float64)
    shift_C = (own_mean_C - mean_C) / std_C
    offset_O = (wide * shift_C[:, None]).sum(axis=tuple(range(wide.ndim - 1)))
    exact = padding == 0 or np.allclose(shift_C, 0, atol=1e-6)
    return Fitted(
        (wide * (own_std_C / std_C)[:, None]).astype(np.float32),
        offset_O.astype(np.float32),
        f"first convolution: fitted from {_words(*wanted)} of the weights to "
        f"{_words(bands.mean, bands.std)} of this run"
        + ("" if exact else f", but for {padding} pixels at the border"),
    )


def remark_unfit(statistics: InputStatistics, bands: Bands) -> str | None:
    """Say that the weights expect other images than can be made of these bands; None: they do not.

    Args:
        statistics: of the weights.
        bands: of the run.
    """
    if statistics.of_bands(bands) is not None:
        return None
    trained_on = _words(statistics.mean, statistics.std)
    own = (
        'each image normalised by itself, to which no fitting leads; data.normalize = "pretrained" '
        "is that of the weights"
        if bands.per_image
        else "normalised by mean and deviation of their own"
    )
    return (
        f"the weights were trained on {statistics.images} ({trained_on}); these are "
        f"{len(bands)} bands of {bands.dtype}, {own}"
    )


def _words(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    means, deviations = (", ".join(f"{value:.4g}" for value in each) for each in (mean, std))
    return f"mean {means} and deviation {deviations}"
