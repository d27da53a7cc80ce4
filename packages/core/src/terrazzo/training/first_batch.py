"""The first batch of a training, kept as pictures: what the model saw after augmentation."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.atomic_write import replacing_folder
from terrazzo.base.json_files import write_json
from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import Batch
from terrazzo.io.images import as_rgb

NAMES = "names.json"
"""In the folder: the name of each image, by the beginning of its files."""
MOST = 8
"""Images of a batch that are kept."""


def write(batch: Batch, label_map: LabelMap, folder: Path) -> None:
    """Write images and labels of a batch as PNG files, the labels in class colours.

    Args:
        batch: as the model gets it, before its bands are normalised.
        label_map: whose train ids the labels are; what is ignored is black.
        folder: replaced as a whole.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    from terrazzo.io.images import write_png  # a decoder only where images are written

    with replacing_folder(folder) as place:
        for number in range(min(len(batch), MOST)):
            write_png(place / f"{number:02d}_image.png", as_rgb(batch.images_BHWC[number]))
            labels_HWC = label_map.colourise(batch.labels_BHW[number])
            write_png(place / f"{number:02d}_labels.png", labels_HWC)
        names = {f"{number:02d}": name for number, name in enumerate(batch.names[:MOST])}
        write_json(place / NAMES, names)
