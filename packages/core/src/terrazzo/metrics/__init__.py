"""Scores from exact pixel counts. Loads NumPy and nothing heavier."""

from terrazzo.metrics.area_estimation import (
    AreaEstimates,
    Estimate,
    estimate,
    estimate_by_blocks,
    estimate_by_map_classes,
)
from terrazzo.metrics.confusion import ConfusionMatrix
from terrazzo.metrics.scores import Scores

__all__ = [
    "AreaEstimates",
    "ConfusionMatrix",
    "Estimate",
    "Scores",
    "estimate",
    "estimate_by_blocks",
    "estimate_by_map_classes",
]
