"""The published sizes of SegFormer: what both backends build.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo: "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", 2021 (arXiv:2105.15203), table 6.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

SizeName = Literal["tiny", "b0", "b1", "b2", "b3", "b4", "b5"]
"""A published size, or ``tiny``, which is one for tests."""

MULTIPLE = 32
"""The coarsest stage has one token for 32×32 pixels, and so has the reduced attention of all."""


class SegformerSize(NamedTuple):
    """Channels and blocks of the four stages, channels of the decoder."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder_width: int


SIZES: dict[SizeName, SegformerSize] = {
    "tiny": SegformerSize((16, 16, 20, 32), (1, 1, 1, 1), 32),
    "b0": SegformerSize((32, 64, 160, 256), (2, 2, 2, 2), 256),
    "b1": SegformerSize((64, 128, 320, 512), (2, 2, 2, 2), 256),
    "b2": SegformerSize((64, 128, 320, 512), (3, 4, 6, 3), 768),
    "b3": SegformerSize((64, 128, 320, 512), (3, 4, 18, 3), 768),
    "b4": SegformerSize((64, 128, 320, 512), (3, 8, 27, 3), 768),
    "b5": SegformerSize((64, 128, 320, 512), (3, 6, 40, 3), 768),
}
