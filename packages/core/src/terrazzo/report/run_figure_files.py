"""The figures of one run as PNG files, for experiment trackers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from terrazzo.evaluation.stored import ExampleFiles, Record, column
from terrazzo.io import images
from terrazzo.report import curves, figure_files
from terrazzo.report.confusion_figure import draw_confusion
from terrazzo.report.palettes import FILE_PALETTE

_MAX_EXAMPLES = 6
_EXAMPLE_COLUMNS = 384
_GAP_PIXELS = 6


def draw(record: Record, split: str) -> dict[str, bytes]:
    """Draw curves, confusion matrix and examples of a run that was scored on `split`.

    Returns:
        PNG files by name without suffix, without those that the run has no data for.
    """
    scored = next(each for each in record.scored if each.summary["split"] == split)
    drawn = {
        name: figure_files.encode(figure, "png") for name, figure in _curves(record.log).items()
    }
    counts_KK = np.asarray(scored.summary["counts"], dtype=np.int64)
    matrix = draw_confusion(counts_KK, scored.summary["classes"])
    drawn[f"confusion_{split}"] = figure_files.encode(matrix, "png")
    if scored.examples:
        drawn[f"examples_{split}"] = _png(_examples(scored.examples[:_MAX_EXAMPLES]))
    return drawn


def _curves(log: Sequence[Mapping[str, Any]]) -> dict[str, Figure]:
    drawn: dict[str, Figure] = {}
    steps, losses = column(log, "train", "loss")
    if steps:
        drawn["loss"] = curves.draw_loss(steps, losses, FILE_PALETTE)
        figure_files.label(drawn["loss"].axes[0], y="training loss")
        _, rates = column(log, "train", "learning_rate")
        drawn["learning_rate"] = curves.draw_learning_rate(steps, rates, FILE_PALETTE)
        figure_files.label(drawn["learning_rate"].axes[0], y="learning rate")
    steps, mean_iou = column(log, "validation", "mean_iou")
    if steps:
        _, accuracy = column(log, "validation", "pixel_accuracy")
        best = curves.best_validation(log)
        drawn["validation"] = curves.draw_validation(steps, mean_iou, accuracy, best, FILE_PALETTE)
        names = (
            ("mean IoU", FILE_PALETTE.first, "o"),
            ("pixel accuracy", FILE_PALETTE.second, "s"),
        )
        figure_files.add_legend(drawn["validation"].axes[0], names, columns=2)
    _, entropy = column(log, "validation", "cross_entropy")
    if not np.isnan(entropy).all():
        _, of_train = column(log, "validation", "train_cross_entropy")
        drawn["cross_entropy"] = curves.draw_cross_entropy(steps, entropy, of_train, FILE_PALETTE)
        figure_files.label(drawn["cross_entropy"].axes[0], y="cross-entropy a pixel, nats")
        names = (
            ("validation", FILE_PALETTE.first, "o"),
            ("training images", FILE_PALETTE.second, "s"),
        )
        figure_files.add_legend(drawn["cross_entropy"].axes[0], names, columns=2)
    return drawn


def _examples(examples: Sequence[ExampleFiles]) -> NDArray[np.uint8]:
    """Image, ground truth and prediction side by side, an example a row, on white."""
    return np.vstack([_row(each) for each in examples])


def _row(example: ExampleFiles) -> NDArray[np.uint8]:
    truth = images.read_image(example.truth)
    rows = max(1, round(truth.shape[0] * _EXAMPLE_COLUMNS / truth.shape[1]))
    size = (_EXAMPLE_COLUMNS, rows)
    # Mixed class colours would be colours of no class, or of another one.
    parts = [
        Image.fromarray(images.read_image(example.image)).resize(size, Image.Resampling.BOX),
        Image.fromarray(truth).resize(size, Image.Resampling.NEAREST),
        Image.fromarray(images.read_image(example.prediction)).resize(
            size, Image.Resampling.NEAREST
        ),
    ]
    gap = ((0, _GAP_PIXELS), (0, _GAP_PIXELS), (0, 0))
    return np.hstack([np.pad(np.asarray(part), gap, constant_values=255) for part in parts])


def _png(image_HWC: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, "PNG")
    return buffer.getvalue()
