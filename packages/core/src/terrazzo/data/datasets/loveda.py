"""LoveDA: aerial images of urban and rural China, 1024×1024, 0.3 m.

    Train/Urban/images_png/1366.png     Train/Urban/masks_png/1366.png
    Train/Rural/…                       Val/Urban/…           Val/Rural/…

Masks hold 0 no data, 1 background, 2 building, 3 road, 4 water, 5 barren, 6 forest, 7 agriculture.
The labels of ``Test/`` are not published, so the official val part is the test split here, and val
is drawn from train.
Source: Wang, Zheng, Ma, Lu, Zhong, "LoveDA: A Remote Sensing Land-Cover Dataset for Domain Adaptive
Semantic Segmentation", NeurIPS 2021 data sets track; github.com/Junjue-Wang/LoveDA.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets._paired_files import RGB, PairedFiles
from terrazzo.data.datasets._pairing import Pair, pair_up_below
from terrazzo.data.datasets._split_draw import Draw

LABELS = "loveda_7"


class Options(Frozen):
    """Which scenes, and what val is."""

    scenes: Annotated[tuple[Literal["Urban", "Rural"], ...], Field(min_length=1)] = (
        "Urban",
        "Rural",
    )
    """Both, or one of them to train on one domain and score on the other."""
    split: Draw = Draw(train=0.9, val=0.1, test=0)
    """See `Draw`; each image by itself unless it has a group."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""


def open_split(root: Path, split: str, options: Options) -> PairedFiles:
    """Find the images of one split below `root`.

    Raises:
        ConfigError: SEG-X011, the group expression does not fit a name.
        DataError: see `pair_up` and `_split_draw.divide`.
    """

    def part(name: str) -> tuple[Pair, ...]:
        scenes = {scene: root / name / scene for scene in options.scenes}
        return pair_up_below(
            root, {s: (path / "images_png", path / "masks_png") for s, path in scenes.items()}
        )

    chosen = _split_draw.divide(
        split,
        options.split,
        options.split_file,
        training=lambda: part("Train"),
        test=lambda: part("Val"),
    )
    return PairedFiles(chosen.pairs, RGB, notes=chosen.notes)
