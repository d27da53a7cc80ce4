"""SegFormer: a hierarchical transformer with an all-MLP decoder, from the transformers library.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo: "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", 2021; sizes as in its table 6.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from terrazzo.config import Fraction, Frozen
from terrazzo_torch.padding import crop, pad_to_multiple

_MULTIPLE = 32
"""The coarsest stage has one token for 32×32 pixels, and so has the reduced attention of all."""


class Options(Frozen):
    """Knobs of the SegFormer; the defaults are the paper's."""

    size: Literal["tiny", "b0", "b1", "b2", "b3", "b4", "b5"] = "b0"
    """A published size, or ``tiny``, which is one for tests."""
    drop_path: Fraction = 0.1
    """Largest probability of leaving out a residual branch; grows linearly with depth."""
    dropout: Fraction = 0.1
    """Probability of dropping a channel before the classifier."""


SMALL = Options(size="tiny")
ENCODER = ("network.segformer.",)
HEAD = ("network.decode_head.classifier.",)


class _Size(NamedTuple):
    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder_width: int


_SIZES = {
    "tiny": _Size((16, 16, 20, 32), (1, 1, 1, 1), 32),
    "b0": _Size((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": _Size((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "b2": _Size((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "b3": _Size((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "b4": _Size((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "b5": _Size((64, 128, 320, 512), (3, 6, 40, 3), 768),
}


def build(options: Options, num_bands: int, num_classes: int) -> nn.Module:
    """Make a SegFormer with the random weights of the transformers library."""
    size = _SIZES[options.size]
    return SegFormer(
        SegformerConfig(
            num_channels=num_bands,
            num_labels=num_classes,
            num_encoder_blocks=4,
            hidden_sizes=list(size.widths),
            depths=list(size.depths),
            decoder_hidden_size=size.decoder_width,
            sr_ratios=[8, 4, 2, 1],
            patch_sizes=[7, 3, 3, 3],
            strides=[4, 2, 2, 2],
            num_attention_heads=[1, 2, 5, 8],
            mlp_ratios=[4, 4, 4, 4],
            hidden_act="gelu",
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            classifier_dropout_prob=options.dropout,
            drop_path_rate=options.drop_path,
            layer_norm_eps=1e-6,
        )
    )


class SegFormer(nn.Module):
    """The network; takes any height and width."""

    def __init__(self, config: SegformerConfig) -> None:
        super().__init__()
        self.network = SegformerForSemanticSegmentation(config)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return logits B×K×H×W."""
        padded = pad_to_multiple(images_BCHW, _MULTIPLE)
        quarter = self.network(pixel_values=padded).logits
        logits = functional.interpolate(
            quarter, size=padded.shape[-2:], mode="bilinear", align_corners=False
        )
        return crop(logits, images_BCHW.shape)
