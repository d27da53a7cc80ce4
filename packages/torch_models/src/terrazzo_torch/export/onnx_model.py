"""ONNX: one file ``model.onnx``."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from terrazzo.models.exporter import INPUT
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
            of its input.
    """
    import onnx

    module = graph(trainer, card, form)
    model = _converted(module, card, form)
    onnx.helper.set_model_props(model, _metadata(card, form))
    onnx.checker.check_model(model)
    onnx.save_model(model, folder / "model.onnx")
    return {
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "opset": form.opset,
        "ir": model.ir_version,
    }


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
    _name_axes(model, form)
    return model


def _name_axes(model: onnx.ModelProto, form: GraphForm) -> None:
    """Call free axes batch, height and width; torch numbers them."""
    planes = ("height", "width") if form.size is None else form.size
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        channels_first = len(axes) == 4 and form.layout == "NCHW"
        spatial = axes[2:4] if channels_first else axes[1:3]
        for axis, name in zip((axes[0], *spatial), ("batch", *planes), strict=True):
            if isinstance(name, str):
                axis.dim_param = name
            else:
                axis.dim_value = name


def _metadata(card: ModelCard, form: GraphForm) -> dict[str, str]:
    """Return what a reader of the file alone needs to know; every value is JSON."""
    facts = {
        "class_names": card.label_map.names,
        "class_colours": tuple(c.colour for c in card.label_map.classes),
        "band_names": card.bands.names,
        "band_mean": card.bands.mean,
        "band_std": card.bands.std,
        "normalization": form.normalization,
        "layout": form.layout,
        "input_dtype": form.dtype,
        "output": form.output,
        "model": card.model.name,
        "step": card.step,
    }
    return {name: json.dumps(value) for name, value in facts.items()}
