"""Example images of one run: image, ground truth, prediction and errors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from terrazzo.data.labels import LabelMap
from terrazzo.evaluation.stored import BatchFiles, ExampleFiles
from terrazzo.io import images
from terrazzo.report.image_layers import (
    contours,
    data_url,
    error_map,
    has_distinct_colours,
    largest_within_budget,
)

BUDGET = 1_800_000
"""Characters that all images of a report may take together."""
BATCH_BUDGET = 400_000
"""Likewise, of the first batch."""
LONGEST_SIDES = (1024, 768, 512, 384, 256, 160)
"""Pixels; the largest that keeps the budget is used."""


@dataclass(frozen=True)
class EncodedExample:
    """One example image as ``data:`` URLs.

    Attributes:
        name: as in the file names.
        height: rows of the files.
        width: columns of the files.
        image: URL of the image.
        truth: URL of the ground truth in class colours.
        prediction: URL of the prediction in class colours.
        contours: URL of the image with the borders of the prediction.
        errors: URL of the error map; None where classes cannot be read back from their colours.
        wrong: share of the counted pixels whose class is wrong; NaN where `errors` is None.
    """

    name: str
    height: int
    width: int
    image: str
    truth: str
    prediction: str
    contours: str
    errors: str | None
    wrong: float


@dataclass(frozen=True)
class EncodedBatch:
    """One image of the first batch as ``data:`` URLs: itself, and with its labels over it."""

    height: int
    width: int
    image: str
    overlay: str


def encode_batch(batch: Sequence[BatchFiles]) -> tuple[EncodedBatch, ...]:
    """Read and encode the first batch; see `encode`."""
    return largest_within_budget(
        LONGEST_SIDES,
        BATCH_BUDGET,
        lambda side: tuple(_encode_one_of_batch(files, side) for files in batch),
        lambda encoded: len(encoded.image) + len(encoded.overlay),
    )


def _encode_one_of_batch(files: BatchFiles, side: int) -> EncodedBatch:
    image, labels = (
        Image.fromarray(images.read_image(path)) for path in (files.image, files.labels)
    )
    return EncodedBatch(
        height=labels.height,
        width=labels.width,
        image=data_url(image, side, lossless=False),
        overlay=data_url(Image.blend(image, labels, 0.5), side, lossless=False),
    )


def encode(examples: Sequence[ExampleFiles], label_map: LabelMap) -> tuple[EncodedExample, ...]:
    """Read and encode examples, all reduced to one longest side that keeps `BUDGET`."""
    return largest_within_budget(
        LONGEST_SIDES,
        BUDGET,
        lambda side: tuple(_encode(example, label_map, side) for example in examples),
        _num_characters,
    )


def _num_characters(example: EncodedExample) -> int:
    urls = (example.image, example.truth, example.prediction, example.contours)
    return sum(map(len, urls)) + len(example.errors or "")


def _encode(example: ExampleFiles, label_map: LabelMap, side: int) -> EncodedExample:
    image, truth, prediction = (
        Image.fromarray(images.read_image(path))
        for path in (example.image, example.truth, example.prediction)
    )
    errors, wrong = None, float("nan")
    if has_distinct_colours(label_map):
        base = image if image.size == truth.size else image.resize(truth.size)
        errors, wrong = error_map(np.asarray(base), np.asarray(truth), np.asarray(prediction))
    return EncodedExample(
        name=example.name,
        height=truth.height,
        width=truth.width,
        image=data_url(image, side, lossless=False),
        truth=data_url(truth, side, lossless=True),
        prediction=data_url(prediction, side, lossless=True),
        contours=data_url(contours(image, prediction, side), side, lossless=False),
        errors=None if errors is None else data_url(Image.fromarray(errors), side, lossless=False),
        wrong=wrong,
    )
