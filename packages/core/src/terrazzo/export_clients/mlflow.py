"""MLflow: a folder of its kind ``python_function``, as `mlflow.pyfunc.save_model` writes it.

The model is code and an ONNX file; nothing is pickled.
"""

from __future__ import annotations

import importlib
import importlib.resources
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.export_clients.graph_file import write_graph
from terrazzo.export_clients.order import ClientOrder
from terrazzo.export_clients.readme import size_limits, value_limits, write_readme
from terrazzo.export_clients.verification import Agreement, Answer, require_agreement, sized_images
from terrazzo.models.exporter import GraphForm

OPTIONS: frozenset[str] = frozenset()
_SOURCE = "mlflow_model.py"
_REGISTRATION = '''

import mlflow


class Model(SegmentationModel, mlflow.pyfunc.PythonModel):
    """The same, as MLflow knows it."""


mlflow.models.set_model(Model())
'''
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""What the user has set stays."""


def check(order: ClientOrder) -> None:  # noqa: ARG001
    """Refuse to go on without MLflow.

    Raises:
        ConfigError: SEG-X081, it is not installed.
    """
    _mlflow()


def form(order: ClientOrder) -> GraphForm:
    """Return the form of the graph."""
    card = order.card
    return GraphForm(card.bands.dtype, "NHWC", output="probabilities", size=card.image_size)


def write(order: ClientOrder, folder: Path) -> tuple[str, ...]:
    """Write a model of MLflow; return the limits to print."""
    mlflow = _mlflow()
    card = order.card
    source = importlib.resources.files(__package__) / _SOURCE
    with tempfile.TemporaryDirectory() as beside, _quiet():
        path = write_graph(order, form(order), Path(beside))
        code = Path(beside) / _SOURCE
        code.write_text(source.read_text(encoding="utf-8") + _REGISTRATION, encoding="utf-8")
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(code),
            artifacts={"model": str(path)},
            signature=_signature(order),
            metadata=_card(order),
            pip_requirements=[
                f"mlflow=={mlflow.__version__}",
                f"onnxruntime=={metadata.version('onnxruntime')}",
                f"numpy=={np.__version__}",
            ],
        )
    limits = (
        f"images go in as files hold them, {card.bands.dtype} batch×rows×columns×bands; other "
        "types are refused where they would lose something",
        "answers are labels; with the parameter probabilities = true a dictionary of labels and "
        "probabilities",
        "served answers are JSON, about four letters a pixel: ask for tiles, not for scenes",
        *(["JSON knows no NaN: send numbers"] if card.bands.dtype == "float32" else []),
        *size_limits(order),
        *value_limits(order, missing_inside=True),
    )
    steps = (
        '`model = mlflow.pyfunc.load_model("FOLDER"); labels = model.predict(images)`',
        "Or serve it: `mlflow models serve -m FOLDER --env-manager local -p 5000`, then "
        '`POST /invocations` with `{"inputs": images}`.',
    )
    write_readme(order, folder, "MLflow", steps, limits)
    return limits


def _mlflow() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        importlib.import_module("mlflow.pyfunc")  # its client alone comes without pandas
        return importlib.import_module("mlflow")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "SEG-X081",
            "this export needs MLflow",
            observed=f"no package {error.name}",
            next_step="pip install mlflow",
        ) from None


def _signature(order: ClientOrder) -> Any:
    models, types = (importlib.import_module(f"mlflow.{name}") for name in ("models", "types"))
    schema = importlib.import_module("mlflow.types.schema")
    card = order.card
    sides = card.image_size or (-1, -1)
    image = types.TensorSpec(np.dtype(card.bands.dtype), (-1, *sides, len(card.bands)))
    labels = types.TensorSpec(card.label_map.dtype, (-1, *sides))
    return models.ModelSignature(
        inputs=types.Schema([image]),
        outputs=types.Schema([labels]),
        params=schema.ParamSchema(
            [schema.ParamSpec("probabilities", schema.DataType.boolean, default=False)]
        ),
    )


def _card(order: ClientOrder) -> dict[str, Any]:
    card = order.card
    return {
        "terrazzo": {
            "run": order.run,
            "weights_sha256": order.digest,
            "model": card.model.name,
            "backend": card.backend,
            "step": card.step,
            "bands": list(card.bands.names),
            "dtype": card.bands.dtype,
            "mean": list(card.bands.mean),
            "std": list(card.bands.std),
            "classes": [
                {"name": each.name, "colour": each.colour} for each in card.label_map.classes
            ],
        }
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow's hints for authors of code from the user, who is none."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def verify(order: ClientOrder, folder: Path) -> Agreement:
    """Hold what MLflow answers against the model.

    Raises:
        CheckpointError: SEG-C070, they differ.
    """
    agreement = require_agreement("mlflow", order, sized_images(order), Program(folder))
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)  # of loading it
    return agreement


class Program:
    """What MLflow does with a model that it loads.

    Args:
        folder: that `write` has filled.
    """

    def __init__(self, folder: Path) -> None:
        with _quiet():
            self._model = _mlflow().pyfunc.load_model(str(folder))

    def __call__(self, images_BHWC: NDArray[np.generic]) -> Answer:
        """Return labels and probabilities."""
        with _quiet():
            labels_BHW = self._model.predict(images_BHWC)
            both = self._model.predict(images_BHWC, params={"probabilities": True})
        assert np.array_equal(labels_BHW, both["labels"])
        return labels_BHW, both["probabilities"]
