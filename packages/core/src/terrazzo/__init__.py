"""Terrazzo: semantic segmentation from Keras and PyTorch.

The public interface. Each name is imported when it is first used, so ``import terrazzo`` and
``from terrazzo.metrics import ConfusionMatrix`` load NumPy at most. Nothing here prints, shows
progress unless it is given a `Progress`, or ends the process; errors are those of
`terrazzo.base.errors`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from terrazzo.base.recipe import load_recipe as load_recipe
    from terrazzo.check.check_data import check_data as check_data
    from terrazzo.comparison.compare import compare as compare
    from terrazzo.data.datasets import open_dataset as open_dataset
    from terrazzo.data.labels import load_label_map as load_label_map
    from terrazzo.inference.model import load_model as load_model
    from terrazzo.inference.predict import predict as predict
    from terrazzo.metrics.confusion import ConfusionMatrix as ConfusionMatrix
    from terrazzo.workflows.evaluate import evaluate as evaluate
    from terrazzo.workflows.train import train as train

__version__ = "0.1.0"

_LIVES_IN = {
    "ConfusionMatrix": "metrics.confusion",
    "check_data": "check.examine",
    "compare": "comparison.compare",
    "evaluate": "workflows.evaluate",
    "load_label_map": "data.labels",
    "load_model": "inference.model",
    "load_recipe": "base.recipe",
    "open_dataset": "data.datasets",
    "predict": "inference.predict",
    "train": "workflows.train",
}

__all__ = [
    "ConfusionMatrix",
    "__version__",
    "check_data",
    "compare",
    "evaluate",
    "load_label_map",
    "load_model",
    "load_recipe",
    "open_dataset",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LIVES_IN:
        msg = f"module 'terrazzo' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"terrazzo.{_LIVES_IN[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
