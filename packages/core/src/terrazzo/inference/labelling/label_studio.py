"""Label Studio: a labelling configuration, and a list of tasks with predictions as brush masks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from terrazzo.data.labels import LabelMap
from terrazzo.inference.labelling.run_lengths import label_studio_bytes
from terrazzo.inference.labelling.source import PredictedImage

TASKS, CONFIG = "labelstudio_tasks.json", "labelstudio_config.xml"
ROOT_VARIABLE = "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
"""Environment variable of Label Studio: the folder that addresses of local files begin at."""
_LOCAL_FILES = "/data/local-files/?d="
_BRUSH, _IMAGE = "classes", "image"  # names of the two tags of the configuration


def config_text(label_map: LabelMap) -> str:
    """Return the labelling configuration: an image, and a brush for each class."""
    labels = "".join(
        f"    <Label value={quoteattr(each.name)} background={quoteattr(each.colour)}/>\n"
        for each in label_map.classes
    )
    return (
        "<View>\n"
        f'  <Image name="{_IMAGE}" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <BrushLabels name="{_BRUSH}" toName="{_IMAGE}">\n{labels}  </BrushLabels>\n'
        "</View>\n"
    )


def task_text(
    images: Sequence[PredictedImage], label_map: LabelMap, root: Path, version: str
) -> Iterator[str]:
    """Yield the text of the list of tasks, a task at a time.

    Args:
        images: what was predicted.
        label_map: its classes.
        root: folder that the addresses of images begin at.
        version: of the model.
    """
    begin = "[\n"
    for image in images:
        yield begin + json.dumps(_task(image, label_map, root, version))
        begin = ",\n"
    yield "\n]\n"


def _task(image: PredictedImage, label_map: LabelMap, root: Path, version: str) -> dict[str, Any]:
    labels_HW = image.labels()
    score, scores = image.confidence()
    rows, columns = labels_HW.shape
    regions = [
        {
            "id": f"class{k}",
            "type": "brushlabels",
            "from_name": _BRUSH,
            "to_name": _IMAGE,
            "original_width": columns,
            "original_height": rows,
            "image_rotation": 0,
            "score": scores.get(label_map.names[k], score),
            "value": {
                "format": "rle",
                "rle": label_studio_bytes(labels_HW == k),
                "brushlabels": [label_map.names[k]],
            },
        }
        for k in np.unique(labels_HW).tolist()
        if k != label_map.ignore_index
    ]
    prediction = {"model_version": version, "score": score, "result": regions}
    return {"data": {"image": address(image.source, root)}, "predictions": [prediction]}


def address(source: Path, root: Path) -> str:
    """Return where Label Studio's server of local files has an image."""
    path = Path(os.path.normpath(source.absolute())).relative_to(root)
    return _LOCAL_FILES + quote(os.fsencode(path.as_posix()))  # a name may be no UTF-8
