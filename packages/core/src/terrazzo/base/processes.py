"""The processes that run one training together, and the signals that ask them to stop.

Rank 0 alone touches the run folder. What it decides or is refused, all others learn from it, so
that all go on or all end with the same error.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import TerrazzoError

STOP_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    *((signal.SIGUSR1, signal.SIGHUP) if hasattr(signal, "SIGHUP") else ()),  # not on Windows
)
"""What asks a run to save its state and stop. SIGHUP: its terminal was closed."""

IntegerArray = TypeVar("IntegerArray", bound=NDArray[np.integer])
Result = TypeVar("Result")


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
        """Return the exact sum of an int64 array over all processes, to all processes.

        Raises:
            ResourceError: SEG-R020, another process has ended; names it.
        """
        ...

    def leave(self, reason: str) -> None:
        """Leave word for the others why this process ends before the work is done."""
        ...


@dataclass(frozen=True, slots=True)
class SingleProcess:
    """The world of one process."""

    rank: int = 0
    size: int = 1

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return `counts` unchanged."""
        return counts

    def leave(self, reason: str) -> None:
        """Do nothing: nobody waits."""


def wait_for_all(world: World) -> None:
    """Return once every process has come here."""
    world.sum(np.zeros(1, np.int64))


def any_says(world: World, yes: bool) -> bool:
    """Tell all processes whether at least one says yes."""
    return bool(world.sum(np.array([yes], np.int64))[0] > 0)


def bytes_from(world: World, rank: int, payload: bytes) -> bytes:
    """Give the bytes of one process to all.

    Args:
        world: the processes; all call this.
        rank: whose bytes.
        payload: taken on `rank` alone.
    """
    if world.size == 1:
        return payload
    mine = payload if world.rank == rank else b""
    (length,) = world.sum(np.array([len(mine)], np.int64)).tolist()
    # An exact sum with zeros brings any bits over unchanged.
    words = np.frombuffer(mine + bytes(-len(mine) % 8), np.int64)
    if world.rank != rank:
        words = np.zeros(-(-length // 8), np.int64)
    return world.sum(words).tobytes()[:length]


def together(world: World, work: Callable[[], Result]) -> Result:
    """Let every process do some work; go on where all could, else end all with one error.

    Raises:
        TerrazzoError: that `work` raised in the first process where it did; in all of them.
    """
    if world.size == 1:
        return work()
    failure: TerrazzoError | None = None
    try:
        result = work()
    except TerrazzoError as error:
        failure = error
    failed = np.zeros(world.size, np.int64)
    failed[world.rank] = failure is not None
    failed = world.sum(failed)
    if not failed.any():
        return result
    first = int(failed.argmax())
    mine = b"" if failure is None else json.dumps(failure.as_json()).encode()
    told = bytes_from(world, first, mine)
    if failure is None or world.rank != first:
        failure = TerrazzoError.from_json(json.loads(told))
        failure.told_elsewhere = True
    failure.shared = True
    raise failure


def first_does(world: World, work: Callable[[], object]) -> None:
    """Let rank 0 do some work; return on all ranks once it is done.

    Raises:
        TerrazzoError: that `work` raised on rank 0; on all ranks.
    """
    together(world, work if world.rank == 0 else lambda: None)


def json_from_first(world: World, make: Callable[[], Result]) -> Result:
    """Let rank 0 make a value that JSON can hold and give it to all.

    Raises:
        TerrazzoError: that `make` raised on rank 0; on all ranks.
    """
    if world.size == 1:
        return make()
    made: list[Result] = []
    first_does(world, lambda: made.append(make()))
    value: Result = json.loads(bytes_from(world, 0, json.dumps(made[:1]).encode()))[0]
    return value


@contextmanager
def leaving_word(world: World) -> Iterator[None]:
    """Tell the others the reason where this process alone fails; they would wait or guess."""
    try:
        yield
    except TerrazzoError as error:
        if not error.shared:
            world.leave(f"{error.code}: {error.problem}")
        raise
    except BaseException as error:
        world.leave(f"{type(error).__name__}: {error}")
        raise


def usable_processors() -> int:
    """Return how many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def speaks() -> bool:
    """Tell whether this process is the one of a launcher's that prints; always true without one."""
    return os.environ.get("RANK", "0") == "0"


def restarts() -> int:
    """Return how often ``torchrun --max-restarts`` has started these processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def launcher_has_gone() -> Callable[[], bool]:
    """Return a question that is answered yes once the launcher of this process has died.

    ``torchrun`` that is killed, or gets a signal it does not handle (SLURM's warning SIGUSR1),
    leaves its processes training with nobody to end them. Always no where none started this one.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return lambda: False
    launcher = os.getppid()
    return lambda: os.getppid() != launcher
