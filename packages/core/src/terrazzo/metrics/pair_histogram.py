"""How often each (label, prediction) pair of bytes occurs, by two ways that must agree.

Both rest on the same fact: label maps are made of long runs, so most words of eight neighbouring
labels hold one value, and so do the eight predictions under them. Such a pair of words is counted
in one step; only words across a border are taken apart.

`count_pairs` chooses: numba (the extra ``terrazzo[fast]``) where it is installed and the array is
large enough to pay for loading it, else NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBA_FROM_PIXELS = 1 << 20
"""Smaller arrays are counted by NumPy: they are done before numba is imported."""

_WORDS_FROM_PIXELS = 1 << 17  # below, sorting words out takes longer than it saves (measured)
_NUMPY_CHUNK = 1 << 19  # the temporaries of so many pixels stay in a core's cache (measured)

# Typed constants: numba turns arithmetic between uint64 and plain integers into float64.
_EIGHT_TIMES = np.uint64(0x0101010101010101)
_BYTE = np.uint64(0xFF)
_PAIR = np.uint64(0xFFFF)
_EVEN_BYTES = np.uint64(0x00FF00FF00FF00FF)
_ODD_BYTES = np.uint64(0xFF00FF00FF00FF00)
_S8, _S16, _S32, _S48 = np.uint64(8), np.uint64(16), np.uint64(32), np.uint64(48)


def count_pairs(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pairs of two flat, contiguous uint8 arrays of one length.

    Returns:
        256×256 int64, rows labels, columns predictions; new memory.
    """
    if labels.size >= NUMBA_FROM_PIXELS and numba_kernel() is not None:
        return count_pairs_numba(labels, predictions)
    return count_pairs_numpy(labels, predictions)


def count_pairs_numpy(
    labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """`count_pairs` with NumPy alone."""
    if labels.size < _WORDS_FROM_PIXELS:
        return _histogram(labels, predictions).reshape(256, 256)
    table = np.zeros(1 << 16, dtype=np.int64)
    whole = labels.size - labels.size % 8
    for start in range(0, whole, _NUMPY_CHUNK):
        chunk = slice(start, min(start + _NUMPY_CHUNK, whole))
        _add_words(table, labels[chunk], predictions[chunk])
    _add_tail(table, labels[whole:], predictions[whole:])
    return table.reshape(256, 256)


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


def _add_tail(
    table: NDArray[np.int64], labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
) -> None:
    np.add.at(table, _codes(labels, predictions), 1)


def _codes(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.uint16]:
    codes: NDArray[np.uint16] = np.left_shift(labels, 8, dtype=np.uint16)
    codes |= predictions
    return codes


def count_pairs_numba(
    labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """`count_pairs` by a compiled loop, one thread, without the GIL.

    Raises:
        ImportError: numba is not installed, or not for this NumPy.
    """
    kernel = numba_kernel()
    if kernel is None:
        raise ImportError("numba is not installed: pip install 'terrazzo[fast]'")
    table = np.zeros(1 << 16, dtype=np.int64)
    whole = labels.size - labels.size % 8
    kernel(_aligned_words(labels[:whole]), _aligned_words(predictions[:whole]), table)
    _add_tail(table, labels[whole:], predictions[whole:])
    return table.reshape(256, 256)


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
    except ImportError:
        return None
    words = numba.types.Array(numba.types.uint64, 1, "C", readonly=True)
    signature: Any = numba.types.void(words, words, numba.types.int64[::1])
    try:
        compiled: Callable[..., None] = numba.njit(signature, cache=True, nogil=True)(_count_words)
    except (RuntimeError, OSError):
        # No folder for the compiled code can be written: each process compiles anew.
        compiled = numba.njit(signature, nogil=True)(_count_words)
    return compiled


def _count_words(
    label_words: NDArray[np.uint64],
    prediction_words: NDArray[np.uint64],
    table: NDArray[np.int64],
) -> None:
    # A run is counted in a register and written when it ends. A table of 64-bit counts needs no
    # flushing; several interleaved tables, which spare other processors a stall where one pair
    # repeats, gained nothing where this was measured.
    run_label = run_prediction = np.uint64(0)
    run_words = 0
    for i in range(label_words.size):
        labels, predictions = label_words[i], prediction_words[i]
        if labels == run_label and predictions == run_prediction:
            run_words += 1
            continue
        first_label, first_prediction = labels & _BYTE, predictions & _BYTE
        if labels == first_label * _EIGHT_TIMES and predictions == first_prediction * _EIGHT_TIMES:
            table[((run_label & _BYTE) << _S8) | (run_prediction & _BYTE)] += 8 * run_words
            run_label, run_prediction, run_words = labels, predictions, 1
            continue
        # Four pairs each, as 16-bit codes side by side.
        even = ((labels & _EVEN_BYTES) << _S8) | (predictions & _EVEN_BYTES)
        odd = (labels & _ODD_BYTES) | ((predictions & _ODD_BYTES) >> _S8)
        table[even & _PAIR] += 1
        table[odd & _PAIR] += 1
        table[(even >> _S16) & _PAIR] += 1
        table[(odd >> _S16) & _PAIR] += 1
        table[(even >> _S32) & _PAIR] += 1
        table[(odd >> _S32) & _PAIR] += 1
        table[even >> _S48] += 1
        table[odd >> _S48] += 1
    table[((run_label & _BYTE) << _S8) | (run_prediction & _BYTE)] += 8 * run_words
