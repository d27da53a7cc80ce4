"""Threads that read ahead and that take what is made, with their errors raised where one waits."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from terrazzo.base.reading import last_sign

Item = TypeVar("Item")

_END = object()
_PATIENCE = 120.0  # seconds a file may take before a word is said about it
_LONGEST_END = 5.0  # seconds that a reading thread is waited for at the end
_POLL = 0.5


def read_ahead(
    items: Iterator[Item], say: Callable[[str], None] = lambda _: None, patience: float = _PATIENCE
) -> Generator[Item, None, None]:
    """Yield `items`, made by a thread that is one item ahead. Close it to stop the thread early.

    An item is begun when the one before it has been taken, so that no more than two are there: the
    one that is in use and the next.

    Args:
        items: made in the thread, which tells `terrazzo.base.reading` what it reads.
        say: told once of each file that takes longer than `patience`.
        patience: seconds.
    """
    made: queue.Queue[Any] = queue.Queue(maxsize=1)
    stop = threading.Event()
    taken = threading.Semaphore(0)

    def make() -> None:
        try:
            for item in items:
                if not _put(made, item, stop):
                    return
                del item  # or it is held while the next is made
                while not taken.acquire(timeout=0.1):
                    if stop.is_set():
                        return
            _put(made, _END, stop)
        except BaseException as error:  # it is raised in the thread that waits
            _put(made, error, stop)

    thread = threading.Thread(target=make, name="terrazzo-read", daemon=True)
    thread.start()
    try:
        while (item := _get(made, thread, say, patience)) is not _END:
            if isinstance(item, BaseException):
                raise item
            taken.release()
            yield item
    finally:
        stop.set()
        thread.join(_LONGEST_END)  # one that hangs is left behind


def _get(
    made: queue.Queue[Any], thread: threading.Thread, say: Callable[[str], None], patience: float
) -> Any:
    """Take an item; say so where it is late for a file that does not come to an end."""
    since, told = time.monotonic(), None
    while True:
        try:
            return made.get(timeout=min(patience, _POLL))
        except queue.Empty:
            sign = None if thread.ident is None else last_sign(thread.ident)
        late = sign is not None and time.monotonic() - max(since, sign.at) > patience
        if late and sign is not None and sign != told:
            told = sign
            say(
                f"still waiting for {sign.file} after {patience:g} seconds: see whether its disk "
                "or network share answers; what is finished is kept for --resume"
            )


def _put(into: queue.Queue[Any], item: object, stop: threading.Event) -> bool:
    """Put an item unless told to stop; tell whether it was put."""
    while not stop.is_set():
        try:
            into.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False


@contextmanager
def in_background(take: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Give a function that hands an item to `take` in a thread; its error is raised here.

    All items are taken when the block ends well.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=1)
    failed = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        while (item := waiting.get()) is not _END:
            try:
                take(item)
            except BaseException as error:  # it is raised in the thread that puts
                errors.append(error)
                failed.set()
                return

    thread = threading.Thread(target=work, name="terrazzo-write", daemon=True)
    thread.start()

    def put(item: object) -> None:
        if not _put(waiting, item, failed):
            raise errors[0]

    try:
        yield put
    finally:
        _put(waiting, _END, failed)
        thread.join()
    if errors:
        raise errors[0]
