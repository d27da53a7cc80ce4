"""The outcome of scoring one model on one split, and its files in ``evaluation/``.

``<split>.json`` holds the summed counts, every score and how it is defined;
``<split>.safetensors`` the counts of each image; ``<split>_examples/`` a few images to look at;
``<split>_maps.safetensors`` coarse maps of the scenes, where images are parts of scenes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import make_folder, replacing, replacing_folder, short_name
from terrazzo.base.disk_errors import writing
from terrazzo.base.json_files import replace_json, write_json
from terrazzo.data.labels import LabelMap
from terrazzo.evaluation import array_file, extra_scores, scene_overview
from terrazzo.evaluation.array_file import ArrayFile
from terrazzo.evaluation.extra_counts import ExtraCounts
from terrazzo.evaluation.prediction_method import PLAIN, PredictionMethod
from terrazzo.evaluation.scene_overview import SceneOverview
from terrazzo.io import named_arrays
from terrazzo.io.images import as_rgb
from terrazzo.metrics import ConfusionMatrix

DEFINITION = (
    "scores from one confusion matrix summed over all pixels of the split, at the size of the "
    "label files; mean_* = unweighted mean over the classes present in truth or prediction; "
    "ignored pixels count nowhere; micro_iou = all classes together (micro), for comparison only"
)


@dataclass(frozen=True)
class Example:
    """One image to look at.

    Attributes:
        name: of the sample.
        image_HWC: as read, first three bands are shown.
        label_HW: train ids.
        prediction_HW: train ids.
    """

    name: str
    image_HWC: NDArray[np.generic]
    label_HW: NDArray[np.generic]
    prediction_HW: NDArray[np.generic]


@dataclass(frozen=True)
class Evaluation:
    """Counts of one split.

    Attributes:
        split: its name.
        step: of the weights that were scored.
        names: N image names.
        counts_NKK: int64 confusion counts an image, rows truth, columns prediction.
        ignored_N: int64 ignored pixels an image.
        examples: a few images, for the report; the same in all processes.
        extra: what else was counted.
        maps: of the scenes the images are parts of, where they are.
        method: how the predictions were made.
        beside: how much the mean IoU differs from that of the same predictions without the last
            step, as JSON holds it; empty: it was not asked for.
        cross_entropy: over all pixels that count, in nats a pixel; None where it was not computed,
            NaN where no pixel counts.
    """

    split: str
    step: int
    names: tuple[str, ...]
    counts_NKK: NDArray[np.int64]
    ignored_N: NDArray[np.int64]
    examples: tuple[Example, ...] = ()
    extra: ExtraCounts = field(default_factory=ExtraCounts)
    maps: tuple[SceneOverview, ...] = ()
    method: PredictionMethod = PLAIN
    beside: dict[str, Any] = field(default_factory=dict)
    cross_entropy: float | None = None

    @property
    def matrix(self) -> ConfusionMatrix:
        """The matrix of the whole split."""
        return ConfusionMatrix.from_counts(
            self.counts_NKK.sum(axis=0), ignored=int(self.ignored_N.sum())
        )


SCALARS = (
    "mean_iou",
    "mean_precision",
    "mean_recall",
    "mean_f1",
    "mean_dice",
    "pixel_accuracy",
    "micro_iou",
)
EXAMPLE_NAMES = "names.json"
"""In the folder of examples: the full name of each image, by the beginning of its files."""
_LONGEST_STEM = 200
"""Bytes of an image's name in the names of its examples; the rest is what they add."""
PER_CLASS = ("iou", "precision", "recall", "f1", "dice")


