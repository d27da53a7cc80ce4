"""Loss terms over the valid pixels of a batch, always in float32.

`terrazzo.testing` holds the same definitions in NumPy. Nothing here waits for the device: pixels
are left out by multiplication, never by boolean indexing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from terrazzo.config import LossConfig

SumOver = Callable[[Tensor], Tensor]
"""Sum over all processes: the value is everyone's, the gradient this process's own."""


def one_process(total: Tensor) -> Tensor:
    """Return `total`: the sum over one process."""
    return total


class SegmentationLoss(nn.Module):
    """The weighted sum of cross-entropy and Dice loss of a `LossConfig`."""

    class_weights_K: Tensor | None

    def __init__(self, config: LossConfig, ignore_index: int, sum_over: SumOver) -> None:
        super().__init__()
        self._config = config
        self._ignore_index = ignore_index
        self._sum_over = sum_over
        weights = config.class_weights
        self.register_buffer("class_weights_K", None if weights is None else torch.tensor(weights))

    def forward(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        """Return the scalar loss.

        Args:
            logits_BKHW: any float type.
            labels_BHW: int64, 0…K-1 or the ignore index.
        """
        log_probabilities_BKHW = functional.log_softmax(logits_BKHW.float(), dim=1)
        loss = log_probabilities_BKHW.new_zeros(())
        if self._config.cross_entropy:
            loss = loss + self._config.cross_entropy * cross_entropy(
                log_probabilities_BKHW,
                labels_BHW,
                self._ignore_index,
                self.class_weights_K,
                self._sum_over,
            )
        if self._config.dice:
            loss = loss + self._config.dice * dice_loss(
                log_probabilities_BKHW.exp(),
                labels_BHW,
                self._ignore_index,
                self.class_weights_K,
                self._sum_over,
            )
        return loss


def cross_entropy(
    log_probabilities_BKHW: Tensor,
    labels_BHW: Tensor,
    ignore_index: int,
    class_weights_K: Tensor | None = None,
    sum_over: SumOver = one_process,
) -> Tensor:
    """Return Σ w[y]·(−log p[y]) / Σ w[y] over the valid pixels; 0 where Σ w[y] is 0.

    Args:
        log_probabilities_BKHW: float32.
        labels_BHW: int64, 0…K-1 or `ignore_index`.
        ignore_index: label of pixels that do not count.
        class_weights_K: w, float32. None: all 1.
        sum_over: sums over the processes.
    """
    total = functional.nll_loss(
        log_probabilities_BKHW,
        labels_BHW,
        weight=class_weights_K,
        ignore_index=ignore_index,
        reduction="sum",
    )
    valid_BHW = labels_BHW != ignore_index
    if class_weights_K is None:
        weight = valid_BHW.sum().float()
    else:
        weight = (class_weights_K[labels_BHW * valid_BHW] * valid_BHW).sum()
    return _ratio(sum_over(total), sum_over(weight))


def dice_loss(
    probabilities_BKHW: Tensor,
    labels_BHW: Tensor,
    ignore_index: int,
    class_weights_K: Tensor | None = None,
    sum_over: SumOver = one_process,
) -> Tensor:
    """Return the weighted mean of 1 − 2·Σpt / (Σp + Σt) over the classes in the batch.

    Sums run over the valid pixels of the whole batch; t is 1 where a pixel is of the class. Classes
    with Σt = 0 do not count; without any class the loss is 0. Milletari et al., "V-Net", 2016, with
    plain instead of squared sums.

    Args:
        probabilities_BKHW: float32.
        labels_BHW: int64, 0…K-1 or `ignore_index`.
        ignore_index: label of pixels that do not count.
        class_weights_K: weights of the mean, float32. None: all 1.
        sum_over: sums over the processes.
    """
    num_classes = probabilities_BKHW.shape[1]
    classes_K11 = torch.arange(num_classes, device=labels_BHW.device)[:, None, None]
    truth_BKHW = labels_BHW[:, None] == classes_K11
    valid_B1HW = (labels_BHW != ignore_index)[:, None]
    pixels = (0, 2, 3)
    intersection_K, predicted_K, true_K = sum_over(
        torch.stack(
            [
                (probabilities_BKHW * truth_BKHW).sum(pixels),
                (probabilities_BKHW * valid_B1HW).sum(pixels),
                truth_BKHW.sum(pixels).float(),
            ]
        )
    )
    weights_K = (true_K > 0).float()
    if class_weights_K is not None:
        weights_K = weights_K * class_weights_K
    # A class that is absent has weight 0; T + P may be 0 there, and must not become 0/0.
    overlap_K = _ratio(2 * intersection_K, (predicted_K + true_K) * (true_K > 0))
    return _ratio((weights_K * (1 - overlap_K)).sum(), weights_K.sum())


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator; the (zero) numerator itself where the denominator is 0."""
    return numerator / torch.where(denominator > 0, denominator, 1.0)
