"""What the intervals of differences say, in words that claim no more."""

from __future__ import annotations

import math

from terrazzo.metrics.confidence_intervals import MIN_IMAGES, MIN_SEEDS, Interval

NETWORKS = "networks differ"
"""Of two runs: other images would give this order again; another seed need not."""
METHODS = "methods differ"
"""Of two methods, each of several seeds."""
OPEN = "not told apart"

ONE_SEED = (
    f"Two runs are two trained networks: train at least {MIN_SEEDS} seeds of each to compare "
    "methods."
)
"""Said wherever runs are compared of which some are of no method with seeds enough."""
SEVERAL_SEEDS = "Two runs are two trained networks; the table of methods says what methods do."
"""Said of runs where a table of methods has them all."""
FEWEST = f"No interval and no verdict is given where fewer than {MIN_IMAGES}"
"""Beginning of a sentence that goes on with the units."""


def of_whom(*, judges_methods: bool) -> str:
    """Say that verdicts on runs are none on methods, and where to find those."""
    return SEVERAL_SEEDS if judges_methods else ONE_SEED


def of(difference: Interval, differ: str) -> str:
    """Return the verdict, adjusted for the table it stands in; empty where nothing is defined.

    Args:
        difference: with its adjusted ends.
        differ: `NETWORKS` or `METHODS`.
    """
    if math.isnan(difference.estimate):
        return ""
    if difference.too_few:
        return too_few(difference)
    return differ if difference.excludes_zero else OPEN


def too_few(found: Interval) -> str:
    """Say that there is no interval, and why."""
    return f"too few images: {found.images or 0}"
