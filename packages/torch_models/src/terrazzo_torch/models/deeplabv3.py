"""DeepLabV3: atrous spatial pyramid pooling over a dilated encoder, from the torchvision library.

Chen, Papandreou, Schroff, Adam: "Rethinking Atrous Convolution for Semantic Image Segmentation",
2017.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from torchvision.models import (
    MobileNet_V3_Large_Weights,
    ResNet50_Weights,
    ResNet101_Weights,
    segmentation,
)
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCNHead

from terrazzo.config import Frozen
from terrazzo.pretrained import Pretrained
from terrazzo_torch.torchvision_networks import STRIDES, TorchvisionNetwork, load, tiny_backbone

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


class Options(Frozen):
    """Knobs of the DeepLabV3."""

    encoder: Literal["tiny", "resnet50", "resnet101", "mobilenet_v3_large"] = "resnet50"
    """The published ones, or ``tiny``, which is one for tests."""
    auxiliary: bool = True
    """A second head on the stage before the last, in training alone."""
    norm_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old batch statistics kept at a step. The 0.99 that MobileNetV3 was published
    with needs several hundred steps before inference means anything."""
    pretrained: Pretrained = False


SMALL = Options(encoder="tiny")

_MAKERS = {
    "resnet50": segmentation.deeplabv3_resnet50,
    "resnet101": segmentation.deeplabv3_resnet101,
    "mobilenet_v3_large": segmentation.deeplabv3_mobilenet_v3_large,
}
_ENCODER_WEIGHTS = {
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
    "mobilenet_v3_large": MobileNet_V3_Large_Weights.IMAGENET1K_V1,
}
_FULL_WEIGHTS = {
    "resnet50": segmentation.DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
    "resnet101": segmentation.DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
    "mobilenet_v3_large": segmentation.DeepLabV3_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
}


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make a DeepLabV3; torchvision's random weights, or those that `options.pretrained` names."""
    name = options.encoder
    network = TorchvisionNetwork(
        _tiny(num_classes, auxiliary=options.auxiliary)
        if name == "tiny"
        else _MAKERS[name](
            # torchvision loads an encoder trained on ImageNet where this is not said.
            weights=None,
            weights_backbone=None,
            num_classes=num_classes,
            aux_loss=options.auxiliary,
        ),
        STRIDES[name],
        num_bands,
        options.norm_momentum,
    )
    network.remarks = load(
        network.network,
        options.pretrained,
        num_bands=num_bands,
        encoder=_ENCODER_WEIGHTS.get(name),
        full=_FULL_WEIGHTS.get(name),
        heads=("classifier.4", "aux_classifier.4") if options.auxiliary else ("classifier.4",),
    )
    return network


def _tiny(num_classes: int, *, auxiliary: bool) -> nn.Module:
    network: nn.Module = DeepLabV3(
        tiny_backbone(auxiliary=auxiliary),
        DeepLabHead(512, num_classes),
        FCNHead(256, num_classes) if auxiliary else None,
    )
    return network
