"""What every profile and every interval is worked out from: the stored counts of each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class ImageCounts:
    """Confusion counts of N images.

    Attributes:
        counts_NKK: int64, rows truth, columns prediction.
        ignored_N: int64 pixels that are not scored.
        class_names: K names; some scores are defined for certain classes only.
        instances_N3K: float64, see `terrazzo.metrics.cityscapes.instance_shares`; None where the
            data set has no instances.

    Raises:
        DataError: SEG-M008, the shapes do not belong together.
    """

    counts_NKK: NDArray[np.int64]
    ignored_N: NDArray[np.int64]
    class_names: tuple[str, ...]
    instances_N3K: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        num_images, num_classes = len(self.ignored_N), len(self.class_names)
        if self.counts_NKK.shape != (num_images, num_classes, num_classes):
            raise DataError(
                "SEG-M008",
                "not the counts of these images and classes",
                observed=f"counts of shape {self.counts_NKK.shape}",
                allowed=f"({num_images}, {num_classes}, {num_classes}): "
                f"{num_images} ignored counts, {num_classes} class names",
            )

    @property
    def total(self) -> NDArray[np.int64]:
        """Counts of all images together."""
        summed: NDArray[np.int64] = self.counts_NKK.sum(axis=0)
        return summed

    @property
    def pixels_counted(self) -> int:
        """Pixels that are scored."""
        return int(self.counts_NKK.sum())

    @property
    def pixels_ignored(self) -> int:
        """Pixels that are not."""
        return int(self.ignored_N.sum())


@dataclass(frozen=True, slots=True, eq=False)
class ClassPixels:
    """Pixels a class; any leading axes (images, batches), K last.

    Attributes:
        true_positives: in truth and prediction (TP).
        in_truth: in truth (TP + FN).
        in_prediction: in prediction (TP + FP).
    """

    true_positives: NDArray[np.int64]
    in_truth: NDArray[np.int64]
    in_prediction: NDArray[np.int64]

    @property
    def union(self) -> NDArray[np.int64]:
        """In truth or prediction (TP + FP + FN)."""
        return self.in_truth + self.in_prediction - self.true_positives


def class_pixels(counts: NDArray[np.int64]) -> ClassPixels:
    """Return the three sums of each class of …×K×K counts."""
    return ClassPixels(
        np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)
    )


def ratio(
    part: NDArray[np.number], whole: NDArray[np.number], undefined: float
) -> NDArray[np.float64]:
    """Divide; `undefined` where `whole` is 0."""
    quotient = np.full(np.shape(part), undefined, dtype=np.float64)
    np.divide(part, whole, out=quotient, where=np.asarray(whole) > 0)
    return quotient


def mean_of_defined(values: NDArray[np.float64]) -> float:
    """Mean of what is not NaN; NaN where there is nothing."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
