"""A moving average of a network's weights, which is what is scored and kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of all floating-point weights and statistics.

    The share kept is `decay`, or (1 + n) / (10 + n) at step n where that is less, so that the first
    steps do not carry the random beginning along.

    Attributes:
        averaged: by the names of the network's state.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = {
            name: tensor
            for name, tensor in network.state_dict(keep_vars=True).items()
            if tensor.is_floating_point()
        }
        self.averaged = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self, step: int, finite: Tensor) -> None:
        """Take in the weights after step `step`, where `finite` (a bool scalar) holds."""
        share = (1 - min(self._decay, (1 + step) / (10 + step))) * finite
        averaged = list(self.averaged.values())
        differences = torch._foreach_sub(list(self._live.values()), averaged)
        torch._foreach_mul_(differences, share)
        torch._foreach_add_(averaged, differences)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew from the averaged weights."""
        for name, tensor in self.averaged.items():
            self._live[name].copy_(tensor)

    def swap(self) -> None:
        """Exchange the network's weights for the averaged ones, or back."""
        for name, live in self._live.items():
            live.data, self.averaged[name] = self.averaged[name], live.data
