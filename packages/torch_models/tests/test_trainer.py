"""What is special to this trainer; the contract is in test_contract.py."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.processes import SingleProcess
from terrazzo.base.recipe import LossConfig, ModelConfig, OptimizerConfig, TrainingConfig
from terrazzo.data.sample import Batch
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import State, Trainer
from terrazzo.models.parameter_groups import Parts
from terrazzo.runs import saved_model
from terrazzo.testing.trainer_checks import Task
from terrazzo_torch.backend import backend
from terrazzo_torch.trainer import TorchTrainer

UNET = ModelConfig(name="unet", options={"width": 4, "depth": 1})
TASK = Task(dtype="float32")


def _trainer(
    task: Task = TASK, model: ModelConfig = UNET, seed: int = 0, **settings: object
) -> Trainer:
    training = TrainingConfig(steps=1, **settings)  # type: ignore[arg-type]
    return backend.build(model, training, task.labels, task.bands, seed)


def _assert_equal(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype, name
        assert array.tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "adadelta"])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("first", [True, False])
def test_infinite_image_leaves_no_trace(
    optimizer: str, clip_norm: float | None, first: bool
) -> None:
    trainer = _trainer(optimizer=OptimizerConfig(name=optimizer), clip_norm=clip_norm)
    batch = TASK.batch(8, 8)
    if not first:
        trainer.train_step(batch, 1e-2)
    before = trainer.state()
    infinite_BHWC = batch.images_BHWC.copy()
    infinite_BHWC[0, 3, 3, 0] = np.inf
    bad = Batch(infinite_BHWC, batch.labels_BHW, batch.names, batch.files)
    assert not math.isfinite(trainer.train_step(bad, 1e-2).loss)
    _assert_equal(trainer.state(), before)
    assert math.isfinite(trainer.train_step(batch, 1e-2).loss)


class _SquareRoots(nn.Module):
    """Logits √w at w = 0: finite, with an infinite slope."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        batch, _, height, width = images_BCHW.shape
        return self.weight.sqrt()[:, None, None].expand(batch, 2, height, width)


def test_infinite_gradient_of_a_finite_loss_is_left_out_and_told() -> None:
    training = TrainingConfig(steps=1)
    trainer = TorchTrainer(
        _SquareRoots(), Parts((), ()), training, TASK.labels, TASK.bands, 0, SingleProcess()
    )
    before = trainer.state()
    assert math.isnan(trainer.train_step(TASK.batch(8, 8), 1e-2).loss)
    _assert_equal(trainer.state(), before)


