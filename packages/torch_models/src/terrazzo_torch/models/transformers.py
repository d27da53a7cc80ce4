"""Any network of the transformers library that labels pixels, by its own ``config.json``.

Networks for semantic segmentation (SegFormer, UperNet, BEiT, Data2Vec, DPT, MobileViT, MobileNetV2)
and those that answer with masks and a class for each (MaskFormer, Mask2Former, OneFormer, EoMT),
whose masks are combined as the library's own semantic post-processing does it.

`terrazzo import` writes the options of a published network; see `docs/models.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import field_validator
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
)

from terrazzo.base.config_parsing import Frozen, json_table
from terrazzo.base.errors import ConfigError
from terrazzo.models.pretrained_errors import Pretrained, does_not_fit, path_of
from terrazzo.models.published_weights import Sha256
from terrazzo_torch import pretrained
from terrazzo_torch.batch_norm import replace_batch_norms
from terrazzo_torch.grouped_outputs import Groups, grouped, require_groups
from terrazzo_torch.padding import at_least, by_windows, crop
from terrazzo_torch.transformers_messages import transformers_messages_hidden


class Options(Frozen):
    """Options of a network of transformers."""

    config: dict[str, Any] | str = '{"model_type": "segformer"}'
    """What ``config.json`` holds: a table, or the text of the file."""
    outputs: Groups = ()
    """For each class, which of the network's own classes mean it: their probabilities are added.
    Empty: the network's classes are the classes."""
    task: tuple[float, ...] = ()
    """OneFormer's tokens of ``the task is semantic``."""
    reverse_bands: bool = False
    """The network takes blue, green, red where images give red, green, blue."""
    pretrained: Pretrained = False
    """A folder as ``save_pretrained`` writes it, or a weight file."""
    sha256: Sha256 = None
    """That the weight file must have."""

    @field_validator("config")
    @classmethod
    def _as_text(cls, config: dict[str, Any] | str) -> str:
        return json_table(config, "config")


class Kind(NamedTuple):
    """What is special to the networks of one ``model_type``.

    Attributes:
        encoder: beginnings of the names of what pretraining gives.
        head: beginning of the names of the layer whose outputs are the classes.
        masks: it answers with masks and a class for each.
        fixed: it takes images of the size in its config alone.
        least: pixels of the smallest image that it takes.
    """

    encoder: tuple[str, ...]
    head: str
    masks: bool = False
    fixed: bool = False
    least: int = 32


_MASKS_ENCODER = ("model.pixel_level_module.encoder.",)
_EOMT = Kind(
    ("embeddings.", "layers.", "layernorm.", "rope_embeddings."),
    "class_predictor.",
    masks=True,
    fixed=True,
)
KINDS = {
    "beit": Kind(("beit.",), "decode_head.classifier."),
    "data2vec-vision": Kind(("data2vec_vision.",), "decode_head.classifier.", fixed=True),
    "dpt": Kind(("dpt.",), "head.head.4.", fixed=True),
    "eomt": _EOMT,
    "eomt_dinov3": _EOMT,
    "mask2former": Kind(_MASKS_ENCODER, "class_predictor.", masks=True, least=64),
    "maskformer": Kind(_MASKS_ENCODER, "class_predictor.", masks=True, least=64),
    "mobilenet_v2": Kind(("mobilenet_v2.",), "segmentation_head.classifier.convolution."),
    "mobilevit": Kind(("mobilevit.",), "segmentation_head.classifier.convolution."),
    "mobilevitv2": Kind(("mobilevitv2.",), "segmentation_head.classifier.convolution.", least=64),
    "oneformer": Kind(
        _MASKS_ENCODER, "model.transformer_module.decoder.class_embed.", masks=True, least=64
    ),
    "segformer": Kind(("segformer.",), "decode_head.classifier."),
    "upernet": Kind(("backbone.",), "decode_head.classifier."),
}
"""By ``model_type``. Those with position embeddings of one grid are windowed, see `by_windows`."""

ENCODER = tuple(sorted({f"network.{name}" for kind in KINDS.values() for name in kind.encoder}))
HEAD = tuple(sorted({f"network.{kind.head}" for kind in KINDS.values()}))

_UNUSED = ("auxiliary_head.", "criterion.", "matcher.", "model.text_mapper.", "classifier.")
"""Parts of published networks that serve their own losses, and a classifier of ImageNet."""
_LEAST_SCORE = 1e-30
"""Below this, the logarithm of a sum of masks teaches nothing but its own size."""

