"""The model card of a Hugging Face folder: what it is, how it is loaded, how it scored."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from terrazzo.base import config_parsing

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard

_TORCHVISION = ("deeplabv3", "fcn", "lraspp")
_VISION_TRANSFORMERS = ("vit", "dinov3_linear")
_ON_TIMM = (*_VISION_TRANSFORMERS, "unet")
"""Models whose option ``encoder`` is a network of timm by itself; an ``smp`` names its own way."""


def library(card: ModelCard) -> str:
    """Return whose module takes the weights: transformers, torchvision, timm or terrazzo."""
    options = _options(card)
    if card.model.name == "segformer":
        return "transformers"
    if getattr(options, "encoder", None) == "tiny":
        return "terrazzo"  # one for tests
    if card.model.name in _TORCHVISION:
        return "torchvision"
    on_timm = card.model.name in _ON_TIMM and getattr(options, "encoder", None)
    return "timm" if on_timm else "terrazzo"


def model_card(card: ModelCard, scores: Mapping[str, Any] | None = None) -> str:
    """Return the text of ``README.md``.

    Args:
        card: what the model is.
        scores: as JSON has it: ``split``, its name; ``definition``, how the scores are defined;
            ``scores``, numbers by name; ``intervals``, perhaps, their lower and upper ends by name,
            and ``interval_definition``. None: not known.
    """
    sections = [
        _front_matter(card),
        f"# {card.model.name}, {len(card.label_map)} classes\n",
        _about(card),
        _loading(card),
    ]
    if scores is not None:
        sections.append(_scores(scores))
    return "\n".join(sections)


def _front_matter(card: ModelCard) -> str:
    return f"""---
