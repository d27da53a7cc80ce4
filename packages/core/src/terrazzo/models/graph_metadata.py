"""What a reader of an exported file alone needs to know, inside the file."""

from __future__ import annotations

import json
from typing import Any

from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import GraphForm


def graph_metadata(card: ModelCard, form: GraphForm) -> dict[str, str]:
    """Return names and values, each of which is JSON.

    Args:
        card: what the model is.
        form: what its graph takes and gives.
    """
    facts: dict[str, Any] = {
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
    if card.rules.derivation is not None:  # readers of the file compute these themselves
        facts["derived_bands"] = dict(card.rules.derivation.formulas)
    return {name: json.dumps(value) for name, value in facts.items()}


def name_axes(model: Any, form: GraphForm) -> None:
    """Call the free axes of an ONNX model batch, height and width; converters number them.

    Args:
        model: an `onnx.ModelProto`, changed in place.
        form: what its graph takes and gives.
    """
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
