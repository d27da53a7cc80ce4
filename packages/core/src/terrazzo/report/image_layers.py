"""Images for pages: layers, ``data:`` URLs, error maps, and how large they may be."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.data.labels import LabelMap
from terrazzo.inference import legends

WRONG = (213, 94, 0)
"""Vermilion of Okabe and Ito, which differs from grey in any colour vision."""
RIGHT = (86, 180, 233)
"""Sky blue of Okabe and Ito, which differs from `WRONG` in any colour vision."""
IGNORED = (110, 110, 110)
NOT_SCORED = (222, 222, 222)

Encoded = TypeVar("Encoded")


@dataclass(frozen=True)
class Layer:
    """One of several images of the same place, which a page lays over each other.

    Attributes:
        title: caption of the layer.
        source: ``data:`` URL.
        run: number of the run it belongs to; None for image and ground truth.
        labels: whether its colours are classes, which a browser must not smooth.
    """

    title: str
    source: str
    run: int | None
    labels: bool


def largest_within_budget(
    sides: Sequence[int],
    budget: int,
    encode: Callable[[int], tuple[Encoded, ...]],
    num_characters: Callable[[Encoded], int],
) -> tuple[Encoded, ...]:
    """Encode images at the largest size at which all together keep a budget.

    Args:
        sides: longest sides in pixels to try, largest first.
        budget: characters of all images together; exceeded only at the last of `sides`.
        encode: encodes all images, given their longest side.
        num_characters: characters of one of them.
    """
    encoded: tuple[Encoded, ...] = ()
    for side in sides:
        encoded = encode(side)
        if sum(map(num_characters, encoded)) <= budget:
            break
    return encoded


def layer_characters(layers: Sequence[Layer]) -> int:
    """Return the number of characters of the URLs of all layers."""
    return sum(len(layer.source) for layer in layers)


def data_url(image: Image.Image, side: int, *, lossless: bool) -> str:
    """Encode an image as a ``data:`` URL, its longer side reduced to `side` pixels at most."""
    image = reduced(image, side, is_labels=lossless)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def reduced(image: Image.Image, side: int, *, is_labels: bool) -> Image.Image:
    """Return an image whose longer side has `side` pixels at most."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Mixed class colours would be colours of no class, or of another one.
    return image.resize(size, Image.Resampling.NEAREST if is_labels else Image.Resampling.BOX)


def contours(image: Image.Image, labels: Image.Image, side: int) -> Image.Image:
    """Draw the borders of areas over an image, in the colours at both of their sides.

    Args:
        image: RGB.
        labels: in class colours; its size is that of the result before reduction.
        side: pixels that the longer side of the result has at most.
    """
    if image.size != labels.size:
        image = image.resize(labels.size)
    labels_HWC = np.asarray(reduced(labels, side, is_labels=True))
    drawn_HWC = np.array(reduced(image, side, is_labels=False))
    _, ids = np.unique(labels_HWC.reshape(-1, 3), axis=0, return_inverse=True)
    border_HW = legends.borders(ids.reshape(labels_HWC.shape[:2]).astype(np.uint16))
    drawn_HWC[border_HW] = labels_HWC[border_HW]
    return Image.fromarray(drawn_HWC)


def has_distinct_colours(label_map: LabelMap) -> bool:
    """Whether labels can be read back from their colours: no two equal, none black (ignored)."""
    colours = {c.colour.lower() for c in label_map.classes}
    return len(colours) == len(label_map) and "#000000" not in colours


def error_map(
    image_HWC: NDArray[np.uint8], truth_HWC: NDArray[np.uint8], prediction_HWC: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], float]:
    """Draw the wrong pixels over the faded image.

    Args:
        image_HWC: RGB.
        truth_HWC: ground truth in class colours; black is ignored.
        prediction_HWC: prediction in class colours.

    Returns:
        RGB image with wrong pixels in `WRONG` and ignored ones in `IGNORED`, and the share of
        wrong pixels among those that count, NaN where none counts.
    """
    ignored_HW = (truth_HWC == 0).all(axis=2)
    wrong_HW = (truth_HWC != prediction_HWC).any(axis=2) & ~ignored_HW
    faded_HW = 255 - (255 - image_HWC.mean(axis=2)) * 0.45
    errors_HWC = np.repeat(faded_HW[..., None], 3, axis=2).astype(np.uint8)
    errors_HWC[wrong_HW] = WRONG
    errors_HWC[ignored_HW] = IGNORED
    counted = int(ignored_HW.size - ignored_HW.sum())
    return errors_HWC, float(wrong_HW.sum() / counted) if counted else float("nan")
