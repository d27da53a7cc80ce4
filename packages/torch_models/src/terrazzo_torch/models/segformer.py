"""SegFormer: a hierarchical transformer with an all-MLP decoder, from the transformers library.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo: "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", 2021; sizes as in its table 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from terrazzo.base.config_parsing import Fraction, Frozen
from terrazzo.data.input_statistics import IMAGENET, InputStatistics
from terrazzo.models.pretrained_errors import Pretrained, does_not_fit, path_of
from terrazzo.models.published_weights import Sha256
from terrazzo.models.segformer_sizes import (
    PATCHES,
    REDUCTIONS,
    SIZES,
    STRIDES,
    SizeName,
    Strides,
    multiple,
)
from terrazzo_torch import pretrained
from terrazzo_torch.batch_norm import replace_batch_norms
from terrazzo_torch.padding import crop, pad_to_multiple
from terrazzo_torch.pretrained import Revision
from terrazzo_torch.transformers_messages import transformers_messages_hidden

FACTS = {
    "option": "size",
    "variants": {
        "b0": {"parameters": 3_719_541, "strides": (4, 8, 16, 32)},
        "b1": {"parameters": 13_682_645, "strides": (4, 8, 16, 32)},
        "b2": {"parameters": 27_362_773, "strides": (4, 8, 16, 32)},
        "b3": {"parameters": 47_238_613, "strides": (4, 8, 16, 32)},
        "b4": {"parameters": 64_009_173, "strides": (4, 8, 16, 32)},
        "b5": {"parameters": 84_609_493, "strides": (4, 8, 16, 32)},
    },
    "pretrained": ("encoder", "full"),
}


class Options(Frozen):
    """Options of the SegFormer; the defaults are the paper's."""

    size: SizeName = "b0"
    """A published size, or ``tiny``, which is one for tests."""
    patch_strides: Strides = STRIDES
    """Stride of each stage: [2, 2, 2, 2] for images of some 64 pixels, where 4 is coarse."""
    drop_path: Fraction = 0.1
    """Largest probability of leaving out a residual branch; grows linearly with depth."""
    dropout: Fraction = 0.1
    """Probability of dropping a channel before the classifier."""
    pretrained: Pretrained = False
    """``full``: trained on ADE20K, 150 classes."""
    revision: Revision = None
    """Commit on the hub, in place of the one built in."""
    sha256: Sha256 = None
    """That the weight file must have, in place of the one built in."""


SMALL = Options(size="tiny")
ENCODER = ("network.segformer.",)
HEAD = ("network.decode_head.classifier.",)


class _Published(NamedTuple):
    """Weights on the Hugging Face hub; without a commit known to us the recipe has to name one."""

    repository: str
    revision: str | None


_ENCODERS = {
    "b0": _Published("nvidia/mit-b0", "25ce79d97e6d9d509ed12e17cb2eb89b0a83a2dc"),
    "b1": _Published("nvidia/mit-b1", "44575a0572f5374ed1e5b4e46ec8276222f6ffe8"),
    "b2": _Published("nvidia/mit-b2", "d15ed1f9ae92346f6a6067dbb490a62494ae0d28"),
    "b3": _Published("nvidia/mit-b3", None),
    "b4": _Published("nvidia/mit-b4", None),
    "b5": _Published("nvidia/mit-b5", "40357155205b036cf11b61f132d53d2f8861f170"),
}
_ADE20K = "nvidia/segformer-b{}-finetuned-ade-{}"
_FULL = {
    "b0": _Published(_ADE20K.format(0, "512-512"), "489d5cd81a0b59fab9b7ea758d3548ebe99677da"),
    "b1": _Published(_ADE20K.format(1, "512-512"), None),
    "b2": _Published(_ADE20K.format(2, "512-512"), "de01bae28967510f9ddd496c60a969357195400c"),
    "b3": _Published(_ADE20K.format(3, "512-512"), None),
    "b4": _Published(_ADE20K.format(4, "512-512"), "2641fd1e2893964d8d473d8cf65a906cb0bff071"),
    "b5": _Published(_ADE20K.format(5, "640-640"), "739f5d4692954e4a185eac280dec1ba5a7d52f1d"),
}


def input_statistics(options: Options) -> InputStatistics:  # noqa: ARG001 - the same for all
    """Return what the published weights were trained on."""
    return IMAGENET


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make a SegFormer; random weights of transformers, or those of `options.pretrained`."""
    network = SegFormer(_config(options, num_bands, num_classes))
    if options.pretrained is not False:
        network.remarks = _load(network.network, options, num_bands)
    return network


class SegFormer(nn.Module):
    """The network; takes any height and width.

    Attributes:
        network: the module of transformers.
        remarks: what had to be changed to take over pretrained weights.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.network: nn.Module = SegformerForSemanticSegmentation(config)
        replace_batch_norms(self.network)
        self._multiple = multiple(tuple(config.strides))

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are of."""
        return self.network.get_submodule("segformer")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W."""
        padded = pad_to_multiple(images_BCHW, self._multiple)
        coarse = self.network(pixel_values=padded).logits
        logits = functional.interpolate(
            coarse, size=padded.shape[-2:], mode="bilinear", align_corners=False
        )
        return crop(logits, images_BCHW.shape)


