"""Pictures of a comparison: one picture and its truth, with prediction and errors of every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from terrazzo import images
from terrazzo.labels import LabelMap
from terrazzo.report.gallery import LONGEST_SIDES, colours_tell_all, error_map, url
from terrazzo.report.record import ExampleFiles

BUDGET = 6_000_000
"""Characters that all pictures of a comparison may take together."""


@dataclass(frozen=True)
class Layer:
    """One way to see a picture.

    Attributes:
        title: what it shows.
        source: ``data:`` URL.
        run: number of the run it is of; None for picture and truth.
        labels: whether it shows classes, which must not be smoothed.
    """

    title: str
    source: str
    run: int | None
    labels: bool


@dataclass(frozen=True)
class Layered:
    """One picture of the gallery.

    Attributes:
        name: as in the file names.
        height: rows of the label.
        width: columns of the label.
        layers: picture, truth, then prediction and errors of each run.
        picture_iou: mean IoU of this picture, a run; NaN where not known.
    """

    name: str
    height: int
    width: int
    layers: tuple[Layer, ...]
    picture_iou: tuple[float, ...]


def encode(
    examples: Sequence[tuple[Sequence[ExampleFiles], tuple[float, ...]]],
    run_names: Sequence[str],
    label_map: LabelMap,
) -> tuple[Layered, ...]:
    """Read and encode pictures, all reduced alike until they keep `BUDGET`.

    Args:
        examples: the files of one picture in all runs, with its scores.
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
    picture, truth = (
        Image.fromarray(images.read_image(path)) for path in (files[0].picture, files[0].truth)
    )
    base = np.asarray(picture if picture.size == truth.size else picture.resize(truth.size))
    layers = [
        Layer("Picture", url(picture, side, lossless=False), None, labels=False),
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
