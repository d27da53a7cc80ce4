"""How often each (label, prediction) pair of bytes occurs, by two ways that must agree.

Both rest on the same fact: label maps are made of long runs, so most words of eight neighbouring
labels hold one value, and so do the eight predictions under them. Such words are counted in one
step; only those across a border are taken apart, and all of them where noise leaves no runs.

`count_pairs` chooses: numba (the extra ``terrazzo[fast]``) where it is installed and the array is
large enough to pay for loading it, else NumPy.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBA_FROM_PIXELS = 1 << 20
"""Smaller arrays are counted by NumPy: they are done before numba is imported."""

_WORDS_FROM_PIXELS = 1 << 17  # below, sorting words out takes longer than it saves (measured)
_NUMPY_CHUNK = 1 << 19  # the temporaries of so many pixels stay in a core's cache (measured)
_NUMBA_CHUNK = 1 << 28  # pixels whose counts fit into 32 bits
_PITCH = (1 << 16) + 80
"""Entries from one of the eight tables to the next. With 2¹⁶ the same pair would lie in the same
set of the processor's first cache in all tables, which together would not fit there."""
_of_thread = threading.local()

# Typed constants: numba turns arithmetic between uint64 and plain integers into float64.
_EIGHT_TIMES = np.uint64(0x0101010101010101)
_BYTE = np.uint64(0xFF)
_PAIR = np.uint64(0xFFFF)
_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_ODD_BYTES = np.uint64(0xFF00FF00FF00FF00)
_HIGH_BITS = np.uint64(0x8080808080808080)
_S7, _S8, _S16, _S32 = np.uint64(7), np.uint64(8), np.uint64(16), np.uint64(32)
_S48, _S56 = np.uint64(48), np.uint64(56)
_NONE, _ONE, _EIGHT, _COUNT = np.uint64(0), np.uint64(1), np.uint64(8), np.uint32(1)
_TABLE_1, _TABLE_2, _TABLE_3 = np.uint64(_PITCH), np.uint64(2 * _PITCH), np.uint64(3 * _PITCH)
_TABLE_4, _TABLE_5, _TABLE_6 = np.uint64(4 * _PITCH), np.uint64(5 * _PITCH), np.uint64(6 * _PITCH)
_TABLE_7 = np.uint64(7 * _PITCH)

# Measured on maps of long, of short and of no runs, with and without scattered ignored pixels.
_GROUP, _BLOCK = np.uint64(4), np.uint64(64)  # words; a block is some groups
_FEW = np.uint64(2)  # groups of a block's 16
_MOST_SKIPPED = np.uint64(32)  # blocks


def count_pairs(
    labels: NDArray[np.uint8],
    predictions: NDArray[np.uint8],
    num_classes: int = 256,
    ignore_index: int | None = None,
) -> NDArray[np.int64]:
    """Count the pairs of two flat, contiguous uint8 arrays of one length.

    Args:
        labels: n uint8.
        predictions: n uint8.
        num_classes: 1…256; pixels of other labels are left out, but for those of `ignore_index`.
        ignore_index: a label outside the classes, 0…255, that may lie scattered over the others.

    Returns:
        Rows labels, columns predictions, int64, new memory: `num_classes`×256, and below it the
        row of `ignore_index` where there is one.
    """
    if labels.size >= NUMBA_FROM_PIXELS and numba_kernel() is not None:
        return count_pairs_numba(labels, predictions, num_classes, ignore_index)
    return count_pairs_numpy(labels, predictions, num_classes, ignore_index)


def count_pairs_numpy(
    labels: NDArray[np.uint8],
    predictions: NDArray[np.uint8],
    num_classes: int = 256,
    ignore_index: int | None = None,
) -> NDArray[np.int64]:
    """`count_pairs` with NumPy alone."""
    table = _all_pairs(labels, predictions).reshape(256, 256)
    if ignore_index is None:
        return table[:num_classes]
    return np.concatenate([table[:num_classes], table[ignore_index, None]])


