"""Optimisers as torch's fused kernels, with slots that exist from the start.

The fused kernels leave everything as it was where their `found_inf` is 1; so a bad step is left out
on the device, without asking it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from terrazzo.config import OptimizerConfig


class Optimizer:
    """AdamW, Adam or SGD in the sense of `OptimizerConfig`.

    Attributes:
        parameters: what is optimised, by name.
        updates: int64 scalar on the device, the number of updates made.
    """

    def __init__(self, config: OptimizerConfig, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = dict(parameters)
        tensors = list(self.parameters.values())
        self.updates = torch.zeros((), dtype=torch.int64, device=tensors[0].device)
        self._optimizer = _fused(config, tensors)
        self._slots = _slot_names(config)
        # Torch would make the slots in its first step. Made here, the state has the same names at
        # every step, and a first step that is left out leaves no uninitialised momentum behind.
        self._steps = []
        for tensor in tensors:
            state = self._optimizer.state[tensor]
            for slot in self._slots:
                state[slot] = torch.zeros_like(tensor)
            if config.name != "sgd":
                state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
                self._steps.append(state["step"])

    def slots(self) -> dict[str, Tensor]:
        """Return the live tensors by ``<parameter>/<slot>``, without copying."""
        return {
            f"{name}/{slot}": self._optimizer.state[tensor][slot]
            for name, tensor in self.parameters.items()
            for slot in self._slots
        }

    def reset(self) -> None:
        """Forget everything learnt of the gradients."""
        for slot in self.slots().values():
            slot.zero_()
        self.updates.zero_()
        self.resume()

    def resume(self) -> None:
        """Take over `updates` after it was written from outside."""
        for step in self._steps:
            step.copy_(self.updates)

    def gradients(self) -> list[Tensor]:
        """Return the gradients of the last backward pass."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def update(self, learning_rate: float, finite: Tensor) -> None:
        """Update the parameters in place where `finite` (a bool scalar) holds; drop the gradients.

        Where it does not, parameters and slots stay bit for bit as they are.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        # The way torch.amp.GradScaler tells a fused optimiser.
        self._optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.updates += finite


def _fused(config: OptimizerConfig, tensors: list[nn.Parameter]) -> torch.optim.Optimizer:
    # The learning rate is given at every step; 0 here so that forgetting it shows.
    if config.name == "sgd":
        return torch.optim.SGD(tensors, lr=0.0, momentum=config.momentum, fused=True)
    if config.name == "adam":
        return torch.optim.Adam(tensors, lr=0.0, betas=config.betas, eps=config.epsilon, fused=True)
    decayed = {
        "params": [t for t in tensors if t.ndim >= 2],
        "weight_decay": config.weight_decay,
    }
    exempt = {"params": [t for t in tensors if t.ndim < 2], "weight_decay": 0.0}
    groups = [group for group in (decayed, exempt) if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.epsilon, fused=True)


def _slot_names(config: OptimizerConfig) -> tuple[str, ...]:
    if config.name == "sgd":
        return ("momentum_buffer",) if config.momentum else ()
    return ("exp_avg", "exp_avg_sq")
