"""DeepLabV3: atrous spatial pyramid pooling over a dilated encoder, from the torchvision library.

Chen, Papandreou, Schroff, Adam: "Rethinking Atrous Convolution for Semantic Image Segmentation",
2017.
"""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.models import (
    MobileNet_V3_Large_Weights,
    ResNet50_Weights,
    ResNet101_Weights,
    segmentation,
)
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCNHead

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
        "resnet50": {"parameters": 42_004_074, "strides": (2, 4, 8)},
        "resnet101": {"parameters": 60_996_202, "strides": (2, 4, 8)},
        "mobilenet_v3_large": {"parameters": 11_029_328, "strides": (2, 4, 8, 16)},
    },
    "pretrained": ("encoder", "full"),
}


class Options(DilatedOptions):
    """Options of the DeepLabV3."""

    encoder: Literal["tiny", "resnet50", "resnet101", "mobilenet_v3_large"] = "resnet50"
    """The published ones, or ``tiny``, which is one for tests."""


SMALL = Options(encoder="tiny")

_PUBLISHED = {
    "resnet50": Published(
        segmentation.deeplabv3_resnet50,
        ResNet50_Weights.IMAGENET1K_V1,
        segmentation.DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
    ),
    "resnet101": Published(
        segmentation.deeplabv3_resnet101,
        ResNet101_Weights.IMAGENET1K_V1,
        segmentation.DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
    ),
    "mobilenet_v3_large": Published(
        segmentation.deeplabv3_mobilenet_v3_large,
        MobileNet_V3_Large_Weights.IMAGENET1K_V1,
        segmentation.DeepLabV3_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
    ),
}


def input_statistics(options: Options) -> InputStatistics:  # noqa: ARG001 - the same for all
    """Return what the published weights were trained on."""
    return IMAGENET


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make a DeepLabV3; torchvision's random weights, or those that `options.pretrained` names."""
    return build_network(options, {**_PUBLISHED, "tiny": _tiny}, num_bands, num_classes)


def _tiny(num_classes: int, *, aux_loss: bool) -> nn.Module:
    network: nn.Module = DeepLabV3(
        tiny_backbone(auxiliary=aux_loss),
        DeepLabHead(512, num_classes),
        FCNHead(256, num_classes) if aux_loss else None,
    )
    return network
