"""The first convolution of pretrained weights, fitted to the normalisation of a run."""

from __future__ import annotations

from collections.abc import Sequence

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
    # A network that was made for blue, green, red turns them itself; kernels lie in that order.
    turned: tuple[int, ...] = (1,) if getattr(network, "reverse_bands", False) else ()
    fitted = input_statistics.fitted(
        first.weight.flip(turned).permute(2, 3, 1, 0).numpy(force=True),
        expected,
        bands,
        padding=_beyond_the_edge(first),
    )
    if fitted is None:
        return ()
    if not _is_linear(first):
        return (
            "first convolution: it standardises its kernels and cannot be fitted to the "
            'normalisation of this run; data.normalize = "pretrained" is that of the weights',
        )
    first.weight.copy_(torch.from_numpy(fitted.kernels).permute(3, 2, 0, 1).flip(turned))
    offset_O = torch.from_numpy(fitted.offset_O)
    if first.bias is not None:
        first.bias += offset_O
        return (fitted.remark,)
    norm = _next_with_weights(modules[position + 1 :])
    if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
        norm.running_mean -= offset_O
        return (fitted.remark,)
    return (f"{fitted.remark}; without its constant part, which has no place to go",)


def _next_with_weights(modules: Sequence[nn.Module]) -> nn.Module | None:
    for module in modules:
        if isinstance(module, nn.BatchNorm2d) or any(True for _ in module.parameters(False)):
            return module
    return None


def _is_linear(convolution: nn.Conv2d) -> bool:
    """Tell whether kernels twice as large answer twice as much; some layers standardise theirs."""
    if type(convolution) is nn.Conv2d:
        return True
    rows, columns = (max(64, 2 * side) for side in convolution.kernel_size)
    images = torch.linspace(-1, 1, rows * columns, device=convolution.weight.device)
    images = images.reshape(1, 1, rows, columns).expand(1, convolution.in_channels, -1, -1)
    constant = convolution(torch.zeros_like(images))
    once = convolution(images) - constant
    convolution.weight *= 2
    twice = convolution(images) - constant
    convolution.weight /= 2
    return torch.allclose(twice, 2 * once, rtol=1e-3, atol=1e-5)


def _beyond_the_edge(convolution: nn.Conv2d) -> int:
    """Return how many pixels beside the image are read, at most: none where patches lie in a row.

    timm's convolutions that pad to "same" do so on their own, and say that they do not.
    """
    patches = convolution.kernel_size == convolution.stride and not any(convolution.padding)
    return 0 if patches else max(convolution.kernel_size) // 2
