"""A label map that would fit: what a person would write after reading the report."""

from __future__ import annotations

import colorsys
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import tomli_w

from terrazzo.base import printable
from terrazzo.check import instance_masks, label_values
from terrazzo.check.instance_masks import NumberedObjects
from terrazzo.check.label_values import Cause
from terrazzo.check.scan import Survey
from terrazzo.data.datasets._annotated_images import OfShapes
from terrazzo.data.datasets._shape_options import as_toml
from terrazzo.data.labels import MAX_NAME, LabelClass, LabelMap
from terrazzo.data.sample import IGNORE
from terrazzo.io.raster_formats import is_raster

_RARE = 0.001  # share of the pixels below which a new value is rather noise than a class
_MOST = 64  # more new values than this are no classes
_BACKGROUND = "#BAB0AC"
_DARKEST = 60  # a colour whose brightest channel is below is not told from black
_HUES = ("#4E79A7", "#F28E2B", "#E15759", "#76B7B2", "#59A14F", "#EDC948", "#B07AA1", "#9C755F")
_MOST_FILES = 64  # label rasters that are asked for names and colours
_NO_CLASS = {
    "no data",
    "nodata",
    "no_data",
    "unclassified",
    "undefined",
    "unlabelled",
    "unlabeled",
    "ignore",
    "void",
}
"""Names of values that are no class, in lower case."""


@dataclass(frozen=True)
class _Told:
    """What label files say of their values.

    Attributes:
        names: by value.
        colours: ``#RRGGBB`` by value.
        source: the first file that says anything; empty: none does.
    """

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, str] = field(default_factory=dict)
    source: str = ""

    def is_no_class(self, value: int) -> bool:
        return self.names.get(value, "").casefold() in _NO_CLASS

    def named(self, value: int, otherwise: str, others: Mapping[str, int]) -> str:
        """Return the name of a class; with its value where another one has that name too."""
        name = self.names.get(value, "")
        if not name or self.is_no_class(value):
            return otherwise
        return f"{name} ({value})" if others[name] > 1 else name


def propose(survey: Survey, objects: NumberedObjects | None = None) -> str | None:
    """Return the TOML of a label map that knows every raw value; None where the map in use does.

    Nothing is proposed for mixtures of colours, or for values that only arithmetic explains: there
    the masks are to be made again.

    Args:
        survey: what was seen.
        objects: what the values number, where they are no classes.
    """
    if objects is not None:
        if not instance_masks.takes_instances(survey.data.format):
            return None
        found = tomli_w.dumps(instance_masks.label_map().as_toml())
        return f"# recipe: data.options.{instance_masks.OPTION}\n{found}"
    label_map = survey.label_map
    of_shapes = [s for s in survey.sources.values() if isinstance(s, OfShapes)]
    if label_map is None and of_shapes:
        return _of_names(of_shapes)
    labels = [p.label for p in survey.scanned_images if p.label is not None]
    if label_map is None:
        colours = Counter(label.colours for label in labels).most_common(1)
        if not colours:
            return None
        label_map = LabelMap("my_classes", (), colour_coded=colours[0][0])
    counts: Counter[int] = Counter()
    causes: Counter[Cause] = Counter()
    known = label_values.known_values(label_map)
    for label in labels:
        if label.colours == label_map.colour_coded:
            counts.update(label.counts)
            if label.counts.keys() - known.all:
                causes[label_values.diagnose(label.counts, label_map)] += 1
    told = _told(survey)
    fitting = _fit(label_map, counts, causes, told)
    if fitting is None:
        return None
    text = tomli_w.dumps(_visible(fitting, kept=len(label_map)).as_toml())
    if len(label_map) == 0 and not told.names and "background" in fitting.names:
        return f"# nothing says what the values mean: 0 is called background as it is usual\n{text}"
    return text


def _visible(label_map: LabelMap, *, kept: int) -> LabelMap:
    """Give classes colours that are told from each other and from black, which means ignored.

    Args:
        label_map: proposed.
        kept: classes at its beginning that a person has given colours.
    """
    taken = {each.colour.lower() for each in label_map.classes[:kept]}
    classes = list(label_map.classes[:kept])
    free = (colour for colour in map(_distinct, itertools.count()) if colour.lower() not in taken)
    own = {each.colour.lower() for each in label_map.classes}
    for each in label_map.classes[kept:]:
        colour = each.colour
        if colour.lower() in taken or max(bytes.fromhex(colour[1:])) < _DARKEST:
            colour = _BACKGROUND if each.raw == (0,) and _BACKGROUND.lower() not in taken else ""
            colour = colour or next(c for c in free if c.lower() not in own | taken)
        taken.add(colour.lower())
        classes.append(replace(each, colour=colour))
    return replace(label_map, classes=tuple(classes))


def _of_names(sources: Sequence[OfShapes]) -> str:
    """Return the classes that the files of a labelling tool name, after the background."""
    names = tuple(dict.fromkeys(name for source in sources for name in source.class_names))
    background = next(n for n in ("background", "no shape", "rest", "_") if n not in names)
    found = [
        LabelClass(name, _distinct(number), (number + 1,)) for number, name in enumerate(names)
    ]
    classes = (LabelClass(background, _BACKGROUND, (0,)), *found)
    ignored = max(source.ignored for source in sources)
    label_map = LabelMap("my_classes", classes, (ignored,))
    # The raw values are those of this list, which the recipe has to hold.
    return f"# recipe: data.options.{as_toml(names)}\n{tomli_w.dumps(label_map.as_toml())}"


