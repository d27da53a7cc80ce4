"""Scores of a run as a table on the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from terrazzo.workflows.finished_run import FinishedRun


def print_scores(finished: FinishedRun) -> None:
    """Print a table of the scores of a split, and where the report lies."""
    from rich.table import Table

    from terrazzo.base.console import PlainConsole
    from terrazzo.evaluation import remarks

    scores = finished.scores
    matrix = finished.evaluation.matrix
    table = Table(title=f"{finished.path}: {finished.evaluation.split}")
    table.add_column("class")
    for column in ("IoU", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    per_class = (scores.iou, scores.precision, scores.recall, scores.f1)
    for name, *values in zip(finished.label_map.names, *per_class, strict=True):
        table.add_row(name, *map(_score_text, values))
    table.add_section()
    means = (scores.mean_iou, scores.mean_precision, scores.mean_recall, scores.mean_f1)
    table.add_row(f"mean of {scores.classes_present} classes", *map(_score_text, means))
    foreground = [remarks.foreground_mean(each, finished.label_map.names) for each in per_class]
    if foreground[0] is not None:
        table.add_row(
            "mean without background",
            *(_score_text(math.nan if each is None else each) for each in foreground),
        )
    console = PlainConsole()
    console.print(table)
    console.print(
        f"{len(finished.evaluation.names)} images, {int(matrix.counts.sum()):,} pixels counted, "
        f"{matrix.ignored:,} ignored; pixel accuracy {scores.pixel_accuracy:.4f}",
    )
    split, images = finished.evaluation.split, len(finished.evaluation.names)
    for line in remarks.remarks(split, matrix.counts, finished.label_map.names, images):
        console.print(line, style="bold", soft_wrap=True)
    if finished.evaluation.method.definition:
        console.print(f"predictions: {finished.evaluation.method.definition}", soft_wrap=True)
    if finished.beside is not None:
        console.print(finished.beside.line(scores.mean_iou), style="bold", soft_wrap=True)
    for line in finished.extra_scores:
        console.print(line)
    if finished.report is not None:
        console.print(f"report: {finished.report}", soft_wrap=True)


def _score_text(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.4f}"
