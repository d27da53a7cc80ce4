"""Any network of segmentation_models.pytorch: its decoders on its own encoders and timm's.

The package is an extra: ``pip install 'terrazzo-torch[smp]'``. `terrazzo import` writes the options
of a published network; see `docs/models.md`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import segmentation_models_pytorch
from pydantic import field_validator
from segmentation_models_pytorch.base import SegmentationModel
from torch import Tensor, nn

from terrazzo.base.config_parsing import Frozen, json_table
from terrazzo.base.errors import ConfigError
from terrazzo.models.pretrained_errors import Pretrained, first_line, path_of
from terrazzo.models.published_weights import Sha256
from terrazzo_torch import pretrained
from terrazzo_torch.batch_norm import replace_batch_norms
from terrazzo_torch.grouped_outputs import Groups, grouped, require_groups
from terrazzo_torch.padding import at_least, crop, pad_to_multiple

Architecture = Literal[
    "Unet",
    "UnetPlusPlus",
    "MAnet",
    "Linknet",
    "FPN",
    "PSPNet",
    "DeepLabV3",
    "DeepLabV3Plus",
    "PAN",
    "UPerNet",
    "Segformer",
    "DPT",
]


class Options(Frozen):
    """Options of a network of segmentation_models.pytorch."""

    architecture: Architecture = "Unet"
    """A class of the package."""
    encoder: str = "resnet34"
    """One of its encoders; ``tu-NAME``: one of timm's."""
    settings: dict[str, Any] | str = "{}"
    """Arguments of the class beside these, as a table or as JSON: ``decoder_channels`` and so
    on."""
    outputs: Groups = ()
    """For each class, which of the network's own classes mean it: their probabilities are added.
    Empty: the network's classes are the classes."""
    own_classes: int | None = None
    """Of the network, where there are `outputs`."""
    reverse_bands: bool = False
    """The network takes blue, green, red where images give red, green, blue."""
    pretrained: Pretrained = False
    """A folder as ``save_pretrained`` writes it, or a weight file."""
    sha256: Sha256 = None
    """That the weight file must have."""

    @field_validator("settings")
    @classmethod
    def _as_text(cls, settings: dict[str, Any] | str) -> str:
        return json_table(settings, "settings")


SMALL = Options(
    encoder="tu-test_resnet",
    settings={"encoder_depth": 4, "decoder_channels": [16, 16, 8, 8]},
)
ENCODER = ("network.encoder.",)
HEAD = ("network.segmentation_head.0.", "network.segmentation_head.head.4.")

OF_OTHER_OPTIONS = ("encoder_name", "encoder_weights", "in_channels", "classes")
"""Arguments of the classes that options, bands and the label map give."""
OF_TRAINING_THERE = ("activation", "aux_params")
"""Arguments that add to the logits what `terrazzo` computes itself, or a head that it has not."""
SAME_WHATEVER = (*OF_OTHER_OPTIONS, *OF_TRAINING_THERE)


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make the network; the package's random weights, or those of a folder.

    Raises:
        ConfigError: SEG-X160 the package refuses the options; SEG-X157 `options.outputs` does not
            fit.
        CheckpointError: see `terrazzo_torch.pretrained`.
    """
    require_groups(options.outputs, num_classes)
    own = num_classes
    if options.outputs:
        most = max(number for group in options.outputs for number in group)
        own = options.own_classes or most + 1
    network = PublishedNetwork(make(options, num_bands, own), options)
    if options.pretrained is not False:
        network.remarks = _load(network.network, options, num_bands)
    return network


def make(options: Options, num_bands: int, num_classes: int) -> SegmentationModel:
    """Make a network of the package, without activation and without a head for whole images.

    Raises:
        ConfigError: SEG-X160.
    """
    kind = getattr(segmentation_models_pytorch, options.architecture)
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads(str(options.settings)).items()
        if name not in SAME_WHATEVER
    }
    try:
        with warnings.catch_warnings(action="ignore"):  # of names it will give up
            network: SegmentationModel = kind(
                encoder_name=options.encoder,
                encoder_weights=None,
                in_channels=num_bands,
                classes=num_classes,
                **settings,
            )
    except Exception as error:  # it has many kinds for a wrong value
        raise ConfigError(
            "SEG-X160",
            f"segmentation_models.pytorch refuses the options of this {options.architecture}",
            observed=first_line(error)[:300],
            allowed="encoders as `smp.encoders.get_encoder_names()` lists them, tu-NAME for "
            "timm's, and the arguments of the class",
            next_step="correct model.options, or take the config.json of a published network",
        ) from error
    return network


class PublishedNetwork(nn.Module):
    """A network of segmentation_models.pytorch; takes any height and width.

    Attributes:
        network: the package's module.
        remarks: what had to be changed to take over pretrained weights.
        reverse_bands: the first layer gets them in the order blue, green, red.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, network: SegmentationModel, options: Options) -> None:
        super().__init__()
        self.network: nn.Module = network
        self._outputs = options.outputs
        self.reverse_bands = options.reverse_bands
        divisible = network.requires_divisible_input_shape
        self._multiple = int(network.encoder.output_stride) if divisible else 1
        self._least = 128 if options.architecture == "PAN" else 64
        replace_batch_norms(self.network)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are of."""
        return self.network.get_submodule("encoder")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W."""
        if self.reverse_bands:
            images_BCHW = images_BCHW.flip(1)
        # No more than the package itself asks for: what it takes as it is comes out as from it.
        padded = pad_to_multiple(at_least(images_BCHW, self._least), self._multiple)
        logits_BKHW = crop(self.network(padded), images_BCHW.shape)
        return grouped(logits_BKHW, self._outputs)


def _load(network: nn.Module, options: Options, num_bands: int) -> tuple[str, ...]:
    """Load the weights that the options name; return remarks."""
    path = path_of(str(options.pretrained), ())
    compared = pretrained.compared(path, options.sha256)
    weights, left = read_network(path, network)
    own = {
        "_model_class": options.architecture,
        "encoder_name": options.encoder,
        **_arguments(json.loads(str(options.settings))),
    }
    pretrained.require_config(path, own, _arguments)
    remarks = pretrained.adopt(
        network, weights, num_bands=num_bands, origin=path, heads=(head_of(options.architecture),)
    )
    return (f"weights of the whole network: {path}", *compared, *left, *remarks)


def _arguments(said: Mapping[str, Any]) -> dict[str, Any]:
    left_out = set(SAME_WHATEVER) - {"encoder_name"}
    return {name: value for name, value in said.items() if name not in left_out}


def read_network(path: Any, network: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read the weights of a network; return them, and a sentence for what was left out.

    Raises:
        CheckpointError: as `pretrained.read_weights`.
    """
    weights = pretrained.read_weights(path, network.state_dict().keys())
    kept = {n: t for n, t in weights.items() if not n.startswith("classification_head.")}
    if len(kept) == len(weights):
        return kept, ()
    return kept, ("classification_head: left out, it is for whole images",)


def head_of(architecture: str) -> str:
    """Return the name of the layer whose outputs are the classes."""
    return "segmentation_head.head.4" if architecture == "DPT" else "segmentation_head.0"
