"""PyTorch: run as written, gradients from autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import torch


def device() -> str:
    """Return ``cpu`` or ``cuda:0 <name>``."""
    return f"cuda:0 {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else "cpu"


def threads() -> int:
    """Return the number of threads that one operation is shared among."""
    return torch.get_num_threads()


def compiled(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],  # noqa: ARG001
    fuse: bool,
) -> Callable[..., Any]:
    """Return `function` as it is, the eager engine having no traces to save, or compiled."""
    return torch.compile(function) if fuse else function


def value_and_grad(
    function: Callable[[Any], tuple[Any, Any]], vector: Any
) -> tuple[tuple[Any, Any], Any]:
    """Return ``function(vector)``, a loss and anything else, and the gradient of the loss."""
    leaf = vector.detach().requires_grad_(True)
    loss, rest = function(leaf)
    (gradient,) = torch.autograd.grad(loss, leaf)
    # Batch statistics hang on the graph too; keeping them would keep the whole step in memory.
    detached = keras.tree.map_structure(lambda tensor: tensor.detach(), rest)
    return (loss.detach(), detached), gradient


def either(condition: Any, made: Callable[[], Any], kept: Any) -> Any:
    """Return the nest ``made()`` where the scalar `condition` holds, else `kept`.

    On a GPU a choice by element: a branch would wait for all that was asked of it.
    """
    if condition.device.type == "cpu" and not torch.compiler.is_compiling():
        return made() if condition else kept
    return keras.tree.map_structure(lambda new, old: torch.where(condition, new, old), made(), kept)


def out_of_memory(error: Exception) -> bool:
    """Tell whether torch had no memory left."""
    words = ("DefaultCPUAllocator", "std::bad_alloc", "out of memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
