"""The page of one run, from the record of its folder to HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

from terrazzo.evaluation.remarks import training_remarks
from terrazzo.evaluation.stored import Record, column
from terrazzo.report import curves, page_assets, run_examples, split_view


@dataclass(frozen=True)
class TrainingView:
    """Training curves as ``<svg>`` elements, empty where the log has no values for them.

    Attributes:
        loss: training loss.
        binned: whether a point of the loss curve is the mean of several steps.
        validation: validation scores.
        learning_rate: learning rate.
        cross_entropy: of the validations, and of training images.
        gradient_norm: norm of the gradient.
        remarks: what wants care in how the training went.
        validations: log entries of all validations.
    """

    loss: str
    binned: bool
    validation: str
    learning_rate: str
    cross_entropy: str
    gradient_norm: str
    remarks: list[str]
    validations: list[dict[str, Any]]


def render(record: Record) -> str:
    """Return the page of a run; the same record gives the same text."""
    timing = record.timing
    values = {
        "record": record,
        "run": record.run,
        "config": record.config,
        "curves": _training(record.log),
        "stopped": [entry for entry in record.log if entry["kind"] == "stopped"][-1:],
        "steps_per_second": _median_of(timing, "steps_per_second"),
        "seconds_to_first_step": _median_of(timing, "seconds_to_first_step"),
        "peak_memory": max((e.get("peak_memory_bytes", 0) for e in timing), default=0),
        "first_batch": run_examples.encode_batch(record.first_batch),
        "splits": split_view.of_all_splits(record),
    }
    return page_assets.render("run.html", values, styles=("page.css",), scripts=("page.js",))


def _median_of(entries: Sequence[dict[str, Any]], key: str) -> float | None:
    values = [entry[key] for entry in entries if key in entry]
    return median(values) if values else None


def _training(log: Sequence[dict[str, Any]]) -> TrainingView:
    steps, losses = column(log, "train", "loss")
    _, rates = column(log, "train", "learning_rate")
    validations = [entry for entry in log if entry["kind"] == "validation"]
    return TrainingView(
        loss=_svg(curves.loss_svg(steps, losses)) if steps else "",
        binned=len(steps) > curves.MAX_POINTS,
        validation=_svg(_draw_validation(log)) if validations else "",
        learning_rate=_svg(curves.learning_rate_svg(steps, rates)) if steps else "",
        cross_entropy=_svg(_draw_cross_entropy(log)),
        gradient_norm=_svg(_draw_gradient_norm(log)),
        remarks=training_remarks(log),
        validations=validations,
    )


def _draw_validation(log: Sequence[dict[str, Any]]) -> str:
    steps, mean_iou = column(log, "validation", "mean_iou")
    _, pixel_accuracy = column(log, "validation", "pixel_accuracy")
    return curves.validation_svg(steps, mean_iou, pixel_accuracy, curves.best_validation(log))


def _draw_cross_entropy(log: Sequence[dict[str, Any]]) -> str:
    steps, validation = column(log, "validation", "cross_entropy")
    _, training = column(log, "validation", "train_cross_entropy")
    known = [number for number, value in enumerate(validation) if not math.isnan(value)]
    if not known:
        return ""
    picked = [[values[number] for number in known] for values in (validation, training)]
    return curves.cross_entropy_svg([steps[number] for number in known], *picked)


def _draw_gradient_norm(log: Sequence[dict[str, Any]]) -> str:
    steps, norms = column(log, "train", "gradient_norm")
    known = [(step, norm) for step, norm in zip(steps, norms, strict=True) if not math.isnan(norm)]
    if not known:
        return ""
    return curves.gradient_norm_svg([step for step, _ in known], [norm for _, norm in known])


def _svg(text: str) -> str:
    return Markup(text)  # noqa: S704 - drawn from numbers alone
