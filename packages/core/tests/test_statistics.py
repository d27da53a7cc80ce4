"""Class weights from the labels, by hand."""

import numpy as np
import pytest

from terrazzo.data.class_weights import class_weights
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.testing.memory import MemorySplit

LABELS = LabelMap("abc", tuple(LabelClass(n, "#000000", (i,)) for i, n in enumerate("abc")))


def split(*masks):
    arrays = tuple(np.array(mask, np.uint8) for mask in masks)
    images = tuple(np.zeros((*array.shape, 3), np.uint8) for array in arrays)
    return MemorySplit("train", images, arrays, LABELS)


def test_inverse_frequency():
    # Of 10 valid pixels 8 are a and 2 b; c does not occur.
    train = split([[0, 0, 0, 0, 255]], [[0, 0, 0, 0, 1], [1, 255, 255, 255, 255]])
    expected = np.array([10 / 8, 10 / 2])
    assert class_weights(train, "inverse_frequency") == pytest.approx(
        (*(expected / expected.mean()), 0)
    )


def test_median_frequency_counts_the_images_that_hold_the_class():
    # a: 8 of 10; b: 2 of the 6 pixels beside it; the median cancels with the mean of 1.
    train = split([[0, 0, 0, 0, 255]], [[0, 0, 0, 0, 1], [1, 255, 255, 255, 255]])
    expected = np.array([10 / 8, 6 / 2])
    assert class_weights(train, "median_frequency") == pytest.approx(
        (*(expected / expected.mean()), 0)
    )
