"""What happens in the middle of a training: in this process, at a step that is known."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from terrazzo.models import backends
from terrazzo.runs import checkpoint
from terrazzo.testing.faults.table import Outcome
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


@contextlib.contextmanager
def during_save(
    step: int, around: Callable[[], contextlib.AbstractContextManager[object]]
) -> Iterator[None]:
    """Let the checkpoint of a step be written within a context, such as a limit on files."""
    write = checkpoint.write

    def within(folder: Path, number: int, *arguments: Any) -> Any:
        if number != step:
            return write(folder, number, *arguments)
        with around():
            return write(folder, number, *arguments)

    checkpoint.write = within  # type: ignore[assignment]
    try:
        yield
    finally:
        checkpoint.write = write


@contextlib.contextmanager
def trainers_changed(change: Callable[[Any], None]) -> Iterator[None]:
    """Let each trainer that is built in this process be changed before it is used."""
    load = backends.load

    def load_changed(name: str) -> Any:
        backend = load(name)

        class Changed:
            def __getattr__(self, attribute: str) -> Any:
                return getattr(backend, attribute)

            def build(self, *arguments: Any, **named: Any) -> Any:
                trainer = backend.build(*arguments, **named)
                change(trainer)
                return trainer

        return Changed()

    backends.load = load_changed
    try:
        yield
    finally:
        backends.load = load


PAUSED = """
import signal, sys
# A shell that starts the tests in the background has SIGINT ignored, and all below them too.
signal.signal(signal.SIGINT, signal.default_int_handler)
from terrazzo.cli.app import main
from terrazzo.training import loop
at, rate = int(sys.argv.pop(1)), loop.learning_rate
def waiting(schedule, *, step, **others):
    if step + 1 == at:
        print("ready", flush=True)
        sys.stdin.readline()
    return rate(schedule, step=step, **others)
loop.learning_rate = waiting
main()
"""


@contextlib.contextmanager
def paused(step: int, *words: object, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a command in another process; it stands before an optimiser step.

    It goes on when a line is written to its standard input, and is killed at the end.
    """
    command = [sys.executable, "-c", PAUSED, str(step), *map(str, words)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: S603
        command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], *, goes_on: bool = False) -> Outcome:
    """Wait for a process to end; let it go on before."""
    begun = time.perf_counter()
    out, err = process.communicate("\n" if goes_on else None, timeout=120)
    return Outcome(process.returncode, out, err, time.perf_counter() - begun)


@contextlib.contextmanager
def nobody_may_open(paths: Sequence[Path]) -> Iterator[None]:
    """Let files hang for other processes, as on a dead network share; Linux only.

    This process holds leases on them (fcntl(2), F_SETLEASE), and the system lets nobody open them
    until the leases are given back.
    """
    import fcntl

    descriptors = []
    try:
        for path in paths:
            descriptor = os.open(path, os.O_RDWR)
            descriptors.append(descriptor)
            # Whoever is kept waiting is told to us by a signal that we do not heed.
            fcntl.fcntl(descriptor, 10, signal.SIGURG)  # F_SETSIG
            _take_lease(descriptor)
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _take_lease(descriptor: int) -> None:
    """Take the lease of a file that another process may be reading at this moment."""
    import fcntl

    end = time.monotonic() + 10
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return
