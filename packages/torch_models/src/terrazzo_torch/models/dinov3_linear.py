"""A linear head, or a light decoder, on a frozen DINOv2 or DINOv3 of the timm library.

Oquab et al.: "DINOv2: Learning Robust Visual Features without Supervision", 2023
(arXiv:2304.07193), and Siméoni et al.: "DINOv3", 2025 (arXiv:2508.10104): their linear evaluation
on dense tasks normalises the patch tokens of the last layer over the batch and gives each one
a class by a linear layer. The network is that of the model ``vit``.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from terrazzo.base.config_parsing import Count
from terrazzo_torch.batch_norm import BatchNorm2d
from terrazzo_torch.models import vit
from terrazzo_torch.models.vit import ENCODER, HEAD, input_statistics, layer

__all__ = ["ENCODER", "HEAD", "SMALL", "Options", "build", "freezes", "input_statistics", "layer"]

FACTS = {
    "option": "encoder",
    "variants": {
        "vit_small_patch16_dinov3": {"parameters": 21_595_797, "strides": (16,)},
        "vit_base_patch16_dinov3": {"parameters": 85_658_901, "strides": (16,)},
    },
    "pretrained": ("encoder",),
}


class Options(vit.EncoderOptions):
    """Options of a head on a frozen encoder."""

    encoder: str = "vit_small_patch16_dinov3"
    """A DINOv2 or DINOv3 of timm, or any other that the model ``vit`` takes."""
    decoder: Literal["linear", "light"] = "linear"
    """linear: batch norm and one class a patch, enlarged. light: a convolution at each doubling
    after the batch norm, so that borders do not follow the patches."""
    decoder_width: Count = 128
    """Channels of the light decoder."""
    train_encoder: bool = False
    """Train the encoder too, where ``training.train_part`` is ``all``."""


SMALL = Options(encoder="test_vit", patch_size=4, decoder_width=16)


def freezes(options: Options) -> bool:
    """Tell whether the encoder stays as it is, whatever the recipe says of training."""
    return not options.train_encoder


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make the network; random weights of timm, or an encoder that `options.pretrained` names."""
    encoder, remarks = vit.make_encoder(options, 0.0, num_bands)
    width = encoder.embed_dim
    decoder: nn.Module = BatchNorm2d(width)
    if options.decoder == "light":
        patch = vit.patch_of(encoder)
        decoder = nn.Sequential(decoder, *vit.progressive(width, options.decoder_width, patch))
        width = options.decoder_width
    network = vit.VisionTransformer(encoder, decoder, width, num_classes)
    if freezes(options) and options.pretrained is False:
        remarks += (
            "the encoder is frozen and has random weights unless [init] gives it others: "
            "model.options.pretrained names some",
        )
    network.remarks = remarks
    return network
