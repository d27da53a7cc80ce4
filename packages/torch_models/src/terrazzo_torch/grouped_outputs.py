"""Classes that are made up of several of a published network's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from terrazzo.base.errors import ConfigError

Groups = tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]
"""For each class, the numbers of the network's own classes that mean it."""


def grouped(logits_BKHW: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Return logits whose probabilities are the sums of those in each group.

    Own classes that are in no group do not compete. Without groups, the logits come back as given.
    """
    if not groups:
        return logits_BKHW
    # logsumexp of logits is the logarithm of the sum of what softmax makes of them, up to a
    # constant that all groups of a pixel share.
    planes = [
        logits_BKHW[:, group[0]]
        if len(group) == 1
        else logits_BKHW[:, list(group)].logsumexp(dim=1)
        for group in groups
    ]
    return torch.stack(planes, dim=1)


def require_groups(groups: Sequence[Sequence[int]], num_classes: int) -> None:
    """Refuse groups that are not one for each class.

    Raises:
        ConfigError: SEG-X157.
    """
    members = [number for group in groups for number in group]
    if groups and (
        len(groups) != num_classes or not all(groups) or len(set(members)) < len(members)
    ):
        raise ConfigError(
            "SEG-X157",
            "model.options.outputs needs one group for each class, of classes that are in no other",
            observed=f"{len(groups)} groups: {list(map(list, groups))}"[:300],
            allowed=f"{num_classes} groups",
            next_step="train with a label map of as many classes as there are groups, or leave "
            "model.options.outputs away: the layer of the classes is then made anew",
        )
