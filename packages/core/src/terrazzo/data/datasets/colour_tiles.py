"""Tiles with colour masks: any number of folders that hold ``images/`` beside ``masks/``.

    Tile 1/images/image_part_001.jpg     Tile 1/masks/image_part_001.png
    Tile 2/…
or, without tiles,
    images/ufa_001.jpg                   masks/ufa_001.png

Masks are RGB or palette PNG; of a palette the colour is taken, since its order may differ from file
to file. A class table ``name;r;g;b`` may serve as label map: ``data.labels = "class_dict.csv"``.
There are no official splits: whole tiles are drawn.
Source: the Dubai set of Humans in the Loop with MBRSC, "Semantic segmentation of aerial imagery"
(CC0), and sets in its layout.
"""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import DataError
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets._paired_files import PairedFiles, band_names_of
from terrazzo.data.datasets._pairing import Pair, pair_up_below
from terrazzo.data.datasets._split_draw import Draw

LABELS = "dubai_6"

_TILE = r"^(.+?)(?:/[^/]+)?$"  # the folder in a name, or the whole name where there is none
GROUP = _TILE


class Options(Frozen):
    """What the folders are called, and how the tiles are divided."""

    images: str = "images"
    """Name of the folders of images."""
    masks: str = "masks"
    """Name of the folders of masks, beside them."""
    split: Draw = Draw(train=0.85, val=0.075, test=0.075)
    """See `Draw`; a group is a tile, or an image where there are no tiles."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""


def open_split(root: Path, split: str, options: Options) -> PairedFiles:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `pair_up` and `_split_draw.divide`; SEG-D013 there is no folder of images.
    """
    pairs = _all_pairs(root, options)
    chosen = _split_draw.divide(
        split, options.split, options.split_file, training=lambda: pairs, group=_TILE
    )
    band_names = band_names_of([pair.image for pair in pairs])
    return PairedFiles(chosen.pairs, band_names, "colour", chosen.notes)


def _all_pairs(root: Path, options: Options) -> tuple[Pair, ...]:
    tiles = sorted(
        found.parent
        for found in root.rglob(options.images)
        if found.is_dir() and not any(part[0] == "." for part in found.relative_to(root).parts)
    )
    if not tiles:
        raise DataError(
            "SEG-D013",
            "no folder of images",
            file=root,
            observed=f"nothing called {options.images!r}" if root.is_dir() else "no such folder",
            allowed=f"folders {options.images}/ beside {options.masks}/, at any depth",
            next_step="check data.root, data.options.images and data.options.masks",
        )
    folders = {
        "" if tile == root else tile.relative_to(root).as_posix(): (
            tile / options.images,
            tile / options.masks,
        )
        for tile in tiles
    }
    return pair_up_below(root, folders)
