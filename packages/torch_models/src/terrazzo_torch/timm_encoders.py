"""Encoders of the timm library, with random or pretrained weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
from timm.models import is_model_in_modules
from torch import Tensor, nn

from terrazzo.base.errors import ConfigError
from terrazzo.data.input_statistics import IMAGENET, InputStatistics
from terrazzo.models.pretrained_errors import Pretrained, does_not_fit, path_of
from terrazzo_torch import pretrained

_VISION_TRANSFORMERS = ("vision_transformer", "deit", "eva")
"""Modules of timm whose models have one grid of tokens and take images of any size."""

_REVISIONS = {
    "timm/resnet18.a1_in1k": "491b427b45c94c7fb0e78b5474cc919aff584bbf",
    "timm/resnet50.a1_in1k": "767268603ca0cb0bfe326fa87277f19c419566ef",
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k": "7d3afdd0cf93ad84d986eb2d6bcc5812ebd0b106",
}
"""Commits of the hub's repositories; for the hundreds of others, the recipe names one."""


class Pinned(NamedTuple):
    """What a recipe says of the file to fetch.

    Attributes:
        revision: a commit; None: the one built in.
        sha256: of the file; None: the one built in, if there is one.
    """

    revision: str | None
    sha256: str | None


Settings = dict[str, Any]
"""Arguments of `timm.create_model` that shape an encoder."""


def vision_transformer_settings(
    name: str, num_bands: int, *, patch_size: int | None, drop_path: float
) -> Settings:
    """Return the settings of a ViT that takes images of any size.

    Raises:
        ConfigError: SEG-X004, timm knows no such ViT.
    """
    choices = [n for n in timm.list_models() if is_model_in_modules(n, _VISION_TRANSFORMERS)]
    _require(name, choices, "vision transformer of timm")
    settings = {"in_chans": num_bands, "dynamic_img_size": True, "drop_path_rate": drop_path}
    # Position embeddings, made for the size the model was published for, are resampled to it.
    return settings if patch_size is None else settings | {"patch_size": patch_size}


def vision_transformer(name: str, settings: Settings) -> nn.Module:
    """Make a ViT without its classifier, with random weights."""
    model = timm.create_model(name, pretrained=False, num_classes=0, **settings)
    model.prune_intermediate_layers(1)  # also drops pooling and the norm that goes with it
    encoder: nn.Module = model
    return encoder


def feature_pyramid(name: str, num_bands: int, depth: int) -> tuple[nn.Module, Settings]:
    """Make an encoder that returns a map at each halving down to 2^depth, with random weights.

    Returns:
        The encoder, whose ``feature_info`` tells channels and strides; the settings it came from.

    Raises:
        ConfigError: SEG-X004 timm knows no such encoder; SEG-X022 it halves otherwise.
    """
    _require(name, timm.list_models(), "encoder of timm")
    settings: Settings = {"in_chans": num_bands, "features_only": True}
    strides = timm.create_model(name, pretrained=False, **settings).feature_info.reduction()
    indices = tuple(index for index, stride in enumerate(strides) if stride <= 2**depth)
    powers = {2**level for level in range(1, 9)}
    if not indices or sorted(set(strides)) != list(strides) or not powers.issuperset(strides):
        raise ConfigError(
            "SEG-X022",
            f"{name!r} is no pyramid that a UNet can use at this depth",
            observed=f"strides {', '.join(map(str, strides))} at depth {depth}",
            allowed="strides that are different powers of 2, the first of them at most 2^depth",
            next_step="choose another model.options.encoder, or a larger depth",
        )
    settings["out_indices"] = indices
    return timm.create_model(name, pretrained=False, **settings), settings