def test_missing_data_is_the_mean_colour() -> None:
    trainer = _trainer()
    images_BHWC = TASK.batch(8, 8).images_BHWC
    missing_BHWC, mean_BHWC = images_BHWC.copy(), images_BHWC.copy()
    missing_BHWC[:, 2] = np.nan
    mean_BHWC[:, 2] = TASK.bands.mean
    np.testing.assert_array_equal(trainer.predict(missing_BHWC), trainer.predict(mean_BHWC))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pixels_reach_the_model_normalised(dtype: str) -> None:
    task = Task(dtype=dtype)
    seen = []
    trainer = _trainer(task)
    trainer._network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images_BHWC = task.batch(6, 4).images_BHWC
    images_BHWC.flags.writeable = False
    trainer.predict(images_BHWC[:, ::-1])
    expected_BHWC = (images_BHWC[:, ::-1].astype(np.float64) - task.bands.mean) / task.bands.std
    np.testing.assert_allclose(seen[0].numpy(), expected_BHWC.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_resume_repeats_dropout(optimizer: str) -> None:
    model = ModelConfig(name="segformer", options={"dropout": 0.5, "drop_path": 0.5})
    settings = {"optimizer": OptimizerConfig(name=optimizer), "loss": LossConfig(dice=1)}
    straight, resumed = (_trainer(model=model, seed=seed, **settings) for seed in (3, 4))
    batches = [TASK.batch(32, 32, count=2, seed=seed) for seed in range(2)]
    straight.train_step(batches[0], 1e-2)
    resumed.load_state(straight.state())
    torch.rand(7)  # whatever else draws random numbers meanwhile
    losses = [trainer.train_step(batches[1], 1e-2).loss for trainer in (straight, resumed)]
    assert losses[0] == losses[1]
    _assert_equal(straight.state(), resumed.state())


def test_dropout_differs_from_step_to_step() -> None:
    trainer = _trainer(model=ModelConfig(name="segformer", options={"dropout": 0.5}))
    batch = TASK.batch(32, 32, count=2)
    first, second = (trainer.train_step(batch, 0.0).loss for _ in range(2))
    assert first != second


def test_weights_alone_start_the_optimiser_afresh() -> None:
    trained, fresh = _trainer(), _trainer()
    batch = TASK.batch(8, 8)
    trained.train_step(batch, 1e-2)
    weights = {name: a for name, a in trained.state().items() if name.startswith("weights/")}
    for trainer in (trained, fresh):
        trainer.load_state(weights)
        trainer.train_step(batch, 1e-2)
    _assert_equal(trained.state(), fresh.state())
    assert trained.state()["optimizer/step"] == 1


def test_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    trainer = _trainer()
    before = trainer.state()
    state = trainer.state()
    for array in state.values():
        array += 1
    state["weights/head.bias"] = np.zeros(5, np.float32)
    del state["optimizer/head.bias/exp_avg"]
    state["weights/other"] = np.zeros(1, np.float32)
    with pytest.raises(CheckpointError, match="3 arrays differ") as caught:
        trainer.load_state(state)
    assert caught.value.code == "SEG-C007"
    for text in ("weights/head.bias (5,)", "weights/head.bias (2,)", "exp_avg missing", "other"):
        assert text in str(caught.value)
    _assert_equal(trainer.state(), before)


def test_state_is_a_copy() -> None:
    trainer = _trainer()
    state = trainer.state()
    copy = {name: array.copy() for name, array in state.items()}
    trainer.train_step(TASK.batch(8, 8), 1e-2)
    _assert_equal(state, copy)
    assert all(array.flags.c_contiguous for array in state.values())


def test_gradients_are_clipped_by_their_global_norm() -> None:
    plain = OptimizerConfig(name="sgd", momentum=0)
    batch = TASK.batch(8, 8)
    steps = {}
    for clip_norm in (None, 1e-3):
        trainer = _trainer(optimizer=plain, clip_norm=clip_norm)
        start = {n: a for n, a in trainer.state().items() if n.endswith(("weight", "bias"))}
        trainer.train_step(batch, 1.0)
        end = trainer.state()
        steps[clip_norm] = np.concatenate([(end[n] - a).ravel() for n, a in start.items()])
    assert np.linalg.norm(steps[None]) > 1e-2
    scaled = steps[None] * 1e-3 / np.linalg.norm(steps[None])
    np.testing.assert_allclose(steps[1e-3], scaled, atol=1e-6)


def test_bfloat16_keeps_weights_and_probabilities_in_float32() -> None:
    trainer = _trainer(precision="bfloat16")
    exact = _trainer(precision="float32")
    batch = TASK.batch(8, 8)
    for each in (trainer, exact):
        assert math.isfinite(each.train_step(batch, 1e-2).loss)
    probabilities = trainer.predict(batch.images_BHWC)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities, exact.predict(batch.images_BHWC), atol=0.1)
    assert not np.array_equal(probabilities, exact.predict(batch.images_BHWC))
    assert {a.dtype.name for a in trainer.state().values()} == {"float32", "int64"}


def test_a_stored_model_is_applied_in_the_precision_it_was_trained_in(tmp_path: Path) -> None:
    trainer = _trainer(precision="bfloat16")
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    card = ModelCard("torch", UNET, TASK.labels, TASK.bands, None, step=1, precision="bfloat16")
    saved_model.write(tmp_path / "model", card, weights)
    _, loaded = saved_model.load(tmp_path / "model")
    images_BHWC = TASK.batch(8, 8).images_BHWC
    np.testing.assert_array_equal(loaded.predict(images_BHWC), trainer.predict(images_BHWC))


