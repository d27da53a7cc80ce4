"""How the files of a folder are laid out: the detectors, in the order in which they are asked.

A detector is a function from a `Tree` to a `Layout`, or to None where it sees nothing of its kind.
One that knows the folder and lacks an answer raises a DataError that asks for it. A new data-set
format joins by a detector in `DETECTORS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from terrazzo.base.errors import DataError
from terrazzo.data.datasets import _pair_hints as pair_hints
from terrazzo.data.datasets._split_folders import split_of
from terrazzo.io import images
from terrazzo.io.folders import walk_files
from terrazzo.io.raster_formats import RASTER_SUFFIXES, is_folder_raster
from terrazzo.workflows.init import folder_words

SUFFIXES = (*images.IMAGE_SUFFIXES, *RASTER_SUFFIXES)
"""Of images and masks that are read."""

_SHOWN = 8  # folders named in one message


@dataclass(frozen=True, eq=False)
class Tree:
    """The files below a folder.

    Attributes:
        root: the folder.
        files: names of all files by the folder they lie in, as a path with slashes below `root`.
    """

    root: Path
    files: Mapping[str, tuple[str, ...]]

    @property
    def pictures(self) -> dict[str, tuple[str, ...]]:
        """Names of files that are read as images or masks, by folder."""
        found = {
            lead: tuple(name for name in names if name.lower().endswith(SUFFIXES))
            for lead, names in self.files.items()
        }
        return {lead: names for lead, names in found.items() if names}

    def below(self, lead: str) -> Tree:
        """Return the part of the tree below a folder."""
        inside = {
            "" if each == lead else each.removeprefix(f"{lead}/"): names
            for each, names in self.files.items()
            if each == lead or each.startswith(f"{lead}/")
        }
        return Tree(self.root / lead, inside)

    def described(self) -> str:
        """Return what lies where, in a line, for messages."""
        told = [f"{lead or '.'}: {_kinds(names)}" for lead, names in self.files.items() if names]
        more = f"; and {len(told) - _SHOWN} more folders" if len(told) > _SHOWN else ""
        return "; ".join(told[:_SHOWN]) + more or "no file"


@dataclass(frozen=True)
class Layout:
    """How a folder is to be read.

    Attributes:
        root: the folder that becomes ``data.root``.
        format: of the data set.
        options: of the format.
        reasons: why, by key: ``format``, ``root`` and names of options.
        unsure: questions to the person, each with the answer that was taken and how to change it.
        names: of raw values, where the files say them.
        labels: name of a label map that the format brings.
    """

    root: Path
    format: str
    options: dict[str, Any]
    reasons: dict[str, str]
    unsure: tuple[str, ...] = ()
    names: dict[int, str] = field(default_factory=dict)
    labels: str | None = None


Detector = Callable[[Tree], Layout | None]


def look(root: Path) -> Tree:
    """List the files of a folder.

    Raises:
        DataError: SEG-D013, there is no such folder; SEG-D042, a link leads out of it.
    """
    if not root.is_dir():
        raise DataError(
            "SEG-D013",
            "not a folder" if root.exists() else "no such folder",
            file=root,
            next_step="name the folder that holds the images and their masks",
        )
    files = {
        lead: tuple(
            name
            for path, name in ((root / lead / name, name) for name in names)
            if not path.is_dir() or is_folder_raster(path)
        )
        for lead, names in walk_files(root)
    }
    return Tree(root, files)


def find_layout(root: Path, detectors: tuple[Detector, ...]) -> Layout:
    """Ask the detectors in turn; the first that knows the folder answers.

    Raises:
        DataError: SEG-D120, none knows it; as the detectors.
    """
    tree = look(root)
    unpacked = _unpacked(tree)
    parts = (tree, unpacked) if _num_tables(unpacked) < _num_tables(tree) else (unpacked, tree)
    for part in dict.fromkeys(parts):
        for detect in detectors:
            layout = detect(part)
            if layout is not None:
                return layout
    raise DataError(
        "SEG-D120",
        "no images with masks are recognised in this folder",
        file=root,
        observed=tree.described(),
        allowed="images (PNG, JPEG, BMP, GIF, WebP, GeoTIFF) beside masks (PNG, BMP, GIF, GeoTIFF) "
        "of the same names, in folders such as images/ and masks/; or a GeoTIFF with a label "
        "raster or polygons",
        next_step="which folders hold them? Say so by --set data.options.images=FOLDER --set "
        "data.options.masks=FOLDER" + _unread(tree),
    )


def _num_tables(tree: Tree) -> int:
    """Return the number of files that may hold the labels of images elsewhere."""
    return sum(
        name.lower().endswith((".json", ".xml", ".geojson"))
        for names in tree.files.values()
        for name in names
    )


def _unpacked(tree: Tree) -> Tree:
    """Return the part of a tree that holds all: archives often unpack to a folder in a folder."""
    while True:
        tops = {lead.partition("/")[0] for lead in tree.pictures}
        if len(tops) != 1 or "" in tops:
            return tree
        top = tops.pop()
        if folder_words.role_of(top) is not None and any(
            lead == top or len(tree.pictures) == 1 for lead in tree.pictures
        ):
            return tree
        if split_of(f"{top}/") is not None:
            return tree
        tree = tree.below(top)


def _kinds(names: tuple[str, ...]) -> str:
    kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in names)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _unread(tree: Tree) -> str:
    """Return a hint at files that no format reads."""
    names = [name for several in tree.files.values() for name in several]
    hint = pair_hints.of_unread(names, SUFFIXES)
    return f"; {hint}" if hint else ""
