"""The classes of a data set, read off its masks: values, names, distinct colours."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.check import instance_masks
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.data import labels as label_maps
from terrazzo.data.datasets._annotated_images import OfShapes
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import IGNORE
from terrazzo.workflows.init import class_names
from terrazzo.workflows.init.class_names import ClassNames

COLOURS = (
    *("#4E79A7", "#F28E2B", "#59A14F", "#E15759", "#B07AA1", "#EDC948", "#76B7B2", "#9C755F"),
    *("#FF9DA7", "#2F6B3A", "#8CD17D", "#D37295", "#86BCB6", "#FABFD2", "#B6992D", "#79706E"),
)
SOURCE = "terrazzo init"
_BACKGROUND = "#595959"  # grey: black means "ignored" in every picture
_MOST = 64  # values that are classes
_STRAY = 0.001  # share of the pixels below which a colour is a slip of the pen
_IGNORE_WORDS = frozenset(["-", "ignore", "ignored", "void"])
_NO_CLASS = _IGNORE_WORDS | {"__ignore__"}  # names of shapes
_REST = frozenset(["background", "_background_", "bg"])  # names of shapes
_MOST_NAMED = 255  # classes with names; that many have colours of their own
_GAPS = 0.1  # share of the pixels below which what no shape covers may be gaps
_PURE = frozenset([0, 255])  # levels of red, green and blue in colours that anybody takes
_SURE = 3  # colours in common with a published set that are no chance
_DARKEST = 60  # a colour whose brightest channel is below is not told from black


@dataclass(frozen=True)
class Classes:
    """What was decided on the classes.

    Attributes:
        label_map: to be written.
        shares: of the pixels that count, by class.
        reasons: by the name of the class, and ``ignored``.
        unsure: questions to the person.
    """

    label_map: LabelMap
    shares: tuple[float, ...]
    reasons: dict[str, str]
    unsure: tuple[str, ...]


def propose(
    survey: Survey,
    known: Mapping[int, str],
    wishes: Sequence[str],
    name: str,
    beside: ClassNames | None = None,
) -> Classes:
    """Decide on the classes of masks that were looked at.

    Args:
        survey: without a label map.
        known: names of raw values, where the files say them.
        wishes: names of the classes in the order of their values, or ``name=value``; ``ignore``
            leaves a value out.
        name: of the label map.
        beside: names in a file beside the masks.

    Raises:
        ConfigError: SEG-X127, the names do not fit the values.
        DataError: SEG-D123, the masks hold objects by number; SEG-D124, their values are no
            classes.
    """
    labelled = [p for p in survey.scanned_images if p.label is not None]
    counts: Counter[int] = Counter()
    colours = {p.label.colours for p in labelled if p.label is not None}
    for scanned in labelled:
        if scanned.label is not None:
            counts.update(scanned.label.counts)
    colour_coded = colours == {True}
    if not wishes:
        _refuse_objects(survey)
    ignored = _ignored(counts, colour_coded)
    values = sorted(counts.keys() - ignored)
    _refuse_many(survey, values, counts, colour_coded)
    plain = LabelMap(name, (), colour_coded=colour_coded)
    published = _published(values) if colour_coded else None
    if published is not None:
        known = {code: each.name for each in published.classes for code in each.raw} | dict(known)
        ignored |= set(published.ignored) & counts.keys()
        values = sorted(counts.keys() - ignored)
    asked = ""
    if beside is not None and not known and not wishes:
        known, asked = class_names.of_values(beside, values, colour_coded=colour_coded)
    texts = {value: plain.raw_text(value) for value in (*values, *sorted(ignored))}
    given = _wished(wishes, list(texts), texts, counts) if wishes else {}
    for value, word in given.items():
        (ignored.add if word in _IGNORE_WORDS else ignored.discard)(value)
    values = sorted(counts.keys() - ignored)
    names = _names(values, known, given, plain)
    shown = _colours(values, labelled, plain)
    total = max(sum(counts[value] for value in values), 1)
    shares = tuple(counts[value] / total for value in values)
    classes = tuple(LabelClass(names[value], shown[value], (value,)) for value in values)
    label_map = LabelMap(name, classes, tuple(sorted(ignored)), colour_coded, SOURCE)
    reasons = {
        names[value]: f"{share:.2%} of the pixels, in {_images_with(labelled, value)} images"
        for value, share in zip(values, shares, strict=True)
    }
    unsure = _questions(values, ignored, names, known, given, plain, counts)
    if asked:
        unsure = (asked, *unsure)
    if published is not None and not wishes:
        unsure = (
            f"are these the classes of {published.name}? The masks hold its colours, see "
            f"`terrazzo list labels {published.name}`; otherwise name them by --classes",
            *unsure,
        )
    return Classes(label_map, shares, reasons, unsure)


def of_shapes(survey: Survey, wishes: Sequence[str], name: str) -> Classes:
    """Decide on the classes of shapes, which have names.

    Args:
        survey: without a label map.
        wishes: as in `propose`.
        name: of the label map.

    Raises:
        ConfigError: SEG-X127, as `propose`.
        DataError: SEG-D124, there is one class alone, or far too many.
    """
    source = next(each for each in survey.sources.values() if isinstance(each, OfShapes))
    of_files = dict(enumerate(source.class_names, start=1))
    labelled = [p for p in survey.scanned_images if p.label is not None]
    counts: Counter[int] = Counter()
    for scanned in labelled:
        if scanned.label is not None:
            counts.update(scanned.label.counts)
    ignored = {source.ignored} | {v for v, word in of_files.items() if word.lower() in _NO_CLASS}
    rest = {v for v, word in of_files.items() if word.lower() in _REST}
    counts[0] += sum(counts.pop(value, 0) for value in sorted(rest))
    values = [value for value in (0, *of_files) if counts[value] and value not in ignored]
    plain = LabelMap(name, ())
    texts = {value: of_files.get(value, "background") for value in values}
    given = _wished(wishes, values, texts, counts) if wishes else {}
    ignored |= {value for value, word in given.items() if word in _IGNORE_WORDS}
    if 0 in ignored:
        ignored |= rest
    values = [value for value in values if value not in ignored]
    if not counts[0]:
        ignored.add(0)
    if not 1 < len(values) <= _MOST_NAMED:
        raise DataError(
            "SEG-D124",
            "the shapes make one class alone" if len(values) < 2 else "there are too many classes",
            file=survey.data.root,
            observed=f"{len(values)} of them cover pixels",
            allowed=f"2 to {_MOST_NAMED}, what no shape covers among them",
            next_step="are these the labels? --set 'data.options.classes=[…]' with "
            "data.options.undrawn chooses among the names",
        )
    taken = {of_files[value] for value in values if value}
    nothing = next(w for w in ("background", "no shape", "rest", "_") if w not in taken)
    known = {0: nothing} | of_files
    names = _names(values, known, given, plain)
    shown = _colours(values, labelled, plain)
    total = sum(counts[value] for value in values)
    shares = tuple(counts[value] / total for value in values)
    classes = tuple(
        LabelClass(names[v], shown[v], (0, *sorted(rest)) if v == 0 else (v,)) for v in values
    )
    label_map = LabelMap(name, classes, tuple(sorted(ignored)), False, SOURCE)
    reasons = {
        names[value]: f"{share:.2%} of the pixels, in {_images_with(labelled, value)} images"
        for value, share in zip(values, shares, strict=True)
    }
    return Classes(
        label_map, shares, reasons, _questions_of_shapes(of_files, counts, ignored, rest)
    )


def _questions_of_shapes(
    of_files: Mapping[int, str], counts: Counter[int], ignored: set[int], rest: set[int]
) -> tuple[str, ...]:
    unsure = []
    joined = ", ".join(of_files[value] for value in sorted(rest))
    if joined:
        unsure.append(
            f"does {joined} mean what no shape covers? They are one class, in labels.toml"
        )
    left = ", ".join(of_files[value] for value in sorted(ignored & of_files.keys()))
    if left:
        unsure.append(f"is {left} no class? It is ignored, see labels.toml")
    unused = [word for value, word in of_files.items() if not counts[value] and value not in rest]
    if unused:
        shown = ", ".join(unused[:5]) + (", …" if len(unused) > 5 else "")
        unsure.append(
            f"should {shown} be learned? No pixel is of that class, and labels.toml leaves it out"
        )
    share = counts[0] / max(sum(counts.values()), 1)
    if 0 < share < _GAPS:
        unsure.append(
            f"is what no shape covers a class? It is {share:.2%} of the pixels, called background; "
            "if it is gaps between shapes, move 0 to `ignored` in labels.toml"
        )
    return tuple(unsure)


def _ignored(counts: Counter[int], colour_coded: bool) -> set[int]:
    """Return the values that are no class: 255 beside several others, stray colours."""
    if not colour_coded:
        return {IGNORE} if IGNORE in counts and len(counts) > 2 else set()
    total = sum(counts.values())
    stray = {value for value, count in counts.items() if count < _STRAY * total}
    return stray if len(counts) - len(stray) > 1 else set()


def _published(colours: Sequence[int]) -> LabelMap | None:
    """Return the label map that comes with Terrazzo and knows all of these colours."""
    for name in label_maps.names():
        label_map = label_maps.load_label_map(name)
        known = {code for each in label_map.classes for code in each.raw} | set(label_map.ignored)
        # Black, white, red … are in many sets: what everybody paints with tells of none.
        telling = [
            code for code in colours if not {code >> 16, code >> 8 & 255, code & 255} <= _PURE
        ]
        if label_map.colour_coded and len(telling) >= _SURE and known.issuperset(colours):
            return label_map
    return None


def _refuse_many(
    survey: Survey, values: Sequence[int], counts: Counter[int], colour_coded: bool
) -> None:
    if len(values) <= _MOST and len(values) > 1:
        return
    if len(values) == 1:
        raise DataError(
            "SEG-D124",
            "all masks hold one value, so there is nothing to learn",
            file=survey.data.root,
            observed=f"{values[0]} in {counts[values[0]]:,} pixels",
            allowed="two classes or more",
            next_step="are these the masks? Name their folder by --set data.options.masks=FOLDER",
        )
    common = sum(count for _, count in counts.most_common(2)) / max(sum(counts.values()), 1)
    blurred = "; most pixels hold two of them: the edges look antialiased" if common > 0.5 else ""
    what = "colours" if colour_coded else "values"
    raise DataError(
        "SEG-D124",
        f"the masks hold too many {what} for classes",
        file=survey.data.root,
        observed=f"{len(counts)} {what}{blurred}",
        allowed=f"at most {_MOST}",
        next_step="are these the masks? If so, can they be exported again without antialiasing "
        "and scaling? Else name their folder by --set data.options.masks=FOLDER",
    )


def _refuse_objects(survey: Survey) -> None:
    """Refuse masks in which each object has a number of its own: 1, 2, 3 … in every image.

    Raises:
        DataError: SEG-D123.
    """
    objects = instance_masks.numbered_objects(survey)
    if objects is not None:
        raise DataError(
            "SEG-D123",
            "the masks look like numbered objects, not classes",
            file=survey.data.root,
            observed=objects.told,
            allowed="one value a class",
            next_step="are these objects of one class, as Cellpose and StarDist write them? Then "
            "save masks with 1 in place of every value above 0. If the values are classes, name "
            "them by --classes",
        )


def _wished(
    wishes: Sequence[str],
    values: Sequence[int],
    texts: Mapping[int, str],
    counts: Counter[int],
) -> dict[int, str]:
    """Return the names that were asked for, by value.

    Args:
        wishes: as in `propose`.
        values: of the masks, or of shapes.
        texts: what a person knows each value by: as written in masks, or the name of shapes.
        counts: pixels by value.

    Raises:
        ConfigError: SEG-X127.
    """
    known = {texts[value].lower(): value for value in values}
    given: dict[int, str] = {}
    if all("=" in wish for wish in wishes):
        for wish in wishes:
            word, _, text = wish.rpartition("=")
            if text.strip().lower() in known:
                given[known[text.strip().lower()]] = word.strip()
    elif len(wishes) == len(values):
        given = dict(zip(sorted(values), (wish.strip() for wish in wishes), strict=True))
    elif len(wishes) == len(values) - 1 and IGNORE in values:
        rest = [value for value in sorted(values) if value != IGNORE]
        given = dict(zip(rest, (wish.strip() for wish in wishes), strict=True))
    names = [word for word in given.values() if word not in _IGNORE_WORDS]
    if len(given) < len(wishes) or len(set(names)) < len(names) or not all(given.values()):
        total = max(sum(counts.values()), 1)
        held = ", ".join(
            f"{texts[value]} ({counts[value] / total:.1%})" for value in sorted(values)
        )
        raise ConfigError(
            "SEG-X127",
            "the names of the classes do not fit the values of the labels",
            observed=f"--classes {','.join(wishes)}; the labels hold {held}",
            allowed=f"{len(values)} different names in the order of these values, or NAME=VALUE; "
            "`ignore` leaves a value out",
            next_step="name each of these values",
        )
    return given


def _names(
    values: Sequence[int], known: Mapping[int, str], given: Mapping[int, str], plain: LabelMap
) -> dict[int, str]:
    guessed = dict(known)
    if not known and not plain.colour_coded and len(values) == 2 and values[0] == 0:
        guessed = {0: "background", values[1]: "foreground"}
    names = {
        value: given.get(value)
        or guessed.get(value)
        or f"value_{plain.raw_text(value).removeprefix('#')}"
        for value in values
    }
    times = Counter(names.values())
    return {
        value: word if times[word] == 1 else f"{word}_{plain.raw_text(value)}"
        for value, word in names.items()
    }


def _colours(
    values: Sequence[int], labelled: Sequence[ScannedImage], plain: LabelMap
) -> dict[int, str]:
    """Return a colour for each value, all distinct and none black.

    A colour-coded class keeps its own, and an index that of its palette, unless it is near black
    or taken.
    """
    own: dict[int, int] = {}
    if plain.colour_coded:
        own = {value: value for value in values}
    else:
        for scanned in labelled:
            if scanned.label is not None:
                own |= scanned.label.palette
    free = iter(_distinct(set(own.values())))
    shown: dict[int, str] = {}
    for value in values:
        code = own.get(value)
        fits = code is not None and max(code >> 16, code >> 8 & 255, code & 255) >= _DARKEST
        colour = f"#{code:06X}" if fits else ""
        if not colour or colour in shown.values():
            colour = _BACKGROUND if value == 0 and _BACKGROUND not in shown.values() else next(free)
        shown[value] = colour
    return shown


def _distinct(taken: set[int]) -> list[str]:
    """Return colours enough for any map, the most different first."""
    more = [
        "#{:02X}{:02X}{:02X}".format(
            *(
                round(255 * each)
                for each in colorsys.hls_to_rgb(k * 0.618 % 1, 0.35 + 0.3 * (k % 2), 0.7)
            )
        )
        for k in range(4 * _MOST)
    ]
    used = {f"#{code:06X}" for code in taken} | {_BACKGROUND}
    return [each for each in dict.fromkeys((*COLOURS, *more)) if each not in used]


def _images_with(labelled: Sequence[ScannedImage], value: int) -> int:
    return sum(p.label is not None and value in p.label.counts for p in labelled)


def _questions(
    values: Sequence[int],
    ignored: set[int],
    names: Mapping[int, str],
    known: Mapping[int, str],
    given: Mapping[int, str],
    plain: LabelMap,
    counts: Counter[int],
) -> tuple[str, ...]:
    unsure = []
    unnamed = [value for value in values if value not in known and value not in given]
    if unnamed:
        shown = ", ".join(f"{plain.raw_text(v)} = {names[v]}" for v in unnamed[:8])
        more = ", …" if len(unnamed) > 8 else ""
        unsure.append(
            f"what are the classes called? Nothing in the folder says it: {shown}{more}. Name them "
            f"by --classes {','.join('ABCDEFGH'[: min(len(values), 8)])}, in the order of the "
            "values, or in labels.toml"
        )
    left = sorted(ignored - {value for value, word in given.items() if word in _IGNORE_WORDS})
    if left:
        pixels = sum(counts[value] for value in left) / max(sum(counts.values()), 1)
        shown = ", ".join(map(plain.raw_text, left[:5])) + (", …" if len(left) > 5 else "")
        unsure.append(
            f"do the values {shown} mean 'no label'? They hold {pixels:.2%} of the pixels and are "
            "ignored; if one is a class, name it by --classes"
        )
    return tuple(unsure)