def summary(evaluation: Evaluation, label_map: LabelMap) -> dict[str, Any]:
    """Return what ``<split>.json`` holds; NaN (a class that is absent) becomes null."""
    matrix = evaluation.matrix
    scores = matrix.scores()
    return {
        "split": evaluation.split,
        "step": evaluation.step,
        "images": len(evaluation.names),
        "pixels_counted": int(matrix.counts.sum()),
        "pixels_ignored": matrix.ignored,
        "definition": "; ".join(filter(None, (DEFINITION, evaluation.method.definition))),
        **_method(evaluation),
        "label_map": label_map.name,
        "classes": list(label_map.names),
        "classes_present": scores.classes_present,
        "scores": {name: _number(getattr(scores, name)) for name in SCALARS},
        "per_class": {
            name: [_number(value) for value in getattr(scores, name)] for name in PER_CLASS
        },
        "counts": matrix.counts.tolist(),
        **extra_scores.summary(evaluation.extra, evaluation.counts_NKK, label_map.names),
    }


def _method(evaluation: Evaluation) -> dict[str, Any]:
    """Return how the predictions were made, where it is worth a word."""
    found: dict[str, Any] = {}
    if evaluation.method != PLAIN:
        found["prediction"] = evaluation.method.record()
        found["prediction_definition"] = evaluation.method.definition
    if evaluation.beside:
        found["beside"] = evaluation.beside
    return found


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def write(evaluation: Evaluation, label_map: LabelMap, folder: Path) -> Path:
    """Write the files of one evaluation in place of those of an earlier one.

    Returns:
        The JSON file, which is written last.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    from terrazzo.io.images import write_png  # a decoder only where images are written

    make_folder(folder)
    with replacing(folder / f"{evaluation.split}.safetensors") as temporary:
        named_arrays.write(
            temporary,
            {
                "counts": evaluation.counts_NKK,
                "ignored": evaluation.ignored_N,
                **evaluation.extra.arrays(),
            },
            {"names": json.dumps(evaluation.names)},
        )
    with replacing_folder(folder / f"{evaluation.split}_examples") as examples:
        names = {}
        for number, example in enumerate(evaluation.examples):
            stem = f"{number:02d}_{short_name(Path(example.name).name, _LONGEST_STEM)}"
            names[stem] = example.name
            write_png(examples / f"{stem}_image.png", as_rgb(example.image_HWC))
            write_png(examples / f"{stem}_truth.png", label_map.colourise(example.label_HW))
            prediction_HWC = label_map.colourise(example.prediction_HW)
            write_png(examples / f"{stem}_prediction.png", prediction_HWC)
        write_json(examples / EXAMPLE_NAMES, names)
    maps = overviews_file(folder, evaluation.split)
    if evaluation.maps:
        with replacing(maps) as temporary:
            scene_overview.write(evaluation.maps, temporary)
    else:
        with writing(maps):
            maps.unlink(missing_ok=True)  # of an earlier evaluation
    path = folder / f"{evaluation.split}.json"
    replace_json(path, summary(evaluation, label_map))
    return path


def overviews_file(folder: Path, split: str) -> Path:
    """Return where the maps of a stored evaluation lie."""
    return folder / f"{split}_maps.safetensors"


def read_counts(folder: Path, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return counts N×K×K and ignored pixels N of a stored evaluation.

    Raises:
        CheckpointError: SEG-C014, the file is damaged.
        ResourceError: SEG-R030, it is missing or unreadable.
    """
    return counts_in(array_file.read(folder / f"{split}.safetensors"))


def counts_in(stored: ArrayFile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return counts N×K×K and ignored pixels N of a file; see `read_counts`."""
    counts_NKK = stored.array("counts", "i", (None, None, None))
    return counts_NKK, stored.array("ignored", "i", counts_NKK.shape[:1])


def read_extra(folder: Path, split: str) -> ExtraCounts:
    """Return what a stored evaluation has counted beside; see `read_counts`."""
    return extra_in(array_file.read(folder / f"{split}.safetensors"))


def extra_in(stored: ArrayFile) -> ExtraCounts:
    """Return what a file has counted beside; see `read_counts`."""
    try:
        return ExtraCounts.of_arrays(stored.arrays)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        observed = f"{type(error).__name__}: {error}"
        raise stored.refused(observed) from error
