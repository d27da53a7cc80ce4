"""Example images of a comparison: image and ground truth, prediction and errors of every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from terrazzo.data.labels import LabelMap
from terrazzo.evaluation.stored import ExampleFiles
from terrazzo.io import images
from terrazzo.report.image_layers import (
    Layer,
    data_url,
    error_map,
    has_distinct_colours,
    largest_within_budget,
    layer_characters,
)
from terrazzo.report.run_examples import LONGEST_SIDES

BUDGET = 6_000_000
"""Characters that all images of a comparison may take together."""


@dataclass(frozen=True)
class ComparedExample:
    """One example image with the results of all runs.

    Attributes:
        name: as in the file names.
        height: rows of the label.
        width: columns of the label.
        layers: image, ground truth, then prediction and errors of each run.
        image_iou: mean IoU of this image in each run; NaN where it is not known.
    """

    name: str
    height: int
    width: int
    layers: tuple[Layer, ...]
    image_iou: tuple[float, ...]


def encode(
    examples: Sequence[tuple[Sequence[ExampleFiles], tuple[float, ...]]],
    run_names: Sequence[str],
    label_map: LabelMap,
) -> tuple[ComparedExample, ...]:
    """Read and encode images, all reduced to one longest side that keeps `BUDGET`.

    Args:
        examples: files of each image in all runs, and its mean IoU in each run.
        run_names: names of the R runs.
        label_map: whose colours the files have.
    """
    return largest_within_budget(
        LONGEST_SIDES,
        BUDGET,
        lambda side: tuple(
            _encode(files, scores, run_names, label_map, side) for files, scores in examples
        ),
        lambda example: layer_characters(example.layers),
    )


def _encode(
    files: Sequence[ExampleFiles],
    scores: tuple[float, ...],
    run_names: Sequence[str],
    label_map: LabelMap,
    side: int,
) -> ComparedExample:
    image, truth = (
        Image.fromarray(images.read_image(path)) for path in (files[0].image, files[0].truth)
    )
    base = np.asarray(image if image.size == truth.size else image.resize(truth.size))
    layers = [
        Layer("Image", data_url(image, side, lossless=False), None, labels=False),
        Layer("Ground truth", data_url(truth, side, lossless=True), None, labels=True),
    ]
    for run, (name, example) in enumerate(zip(run_names, files, strict=True)):
        prediction = Image.fromarray(images.read_image(example.prediction))
        source = data_url(prediction, side, lossless=True)
        layers.append(Layer(f"Prediction of {name}", source, run, labels=True))
        if has_distinct_colours(label_map):
            errors, _ = error_map(base, np.asarray(truth), np.asarray(prediction))
            source = data_url(Image.fromarray(errors), side, lossless=False)
            layers.append(Layer(f"Errors of {name}", source, run, labels=False))
    return ComparedExample(files[0].name, truth.height, truth.width, tuple(layers), scores)
