"""The published sizes of SegFormer: what both backends build.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo: "SegFormer: Simple and Efficient Design for Semantic
Segmentation with Transformers", 2021 (arXiv:2105.15203), table 6.
"""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

SizeName = Literal["tiny", "b0", "b1", "b2", "b3", "b4", "b5"]
"""A published size, or ``tiny``, which is one for tests."""

Strides = tuple[
    Annotated[int, Field(ge=1, le=7)],
    Annotated[int, Field(ge=1, le=3)],
    Annotated[int, Field(ge=1, le=3)],
    Annotated[int, Field(ge=1, le=3)],
]
"""Of the four stages; no longer than the sides of their patches, which would skip pixels."""

PATCHES = (7, 3, 3, 3)
"""Sides of the patches that a stage merges into one token, in tokens of the stage before."""
STRIDES: Strides = (4, 2, 2, 2)
"""As published: one token for 4×4, 8×8, 16×16 and 32×32 pixels."""
REDUCTIONS = (8, 4, 2, 1)
"""Side of the square of tokens that is one key and one value."""


def multiple(strides: Strides) -> int:
    """Return what rows and columns are padded to a multiple of.

    The coarsest tokens, and the coarsest keys of each stage, are then whole: 32 as published.
    """
    pixels = accumulate(strides, mul)
    return math.lcm(*(p * r for p, r in zip(pixels, REDUCTIONS, strict=True)))


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