SMALL = Options(
    config={
        "model_type": "segformer",
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "sr_ratios": [8, 4, 2, 1],
        "mlp_ratios": [2, 2, 2, 2],
        "decoder_hidden_size": 32,
        "classifier_dropout_prob": 0.0,
        "drop_path_rate": 0.0,
    }
)


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make the network that `options.config` describes; random weights, or those of a folder.

    Raises:
        ConfigError: SEG-X155 no such kind of network; SEG-X156 it would run code of its own;
            SEG-X160 the library refuses the config; SEG-X157 `options.outputs` does not fit.
        CheckpointError: see `terrazzo_torch.pretrained`.
    """
    require_groups(options.outputs, num_classes)
    num_outputs = num_classes
    if options.outputs:
        num_outputs = config_of(options.config).num_labels
    config = config_of(options.config, num_bands=num_bands, num_classes=num_outputs)
    network = PublishedNetwork(config, options)
    if options.pretrained is not False:
        network.remarks = _load(network.network, options, num_bands)
    return network


def settings_of(config: str | dict[str, Any]) -> dict[str, Any]:
    """Return the settings as a dictionary, whose kind is known.

    Raises:
        ConfigError: SEG-X155 no such kind; SEG-X156 it names code of its own.
    """
    settings: dict[str, Any] = json.loads(config) if isinstance(config, str) else dict(config)
    kind = settings.get("model_type")
    if "auto_map" in settings:
        raise ConfigError(
            "SEG-X156",
            "the network is made by code that comes with it, and such code is never run",
            observed=f"auto_map: {settings['auto_map']}",
            allowed=f"networks that the library itself has: {', '.join(KINDS)}",
            next_step="ask its publisher for a version that the library has",
        )
    if kind not in KINDS:
        raise ConfigError(
            "SEG-X155",
            "no network of transformers that labels pixels",
            observed=f"model_type = {kind!r}",
            allowed=", ".join(KINDS),
            next_step="take a network for semantic or universal segmentation",
        )
    return settings


def config_of(
    config: str | dict[str, Any], *, num_bands: int | None = None, num_classes: int | None = None
) -> PreTrainedConfig:
    """Return the library's own form of a config, for so many bands and classes.

    Raises:
        ConfigError: SEG-X155, SEG-X156 and SEG-X160 as `build`.
    """
    settings = settings_of(config)
    for key in ("id2label", "label2id", "auto_map", "architectures"):
        labels = settings.pop(key, None)
        if key == "id2label" and labels:
            settings.setdefault("num_labels", len(labels))
    _require_whole(settings)
    try:
        with transformers_messages_hidden():
            made: PreTrainedConfig = AutoConfig.for_model(**settings)
    except Exception as error:  # the library has many kinds for a wrong value
        raise _refused(settings["model_type"], error) from error
    if num_classes is not None:
        made.num_labels = num_classes
    if num_bands is not None:
        _take_bands(made, num_bands)
    # Heads and branches that serve the library's own losses alone.
    for key in ("use_auxiliary_head", "is_training"):
        if hasattr(made, key):
            setattr(made, key, False)
    made.return_dict = True
    return made


def _require_whole(settings: Mapping[str, Any]) -> None:
    """Refuse a config that says of its encoder only where on the hub it lies.

    Raises:
        ConfigError: SEG-X160.
    """
    if settings.get("backbone") and not settings.get("backbone_config"):
        raise ConfigError(
            "SEG-X160",
            "the config names its encoder by a place on the hub and does not describe it",
            observed=f"backbone = {settings['backbone']!r}",
            allowed="backbone_config",
            next_step="load it where there is a network and save it again with save_pretrained "
            "of today's transformers, which writes backbone_config",
        )


def _take_bands(config: PreTrainedConfig, num_bands: int) -> None:
    for each in (config, getattr(config, "backbone_config", None)):
        if each is not None and hasattr(each, "num_channels"):
            each.num_channels = num_bands


class PublishedNetwork(nn.Module):
    """A network of transformers; takes any height and width.

    An image of the size that the library's own pipeline would give it is taken as it is.

    Attributes:
        network: the library's module, without what serves its own losses alone.
        remarks: what had to be changed to take over pretrained weights.
        reverse_bands: the first layer gets them in the order blue, green, red.
        window: rows and columns of the only size that the library's module takes; larger images
            are cut into windows of it. None: it takes any.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, config: PreTrainedConfig, options: Options) -> None:
        super().__init__()
        self.kind = KINDS[config.model_type]
        self._outputs = options.outputs
        self.reverse_bands = options.reverse_bands
        self.window = _window(config)
        self._mask_size = (384, 384) if config.model_type == "mask2former" else self.window
        self._task = options.task
        self._type = config.model_type
        _require_task(config, options)
        self.network: nn.Module = _made(config)
        for part in ("criterion", "matcher"):
            if hasattr(self.network, part):
                setattr(self.network, part, None)
        replace_batch_norms(self.network)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are of."""
        names = [name.rstrip(".") for name in self.kind.encoder]
        found = [self.network.get_submodule(n) for n in names if hasattr(self.network, n)]
        if len(names) == 1:
            return self.network.get_submodule(names[0])
        return nn.ModuleList(found)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W; of masks, the logarithm of the classes' scores."""
        if self.reverse_bands:
            images_BCHW = images_BCHW.flip(1)
        if self.window is None:
            padded = at_least(images_BCHW, self.kind.least)
            scores = crop(self._scores(padded), images_BCHW.shape)
        else:
            scores = by_windows(self._scores, images_BCHW, self.window)
        logits_BKHW = scores.clamp_min(_LEAST_SCORE).log() if self.kind.masks else scores
        return grouped(logits_BKHW, self._outputs)

    def _scores(self, images_BCHW: Tensor) -> Tensor:
        """Return logits of the image's size; of masks, the sum of each class's masks."""
        size = images_BCHW.shape[-2:]
        if not self.kind.masks:
            return _enlarged(self.network(pixel_values=images_BCHW).logits, size)
        given: dict[str, Tensor] = {}
        if self._type == "oneformer":
            task = images_BCHW.new_tensor(self._task)
            given["task_inputs"] = task.expand(len(images_BCHW), -1)
        output = self.network(pixel_values=images_BCHW, **given)
        masks_BQHW = output.masks_queries_logits.float()
        if self._mask_size is not None:
            masks_BQHW = _enlarged(masks_BQHW, self._mask_size)
        # The last class is "no object".
        classes_BQK = output.class_queries_logits.float().softmax(dim=-1)[..., :-1]
        scores = torch.einsum("bqc, bqhw -> bchw", classes_BQK, masks_BQHW.sigmoid())
        return _enlarged(scores, size)


