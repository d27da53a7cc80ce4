"""The losses against the NumPy reference, in value and gradient."""

import math

import numpy as np
import pytest
import torch

from terrazzo.base.recipe import LossConfig
from terrazzo.data.sample import IGNORE
from terrazzo.testing.reference import losses as reference
from terrazzo_torch.losses import SegmentationLoss

CONFIGS = (
    LossConfig(),
    LossConfig(class_weights=(0.5, 2.0, 0.0, 1.0)),
    LossConfig(cross_entropy=0, dice=1),
    LossConfig(cross_entropy=0.8, dice=0.2, class_weights=(1.0, 3.0, 0.5, 2.0)),
    LossConfig(cross_entropy=0, soft_iou=1),
    LossConfig(cross_entropy=0, soft_iou=1, class_weights=(1.0, 3.0, 0.5, 2.0)),
    LossConfig(cross_entropy=0, focal=1, class_weights=(1.0, 3.0, 0.5, 2.0)),
    LossConfig(cross_entropy=0, focal=1, focal_gamma=0.5),
    LossConfig(cross_entropy=0, lovasz=1),
    LossConfig(cross_entropy=0, lovasz=1, class_weights=(1.0, 3.0, 0.0, 2.0)),
    LossConfig(cross_entropy=0.2, dice=0.1, soft_iou=0.3, focal=0.4, lovasz=0.5),
)


def _loss(
    config: LossConfig, logits_BHWK: np.ndarray, labels_BHW: np.ndarray, ignore: int = IGNORE
) -> tuple[float, np.ndarray]:
    """Return the loss and its gradient, B×H×W×K."""
    logits_BKHW = torch.tensor(logits_BHWK.transpose(0, 3, 1, 2), dtype=torch.float32)
    logits_BKHW.requires_grad_()
    labels = torch.tensor(labels_BHW.astype(np.int64))
    loss = SegmentationLoss(config, ignore)(logits_BKHW, labels)
    loss.backward()
    return loss.item(), logits_BKHW.grad.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("ignore", [255, 65535])
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_agree_with_the_reference(
    config: LossConfig, ignore: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits_BHWK = rng.normal(0, 2, (2, 5, 3, 4))
    labels_BHW = rng.integers(0, 3, (2, 5, 3))  # class 3 is absent
    labels_BHW[rng.random(labels_BHW.shape) < 1 / 3] = ignore
    if seed == 2:
        labels_BHW[1] = ignore  # an image that teaches nothing beside one that does
    value, gradient = _loss(config, logits_BHWK, labels_BHW, ignore)
    expected = reference.total(config, logits_BHWK, labels_BHW, ignore)
    assert value == pytest.approx(expected.value, abs=1e-5)
    np.testing.assert_allclose(gradient, expected.gradient, atol=1e-6)


def test_cross_entropy_by_hand() -> None:
    logits_BHWK = np.log([[[[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]]]])
    labels_BHW = np.array([[[1, 0, IGNORE]]])
    value, _ = _loss(LossConfig(class_weights=(3, 1)), logits_BHWK, labels_BHW)
    assert value == pytest.approx((-math.log(0.75) - 3 * math.log(0.5)) / 4)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("label", [IGNORE, 2])
def test_no_pixel_that_counts_has_loss_and_gradient_zero(config: LossConfig, label: int) -> None:
    if label == 2 and not (config.class_weights and config.class_weights[2] == 0):
        label = IGNORE
    logits_BHWK = np.random.default_rng(0).normal(0, 2, (1, 2, 2, 4))
    value, gradient = _loss(config, logits_BHWK, np.full((1, 2, 2), label))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits_BKHW = torch.zeros(1, 3, 300, 300, dtype=torch.bfloat16)
    labels_BHW = torch.ones(1, 300, 300, dtype=torch.int64)
    loss = SegmentationLoss(LossConfig(dice=1), IGNORE)(logits_BKHW, labels_BHW)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(3) + 1 - 2 / 3 / (4 / 3), rel=1e-5)
