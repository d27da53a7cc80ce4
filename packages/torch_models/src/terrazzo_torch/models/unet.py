"""UNet with batch normalisation.

Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015.
Here convolutions are padded, so that the output is as large as the input, and each is followed by
batch normalisation (Ioffe, Szegedy, 2015). With `encoder`, the way down is a published network of
the timm library.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from terrazzo.base.config_parsing import Count, Frozen
from terrazzo.base.errors import ConfigError
from terrazzo.data.input_statistics import InputStatistics
from terrazzo.models.pretrained_errors import Pretrained
from terrazzo.models.published_weights import Sha256
from terrazzo_torch.batch_norm import BatchNorm2d, replace_batch_norms
from terrazzo_torch.padding import crop, pad_to_multiple
from terrazzo_torch.pretrained import Revision

FACTS = {
    "option": "encoder",
    "variants": {
        "none": {"parameters": 31_038_933, "strides": (1, 2, 4, 8, 16)},
        "resnet50": {"parameters": 21_674_069, "strides": (2, 4, 8, 16)},
    },
    "pretrained": ("encoder",),
}


class Options(Frozen):
    """Options of the UNet; the defaults are the paper's."""

    encoder: str | None = None
    """A network of timm that halves its input again and again, such as ``resnet50``, with a tag
    such as ``resnet50.a1_in1k`` if need be. None: the paper's own way down."""
    width: Count = 64
    """Channels at full resolution; doubled at every level below. With an encoder, of the way up
    alone; 16 is usual there."""
    depth: Annotated[int, Field(ge=1, le=8)] = 4
    """Number of times the resolution is halved; most encoders of timm can be used down to 5."""
    up: Literal["transpose", "bilinear"] = "transpose"
    """How resolution is doubled: by a transposed convolution, or by bilinear interpolation and a
    1×1 convolution."""
    pretrained: Pretrained = False
    """Of the encoder."""
    revision: Revision = None
    """Commit on the hub; needed where none is built in."""
    sha256: Sha256 = None
    """That the weight file must have, in place of the one built in."""


SMALL = Options(width=8, depth=2)
ENCODER = ("down.", "encoder.")
HEAD = ("head.", "decoder.head.")


def input_statistics(options: Options) -> InputStatistics | None:
    """Return what timm's weights of the encoder were trained on."""
    if options.encoder is None:
        return None
    from terrazzo_torch import timm_encoders  # brings torchvision and torch's compiler: 190 MB

    return timm_encoders.input_statistics(options.encoder)


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make a UNet with weights drawn as in the paper: He normal over the incoming connections.

    An encoder of timm has timm's random weights, or those that `options.pretrained` names.

    Raises:
        ConfigError: SEG-X023, pretrained without an encoder; see also `timm_encoders`.
    """
    if options.encoder is None:
        if options.pretrained is not False:
            raise ConfigError(
                "SEG-X023",
                "the paper's own UNet has no published weights",
                observed=f'pretrained = "{options.pretrained}" without an encoder',
                allowed="pretrained = false, or an encoder of timm",
                next_step='set model.options.encoder, e.g. to "resnet50"',
            )
        network: nn.Module = UNet(options, num_bands, num_classes)
        _draw(network)
        return network
    from terrazzo_torch import timm_encoders  # brings torchvision and torch's compiler: 190 MB

    encoder, settings = timm_encoders.feature_pyramid(options.encoder, num_bands, options.depth)
    network = EncoderUNet(encoder, options, num_classes)
    _draw(network.decoder)
    network.remarks = timm_encoders.load(
        encoder,
        options.encoder,
        settings,
        options.pretrained,
        timm_encoders.Pinned(options.revision, options.sha256),
    )
    return network


def _draw(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class UNet(nn.Module):
    """The paper's network; takes any height and width."""

    remarks: tuple[str, ...] = ()

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

    @property
    def encoder(self) -> nn.Module:
        """The way down."""
        return self.down

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


class EncoderUNet(nn.Module):
    """A UNet whose way down is an encoder of timm; takes any height and width.

    Attributes:
        encoder: returns a map at each of its strides, the finest first.
        decoder: the way up, with the head.
        remarks: what had to be changed to take over pretrained weights.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, encoder: Any, options: Options, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        replace_batch_norms(encoder)
        strides = encoder.feature_info.reduction()
        channels = dict(zip(strides, encoder.feature_info.channels(), strict=True))
        self._multiple = max(strides)
        self.decoder = _WayUp(channels, options, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W."""
        # Two cells at least: most encoders normalise over the batch, and one value has no variance.
        padded = pad_to_multiple(images_BCHW, self._multiple, two_cells=True)
        return crop(self.decoder(self.encoder(padded)), images_BCHW.shape)


class _WayUp(nn.Module):
    """From the coarsest map to full resolution, joining the encoder's maps where there are any."""

    def __init__(self, channels: dict[int, int], options: Options, num_classes: int) -> None:
        super().__init__()
        coarsest = max(channels)
        strides = [coarsest >> level for level in range(1, coarsest.bit_length())]
        widths = {stride: options.width * stride for stride in (coarsest, *strides)}
        self.enter = nn.Conv2d(channels[coarsest], widths[coarsest], kernel_size=1)
        self.up = nn.ModuleList(_double(options.up, widths[2 * stride]) for stride in strides)
        self.merge = nn.ModuleList(
            _double_conv(channels.get(stride, 0) + widths[stride], widths[stride])
            for stride in strides
        )
        self._joins = tuple(stride in channels for stride in strides)
        self.head = nn.Conv2d(options.width, num_classes, kernel_size=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        *skips, coarsest = maps
        features = self.enter(coarsest)
        for up, merge, joins in zip(self.up, self.merge, self._joins, strict=True):
            features = up(features)
            features = merge(torch.cat([skips.pop(), features], dim=1) if joins else features)
        logits: Tensor = self.head(features)
        return logits


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False),
            BatchNorm2d(outputs, eps=1e-5, momentum=0.1),
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
