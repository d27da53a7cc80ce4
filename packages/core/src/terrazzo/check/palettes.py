"""Palette PNG read as indices: do the colours of the palette say what the label map says?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.data.labels import LabelMap

_SHOWN = 5


def find(survey: Survey) -> Iterator[Finding]:
    """Yield masks whose palette contradicts the map, or the palettes of the other masks.

    Colours the map does not declare say nothing, and neither does a ramp of greys.
    """
    coloured = [(p, _colours(p)) for p in survey.scanned_images]
    coloured = [(scanned, colours) for scanned, colours in coloured if colours]
    if survey.label_map is None or survey.label_map.colour_coded or not coloured:
        return
    disputed = set()
    for scanned, colours in coloured:
        swapped = _swapped(colours, survey.label_map)
        if swapped:
            disputed.add(scanned.key)
            yield _finding(
                scanned,
                "the palette shows other classes than the label map",
                "; ".join(swapped[:_SHOWN]),
                f"the colours that {survey.label_map.name!r} declares for these values, or others",
            )
    usual = _usual(colours for _, colours in coloured)
    for scanned, colours in coloured:
        other = [
            f"{value} is #{colour:06X} here and #{usual[value]:06X} in most masks"
            for value, colour in sorted(colours.items())
            if colour != usual[value]
        ]
        if other and scanned.key not in disputed:
            yield _finding(
                scanned,
                "the order of palettes differs from mask to mask",
                "; ".join(other[:_SHOWN]),
                "one palette for all masks",
            )


def _finding(scanned: ScannedImage, problem: str, observed: str, allowed: str) -> Finding:
    return Finding(
        Level.ERROR,
        "SEG-D006",
        problem,
        scanned.label_file,
        observed,
        allowed,
        'read the colours: mask_kind = "colour" and a label map with raw = ["#RRGGBB"]',
    )


def _colours(scanned: ScannedImage) -> dict[int, int]:
    palette = {} if scanned.label is None else scanned.label.palette
    is_grey = all(code >> 16 == (code >> 8 & 255) == (code & 255) for code in palette.values())
    return {} if is_grey else palette


def _swapped(colours: dict[int, int], label_map: LabelMap) -> list[str]:
    """Name the values whose palette colour is that of a class they do not belong to."""
    owner = {int(each.colour[1:], 16): each for each in label_map.classes}
    own = {code: each for each in label_map.classes for code in each.raw}
    return [
        f"{value} is {own[value].name!r} in the map and has the colour of {owner[colour].name!r}, "
        f"#{colour:06X}"
        for value, colour in sorted(colours.items())
        if value in own
        and colour in owner
        and owner[colour].name != own[value].name
        and int(own[value].colour[1:], 16) != colour
    ]


def _usual(palettes: Iterator[dict[int, int]]) -> dict[int, int]:
    votes: dict[int, Counter[int]] = {}
    for palette in palettes:
        for value, colour in palette.items():
            votes.setdefault(value, Counter())[colour] += 1
    return {value: counter.most_common(1)[0][0] for value, counter in votes.items()}
