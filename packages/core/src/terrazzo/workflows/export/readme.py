"""The ``README.md`` of an exported folder: what it is, and how it is run without Terrazzo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import GraphForm

_READ = "from PIL import Image; import numpy as np"
_LOAD = 'image = np.asarray(Image.open("photo.png"))'

_SNIPPETS = {
    "onnx": """import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
labels = session.run(["labels"], {{"image": {batch}}})[0][0]""",
    "openvino": """import openvino
exact = {{"INFERENCE_PRECISION_HINT": "f32"}}  # else bfloat16 where the processor has it
model = openvino.Core().compile_model("model.xml", "CPU", exact)
labels = model({batch})["labels"][0]""",
    "litert": """from ai_edge_litert.interpreter import Interpreter
model = Interpreter("model.tflite")
model.resize_tensor_input(model.get_input_details()[0]["index"], {batch}.shape)
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], {batch})
model.invoke()
labels = model.get_tensor(model.get_output_details()[0]["index"])[0].argmax(axis=-1)""",
    "torch": """import torch
model = torch.export.load("model.pt2").module()
labels = model(torch.tensor({batch}))[1][0]""",
    "keras": """import keras, terrazzo_keras.registered_layers
model = keras.models.load_model("model.keras")
labels = model.predict({batch})[0].argmax(axis=-1)""",
}


def text(name: str, card: ModelCard, to: str, form: GraphForm, verified: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        name: of the run.
        card: what the model is.
        to: the format.
        form: of the graph.
        verified: what was found; see `verification.verify`.
    """
    batch = "image[None]" if form.layout == "NHWC" else "image.transpose(2, 0, 1)[None]"
    lines = [
        f"# {card.model.name} from the run {name}, as {to} in {form.precision}",
        "",
        f"{len(card.bands)} bands {', '.join(card.bands.names)} of {form.dtype} as files hold them "
        f"({form.layout}) → {len(card.label_map)} classes: {', '.join(card.label_map.names)}.",
        f"Normalisation is {form.normalization} the graph. All facts: `export.json`.",
        _told(verified),
    ]
    derivation = card.rules.derivation
    if derivation is not None:
        lines.append(
            "`terrazzo predict` computes bands while it reads a GeoTIFF, and the network does not: "
            f"give it {derivation.text}, of {', '.join(derivation.source_names)}."
        )
    if card.image_size is not None:
        lines.append(
            f"It was trained on images of {card.image_size[0]}×{card.image_size[1]}: resize first."
        )
    snippet = _SNIPPETS.get(to)
    if snippet is not None:
        code = f"{_READ}\n{_LOAD}\n{snippet.format(batch=batch)}"
        lines += ["", "```python", code, "```"]
    return "\n".join(lines) + "\n"


def hub_scores(verified: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the scores on ``val`` as `Exporter.model_card` takes them; None: not scored."""
    val = verified.get("val")
    if val is None:
        return None
    exported = val["exported"]
    scores = {name: exported[name] for name in ("mean_iou", "pixel_accuracy")}
    classes = {f"iou of {name}": value for name, value in exported["iou"].items()}
    return {
        "split": "val",
        "definition": f"{val['images']} images; {val['definition']}",
        "scores": {name: v for name, v in (scores | classes).items() if v is not None},
        "intervals": {
            name: ends
            for name, ends in exported.get("intervals_95", {}).items()
            if None not in ends
        },
        "interval_definition": "Intervals of 95 %, over other images of this kind.",
    }


def _told(verified: Mapping[str, Any]) -> str:
    told = (
        f"Verified in its runtime: logits within {verified['largest_error']:.1e} of their range, "
        f"{verified['labels_changed']:.4%} of the labels changed"
    )
    val = verified.get("val")
    if val is None:
        return f"{told}; not scored (no data)."
    own, exported = (val[each]["mean_iou"] for each in ("framework", "exported"))
    return f"{told}; mean IoU on val {_score(exported)}, by the framework {_score(own)}."


def _score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