def _all_pairs(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.int64]:
    if labels.size < _WORDS_FROM_PIXELS:
        return _histogram(labels, predictions)
    table = np.zeros(1 << 16, dtype=np.int64)
    whole = labels.size - labels.size % 8
    for start in range(0, whole, _NUMPY_CHUNK):
        chunk = slice(start, min(start + _NUMPY_CHUNK, whole))
        _add_words(table, labels[chunk], predictions[chunk])
    np.add.at(table, _codes(labels[whole:], predictions[whole:]), 1)
    return table


def _add_words(
    table: NDArray[np.int64], labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
) -> None:
    label_words, prediction_words = labels.view(np.uint64), predictions.view(np.uint64)
    first_labels, first_predictions = labels[::8], predictions[::8]
    uniform = label_words == first_labels * _EIGHT_TIMES
    uniform &= prediction_words == first_predictions * _EIGHT_TIMES
    if 2 * np.count_nonzero(uniform) < uniform.size:
        # Sorting the words out would cost more than it saves.
        table += _histogram(labels, predictions)
        return
    table += 8 * _histogram(first_labels[uniform], first_predictions[uniform])
    mixed = ~uniform
    table += _histogram(label_words[mixed].view(np.uint8), prediction_words[mixed].view(np.uint8))


def _histogram(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(_codes(labels, predictions), minlength=1 << 16)


def _codes(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.uint16]:
    codes: NDArray[np.uint16] = np.left_shift(labels, 8, dtype=np.uint16)
    codes |= predictions
    return codes


def count_pairs_numba(
    labels: NDArray[np.uint8],
    predictions: NDArray[np.uint8],
    num_classes: int = 256,
    ignore_index: int | None = None,
) -> NDArray[np.int64]:
    """`count_pairs` by a compiled loop, one thread, without the GIL.

    Raises:
        ImportError: numba is not installed, or not for this NumPy.
    """
    kernel = numba_kernel()
    if kernel is None:
        raise ImportError("numba is not installed: pip install 'terrazzo[fast]'")
    table = np.zeros((num_classes + (ignore_index is not None), 256), dtype=np.int64)
    wild_card = np.uint64(255 if ignore_index is None else ignore_index)
    for start in range(0, labels.size, _NUMBA_CHUNK):
        end = min(start + _NUMBA_CHUNK, labels.size)
        whole = end - end % 8
        kernel(
            _aligned_words(labels[start:whole]),
            _aligned_words(predictions[start:whole]),
            _codes(labels[whole:end], predictions[whole:end]),
            wild_card,
            num_classes,
            _zeroed_tables(),
            table,
        )
    return table


def _zeroed_tables() -> NDArray[np.uint32]:
    """Return this thread's interleaved tables: all 0, and left so by the kernel.

    Kept: new memory would be zeroed as a whole, or mapped page by page, for each image.
    """
    if not hasattr(_of_thread, "tables"):
        _of_thread.tables = np.zeros(8 * _PITCH, dtype=np.uint32)
    tables: NDArray[np.uint32] = _of_thread.tables
    return tables


def _aligned_words(values: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Eight bytes a word; copied only where a slice does not start on a word.

    numba takes every array for aligned, and compiles loads that may fault where one is not.
    """
    return np.require(values.view(np.uint64), requirements="A")


@cache
def numba_kernel() -> Callable[..., None] | None:
    """Compile the loop, once a process; None where numba cannot be imported."""
    try:
        import numba
        from numba.extending import register_jitable
    except ImportError:
        return None
    for part in _PARTS:
        register_jitable(part)
    words = numba.types.Array(numba.types.uint64, 1, "C", readonly=True)
    signature: Any = numba.types.void(
        *(words, words, numba.types.uint16[::1], numba.types.uint64, numba.types.int64),
        *(numba.types.uint32[::1], numba.types.int64[:, ::1]),
    )
    try:
        compiled: Callable[..., None] = numba.njit(signature, cache=True, nogil=True)(_add_pairs)
    except (RuntimeError, OSError):
        # No folder for the compiled code can be written: each process compiles anew.
        compiled = numba.njit(signature, nogil=True)(_add_pairs)
    return compiled


def _add_pairs(
    label_words: NDArray[np.uint64],
    prediction_words: NDArray[np.uint64],
    codes_of_rest: NDArray[np.uint16],
    wild_card: np.uint64,
    num_classes: int,
    tables: NDArray[np.uint32],
    table: NDArray[np.int64],
) -> None:
    _count_words(label_words, prediction_words, wild_card * _EIGHT_TIMES, tables)
    for code in codes_of_rest:
        tables[code] += _COUNT
    pixels = 8 * label_words.size + codes_of_rest.size
    _move_rows(tables, table, pixels, num_classes, int(wild_card))


def _count_words(
    label_words: NDArray[np.uint64],
    prediction_words: NDArray[np.uint64],
    ignored: np.uint64,
    tables: NDArray[np.uint32],
) -> None:
    """Count into `tables`, in one of three ways a block, chosen by what the last block held.

    Groups of four words are compared with their first pair. Where all 32 pixels equal it, they
    lengthen a run, counted in registers and written when it ends; other groups are counted pixel by
    pixel. Ignored pixels scattered over a run would end it at each, so where a block holds such
    groups, the next is compared with ignored labels as wild cards, which takes twice as long. Where
    a block holds no run either way, comparing it was in vain, and some more are not compared.

    Both loops over a group are written out: as functions they cost a tenth of the speed.
    """
    size = np.uint64(label_words.size)
    in_groups = size - size % _GROUP
    run_label = run_prediction = pixels = ignored_pixels = np.uint64(0)
    skipped_blocks, i = _ONE, np.uint64(0)
    wild: bool | np.bool_ = False
    while i < in_groups:
        end = min(i + _BLOCK, in_groups)
        hits = ignored_seen = np.uint64(0)
        while i < end:
            labels = (label_words[i] & _BYTE) * _EIGHT_TIMES
            predictions = (prediction_words[i] & _BYTE) * _EIGHT_TIMES
            different = ignored_here = np.uint64(0)
            if wild:
                labels = run_label if labels == ignored else labels
                different, ignored_here = _compare_scored(
                    label_words, prediction_words, i, labels, predictions, ignored
                )
            else:
                for k in range(i, i + _GROUP):
                    different |= (label_words[k] ^ labels) | (prediction_words[k] ^ predictions)
            if different == _NONE:
                hits += _ONE
                if labels != run_label or predictions != run_prediction:
                    _end_run(tables, run_label, run_prediction, ignored, pixels, ignored_pixels)
                    run_label, run_prediction = labels, predictions
                    pixels = ignored_pixels = np.uint64(0)
                pixels += _EIGHT * _GROUP
                if wild:
                    ignored_pixels += ignored_here
                    ignored_seen += ignored_here
            else:
                # The first word of the group stands for all.
                others = label_words[i] ^ ignored
                ignored_seen |= (others - _EIGHT_TIMES) & ~others & _HIGH_BITS
                for k in range(i, i + _GROUP):
                    _count_eight(tables, label_words[k], prediction_words[k])
            i += _GROUP
        wild = ignored_seen != _NONE and (wild or hits < _FEW)
        if hits == _NONE:
            end = min(i + skipped_blocks * _BLOCK, in_groups)
            _count_each(tables, label_words, prediction_words, i, end)
            i = end
            skipped_blocks = min(skipped_blocks + skipped_blocks, _MOST_SKIPPED)
        else:
            skipped_blocks = _ONE
    _end_run(tables, run_label, run_prediction, ignored, pixels, ignored_pixels)
    _count_each(tables, label_words, prediction_words, in_groups, size)


def _compare_scored(
    label_words: NDArray[np.uint64],
    prediction_words: NDArray[np.uint64],
    start: np.uint64,
    labels: np.uint64,
    predictions: np.uint64,
    ignored: np.uint64,
) -> tuple[np.uint64, np.uint64]:
    """Compare a group with a pair, but for ignored labels.

    Returns:
        0 where all scored labels are `labels` and all predictions `predictions`; number of ignored
        pixels.
    """
    different = scored = np.uint64(0)
    for k in range(start, start + _GROUP):
        is_scored = _non_zero(label_words[k] ^ ignored)
        scored += is_scored >> _S7
        different |= is_scored & _non_zero(label_words[k] ^ labels)
        different |= prediction_words[k] ^ predictions
    return different, _EIGHT * _GROUP - ((scored * _EIGHT_TIMES) >> _S56)


def _end_run(
    tables: NDArray[np.uint32],
    label: np.uint64,
    prediction: np.uint64,
    ignored: np.uint64,
    pixels: np.uint64,
    ignored_pixels: np.uint64,
) -> None:
    scored = np.uint32(pixels - ignored_pixels)
    tables[((label & _BYTE) << _S8) | (prediction & _BYTE)] += scored
    if ignored_pixels != _NONE:
        code = ((ignored & _BYTE) << _S8) | (prediction & _BYTE)
        tables[code] += np.uint32(ignored_pixels)


def _count_each(
    tables: NDArray[np.uint32],
    label_words: NDArray[np.uint64],
    prediction_words: NDArray[np.uint64],
    start: np.uint64,
    end: np.uint64,
) -> None:
    for k in range(start, end):
        _count_eight(tables, label_words[k], prediction_words[k])


def _count_eight(tables: NDArray[np.uint32], labels: np.uint64, predictions: np.uint64) -> None:
    """Count the pixels of a word, each in a table of its own.

    In one table, a count that was just written would have to be read back at once where
    neighbouring pixels hold one pair, which takes longer than all the rest.
    """
    # Four pairs each, as 16-bit codes side by side.
    even = ((labels & _EVEN_BYTES) << _S8) | (predictions & _EVEN_BYTES)
    odd = (labels & _ODD_BYTES) | ((predictions & _ODD_BYTES) >> _S8)
    tables[even & _PAIR] += _COUNT
    tables[(odd & _PAIR) + _TABLE_1] += _COUNT
    tables[((even >> _S16) & _PAIR) + _TABLE_2] += _COUNT
    tables[((odd >> _S16) & _PAIR) + _TABLE_3] += _COUNT
    tables[((even >> _S32) & _PAIR) + _TABLE_4] += _COUNT
    tables[((odd >> _S32) & _PAIR) + _TABLE_5] += _COUNT
    tables[(even >> _S48) + _TABLE_6] += _COUNT
    tables[(odd >> _S48) + _TABLE_7] += _COUNT


def _non_zero(bytes_of_word: np.uint64) -> np.uint64:
    """Return the high bit of each byte that is not 0."""
    low = bytes_of_word & ~_HIGH_BITS
    return ((low + ~_HIGH_BITS) | bytes_of_word) & _HIGH_BITS


def _move_rows(
    tables: NDArray[np.uint32],
    table: NDArray[np.int64],
    pixels: int,
    num_classes: int,
    wild_card: int,
) -> None:
    """Add the rows of `table` to it; leave `tables` at 0."""
    for label in range(num_classes):
        pixels -= _empty_row(tables, label, table[label])
    if table.shape[0] > num_classes:
        pixels -= _empty_row(tables, wild_card, table[num_classes])
    if pixels > 0:  # Only then are there labels outside the classes.
        nowhere = np.zeros(256, dtype=np.int64)
        for label in range(num_classes, 256):
            _empty_row(tables, label, nowhere)


def _empty_row(tables: NDArray[np.uint32], label: int, row: NDArray[np.int64]) -> int:
    """Move the counts of a label from `tables` to `row`; return how many pixels they are."""
    pixels = 0
    for start in range(256 * label, 8 * _PITCH, _PITCH):
        counts = tables[start : start + 256]
        for prediction in range(256):
            row[prediction] += counts[prediction]
            pixels += counts[prediction]
            counts[prediction] = 0
    return pixels


_PARTS = (
    *(_count_words, _compare_scored, _end_run, _count_each, _count_eight, _non_zero),
    *(_move_rows, _empty_row),
)
"""What `_add_pairs` calls, for numba to compile with it."""
