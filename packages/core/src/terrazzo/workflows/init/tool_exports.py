"""What labelling tools export, recognised by its files, so that it is not taken for nothing.

The data-set formats that read such exports take the place of these refusals: a detector that
returns their `Layout` goes before `detect`.
"""

from __future__ import annotations

import itertools
from pathlib import Path, PurePosixPath

from terrazzo.base.errors import DataError
from terrazzo.workflows.init.layout import Layout, Tree

_HEAD = 65_536  # bytes that are looked at
_LOOKED_AT = 20  # files
_MARKS: dict[str, tuple[tuple[str, ...], ...]] = {
    # Words that all occur at the beginning of the file, by tool.
    "labelme": (('"shapes"', '"imagePath"'),),
    "COCO": (('"annotations"', '"images"', '"categories"'), ('"categories"', '"supercategory"')),
    "CVAT for images": (("<annotations>", "<image "),),
    "Label Studio": (('"annotations"', '"from_name"'), ('"brushlabels"',), ('"polygonlabels"',)),
    "Cityscapes polygons": (('"imgHeight"', '"objects"'),),
    "QuPath GeoJSON": (('"FeatureCollection"', '"objectType"'),),
    "Supervisely": (('"classTitle"', '"objects"'),),
    "Darwin": (('"annotations"', '"bounding_box"', '"polygon"'),),
}
_SUFFIXES = (".json", ".xml", ".geojson", ".roi")


def detect(tree: Tree) -> Layout | None:
    """Refuse the export of a labelling tool by its name, where there are no masks beside it.

    Raises:
        DataError: SEG-D122.
    """
    candidates = (
        tree.root / lead / name
        for lead, names in tree.files.items()
        for name in names
        if PurePosixPath(name).suffix.lower() in _SUFFIXES
    )
    for path in itertools.islice(candidates, _LOOKED_AT):
        tool = "ImageJ ROI" if path.suffix.lower() == ".roi" else _tool_of(path)
        if tool is not None:
            raise DataError(
                "SEG-D122",
                f"the labels are an export of a labelling tool: {tool}",
                file=path,
                allowed="masks as images, PNG or GeoTIFF; `terrazzo list datasets` has the formats",
                next_step="if a format of `terrazzo list datasets` reads this export, write a "
                "recipe that names it; else export masks as PNG images from the tool",
            )
    return None


def _tool_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return None
    for tool, ways in _MARKS.items():
        if any(all(word in head for word in words) for words in ways):
            return tool
    return None
