"""The time that one request has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class TooLate(Exception):  # noqa: N818 - the answer is what a client sees as an error
    """Nobody waits for the result any more."""


class Deadline:
    """When a request must be answered; may be called off before.

    Args:
        seconds: from now.
        clock: in seconds, never running backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds
        self._called_off = threading.Event()

    @property
    def seconds_left(self) -> float:
        """Seconds until the end; 0 after it."""
        return 0.0 if self._called_off.is_set() else max(0.0, self._end - self._clock())

    def call_off(self) -> None:
        """Let whoever works for this request stop."""
        self._called_off.set()

    def require(self) -> None:
        """Stop here where nobody waits any more.

        Raises:
            TooLate: the time is over, or the request was called off.
        """
        if self.seconds_left == 0:
            raise TooLate
