"""GTA5, "Playing for Data": 24,966 frames of a computer game, 1914×1052, labelled as Cityscapes.

    images/00001.png … images/24966.png
    labels/00001.png …                   palette PNG: the index is the Cityscapes id

Frames follow one another, so a draw keeps a hundred consecutive numbers together. 63 label files
are of no use and are left out: 60 differ in size from their image, one is white, one is black and
one holds a single class.
Source: Richter, Vineet, Roth, Koltun, "Playing for Data: Ground Truth from Computer Games", ECCV
2016; download.visinf.tu-darmstadt.de/data/from_games. The unusable files: what users of the set
have reported, see `UNUSABLE`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from terrazzo.base.config_parsing import Frozen
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets._paired_files import RGB, PairedFiles
from terrazzo.data.datasets._pairing import pair_up
from terrazzo.data.datasets._split_draw import Draw

LABELS = "gta5_19"

UNUSABLE = frozenset(f"{number:05d}" for number in (15188, 15617, 17705, *range(20801, 20861)))
"""15188 is all white, 17705 all black, 15617 has one class; the others have another size than
their image."""

_HUNDRED_FRAMES = r"^(\d+)\d\d$"
GROUP = _HUNDRED_FRAMES


class Options(Frozen):
    """How masks are read, and how the frames are divided."""

    mask_kind: Literal["index", "colour"] = "index"
    """index: the palette index. colour: for masks saved as RGB, with the label map
    ``gta5_19_colours``; the colours cannot tell some ids apart, see there."""
    skip_unusable: bool = True
    """Leave out the files of `UNUSABLE`."""
    split: Draw = Draw(train=0.85, val=0.075, test=0.075)
    """See `Draw`; a group is a hundred consecutive frames unless it says otherwise."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""


def open_split(root: Path, split: str, options: Options) -> PairedFiles:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `pair_up` and `_split_draw.divide`.
    """
    pairs = pair_up(root / "images", root / "labels", root=root)
    usable = tuple(p for p in pairs if not (options.skip_unusable and p.name in UNUSABLE))
    chosen = _split_draw.divide(
        split,
        options.split,
        options.split_file,
        training=lambda: usable,
        group=_HUNDRED_FRAMES,
    )
    skipped = len(pairs) - len(usable)
    note = f"gta5: {skipped} images with unusable labels are left out (skip_unusable)"
    notes = (note,) if skipped else ()
    return PairedFiles(chosen.pairs, RGB, options.mask_kind, notes + chosen.notes)
