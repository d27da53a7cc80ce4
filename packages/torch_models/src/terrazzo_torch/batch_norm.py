"""Batch normalisation that a batch of a single value cannot stop."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` that takes B·H·W = 1 in training.

    One value has no variance, so torch raises an error. It comes to that: the image pooling of
    DeepLabV3 leaves 1×1 pixels, and the last batch of an epoch may hold one image. Such a value
    is normalised as at inference, with the running statistics, which it does not change.
    """

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Normalise; B×C×H×W in and out."""
        if not self.training or features_BCHW.numel() > features_BCHW.shape[1]:
            normalised: Tensor = super().forward(features_BCHW)
            return normalised
        return functional.batch_norm(
            features_BCHW,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=False,
            eps=self.eps,
        )


def replace_batch_norms(network: nn.Module, *, keep: float | None = None) -> None:
    """Put `BatchNorm2d` in place of torch's own in `network`, with the same weights.

    Args:
        network: changed in place.
        keep: share of the old running statistics that stays at a step; None: as it was.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _like(child, keep))


def _like(norm: nn.BatchNorm2d, keep: float | None) -> BatchNorm2d:
    momentum = norm.momentum if keep is None else 1 - keep
    # Made on the meta device: everything it holds is replaced by what `norm` holds.
    replacement = BatchNorm2d(norm.num_features, eps=norm.eps, momentum=momentum, device="meta")
    replacement.weight, replacement.bias = norm.weight, norm.bias
    replacement.running_mean, replacement.running_var = norm.running_mean, norm.running_var
    replacement.num_batches_tracked = norm.num_batches_tracked
    return replacement
