"""Terrazzo: semantic segmentation from Keras and PyTorch.

The public interface, in the order in which one needs it:

    load_label_map   classes, and the raw values of label files that mean them
    open_dataset     samples: ``open_dataset(...)["train"][0]``
    check_data       what is wrong with a data set
    load_recipe      the settings of a run, from a TOML file or a dictionary
    train            a finished run: ``train(recipe).scores``
    evaluate         the scores of a finished run on another split or other data
    load_model       the model of a finished run: ``load_model(run).predict(image_HWC)``
    predict          files in, files out: GeoTIFF scenes larger than memory, images, folders
    compare          finished runs ranked, with intervals
    ConfusionMatrix  scores alone, from NumPy arrays

Each name is imported when it is first used: ``import terrazzo`` loads the standard library alone,
``from terrazzo.metrics import ConfusionMatrix`` NumPy. Nothing here prints, ends the process, or
shows progress unless it is given a `terrazzo.base.progress.Progress`. Errors are those of
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
    "check_data": "check.check_data",
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
