"""What became of the shapes of labelling tools: all that went in, and what came out as pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

from terrazzo.base.errors import DataError
from terrazzo.base.ordered_map import side_by_side
from terrazzo.base.recipe import LoaderConfig
from terrazzo.check.finding import Finding, Level
from terrazzo.data.datasets import Source
from terrazzo.data.datasets._annotated_images import OfShapes
from terrazzo.io.annotations.draw import Account, FillRule

_MOST = 1000  # images of a split that are drawn again
_SHOWN = 12  # classes or pairs of classes named in one line


def find(sources: Mapping[str, Source], root: str, threads: int) -> Iterator[Finding]:
    """Yield the account of all shapes, and the area of each class under both fill rules.

    Args:
        sources: by split.
        root: of the data set, for the findings.
        threads: images drawn side by side.
    """
    images = [
        (source, index)
        for source in sources.values()
        if isinstance(source, OfShapes)
        for index in _some(len(source.names))
    ]
    if not images:
        return
    all_images = sum(len(s.names) for s in sources.values() if isinstance(s, OfShapes))
    of = "" if len(images) == all_images else f"of {len(images)} images of {all_images}: "
    yield _in_and_out(_sum(images, None, threads), root, of)
    areas = {rule: _sum(images, rule, threads).pixels for rule in get_args(FillRule)}
    if any(areas.values()):
        yield _both_rules(areas, root, of)


def _some(number: int) -> list[int]:
    return list(range(0, number, -(-number // _MOST))) if number else []


def _sum(images: Sequence[tuple[OfShapes, int]], fill: FillRule | None, threads: int) -> Account:
    def look(item: tuple[OfShapes, int]) -> Account | None:
        try:
            return item[0].account(item[1], fill)
        except DataError:  # found where the file is read
            return None

    total = Account()
    for each in side_by_side(look, images, threads, LoaderConfig().timeout):
        if each is not None:
            total.add(each)
    return total


def _in_and_out(account: Account, root: str, of: str) -> Finding:
    told = [f"{account.shapes.total()} shapes ({_counted(account.shapes)})"]
    lost = {
        "cover no pixel": account.empty,
        "lie wholly under later ones": account.hidden,
    }
    told += [f"{each.total()} {what} ({_counted(each)})" for what, each in lost.items() if each]
    if account.clipped:
        told.append(f"{account.clipped} reach beyond their image and are cut")
    if account.undrawn:
        told.append(f"{account.undrawn} are not drawn, as the options say")
    overlaps = Counter(
        {f"{upper} over {lower}": n for (upper, lower), n in account.overlaps.items()}
    )
    if overlaps:
        told.append(f"pixels of two classes, which the upper one has: {_counted(overlaps)}")
    is_lost = any(lost.values())
    return Finding(
        Level.WARNING if is_lost else Level.NOTE,
        "SEG-D118",
        "some shapes leave no pixel in the labels" if is_lost else "all shapes are in the labels",
        root,
        of + "; ".join(told),
        "",
        "look at the shapes of these classes, and at the order of what overlaps, in the tool"
        if is_lost
        else "nothing, where the overlaps are meant",
    )


def _both_rules(areas: Mapping[FillRule, Counter[str]], root: str, of: str) -> Finding:
    names = sorted(set().union(*areas.values()), key=lambda name: -areas["centre"][name])
    told = []
    for name in names[:_SHOWN]:
        centre, inclusive = areas["centre"][name], areas["inclusive"][name]
        share = f" ({(inclusive - centre) / centre:+.1%})" if centre else ""
        told.append(f"{name} {centre} and {inclusive}{share}")
    more = f" and {len(names) - _SHOWN} more classes" if len(names) > _SHOWN else ""
    return Finding(
        Level.NOTE,
        "SEG-D119",
        "the area of each class depends on the fill rule",
        root,
        f"{of}pixels by fill = centre and inclusive: {', '.join(told)}{more}",
        "",
        "choose data.options.fill before the first run: small objects change most, and scores "
        "compare under one rule only",
    )


def _counted(counts: Counter[str]) -> str:
    in_order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{name} {number}" for name, number in in_order[:_SHOWN])
    return told + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")
