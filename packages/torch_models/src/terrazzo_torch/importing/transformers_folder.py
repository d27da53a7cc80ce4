"""A folder that ``save_pretrained`` of transformers wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from terrazzo.base.config_parsing import Size
from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import ModelConfig
from terrazzo.data.class_matching import Matching
from terrazzo.models.pretrained_errors import first_line
from terrazzo.models.published_network import PublishedNetwork, Taken, digests
from terrazzo.models.segformer_sizes import SIZES, STRIDES, multiple
from terrazzo_torch import pretrained
from terrazzo_torch.importing import classes, image_processor
from terrazzo_torch.models import segformer
from terrazzo_torch.models import transformers as model_file
from terrazzo_torch.transformers_messages import transformers_messages_hidden

_UNNAMED = re.compile(r"LABEL_\d+")
_OF_FOLDER = ("id2label", "label2id", "architectures", "_name_or_path", "transformers_version")
"""Keys that say where a network came from and what its classes are called, not what it is."""
RGB = ("red", "green", "blue")


def read(folder: Path, origin: str, said: Mapping[str, Any]) -> PublishedNetwork:
    """Read what a folder says of its network.

    Args:
        folder: of the network.
        origin: where it comes from.
        said: its ``config.json``.

    Raises:
        ConfigError: SEG-X155 no network that labels pixels; SEG-X156 it needs code of its own;
            SEG-X160 the library refuses what it says.
    """
    settings = model_file.settings_of(dict(said))
    config = model_file.config_of(settings)
    _require_head(said, model_file.class_of(config).__name__, folder)
    names = _class_names(said, config.num_labels, folder)
    has_names = not all(map(_UNNAMED.fullmatch, names))
    parts: tuple[Any, ...] = (config, getattr(config, "backbone_config", None))
    bands = int(next((p.num_channels for p in parts if hasattr(p, "num_channels")), 3))
    _require_colours(bands, folder)
    prepared = image_processor.read(folder, bands)
    kept = {k: v for k, v in settings.items() if k not in _OF_FOLDER}
    text = json.dumps(kept | {"num_labels": config.num_labels}, sort_keys=True)
    beside = [folder / n for n in ("config.json", *image_processor.FILES)]
    files = [f for f in (*beside, *pretrained.weight_files(folder)) if f.is_file()]

    def take(matching: Matching, size: Size | None) -> Taken:
        weights, remarks = model_file.read_network(folder, text)
        groups = classes.groups_of(matching)
        if not groups:
            head = model_file.KINDS[settings["model_type"]].head.removesuffix(".")
            weights = classes.in_order(weights, (head,), matching)
        own = None if groups or prepared.reverse_bands else _own_segformer(settings, size)
        options: dict[str, Any] = {"config": text}
        if groups:
            options["outputs"] = [list(group) for group in groups]
        if prepared.reverse_bands:
            options["reverse_bands"] = True
        if settings["model_type"] == "oneformer":
            options["task"] = _task(folder)
        model = own or ModelConfig(name="transformers", options=options)
        return Taken(model, classes.state_of(weights), remarks)

    return PublishedNetwork(
        kind=f"transformers {transformers.__version__}: {model_file.class_of(config).__name__}",
        class_names=names if has_names else tuple(map(str, range(len(names)))),
        has_names=has_names,
        labels_reduced=prepared.labels_reduced,
        band_names=RGB,
        mean=prepared.mean,
        std=prepared.std,
        image_size=prepared.image_size,
        size_rule=prepared.size_rule,
        normalization_unknown=prepared.unknown,
        notes=("its masks held class k as k + 1 and 0 for pixels that do not count",)
        if prepared.labels_reduced
        else (),
        files=digests(files),
        origin=origin,
        take=take,
    )


def _require_head(said: Mapping[str, Any], wanted: str, folder: Path) -> None:
    architectures = said.get("architectures") or [wanted]
    if wanted not in architectures:
        raise ConfigError(
            "SEG-X155",
            "the network is of this kind, but it does not label pixels",
            file=folder / "config.json",
            observed=f"architectures = {architectures}",
            allowed=wanted,
            next_step="take a network that was trained for segmentation; as the beginning of a "
            "training, model.options.pretrained takes an encoder",
        )


def _class_names(said: Mapping[str, Any], number: int, folder: Path) -> tuple[str, ...]:
    """Return names by number; `LABEL_0` and so on where the file has none.

    Raises:
        ConfigError: SEG-X160, they are not one for each class.
    """
    labels = said.get("id2label") or {str(n): f"LABEL_{n}" for n in range(number)}
    if not isinstance(labels, dict) or set(labels) != {str(n) for n in range(number)}:
        raise ConfigError(
            "SEG-X160",
            "id2label does not name each class once",
            file=folder / "config.json",
            observed=f"keys {', '.join(sorted(map(str, labels)))[:200]}",
            allowed=f"0…{number - 1}",
            next_step="correct id2label",
        )
    return tuple(str(labels[str(n)]) for n in range(number))


def _require_colours(bands: int, folder: Path) -> None:
    if bands != len(RGB):
        raise ConfigError(
            "SEG-X160",
            "only networks of red, green and blue images can be imported",
            file=folder / "config.json",
            observed=f"num_channels = {bands}",
            allowed="3",
            next_step="for other bands, train with model.options.pretrained",
        )


def _own_segformer(settings: Mapping[str, Any], size: Size | None) -> ModelConfig | None:
    """Return our own SegFormer where it computes just the same: it converts and exports.

    It pads images to multiples of 32, so the size has to be one.
    """
    if settings["model_type"] != "segformer":
        return None
    if size is None or any(length % multiple(STRIDES) for length in size):
        return None
    for name in SIZES:
        options = segformer.Options(size=name)
        if segformer.computes_as(settings, options):
            return ModelConfig(name="segformer", options={"size": name})
    return None


def _task(folder: Path) -> list[float]:
    """Return the tokens of OneFormer's task, by its own tokenizer.

    Raises:
        ConfigError: SEG-X160, there is none in the folder.
    """
    try:
        # Without its files, the library makes a tokenizer that knows no word.
        _require_file(folder, ("tokenizer.json", "vocab.json"))
        with transformers_messages_hidden():
            processor = transformers.OneFormerProcessor.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
        tokens = processor.tokenizer(
            ["the task is semantic"],
            padding="max_length",
            max_length=processor.task_seq_length,
            truncation=True,
        )
    except Exception as error:  # the library has many kinds for a missing file
        raise ConfigError(
            "SEG-X160",
            "a OneFormer needs its tokenizer, and it could not be read",
            file=folder,
            observed=first_line(error)[:300],
            allowed="the files of OneFormerProcessor.save_pretrained",
            next_step="copy the whole folder again from where it was published",
        ) from error
    counted = zip(tokens["attention_mask"][0], tokens["input_ids"][0], strict=True)
    return [float(mask * number) for mask, number in counted]


def _require_file(folder: Path, names: tuple[str, ...]) -> None:
    if not any((folder / name).is_file() for name in names):
        msg = f"none of {', '.join(names)}"
        raise FileNotFoundError(msg)
