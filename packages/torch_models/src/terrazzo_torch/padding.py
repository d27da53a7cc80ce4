"""How models that halve their input several times take every height and width."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pad_to_multiple(images_BCHW: Tensor, multiple: int, *, at_least: int = 0) -> Tensor:
    """Repeat the last row and column until height and width are multiples of `multiple`.

    Padding goes below and to the right only, so `crop` gives back every pixel where it was.
    `at_least`, a multiple too, is the smallest height and width that come out.
    """
    height, width = images_BCHW.shape[-2:]
    below, right = (max(size + -size % multiple, at_least) - size for size in (height, width))
    if not (below or right):
        return images_BCHW
    return functional.pad(images_BCHW, (0, right, 0, below), mode="replicate")


def crop(logits_BKHW: Tensor, size: torch.Size) -> Tensor:
    """Cut off what `pad_to_multiple` added; `size` is the shape of its input."""
    return logits_BKHW[..., : size[-2], : size[-1]]
