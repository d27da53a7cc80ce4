"""`terrazzo_keras.losses` against the NumPy reference, in value and gradient."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from terrazzo.base.recipe import LossConfig
from terrazzo.data.sample import IGNORE
from terrazzo.testing.reference import losses as reference
from terrazzo_keras import losses

WEIGHTS = (1.0, 3.0, 0.0, 2.0)
CONFIGS = (
    LossConfig(),
    LossConfig(class_weights=WEIGHTS),
    LossConfig(cross_entropy=0, dice=1),
    LossConfig(cross_entropy=0.8, dice=0.2, class_weights=WEIGHTS),
    LossConfig(cross_entropy=0, soft_iou=1),
    LossConfig(cross_entropy=0, soft_iou=1, class_weights=WEIGHTS),
    LossConfig(cross_entropy=0, focal=1, class_weights=WEIGHTS),
    LossConfig(cross_entropy=0, focal=1, focal_gamma=0.5),
    LossConfig(cross_entropy=0, lovasz=1),
    LossConfig(cross_entropy=0, lovasz=1, class_weights=WEIGHTS),
    LossConfig(cross_entropy=0.2, dice=0.1, soft_iou=0.3, focal=0.4, lovasz=0.5),
)


def value_and_gradient(config, logits_BHWK, labels_BHW, ignore=IGNORE):
    logits = tf.constant(logits_BHWK, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.total(config, logits, ops.convert_to_tensor(labels_BHW), ignore)
    return float(loss), tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("ignore", "dtype"), [(255, "uint8"), (65535, "uint16")])
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_agree_with_the_reference(config, ignore, dtype, seed):
    rng = np.random.default_rng(seed)
    logits_BHWK = rng.normal(0, 2, (2, 5, 3, 4))
    labels_BHW = rng.integers(0, 3, (2, 5, 3)).astype(dtype)  # class 3 is absent
    labels_BHW[rng.random(labels_BHW.shape) < 1 / 3] = ignore
    if seed == 2:
        labels_BHW[1] = ignore  # an image that teaches nothing beside one that does
    value, gradient = value_and_gradient(config, logits_BHWK, labels_BHW, ignore)
    expected = reference.total(config, logits_BHWK, labels_BHW, ignore)
    assert value == pytest.approx(expected.value, abs=1e-5)
    np.testing.assert_allclose(gradient, expected.gradient, atol=1e-6)


def test_logits_of_ignored_pixels_do_not_matter():
    config = CONFIGS[-1]
    rng = np.random.default_rng(1)
    logits_BHWK = rng.normal(0, 2, (2, 5, 7, 4))
    labels_BHW = rng.integers(0, 4, (2, 5, 7)).astype(np.uint8)
    labels_BHW[rng.random(labels_BHW.shape) < 0.3] = IGNORE
    other_BHWK = np.where((labels_BHW == IGNORE)[..., None], 50 - logits_BHWK, logits_BHWK)
    assert (
        value_and_gradient(config, logits_BHWK, labels_BHW)[0]
        == value_and_gradient(config, other_BHWK, labels_BHW)[0]
    )


@pytest.mark.parametrize("config", CONFIGS)
def test_all_ignored_is_exactly_zero(config):
    logits_BHWK = np.random.default_rng(0).normal(0, 2, (2, 2, 2, 4))
    labels_BHW = np.full((2, 2, 2), IGNORE, np.uint8)
    value, gradient = value_and_gradient(config, logits_BHWK, labels_BHW)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)
