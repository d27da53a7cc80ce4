"""The page of one run, from the record of its folder to HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from markupsafe import Markup

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
        validations: log entries of all validations.
    """

    loss: str
    binned: bool
    validation: str
    learning_rate: str
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
        validations=validations,
    )


def _draw_validation(log: Sequence[dict[str, Any]]) -> str:
    steps, mean_iou = column(log, "validation", "mean_iou")
    _, pixel_accuracy = column(log, "validation", "pixel_accuracy")
    return curves.validation_svg(steps, mean_iou, pixel_accuracy, curves.best_validation(log))


def _svg(text: str) -> str:
    return Markup(text)  # noqa: S704 - drawn from numbers alone
