"""Whether two paths are one file, and what a command may not write: asked before it writes.

Links, ``..``, relative paths and, where the file system ignores it, the case of letters are seen
through; paths need not exist yet.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from terrazzo.base.errors import CheckpointError, ConfigError

_Place = tuple[int, int, str]


def is_same(one: Path, other: Path) -> bool:
    """Tell whether two paths are one file or folder, or would be once they are made."""
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return place_of(one) == place_of(other)


def is_inside(path: Path, folder: Path) -> bool:
    """Tell whether a path is a folder or lies in it, by the way it is given or by its links."""
    ways = {Path(os.path.normpath(path.absolute())), path.resolve()}
    return any(is_same(each, folder) for way in ways for each in (way, *way.parents))


def place_of(path: Path) -> _Place:
    """Return what two paths share exactly where writing one would replace the other.

    Two names of one file (links) are two places: a new file takes the place of one of them.
    """
    folder = path.absolute().parent.resolve()
    parts = [path.name or path.resolve().name]
    while not os.path.exists(folder):  # noqa: PTH110 - `exists` raises where a name is too long
        parts.append(folder.name)
        folder = folder.parent
    status = folder.stat()
    name = "/".join(reversed(parts))
    return status.st_dev, status.st_ino, name.casefold() if _ignores_case(folder) else name


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Refuse outputs that would replace an input or one another.

    Raises:
        ConfigError: SEG-X032.
    """
    known = list(inputs)
    files = {status for path in known if (status := _file_number(path)) is not None}
    places = {place_of(path) for path in known}
    taken: set[_Place] = set()
    for path in outputs:
        place = place_of(path)
        if place in places or _file_number(path) in files:
            raise _clash(path, "an input of this command")
        if place in taken:
            raise _clash(path, "another output of this command")
        taken.add(place)


def refuse_existing(outputs: Iterable[Path]) -> None:
    """Refuse outputs that are there already.

    Raises:
        CheckpointError: SEG-C002.
    """
    for path in outputs:
        if os.path.lexists(path):
            raise CheckpointError(
                "SEG-C002",
                "the file exists",
                file=path,
                next_step="--overwrite replaces it, --out takes another place",
            )


def _clash(path: Path, observed: str) -> ConfigError:
    return ConfigError(
        "SEG-X032",
        "a file that would be written would replace an input or another output",
        file=path,
        observed=observed,
        next_step="choose another place with --out",
    )


def _file_number(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _ignores_case(folder: Path) -> bool:
    """Tell whether the file system of a folder that exists takes ``A`` and ``a`` for one name."""
    for each in (folder, *folder.parents):
        other = each.name.swapcase()
        if other != each.name:
            try:
                return each.samefile(each.with_name(other))
            except OSError:
                return False
    return os.name == "nt"
