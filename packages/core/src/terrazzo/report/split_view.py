"""One scored split as the page of a run shows it: classes, confusion, extra metrics, images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.labels import LabelMap
from terrazzo.evaluation import remarks
from terrazzo.evaluation.stored import ExampleFiles, Record, Scored
from terrazzo.metrics import ConfusionMatrix
from terrazzo.report import confusion_matrix, reliability_curves, run_examples, scene_overviews
from terrazzo.report.confusion_matrix import Cell, Confusion
from terrazzo.report.reliability_curves import ReliabilityFigure
from terrazzo.report.run_examples import EncodedExample
from terrazzo.report.scene_overviews import OverviewView

MAX_EXAMPLES = 12
_NUM_WORST = 10


@dataclass(frozen=True)
class ClassRow:
    """One class in the table; None is a score that is not defined."""

    name: str
    colour: str
    iou: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    pixels: int
    share: float


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image by itself, and its numbers of counted and ignored pixels."""

    name: str
    mean_iou: float
    pixel_accuracy: float
    counted: int
    ignored: int


@dataclass(frozen=True)
class ExampleRow:
    """One example, with the scores of its image; None where they are not known."""

    files: EncodedExample
    scores: ImageScores | None


@dataclass(frozen=True)
class SplitView:
    """One scored split.

    Attributes:
        name: name of the split.
        summary: its scores, as `evaluation.result.summary` has them.
        classes: rows of the class table.
        matrix: cells of the confusion matrix; None with too many classes.
        confusions: largest confusions.
        images: scores of the worst images.
        median_iou: median of the mean IoU over the images; NaN without images.
        examples: example images, worst first.
        examples_left_out: number of stored examples that the page does not show.
        boundary: boundary scores of `summary`; None where not counted.
        calibration: calibration scores of `summary`; None where not counted.
        reliability: reliability curves.
        maps: overviews of the scenes.
        remarks: sentences on what wants care in these scores.
        foreground: means of IoU, precision, recall and F1 over the classes that are not called
            background; None where none is.
    """

    name: str
    summary: dict[str, Any]
    classes: list[ClassRow]
    matrix: list[list[Cell]] | None
    confusions: list[Confusion]
    images: list[ImageScores]
    median_iou: float
    examples: list[ExampleRow]
    examples_left_out: int
    boundary: dict[str, Any] | None
    calibration: dict[str, Any] | None
    reliability: tuple[ReliabilityFigure, ...]
    maps: tuple[OverviewView, ...]
    remarks: list[str]
    foreground: list[float | None] | None


def of_all_splits(record: Record) -> list[SplitView]:
    """Return the views of all scored splits, whose examples share one budget."""
    images = [_images(scored) for scored in record.scored]
    chosen = list(map(_choose_examples, record.scored, images))
    files = [example for examples in chosen for example, _ in examples]
    encoded = iter(run_examples.encode(files, record.label_map))
    return [
        _of_split(
            record.label_map,
            scored,
            images_of_split,
            [ExampleRow(next(encoded), scores) for _, scores in examples],
        )
        for scored, images_of_split, examples in zip(record.scored, images, chosen, strict=True)
    ]


def _of_split(
    label_map: LabelMap, scored: Scored, images: list[ImageScores], examples: list[ExampleRow]
) -> SplitView:
    counts_KK = np.asarray(scored.summary["counts"], dtype=np.int64)
    split = scored.summary["split"]
    return SplitView(
        name=split,
        summary=scored.summary,
        classes=_class_rows(scored.summary, counts_KK, label_map),
        matrix=confusion_matrix.cells(counts_KK),
        confusions=confusion_matrix.largest_confusions(counts_KK, scored.summary["classes"]),
        images=images[:_NUM_WORST],
        median_iou=median(image.mean_iou for image in images) if images else math.nan,
        examples=examples,
        examples_left_out=len(scored.examples) - len(examples),
        boundary=scored.summary.get("boundary"),
        calibration=scored.summary.get("calibration"),
        reliability=reliability_curves.figures([scored.extra], label_map, prefix=f"{split}-"),
        maps=scene_overviews.encode([scored.maps], [""], label_map),
        remarks=remarks.remarks(
            split, counts_KK, scored.summary["classes"], scored.summary["images"]
        ),
        foreground=_foreground(scored.summary),
    )


def _foreground(summary: dict[str, Any]) -> list[float | None] | None:
    scores, names = summary["per_class"], summary["classes"]
    means = []
    for key in ("iou", "precision", "recall", "f1"):
        values_K = [math.nan if value is None else value for value in scores[key]]
        mean = remarks.foreground_mean(values_K, names)
        if mean is None:
            return None
        means.append(None if math.isnan(mean) else mean)
    return means


def _class_rows(
    summary: dict[str, Any], counts_KK: NDArray[np.int64], label_map: LabelMap
) -> list[ClassRow]:
    pixels_K = counts_KK.sum(axis=1)
    total = max(int(pixels_K.sum()), 1)
    colours = {c.name: c.colour for c in label_map.classes}
    scores = summary["per_class"]
    return [
        ClassRow(
            name=name,
            colour=colours[name],
            iou=scores["iou"][k],
            precision=scores["precision"][k],
            recall=scores["recall"][k],
            f1=scores["f1"][k],
            pixels=int(pixels_K[k]),
            share=int(pixels_K[k]) / total,
        )
        for k, name in enumerate(summary["classes"])
    ]


def _images(scored: Scored) -> list[ImageScores]:
    """Return the scores of the images with at least one counted pixel, worst first."""
    images = []
    for name, counts_KK, ignored in zip(
        scored.names, scored.counts_NKK, scored.ignored_N, strict=True
    ):
        scores = ConfusionMatrix.from_counts(counts_KK).scores()
        if not math.isnan(scores.mean_iou):
            images.append(
                ImageScores(
                    name,
                    float(scores.mean_iou),
                    float(scores.pixel_accuracy),
                    int(counts_KK.sum()),
                    int(ignored),
                )
            )
    return sorted(images, key=lambda image: (image.mean_iou, image.name))


def _choose_examples(
    scored: Scored, images: Sequence[ImageScores]
) -> list[tuple[ExampleFiles, ImageScores | None]]:
    """Return the examples to show, worst first; those without scores of their own come last."""
    by_name = {image.name: image for image in images}
    pairs = [(example, by_name.get(example.name)) for example in scored.examples]
    return sorted(pairs, key=lambda pair: 2.0 if pair[1] is None else pair[1].mean_iou)[
        :MAX_EXAMPLES
    ]
