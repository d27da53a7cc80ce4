"""Loss terms over the valid pixels of a batch, always in float32.

`terrazzo.testing` holds the same definitions in NumPy. Nothing here waits for the device: pixels
are left out by multiplication, never by boolean indexing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from terrazzo.base.recipe import LossConfig

SumOver = Callable[[Tensor], Tensor]
"""Sum over all parts of a batch, on other processes or accumulated one after another: the value is
everyone's, the gradient this part's own."""


def one_part(total: Tensor) -> Tensor:
    """Return `total`: the sum over a batch that is in one piece."""
    return total


@dataclass(frozen=True, slots=True)
class Pixels:
    """What the network says of a batch, and the truth.

    Attributes:
        log_probabilities_BKHW: float32.
        labels_BHW: int64, 0…K-1 or `ignore_index`.
        valid_BHW: bool; the other pixels count in no term.
        ignore_index: label of the pixels that are not valid.
        class_weights_K: float32. None: all 1.
        sum_over: sums over the parts of the batch.
    """

    log_probabilities_BKHW: Tensor
    labels_BHW: Tensor
    valid_BHW: Tensor
    ignore_index: int
    class_weights_K: Tensor | None
    sum_over: SumOver


class SegmentationLoss(nn.Module):
    """The weighted sum of the terms of a `LossConfig`."""

    class_weights_K: Tensor | None

    def __init__(self, config: LossConfig, ignore_index: int) -> None:
        super().__init__()
        assert not isinstance(config.class_weights, str)  # core counts pixels and gives numbers
        weights = config.class_weights
        self.register_buffer(
            "class_weights_K", None if weights is None else torch.tensor(weights).float()
        )
        self._config = config
        self._ignore_index = ignore_index

    def forward(
        self, logits_BKHW: Tensor, labels_BHW: Tensor, sum_over: SumOver = one_part
    ) -> Tensor:
        """Return the scalar loss.

        Args:
            logits_BKHW: any float type.
            labels_BHW: int64, 0…K-1 or the ignore index.
            sum_over: sums over the parts, where the batch is in several.
        """
        config = self._config
        valid_BHW = labels_BHW != self._ignore_index
        pixels = Pixels(
            functional.log_softmax(logits_BKHW.float(), dim=1),
            labels_BHW,
            valid_BHW,
            self._ignore_index,
            self.class_weights_K,
            sum_over,
        )
        terms = []
        if config.cross_entropy:
            terms.append(_times(config.cross_entropy, cross_entropy(pixels)))
        if config.dice:
            terms.append(_times(config.dice, dice(pixels)))
        if config.soft_iou:
            terms.append(_times(config.soft_iou, soft_iou(pixels)))
        if config.focal:
            terms.append(_times(config.focal, focal(pixels, config.focal_gamma)))
        if config.lovasz:
            terms.append(_times(config.lovasz, lovasz(pixels)))
        return functools.reduce(torch.add, terms)


def cross_entropy(pixels: Pixels) -> Tensor:
    """Return Σ w[y]·(−log p[y]) / Σ w[y] over the valid pixels; 0 where Σ w[y] is 0."""
    if pixels.class_weights_K is not None:
        return focal(pixels, 0)
    # The same in fewer operations, which small networks notice.
    total = functional.nll_loss(
        pixels.log_probabilities_BKHW,
        pixels.labels_BHW,
        ignore_index=pixels.ignore_index,
        reduction="sum",
    )
    return _ratio(pixels.sum_over(total), pixels.sum_over(pixels.valid_BHW.sum()))


def focal(pixels: Pixels, gamma: float) -> Tensor:
    """Return Σ w[y]·(1 − p[y])^γ·(−log p[y]) / Σ w[y] over the valid pixels.

    0 where Σ w[y] is 0. Lin et al., "Focal loss for dense object detection", 2017.
    """
    surprise_BHW = functional.nll_loss(
        pixels.log_probabilities_BKHW,
        pixels.labels_BHW,
        ignore_index=pixels.ignore_index,
        reduction="none",
    )
    if gamma:
        # −expm1 is 1 − p without cancellation; a bound keeps the slope of a power below 1 finite.
        doubt_BHW = (-torch.expm1(-surprise_BHW)).clamp(min=1e-12)
        surprise_BHW = doubt_BHW**gamma * surprise_BHW
    weights_BHW = pixels.valid_BHW.float()
    if pixels.class_weights_K is not None:
        weights_BHW = weights_BHW * pixels.class_weights_K[pixels.labels_BHW * pixels.valid_BHW]
    total, weight = pixels.sum_over(
        torch.stack([(weights_BHW * surprise_BHW).sum(), weights_BHW.sum()])
    )
    return _ratio(total, weight)


def dice(pixels: Pixels) -> Tensor:
    """Return the weighted mean of 1 − 2·Σpt / (Σp + Σt) over the classes in the batch.

    Sums run over the valid pixels of the whole batch; t is 1 where a pixel is of the class. Classes
    with Σt = 0 do not count; without any class the loss is 0. Milletari et al., "V-Net", 2016, with
    plain instead of squared sums.
    """
    intersection_K, predicted_K, true_K = _overlaps(pixels)
    return _mean_of_present(pixels, true_K, 2 * intersection_K, predicted_K + true_K)


def soft_iou(pixels: Pixels) -> Tensor:
    """Return the weighted mean of 1 − Σpt / Σ(p + t − pt) over the classes in the batch.

    Sums and absent classes as in `dice`. Rahman and Wang, "Optimizing intersection-over-union in
    deep neural networks", 2016.
    """
    intersection_K, predicted_K, true_K = _overlaps(pixels)
    union_K = predicted_K + true_K - intersection_K
    return _mean_of_present(pixels, true_K, intersection_K, union_K)


def lovasz(pixels: Pixels) -> Tensor:
    """Return the Lovász-softmax loss by image, over the classes present in each.

    The mean over images of the weighted mean over classes of the Lovász extension of the Jaccard
    loss. Berman et al., "The Lovász-softmax loss", 2018, algorithm 1.
    """
    probabilities_BKP = pixels.log_probabilities_BKHW.exp().flatten(2)
    truth_BKP = _truth(pixels).flatten(2).float()
    valid_B1P = pixels.valid_BHW.flatten(1)[:, None]
    errors_BKP = (truth_BKP - probabilities_BKP).abs()
    # Invalid pixels go last, behind all errors, where their share is multiplied by 0.
    order_BKP = torch.where(valid_B1P, errors_BKP, -1.0).argsort(dim=2, descending=True)
    truth_BKP = truth_BKP.gather(2, order_BKP)
    errors_BKP = (errors_BKP * valid_B1P).gather(2, order_BKP)
    true_BK1 = truth_BKP.sum(2, keepdim=True)
    found_BKP = truth_BKP.cumsum(2)
    seen_P = torch.arange(1, errors_BKP.shape[2] + 1, device=errors_BKP.device)
    jaccard_BKP = 1 - (true_BK1 - found_BKP) / (true_BK1 + seen_P - found_BKP)
    share_BKP = torch.diff(
        jaccard_BKP, dim=2, prepend=jaccard_BKP.new_zeros(()).expand_as(true_BK1)
    )
    weights_BK = _weights_of_present(pixels, true_BK1[..., 0])
    of_image_B = _ratio((weights_BK * (errors_BKP * share_BKP).sum(2)).sum(1), weights_BK.sum(1))
    total, images = pixels.sum_over(
        torch.stack([of_image_B.sum(), (weights_BK.sum(1) > 0).sum().float()])
    )
    return _ratio(total, images)


def _truth(pixels: Pixels) -> Tensor:
    """Return B×K×H×W bool: the valid pixels of each class."""
    classes_K11 = torch.arange(
        pixels.log_probabilities_BKHW.shape[1], device=pixels.labels_BHW.device
    )[:, None, None]
    return (pixels.labels_BHW[:, None] == classes_K11) & pixels.valid_BHW[:, None]


def _overlaps(pixels: Pixels) -> tuple[Tensor, Tensor, Tensor]:
    """Return Σpt, Σp and Σt of each class over the valid pixels of the whole batch."""
    probabilities_BKHW = pixels.log_probabilities_BKHW.exp()
    truth_BKHW = _truth(pixels)
    over = (0, 2, 3)
    intersection_K, predicted_K, true_K = pixels.sum_over(
        torch.stack(
            [
                (probabilities_BKHW * truth_BKHW).sum(over),
                (probabilities_BKHW * pixels.valid_BHW[:, None]).sum(over),
                truth_BKHW.sum(over).float(),
            ]
        )
    )
    return intersection_K, predicted_K, true_K


def _mean_of_present(pixels: Pixels, true_K: Tensor, part_K: Tensor, whole_K: Tensor) -> Tensor:
    """Return the weighted mean of 1 − part / whole over the classes that have a pixel."""
    weights_K = _weights_of_present(pixels, true_K)
    # A class that is absent has weight 0; its whole may be 0 too, and must not become 0/0.
    overlap_K = _ratio(part_K, whole_K * (true_K > 0))
    return _ratio((weights_K * (1 - overlap_K)).sum(), weights_K.sum())


def _weights_of_present(pixels: Pixels, true_K: Tensor) -> Tensor:
    """Return the weight of each class, 0 where it has no pixel; classes are the last axis."""
    present_K = (true_K > 0).float()
    return present_K if pixels.class_weights_K is None else present_K * pixels.class_weights_K


def _times(factor: float, term: Tensor) -> Tensor:
    return term if factor == 1 else factor * term


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator; the (zero) numerator itself where the denominator is 0."""
    return numerator / torch.where(denominator > 0, denominator, 1.0)
