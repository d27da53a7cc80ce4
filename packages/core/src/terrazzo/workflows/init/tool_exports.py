"""What labelling tools export, recognised by its files, whether a format reads it or not."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path, PurePosixPath

from terrazzo.base.errors import DataError
from terrazzo.workflows.init.layout import Layout, Tree

_LARGEST = 1 << 30  # bytes of a file that is looked at
_OF_A_FOLDER, _LOOKED_AT = 8, 80  # files
_MARKS: dict[str, tuple[tuple[bytes, ...], ...]] = {
    # Words that all occur in the file, by format; names with a space are those of no format.
    "labelme": ((b'"shapes"', b'"imagePath"'),),
    "coco": ((b'"annotations"', b'"images"', b'"categories"'),),
    "cvat": ((b"<annotations>", b"<image "), (b"<annotations>", b"<track ")),
    "label_studio": (
        (b'"annotations"', b'"from_name"'),
        (b'"annotations"', b'"brushlabels"'),
        (b'"annotations"', b'"polygonlabels"'),
    ),
    "cityscapes_polygons": ((b'"imgHeight"', b'"objects"'),),
    "qupath": ((b'"geometry"', b'"objectType"'),),
    "supervisely": ((b'"classTitle"', b'"objects"'), (b'"objects"', b'"size"', b'"height"')),
    "darwin": ((b'"item"', b'"slots"', b'"annotations"'),),
    "Darwin JSON 1": ((b'"annotations"', b'"bounding_box"', b'"polygon"'),),
}
_SUFFIXES = (".json", ".xml", ".geojson", ".roi", ".zip")


def detect(tree: Tree) -> Layout | None:
    """Refuse an export that no format reads by its tool, where there are no masks beside it.

    Raises:
        DataError: SEG-D122.
    """
    for path, tool in tools(tree).items():
        if " " in tool:
            raise DataError(
                "SEG-D122",
                f"the labels are an export of a labelling tool that is not read: {tool}",
                file=tree.root / path,
                allowed="masks as images, PNG or GeoTIFF; files of labelling tools that `terrazzo "
                "list datasets` names",
                next_step="can the labels be exported as COCO, or as masks in PNG images?",
            )
    return None


def tools(tree: Tree) -> dict[str, str]:
    """Return the format of each file that is one of a labelling tool, or the tool's name.

    The first file of each folder is looked at, and some more.
    """
    of_folders = [
        [
            f"{lead}/{name}" if lead else name
            for name in names
            if PurePosixPath(name).suffix.lower() in _SUFFIXES
        ]
        for lead, names in tree.files.items()
    ]
    more = itertools.chain.from_iterable(paths[1:_OF_A_FOLDER] for paths in of_folders)
    looked_at = {path for paths in of_folders for path in paths[:1]}
    looked_at |= set(itertools.islice(more, _LOOKED_AT))
    found = {}
    for path in sorted(looked_at):
        tool = _tool_of(tree.root / path)
        if tool is not None:
            found[path] = tool
    return found


def _tool_of(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in (".roi", ".zip"):
        return "imagej_roi" if suffix == ".roi" or _holds_rois(path) else None
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    for tool, ways in _MARKS.items():
        if any(all(word in content for word in words) for words in ways):
            return tool
    return None


def _holds_rois(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.lower().endswith(".roi") for name in names)
