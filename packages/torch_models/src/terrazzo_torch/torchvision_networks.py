"""What the segmentation networks of torchvision share: any size, auxiliary head, weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import WeightsEnum
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck, ResNet

from terrazzo.base.config_parsing import Frozen
from terrazzo.models.pretrained_errors import Pretrained, path_of
from terrazzo.models.published_weights import require_sha256
from terrazzo_torch import pretrained
from terrazzo_torch.auxiliary import TrainingLogits
from terrazzo_torch.batch_norm import replace_batch_norms
from terrazzo_torch.padding import crop, pad_to_multiple

_SUM_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")
"""Torchvision names a file after the beginning of its SHA-256."""

STRIDES = {"tiny": 8, "resnet50": 8, "resnet101": 8, "mobilenet_v3_large": 16}
"""Pixels of a cell of the coarsest map; torchvision dilates the stages after it."""


class Published(NamedTuple):
    """A network of torchvision and where its weights are; of the encoder one of its trainings."""

    make: Callable[..., nn.Module]
    encoder: WeightsEnum
    full: WeightsEnum


class DilatedOptions(Frozen):
    """Options of the models with a dilated encoder and an auxiliary head."""

    encoder: str

    auxiliary: bool = True
    """A second head on the stage before the last, in training alone."""
    norm_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old batch statistics kept at a step. The 0.99 that MobileNetV3 was published
    with needs several hundred steps before inference means anything."""
    pretrained: Pretrained = False
    encoder_weights: Literal["v1", "v2"] = "v1"
    """Which of torchvision's two trainings on ImageNet ``pretrained = "encoder"`` means."""


class TorchvisionNetwork(nn.Module):
    """An FCN or a DeepLabV3 of torchvision; takes any height and width.

    Attributes:
        network: torchvision's module.
        remarks: what had to be changed to take over pretrained weights.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, network: nn.Module, stride: int, num_bands: int, keep: float) -> None:
        super().__init__()
        self.network = network
        self._stride = stride
        take_bands(network, num_bands)
        replace_batch_norms(network, keep=keep)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are of."""
        return self.network.get_submodule("backbone")

    def forward(self, images_BCHW: Tensor) -> Tensor | TrainingLogits:
        """Return logits B×K×H×W; in training mode those of the auxiliary head as well."""
        padded = pad_to_multiple(images_BCHW, self._stride)
        features = self.encoder(padded)
        classifier = self.network.get_submodule("classifier")
        logits_BKHW = enlarge(classifier(features["out"]), padded.shape, images_BCHW.shape)
        if not (self.training and "aux" in features):
            return logits_BKHW
        classifier = self.network.get_submodule("aux_classifier")
        auxiliary_BKHW = enlarge(classifier(features["aux"]), padded.shape, images_BCHW.shape)
        return TrainingLogits(logits_BKHW, auxiliary_BKHW)


def build_network(
    options: DilatedOptions,
    sources: Mapping[str, Published | Callable[..., nn.Module]],
    num_bands: int,
    num_classes: int,
) -> TorchvisionNetwork:
    """Make a network with random weights, or those that `options.pretrained` names.

    Args:
        options: of the model.
        sources: by `options.encoder`, a published network; or what makes one without published
            weights, from `num_classes` and `aux_loss`, as torchvision's own do.
        num_bands: C.
        num_classes: K.
    """
    source, encoder, full = sources[options.encoder], None, None
    if isinstance(source, Published):
        encoder = getattr(type(source.encoder), f"IMAGENET1K_{options.encoder_weights.upper()}")
        full = source.full
        # torchvision loads an encoder trained on ImageNet where weights_backbone is not said.
        source = partial(source.make, weights=None, weights_backbone=None)
    network = TorchvisionNetwork(
        source(num_classes=num_classes, aux_loss=options.auxiliary),
        STRIDES[options.encoder],
        num_bands,
        options.norm_momentum,
    )
    network.remarks = load(
        network.network,
        options.pretrained,
        num_bands=num_bands,
        encoder=encoder,
        full=full,
        heads=("classifier.4", "aux_classifier.4") if options.auxiliary else ("classifier.4",),
    )
    return network


