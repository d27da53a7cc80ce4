"""What the Cityscapes benchmark scores beside class IoU: its 7 categories and its instances.

iIoU is for classes of things: every instance weighs the same, however many pixels it has. With the
average size of an instance of the class in the training set, S, and the share of each instance
that is found, r:

    iTP = S·Σr    iFN = S·Σ(1 − r)    iIoU = iTP / (iTP + FP + iFN)

FP is counted in pixels, as for IoU: what is predicted has no instances. Pixels labelled as a group
belong to no instance. Source: cityscapesScripts, ``evalPixelLevelSemanticLabeling.py`` and
``helpers/labels.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.metrics.image_counts import ImageCounts, class_pixels, mean_of_defined, ratio

NAN = float("nan")

CITYSCAPES_CATEGORIES: dict[str, tuple[str, ...]] = {
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "object": ("pole", "traffic light", "traffic sign"),
    "nature": ("vegetation", "terrain"),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}
"""The classes that are scored."""

INSTANCE_PIXELS: dict[str, float] = {
    "person": 3462.4756337644,
    "rider": 3930.4788056518,
    "car": 12794.0202738185,
    "truck": 27855.1264367816,
    "bus": 35732.1511111111,
    "train": 67583.7075812274,
    "motorcycle": 6298.7200839748,
    "bicycle": 4672.3249222261,
}
"""Average pixels of an instance in the training set, as in the benchmark's script."""

IDS_PER_CLASS = 1000
"""``instanceIds`` are 1000·label id + number; what is below 1000 is no instance, but a label id."""


def is_cityscapes(class_names: tuple[str, ...]) -> bool:
    """Tell whether these are the 19 classes of the benchmark, in any order."""
    members = {name for names in CITYSCAPES_CATEGORIES.values() for name in names}
    return set(class_names) == members


def category_counts(
    counts_KK: NDArray[np.int64], class_names: tuple[str, ...]
) -> NDArray[np.int64]:
    """Sum the counts of the 19 Cityscapes classes to its 7 categories.

    Args:
        counts_KK: int64, rows truth, columns prediction.
        class_names: in any order.

    Returns:
        7×7 int64 in the order of `CITYSCAPES_CATEGORIES`.

    Raises:
        ConfigError: SEG-M009, a class belongs to no category.
    """
    member_KC = np.eye(len(CITYSCAPES_CATEGORIES), dtype=np.int64)[_categories(class_names)]
    summed: NDArray[np.int64] = member_KC.T @ counts_KK @ member_KC
    return summed


def _categories(class_names: tuple[str, ...]) -> NDArray[np.intp]:
    """Return the number of the category of each class."""
    category_of = {
        name: number
        for number, members in enumerate(CITYSCAPES_CATEGORIES.values())
        for name in members
    }
    unknown = [name for name in class_names if name not in category_of]
    if unknown:
        raise ConfigError(
            "SEG-M009",
            "these classes have no Cityscapes category",
            observed=", ".join(unknown),
            allowed=", ".join(category_of),
            next_step="use the label map cityscapes_19",
        )
    return np.array([category_of[name] for name in class_names], dtype=np.intp)


def instance_shares(
    instances_HW: NDArray[np.integer],
    prediction_HW: NDArray[np.integer],
    class_of: Mapping[int, int],
    class_names: tuple[str, ...],
) -> NDArray[np.float64]:
    """Add up how much of each instance of an image is found.

    Args:
        instances_HW: as in the files ``*_instanceIds.png``; at the size of the label.
        prediction_HW: train ids.
        class_of: train ids of label ids; instances of other labels are not scored.
        class_names: the 19 of the benchmark, in any order.

    Returns:
        3×K float64: of each class the sum over its instances of the share of pixels that are
        predicted right; the same with any class of its category taken for right; the number of
        instances. Sums over images of these are what iIoU is made of.
    """
    ids_P = instances_HW.reshape(-1).astype(np.intp)
    pixels_I = np.bincount(ids_P)
    found = np.flatnonzero(pixels_I)
    found = found[np.isin(found // IDS_PER_CLASS, list(class_of))]
    train_id_I = np.full(len(pixels_I), -1)
    train_id_I[found] = [class_of[int(each) // IDS_PER_CLASS] for each in found]
    inside_P = train_id_I[ids_P] >= 0
    ids_Q, predicted_Q = ids_P[inside_P], prediction_HW.reshape(-1)[inside_P]
    truth_Q = train_id_I[ids_Q]
    category_K = _categories(class_names)
    rights = (predicted_Q == truth_Q, category_K[predicted_Q] == category_K[truth_Q])
    sums_3K = np.zeros((3, len(class_names)))
    for row, right_Q in enumerate(rights):
        right_I = np.bincount(ids_Q[right_Q], minlength=len(pixels_I))
        np.add.at(sums_3K[row], train_id_I[found], right_I[found] / pixels_I[found])
    np.add.at(sums_3K[2], train_id_I[found], 1)
    return sums_3K


def class_iiou(images: ImageCounts) -> NDArray[np.float64]:
    """Return the iIoU of each class, K float64; NaN for stuff and where there is nothing."""
    assert images.instances_N3K is not None
    pixels = class_pixels(images.total)
    wrong_K = pixels.in_prediction - pixels.true_positives
    found_K, _, instances_K = images.instances_N3K.sum(axis=0)
    size_K = np.array([INSTANCE_PIXELS.get(name, NAN) for name in images.class_names])
    return ratio(found_K * size_K, wrong_K + instances_K * size_K, NAN)


def category_iiou(images: ImageCounts) -> NDArray[np.float64]:
    """Return the iIoU of each category, 7 float64; defined for human and vehicle alone."""
    assert images.instances_N3K is not None
    categories = _categories(images.class_names)
    pixels = class_pixels(category_counts(images.total, images.class_names))
    _, found_K, instances_K = images.instances_N3K.sum(axis=0)
    size_K = np.array([INSTANCE_PIXELS.get(name, NAN) for name in images.class_names])
    num = len(CITYSCAPES_CATEGORIES)
    found_C = np.bincount(categories, weights=found_K * size_K, minlength=num)
    whole_C = np.bincount(categories, weights=instances_K * size_K, minlength=num)
    return ratio(found_C, pixels.in_prediction - pixels.true_positives + whole_C, NAN)


def mean_class_iiou(images: ImageCounts) -> float:
    """Average instance class score of cityscapesScripts; NaN where no instances are stored."""
    return NAN if images.instances_N3K is None else mean_of_defined(class_iiou(images))


def mean_category_iiou(images: ImageCounts) -> float:
    """Average instance category score of the same."""
    return NAN if images.instances_N3K is None else mean_of_defined(category_iiou(images))
