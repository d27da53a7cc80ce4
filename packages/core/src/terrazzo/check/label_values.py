"""Raw label values against the label map: unknown, shifted, or train ids already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.data.datasets import MaskedLabels, Source
from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import IGNORE
from terrazzo.data.scene_placement import pixel_text

_PLACES = 20  # faulty masks decoded again to say where the value is
_SHOWN = 8  # values named in one line
_MANY = 4  # antialiasing leaves more colours than this


class Cause(Enum):
    """Why a mask may hold values that are not in the map."""

    UNKNOWN = "label values that are not in the label map"
    BINARY = "the mask is binary, 0 and 255, and the label map has no 255"
    SHIFTED_UP = "labels look shifted by one: every value is one too high"
    SHIFTED_DOWN = "labels look shifted by one: every value is one too low"
    MAPPED = "labels look mapped twice: the mask holds train ids already"
    WRAPPED = "254 beside an ignore value of 255: something subtracted 1 from the mask"
    BLENDED = "stray colours between the colours of classes: antialiasing or smoothing"
    CLIPPED = "the mask stops at 255 where the label map has larger values: clipped to 8 bits"


_NEXT = {
    Cause.UNKNOWN: "add the value to a class or to `ignored` in the label map (see the proposal)",
    Cause.BINARY: "give the class raw = [255] in the label map (see the proposal)",
    Cause.SHIFTED_UP: "use a label map that begins one higher (see the proposal); do not subtract "
    "1 from the masks, or 0 becomes 255",
    Cause.SHIFTED_DOWN: "use a label map that begins one lower (see the proposal); add nothing to "
    "the masks, or 255 becomes 0",
    Cause.MAPPED: "use a label map with raw = train id (see the proposal), or the original masks",
    Cause.WRAPPED: "export the masks again without arithmetic on 8-bit values",
    Cause.BLENDED: "export the masks again without antialiasing, and resize them by nearest "
    "neighbour; do not map the mixtures",
    Cause.CLIPPED: "export the masks again with 16 bits",
}


@dataclass(frozen=True)
class _Known:
    """The raw values of a label map."""

    label_map: LabelMap
    of_classes: frozenset[int]
    all: frozenset[int]


def find(survey: Survey, *, are_numbers: bool = False) -> Iterator[Finding]:
    """Yield labels of the wrong kind, and labels with values that the map does not know.

    Args:
        survey: what was seen.
        are_numbers: the values are those of objects, which one finding says of all masks.
    """
    label_map = survey.label_map
    if label_map is None:
        return
    known = known_values(label_map)
    labelled = [(p, p.label.counts) for p in survey.scanned_images if p.label is not None]
    whole: dict[int, int] = {}
    places = 0
    for scanned, counts in labelled:
        if scanned.label is not None and scanned.label.colours != label_map.colour_coded:
            yield _of_other_kind(scanned, label_map)
            continue
        for value, count in counts.items():
            whole[value] = whole.get(value, 0) + count
        strays = {value: counts[value] for value in sorted(counts.keys() - known.all)}
        if strays and not are_numbers:
            places += 1
            source = survey.sources[scanned.split] if places <= _PLACES else None
            yield _stray(scanned, strays, diagnose(counts, label_map), label_map, source)
    if whole.keys() <= known.all:
        yield from _silent(survey, whole, label_map)


def known_values(label_map: LabelMap) -> _Known:
    """Return the raw values of a label map."""
    of_classes = frozenset(code for each in label_map.classes for code in each.raw)
    return _Known(label_map, of_classes, of_classes | set(label_map.ignored))


def diagnose(counts: dict[int, int], label_map: LabelMap) -> Cause:
    """Say why raw values of one mask, or of all, are not in the map; `counts` is their pixels."""
    known = known_values(label_map)
    values = set(counts)
    strays = values - known.all
    if label_map.colour_coded:
        return Cause.BLENDED if _blended(strays, known) else Cause.UNKNOWN
    train_ids = set(range(len(label_map)))
    if values == {0, IGNORE} and len(label_map) == 2:
        return Cause.BINARY
    if strays == {IGNORE - 1} and IGNORE in label_map.ignored:
        return Cause.WRAPPED
    if strays == {IGNORE} and max(known.of_classes, default=0) > IGNORE:
        return Cause.CLIPPED
    if _is_shifted(values, known, 1):
        return Cause.SHIFTED_UP
    if IGNORE not in values and _is_shifted(values, known, -1):
        return Cause.SHIFTED_DOWN
    if not _is_identity(label_map) and values <= train_ids | {IGNORE}:
        return Cause.MAPPED
    if _is_shifted(values, known, -1):
        return Cause.SHIFTED_DOWN
    return Cause.UNKNOWN


def _is_shifted(values: set[int], known: _Known, step: int) -> bool:
    """Tell whether all values fit once moved back, and the end that would be empty is empty."""
    first, last = min(known.of_classes, default=0), max(known.of_classes, default=0)
    kept = values - {IGNORE}  # who shifts classes often spares 255
    moved = {value - step for value in kept} <= known.all
    # Two values at least: one alone fits nearly any shift.
    return len(kept) > 1 and moved and (first if step > 0 else last) not in kept


def _is_identity(label_map: LabelMap) -> bool:
    return all(train_id in each.raw for train_id, each in enumerate(label_map.classes))


def _blended(strays: set[int], known: _Known) -> bool:
    """Tell whether most strays are mixtures of two colours of the map."""
    if len(strays) <= _MANY:
        return False
    pure_KC = _levels(sorted(known.all))
    mixed_SC = _levels(sorted(strays)[:512])
    nearest_S = np.full(len(mixed_SC), np.inf)
    for number, first in enumerate(pure_KC):
        for second in pure_KC[number + 1 :]:
            along = second - first
            share_S = np.clip((mixed_SC - first) @ along / max(along @ along, 1), 0, 1)
            off_SC = mixed_SC - first - share_S[:, None] * along
            nearest_S = np.minimum(nearest_S, np.abs(off_SC).max(axis=1))
    return bool((nearest_S <= 3).mean() > 0.5)


def _levels(codes: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([[c >> 16, c >> 8 & 255, c & 255] for c in codes], np.float64)


def _stray(
    scanned: ScannedImage,
    strays: dict[int, int],
    cause: Cause,
    label_map: LabelMap,
    source: Source | None,
) -> Finding:
    value = max(strays, key=lambda each: strays[each])
    shown = ", ".join(f"{label_map.raw_text(v)} ({n} px)" for v, n in list(strays.items())[:_SHOWN])
    if len(strays) > _SHOWN:
        shown += f" and {len(strays) - _SHOWN} more values"
    allowed = sorted(known_values(label_map).all)
    return Finding(
        Level.ERROR,
        "SEG-D001",
        cause.value,
        scanned.label_file,
        shown + _place(scanned, value, label_map, source),
        ", ".join(map(label_map.raw_text, allowed[:40])) + (", …" if len(allowed) > 40 else ""),
        _NEXT[cause],
    )


def _place(scanned: ScannedImage, value: int, label_map: LabelMap, source: Source | None) -> str:
    if source is None:
        return ""
    try:
        raw, counts_HW = _label_of(source, scanned.index)
    except DataError:  # it has changed since
        return ""
    if raw.ndim == 3:
        raw = raw.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    strays_HW = raw == value
    if counts_HW is not None:
        strays_HW &= counts_HW
    row, column = divmod(int(strays_HW.argmax()), raw.shape[1])
    place = pixel_text(row, column, scanned.name, scanned.corner)
    return f"; {label_map.raw_text(value)} first at {place}"


def _label_of(source: Source, index: int) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return a raw label, and where it counts; None: everywhere."""
    if isinstance(source, MaskedLabels):
        label = source.read_counted_label(index)
        return label.raw_label, label.counts_HW
    return source.read_label(index), None