def _config(options: Options, num_bands: int, num_classes: int) -> SegformerConfig:
    size = SIZES[options.size]
    return SegformerConfig(
        num_channels=num_bands,
        num_labels=num_classes,
        num_encoder_blocks=4,
        hidden_sizes=list(size.widths),
        depths=list(size.depths),
        decoder_hidden_size=size.decoder_width,
        sr_ratios=list(REDUCTIONS),
        patch_sizes=list(PATCHES),
        strides=list(options.patch_strides),
        num_attention_heads=[1, 2, 5, 8],
        mlp_ratios=[4, 4, 4, 4],
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout_prob=options.dropout,
        drop_path_rate=options.drop_path,
        layer_norm_eps=1e-6,
    )


def _load(network: nn.Module, options: Options, num_bands: int) -> tuple[str, ...]:
    """Load the weights that the options name; return remarks."""
    option = str(options.pretrained)
    published = {"encoder": _ENCODERS, "full": _FULL}.get(option, {}).get(options.size)
    origin: str | Path
    if published is None:
        words = ("encoder", "full") if options.size in _FULL else ()
        origin = path = path_of(option, words)
        compared = pretrained.compared(path, options.sha256)
    else:
        repository = published.repository
        revision = pretrained.require_revision(repository, published.revision, options.revision)
        origin = f"{repository}@{revision}"
        path, remark = pretrained.from_hub(repository, revision, options.sha256)
        compared = (remark,)
    stored = pretrained.read_weights(path, network.state_dict().keys())
    weights = _renamed(stored, options, origin)
    if published is None:  # shapes agree; what does not show in them has to as well
        own = _comparable(_config(options, num_bands, 1))
        pretrained.require_config(path, own, _settings_of)
    if any(name.startswith("decode_head.") for name in weights):
        remarks = pretrained.adopt(
            network, weights, num_bands=num_bands, origin=origin, heads=("decode_head.classifier",)
        )
        return (f"weights of the whole network: {origin}", *compared, *remarks)
    encoder = network.get_submodule("segformer")
    weights = {name.removeprefix("segformer."): tensor for name, tensor in weights.items()}
    remarks = pretrained.adopt(encoder, weights, num_bands=num_bands, origin=origin)
    return (f"weights of the encoder: {origin}", *compared, *remarks)


_SHAPING = (
    *("num_encoder_blocks", "hidden_sizes", "depths", "sr_ratios", "patch_sizes", "strides"),
    *("num_attention_heads", "mlp_ratios", "hidden_act", "layer_norm_eps", "reshape_last_stage"),
)
"""Settings of transformers that decide what a network computes; those of dropout do not."""


def _settings_of(said: Mapping[str, Any]) -> dict[str, object]:
    """Return what a ``config.json`` of transformers says, with its defaults for what it omits."""
    if said.get("model_type", "segformer") != "segformer":
        return {"model_type": said["model_type"]}
    known = {key: said[key] for key in _SHAPING if key in said}
    try:
        return _comparable(SegformerConfig(**known))
    except Exception:  # their own kinds of errors for wrong types
        return known


def computes_as(said: Mapping[str, Any], options: Options) -> bool:
    """Tell whether a ``config.json`` of transformers describes what `build` makes of `options`."""
    settings = _comparable(_config(options, 3, 1)) | {
        "decoder_hidden_size": SIZES[options.size].decoder_width
    }
    default = SegformerConfig().decoder_hidden_size
    width = said.get("decoder_hidden_size", default)
    return settings == _settings_of(said) | {"decoder_hidden_size": width}


def _comparable(config: SegformerConfig) -> dict[str, object]:
    settings = {key: getattr(config, key) for key in _SHAPING if hasattr(config, key)}
    return {"model_type": "segformer"} | {
        key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()
    }


def _renamed(
    stored: Mapping[str, Tensor], options: Options, origin: str | Path
) -> dict[str, Tensor]:
    """Give stored weights the names of today; transformers keeps those of 2021 in its files.

    Raises:
        CheckpointError: SEG-C020, they are of another model or another size.
    """
    bands, classes = _bands_and_classes(stored)
    with transformers_messages_hidden():
        model, found = SegformerForSemanticSegmentation.from_pretrained(
            None,
            config=_config(options, bands, classes),
            state_dict=dict(stored),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    # A classifier of ImageNet is of no use here; a file without a decoder is one of an encoder.
    strange = [n for n in found["unexpected_keys"] if not n.startswith("classifier.")]
    whole = any(name.startswith("decode_head.") for name in stored)
    missing = [n for n in found["missing_keys"] if whole or n.startswith("segformer.")]
    differing = [
        *((name, tuple(given), tuple(own)) for name, given, own in found["mismatched_keys"]),
        *((name, "missing", "needed") for name in missing),
        *((name, "given", "unknown") for name in strange),
    ]
    if differing:
        shown = sorted(differing)[:3]
        raise does_not_fit(
            origin,
            "; ".join(f"{name} {given}" for name, given, _ in shown) + f"; {len(differing)} differ",
            "; ".join(f"{name} {own}" for name, _, own in shown),
        )
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if whole or name.startswith("segformer.")
    }


def _bands_and_classes(stored: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return C and K of stored weights; K is 1 where there is no decoder."""
    first = [t for n, t in stored.items() if n.endswith("patch_embeddings.0.proj.weight")]
    first += [t for n, t in stored.items() if n.endswith("stages.0.patch_embeddings.proj.weight")]
    last = stored.get("decode_head.classifier.weight")
    return first[0].shape[1] if first else 3, 1 if last is None else last.shape[0]
