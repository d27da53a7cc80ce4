"""Corrections of labels that a trained model proposes, as masks for a person to look at.

Two PNGs an image: ``labels/SPLIT/NAME.png``, its label with the doubted regions as the model sees
them, and ``changes/SPLIT/NAME.png``, these regions alone, the ignored class elsewhere. Pixels are
train ids, shown in the colours of the classes; ``legend.png`` and ``classes.json`` say which is
which, ``corrections.csv`` lists the regions. Nothing of the data set is changed.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import make_folder, replace_text, short_name
from terrazzo.base.csv_names import csv_text
from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.data.labels import LabelMap
from terrazzo.inference import legends
from terrazzo.inference.images import write_map

TABLE = "corrections.csv"
_COLUMNS = (
    "split",
    "image",
    "label_file",
    "row",
    "column",
    "pixels",
    "labelled",
    "proposed",
    "probability",
)
_LONGEST = 200  # bytes of a part of an image's name, in file names


@dataclass(frozen=True, slots=True)
class Correction:
    """One region.

    Attributes:
        split: of the image.
        image: its name.
        label_file: what would be corrected.
        row: of the middle of the region.
        column: of it.
        pixels: of the region.
        labelled: train id on the label.
        proposed: train id the model is sure of.
        probability: mean over the region.
    """

    split: str
    image: str
    label_file: str
    row: int
    column: int
    pixels: int
    labelled: int
    proposed: int
    probability: float


def refuse_place(folder: Path, root: Path) -> None:
    """Refuse a folder that holds something, or that lies in the data.

    Raises:
        CheckpointError: SEG-C002, it is there and not empty.
        ConfigError: SEG-X032, it lies inside the data set.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise CheckpointError(
            "SEG-C002",
            "the place of the corrections is taken",
            file=folder,
            allowed="a folder that is empty or not there",
            next_step="--corrections takes another one",
        )
    if folder.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            "SEG-X032",
            "corrections would lie among the data, and be read as data",
            file=folder,
            allowed=f"a folder outside of {root}",
            next_step="--corrections takes another one",
        )


def write_image(
    folder: Path,
    split: str,
    name: str,
    label_HW: NDArray[np.integer],
    regions: Iterable[tuple[NDArray[np.bool_], int]],
    label_map: LabelMap,
) -> None:
    """Write the two masks of an image.

    Args:
        folder: of all corrections.
        split: of the image.
        name: of the image.
        label_HW: train ids.
        regions: where, and the train id proposed there.
        label_map: K classes.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    proposed_HW = label_HW.copy()
    changes_HW = np.full(label_HW.shape, label_map.ignore_index, label_map.dtype)
    for mask_HW, train_id in regions:
        proposed_HW[mask_HW] = changes_HW[mask_HW] = train_id
    parts = [short_name(part, _LONGEST) for part in Path(name).parts]
    for kind, values_HW in (("labels", proposed_HW), ("changes", changes_HW)):
        path = folder.joinpath(kind, split, *parts[:-1], f"{parts[-1]}.png")
        make_folder(path.parent)
        write_map(path, values_HW, label_map)


def write_table(folder: Path, corrections: Iterable[Correction], label_map: LabelMap) -> None:
    """Write the list of all regions, surest first, and what the colours mean.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    make_folder(folder)
    legends.write(folder, label_map)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for each in corrections:
        lines.writerow(
            (
                each.split,
                csv_text(each.image),
                csv_text(each.label_file),
                each.row,
                each.column,
                each.pixels,
                csv_text(label_map.names[each.labelled]),
                csv_text(label_map.names[each.proposed]),
                f"{each.probability:.3f}",
            )
        )
    replace_text(folder / TABLE, text.getvalue())
