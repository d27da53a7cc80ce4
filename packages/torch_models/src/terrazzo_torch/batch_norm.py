"""Batch normalisation that one value cannot stop, and that knows the whole of a shared batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from terrazzo.base.errors import ConfigError
from terrazzo_torch import world


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


@dataclass
class Share:
    """What this process holds of the batch of a step.

    Attributes:
        idle: nothing; its image only stands in for one.
    """

    idle: bool = False


class SynchronizedBatchNorm2d(BatchNorm2d):
    """`BatchNorm2d` over the images of all processes, on any device.

    The statistics of a step are those of its whole batch, so results do not depend on how many
    processes share it. `torch.nn.SyncBatchNorm` needs a GPU.

    Attributes:
        share: of this process in the step.
        after: applied to the result: dropout and activation, where a layer of timm holds them.
    """

    share: Share
    after: tuple[str, ...] = ()

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Normalise; B×C×H×W in and out."""
        normalised = (
            self._by_the_whole_batch(features_BCHW)
            if self.training
            else super().forward(features_BCHW)
        )
        for name in self.after:
            normalised = getattr(self, name)(normalised)
        return normalised

    def _by_the_whole_batch(self, features_BCHW: Tensor) -> Tensor:
        features = features_BCHW.float()
        takes_part = 0.0 if self.share.idle else 1.0
        number = features.new_tensor([takes_part * features[:, 0].numel()])
        sums = torch.cat([takes_part * features.sum(dim=(0, 2, 3)), number])
        total = world.SumOfAll.apply(sums)
        number = total[-1].detach()
        if number <= 1:
            return super().forward(features_BCHW[:1, :, :1, :1]).expand_as(features_BCHW)
        mean_C11 = (total[:-1] / number)[:, None, None]
        deviations = features - mean_C11
        squares = takes_part * deviations.square().sum(dim=(0, 2, 3))
        variance_C = world.SumOfAll.apply(squares) / number
        self._remember(mean_C11.detach().flatten(), variance_C.detach() * number / (number - 1))
        scale_C = torch.rsqrt(variance_C + self.eps) * self.weight
        normalised: Tensor = deviations * scale_C[:, None, None] + self.bias[:, None, None]
        return normalised.to(features_BCHW.dtype)

    @torch.no_grad()
    def _remember(self, mean_C: Tensor, variance_C: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def synchronize_batch_norms(network: nn.Module, share: Share) -> None:
    """Put `SynchronizedBatchNorm2d` in place of all batch normalisation in `network`.

    Args:
        network: changed in place; names of its state stay.
        share: of this process, which the trainer keeps up to date.

    Raises:
        ConfigError: SEG-X071, a kind of batch normalisation that is not known here.
    """
    _keep_out_of_graphs()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.modules.batchnorm._BatchNorm):
                continue
            after = tuple(part for part, _ in child.named_children())
            if not isinstance(child, nn.BatchNorm2d) or not set(after) <= {"drop", "act"}:
                raise ConfigError(
                    "SEG-X071",
                    "training.sync_batch_norm does not know this kind of batch normalisation",
                    observed=type(child).__name__,
                    allowed="BatchNorm2d, BatchNormAct2d",
                    next_step="set training.sync_batch_norm = false, or choose another encoder",
                )
            replacement = _like(child, None, SynchronizedBatchNorm2d)
            replacement.share, replacement.after = share, after
            for part in after:
                setattr(replacement, part, getattr(child, part))
            setattr(parent, name, replacement)


@cache
def _keep_out_of_graphs() -> None:
    """Have what processes say to each other left out of compiled graphs.

    Not where the class is written: this loads torch's compiler, 150 MB, which prediction and most
    training do without.
    """
    SynchronizedBatchNorm2d._by_the_whole_batch = torch.compiler.disable(  # type: ignore[method-assign, no-untyped-call]
        SynchronizedBatchNorm2d._by_the_whole_batch
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
                setattr(parent, name, _like(child, keep, BatchNorm2d))


Norm = TypeVar("Norm", bound=BatchNorm2d)


def _like(norm: nn.BatchNorm2d, keep: float | None, kind: type[Norm]) -> Norm:
    momentum = norm.momentum if keep is None else 1 - keep
    # Made on the meta device: everything it holds is replaced by what `norm` holds.
    replacement = kind(norm.num_features, eps=norm.eps, momentum=momentum, device="meta")
    replacement.weight, replacement.bias = norm.weight, norm.bias
    replacement.running_mean, replacement.running_var = norm.running_mean, norm.running_var
    replacement.num_batches_tracked = norm.num_batches_tracked
    return replacement
