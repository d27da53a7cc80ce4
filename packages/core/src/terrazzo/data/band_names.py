"""Names of bands: which are names at all, and whether two lists of them contradict each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NAMELESS = re.compile(r"band \d+")


def is_name(text: str) -> bool:
    """Tell whether a band has a name of its own, and not its number for one."""
    return not _NAMELESS.fullmatch(text)


def contradict(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether two lists of bands name different bands at any place where both have names."""
    return len(one) != len(other) or any(
        a != b and is_name(a) and is_name(b) for a, b in zip(one, other, strict=True)
    )


def positions(wanted: Sequence[str], among: Sequence[str]) -> tuple[int, ...] | None:
    """Return where the wanted bands are among others, by name; None where a name is not there once.

    Args:
        wanted: C names.
        among: names to look through.
    """
    if not all(is_name(name) and among.count(name) == 1 for name in wanted):
        return None
    return tuple(among.index(name) for name in wanted)
