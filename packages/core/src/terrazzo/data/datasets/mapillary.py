"""Mapillary Vistas: 25,000 street scenes of the world in many sizes, v1.2 (66 ids) or v2.0 (124).

    training/images/X.jpg            training/v1.2/labels/X.png      training/v2.0/labels/X.png
    validation/images/Y.jpg          validation/v1.2/labels/Y.png    …

Masks are palette PNG and hold the index. An ids table of one version reads the other without a
sign, so there is no default label map: choose one whose name has the version in it. The labels of
``testing/`` are not published, so the official validation part is the test split here, and val is
drawn from training.
Source: Neuhold, Ollmann, Rota Bulò, Kontschieder, "The Mapillary Vistas Dataset for Semantic
Understanding of Street Scenes", ICCV 2017; mapillary.com/dataset/vistas.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from terrazzo.base.config_parsing import Frozen
from terrazzo.data.datasets import _split_draw
from terrazzo.data.datasets._paired_files import RGB, PairedFiles
from terrazzo.data.datasets._pairing import Pair, pair_up
from terrazzo.data.datasets._split_draw import Draw

LABELS = None


class Options(Frozen):
    """Which labels, and what val is."""

    version: Literal["v1.2", "v2.0", "v1.1"] = "v1.2"
    """v1.1 is the first package, with ``training/labels/`` and the ids of v1.2."""
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
        labels = root / name / ("" if options.version == "v1.1" else options.version) / "labels"
        return pair_up(root / name / "images", labels, root=root)

    chosen = _split_draw.divide(
        split,
        options.split,
        options.split_file,
        training=lambda: part("training"),
        test=lambda: part("validation"),
    )
    return PairedFiles(chosen.pairs, RGB, notes=chosen.notes)