ALL_TERMS = LossConfig(
    cross_entropy=0.2, dice=0.1, soft_iou=0.3, focal=0.4, lovasz=0.5, class_weights=(1, 3)
)


def _convolution(*, seed: int = 0, **settings: object) -> TorchTrainer:
    """A trainer of a network without batch norm, but with dropout."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    training = TrainingConfig(steps=1, **settings)  # type: ignore[arg-type]
    parts = Parts(encoder=("0.",), head=("2.",))
    return TorchTrainer(network, parts, training, TASK.labels, TASK.bands, 0, SingleProcess())


@pytest.mark.parametrize("loss", [LossConfig(), ALL_TERMS])
@pytest.mark.parametrize("parts", [2, 3, 9])
def test_accumulated_update_is_that_of_the_whole_batch(loss: LossConfig, parts: int) -> None:
    whole, accumulated = (
        _convolution(loss=loss, accumulate=n, optimizer=OptimizerConfig(name="sgd"), clip_norm=0.05)
        for n in (1, parts)
    )
    for seed in range(2):
        batch = TASK.batch(8, 8, seed=seed)
        batch.labels_BHW[0, :5] = TASK.labels.ignore_index
        losses = [trainer.train_step(batch, 0.1).loss for trainer in (whole, accumulated)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    expected, state = whole.state(), accumulated.state()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, atol=1e-6, err_msg=name)


def test_accumulation_moves_batch_statistics_once_a_part() -> None:
    """The first pass, which only collects sums, leaves them alone."""
    trainer = _trainer(accumulate=2)
    trainer.train_step(TASK.batch(8, 8), 0.1)
    seen = [a for n, a in trainer.state().items() if n.endswith("num_batches_tracked")]
    assert seen
    assert all(number == 2 for number in seen)


def test_learning_rate_of_the_encoder_is_a_multiple() -> None:
    plain, slow = (
        _convolution(optimizer=OptimizerConfig(name="sgd"), encoder_lr_factor=factor)
        for factor in (1.0, 0.25)
    )
    before = plain.state()
    for trainer in (plain, slow):
        trainer.train_step(TASK.batch(8, 8), 0.1)
    for name in ("weights/0.weight", "weights/2.weight"):
        factor = 0.25 if name == "weights/0.weight" else 1
        full, slowed = (trainer.state()[name] - before[name] for trainer in (plain, slow))
        assert np.abs(full).max() > 1e-4
        np.testing.assert_allclose(slowed, factor * full, atol=1e-6)


def test_layer_decay_needs_numbered_layers() -> None:
    with pytest.raises(ConfigError, match="SEG-X016"):
        _trainer(layer_decay=0.7)


@pytest.mark.slow
def test_encoder_under_a_linear_head_is_frozen_unless_the_recipe_says_otherwise() -> None:
    for options, trained in [
        ({}, {"decoder", "head"}),
        ({"train_encoder": True}, {"encoder", "decoder", "head"}),
    ]:
        small = {"encoder": "test_vit", "patch_size": 4} | options
        trainer = _trainer(model=ModelConfig(name="dinov3_linear", options=small))
        before = trainer.state()
        trainer.train_step(TASK.batch(8, 8), 1e-2)
        after = trainer.state()
        changed = {
            trainer.parts[name]
            for name in before
            if name.startswith("weights/") and not np.array_equal(before[name], after[name])
        }
        assert changed == trained
        assert any("random weights" in each for each in trainer.remarks) == (not options)


def test_compiled_network_learns_the_same() -> None:
    plain, compiled = (_convolution(compile=wanted) for wanted in (False, True))
    for trainer in (plain, compiled):
        trainer.train_step(TASK.batch(8, 8), 0.1)
    expected, state = plain.state(), compiled.state()
    assert expected.keys() == state.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(state[name], array, atol=1e-4, err_msg=name)
