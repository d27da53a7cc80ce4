"""Scores from exact pixel counts. Loads NumPy and nothing heavier."""

from terrazzo.metrics.confusion import ConfusionMatrix
from terrazzo.metrics.scores import Scores

__all__ = ["ConfusionMatrix", "Scores"]
