"""FCN: a fully convolutional head over a dilated ResNet, from the torchvision library.

Long, Shelhamer, Darrell: "Fully Convolutional Networks for Semantic Segmentation", 2015; the
dilated encoder in place of its skips as in Chen et al., 2017, and in torchvision.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights, segmentation
from torchvision.models.segmentation.fcn import FCN, FCNHead

from terrazzo.config import Frozen
from terrazzo.pretrained import Pretrained
from terrazzo_torch.torchvision_networks import STRIDES, TorchvisionNetwork, load, tiny_backbone

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


class Options(Frozen):
    """Knobs of the FCN."""

    encoder: Literal["tiny", "resnet50", "resnet101"] = "resnet50"
    """The published ones, or ``tiny``, which is one for tests."""
    auxiliary: bool = True
    """A second head on the stage before the last, in training alone."""
    norm_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old batch statistics kept at a step."""
    pretrained: Pretrained = False


SMALL = Options(encoder="tiny")

_MAKERS = {"resnet50": segmentation.fcn_resnet50, "resnet101": segmentation.fcn_resnet101}
_ENCODER_WEIGHTS = {
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "resnet101": ResNet101_Weights.IMAGENET1K_V1,
}
_FULL_WEIGHTS = {
    "resnet50": segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1,
    "resnet101": segmentation.FCN_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
}


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make an FCN; torchvision's random weights, or those that `options.pretrained` names."""
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
    network: nn.Module = FCN(
        tiny_backbone(auxiliary=auxiliary),
        FCNHead(512, num_classes),
        FCNHead(256, num_classes) if auxiliary else None,
    )
    return network
