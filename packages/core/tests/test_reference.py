"""The reference losses, optimisers and trainer against arithmetic done by hand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError
from terrazzo.base.recipe import LossConfig, ModelConfig, OptimizerConfig, TrainingConfig
from terrazzo.data.sample import IGNORE
from terrazzo.models import backends
from terrazzo.models.contract import State
from terrazzo.testing.reference import losses, optimizers
from terrazzo.testing.reference.backend import backend
from terrazzo.testing.reference.models import pixel_softmax
from terrazzo.testing.reference.trainer import ReferenceTrainer
from terrazzo.testing.trainer_checks import Task

CONFIGS = (
    LossConfig(),
    LossConfig(class_weights=(0.5, 2.0, 0.0, 1.0)),
    LossConfig(cross_entropy=0, dice=1),
    LossConfig(cross_entropy=0.8, dice=0.2, class_weights=(1.0, 3.0, 0.5, 2.0)),
    LossConfig(cross_entropy=0, soft_iou=1, class_weights=(1.0, 3.0, 0.5, 2.0)),
    LossConfig(cross_entropy=0, focal=1, class_weights=(1.0, 3.0, 0.5, 2.0)),
    LossConfig(cross_entropy=0, focal=1, focal_gamma=0.5),
    LossConfig(cross_entropy=0, lovasz=1, class_weights=(1.0, 3.0, 0.5, 2.0)),
)


def _random_case(seed: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return logits 2×3×2×4 and labels without class 3, a third of them ignored."""
    rng = np.random.default_rng(seed)
    labels_BHW = rng.integers(0, 3, (2, 3, 2)).astype(np.uint8)
    labels_BHW[rng.random(labels_BHW.shape) < 1 / 3] = IGNORE
    return rng.normal(0, 2, (2, 3, 2, 4)), labels_BHW


def test_cross_entropy_by_hand() -> None:
    logits = np.log([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])
    labels = np.array([1, 0, IGNORE])
    assert losses.cross_entropy(logits, labels).value == pytest.approx(
        (-math.log(0.75) - math.log(0.5)) / 2
    )
    weighted = losses.cross_entropy(logits, labels, (3, 1))
    assert weighted.value == pytest.approx((-math.log(0.75) - 3 * math.log(0.5)) / 4)


def test_dice_by_hand() -> None:
    logits = np.log([[0.25, 0.75, 1e-9], [0.5, 0.5, 1e-9], [0.9, 0.1, 1e-9]])
    labels = np.array([1, 0, IGNORE])
    first, second = 1 - 2 * 0.5 / (0.75 + 1), 1 - 2 * 0.75 / (1.25 + 1)
    assert losses.dice(logits, labels).value == pytest.approx((first + second) / 2)
    weighted = losses.dice(logits, labels, (3, 1, 100))
    assert weighted.value == pytest.approx((3 * first + second) / 4)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("seed", range(3))
def test_gradient_agrees_with_finite_differences(config: LossConfig, seed: int) -> None:
    logits_BHWK, labels_BHW = _random_case(seed)
    gradient = losses.total(config, logits_BHWK, labels_BHW).gradient
    for index in np.ndindex(logits_BHWK.shape):
        nudge = np.zeros_like(logits_BHWK)
        nudge[index] = 1e-5
        above = losses.total(config, logits_BHWK + nudge, labels_BHW).value
        below = losses.total(config, logits_BHWK - nudge, labels_BHW).value
        assert gradient[index] == pytest.approx((above - below) / 2e-5, abs=1e-8)


@pytest.mark.parametrize("config", CONFIGS)
def test_ignored_logits_count_nowhere(config: LossConfig) -> None:
    logits_BHWK, labels_BHW = _random_case(0)
    expected = losses.total(config, logits_BHWK, labels_BHW)
    logits_BHWK[labels_BHW == IGNORE] = np.nan
    loss = losses.total(config, logits_BHWK, labels_BHW)
    assert loss.value == expected.value
    np.testing.assert_array_equal(loss.gradient, expected.gradient)
    assert not loss.gradient[labels_BHW == IGNORE].any()


