"""JAX: compiled once for each input size, gradients by transformation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from terrazzo.base.processes import usable_processors


def device() -> str:
    """Return ``cpu`` or ``cuda:0 <name>``."""
    first = jax.devices()[0]
    return "cpu" if first.platform == "cpu" else f"cuda:{first.id} {first.device_kind}"


def threads() -> int:
    """Return the number of threads that XLA shares an operation among: one a processor."""
    return usable_processors()


def compiled(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],  # noqa: ARG001
    fuse: bool,  # noqa: ARG001
) -> Callable[..., Any]:
    """Return `function` compiled, always by XLA; a new batch or image size compiles it anew."""
    return jax.jit(function)


def value_and_grad(
    function: Callable[[Any], tuple[Any, Any]], vector: Any
) -> tuple[tuple[Any, Any], Any]:
    """Return ``function(vector)``, a loss and anything else, and the gradient of the loss."""
    result: tuple[tuple[Any, Any], Any] = jax.value_and_grad(function, has_aux=True)(vector)
    return result


def either(condition: Any, made: Callable[[], Any], kept: Any) -> Any:
    """Return the nest ``made()`` where the scalar `condition` holds, else `kept`.

    A choice by element, which XLA makes part of what computes the elements.
    """
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), made(), kept)


def out_of_memory(error: Exception) -> bool:
    """Tell whether XLA had no memory left."""
    # Also where it is raised late: a computation is waited for when its result is read.
    words = ("RESOURCE_EXHAUSTED", "Out of memory", "out of memory")
    return isinstance(error, jax.errors.JaxRuntimeError) and any(w in str(error) for w in words)
