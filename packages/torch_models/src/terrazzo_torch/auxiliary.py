"""A second head that helps an encoder learn, and is left out at inference.

Zhao et al., "Pyramid Scene Parsing Network", 2017, section 3.3; weight as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

WEIGHT = 0.4
"""Weight of the auxiliary term beside 1 for the main one."""


class TrainingLogits(NamedTuple):
    """What a network with an auxiliary head returns in training mode, and only there.

    Attributes:
        logits_BKHW: of the main head.
        auxiliary_BKHW: of the auxiliary head.
    """

    logits_BKHW: Tensor
    auxiliary_BKHW: Tensor


def total_loss(
    loss: Callable[[Tensor, Tensor], Tensor],
    output: Tensor | TrainingLogits,
    labels_BHW: Tensor,
) -> Tensor:
    """Return the loss of a network's output; that of both heads where there are two."""
    if isinstance(output, TrainingLogits):
        main, auxiliary = (loss(logits_BKHW, labels_BHW) for logits_BKHW in output)
        return main + WEIGHT * auxiliary
    return loss(output, labels_BHW)
