"""CVAT: the XML of "CVAT for images 1.1" with masks, and the labels that a task must have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from terrazzo.base import printable
from terrazzo.base.errors import ConfigError
from terrazzo.data.labels import LabelMap
from terrazzo.inference.labelling.run_lengths import boxed_runs
from terrazzo.inference.labelling.source import PredictedImage

ANNOTATIONS, LABELS = "cvat_annotations.xml", "cvat_labels.json"
LONGEST_NAME = 64
"""Characters that CVAT keeps of the name of a label."""
_FIRST_ID = 1_000_000_000
"""CVAT finds the frame of an image by its name, and where no name fits, by this number: masks would
land on other images without a word. No frame has such a number, so CVAT says which name it lacks.
"""


def refuse_names(label_map: LabelMap) -> None:
    """Refuse class names that CVAT would change, and then not find again.

    Raises:
        ConfigError: SEG-X087.
    """
    for name in label_map.names:
        if len(name) > LONGEST_NAME or name != name.strip():
            raise ConfigError(
                "SEG-X087",
                "CVAT cannot keep the name of a class",
                observed=f"{name!r}, {len(name)} characters",
                allowed=f"1 to {LONGEST_NAME} characters, no blanks around them",
                next_step="rename the class in the label map and in model.toml of the model, or "
                "use --labels-for labelstudio",
            )


def refuse_unwritable(name: str, file: object) -> None:
    """Refuse names of files that XML cannot hold.

    Raises:
        ConfigError: SEG-X087.
    """
    if printable.has_control_characters(name):
        raise ConfigError(
            "SEG-X087",
            "CVAT's XML cannot hold the name of an image",
            file=printable.one_line(str(file)),
            observed=printable.one_line(name),
            allowed="names in UTF-8, without control characters",
            next_step="rename the file",
        )


def labels_text(label_map: LabelMap) -> str:
    """Return the labels as CVAT takes them, in its editor ("Raw") or from its command line."""
    entries = [
        {"name": each.name, "color": each.colour.lower(), "type": "mask", "attributes": []}
        for each in label_map.classes
    ]
    return json.dumps(entries, indent=1) + "\n"


def annotation_text(images: Sequence[PredictedImage], label_map: LabelMap) -> Iterator[str]:
    """Yield the text of the annotations, an image at a time.

    Args:
        images: what was predicted.
        label_map: its classes.
    """
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    yield _meta(label_map, len(images))
    for number, image in enumerate(images, _FIRST_ID):
        yield _image(image, label_map, number)
    yield "</annotations>\n"


def _meta(label_map: LabelMap, images: int) -> str:
    """Return what an exported task would tell of itself; other readers of this format need it."""
    entries = "".join(
        f"        <label><name>{escape(each.name)}</name><color>{each.colour.lower()}</color>"
        "<type>mask</type><attributes></attributes></label>\n"
        for each in label_map.classes
    )
    return (
        f"  <meta>\n    <task>\n      <size>{images}</size>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{entries}      </labels>\n    </task>\n  </meta>\n"
    )


def _image(image: PredictedImage, label_map: LabelMap, number: int) -> str:
    labels_HW = image.labels()
    rows, columns = labels_HW.shape
    masks = "".join(
        _mask(label_map.names[k], labels_HW == k)
        for k in np.unique(labels_HW).tolist()
        if k != label_map.ignore_index
    )
    head = f'  <image id="{number}" name={quoteattr(image.name)}'
    return f'{head} width="{columns}" height="{rows}">\n{masks}  </image>\n'


def _mask(name: str, mask_HW: np.ndarray) -> str:
    runs = boxed_runs(mask_HW)
    return (
        f'    <mask label={quoteattr(name)} source="auto" occluded="0" '
        f'rle="{", ".join(map(str, runs.lengths))}" left="{runs.left}" top="{runs.top}" '
        f'width="{runs.width}" height="{runs.height}" z_order="0"/>\n'
    )
