"""A file with the weights of a segmentation network of torchvision."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor

from terrazzo.base.config_parsing import Size
from terrazzo.base.errors import unknown_name
from terrazzo.base.recipe import ModelConfig
from terrazzo.data.class_matching import Matching
from terrazzo.data.input_statistics import IMAGENET
from terrazzo.models.pretrained_errors import does_not_fit
from terrazzo.models.published_network import PublishedNetwork, Taken, digests, require_one_to_one
from terrazzo_torch import pretrained
from terrazzo_torch.importing import classes
from terrazzo_torch.torchvision_networks import STRIDES

_RGB = ("red", "green", "blue")


class _Architecture(NamedTuple):
    model: str
    encoder: str | None
    heads: tuple[str, ...]


_DILATED = ("classifier.4", "aux_classifier.4")
ARCHITECTURES = {
    "deeplabv3_mobilenet_v3_large": _Architecture("deeplabv3", "mobilenet_v3_large", _DILATED),
    "deeplabv3_resnet50": _Architecture("deeplabv3", "resnet50", _DILATED),
    "deeplabv3_resnet101": _Architecture("deeplabv3", "resnet101", _DILATED),
    "fcn_resnet50": _Architecture("fcn", "resnet50", _DILATED),
    "fcn_resnet101": _Architecture("fcn", "resnet101", _DILATED),
    "lraspp_mobilenet_v3_large": _Architecture(
        "lraspp", None, ("classifier.low_classifier", "classifier.high_classifier")
    ),
}
"""The functions of ``torchvision.models.segmentation``, and our models of the same networks."""


def read(source: Path, origin: str, architecture: str) -> PublishedNetwork:
    """Read a file whose architecture the person has named.

    Raises:
        ConfigError: SEG-X004, torchvision has no such network.
        CheckpointError: SEG-C020 the weights are of another; others as `pretrained.read_weights`.
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("network of torchvision", architecture, ARCHITECTURES)
    kind = ARCHITECTURES[architecture]
    names = _wanted(architecture)
    weights = pretrained.read_weights(source, names)
    head = weights.get(f"{kind.heads[0]}.weight")
    if head is None:
        shown = ", ".join(sorted(weights)[:3])
        raise does_not_fit(source, shown, f"{kind.heads[0]}.weight and others of {architecture}")
    number = len(head)
    options: dict[str, Any] = {}
    if kind.encoder is not None:
        auxiliary = any(name.startswith("aux_classifier.") for name in weights)
        options = {"encoder": kind.encoder, "auxiliary": auxiliary}

    def take(matching: Matching, _: Size | None) -> Taken:
        require_one_to_one(matching, "torchvision")
        own = _loaded(kind, options, weights, number, source)
        moved = classes.in_order(own, kind.heads, matching)
        model = ModelConfig(name=kind.model, options=options)
        return Taken(model, classes.state_of(moved), ())

    stride = STRIDES[kind.encoder or "mobilenet_v3_large"]
    return PublishedNetwork(
        kind=f"torchvision {torchvision.__version__}: {architecture}",
        class_names=tuple(map(str, range(number))),
        has_names=False,
        labels_reduced=False,
        band_names=_RGB,
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        image_size=None,
        size_rule=None,
        normalization_unknown="",
        notes=(
            "torchvision normalises images of all its segmentation networks by ImageNet; its file "
            "says nothing of a size",
            f"images are padded to multiples of {stride} here and not there: at other sizes the "
            "last rows and columns differ a little",
        ),
        files=digests(pretrained.weight_files(source)),
        origin=origin,
        take=take,
    )


def _wanted(architecture: str) -> set[str]:
    make = getattr(torchvision.models.segmentation, architecture)
    given = {} if architecture.startswith("lraspp") else {"aux_loss": True}
    with torch.device("meta"):
        return set(make(weights=None, weights_backbone=None, **given).state_dict())


def _loaded(
    kind: _Architecture,
    options: dict[str, Any],
    weights: dict[str, Tensor],
    number: int,
    source: Path,
) -> dict[str, Tensor]:
    """Return the weights, once our own network has taken them all."""
    file = importlib.import_module(f"terrazzo_torch.models.{kind.model}")
    network = file.build(file.Options(**options), 3, number).network
    pretrained.adopt(network, weights, num_bands=3, origin=source)
    state: dict[str, Tensor] = network.state_dict()
    return state
