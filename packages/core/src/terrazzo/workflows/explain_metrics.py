"""`terrazzo metrics explain`: mean IoU of a run by the definitions of libraries and papers."""

from __future__ import annotations

import math
from pathlib import Path

from rich.table import Table

from terrazzo.base.errors import CheckpointError
from terrazzo.evaluation import stored
from terrazzo.metrics import iou_definitions
from terrazzo.metrics.image_counts import ImageCounts
from terrazzo.metrics.iou_definitions import explain
from terrazzo.runs.folder import RunFolder


def table(run: Path, split: str) -> Table:
    """Score one evaluation of a run by every profile.

    Raises:
        CheckpointError: SEG-C001, SEG-C014 no run folder or unreadable; SEG-C040 not scored.
    """
    scores = explain(_counts(run, split))
    lowest, highest = iou_definitions.span(scores)
    first = scores[0]
    shown = Table(
        title=f"{run}: {split}, the same label maps by {len(scores)} definitions",
        caption=f"From {lowest:.4f} to {highest:.4f}. {first.classes_present} of "
        f"{first.num_classes} classes present, {first.pixels_counted:,} pixels counted, "
        f"{first.pixels_ignored:,} ignored.",
    )
    shown.add_column("definition", overflow="fold")
    shown.add_column("score", justify="right", no_wrap=True)
    for column in ("averaging", "absent class", "ignored pixels", "why it differs"):
        shown.add_column(column, overflow="fold")
    for score in scores:
        profile = score.profile
        why = f"{profile.why} ({profile.note})" if profile.note else profile.why
        value = "NaN" if math.isnan(score.value) else f"{score.value:.4f}"
        shown.add_row(profile.name, value, profile.averaging, profile.absent, profile.ignored, why)
    return shown


def _counts(run: Path, split: str) -> ImageCounts:
    found = stored.read(RunFolder(run))
    for scored in found.scored:
        if scored.summary["split"] == split and scored.names:
            return ImageCounts(
                scored.counts_NKK,
                scored.ignored_N,
                tuple(scored.summary["classes"]),
                scored.extra.instances_N3K,
            )
    raise CheckpointError(
        "SEG-C040",
        "this run has not been scored on the split",
        file=run,
        observed=", ".join(scored.summary["split"] for scored in found.scored) or "no scores",
        allowed=split,
        next_step=f"terrazzo evaluate {run} --split {split}",
    )
