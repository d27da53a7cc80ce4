"""Optimisers as torch's fused kernels, with slots that exist from the start.

The fused kernels leave everything as it was where their `found_inf` is 1; so a bad step is left out
on the device, without asking it. Adadelta has no such kernel and is written out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from terrazzo.base.recipe import OptimizerConfig


class Optimizer:
    """One of the optimisers of `OptimizerConfig`, in the sense given there.

    Attributes:
        parameters: what is optimised, by name.
        updates: int64 scalar on the device, the number of updates made.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        parameters: Mapping[str, nn.Parameter],
        lr_factors: Mapping[str, float] | None = None,
    ) -> None:
        """Make the optimiser; `lr_factors` multiplies the learning rate of the parameters named."""
        self.parameters = dict(parameters)
        tensors = list(self.parameters.values())
        self.updates = torch.zeros((), dtype=torch.int64, device=tensors[0].device)
        self._optimizer = _make(config, _groups(config, self.parameters, lr_factors or {}))
        self._slots = _slot_names(config)
        # Torch would make the slots in its first step. Made here, the state has the same names at
        # every step, and a first step that is left out leaves no uninitialised momentum behind.
        self._steps = []
        for tensor in tensors:
            state = self._optimizer.state[tensor]
            for slot in self._slots:
                state[slot] = torch.zeros_like(tensor)
            if config.name in ("adam", "adamw"):
                state["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
                self._steps.append(state["step"])

    def slots(self) -> dict[str, Tensor]:
        """Return the live tensors by ``<parameter>/<slot>``, without copying."""
        return {
            f"{name}/{slot}": self._optimizer.state[tensor][slot]
            for name, tensor in self.parameters.items()
            for slot in self._slots
        }

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
            group["lr"] = learning_rate * group["factor"]
        # The way torch.amp.GradScaler tells a fused optimiser.
        self._optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.updates += finite


class Adadelta(torch.optim.Optimizer):
    """Zeiler, "ADADELTA: an adaptive learning rate method", 2012, times a learning rate.

    torch's own has no `found_inf`.
    """

    found_inf: Tensor

    def __init__(self, groups: list[dict[str, Any]], rho: float, epsilon: float) -> None:
        super().__init__(groups, {"lr": 0.0})
        self._rho, self._epsilon = rho, epsilon

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient, unless `found_inf` is 1."""
        assert closure is None
        finite = self.found_inf == 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group["lr"], finite)

    def _update(
        self, parameter: Tensor, gradient: Tensor, learning_rate: float, finite: Tensor
    ) -> None:
        slots, rho = self.state[parameter], self._rho
        square, travelled = slots["square_avg"], slots["acc_delta"]
        new_square = rho * square + (1 - rho) * gradient**2
        change = ((travelled + self._epsilon) / (new_square + self._epsilon)).sqrt() * gradient
        new_travelled = rho * travelled + (1 - rho) * change**2
        for kept, new in (
            (square, new_square),
            (travelled, new_travelled),
            (parameter, parameter - learning_rate * change),
        ):
            torch.where(finite, new, kept, out=kept)


def _groups(
    config: OptimizerConfig,
    parameters: Mapping[str, nn.Parameter],
    lr_factors: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Group the parameters by what multiplies their learning rate and by whether they decay."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decays = config.name == "adamw" and parameter.ndim >= 2
        groups.setdefault((lr_factors.get(name, 1.0), decays), []).append(parameter)
    return [
        {
            "params": tensors,
            "factor": factor,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (factor, decays), tensors in groups.items()
    ]


def _make(config: OptimizerConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    # The learning rate is given at every step; 0 here so that forgetting it shows.
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum, fused=True)
    if config.name == "adadelta":
        return Adadelta(groups, config.rho, config.epsilon)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(
        groups,
        lr=0.0,
        betas=config.betas,
        eps=config.epsilon,
        amsgrad=config.amsgrad,
        fused=True,
    )


def _slot_names(config: OptimizerConfig) -> tuple[str, ...]:
    match config.name:
        case "sgd":
            return ("momentum_buffer",) if config.momentum else ()
        case "adadelta":
            return ("square_avg", "acc_delta")
        case "adam" | "adamw":
            largest = ("max_exp_avg_sq",) if config.amsgrad else ()
            return ("exp_avg", "exp_avg_sq", *largest)
