"""What a person should know of a folder of images: what was passed over, linked, drawn apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._pairing import Pair, passed_over
from terrazzo.data.datasets._split_draw import Draw
from terrazzo.data.datasets._split_folders import split_of
from terrazzo.io.folders import linked_folders
from terrazzo.io.raster_formats import is_raster

_SHOWN = 3  # folders or kinds of files named in one line


def of_folders(images: Path, masks: Path, root: Path, suffixes: Sequence[str]) -> tuple[str, ...]:
    """Return a line for links that are followed, and one for files that are passed over."""
    notes = []
    for folder in dict.fromkeys((images, masks)):
        links = linked_folders(folder, root)
        if links:
            notes.append(
                f"{folder}: {len(links)} symbolic links to folders are followed, "
                f"{_some([Path(link).name for link in links])}"
            )
        others = passed_over(folder, suffixes, root)
        if others:
            notes.append(f"{folder}: {others}")
    return tuple(notes)


def of_draw(names: Sequence[str], draw: Draw) -> tuple[str, ...]:
    """Return lines on folders that a draw takes apart."""
    notes = []
    if len({split_of(name) for name in names} - {None}) > 1:
        notes.append(
            "the sub-folders are named after splits and are drawn anew all the same, as "
            "data.options.split says"
        )
    folders = Counter(name.rpartition("/")[0] for name in names)
    apart = draw.group is None and len(folders) > 1 and max(folders.values()) > 1
    if apart and "" not in folders:  # the expression must fit every name
        notes.append(
            f"each image is drawn by itself, out of {len(folders)} sub-folders "
            f"({_some(sorted(folders))}); where a folder is one patient, tile or film, keep it in "
            "one split with data.options.split.group = '^(.+)/'"
        )
    return tuple(notes)


def of_tiff(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return lines on the first TIFF image and mask: where 0 is white, and files beside them."""
    notes = []
    told = {
        "images": "their samples are inverted",
        "masks": "their numbers are class indices, and are taken as they are stored",
    }
    of_kind = {"images": [p.image for p in pairs], "masks": [p.mask for p in pairs]}
    for kind, files in of_kind.items():
        first = next(filter(is_raster, files), None)
        if first is None:
            continue
        if _white_is_zero(first):
            notes.append(f"TIFF {kind} call 0 white (MinIsWhite): {told[kind]}")
        notes += _unused_beside(first, of_labels=kind == "masks")
    return tuple(notes)


def _white_is_zero(path: Path) -> bool:
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    try:
        return rasters.info(path).white_is_zero
    except DataError:  # told of where the file is read
        return False


def _unused_beside(path: Path, *, of_labels: bool) -> list[str]:
    from terrazzo.io import rasters

    return rasters.unused_side_files(path, of_labels=of_labels)


def _some(names: Sequence[str]) -> str:
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
