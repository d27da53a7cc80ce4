"""The first convolution of pretrained weights, fitted to the normalisation of a run."""

from __future__ import annotations

import torch
from torch import nn

from terrazzo.data import input_statistics
from terrazzo.data.input_statistics import InputStatistics
from terrazzo.data.sample import Bands


@torch.no_grad()
def fit(network: nn.Module, expected: InputStatistics, bands: Bands) -> tuple[str, ...]:
    """Let an encoder see the same in images that are normalised otherwise; return remarks.

    Its first convolution is scaled. What is constant goes to its bias, or else into the running
    mean of the batch norm that follows.

    Args:
        network: with pretrained weights in `encoder`; changed in place.
        expected: what the weights were trained on.
        bands: of the run.
    """
    if unfit := input_statistics.remark_unfit(expected, bands):
        return (unfit,)
    modules = [module for _, module in network.get_submodule("encoder").named_modules()]
    position, first = next((n, m) for n, m in enumerate(modules) if isinstance(m, nn.Conv2d))
    fitted = input_statistics.fitted(
        first.weight.permute(2, 3, 1, 0).numpy(force=True),
        expected,
        bands,
        padding=_beyond_the_edge(first),
    )
    if fitted is None:
        return ()
    first.weight.copy_(torch.from_numpy(fitted.kernels).permute(3, 2, 0, 1))
    offset_O = torch.from_numpy(fitted.offset_O)
    if first.bias is not None:
        first.bias += offset_O
        return (fitted.remark,)
    norm = next((m for m in modules[position:] if isinstance(m, nn.BatchNorm2d)), None)
    if norm is not None and norm.running_mean is not None:
        norm.running_mean -= offset_O
        return (fitted.remark,)
    return (f"{fitted.remark}; without its constant part, which has no place to go",)


def _beyond_the_edge(convolution: nn.Conv2d) -> int:
    """Return how many pixels beside the image are read, at most: none where patches lie in a row.

    timm's convolutions that pad to "same" do so on their own, and say that they do not.
    """
    patches = convolution.kernel_size == convolution.stride and not any(convolution.padding)
    return 0 if patches else max(convolution.kernel_size) // 2
