"""How models that halve their input several times, or take one size alone, take every size."""

from __future__ import annotations

from collections.abc import Callable

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


def at_least(images_BCHW: Tensor, least: int) -> Tensor:
    """Repeat the last row and column until there are at least so many of each; `crop` undoes it.

    No branch depends on the size; see `pad_to_multiple`.
    """
    missing = [least - size for size in images_BCHW.shape[-2:]]
    below, right = ((length + abs(length)) // 2 for length in missing)  # 0 where none is missing
    return functional.pad(images_BCHW, (0, right, 0, below), mode="replicate")


def by_windows(
    forward: Callable[[Tensor], Tensor], images_BCHW: Tensor, window: tuple[int, int]
) -> Tensor:
    """Apply a network that takes one size alone to images of any.

    A smaller image is padded. A larger one is taken in as few windows as cover it, evenly spread,
    and what they say of the same pixel is averaged.

    Args:
        forward: from B×C×h×w to B×K×h×w, where h×w is `window`.
        images_BCHW: of any size.
        window: rows and columns.

    Returns:
        B×K×H×W.
    """
    rows, columns = images_BCHW.shape[-2:]
    below, right = max(window[0] - rows, 0), max(window[1] - columns, 0)
    if below or right:
        padded = functional.pad(images_BCHW, (0, right, 0, below), mode="replicate")
        return crop(by_windows(forward, padded, window), images_BCHW.shape)
    if (rows, columns) == window:
        return forward(images_BCHW)
    total: Tensor | None = None
    times_HW = images_BCHW.new_zeros(rows, columns)
    for row in _starts(rows, window[0]):
        for column in _starts(columns, window[1]):
            place = (..., slice(row, row + window[0]), slice(column, column + window[1]))
            output = forward(images_BCHW[place])
            if total is None:
                total = output.new_zeros(*output.shape[:2], rows, columns)
            total[place] = total[place] + output
            times_HW[place] += 1
    assert total is not None
    return total / times_HW


def _starts(length: int, window: int) -> list[int]:
    """Return where windows begin: evenly spread, as few as cover the length."""
    count = -(-length // window)
    if count == 1:
        return [0]
    overlap = (count * window - length) / (count - 1)
    return [min(int(number * (window - overlap)), length - window) for number in range(count)]
