"""What the pixels of masks stand for: numbers, colours, or something that is no mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from terrazzo.base.errors import DataError
from terrazzo.io import images
from terrazzo.io.header_types import Colour
from terrazzo.io.raster_formats import is_raster
from terrazzo.workflows.init.layout import Tree
from terrazzo.workflows.init.name_matching import Match

_LOOKED_AT = 8  # files that are decoded
_MOST_VALUES = 80  # more than this in a small sample are no classes
_KINDS = {Colour.GREY: "index", Colour.GREY_ALPHA: "index", Colour.PALETTE: "palette"}
_GREY_IN_JPEG = 0.97  # share of pixels at either end in a binary mask that was saved as JPEG


@dataclass(frozen=True)
class MaskKind:
    """How masks are read.

    Attributes:
        values: as the option ``mask_kind``.
        reason: why.
        is_lossy: binary, and blurred along the edges.
    """

    values: Literal["index", "colour"]
    reason: str = ""
    is_lossy: bool = False


def are_masks(tree: Tree, found: Match) -> bool:
    """Tell whether files are masks by their content: a few values each."""
    some = [tree.root / mask for _, mask in found.pairs.values()]
    return all(_has_few_values(path) for path in some[:: max(1, len(some) // 3)][:3])


def of(tree: Tree, found: Match) -> MaskKind:
    """Look at the headers of all masks and at the pixels of some."""
    files = [tree.root / mask for _, mask in found.pairs.values()]
    kinds = {_kind(path) for path in files}
    if kinds == {"jpeg"}:
        return MaskKind("index", is_lossy=True)
    if "colour" in kinds:
        return MaskKind("colour", "the masks are pictures in colours, and each colour is a class")
    palettes = [path for path in files if _kind(path) == "palette"] if "palette" in kinds else []
    if palettes and _palettes_differ(palettes):
        return MaskKind("colour", "the palettes of the masks differ: colours count, not numbers")
    return MaskKind("index")


def _has_few_values(path: Path) -> bool:
    if is_raster(path):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        try:
            info = rasters.info(path)
        except DataError:
            return True  # the survey says what is wrong with it
        return np.dtype(info.stored_dtype).kind in "iu"
    try:
        pixels_HWC = images.read_image(path)
    except DataError:
        return True
    codes = pixels_HWC.reshape(-1, pixels_HWC.shape[2]).astype(np.int64) @ (
        1 << (16 * np.arange(pixels_HWC.shape[2]))
    )
    values, counts = np.unique(codes, return_counts=True)
    if len(values) <= _MOST_VALUES:
        return True
    # Blurred edges leave many values on few pixels; a photograph has none that is so common.
    return bool(np.sort(counts)[::-1][:2].sum() > 0.5 * counts.sum()) or len(values) < 0.01 * len(
        codes
    )


def _kind(path: Path) -> str:
    """Return index, colour, palette or jpeg by the header."""
    if is_raster(path):
        return _kind_of_raster(path)
    try:
        header = images.header_of(path)
    except DataError:
        return "index"  # the survey says what is wrong with it
    if header is None:
        return "index"
    # WebP with losses is in colours that are no longer alike; its reader says so.
    return "jpeg" if header.content == "JPEG" else _KINDS.get(header.colour, "colour")


def _kind_of_raster(path: Path) -> str:
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    try:
        return "colour" if len(rasters.info(path).band_names) == 3 else "index"
    except DataError:
        return "index"


def _palettes_differ(files: list[Path]) -> bool:
    """Tell whether a number that occurs stands for two colours in two files."""
    meant: dict[int, tuple[int, ...]] = {}
    for path in files:
        try:
            values = np.unique(images.read_label(path, "index")).tolist()
            palette_PC = images.palette(path.read_bytes())
        except (DataError, OSError):
            continue
        for value in values:
            if palette_PC is not None and value < len(palette_PC):
                colour = tuple(palette_PC[value].tolist())
                if meant.setdefault(value, colour) != colour:
                    return True
    return False
