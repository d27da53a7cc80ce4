"""Two ways of predicting with one run, scored on the same images: their difference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terrazzo.evaluation.result import Evaluation
from terrazzo.metrics import confidence_intervals


@dataclass(frozen=True)
class PairedDifference:
    """How much higher the mean IoU of an evaluation is than that of another one.

    Attributes:
        split: name of the other one.
        mean_iou: of the other one, 0…1; NaN where no class is present.
        difference: this one minus the other.
        low: lower end of the paired interval.
        high: upper end.
        level: of the interval.
        images: that were drawn from.
    """

    split: str
    mean_iou: float
    difference: float
    low: float
    high: float
    level: float
    images: int

    def line(self, mean_iou: float) -> str:
        """Say it in a line, with the mean IoU of this evaluation."""
        interval = f"[{self.low:+.4f}, {self.high:+.4f}]"
        told = f"paired over {self.images} images, {self.level:.0%}"
        if math.isnan(self.low):
            interval, told = "without an interval", f"too few images: {self.images}"
        return (
            f"mean IoU {mean_iou:.4f}, {self.split} {self.mean_iou:.4f}: difference "
            f"{self.difference:+.4f} {interval} ({told}; it compares two ways of predicting with "
            "the same trained weights)"
        )

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {name: None if value != value else value for name, value in vars(self).items()}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> PairedDifference:
        """Return what `record` made."""
        known: dict[str, Any] = {
            name: math.nan if value is None else value for name, value in record.items()
        }
        return cls(**known)


def against(evaluation: Evaluation, other: Evaluation) -> PairedDifference:
    """Compare an evaluation with another one of the same images in the same order."""
    found = confidence_intervals.compare_runs([evaluation.counts_NKK, other.counts_NKK])
    scores = found.differences[0, 1]
    interval = scores.scalars["mean_iou"]
    return PairedDifference(
        other.split,
        other.matrix.scores().mean_iou,
        interval.estimate,
        interval.low,
        interval.high,
        scores.level,
        scores.units,
    )
