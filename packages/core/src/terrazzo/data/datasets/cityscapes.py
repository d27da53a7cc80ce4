"""Cityscapes: street scenes of 50 cities, 2048×1024, finely annotated.

    leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png
    gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png
    leftImg8bit/val/frankfurt/…                      gtFine/val/frankfurt/…
    gtFine/val/frankfurt/…_gtFine_instanceIds.png    where all are there, iIoU is scored as well

The labels of the official test part are not published, so the official val part is the test split
here, and val is drawn from train, whole cities together: nothing is chosen on the images that
are scored at the end. labelTrainIds masks are not in the packages; cityscapesScripts makes them.
Source: Cordts and others, "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR
2016; cityscapes-dataset.com.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from terrazzo.base.config_parsing import Frozen
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets._paired_files import RGB, PairedFiles
from terrazzo.data.datasets._pairing import Pair, pair_up
from terrazzo.data.datasets._split_draw import Draw

LABELS = "cityscapes_19"

_CITY = r"^([^/]+)/"
GROUP = _CITY


class Options(Frozen):
    """Which masks, and what val is."""

    masks: Literal["labelIds", "labelTrainIds"] = "labelIds"
    """labelTrainIds needs the label map ``cityscapes_19_trainids``."""
    split: Draw = Draw(train=0.9, val=0.1, test=0)
    """See `Draw`; a group is a city unless it says otherwise."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""


def instance_file(label_file: Path) -> Path:
    """Return where the instance ids of an image lie, from which iIoU is worked out."""
    stem = label_file.stem.rpartition("_")[0]
    return label_file.with_name(f"{stem}_instanceIds.png")


def open_split(root: Path, split: str, options: Options) -> PairedFiles:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `pair_up` and `_split_draw.divide`.
    """

    def part(name: str) -> tuple[Pair, ...]:
        return pair_up(
            root / "leftImg8bit" / name,
            root / "gtFine" / name,
            image_ending="_leftImg8bit",
            mask_ending=f"_gtFine_{options.masks}",
            root=root,
        )

    chosen = _split_draw.divide(
        split,
        options.split,
        options.split_file,
        training=lambda: part("train"),
        test=lambda: part("val"),
        group=_CITY,
    )
    return PairedFiles(chosen.pairs, RGB, notes=chosen.notes)
