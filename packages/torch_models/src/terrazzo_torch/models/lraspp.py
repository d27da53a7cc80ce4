"""LR-ASPP: a lite decoder with global gating on MobileNetV3-Large, from the torchvision library.

Howard et al.: "Searching for MobileNetV3", 2019, section 6.4.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torchvision.models import MobileNet_V3_Large_Weights, segmentation

from terrazzo.base.config_parsing import Frozen
from terrazzo.data.input_statistics import IMAGENET, InputStatistics
from terrazzo.models.pretrained_errors import Pretrained
from terrazzo_torch.batch_norm import replace_batch_norms
from terrazzo_torch.padding import pad_to_multiple
from terrazzo_torch.torchvision_networks import STRIDES, enlarge, load, take_bands

ENCODER = ("network.backbone.",)
HEAD = ("network.classifier.low_classifier.", "network.classifier.high_classifier.")

FACTS = {
    "variants": {"mobilenet_v3_large": {"parameters": 3_221_538, "strides": (2, 4, 8, 16)}},
    "pretrained": ("encoder", "full"),
}


class Options(Frozen):
    """Options of the LR-ASPP; its encoder is MobileNetV3-Large."""

    norm_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the old batch statistics kept at a step. The 0.99 that MobileNetV3 was published
    with needs several hundred steps before inference means anything."""
    pretrained: Pretrained = False


SMALL = Options()
"""The published size is small enough for tests."""


def input_statistics(options: Options) -> InputStatistics:  # noqa: ARG001 - the same for all
    """Return what the published weights were trained on."""
    return IMAGENET


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make an LR-ASPP; torchvision's random weights, or those that `options.pretrained` names."""
    network = LRASPP(options, num_bands, num_classes)
    network.remarks = load(
        network.network,
        options.pretrained,
        num_bands=num_bands,
        encoder=MobileNet_V3_Large_Weights.IMAGENET1K_V1,
        full=segmentation.LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1,
        heads=("classifier.low_classifier", "classifier.high_classifier"),
    )
    return network


class LRASPP(nn.Module):
    """The network; takes any height and width.

    Attributes:
        network: torchvision's module.
        remarks: what had to be changed to take over pretrained weights.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, options: Options, num_bands: int, num_classes: int) -> None:
        super().__init__()
        # torchvision loads an encoder trained on ImageNet where weights_backbone is not said.
        self.network: nn.Module = segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=num_classes
        )
        take_bands(self.network, num_bands)
        replace_batch_norms(self.network, keep=options.norm_momentum)

    @property
    def encoder(self) -> nn.Module:
        """The part that pretrained weights are of."""
        return self.network.get_submodule("backbone")

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W."""
        padded = pad_to_multiple(images_BCHW, STRIDES["mobilenet_v3_large"])
        coarse = self.network.get_submodule("classifier")(self.encoder(padded))
        return enlarge(coarse, padded.shape, images_BCHW.shape)