def _distinct(number: int) -> str:
    """Return a colour of its own for each class; hues come round by the golden section."""
    if number < len(_HUES):
        return _HUES[number]
    rgb = colorsys.hls_to_rgb(number * 0.618034 % 1, 0.4 + 0.1 * (number % 4), 0.6)
    return "#" + "".join(f"{round(255 * level):02X}" for level in rgb)


def _told(survey: Survey) -> _Told:
    """Ask the label rasters of a data set, and the files beside them, for names and colours."""
    told = _Told()
    files = dict.fromkeys(
        scanned.files[-1] for scanned in survey.scanned_images if is_raster(scanned.files[-1])
    )
    if not files:
        return told
    from terrazzo.io import rasters  # GDAL only where there are GeoTIFF files

    for file in list(files)[:_MOST_FILES]:
        found = rasters.stored_classes(file)
        for value, each in found.items():
            if each.name:
                name = printable.shortened(printable.one_line(each.name), MAX_NAME - 10)
                told.names.setdefault(value, name)
            if each.colour is not None:
                told.colours.setdefault(value, f"#{each.colour:06X}")
        if found and not told.source:
            told = replace(told, source=f"names and colours as in {file}")
    return told


def _fit(
    label_map: LabelMap, counts: Counter[int], causes: Counter[Cause], told: _Told
) -> LabelMap | None:
    fits = counts.keys() <= label_values.known_values(label_map).of_classes
    is_binary = counts.keys() == {0, IGNORE} and not label_map.colour_coded
    if is_binary and len(label_map) in (0, 2) and not fits:
        return _binary(label_map, told)
    if not causes:
        return _mapped(label_map) if label_values.is_mapped_silently(counts, label_map) else None
    match causes.most_common(1)[0][0]:
        case Cause.SHIFTED_UP:
            return _shifted(label_map, 1, counts)
        case Cause.SHIFTED_DOWN:
            return _shifted(label_map, -1, counts)
        case Cause.MAPPED:
            return _mapped(label_map)
        case Cause.UNKNOWN | Cause.BINARY:
            return _extended(label_map, counts, told)
        case Cause.BLENDED | Cause.WRAPPED | Cause.CLIPPED:
            return None


def _binary(label_map: LabelMap, told: _Told) -> LabelMap:
    usual = {0: ("background", _BACKGROUND), IGNORE: ("foreground", _HUES[0])}
    known = label_map.names or [told.names.get(raw, name) for raw, (name, _) in usual.items()]
    if len(set(known)) < len(known):
        known = [name for name, _ in usual.values()]
    colours = [each.colour for each in label_map.classes] or [
        told.colours.get(raw, colour) for raw, (_, colour) in usual.items()
    ]
    classes = tuple(
        LabelClass(name, colour, (raw,))
        for name, colour, raw in zip(known, colours, (0, IGNORE), strict=True)
    )
    return replace(label_map, classes=classes, ignored=())


def _shifted(label_map: LabelMap, step: int, counts: Counter[int]) -> LabelMap:
    classes = tuple(replace(c, raw=tuple(r + step for r in c.raw)) for c in label_map.classes)
    taken = {raw for each in classes for raw in each.raw}
    moved = {value + step for value in label_map.ignored if value != IGNORE} | {IGNORE}
    ignored = (moved | counts.keys()) - taken
    return replace(label_map, classes=classes, ignored=tuple(sorted(v for v in ignored if v >= 0)))


def _mapped(label_map: LabelMap) -> LabelMap:
    classes = tuple(replace(each, raw=(k,)) for k, each in enumerate(label_map.classes))
    return replace(label_map, classes=classes, ignored=(label_map.ignore_index,))


def _extended(label_map: LabelMap, counts: Counter[int], told: _Told) -> LabelMap | None:
    """Add a class for every new value that is frequent or has a name, and ignore the others."""
    known = label_values.known_values(label_map).all
    strays = sorted(counts.keys() - known)
    named = {value for value in strays if value in told.names}
    if len(strays) - len(named) > _MOST:
        return None
    total = sum(counts.values())
    void = IGNORE if not label_map.colour_coded and len(counts) > 2 else None
    rare = {
        v
        for v in strays
        if told.is_no_class(v) or (v not in named and (v == void or counts[v] < _RARE * total))
    }
    classes = [v for v in strays if v not in rare]
    times = Counter([*label_map.names, *(told.names.get(v, "") for v in classes)])
    added = tuple(
        LabelClass(
            told.named(value, f"value_{label_map.raw_text(value).removeprefix('#')}", times),
            label_map.raw_text(value)
            if label_map.colour_coded
            else told.colours.get(value, _HUES[n % len(_HUES)]),
            (value,),
        )
        for n, value in enumerate(classes)
    )
    ignored = tuple(sorted({*label_map.ignored, *rare}))
    source = label_map.source or told.source
    return replace(label_map, classes=label_map.classes + added, ignored=ignored, source=source)
