"""What a reader of an exported file alone needs to know, inside the file."""

from __future__ import annotations

import json

from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import GraphForm


def graph_metadata(card: ModelCard, form: GraphForm) -> dict[str, str]:
    """Return names and values, each of which is JSON.

    Args:
        card: what the model is.
        form: what its graph takes and gives.
    """
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
