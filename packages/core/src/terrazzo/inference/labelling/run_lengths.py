"""Masks as lengths of runs of equal pixels, row by row, packed as labelling programs read them.

Written from the description of each format, for the client libraries need a second a megapixel or
an installation of their own; the tests compare both with those libraries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LENGTH_BITS = np.array([3, 4, 8, 16])
"""Label Studio writes the length of a run, less one, in as many bits; two bits say which."""
_CHANNELS = 4
"""Label Studio packs red, green, blue and alpha of each pixel, here all of one value."""
_VALUE_BITS = 8


@dataclass(frozen=True, slots=True)
class BoxedRuns:
    """A mask as CVAT has it.

    Attributes:
        lengths: of runs inside the box, row by row: pixels outside the mask, pixels in it, and so
            on; the first is 0 where the box begins in the mask.
        left: first column of the box.
        top: its first row.
        width: its columns.
        height: its rows.
    """

    lengths: tuple[int, ...]
    left: int
    top: int
    width: int
    height: int


def boxed_runs(mask_HW: NDArray[np.bool_]) -> BoxedRuns:
    """Return a mask as the runs inside its bounding box.

    Args:
        mask_HW: with one pixel at least.
    """
    rows, columns = (np.flatnonzero(mask_HW.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    values, lengths = _runs(mask_HW[top : top + height, left : left + width])
    before = [0] if values[0] else []
    return BoxedRuns((*before, *lengths.tolist()), left, top, width, height)


def label_studio_bytes(mask_HW: NDArray[np.bool_]) -> list[int]:
    """Return a mask in Label Studio's packing: one stream of bits, as bytes.

    The stream begins with the number of values (32 bits), the bits of a value less one (5) and the
    four choices of bits of a length less one (4 each). A run is a one, the choice (2 bits), its
    length less one, and its value. Values are 255 in the mask and 0 elsewhere.

    Args:
        mask_HW: of any size below 2³⁰ pixels.
    """
    values, pixels = _runs(mask_HW)
    lengths, values = _cut(pixels * _CHANNELS, values, 1 << int(_LENGTH_BITS[-1]))
    choices = np.searchsorted(1 << _LENGTH_BITS, lengths)
    length_bits = _LENGTH_BITS[choices]
    codes = (4 | choices) << length_bits | (lengths - 1)
    codes = codes << _VALUE_BITS | np.where(values, 255, 0)
    header = _bits_of(mask_HW.size * _CHANNELS, 32) + _bits_of(_VALUE_BITS - 1, 5)
    for bits in _LENGTH_BITS.tolist():
        header += _bits_of(bits - 1, 4)
    stream = np.concatenate([np.array(header, np.uint8), _joined(codes, 3 + length_bits + 8)])
    packed: list[int] = np.packbits(stream).tolist()
    return packed


def _runs(mask_HW: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return value and length of each run of equal pixels, row by row."""
    flat = np.ascontiguousarray(mask_HW).ravel()
    begins = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return flat[begins], np.diff(begins, append=flat.size)


def _cut(
    lengths: NDArray[np.int64], values: NDArray[np.bool_], most: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cut runs into pieces of at most `most`."""
    pieces = -(-lengths // most)
    last = np.cumsum(pieces) - 1
    cut = np.full(int(pieces.sum()), most)
    cut[last] = lengths - (pieces - 1) * most
    return cut, np.repeat(values, pieces)


def _bits_of(number: int, bits: int) -> list[int]:
    return [number >> place & 1 for place in reversed(range(bits))]


def _joined(codes: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the bits of all codes, each in its own number of bits, the highest first."""
    ends = np.cumsum(widths)
    stream = np.empty(int(ends[-1]), np.uint8)
    for width in np.unique(widths):
        chosen = widths == width
        places = np.arange(width)
        begins = ends[chosen] - width
        stream[begins[:, None] + places] = codes[chosen][:, None] >> places[::-1] & 1
    return stream