def _of_other_kind(scanned: ScannedImage, label_map: LabelMap) -> Finding:
    wanted, held = (
        ("colours", "class indices") if label_map.colour_coded else ("class indices", "colours")
    )
    return Finding(
        Level.ERROR,
        "SEG-D007",
        f"the masks hold {held}, and the label map {label_map.name!r} is of {wanted}",
        scanned.label_file,
        held,
        wanted,
        "choose a label map of the other kind, or set data.options.mask_kind",
    )


def _silent(survey: Survey, whole: dict[int, int], label_map: LabelMap) -> Iterator[Finding]:
    """Yield mistakes that leave no stray value: 255 as a class, and train ids taken for raw ids."""
    masks = [p for p in survey.scanned_images if p.label is not None]
    if not masks or label_map.colour_coded:
        return
    beyond = [name for name, each in _first_raws(label_map) if each not in whole]
    if whole.keys() == {0, IGNORE} and IGNORE in label_map.ignored and len(label_map) >= 2:
        with_255 = [p for p in masks if p.label is not None and IGNORE in p.label.counts]
        yield Finding(
            Level.ERROR,
            "SEG-D002",
            "the masks are binary, 0 and 255, and 255 is ignored",
            with_255[0].label_file,
            f"{', '.join(map(repr, beyond))}: 0 pixels in {len(masks)} of {len(masks)} masks; 255 "
            f"in {len(with_255)} of them",
            "255 as the raw value of a class, or classes other than 0 in the masks",
            "did you mean raw = [255]? (see the proposal)",
        )
    elif is_mapped_silently(whole, label_map):
        yield Finding(
            Level.ERROR,
            "SEG-D004",
            Cause.MAPPED.value,
            masks[0].label_file,
            f"values {_span(whole)} in {len(masks)} masks are train ids of {label_map.name!r}; as "
            f"raw values {_ignored_share(whole, label_map):.0%} of the pixels would be ignored",
            "raw ids, mapped once",
            _NEXT[Cause.MAPPED],
        )


def is_mapped_silently(whole: dict[int, int], label_map: LabelMap) -> bool:
    """Tell whether values that all fit the map look like its train ids; `whole` is their pixels."""
    train_ids = set(range(len(label_map)))
    is_subset = whole.keys() <= train_ids | {IGNORE}
    enough = len(whole.keys() & train_ids) >= min(3, len(label_map))
    beyond = any(min(each.raw, default=0) >= len(label_map) for each in label_map.classes)
    return is_subset and enough and beyond and _ignored_share(whole, label_map) > 0.5


def _ignored_share(whole: dict[int, int], label_map: LabelMap) -> float:
    lost = sum(count for value, count in whole.items() if value in label_map.ignored)
    return lost / max(sum(whole.values()), 1)


def _first_raws(label_map: LabelMap) -> list[tuple[str, int]]:
    return [(each.name, each.raw[0] if each.raw else -1) for each in label_map.classes]


def _span(values: dict[int, int]) -> str:
    return f"{min(values)}…{max(values)}"