@pytest.mark.parametrize(
    "term", [losses.cross_entropy, losses.dice, losses.soft_iou, losses.focal, losses.lovasz]
)
def test_nothing_to_learn_is_zero(term: Callable[..., losses.Loss]) -> None:
    logits = np.ones((1, 2, 3))
    for labels, weights in (([[IGNORE, IGNORE]], None), ([[1, IGNORE]], (1, 0, 1))):
        loss = term(logits, np.array(labels), weights)
        assert loss.value == 0
        assert not loss.gradient.any()


def test_soft_iou_by_hand() -> None:
    logits = np.log([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])
    first, second = 1 - 0.5 / (0.75 + 1 - 0.5), 1 - 0.75 / (1.25 + 1 - 0.75)
    loss = losses.soft_iou(logits, np.array([1, 0, IGNORE]))
    assert loss.value == pytest.approx((first + second) / 2)


def test_focal_by_hand() -> None:
    logits = np.log([[0.25, 0.75], [0.5, 0.5], [0.9, 0.1]])
    loss = losses.focal(logits, np.array([1, 0, IGNORE]), gamma=3)
    assert loss.value == pytest.approx((-(0.25**3) * math.log(0.75) - 0.5**3 * math.log(0.5)) / 2)


def test_lovasz_of_hard_predictions_is_one_minus_iou() -> None:
    """The extension equals the set function at its corners."""
    draw = np.random.default_rng(0)
    labels_BHW, predicted_BHW = draw.integers(0, 3, (2, 4, 5, 5))[:2]
    logits_BHWK = np.where(np.eye(3)[predicted_BHW] == 1, 60.0, -60.0)
    expected = []
    for truth, found in zip(labels_BHW, predicted_BHW, strict=True):
        expected += [
            np.mean(
                [
                    1 - ((truth == k) & (found == k)).sum() / ((truth == k) | (found == k)).sum()
                    for k in np.unique(truth)
                ]
            )
        ]
    assert losses.lovasz(logits_BHWK, labels_BHW).value == pytest.approx(np.mean(expected))


def test_large_logits_do_not_overflow() -> None:
    loss = losses.cross_entropy(np.array([[1e4, 0.0]], np.float32), np.array([1]))
    assert loss.value == pytest.approx(1e4)


def _updated(
    config: OptimizerConfig, gradients: tuple[float, ...], *, shape: tuple[int, ...]
) -> float:
    weights = np.full(shape, 2.0, np.float32)
    slots = optimizers.empty_slots(config, weights)
    for step, gradient in enumerate(gradients, start=1):
        full = np.full(shape, gradient, np.float32)
        weights, slots = optimizers.update(config, weights, full, slots, step, 0.1)
    assert weights.dtype == slots.dtype == np.float32
    return float(weights.flat[0])


def test_sgd_by_hand() -> None:
    config = OptimizerConfig(name="sgd", momentum=0.5, weight_decay=0.3)
    # Momentum 1, then 0.5·1 + 3; the weight decay is not SGD's.
    assert _updated(config, (1.0, 3.0), shape=(1, 1)) == pytest.approx(2 - 0.1 * 1 - 0.1 * 3.5)


def test_adam_by_hand() -> None:
    config = OptimizerConfig(name="adam", betas=(0.5, 0.75), epsilon=0.5, weight_decay=0.3)
    first = 0.1 * 1 / (1 + 0.5)  # unbiased moments of one gradient: 1 and 1²
    # Two gradients, 1 and 3: (0.25·1 + 0.5·3) / 0.75 and (0.1875·1 + 0.25·9) / 0.4375.
    second = 0.1 * (1.75 / 0.75) / (math.sqrt(2.4375 / 0.4375) + 0.5)
    assert _updated(config, (1.0, 3.0), shape=(1, 1)) == pytest.approx(2 - first - second)


def test_amsgrad_divides_by_the_largest_moment() -> None:
    config = OptimizerConfig(
        name="adam", betas=(0.0, 0.5), epsilon=1e-12, amsgrad=True, weight_decay=0
    )
    # Second moments 0.5·4² = 8, then 4 + 0.5·1 = 4.5, of which 8 is kept; 1 − 0.5² = 0.75.
    expected = 2 - 0.1 * 4 / math.sqrt(8 / 0.5) - 0.1 * 1 / math.sqrt(8 / 0.75)
    assert _updated(config, (4.0, 1.0), shape=(1,)) == pytest.approx(expected)


