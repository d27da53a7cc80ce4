"""The files below a folder: hidden ones are never data, links are followed inside a root only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from terrazzo.base.errors import DataError

_IMAGE_FOLDER = ".zarr"  # `raster_formats.ZARR_SUFFIX`: thousands of chunks


def walk_files(folder: Path, root: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below `folder`, as a path from there with slashes, and its entries.

    A folder that is one image (``….zarr``) is an entry, and is not looked into.

    Entries are the names of files, and of folders too, sorted; what starts with a dot is left out
    with all that it holds, such as ``.ipynb_checkpoints``. Symbolic links to folders are followed.

    Args:
        folder: where to begin; may itself be a link to anywhere.
        root: links may lead to places below it. None: below `folder`.

    Raises:
        DataError: SEG-D042, a link leads to a folder outside of `root`, or to one it lies in;
            SEG-D013, a folder may not be looked into.
    """
    top = str(folder)
    for parent, folders, files in _walk(top, root):
        lead = parent[len(top) :].strip(os.sep).replace(os.sep, "/")
        entries = sorted(name for name in folders + files if name[0] != ".")
        folders[:] = [name for name in folders if not name.lower().endswith(_IMAGE_FOLDER)]
        yield lead, entries


class State(NamedTuple):
    """What tells whether a file, or a folder that is one image, has changed."""

    size: int
    changed_ns: int


def state_of(path: Path) -> State:
    """Return bytes and time of the last change of a file, or of all files of a folder together.

    Raises:
        OSError: it is not there.
    """
    states = [file.stat() for file in files_of(path)]
    newest = max((each.st_mtime_ns for each in states), default=path.stat().st_mtime_ns)
    return State(sum(each.st_size for each in states), newest)


def files_of(path: Path) -> list[Path]:
    """Return a file itself, or all files of a folder that is one image, sorted."""
    if not path.is_dir():
        return [path]
    return sorted(Path(parent, name) for parent, _, names in os.walk(path) for name in names)


def linked_folders(folder: Path, root: Path | None = None) -> tuple[str, ...]:
    """Return the symbolic links to folders that `walk_files` follows.

    Raises:
        DataError: as `walk_files`.
    """
    return tuple(
        path
        for parent, folders, _ in _walk(str(folder), root)
        for path in (os.path.join(parent, name) for name in folders)  # noqa: PTH118
        if os.path.islink(path)  # noqa: PTH114
    )


def _walk(top: str, root: Path | None) -> Iterator[tuple[str, list[str], list[str]]]:
    # Strings: pathlib takes five times as long, which large folders would feel.
    allowed = {os.path.realpath(top), os.path.realpath(root or top)}
    for parent, folders, files in os.walk(top, onerror=_refuse_closed, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in folders:
            path = os.path.join(parent, name)  # noqa: PTH118
            if os.path.islink(path):  # noqa: PTH114
                _refuse_astray(path, parent, allowed)
        yield parent, folders, files


def _refuse_closed(error: OSError) -> None:
    """Refuse a folder that would be taken for an empty one."""
    if isinstance(error, FileNotFoundError):
        return  # whether it must be there is for others to say
    raise DataError(
        "SEG-D013",
        "cannot look into the folder",
        file=error.filename,
        observed=error.strerror,
        next_step="check that it is a folder and that you may read it",
    )


def _refuse_astray(link: str, parent: str, allowed: set[str]) -> None:
    target = os.path.realpath(link)
    if os.path.commonpath([target, os.path.realpath(parent)]) == target:
        problem = "a symbolic link leads to a folder it lies in, without an end"
    elif not any(os.path.commonpath([target, place]) == place for place in allowed):
        problem = "a symbolic link leads out of the data set"
    else:
        return
    raise DataError(
        "SEG-D042",
        problem,
        file=link,
        observed=target,
        allowed=f"a folder below {', '.join(sorted(allowed))}",
        next_step="name the folder that holds both in data.root, or copy the files here",
    )
