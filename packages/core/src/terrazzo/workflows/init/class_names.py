"""Names of classes in a small file beside the images: classes.txt, classes.json, labels.txt.

A file is used where every line of it is plain; what may be something else is left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from terrazzo.workflows.init.layout import Tree

_STEMS = frozenset(
    [
        *("classes", "class_names", "classnames", "labels", "label_names", "labelmap", "names"),
        *("obj", "codes", "label_colors", "label_colours"),
    ]
)
_SUFFIXES = (".txt", ".json", ".names")
_LARGEST = 1 << 16  # bytes of a file that is looked at
_MOST = 255  # classes
_NUMBERED = re.compile(r"(\d{1,5})\s*[:=,;\t ]\s*(\S.*)")
_COLOUR_FIRST = re.compile(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,:]+(\S.*)")
_COLOUR_LAST = re.compile(r"([^:#]+):(\d{1,3}),(\d{1,3}),(\d{1,3})(?::.*)?")


@dataclass(frozen=True)
class ClassNames:
    """What a file says of the classes.

    Attributes:
        file: below the root.
        by_value: names by the values of masks; empty where the file has none.
        by_colour: names by 0xRRGGBB; likewise.
        in_order: names without values, from the first on; likewise.
    """

    file: str
    by_value: Mapping[int, str]
    by_colour: Mapping[int, str]
    in_order: tuple[str, ...]


def beside(tree: Tree) -> ClassNames | None:
    """Return the names of the first file that plainly holds some, the nearest to the root first."""
    files = [
        f"{lead}/{name}" if lead else name
        for lead, names in tree.files.items()
        for name in names
        if PurePosixPath(name).suffix.lower() in _SUFFIXES
        and PurePosixPath(name).stem.lower() in _STEMS
    ]
    for file in sorted(files, key=lambda each: (each.count("/"), each)):
        path = tree.root / file
        try:
            text = path.read_text("utf-8-sig") if path.stat().st_size <= _LARGEST else ""
        except (OSError, UnicodeDecodeError):
            continue
        found = _of_json(file, text) if file.lower().endswith(".json") else _of_text(file, text)
        if found is not None:
            return found
    return None


def of_values(
    found: ClassNames, values: Sequence[int], *, colour_coded: bool
) -> tuple[dict[int, str], str]:
    """Return the names of the values that masks hold, and what to ask about them.

    Args:
        found: what a file says.
        values: that are classes, sorted.
        colour_coded: whether they are colours.
    """
    if colour_coded or found.by_value:
        told = found.by_colour if colour_coded else found.by_value
        names = {value: told[value] for value in values if value in told}
        return names, ""
    count = len(found.in_order)
    if not count:
        return {}, ""
    if values[-1] < count:
        names = {value: found.in_order[value] for value in values}
        shown = ", ".join(f"{value} = {name}" for value, name in list(names.items())[:4])
        more = ", …" if len(names) > 4 else ""
        return names, f"does {found.file} begin with the name of 0? It is read so: {shown}{more}"
    if len(values) == count:
        names = dict(zip(values, found.in_order, strict=True))
        shown = ", ".join(f"{value} = {name}" for value, name in list(names.items())[:4])
        return names, (
            f"are the names in {found.file} in the order of the values? They are read so: {shown}"
            + (", …" if count > 4 else "")
        )
    return {}, (
        f"which names of {found.file} go with which values? It holds {count}, the masks hold "
        f"{len(values)} values: name them by --classes NAME=VALUE,…"
    )


def _of_text(file: str, text: str) -> ClassNames | None:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not 1 < len(lines) <= _MOST:
        return None
    colours = [_colour_of(line) for line in lines]
    if all(each is not None for each in colours):
        return _made(file, by_colour=[each for each in colours if each is not None])
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered):
        return _made(file, by_value=[(int(m[1]), m[2].strip("\"' ,")) for m in numbered if m])
    if any(numbered) or any(len(line) > 60 or "/" in line or "." in line for line in lines):
        return None  # a list of files, or prose
    return _made(file, in_order=[line.strip("\"',") for line in lines])


def _colour_of(line: str) -> tuple[int, str] | None:
    first, last = _COLOUR_FIRST.fullmatch(line), _COLOUR_LAST.fullmatch(line)
    if first is not None:
        parts, name = (first[1], first[2], first[3]), first[4]
    elif last is not None:
        parts, name = (last[2], last[3], last[4]), last[1]
    else:
        return None
    red, green, blue = map(int, parts)
    return (red << 16 | green << 8 | blue, name.strip()) if max(red, green, blue) < 256 else None


def _of_json(file: str, text: str) -> ClassNames | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, Mapping) and isinstance(value.get("classes"), list | Mapping):
        value = value["classes"]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value.values()):
        pairs = [(key, name) for key, name in value.items() if key.isdecimal()]
        return _made(file, by_value=[(int(k), n) for k, n in pairs]) if len(pairs) > 1 else None
    if isinstance(value, Mapping) and all(type(number) is int for number in value.values()):
        return _made(file, by_value=[(number, name) for name, number in value.items()])
    if not isinstance(value, list):
        return None
    if all(isinstance(each, str) for each in value):
        return _made(file, in_order=value)
    entries = [_entry(each) for each in value if isinstance(each, Mapping)]
    if len(entries) == len(value) and all(each is not None for each in entries):
        return _made(file, by_value=[each for each in entries if each is not None])
    return None


def _entry(table: Mapping[str, Any]) -> tuple[int, str] | None:
    number = next((table[key] for key in ("value", "id") if type(table.get(key)) is int), None)
    name = table.get("name")
    return (number, name) if number is not None and isinstance(name, str) else None


def _made(
    file: str,
    by_value: Sequence[tuple[int, str]] = (),
    by_colour: Sequence[tuple[int, str]] = (),
    in_order: Sequence[str] = (),
) -> ClassNames | None:
    """Return the names, unless one is empty or something is named twice."""
    pairs = [*by_value, *by_colour, *enumerate(in_order)]
    names = [name.strip() for _, name in pairs]
    if not 1 < len(pairs) <= _MOST or not all(names):
        return None
    if len({value for value, _ in pairs}) < len(pairs) or len(set(names)) < len(names):
        return None
    return ClassNames(file, dict(by_value), dict(by_colour), tuple(in_order))
