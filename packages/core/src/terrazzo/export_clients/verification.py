"""Whether what a program answers is what the model answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError
from terrazzo.export_clients.order import ClientOrder
from terrazzo.models.runtimes.agreement import margin, noise
from terrazzo.models.runtimes.arrays import softmax

TOLERANCE = 1e-3
"""Probabilities may differ by so much: float32 in another order of sums."""
_LARGEST_SIDE = 512
_MOST_IMAGES = 4
_NOISE = (61, 97)
"""No power of 2 divides these sides, and no model of the product has them as its own."""

Answer = tuple[NDArray[np.integer], NDArray[np.float32] | None]
"""Labels B×H×W, and probabilities B×H×W×K where the program has them."""


@dataclass(frozen=True)
class Agreement:
    """What was found.

    Attributes:
        pixels: that were compared.
        differing: pixels whose labels differ; where there are any, the two most probable classes
            lie closer together there than arithmetic can tell apart.
        error: the largest difference of a probability; None: the program tells no probabilities.
    """

    pixels: int
    differing: int
    error: float | None

    def __str__(self) -> str:
        error = "" if self.error is None else f", probabilities by at most {self.error:.1e}"
        return f"{self.differing} of {self.pixels} labels differ from the model's{error}"


def require_agreement(
    client: str,
    order: ClientOrder,
    images: Iterable[NDArray[np.generic]],
    predict: Callable[[NDArray[np.generic]], Answer],
) -> Agreement:
    """Compare what a program answers with what the model answers.

    Args:
        client: for the message.
        order: whose model is asked.
        images: B×H×W×C, as the files have them.
        predict: does what the program does.

    Raises:
        CheckpointError: SEG-C070, they differ by more than arithmetic does.
    """
    pixels = differing = 0
    errors = []
    for images_BHWC in images:
        expected_BHWK = probabilities(order, images_BHWC)
        labels_BHW, found_BHWK = predict(images_BHWC)
        if labels_BHW.shape != expected_BHWK.shape[:3]:
            raise _differs(client, f"labels {labels_BHW.shape} of images {images_BHWC.shape}")
        if found_BHWK is not None:
            if found_BHWK.shape != expected_BHWK.shape:
                raise _differs(client, f"probabilities {found_BHWK.shape}")
            errors.append(float(np.abs(found_BHWK - expected_BHWK).max()))
        other_BHW = labels_BHW != expected_BHWK.argmax(axis=3)
        clear = int((other_BHW & (margin(expected_BHWK) > 2 * TOLERANCE)).sum())
        if clear or (errors and not errors[-1] <= TOLERANCE):
            error = f"; probabilities by up to {errors[-1]:.3g}" if errors else ""
            raise _differs(client, f"{clear} of {other_BHW.size} clear labels{error}")
        pixels += other_BHW.size
        differing += int(other_BHW.sum())
    return Agreement(pixels, differing, max(errors) if errors else None)


def probabilities(order: ClientOrder, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return what the model itself answers, B×H×W×K."""
    return softmax(order.exporter.logits(order.trainer, images_BHWC))


def sized_images(order: ClientOrder, *, missing: bool = True) -> Iterator[NDArray[np.generic]]:
    """Yield images to verify with where any size will do: real ones, odd ones, noise, several.

    Args:
        order: whose images are used.
        missing: whether images of floats may hold NaN; else it is the mean of its band.
    """
    real = [each[:, :_LARGEST_SIDE, :_LARGEST_SIDE] for each in real_images(order)]
    if order.card.image_size is None:
        real += [each[:1, : each.shape[1] - 1, : each.shape[2] - 3] for each in real[:1]]
        size = _NOISE
    else:
        size = order.card.image_size
    for images_BHWC in real:
        if min(images_BHWC.shape) > 0:
            yield images_BHWC if missing else without_missing(order, images_BHWC)
    yield noise(order.card.bands, 3, size, seed=0) if missing else _noise(order, 3, size)


def real_images(order: ClientOrder) -> list[NDArray[np.generic]]:
    """Return some of the order's images B×H×W×C in the dtype of the files.

    Where integers are missing they come as NaN among floats: here they are the band's mean.
    """
    dtype = np.dtype(order.card.bands.dtype)
    return [
        each
        if each.dtype == dtype
        else without_missing(order, each).astype(np.float64).round().astype(dtype)
        for each in order.images[:_MOST_IMAGES]
    ]


def tiles(order: ClientOrder, side: int) -> Iterator[NDArray[np.generic]]:
    """Yield images side × side to verify with: real ones, cut or with zeros around, and noise."""
    for images_BHWC in real_images(order):
        cut_BHWC = images_BHWC[:1, :side, :side]
        missing = [(0, side - length) for length in cut_BHWC.shape[1:3]]
        yield without_missing(order, np.pad(cut_BHWC, ((0, 0), *missing, (0, 0))))
    yield _noise(order, 1, (side, side))


def _noise(order: ClientOrder, batch: int, size: tuple[int, int]) -> NDArray[np.generic]:
    """Return noise without missing values.

    The means would not do in their place: where all pixels are the mean, classes may be level.
    """
    images_BHWC = noise(order.card.bands, batch, size, seed=0)
    if images_BHWC.dtype != np.float32:
        return images_BHWC
    bands = order.card.bands
    random = np.random.default_rng(1)
    other_BHWC = random.normal(bands.mean, bands.std, images_BHWC.shape).astype(np.float32)
    return np.where(np.isnan(images_BHWC), other_BHWC, images_BHWC)


def without_missing(order: ClientOrder, images_BHWC: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return images with each band's mean where a value is missing."""
    if images_BHWC.dtype != np.float32:
        return images_BHWC
    mean_C = np.array(order.card.bands.mean, np.float32)
    return np.where(np.isnan(images_BHWC), mean_C, images_BHWC)


def _differs(client: str, observed: str) -> CheckpointError:
    return CheckpointError(
        "SEG-C070",
        f"what was written for {client} does not answer as the model does",
        observed=observed,
        allowed=f"the same labels, and probabilities within {TOLERANCE:g}",
        next_step="nothing was left behind; report this with the recipe of the run",
    )
