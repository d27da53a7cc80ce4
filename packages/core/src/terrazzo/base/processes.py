"""The processes that run one training together, and the signals that ask them to stop."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

STOP_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    *((signal.SIGUSR1, signal.SIGHUP) if hasattr(signal, "SIGHUP") else ()),  # not on Windows
)
"""What asks a run to save its state and stop. SIGHUP: its terminal was closed."""

IntegerArray = TypeVar("IntegerArray", bound=NDArray[np.integer])


class World(Protocol):
    """The processes that run this training together."""

    @property
    def rank(self) -> int:
        """Number of this process, 0…size-1. Rank 0 writes files."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return the exact sum of an int64 array over all processes, to all processes."""
        ...


@dataclass(frozen=True, slots=True)
class SingleProcess:
    """The world of one process."""

    rank: int = 0
    size: int = 1

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return `counts` unchanged."""
        return counts
