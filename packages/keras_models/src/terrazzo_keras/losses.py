"""Losses in float32, the same numbers as `terrazzo_torch.losses`. IGNORE counts in no term.

Shape legend: see `terrazzo.data.sample`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from keras import ops

if TYPE_CHECKING:
    from terrazzo.base.recipe import LossConfig

SumOver = Callable[[Any], Any]
"""Sum over all parts of a batch that are accumulated one after another: the value is the whole
batch's, the gradient this part's own."""


def one_part(total: Any) -> Any:
    """Return `total`: the sum over a batch that is in one piece."""
    return total


@dataclass(frozen=True)
class Pixels:
    """What the network says of a batch, and the truth.

    Attributes:
        logits_BHWK: float32.
        labels_BHW: int32, the class of a valid pixel, else 0.
        valid_BHW: float32, 1 where a pixel counts, else 0.
        weights_K: of the classes, float32; None: all are 1.
        sum_over: sums over the parts of the batch.
    """

    logits_BHWK: Any
    labels_BHW: Any
    valid_BHW: Any
    weights_K: Any | None
    sum_over: SumOver

    @cached_property
    def probabilities(self) -> Any:
        """B×H×W×K, the softmax over the classes."""
        return ops.softmax(self.logits_BHWK, axis=-1)

    @cached_property
    def truth(self) -> Any:
        """B×H×W×K, float32: 1 for the class of a valid pixel, else 0."""
        classes_K = ops.arange(self.logits_BHWK.shape[-1], dtype="int32")
        is_class_BHWK = ops.equal(self.labels_BHW[..., None], classes_K)
        return ops.cast(is_class_BHWK, "float32") * self.valid_BHW[..., None]


def total(
    config: LossConfig,
    logits_BHWK: Any,
    labels_BHW: Any,
    ignore_index: int,
    sum_over: SumOver = one_part,
) -> Any:
    """Return the weighted sum of the terms as a float32 scalar.

    Args:
        config: weights of the terms and of the classes.
        logits_BHWK: of any floating type.
        labels_BHW: integers; train ids or `ignore_index`.
        ignore_index: label of pixels that teach nothing. Where all pixels are such, the loss is 0
            and so is its gradient.
        sum_over: sums over the parts, where the batch is in several.
    """
    assert not isinstance(config.class_weights, str)  # core counts pixels and gives numbers
    labels_BHW = ops.cast(labels_BHW, "int32")
    valid_BHW = ops.not_equal(labels_BHW, ignore_index)
    weights = config.class_weights or None
    pixels = Pixels(
        ops.cast(logits_BHWK, "float32"),
        ops.where(valid_BHW, labels_BHW, 0),
        ops.cast(valid_BHW, "float32"),
        None if weights is None else ops.convert_to_tensor(weights, "float32"),
        sum_over,
    )
    loss = ops.zeros((), "float32")
    if config.cross_entropy:
        loss += config.cross_entropy * cross_entropy(pixels)
    if config.dice:
        loss += config.dice * dice(pixels)
    if config.soft_iou:
        loss += config.soft_iou * soft_iou(pixels)
    if config.focal:
        loss += config.focal * focal(pixels, config.focal_gamma)
    if config.lovasz:
        loss += config.lovasz * lovasz(pixels)
    return loss


def cross_entropy(pixels: Pixels) -> Any:
    """Return Σ w[y]·(−log p[y]) / Σ w[y] over the valid pixels; 0 where that divisor is 0."""
    return focal(pixels, 0)


def focal(pixels: Pixels, gamma: float) -> Any:
    """Return Σ w[y]·(1 − p[y])^γ·(−log p[y]) / Σ w[y] over the valid pixels.

    0 where Σ w[y] is 0. Lin et al., "Focal loss for dense object detection", 2017.
    """
    surprise_BHW = ops.sparse_categorical_crossentropy(
        pixels.labels_BHW, pixels.logits_BHWK, from_logits=True
    )
    if gamma:
        # −expm1 is 1 − p without cancellation; a bound keeps the slope of a power below 1 finite.
        doubt_BHW = ops.maximum(-ops.expm1(-surprise_BHW), 1e-12)
        surprise_BHW = doubt_BHW**gamma * surprise_BHW
    weights_BHW = pixels.valid_BHW
    if pixels.weights_K is not None:
        weights_BHW = weights_BHW * ops.take(pixels.weights_K, pixels.labels_BHW)
    sums = ops.stack([ops.sum(weights_BHW * surprise_BHW), ops.sum(weights_BHW)])
    sums = pixels.sum_over(sums)
    return _ratio(sums[0], sums[1])


def dice(pixels: Pixels) -> Any:
    """Return the weighted mean over classes of 1 − 2·Σpt / (Σp + Σt).

    Sums run over the valid pixels of the whole batch; p is the softmax, t the one-hot truth. A
    class without a pixel in the batch is left out of the mean; 0 where no class is left.
    Milletari, Navab, Ahmadi: V-Net, 3DV 2016 (arXiv:1606.04797), with the sums not squared.
    """
    overlap_K, predicted_K, true_K = _overlaps(pixels)
    return _mean_of_present(pixels, true_K, 2 * overlap_K, predicted_K + true_K)


def soft_iou(pixels: Pixels) -> Any:
    """Return the weighted mean over classes of 1 − Σpt / Σ(p + t − pt).

    Sums and absent classes as in `dice`. Rahman and Wang, "Optimizing intersection-over-union in
    deep neural networks", 2016.
    """
    overlap_K, predicted_K, true_K = _overlaps(pixels)
    return _mean_of_present(pixels, true_K, overlap_K, predicted_K + true_K - overlap_K)


def lovasz(pixels: Pixels) -> Any:
    """Return the Lovász-softmax loss by image, over the classes present in each.

    The mean over images of the weighted mean over classes of the Lovász extension of the Jaccard
    loss. Berman et al., "The Lovász-softmax loss", 2018, algorithm 1.
    """
    probabilities_BPK = _flat(pixels.probabilities)
    truth_BPK = _flat(pixels.truth)
    valid_BP1 = _flat(pixels.valid_BHW[..., None])
    errors_BPK = ops.absolute(truth_BPK - probabilities_BPK)
    # Invalid pixels go last, behind all errors, where their share is multiplied by 0.
    order_BPK = ops.argsort(ops.where(valid_BP1 > 0, -errors_BPK, 1.0), axis=1)
    truth_BPK = ops.take_along_axis(truth_BPK, order_BPK, axis=1)
    errors_BPK = ops.take_along_axis(errors_BPK * valid_BP1, order_BPK, axis=1)
    true_B1K = ops.sum(truth_BPK, axis=1, keepdims=True)
    found_BPK = ops.cumsum(truth_BPK, axis=1)
    seen_BPK = ops.cumsum(ops.ones_like(truth_BPK), axis=1)
    jaccard_BPK = 1 - (true_B1K - found_BPK) / (true_B1K + seen_BPK - found_BPK)
    share_BPK = jaccard_BPK - ops.concatenate(
        [ops.zeros_like(true_B1K), jaccard_BPK[:, :-1]], axis=1
    )
    weights_BK = _weighted(pixels, ops.cast(true_B1K[:, 0] > 0, "float32"))
    weight_B = ops.sum(weights_BK, axis=1)
    of_class_BK = ops.sum(errors_BPK * share_BPK, axis=1)
    of_image_B = _ratio(ops.sum(weights_BK * of_class_BK, axis=1), weight_B)
    sums = ops.stack([ops.sum(of_image_B), ops.sum(ops.cast(weight_B > 0, "float32"))])
    sums = pixels.sum_over(sums)
    return _ratio(sums[0], sums[1])


def _flat(maps_BHWC: Any) -> Any:
    """Return B×P×C, the pixels of each image in one row."""
    batch, height, width, channels = ops.shape(maps_BHWC)
    return ops.reshape(maps_BHWC, (batch, height * width, channels))


def _overlaps(pixels: Pixels) -> tuple[Any, Any, Any]:
    """Return Σpt, Σp and Σt of each class over the valid pixels of the whole batch."""
    probabilities_BHWK = pixels.probabilities
    over = (0, 1, 2)
    sums = ops.stack(
        [
            ops.sum(probabilities_BHWK * pixels.truth, axis=over),
            ops.sum(probabilities_BHWK * pixels.valid_BHW[..., None], axis=over),
            ops.sum(pixels.truth, axis=over),
        ]
    )
    sums = pixels.sum_over(sums)
    return sums[0], sums[1], sums[2]


def _mean_of_present(pixels: Pixels, true_K: Any, part_K: Any, whole_K: Any) -> Any:
    """Return the weighted mean of 1 − part / whole over the classes that have a pixel."""
    weights_K = _weighted(pixels, ops.cast(true_K > 0, "float32"))
    return _ratio(ops.sum(weights_K * (1 - _ratio(part_K, whole_K))), ops.sum(weights_K))


def _weighted(pixels: Pixels, present: Any) -> Any:
    """Return the weights of the classes, times `present`, whose last axis they are."""
    return present if pixels.weights_K is None else present * pixels.weights_K


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Divide; 0 (and no NaN gradient) where the denominator, and with it the numerator, is 0."""
    return numerator / ops.where(denominator > 0, denominator, 1.0)
