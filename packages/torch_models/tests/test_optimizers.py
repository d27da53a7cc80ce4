"""The optimisers against the NumPy reference."""

import numpy as np
import pytest
import torch
from torch import nn

from terrazzo.base.recipe import OptimizerConfig
from terrazzo.testing.reference import optimizers as reference
from terrazzo_torch.optimizers import Optimizer

CONFIGS = (
    OptimizerConfig(name="adamw", weight_decay=0.1),
    OptimizerConfig(name="adam", betas=(0.8, 0.99), epsilon=1e-3),
    OptimizerConfig(name="sgd", momentum=0.9),
    OptimizerConfig(name="sgd", momentum=0.0),
    OptimizerConfig(name="adamw", amsgrad=True, betas=(0.5, 0.5)),
    OptimizerConfig(name="adadelta", epsilon=1e-3),
)
SHAPES = {"kernel": (3, 2), "bias": (3,)}


def _parameters() -> dict[str, nn.Parameter]:
    rng = np.random.default_rng(0)
    return {
        name: nn.Parameter(torch.tensor(rng.normal(size=shape), dtype=torch.float32))
        for name, shape in SHAPES.items()
    }


def _set_gradients(parameters: dict[str, nn.Parameter], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name, shape in SHAPES.items():
        parameters[name].grad = torch.tensor(rng.normal(size=shape), dtype=torch.float32)


@pytest.mark.parametrize("config", CONFIGS)
def test_updates_agree_with_the_reference(config: OptimizerConfig) -> None:
    parameters = _parameters()
    optimizer = Optimizer(config, parameters)
    weights = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    slots = {name: reference.empty_slots(config, array) for name, array in weights.items()}
    for step, learning_rate in enumerate((0.1, 0.01, 0.05), start=1):
        _set_gradients(parameters, step)
        for name, array in weights.items():
            gradient = parameters[name].grad.numpy()
            weights[name], slots[name] = reference.update(
                config, array, gradient, slots[name], step, learning_rate
            )
        optimizer.update(learning_rate, torch.tensor(True))
    for name, array in weights.items():
        np.testing.assert_allclose(parameters[name].detach().numpy(), array, atol=1e-6)
    assert int(optimizer.updates) == 3


@pytest.mark.parametrize("config", CONFIGS)
def test_lr_factors_multiply_the_learning_rate(config: OptimizerConfig) -> None:
    parameters, others = _parameters(), _parameters()
    slow = Optimizer(config, parameters, {"kernel": 0.25})
    plain = Optimizer(config, others)
    for optimizer, tensors, rate in ((slow, parameters, 0.1), (plain, others, 0.025)):
        _set_gradients(tensors, 0)
        optimizer.update(rate, torch.tensor(True))
    assert torch.equal(parameters["kernel"], others["kernel"])
    assert not torch.equal(parameters["bias"], others["bias"])


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("first", [True, False])
def test_update_that_is_left_out_leaves_no_trace(config: OptimizerConfig, first: bool) -> None:
    disturbed, undisturbed = _parameters(), _parameters()
    optimizers = [Optimizer(config, disturbed), Optimizer(config, undisturbed)]
    for seed in range(3):
        if seed == (0 if first else 1):
            _set_gradients(disturbed, 99)
            disturbed["bias"].grad[1] = torch.nan
            optimizers[0].update(0.1, torch.tensor(False))
        for parameters, optimizer in zip((disturbed, undisturbed), optimizers, strict=True):
            _set_gradients(parameters, seed)
            optimizer.update(0.1, torch.tensor(True))
    for name, parameter in disturbed.items():
        assert torch.equal(parameter, undisturbed[name])
    for name, slot in optimizers[0].slots().items():
        assert torch.equal(slot, optimizers[1].slots()[name]), name
    assert int(optimizers[0].updates) == 3
