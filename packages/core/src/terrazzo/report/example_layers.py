"""Images of a comparison: one image and its truth, with prediction and errors of every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from terrazzo.data.labels import LabelMap
from terrazzo.evaluation.stored import ExampleFiles
from terrazzo.io import images
from terrazzo.report.example_images import LONGEST_SIDES, colours_tell_all, error_map, url

BUDGET = 6_000_000
"""Characters that all images of a comparison may take together."""


@dataclass(frozen=True)
class Layer:
    """One way to see an image.

    Attributes:
        title: what it shows.
        source: ``data:`` URL.
        run: number of the run it is of; None for image and truth.
        labels: whether it shows classes, which must not be smoothed.
    """

    title: str
    source: str
    run: int | None
    labels: bool


@dataclass(frozen=True)
class Layered:
    """One image of the gallery.

    Attributes:
        name: as in the file names.
        height: rows of the label.
        width: columns of the label.
        layers: image, truth, then prediction and errors of each run.
        image_iou: mean IoU of this image, a run; NaN where not known.
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
) -> tuple[Layered, ...]:
    """Read and encode images, all reduced alike until they keep `BUDGET`.

    Args:
        examples: the files of one image in all runs, with its scores.
        run_names: R.
        label_map: whose colours the files have.
    """
    shown: tuple[Layered, ...] = ()
    for side in LONGEST_SIDES:
        shown = tuple(
            _encode(files, scores, run_names, label_map, side) for files, scores in examples
        )
        if sum(len(layer.source) for each in shown for layer in each.layers) <= BUDGET:
            break
    return shown


def _encode(
    files: Sequence[ExampleFiles],
    scores: tuple[float, ...],
    run_names: Sequence[str],
    label_map: LabelMap,
    side: int,
) -> Layered:
    image, truth = (
        Image.fromarray(images.read_image(path)) for path in (files[0].image, files[0].truth)
    )
    base = np.asarray(image if image.size == truth.size else image.resize(truth.size))
    layers = [
        Layer("Image", url(image, side, lossless=False), None, labels=False),
        Layer("Truth", url(truth, side, lossless=True), None, labels=True),
    ]
    for run, (name, example) in enumerate(zip(run_names, files, strict=True)):
        prediction = Image.fromarray(images.read_image(example.prediction))
        source = url(prediction, side, lossless=True)
        layers.append(Layer(f"Prediction of {name}", source, run, labels=True))
        if colours_tell_all(label_map):
            errors, _ = error_map(base, np.asarray(truth), np.asarray(prediction))
            source = url(Image.fromarray(errors), side, lossless=False)
            layers.append(Layer(f"Errors of {name}", source, run, labels=False))
    return Layered(files[0].name, truth.height, truth.width, tuple(layers), scores)
