"""The order of things that each name the next one, for all chains of them at once.

Some of them, a third, are chosen by chance, and all of these walk to the next chosen one at the
same time; what is left is a shorter problem of the same kind. Each thing is walked over once and
there are few steps, so that the work is linear and done by arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIX = np.uint32(2654435769)
"""An odd number: multiplied by it, the numbers below 2^32 change places."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chains:
    """C chains of N things.

    Attributes:
        order: the things, chain after chain.
        first: where each chain begins in `order`, and N.
    """

    order: Ints
    first: Ints

    @property
    def chain(self) -> Ints:
        """Return the chain of each place in `order`."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


@dataclass(frozen=True, slots=True)
class _Level:
    """Of each thing: which chosen one is before it, and how many of the first things from there."""

    leader: Ints
    ahead: Ints


def chains_of(next_N: NDArray[np.integer]) -> Chains:
    """Return the chains in which things follow each other.

    Args:
        next_N: the thing after each; -1: none. No two have the same next one. A ring begins
            anywhere.
    """
    follows, weight = next_N.astype(np.int64), np.ones(len(next_N), np.int64)
    levels: list[_Level] = []
    while True:
        chosen_mask = _chosen(follows)
        if chosen_mask.all():
            break
        level, follows, weight = _shorter(follows, weight, chosen_mask)
        levels.append(level)
    first = np.concatenate([[0], np.cumsum(weight)])
    place = first[:-1]
    for level in reversed(levels):
        place = place[level.leader] + level.ahead
    order = np.empty(len(next_N), np.int64)
    order[place] = np.arange(len(next_N))
    return Chains(order, first)


def _chosen(follows: Ints) -> NDArray[np.bool_]:
    """Mark those with a number less than both neighbours have, and each that has none before it."""
    number = np.arange(len(follows), dtype=np.uint32) * _MIX
    has_next = follows >= 0
    target = follows[has_next]
    chosen = np.ones(len(follows), bool)
    chosen[has_next] = number[has_next] <= number[target]
    after_less = number[has_next] < number[target]
    chosen[target[after_less]] = False
    is_first = np.ones(len(follows), bool)
    is_first[target] = False
    chosen[follows[is_first & has_next]] = False  # or a chain of two would stay one of two
    return chosen | is_first


def _shorter(
    follows: Ints, weight: Ints, chosen_mask: NDArray[np.bool_]
) -> tuple[_Level, Ints, Ints]:
    """Walk from each chosen thing to the next one."""
    chosen = np.flatnonzero(chosen_mask)
    place = np.empty(len(follows), np.int64)
    place[chosen] = np.arange(len(chosen))
    leader, ahead = place, np.zeros(len(follows), np.int64)
    walked, reached = weight[chosen], np.empty(len(chosen), np.int64)
    active, at = np.arange(len(chosen)), follows[chosen]
    while len(active):
        ends = (at < 0) | chosen_mask[at]
        reached[active[ends]] = at[ends]
        on = ~ends
        active, at = active[on], at[on]
        leader[at] = active
        so_far = walked[active]
        ahead[at] = so_far
        walked[active] = so_far + weight[at]
        at = follows[at]
    shorter = np.where(reached < 0, -1, place[reached])
    return _Level(leader, ahead), shorter, walked
