"""CamVid as published with SegNet: ``train/`` beside ``trainannot/``, likewise val and test.

    train/0001TP_006690.png      trainannot/0001TP_006690.png
    val/0016E5_07959.png         valannot/0016E5_07959.png
    test/0001TP_008550.png       testannot/0001TP_008550.png

Street scenes from a car in Cambridge, 480×360; masks are grey PNG, 0–10 classes, 11 unlabelled.
Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters
2009; the split and the 11 classes: Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017.
"""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.config_parsing import Frozen
from terrazzo.data.datasets._paired_files import RGB, PairedFiles
from terrazzo.data.datasets._pairing import pair_up

LABELS = "camvid"


class Options(Frozen):
    """CamVid has no settings."""


def open_split(root: Path, split: str, options: Options) -> PairedFiles:  # noqa: ARG001
    """Find the images of one split below `root`.

    Raises:
        DataError: see `pair_up`.
    """
    pairs = pair_up(root / split, root / f"{split}annot", root=root)
    return PairedFiles(pairs, RGB)
