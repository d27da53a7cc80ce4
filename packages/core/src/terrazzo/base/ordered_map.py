"""A function over items by threads: results in the items' order, a bounded number ahead.

Threads, not grain: as fast on photographs, faster on small images (measured by
``benchmarks/loader.py --read-ahead grain threads``; docs/results.md), and no package to install.
The threads are our own and not those of `concurrent.futures`, which a process waits for at its end:
one that reads from a dead network share would keep it for ever.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from itertools import islice
from typing import Any, Generic, TypeVar

from terrazzo.base.errors import ResourceError
from terrazzo.base.reading import Sign, forget, last_sign, now_reading

Item = TypeVar("Item")
Result = TypeVar("Result")

THREAD_NAME = "terrazzo-ahead"
"""Begins the name of each thread."""

_POLL = 0.2  # seconds between two looks at a result that is late
_PATIENCE = 5.0  # seconds since its last sign of life that a thread is waited for at the end


class Abandoned(Exception):  # noqa: N818 - whoever asked for it knows what to do
    """Nobody wants the result any more that was waited for."""


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    timeout: float | None = None,
    abandoned: Callable[[], bool] = lambda: False,
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for every item, in the order of the items.

    No thread starts before the first result is asked for. An error of `function` is raised, as it
    is, in place of its result, and no result follows. Close the generator to stop early: calls that
    wait are cancelled, those that run are waited for, and no thread is left but those that hang.

    Args:
        function: called from several threads at once; tells `terrazzo.base.reading` what it reads.
        items: taken one by one in the thread that asks for results; may be endless.
        threads: at least 1.
        ahead: how many results, finished or not, are held while the caller works on another; at
            least 1.
        timeout: seconds that a thread may spend on one file, as `loader.timeout`; None: any.
        abandoned: asked now and then while a result is late; yes ends the waiting.

    Raises:
        Exception: whatever `function` or `items` raises.
        ResourceError: SEG-R002, a file takes longer than `timeout`.
        Abandoned: `abandoned` said yes.
    """
    remaining = iter(items)
    waiting: deque[_Call[Any]] = deque()
    pool = _Threads(threads)
    try:
        waiting.extend(pool.call(function, item) for item in islice(remaining, ahead))
        while waiting:
            result: Result = _result(waiting.popleft(), timeout, abandoned)
            waiting.extend(pool.call(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        pool.close(_PATIENCE if timeout is None else min(timeout, _PATIENCE))


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, timeout: float
) -> list[Result]:
    """Return ``function(item)`` for every item; see `ordered_map`.

    Raises:
        Exception, ResourceError: as `ordered_map`.
    """
    threads = max(threads, 1)
    return [*ordered_map(function, items, threads=threads, ahead=4 * threads, timeout=timeout)]


class _Call(Future[Result], Generic[Result]):
    """A call of a function, its result, and the thread that works on it."""

    def __init__(self, function: Callable[[Any], Result], item: Any) -> None:
        super().__init__()
        self.function, self.item = function, item
        self.thread: int | None = None
        self.made_at = time.monotonic()

    def work(self) -> None:
        """Call the function, unless the call was cancelled."""
        if not self.set_running_or_notify_cancel():
            return
        now_reading(None)
        self.thread = threading.get_ident()
        try:
            self.set_result(self.function(self.item))
        except BaseException as error:  # it is raised in the thread that waits
            self.set_exception(error)

    @property
    def sign(self) -> Sign:
        """The last sign of life."""
        found = None if self.thread is None else last_sign(self.thread)
        return found or Sign(None, self.made_at)


def _result(call: _Call[Result], timeout: float | None, abandoned: Callable[[], bool]) -> Result:
    since = time.monotonic()
    while not call.done():
        try:
            return call.result(_POLL)
        except TimeoutError:
            if call.done():  # it is the function's own
                break
        if abandoned():
            raise Abandoned
        sign = call.sign
        # Ready results may have waited for the caller, not the caller for them.
        elapsed = time.monotonic() - max(since, sign.at)
        if timeout is not None and elapsed > timeout:
            raise _hangs(sign, elapsed, timeout)
    return call.result()


def _hangs(sign: Sign, elapsed: float, timeout: float) -> ResourceError:
    return ResourceError(
        "SEG-R002",
        "a file is being read without an end",
        file=sign.file,
        observed=f"no answer for {elapsed:.0f} seconds",
        allowed=f"{timeout:g} seconds a file (loader.timeout)",
        next_step="see whether its disk or network share answers (`ls -l FILE`), or raise "
        "loader.timeout for a slow one; a run goes on from its last checkpoint with --resume",
    )


class _Threads:
    """Up to `most` threads that do calls in the order they are made; started when needed."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.calls: queue.SimpleQueue[_Call[Any] | None] = queue.SimpleQueue()
        self.made: list[_Call[Any]] = []
        self.threads: list[threading.Thread] = []

    def call(self, function: Callable[[Any], Result], item: Any) -> _Call[Result]:
        call = _Call(function, item)
        self.made = [earlier for earlier in self.made if not earlier.done()]
        self.made.append(call)
        self.calls.put(call)
        if len(self.threads) < self.most:
            name = f"{THREAD_NAME}-{len(self.threads)}"
            self.threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self.threads[-1].start()
        return call

    def _work(self) -> None:
        try:
            while (call := self.calls.get()) is not None:
                call.work()
                del call  # with its result
        finally:
            forget(threading.get_ident())

    def close(self, patience: float) -> None:
        """End all threads but those without a sign of life for so many seconds."""
        for call in self.made:
            call.cancel()
        for _ in self.threads:
            self.calls.put(None)
        for thread in self.threads:
            while thread.is_alive() and not _is_silent(thread, patience):
                thread.join(_POLL)


def _is_silent(thread: threading.Thread, patience: float) -> bool:
    sign = None if thread.ident is None else last_sign(thread.ident)
    return sign is not None and time.monotonic() - sign.at > patience
