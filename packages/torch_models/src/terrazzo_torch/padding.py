"""How models that halve their input several times take every height and width."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pad_to_multiple(images_BCHW: Tensor, multiple: int, *, two_cells: bool = False) -> Tensor:
    """Repeat the last row and column until height and width are multiples of `multiple`.

    Padding goes below and to the right only, so `crop` gives back every pixel where it was.
    `two_cells`: at least twice `multiple` comes out.

    No branch depends on the size, and no remainder is taken of a negative number: whoever traces
    the network would keep the branch that the traced size took, and some runtimes have the
    remainder of C. Padding by nothing changes nothing.
    """
    below, right = (
        _cells(size, multiple, two_cells) * multiple - size for size in images_BCHW.shape[-2:]
    )
    return functional.pad(images_BCHW, (0, right, 0, below), mode="replicate")


def _cells(size: int, multiple: int, two_cells: bool) -> int:
    cells = (size + multiple - 1) // multiple
    return cells + 1 // cells if two_cells else cells


def crop(logits_BKHW: Tensor, size: torch.Size) -> Tensor:
    """Cut off what `pad_to_multiple` added; `size` is the shape of its input."""
    return logits_BKHW[..., : size[-2], : size[-1]]
