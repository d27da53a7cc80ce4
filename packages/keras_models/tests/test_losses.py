"""`terrazzo_keras.losses` against the definitions, written out in NumPy."""

import numpy as np
import pytest
from keras import ops

from terrazzo.config import LossConfig
from terrazzo_keras import losses

IGNORE = 255


def oracle(config, logits_BHWK, labels_BHW):
    logits_NK = logits_BHWK.reshape(-1, logits_BHWK.shape[-1]).astype(np.float64)
    labels_N = labels_BHW.reshape(-1)
    valid = labels_N != IGNORE
    logits_NK, labels_N = logits_NK[valid], labels_N[valid]
    p_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    p_NK /= p_NK.sum(1, keepdims=True)
    num_classes = p_NK.shape[1]
    w = np.array(config.class_weights or [1.0] * num_classes)
    total = w[labels_N].sum()
    surprise = -np.log(p_NK[np.arange(len(labels_N)), labels_N])
    cross_entropy = (w[labels_N] * surprise).sum() / total if total else 0.0
    terms, weights = [], []
    for k in range(num_classes):
        truth = labels_N == k
        if truth.any():
            terms.append(1 - 2 * p_NK[truth, k].sum() / (p_NK[:, k].sum() + truth.sum()))
            weights.append(w[k])
    dice = np.average(terms, weights=weights) if sum(weights) else 0.0
    return config.cross_entropy * cross_entropy + config.dice * dice


def arrays(absent=None):
    generator = np.random.default_rng(1)
    logits_BHWK = generator.normal(scale=3, size=(2, 5, 7, 4)).astype(np.float32)
    labels_BHW = generator.integers(0, 4, (2, 5, 7)).astype(np.uint8)
    labels_BHW[generator.random(labels_BHW.shape) < 0.3] = IGNORE
    labels_BHW[labels_BHW == absent] = 0
    return logits_BHWK, labels_BHW


@pytest.mark.parametrize("absent", [None, 2])
@pytest.mark.parametrize("class_weights", [None, (1.0, 0.0, 3.0, 0.5)])
@pytest.mark.parametrize("terms", [(1, 0), (0, 1), (0.7, 0.4)])
def test_loss_is_as_defined(terms, class_weights, absent):
    config = LossConfig(cross_entropy=terms[0], dice=terms[1], class_weights=class_weights)
    logits_BHWK, labels_BHW = arrays(absent)
    loss = float(losses.total(config, logits_BHWK, ops.convert_to_tensor(labels_BHW), IGNORE))
    assert loss == pytest.approx(oracle(config, logits_BHWK, labels_BHW), rel=1e-5)


def test_logits_of_ignored_pixels_do_not_matter():
    config = LossConfig(cross_entropy=1, dice=1)
    logits_BHWK, labels_BHW = arrays()
    other_BHWK = np.where((labels_BHW == IGNORE)[..., None], 50 - logits_BHWK, logits_BHWK)
    labels = ops.convert_to_tensor(labels_BHW)
    assert float(losses.total(config, logits_BHWK, labels, IGNORE)) == float(
        losses.total(config, other_BHWK, labels, IGNORE)
    )


@pytest.mark.parametrize("terms", [(1, 0), (0, 1)])
def test_all_ignored_is_exactly_zero(terms):
    config = LossConfig(cross_entropy=terms[0], dice=terms[1])
    logits_BHWK, labels_BHW = arrays()
    labels = ops.convert_to_tensor(np.full_like(labels_BHW, IGNORE))
    assert float(losses.total(config, logits_BHWK, labels, IGNORE)) == 0
