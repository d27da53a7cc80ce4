"""Generated streets, drawn on first use: a synthetic domain in the classes of CamVid.

    train/images/0000.png      train/labels/0000.png
    val/images/0000.png        …

Boxes and walls in perspective, 320×240; labels are the train ids of the label map ``camvid``, and
no pixel is without a class. The same on every machine with the same NumPy and OpenCV. What is
learned here may or may not carry over to photographs: that is what the set is for.
"""

from __future__ import annotations

import json
from pathlib import Path

from terrazzo.base.atomic_write import replace_text
from terrazzo.base.config_parsing import Frozen
from terrazzo.base.disk_errors import writing
from terrazzo.data.datasets import _generate_street
from terrazzo.data.datasets._paired_files import RGB, PairedFiles
from terrazzo.data.datasets._pairing import pair_up
from terrazzo.io import images

LABELS = "camvid"
_ELSEWHERE = "data.root takes another folder"

IMAGES = {"train": 240, "val": 40, "test": 60}
"""How many there are; `data.limit` takes fewer."""
_FIRST_SEED = {"train": 0, "val": 100_000, "test": 200_000}
_GENERATOR = {"generator": 1}  # raise it when the drawing changes


class Options(Frozen):
    """The streets have no settings."""


def open_split(root: Path, split: str, options: Options) -> PairedFiles:  # noqa: ARG001
    """Draw the images of one split below `root` if they are not there yet, and find them.

    Raises:
        ResourceError: SEG-R004, the files cannot be written.
        DataError: see `pair_up`.
    """
    folder = root / split
    if not _is_complete(folder):
        _write(folder, _FIRST_SEED[split], IMAGES[split])
    return PairedFiles(pair_up(folder / "images", folder / "labels", root=root), RGB)


def _is_complete(folder: Path) -> bool:
    try:
        marker = json.loads((folder / "street.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(marker == _GENERATOR)


def _write(folder: Path, first_seed: int, count: int) -> None:
    """Write images, labels and, last, the marker. Two processes at once write the same bytes."""
    with writing(folder, problem="cannot make the folder of the streets", then=_ELSEWHERE):
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image_HWC, label_HW = _generate_street.draw(first_seed + number)
        for kind, pixels in (("images", image_HWC), ("labels", label_HW)):
            images.write_png(folder / kind / f"{number:04d}.png", pixels)
    replace_text(folder / "street.json", json.dumps(_GENERATOR) + "\n")