def input_statistics(name: str) -> InputStatistics:
    """Return what timm says of the images that the weights of an encoder were trained on.

    Without a tag, the weights are those timm takes by default; of a model it has no weights of,
    those of ImageNet.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or len(config.mean) != 3:
        return IMAGENET
    red, green, blue = (255 * value for value in config.mean)
    deviations = tuple(255 * value for value in config.std)
    return InputStatistics((red, green, blue), (deviations[0], deviations[1], deviations[2]))


def load(
    encoder: nn.Module, name: str, settings: Settings, option: Pretrained, pinned: Pinned
) -> tuple[str, ...]:
    """Load the weights that `option` names into an encoder made with `settings`; return remarks.

    Raises:
        ConfigError, ResourceError, CheckpointError: see `terrazzo_torch.pretrained`.
    """
    if option is False:
        return ()
    origin: str | Path
    if option == "encoder":
        origin, path, remark = _from_hub(name, pinned)
        compared: tuple[str, ...] = (remark,)
    else:
        origin = path = path_of(option, ("encoder",))
        compared = pretrained.compared(path, pinned.sha256)
    weights = pretrained.read_weights(path, encoder.state_dict().keys())
    given = _in_form(name, settings, weights, origin)
    if option != "encoder":
        own = {"architecture": name.partition(".")[0], "model_args": {}}
        pretrained.require_config(path, own, lambda said: _said_by_timm(said, settings))
    remarks = pretrained.adopt(encoder, given, num_bands=settings["in_chans"], origin=origin)
    return (f"weights of the encoder: {origin}", *compared, *remarks)


def _said_by_timm(said: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return what a ``config.json`` of timm says of the encoder; settings of ours left out."""
    found: dict[str, Any] = {}
    if "architecture" in said:
        found["architecture"] = said["architecture"]
    if isinstance(arguments := said.get("model_args"), dict):
        shaping = {k: v for k, v in arguments.items() if k not in _NOT_SHAPING}
        found["model_args"] = {k: v for k, v in shaping.items() if settings.get(k) != v}
    return found


_NOT_SHAPING = ("num_classes", "in_chans", "img_size", "global_pool", "drop_rate", "drop_path_rate")
"""Arguments in a ``config.json`` of timm that leave what an encoder computes as it is."""


def _from_hub(name: str, pinned: Pinned) -> tuple[str, Path, str]:
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    if config is None or not config.hf_hub_id:
        raise ConfigError(
            "SEG-X020",
            f"timm has no pretrained weights for {name!r}",
            observed='pretrained = "encoder"',
            allowed="false, or the path of a weight file",
            next_step="choose another encoder; a name with a tag means one training of a model",
        )
    repository = config.hf_hub_id
    commit = pretrained.require_revision(repository, _REVISIONS.get(repository), pinned.revision)
    names = {"files": (config.hf_hub_filename,)} if config.hf_hub_filename else {}
    path, remark = pretrained.from_hub(repository, commit, pinned.sha256, **names)
    return f"{repository}@{commit}", path, remark


def _in_form(
    name: str, settings: Settings, weights: Mapping[str, Tensor], origin: str | Path
) -> dict[str, Tensor]:
    """Return stored weights as an encoder with `settings`, but of the stored bands, holds them.

    timm's own loader renames old names and resamples kernels and position embeddings.

    Raises:
        CheckpointError: SEG-C020, they are of another model.
    """
    config = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    first = weights.get(f"{config.first_conv}.weight")
    bands = 3 if first is None else first.shape[1]
    head = weights.get(f"{config.classifier}.weight")
    num_classes = 0 if head is None else head.shape[0]
    source = {
        "state_dict": dict(weights),
        "input_size": (bands, *config.input_size[1:]),
        "num_classes": num_classes,
        "custom_load": False,
    }
    shape = settings | {"in_chans": bands, "pretrained": True, "pretrained_cfg_overlay": source}
    whole = {k: v for k, v in shape.items() if k not in ("features_only", "out_indices")}
    try:
        # The whole classifier is loaded strictly; encoders alone, whatever is missing.
        model = timm.create_model(name, num_classes=num_classes, **whole)
        if "features_only" in settings:
            model = timm.create_model(name, **shape)
        else:
            model.prune_intermediate_layers(1)
    except (RuntimeError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise does_not_fit(
            origin, " ".join(lines[1:3])[:600] or lines[0], f"the weights of timm's {name}"
        ) from error
    return dict(model.state_dict())


def _require(name: str, choices: list[str], kind: str) -> None:
    architecture = name.partition(".")[0]
    if architecture in choices:
        return
    close = difflib.get_close_matches(architecture, choices, n=5, cutoff=0.3)
    raise ConfigError(
        "SEG-X004",
        f"unknown {kind} {name!r}",
        observed=name,
        allowed=f"one of {len(choices)}, such as {', '.join(close or choices[:5])}",
        next_step="choose one; `python -c 'import timm; print(timm.list_models())'` shows all",
    )