def class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the library's class for a config."""
    for mapping in (
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
        MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
    ):
        if type(config) in mapping:
            found: Any = mapping[type(config)]
            made: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
            return made
    raise AssertionError(config.model_type)


def _made(config: PreTrainedConfig) -> nn.Module:
    """Make the library's network of a config, with random weights.

    Raises:
        ConfigError: SEG-X160, it cannot; SEG-X003, a package is missing.
    """
    try:
        with transformers_messages_hidden():
            network: nn.Module = class_of(config)(config)
    except (KeyError, ValueError, TypeError, AttributeError, ImportError, IndexError) as error:
        raise _refused(config.model_type, error) from error
    return network


def _refused(kind: str, error: Exception) -> ConfigError:
    if isinstance(error, ImportError):
        return ConfigError(
            "SEG-X003",
            f"transformers needs a package that is not installed to make a {kind}",
            observed=" ".join(str(error).split())[:300],
            next_step="pip install scipy, or what else the line above names",
        )
    return ConfigError(
        "SEG-X160",
        f"transformers refuses the config of this {kind}",
        observed=" ".join(str(error).split())[:300] or type(error).__name__,
        next_step="compare it with the publisher's config.json and the library's release",
    )


def _enlarged(map_BKHW: Tensor, size: tuple[int, ...]) -> Tensor:
    if map_BKHW.shape[-2:] == tuple(size):
        return map_BKHW
    return functional.interpolate(map_BKHW, size=size, mode="bilinear", align_corners=False)


def _window(config: PreTrainedConfig) -> tuple[int, int] | None:
    """Return rows and columns of the only image size that a network takes; None: any."""
    inner = getattr(config, "backbone_config", None)
    fixed = [c for c in (config, inner) if c is not None and _is_fixed(c)]
    if not fixed:
        return None
    size: Any = getattr(fixed[0], "image_size", None) or getattr(inner, "image_size", 224)
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _is_fixed(config: PreTrainedConfig) -> bool:
    return config.model_type in KINDS and KINDS[config.model_type].fixed


