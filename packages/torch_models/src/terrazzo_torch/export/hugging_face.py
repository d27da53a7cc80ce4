"""The network alone, under the names of the library that it is from, and a model card.

``segformer`` becomes what `SegformerForSemanticSegmentation.from_pretrained` and the image
processors of transformers read. Of the others the weights go into safetensors files, which the
modules of timm, of torchvision or of this package load strictly; ``README.md`` shows how.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from terrazzo.base.errors import ConfigError
from terrazzo_torch.export import hub_page
from terrazzo_torch.transformers_messages import transformers_messages_hidden

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_torch.trainer import TorchTrainer


def write(
    trainer: TorchTrainer, card: ModelCard, form: GraphForm, folder: Path
) -> dict[str, str | int]:
    """Write weights, ``config.json`` and ``README.md``; of the form, the precision alone counts.

    Raises:
        ConfigError: SEG-X080, this precision cannot be written.
    """
    network = trainer.network.cpu().to(memory_format=torch.contiguous_format)
    if form.precision == "int8":
        raise ConfigError(
            "SEG-X080",
            "weights under the names of their library are not written in int8",
            observed='precision "int8"',
            allowed="float32, float16",
            next_step="choose one of these precisions, or another format",
        )
    if form.precision == "float16":
        network.half()
    library = hub_page.library(card)
    if library == "transformers":
        with transformers_messages_hidden():
            _write_transformers(network, card, folder)
    else:
        for name, part in _parts(network, card).items():
            save_file(part, folder / name, metadata={"format": "pt"})
        text = json.dumps(_config(card), indent=2, ensure_ascii=False) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(hub_page.model_card(card), encoding="utf-8")
    package = "terrazzo-torch" if library == "terrazzo" else library
    return {"library": library, library: metadata.version(package)}


def _write_transformers(network: nn.Module, card: ModelCard, folder: Path) -> None:
    from transformers import SegformerForSemanticSegmentation, SegformerImageProcessor

    model = network.get_submodule("network")
    assert isinstance(model, SegformerForSemanticSegmentation)
    names = card.label_map.names
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    model.config.semantic_loss_ignore_index = card.label_map.ignore_index
    model.save_pretrained(folder)
    # Of the values in 0…1 that its users expect of 8 bits; others are taken as they are.
    whole = 255 if card.bands.dtype == "uint8" else 1
    SegformerImageProcessor(
        do_resize=False,
        do_rescale=whole != 1,
        rescale_factor=1 / whole,
        do_normalize=True,
        image_mean=[value / whole for value in card.bands.mean],
        image_std=[value / whole for value in card.bands.std],
        do_reduce_labels=False,
    ).save_pretrained(folder)


def _parts(network: nn.Module, card: ModelCard) -> dict[str, dict[str, Tensor]]:
    """Return the weights of each file, by the names of the module that loads it."""
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    match hub_page.library(card):
        case "torchvision":
            return {"model.safetensors": _under("network.", weights)}
        case "timm":
            encoder = _under("encoder.", weights)
            rest = {n: t for n, t in weights.items() if not n.startswith("encoder.")}
            return {"encoder.safetensors": encoder, "decoder.safetensors": rest}
    return {"model.safetensors": weights}


def _under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)}


def _config(card: ModelCard) -> dict[str, object]:
    return {
        "library": hub_page.library(card),
        "model": card.model.name,
        "options": card.model.options,
        "num_classes": len(card.label_map),
        "id2label": {str(number): name for number, name in enumerate(card.label_map.names)},
        "ignore_index": card.label_map.ignore_index,
        "band_names": card.bands.names,
        "input_dtype": card.bands.dtype,
        "mean": card.bands.mean,
        "std": card.bands.std,
        "image_size": card.image_size,
    }
