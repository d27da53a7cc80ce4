"""FCN: a fully convolutional head over a dilated ResNet, from the torchvision library.

Long, Shelhamer, Darrell: "Fully Convolutional Networks for Semantic Segmentation", 2015; the
dilated encoder in place of its skips as in Chen et al., 2017, and in torchvision.
"""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights, segmentation
from torchvision.models.segmentation.fcn import FCN, FCNHead

from terrazzo.data.input_statistics import IMAGENET, InputStatistics
from terrazzo_torch.torchvision_networks import (
    DilatedOptions,
    Published,
    build_network,
    tiny_backbone,
)

ENCODER = ("network.backbone.",)
HEAD = ("network.classifier.4.", "network.aux_classifier.4.")

FACTS = {
    "option": "encoder",
    "variants": {
        "resnet50": {"parameters": 35_322_218, "strides": (2, 4, 8)},
        "resnet101": {"parameters": 54_314_346, "strides": (2, 4, 8)},
    },
    "pretrained": ("encoder", "full"),
}


class Options(DilatedOptions):
    """Options of the FCN."""

    encoder: Literal["tiny", "resnet50", "resnet101"] = "resnet50"
    """The published ones, or ``tiny``, which is one for tests."""


SMALL = Options(encoder="tiny")

_PUBLISHED = {
    "resnet50": Published(
        segmentation.fcn_resnet50,
        ResNet50_Weights.IMAGENET1K_V1,
        segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
    ),
    "resnet101": Published(
        segmentation.fcn_resnet101,
        ResNet101_Weights.IMAGENET1K_V1,
        segmentation.FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
    ),
}


def input_statistics(options: Options) -> InputStatistics:  # noqa: ARG001 - the same for all
    """Return what the published weights were trained on."""
    return IMAGENET


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make an FCN; torchvision's random weights, or those that `options.pretrained` names."""
    return build_network(options, {**_PUBLISHED, "tiny": _tiny}, num_bands, num_classes)


def _tiny(num_classes: int, *, aux_loss: bool) -> nn.Module:
    network: nn.Module = FCN(
        tiny_backbone(auxiliary=aux_loss),
        FCNHead(512, num_classes),
        FCNHead(256, num_classes) if aux_loss else None,
    )
    return network
