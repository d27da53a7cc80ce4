"""A world of threads: agreements of several processes tested in one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier
from typing import TypeVar

import numpy as np

from terrazzo.base.processes import IntegerArray, World

Result = TypeVar("Result")
_SECONDS = 60.0


@dataclass(frozen=True)
class _Meeting:
    """Where the threads hand each other their arrays."""

    barrier: Barrier
    parts: dict[int, IntegerArray] = field(default_factory=dict)  # type: ignore[valid-type]
    left: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ThreadWorld:
    """One thread as a process; see `terrazzo.base.processes.World`."""

    rank: int
    size: int
    meeting: _Meeting = field(repr=False)

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return the exact sum of an int64 array over all threads, to all threads."""
        self.meeting.parts[self.rank] = np.array(counts)
        self.meeting.barrier.wait(_SECONDS)
        total: IntegerArray = sum(self.meeting.parts.values())  # type: ignore[assignment]
        self.meeting.barrier.wait(_SECONDS)
        return total

    def leave(self, reason: str) -> None:
        """Keep the reason, and let nobody wait."""
        self.meeting.left[self.rank] = reason
        self.meeting.barrier.abort()


def in_world_of(size: int, work: Callable[[World], Result]) -> list[Result | Exception]:
    """Run `work` in `size` threads, each with its own world; return results or errors by rank."""
    meeting = _Meeting(Barrier(size))

    def one(rank: int) -> Result | Exception:
        try:
            return work(ThreadWorld(rank, size, meeting))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as executor:
        return list(executor.map(one, range(size)))
