"""A function over items by threads: results in the items' order, a bounded number ahead.

The standard library's pool, not grain: as fast on photographs, faster on small images (measured by
``benchmarks/loader.py --read-ahead grain threads``; docs/results.md), and no package to install.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

THREAD_NAME = "terrazzo-ahead"
"""Begins the name of each thread."""


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for every item, in the order of the items.

    No thread starts before the first result is asked for. An error of `function` is raised, as it
    is, in place of its result, and no result follows. Close the generator to stop early: calls that
    wait are cancelled, those that run are waited for, and no thread is left.

    Args:
        function: called from several threads at once.
        items: taken one by one in the thread that asks for results; may be endless.
        threads: at least 1.
        ahead: how many results, finished or not, are held while the caller works on another; at
            least 1.

    Raises:
        Exception: whatever `function` or `items` raises.
    """
    remaining = iter(items)
    waiting: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix=THREAD_NAME)
    try:
        waiting.extend(executor.submit(function, item) for item in islice(remaining, ahead))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(executor.submit(function, item) for item in islice(remaining, 1))
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