def enlarge(map_BKHW: Tensor, padded: torch.Size, size: torch.Size) -> Tensor:
    """Interpolate a coarse map to the padded image and cut off the padding."""
    logits_BKHW = functional.interpolate(
        map_BKHW, size=padded[-2:], mode="bilinear", align_corners=False
    )
    return crop(logits_BKHW, size)


def take_bands(network: nn.Module, num_bands: int) -> None:
    """Let the first convolution take `num_bands` bands, with new random weights where not 3."""
    convolutions = (item for item in network.named_modules() if isinstance(item[1], nn.Conv2d))
    name, first = next(convolutions)
    if first.in_channels == num_bands:
        return
    replacement = nn.Conv2d(
        num_bands,
        first.out_channels,
        first.kernel_size,
        first.stride,
        first.padding,
        bias=first.bias is not None,
        device=first.weight.device,
    )
    # As torchvision draws the weights of all its encoders.
    nn.init.kaiming_normal_(replacement.weight, mode="fan_out", nonlinearity="relu")
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, replacement)


class _NarrowBlock(Bottleneck):  # type: ignore[misc]
    expansion = 1


def tiny_backbone(*, auxiliary: bool) -> nn.Module:
    """Make a dilated ResNet of four narrow blocks, for tests."""
    encoder = ResNet(
        _NarrowBlock,
        [1, 1, 1, 1],
        width_per_group=16,
        replace_stride_with_dilation=[False, True, True],
    )
    layers = {"layer4": "out"} | ({"layer3": "aux"} if auxiliary else {})
    backbone: nn.Module = IntermediateLayerGetter(encoder, layers)
    return backbone


def load(
    network: nn.Module,
    option: Pretrained,
    *,
    num_bands: int,
    encoder: WeightsEnum | None,
    full: WeightsEnum | None,
    heads: tuple[str, ...],
) -> tuple[str, ...]:
    """Load the weights that `option` names into a torchvision network; return remarks.

    Args:
        network: with parts ``backbone`` and ``classifier``, perhaps ``aux_classifier``.
        option: see `Pretrained`.
        num_bands: C of the images.
        encoder: torchvision's weights of the backbone on ImageNet; None: there are none.
        full: its weights of the whole network; None: there are none.
        heads: names of the convolutions whose outputs are the classes.

    Raises:
        ConfigError, ResourceError, CheckpointError: see `terrazzo_torch.pretrained`.
    """
    if option is False:
        return ()
    published = {"encoder": encoder, "full": full}
    source = published.get(option)
    origin: str | Path
    if source is not None:
        origin = source.url
        weights = _fetch(source)
    else:
        words = tuple(word for word, weight in published.items() if weight is not None)
        origin = path_of(option, words)
        inside = network.get_submodule("backbone").state_dict().keys()
        weights = pretrained.read_weights(origin, network.state_dict().keys() | inside)
    if any(name.startswith("backbone.") for name in weights):
        if not hasattr(network, "aux_classifier") or network.aux_classifier is None:
            weights = _without(weights, "aux_classifier.")
        remarks = pretrained.adopt(
            network, weights, num_bands=num_bands, origin=origin, heads=heads
        )
        return (f"weights of the whole network: {origin}", *remarks)
    backbone = network.get_submodule("backbone")
    remarks = pretrained.adopt(backbone, _of_backbone(weights), num_bands=num_bands, origin=origin)
    return (f"weights of the encoder: {origin}", *remarks)


def _fetch(source: WeightsEnum) -> dict[str, Tensor]:
    file = source.url.rpartition("/")[2]
    place = Path(torch.hub.get_dir()) / "checkpoints" / file
    known = _SUM_IN_NAME.search(file)
    if not place.is_file():
        with pretrained.fetching(file, source.url, str(place)):
            source.get_state_dict(progress=False, check_hash=True, weights_only=True)
    require_sha256(place, None if known is None else known[1], source.url)
    # By our own reader, which says what is wrong with a file that somebody else put there.
    return pretrained.read_weights(place)


def _of_backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a classifier's weights to those of the backbone that torchvision cuts out of it."""
    return {
        name.removeprefix("features."): tensor
        for name, tensor in _without(weights, "fc.", "classifier.").items()
    }


def _without(weights: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith(prefixes)}
