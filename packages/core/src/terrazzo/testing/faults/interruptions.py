"""What happens in the middle of a training: in this process, at a step that is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from terrazzo.training import learning_rate
from terrazzo.training import loop as training_loop


@contextlib.contextmanager
def during_step(number: int, happens: Callable[[], object]) -> Iterator[None]:
    """Let something happen just before an optimiser step, whose batch has been read.

    Args:
        number: of the step; the first is 1.
        happens: called once.
    """
    rate = learning_rate.learning_rate

    def rate_after_it(schedule: Any, *, step: int, **others: Any) -> float:
        if step + 1 == number:
            happens()
        return rate(schedule, step=step, **others)

    training_loop.learning_rate = rate_after_it  # type: ignore[attr-defined]
    try:
        yield
    finally:
        training_loop.learning_rate = rate  # type: ignore[attr-defined]
