"""Masks in which each object has a number of its own: their values are no classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np

from terrazzo.base.errors import DataError
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.data import datasets
from terrazzo.data.instance_masks import OBJECT
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import IGNORE

_LOOKED_AT = 12  # masks whose objects are counted
_MOST_COUNTED = 64  # objects of one mask that are looked at
_MANY = 20  # values that are one piece each: nobody has that many classes in every image
OPTION = 'mask_kind = "instance"'


@dataclass(frozen=True, slots=True)
class NumberedObjects:
    """Masks whose values are numbers of objects: the fewest and the most of them in one mask."""

    fewest: int
    most: int

    @property
    def told(self) -> str:
        """What was seen, for messages."""
        return (
            f"values 1 to {self.most}, from {self.fewest} to {self.most} of them an image, and "
            "each value is one connected object"
        )


def takes_instances(data_format: str) -> bool:
    """Tell whether a format has the option `OPTION`."""
    kind = datasets.load_format(data_format).Options.model_fields.get("mask_kind")
    return kind is not None and "instance" in get_args(kind.annotation)


def numbered_objects(survey: Survey) -> NumberedObjects | None:
    """Recognise masks in which objects are numbered 1, 2, 3 … in every image anew.

    Values that the label map knows are classes, whatever they look like.
    """
    labelled = [p for p in survey.scanned_images if p.label is not None]
    numbers: list[int] = []
    found: set[int] = set()
    for scanned in labelled:
        assert scanned.label is not None
        if scanned.label.colours:
            return None
        found |= scanned.label.counts.keys()
        values = sorted(scanned.label.counts.keys() - {0})
        # Numbers of classes: some are missing in most images.
        if values and (values[0] < 0 or values[-1] > 1.5 * len(values) + 1):
            return None
        numbers.append(len(values))
    most = max(numbers, default=0)
    if most < 3 or len(found) < 4 or (len(set(numbers)) < 3 and most <= _MANY):
        return None
    if _knows(survey.label_map, found) or not _each_in_one_piece(survey, labelled):
        return None
    return NumberedObjects(min(numbers), most)


def _knows(label_map: LabelMap | None, values: set[int]) -> bool:
    if label_map is None:
        return False
    return values <= {raw for each in label_map.classes for raw in each.raw} | {*label_map.ignored}


def _each_in_one_piece(survey: Survey, labelled: Sequence[ScannedImage]) -> bool:
    pieces = values = 0
    for scanned in labelled[:: max(1, len(labelled) // _LOOKED_AT)]:
        try:
            raw_HW = survey.sources[scanned.split].read_label(scanned.index)
        except DataError:  # it has changed since
            continue
        for value in np.unique(raw_HW).tolist()[: _MOST_COUNTED + 1]:
            if value != 0:
                alone_HW = (raw_HW == value).astype(np.uint8)
                pieces += cv2.connectedComponents(alone_HW, connectivity=8)[0] - 1
                values += 1
    return values > 0 and pieces <= 1.05 * values


def find(survey: Survey, objects: NumberedObjects | None) -> Iterator[Finding]:
    """Yield one finding on all masks, where they hold numbers of objects."""
    if objects is None:
        return
    yield Finding(
        Level.WARNING if survey.label_map is None else Level.ERROR,
        "SEG-D141",
        "the masks hold a number for each object, not for each class",
        survey.data.root,
        objects.told,
        "one value a class",
        f"set data.options.{OPTION}: every number above 0 is one class, with a label map of the "
        f"raw values 0, {OBJECT} and {IGNORE} (see the proposal)"
        if takes_instances(survey.data.format)
        else "save masks with 1 in place of every number above 0",
    )


def label_map() -> LabelMap:
    """Return the label map of masks that are read as instances."""
    classes = (
        LabelClass("background", "#BAB0AC", (0,)),
        LabelClass("object", "#4E79A7", (OBJECT,)),
    )
    return LabelMap("my_classes", classes, (IGNORE,))
