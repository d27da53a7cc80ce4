"""The classes of a published network, brought into the order of a label map."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from terrazzo.data.class_matching import Matching
from terrazzo.models.contract import State
from terrazzo_torch.grouped_outputs import Groups


def in_order(
    weights: Mapping[str, Tensor], heads: tuple[str, ...], matching: Matching
) -> dict[str, Tensor]:
    """Return weights whose classes are those of the label map, in its order.

    Args:
        weights: of a network.
        heads: names of the layers whose outputs are the classes; one more output than there are
            classes, "no object", stays the last.
        matching: one to one.
    """
    order = [group[0] for group in matching.groups]
    names = [n for n in weights if n.rpartition(".")[0] in heads]
    assert names, f"no layer {', '.join(heads)}"
    moved = dict(weights)
    for name in names:
        rows = list(range(len(weights[name])))
        moved[name] = weights[name][order + rows[len(matching.theirs) :]]
    return moved


def groups_of(matching: Matching) -> Groups:
    """Return what the option ``outputs`` has to be; empty where the classes are put in order."""
    return () if matching.one_to_one else matching.groups


def state_of(weights: Mapping[str, Tensor]) -> State:
    """Return the weights of a network as our wrapper of it has them."""
    return {
        f"weights/network.{name}": np.array(tensor.detach().cpu().numpy(), order="C")
        for name, tensor in weights.items()
    }
