"""The classes of a published network, matched by name with those of a label map; nothing guessed.

Names are equal where they have the same letters and digits: ``Traffic_Light`` is ``traffic light``.
Whatever else is meant has to be said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from terrazzo.base.errors import ConfigError
from terrazzo.data.labels import LabelMap

CODE = "SEG-X157"
_SHOWN = 12


@dataclass(frozen=True)
class Matching:
    """Which classes of a network mean which of a label map.

    Attributes:
        theirs: names of the network's classes, by number.
        ours: names of the label map's, by number.
        groups: for each of ours, the numbers of theirs.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]

    @property
    def left_out(self) -> tuple[int, ...]:
        """Numbers of their classes that mean none of ours."""
        used = {number for group in self.groups for number in group}
        return tuple(number for number in range(len(self.theirs)) if number not in used)

    @property
    def one_to_one(self) -> bool:
        """Whether each of ours is one of theirs, and none of theirs is left over."""
        return all(len(group) == 1 for group in self.groups) and not self.left_out

    def lines(self) -> list[str]:
        """Return the table, a line a class of ours; then what is left out."""
        width = max(map(len, (*self.ours, "class")))
        made = [f"{'class':<{width}}  class of the network (its number)"]
        for name, group in zip(self.ours, self.groups, strict=True):
            meant = ", ".join(f"{self.theirs[number]} ({number})" for number in group)
            made.append(f"{name:<{width}}  {meant}")
        if self.left_out:
            names = ", ".join(f"{self.theirs[n]} ({n})" for n in self.left_out)
            made.append(f"{'(none)':<{width}}  {names}")
        return made


def match(
    theirs: Sequence[str], label_map: LabelMap, said: Sequence[str] = (), *, in_order: bool = False
) -> Matching:
    """Match classes by name, and as said.

    Args:
        theirs: names of the network's classes, or their numbers where it has no names.
        label_map: ours.
        said: ``THEIRS=OURS``, by name or number of theirs; without OURS, the class is left out.
        in_order: the first of theirs is the first of ours, and so on, whatever their names.

    Raises:
        ConfigError: SEG-X157, a class of either side is without a partner or has several.
    """
    ours = label_map.names
    if in_order:
        return _in_order(theirs, ours, said)
    partner: dict[int, int | None] = dict(_said(theirs, ours, said))
    by_name: dict[str, list[int]] = {}
    for number, name in enumerate(ours):
        by_name.setdefault(_folded(name), []).append(number)
    for number, name in enumerate(theirs):
        found = by_name.get(_folded(name), [])
        if number not in partner and len(found) == 1:
            partner[number] = found[0]
    _require_partners(theirs, ours, partner)
    groups = tuple(
        tuple(number for number in range(len(theirs)) if partner[number] == own)
        for own in range(len(ours))
    )
    return Matching(tuple(theirs), ours, groups)


def _in_order(theirs: Sequence[str], ours: Sequence[str], said: Sequence[str]) -> Matching:
    if said or len(theirs) != len(ours):
        raise ConfigError(
            CODE,
            "--in-order pairs as many classes as there are, and needs no --map",
            observed=f"{len(theirs)} classes of the network, {len(ours)} of the label map"
            + (f"; --map {said[0]}" if said else ""),
            allowed="the same number of both, without --map",
            next_step="give a label map of the network's classes, or say each with --map",
        )
    return Matching(tuple(theirs), tuple(ours), tuple((n,) for n in range(len(ours))))


def _said(theirs: Sequence[str], ours: Sequence[str], said: Sequence[str]) -> dict[int, int | None]:
    partner: dict[int, int | None] = {}
    for text in said:
        left, equals, right = (part.strip() for part in text.partition("="))
        numbers = _numbers_of(left, theirs)
        named = [n for n, name in enumerate(ours) if _folded(name) == _folded(right)]
        if not equals or len(numbers) != 1 or (right and len(named) != 1):
            raise ConfigError(
                CODE,
                "--map names a class that is not there, or several",
                observed=f"--map {text!r}",
                allowed=f"THEIRS=OURS, with THEIRS of {_listed(theirs)}; OURS of {_listed(ours)}, "
                "or nothing to leave THEIRS out",
                next_step="correct it; a number will do for THEIRS",
            )
        partner[numbers[0]] = named[0] if right else None
    return partner


def _numbers_of(text: str, theirs: Sequence[str]) -> list[int]:
    named = [n for n, name in enumerate(theirs) if _folded(name) == _folded(text)]
    if not named and text.isdecimal() and int(text) < len(theirs):
        return [int(text)]
    return named


def _require_partners(
    theirs: Sequence[str], ours: Sequence[str], partner: dict[int, int | None]
) -> None:
    lonely = [f"{name} ({n})" for n, name in enumerate(theirs) if n not in partner]
    unmet = [name for n, name in enumerate(ours) if n not in partner.values()]
    if not (lonely or unmet):
        return
    told = [
        f"{len(lonely)} of the network without one of ours: {_listed(lonely)}" if lonely else "",
        f"{len(unmet)} of the label map without one of the network's: {_listed(unmet)}"
        if unmet
        else "",
    ]
    raise ConfigError(
        CODE,
        "the network's classes are not those of the label map",
        observed="; ".join(part for part in told if part),
        allowed=f"for each a partner of the same name among {_listed(ours)}",
        next_step='say what is meant with --map "THEIRS=OURS" (several may be one of ours), leave '
        'one of theirs out with --map "THEIRS=", take the classes by their position with '
        "--in-order, or leave --labels away for a label map of the network's own classes",
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _folded(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
