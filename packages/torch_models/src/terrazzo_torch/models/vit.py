"""Vision transformer from the timm library, with a linear or a progressive decoder.

Dosovitskiy et al.: "An Image is Worth 16x16 Words", 2021. Linear decoder: Strudel et al.,
"Segmenter", 2021, its baseline. Progressive one: Zheng et al., "Rethinking Semantic Segmentation
from a Sequence-to-Sequence Perspective with Transformers" (SETR-PUP), 2021.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from terrazzo.base.config_parsing import Count, Fraction, Frozen
from terrazzo.data.input_statistics import InputStatistics
from terrazzo.models.pretrained_errors import Pretrained
from terrazzo.models.published_weights import Sha256
from terrazzo_torch import timm_encoders
from terrazzo_torch.batch_norm import BatchNorm2d
from terrazzo_torch.padding import crop, pad_to_multiple
from terrazzo_torch.pretrained import Revision

ENCODER = ("encoder.",)
HEAD = ("head.",)

FACTS = {
    "option": "encoder",
    "variants": {"vit_large_patch16_384": {"parameters": 307_826_965, "strides": (16,)}},
    "pretrained": ("encoder",),
}


class EncoderOptions(Frozen):
    """Options of an encoder that is a ViT of timm."""

    encoder: str = "vit_large_patch16_384"
    """Any model of timm's modules ``vision_transformer``, ``deit`` and ``eva``; with a tag, as in
    ``vit_large_patch16_384.augreg_in21k_ft_in1k``, its pretrained weights are those."""
    patch_size: Annotated[int, Field(ge=2)] | None = None
    """Rows and columns of a patch. None: as published. Other sizes resample pretrained kernels."""
    pretrained: Pretrained = False
    revision: Revision = None
    """Commit on the hub; needed where none is built in."""
    sha256: Sha256 = None
    """That the weight file must have, in place of the one built in."""


class Options(EncoderOptions):
    """Options of the ViT."""

    decoder: Literal["linear", "progressive"] = "progressive"
    """linear: one class a patch, enlarged at once. progressive: a convolution at each doubling, so
    that borders do not follow the patches."""
    decoder_width: Count = 256
    """Channels of the progressive decoder."""
    drop_path: Fraction = 0.0
    """Largest probability of leaving out a residual branch; grows linearly with depth."""


SMALL = Options(encoder="test_vit", patch_size=4, decoder_width=16)


def input_statistics(options: EncoderOptions) -> InputStatistics:
    """Return what timm's weights of the encoder were trained on."""
    return timm_encoders.input_statistics(options.encoder)


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make a ViT; random weights of timm, or an encoder that `options.pretrained` names."""
    encoder, remarks = make_encoder(options, options.drop_path, num_bands)
    width = encoder.embed_dim
    decoder: nn.Module = nn.Identity()
    if options.decoder == "progressive":
        decoder = progressive(width, options.decoder_width, patch_of(encoder))
        width = options.decoder_width
    network = VisionTransformer(encoder, decoder, width, num_classes)
    network.remarks = remarks
    return network


def make_encoder(
    options: EncoderOptions, drop_path: float, num_bands: int
) -> tuple[Any, tuple[str, ...]]:
    """Return timm's module, with the weights that the options name, and remarks on them."""
    settings = timm_encoders.vision_transformer_settings(
        options.encoder, num_bands, patch_size=options.patch_size, drop_path=drop_path
    )
    encoder = timm_encoders.vision_transformer(options.encoder, settings)
    remarks = timm_encoders.load(
        encoder,
        options.encoder,
        settings,
        options.pretrained,
        timm_encoders.Pinned(options.revision, options.sha256),
    )
    return encoder, remarks


def layer(name: str) -> int | None:
    """Return the layer of an encoder's weight: 0 for the embedding, then the blocks."""
    room, *rest = name.removeprefix("encoder.").split(".")
    if room == "blocks":
        return int(rest[0]) + 1
    return None if room in ("norm", "fc_norm") else 0


class VisionTransformer(nn.Module):
    """The network; takes any height and width.

    Attributes:
        encoder: timm's module.
        decoder: from B×D×h×w, one cell a patch, to a map at the same or a higher resolution.
        head: from there to logits.
        remarks: what had to be changed to take over pretrained weights.
    """

    remarks: tuple[str, ...] = ()

    def __init__(self, encoder: Any, decoder: nn.Module, width: int, num_classes: int) -> None:
        super().__init__()
        self.encoder: Any = encoder  # a module; timm is not typed
        self._patch = patch_of(encoder)
        self.decoder = decoder
        self.head = nn.Conv2d(width, num_classes, kernel_size=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W."""
        padded = pad_to_multiple(images_BCHW, self._patch)
        (tokens_BDhw,) = self.encoder.forward_intermediates(
            padded, indices=1, norm=True, intermediates_only=True
        )
        logits = functional.interpolate(
            self.head(self.decoder(tokens_BDhw)),
            size=padded.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        return crop(logits, images_BCHW.shape)


def patch_of(encoder: Any) -> int:
    """Return the rows, and columns, of a patch of timm's module."""
    patch_height, patch_width = encoder.patch_embed.patch_size
    assert patch_height == patch_width
    return int(patch_height)


def progressive(inputs: int, width: int, patch: int) -> nn.Sequential:
    """Double the resolution as often as the patch can be halved, a convolution before each time."""
    layers: list[nn.Module] = []
    for channels in [inputs] + [width] * (patch.bit_length() - 2):
        layers += [
            nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
            BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        ]
    return nn.Sequential(*layers)
