"""ONNX: one file ``model.onnx``."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from terrazzo.base.errors import ConfigError
from terrazzo.models.exporter import INPUT
from terrazzo.models.graph_metadata import graph_metadata, name_axes
from terrazzo_torch.export.graph import Graph, graph
from terrazzo_torch.export.program import export

if TYPE_CHECKING:
    import onnx

    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_torch.trainer import TorchTrainer


def write(
    trainer: TorchTrainer, card: ModelCard, form: GraphForm, folder: Path
) -> dict[str, str | int]:
    """Write ``model.onnx``, without a second file for the weights.

    Raises:
        ConfigError: SEG-X080, this precision cannot be written, or the network decides by the size
            of its input; SEG-X081, a package is missing.
    """
    _require_packages()
    import onnx

    module = graph(trainer, card, form)
    model = _converted(module, card, form)
    onnx.helper.set_model_props(model, graph_metadata(card, form))
    onnx.checker.check_model(model)
    onnx.save_model(model, folder / "model.onnx")
    return {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "opset": form.opset,
        "ir": model.ir_version,
    }


def _require_packages() -> None:
    missing = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if missing:
        raise ConfigError(
            "SEG-X081",
            "what writes ONNX from PyTorch is not installed",
            observed=f"no package {', '.join(missing)}",
            next_step="pip install 'terrazzo-torch[export]'",
        )


def _converted(module: Graph, card: ModelCard, form: GraphForm) -> onnx.ModelProto:
    program = export(module, form, len(card.bands))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about torch's own code
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=form.opset,
            input_names=[INPUT],
            output_names=list(module.outputs),
            external_data=False,
            verbose=False,
        )
    assert converted is not None
    model: onnx.ModelProto = converted.model_proto
    name_axes(model, form)
    return model