# license: to be filled in by whoever publishes this, with the data it was trained on in mind
library_name: {library(card)}
pipeline_tag: image-segmentation
tags:
- semantic-segmentation
---
"""


def _about(card: ModelCard) -> str:
    bands = card.bands
    lines = [
        f"A `{card.model.name}` for semantic segmentation, trained for {card.step:,} steps with "
        "Terrazzo.",
        "",
        f"Images: {bands.dtype}, bands {', '.join(bands.names)} in this order, less the mean "
        f"{_numbers(bands.mean)} and divided by {_numbers(bands.std)}, in the files' own units.",
    ]
    if bands.dtype == "float32":
        lines.append("Where a value is missing (NaN), put the band's mean before.")
    if card.image_size is not None:
        height, width = card.image_size
        lines.append(f"Images were brought to {height} × {width} pixels before.")
    lines += ["", "| class | name | colour |", "|--:|---|---|"]
    lines += [
        f"| {number} | {_cell(known.name)} | {known.colour} |"
        for number, known in enumerate(card.label_map.classes)
    ]
    return "\n".join(lines) + "\n"


def _loading(card: ModelCard) -> str:
    lines = {
        "transformers": _with_transformers,
        "torchvision": _with_torchvision,
        "timm": _with_timm,
        "terrazzo": _with_terrazzo,
    }[library(card)](card)
    return "\n".join(["```python", *lines, "```", ""])


def _with_transformers(card: ModelCard) -> list[str]:
    first = ["from transformers import AutoImageProcessor, SegformerForSemanticSegmentation", ""]
    # transformers guesses the axis of the bands for one or three of them alone.
    axis = "" if len(card.bands) in (1, 3) else ', input_data_format="channels_last"'
    return [
        *first,
        'processor = AutoImageProcessor.from_pretrained(".")',
        'model = SegformerForSemanticSegmentation.from_pretrained(".").eval()',
        "# image: rows × columns × bands; a quarter of them comes out. Labels are those of",
        "# Terrazzo where both are multiples of 32: pad others below and right, and crop.",
        f'logits = model(**processor(image, return_tensors="pt"{axis})).logits',
    ]


def _with_torchvision(card: ModelCard) -> list[str]:
    options: Any = _options(card)
    name = card.model.name
    make = "lraspp_mobilenet_v3_large" if name == "lraspp" else f"{name}_{options.encoder}"
    auxiliary = "" if name == "lraspp" else f", aux_loss={options.auxiliary}"
    return [
        "from safetensors.torch import load_file",
        "from torchvision.models import segmentation",
        "",
        f"model = segmentation.{make}(",
        f"    weights=None, weights_backbone=None, num_classes={len(card.label_map)}{auxiliary}",
        ")",
        *_more_bands(card),
        'model.load_state_dict(load_file("model.safetensors"))',
        'logits = model.eval()(normalised_images)["out"]',
    ]


def _more_bands(card: ModelCard) -> list[str]:
    """Return the lines that let torchvision take other than three bands."""
    num_bands = len(card.bands)
    if num_bands == 3:
        return []
    if "resnet" in str(getattr(_options(card), "encoder", "")):
        replaced, arguments = "conv1", "64, 7, stride=2, padding=3"
    else:
        replaced, arguments = "['0'][0]", "16, 3, stride=2, padding=1"
    dot = "." if replaced == "conv1" else ""
    return [
        "import torch",
        f"model.backbone{dot}{replaced} = torch.nn.Conv2d({num_bands}, {arguments}, bias=False)",
    ]


def _with_timm(card: ModelCard) -> list[str]:
    from terrazzo_torch import timm_encoders

    options: Any = _options(card)
    num_bands = len(card.bands)
    if card.model.name in _VISION_TRANSFORMERS:
        settings = timm_encoders.vision_transformer_settings(
            options.encoder, num_bands, patch_size=options.patch_size, drop_path=0.0
        )
        settings = {"num_classes": 0} | settings
        cut = ["encoder.prune_intermediate_layers(1)"]
    else:
        _, settings = timm_encoders.feature_pyramid(options.encoder, num_bands, options.depth)
        cut = []
    arguments = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return [
        "import timm",
        "from safetensors.torch import load_file",
        "",
        f"encoder = timm.create_model({options.encoder!r}, pretrained=False, {arguments})",
        *cut,
        'encoder.load_state_dict(load_file("encoder.safetensors"))',
        "",
        "# The whole network, which takes normalised images of any size, with terrazzo-torch:",
        *_with_terrazzo(card, ("encoder", "decoder")),
    ]


def _with_terrazzo(card: ModelCard, parts: tuple[str, ...] = ()) -> list[str]:
    name = card.model.name
    options = {k: v for k, v in card.model.options.items() if k != "pretrained"}
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    lines = [] if parts else ["from safetensors.torch import load_file"]
    lines += [
        f"from terrazzo_torch.models import {name}",
        "",
        f"model = {name}.build({name}.Options({given}), {len(card.bands)}, {len(card.label_map)})",
    ]
    if parts:
        lines += [
            'weights = {f"encoder.{n}": t for n, t in load_file("encoder.safetensors").items()}',
            'model.load_state_dict(weights | load_file("decoder.safetensors"))',
        ]
    else:
        lines.append('model.load_state_dict(load_file("model.safetensors"))')
    return [*lines, "logits = model.eval()(normalised_images)"]


def _scores(scores: Mapping[str, Any]) -> str:
    intervals = scores.get("intervals") or {}
    lines = [
        f"## Scores on the split `{scores['split']}`",
        "",
        str(scores["definition"]),
        "",
        "| score | value | interval |",
        "|---|--:|---|",
    ]
    for name, value in scores["scores"].items():
        ends = intervals.get(name)
        shown = "" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"
        lines.append(f"| {_cell(name)} | {value:.4f} | {shown} |")
    if intervals:
        lines += ["", str(scores.get("interval_definition", "Intervals of 95 %."))]
    return "\n".join(lines) + "\n"


def _options(card: ModelCard) -> object:
    file = importlib.import_module(f"terrazzo_torch.models.{card.model.name}")
    return config_parsing.parse(file.Options, card.model.options, where="model.options")


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
