"""Arrays as graphs take and give them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from terrazzo.models.exporter import GraphForm


def as_input(images_BHWC: NDArray[np.generic], form: GraphForm) -> NDArray[np.generic]:
    """Return images in the layout of a graph; in its dtype, or float32.

    Images of another dtype than the graph's are float32: those of whole numbers become it where
    values are missing, which NaN says.
    """
    if images_BHWC.dtype.name not in (form.dtype, "float32"):
        images_BHWC = images_BHWC.astype(np.float32)
    if form.layout == "NCHW":
        images_BHWC = images_BHWC.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images_BHWC)


def channels_last(output: NDArray[np.generic], form: GraphForm) -> NDArray[np.float32]:
    """Return logits or probabilities B×H×W×K float32, whatever the layout of the graph."""
    if form.layout == "NCHW":
        output = output.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(output, np.float32)


def softmax(logits_BHWK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities, in new memory."""
    exponents: NDArray[np.float32] = logits_BHWK - logits_BHWK.max(axis=-1, keepdims=True)
    np.exp(exponents, out=exponents)
    exponents /= exponents.sum(axis=-1, keepdims=True)
    return exponents


def best_class(scores_BHWK: NDArray[np.float32]) -> NDArray[np.integer]:
    """Return the class of the highest score; the lower one where two are equal."""
    best: NDArray[np.integer] = scores_BHWK.argmax(axis=-1)
    return best