def _require_task(config: PreTrainedConfig, options: Options) -> None:
    """Refuse a OneFormer without the tokens of its task.

    Raises:
        ConfigError: SEG-X160.
    """
    needed = config.task_seq_len if config.model_type == "oneformer" else 0
    if len(options.task) != needed:
        raise ConfigError(
            "SEG-X160",
            "a OneFormer needs the tokens of its task, and other networks have none",
            observed=f"model.options.task of {len(options.task)} numbers",
            allowed=f"{needed}",
            next_step="`terrazzo import` takes them from the network's own tokenizer",
        )


def _load(network: nn.Module, options: Options, num_bands: int) -> tuple[str, ...]:
    """Load the weights that the options name; return remarks."""
    path = path_of(str(options.pretrained), ())
    compared = pretrained.compared(path, options.sha256)
    weights, left = read_network(path, options.config)
    own = _comparable(settings_of(options.config))
    pretrained.require_config(path, own, _comparable)
    remarks = pretrained.adopt(
        network, weights, num_bands=num_bands, origin=path, heads=(_head_of(options.config),)
    )
    return (f"weights of the whole network: {path}", *compared, *left, *remarks)


def _head_of(config: str | dict[str, Any]) -> str:
    return KINDS[settings_of(config)["model_type"]].head.removesuffix(".")


def read_network(
    path: Path, config: str | dict[str, Any]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the weights of a network by the names that the library has today.

    Args:
        path: of the weights; see `pretrained.read_weights`.
        config: of the stored network.

    Returns:
        All weights of the network, without those of its own losses; a sentence for each part that
        was left out.

    Raises:
        CheckpointError: as `pretrained.read_weights`; SEG-C020, they are of another network.
    """
    made = config_of(config)
    kind = class_of(made)
    with torch.device("meta"):
        wanted = _made(made).state_dict().keys()
    stored = pretrained.read_weights(path, wanted)
    with transformers_messages_hidden():
        model, found = kind.from_pretrained(
            None,
            config=made,
            state_dict=dict(stored),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    unused = sorted({n.partition(".")[0] for n in found["unexpected_keys"] if _is_unused(n)})
    differing = [
        *((name, tuple(given), tuple(own)) for name, given, own in found["mismatched_keys"]),
        *((name, "missing", "needed") for name in found["missing_keys"] if not _is_unused(name)),
        *((name, "given", "unknown") for name in found["unexpected_keys"] if not _is_unused(name)),
    ]
    if differing:
        shown = sorted(differing, key=str)[:3]
        raise does_not_fit(
            path,
            "; ".join(f"{name} {given}" for name, given, _ in shown) + f"; {len(differing)} differ",
            "; ".join(f"{name} {own}" for name, _, own in shown),
        )
    weights = {n: t for n, t in model.state_dict().items() if not _is_unused(n)}
    return weights, tuple(f"{part}: left out, it serves training by its authors" for part in unused)


def _is_unused(name: str) -> bool:
    return name.startswith(_UNUSED)


_NOT_SHAPING = frozenset(
    (
        *("num_labels", "num_channels", "id2label", "label2id", "_name_or_path", "architectures"),
        *("transformers_version", "dtype", "torch_dtype", "initializer_range", "init_std"),
        *("semantic_loss_ignore_index", "problem_type", "output_hidden_states", "return_dict"),
        *("output_attentions", "use_auxiliary_head", "use_auxiliary_loss", "is_training"),
    )
)
"""Settings that leave what a network computes as it is; and all that have to do with losses."""


def _comparable(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what a network computes, with the library's defaults."""
    settings = config_of(dict(said)).to_dict()
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "backbone_config" and isinstance(value, dict):
            flat |= {f"{key}.{k}": v for k, v in value.items() if _shapes(k)}
        elif _shapes(key):
            flat[key] = value
    comparable: dict[str, Any] = json.loads(json.dumps(flat, default=str))
    return comparable | {"model_type": said["model_type"]}


def _shapes(key: str) -> bool:
    words = ("dropout", "drop_path", "auxiliary", "_weight", "loss", "_id")
    return key not in _NOT_SHAPING and not any(word in key for word in words)