def test_adadelta_by_hand() -> None:
    config = OptimizerConfig(name="adadelta", rho=0.5, epsilon=0.1)
    first = math.sqrt(0.1 / (0.5 + 0.1))  # for a gradient of 1; the mean square is 0.5
    travelled, square = 0.5 * first**2, 0.25 + 0.5 * 9
    second = math.sqrt((travelled + 0.1) / (square + 0.1)) * 3
    expected = 2 - 0.1 * first - 0.1 * second
    assert _updated(config, (1.0, 3.0), shape=(1,)) == pytest.approx(expected)


def test_adamw_decays_matrices_alone() -> None:
    config = OptimizerConfig(name="adamw", weight_decay=0.3)
    assert _updated(config, (1.0,), shape=(1, 1)) == pytest.approx(2 * (1 - 0.1 * 0.3) - 0.1)
    assert _updated(config, (1.0,), shape=(1,)) == pytest.approx(2 - 0.1)


def test_clip_scales_all_gradients_together() -> None:
    gradients = {"kernel": np.array([[3.0]], np.float32), "bias": np.array([4.0], np.float32)}
    assert optimizers.clip(gradients, None) is gradients
    assert optimizers.clip(gradients, 5.0) is gradients
    clipped = optimizers.clip(gradients, 1.0)
    np.testing.assert_allclose(clipped["kernel"], [[0.6]], rtol=1e-6)
    np.testing.assert_allclose(clipped["bias"], [0.8], rtol=1e-6)


def test_neighbourhood_holds_the_pixel_and_its_neighbours() -> None:
    images_BHWC = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
    options = pixel_softmax.Options(features="neighbourhood")
    features_BHWF = pixel_softmax.features(options, images_BHWC)
    assert features_BHWF.shape[3] == pixel_softmax.num_features(options, 1)
    assert features_BHWF[0, 1, 1].tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert features_BHWF[0, 0, 0].tolist() == [0, 0, 1, 0, 0, 1, 4, 4, 5]


def _trainer(training: TrainingConfig, task: Task = Task()) -> ReferenceTrainer:  # noqa: B008
    model = ModelConfig(name="pixel_softmax")
    return backend.build(model, training, task.labels, task.bands, 0)


def _square_norm(before: State, after: State) -> float:
    moves = (np.subtract(after[n], before[n], dtype=float) for n in before if "weights/" in n)
    return sum(float(np.square(move).sum()) for move in moves)


def test_step_follows_the_loss_downhill() -> None:
    """One step of plain SGD lowers the loss by lr·‖gradient‖², so loss and update agree."""
    sgd = OptimizerConfig(name="sgd", momentum=0)
    training = TrainingConfig(steps=1, loss=LossConfig(dice=1), optimizer=sgd)
    trainer, batch, learning_rate = _trainer(training), Task().batch(8, 8), 1e-3
    before = trainer.state()
    loss_before = trainer.train_step(batch, learning_rate).loss
    square_norm = _square_norm(before, trainer.state()) / learning_rate**2
    loss_after = trainer.train_step(batch, learning_rate).loss
    assert loss_before - loss_after == pytest.approx(learning_rate * square_norm, rel=0.02)


def test_clip_norm_bounds_the_step() -> None:
    sgd = OptimizerConfig(name="sgd", momentum=0)
    trainer = _trainer(TrainingConfig(steps=1, optimizer=sgd, clip_norm=0.01))
    before = trainer.state()
    trainer.train_step(Task().batch(8, 8), 1.0)
    assert math.sqrt(_square_norm(before, trainer.state())) == pytest.approx(0.01, rel=1e-3)


def test_state_of_another_optimizer_is_refused() -> None:
    adam = _trainer(TrainingConfig(steps=1))
    sgd = _trainer(TrainingConfig(steps=1, optimizer=OptimizerConfig(name="sgd")))
    with pytest.raises(CheckpointError, match=r"SEG-C007[\s\S]*optimizer/bias \(2, 2\)") as caught:
        sgd.load_state(adam.state())
    assert "optimizer/bias (1, 2)" in str(caught.value.allowed)


def test_backend_is_reached_by_its_name() -> None:
    assert backends.load("reference") is backend
    assert "reference" in backends.installed()
