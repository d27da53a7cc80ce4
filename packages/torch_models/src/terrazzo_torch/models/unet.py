"""UNet with batch normalisation.

Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.
Here convolutions are padded, so that the output is as large as the input, and each is followed by
batch normalisation (Ioffe, Szegedy, 2015).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from terrazzo.config import Count, Frozen
from terrazzo_torch.padding import crop, pad_to_multiple


class Options(Frozen):
    """Knobs of the UNet; the defaults are the paper's."""

    width: Count = 64
    """Channels at full resolution; doubled at every level below."""
    depth: Annotated[int, Field(ge=1, le=8)] = 4
    """Number of times the resolution is halved."""
    up: Literal["transpose", "bilinear"] = "transpose"
    """How resolution is doubled: by a transposed convolution, or by bilinear interpolation and a
    1×1 convolution."""


SMALL = Options(width=8, depth=2)
ENCODER = ("down.",)
HEAD = ("head.",)


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make a UNet with weights drawn as in the paper: He normal over the incoming connections."""
    network = UNet(options, num_bands, num_classes)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class UNet(nn.Module):
    """The network; takes any height and width."""

    def __init__(self, options: Options, num_bands: int, num_classes: int) -> None:
        super().__init__()
        widths = [options.width * 2**level for level in range(options.depth + 1)]
        self.multiple = 2**options.depth
        self.down = nn.ModuleList(
            _double_conv(inputs, outputs)
            for inputs, outputs in zip([num_bands, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(_double(options.up, width) for width in reversed(widths[1:]))
        self.merge = nn.ModuleList(_double_conv(2 * width, width) for width in widths[-2::-1])
        self.head = nn.Conv2d(options.width, num_classes, kernel_size=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W."""
        features = self.down[0](pad_to_multiple(images_BCHW, self.multiple))
        skips = []
        for block in self.down[1:]:
            skips.append(features)
            features = block(self.pool(features))
        for up, merge in zip(self.up, self.merge, strict=True):
            features = merge(torch.cat([skips.pop(), up(features)], dim=1))
        return crop(self.head(features), images_BCHW.shape)


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _double(how: str, channels: int) -> nn.Module:
    """Double height and width, halve the channels."""
    if how == "transpose":
        return nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2)
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(channels, channels // 2, kernel_size=1),
    )
