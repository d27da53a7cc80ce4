"""Which images of a split are used where a recipe limits their number."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import DataConfig

_NUMBER_AT_THE_END = re.compile(r"\d*$")


def limited(names: Sequence[str], limit: int, data: DataConfig, split: str = "train") -> list[int]:
    """Return the positions of the images that are used, ascending.

    A draw takes each group by its share, up to one image more or less, and a smaller limit takes
    some of the images of a larger one: a curve over sizes adds images and exchanges none. Another
    `limit_seed` draws other training images alone: what is scored stays, or no two runs compare.

    Args:
        names: of all images of the split.
        limit: how many; fewer than there are.
        data: says how they are chosen.
        split: its name.

    Raises:
        ConfigError: SEG-X182, the expression for groups does not fit a name.
    """
    if data.limit_draw == "first":
        return list(range(limit))
    seed = data.limit_seed if split == "train" else 0
    draw = np.random.Generator(np.random.Philox(seed))
    by_group: dict[str, list[int]] = {}
    for position in draw.permutation(len(names)).tolist():
        by_group.setdefault(_group(names[position], data.limit_group), []).append(position)
    places: list[tuple[float, int]] = []
    for _, positions in sorted(by_group.items()):
        first = float(draw.random())
        # Evenly spaced over the whole draw, with a beginning of its own.
        places += [
            ((number + first) / len(positions), position)
            for number, position in enumerate(positions)
        ]
    return sorted(position for _, position in sorted(places)[:limit])


def _group(name: str, pattern: str | None) -> str:
    """Return the group of a name; by default what comes before the number at its end."""
    if pattern is None:
        return _NUMBER_AT_THE_END.sub("", name)
    match = re.search(pattern, name)
    if match is None or match[1] is None:
        raise ConfigError(
            "SEG-X182",
            "data.limit_group does not fit a name",
            observed=f"{pattern!r} in {name!r}",
            next_step="write the expression so that its first group is found in every name",
        )
    return match[1]
