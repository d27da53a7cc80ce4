"""Which runs of a comparison are one method: runs that differ in nothing but their seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from terrazzo.comparison.competitor import Competitor
from terrazzo.metrics import confidence_intervals
from terrazzo.metrics.confidence_intervals import MIN_SEEDS, RunIntervals, Spread

_OWN_SETTINGS = {"name", "seed", "data.limit_seed"}
"""Each seed of a curve over sizes has a draw of training images of its own."""
_INIT = "init.run"
_SEED_IN_NAME = re.compile(r"[\W_]*(?:seed|s)?[\W_]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but their seed.

    Attributes:
        name: what the names of the runs have in common.
        runs: their numbers in the comparison, best first.
        spread: of their mean IoU.
    """

    name: str
    runs: tuple[int, ...]
    spread: Spread

    @property
    def enough_seeds(self) -> bool:
        """Whether there are seeds enough to say anything of the method."""
        return len(self.runs) >= MIN_SEEDS


@dataclass(frozen=True)
class MethodComparison:
    """Methods of a comparison that can be judged.

    Attributes:
        methods: those with seeds enough, best mean over their seeds first.
        intervals: over images and seeds, in this order.
    """

    methods: tuple[Method, ...]
    intervals: RunIntervals


def find(ranked: Sequence[Competitor], mean_iou: Sequence[float]) -> tuple[Method, ...]:
    """Return the methods of two seeds or more, best first; no seed may occur twice in one.

    Args:
        ranked: the runs.
        mean_iou: of each run.
    """
    alike: dict[str, list[int]] = {}
    for number, run in enumerate(ranked):
        alike.setdefault(_recipe(run, ranked), []).append(number)
    several = [
        numbers
        for numbers in alike.values()
        if 1 < len(numbers) == len({ranked[number].settings.get("seed") for number in numbers})
    ]
    names = _names([[ranked[number].name for number in numbers] for numbers in several])
    found = [
        Method(
            name, tuple(numbers), confidence_intervals.spread([mean_iou[each] for each in numbers])
        )
        for name, numbers in zip(names, several, strict=True)
    ]
    return tuple(sorted(found, key=lambda method: -method.spread.mean))


def compare(
    methods: Sequence[Method],
    ranked: Sequence[Competitor],
    *,
    groups: Sequence[object] | None,
    draws: int,
) -> MethodComparison | None:
    """Compare the methods with seeds enough; None where there is none.

    Raises:
        DataError: as `confidence_intervals.compare_methods`.
    """
    enough = tuple(method for method in methods if method.enough_seeds)
    if not enough:
        return None
    counts = [[ranked[run].scored.counts_NKK for run in method.runs] for method in enough]
    found = confidence_intervals.compare_methods(counts, groups=groups, draws=draws)
    return MethodComparison(enough, found)


def _recipe(run: Competitor, ranked: Sequence[Competitor], depth: int = 0) -> str:
    """Return the recipe but for the seed.

    Studies start the seed 1 of one run from the weights of the seed 1 of another: what a run
    starts from is told by the recipe of that run, or by its name without the seed.
    """
    kept = {key: value for key, value in run.settings.items() if key not in _OWN_SETTINGS}
    if _INIT in kept:
        begin = PurePath(str(kept[_INIT]))
        source = next((each for each in ranked if each.name == begin.name), None)
        if source is not None and source is not run and depth < len(ranked):
            same_seed = source.settings.get("seed") == run.settings.get("seed")
            kept[_INIT] = (same_seed, _recipe(source, ranked, depth + 1))
        else:
            kept[_INIT] = _without_seed(str(begin), run.settings.get("seed"))
    return repr(sorted(kept.items()))


def _without_seed(name: str, seed: object) -> str:
    """Take the run's own seed off the end of a name such as ``pretrained_seed1``."""
    return re.sub(rf"(?<=\D){re.escape(str(seed))}$", "SEED", name)


def _names(groups: Sequence[Sequence[str]]) -> list[str]:
    """Name methods by what their runs' names begin with, or by the first of them."""
    common = [_SEED_IN_NAME.sub("", _beginning(names)) for names in groups]
    return [
        each
        if each and common.count(each) == 1
        else f"{names[0]} and {len(names) - 1} other seed{'s' * (len(names) > 2)}"
        for each, names in zip(common, groups, strict=True)
    ]


def _beginning(names: Sequence[str]) -> str:
    """Return the letters that all names begin with."""
    first, last = min(names), max(names)
    same = (a == b for a, b in zip(first, last, strict=False))
    return first[: next((number for number, each in enumerate(same) if not each), len(first))]
