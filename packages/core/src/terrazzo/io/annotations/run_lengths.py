"""Masks as runs of pixels: COCO's two forms, CVAT's, and the brush of Label Studio.

Sources: the COCO API's description of its masks (cocodataset.org, "data format"); the CVAT manual
("CVAT for images 1.1"); Label Studio's converter, whose brush is the stream of @thi.ng/rle-pack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_HALF = 128
"""Least alpha of a brush that counts: above it is drawn, below it is not."""


def mask_of_runs(
    lengths: Sequence[int], rows: int, columns: int, *, by_columns: bool
) -> NDArray[np.bool_]:
    """Return the mask of runs that are outside and inside by turns, beginning outside.

    Args:
        lengths: pixels of each run; may be 0.
        rows: of the mask.
        columns: of the mask.
        by_columns: runs go down the columns, as COCO's; else along the rows, as CVAT's.

    Raises:
        ValueError: a length below 0, or their sum is not the number of pixels.
    """
    if any(type(length) is not int for length in lengths):
        msg = "the length of a run is no whole number"
        raise ValueError(msg)
    if min(lengths, default=0) < 0:
        msg = f"a run of {min(lengths)} pixels"
        raise ValueError(msg)
    total = sum(lengths)  # Python's numbers, which do not wrap around
    if total != rows * columns:
        msg = f"the runs make {total} pixels, and {rows}×{columns} are {rows * columns}"
        raise ValueError(msg)
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, np.array(lengths, np.int64))
    if by_columns:
        return np.ascontiguousarray(flat.reshape(columns, rows).T)
    return flat.reshape(rows, columns)


def coco_lengths(text: str) -> list[int]:
    """Return the runs of COCO's compressed text.

    Six bits a letter, from ``0`` on; five carry the number, low bits first, and the sixth says that
    it goes on. From the fourth run on, each is the difference to the last but one.

    Raises:
        ValueError: a letter that cannot be, or the text ends within a number.
    """
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 60:
            msg = f"{letter!r} cannot stand in compressed runs"
            raise ValueError(msg)
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    if shift:
        msg = "the compressed runs end within a number"
        raise ValueError(msg)
    return lengths


def brush_mask(packed: Sequence[int], rows: int, columns: int) -> NDArray[np.bool_]:
    """Return the mask of a Label Studio brush: where its alpha is at least half.

    Args:
        packed: bytes of the stream.
        rows: of the image.
        columns: of the image.

    Raises:
        ValueError: a byte out of range, the stream ends too early, or holds another number of
            pixels.
    """
    if any(type(byte) is not int or not 0 <= byte <= 255 for byte in packed):
        msg = "a number that is no byte"
        raise ValueError(msg)
    values = _unpacked(bytes(packed), rows * columns * 4)
    alpha_HW = values.reshape(rows, columns, 4)[..., 3]
    return alpha_HW >= _HALF


def _unpacked(packed: bytes, wanted: int) -> NDArray[np.uint8]:
    bits = (np.unpackbits(np.frombuffer(packed, np.uint8)) + ord("0")).tobytes()
    at = 0

    def number(width: int) -> int:
        nonlocal at
        if at + width > len(bits):
            msg = "the stream of the brush ends too early"
            raise ValueError(msg)
        at += width
        return int(bits[at - width : at], 2)

    count, word = number(32), number(5) + 1
    widths = [number(4) + 1 for _ in range(4)]
    if count != wanted or word > 8:
        msg = f"the brush holds {count} values of {word} bits; {wanted} of 8 are wanted"
        raise ValueError(msg)
    values = np.empty(count, np.uint8)
    done = 0
    while done < count:
        is_run = number(1)
        length = number(widths[number(2)]) + 1
        if done + length > count:
            msg = f"the brush holds more than {count} values"
            raise ValueError(msg)
        if is_run:
            values[done : done + length] = number(word)
        else:
            values[done : done + length] = [number(word) for _ in range(length)]
        done += length
    return values
