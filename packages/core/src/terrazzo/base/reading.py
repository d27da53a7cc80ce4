"""Which file each thread is reading, for the message where one never comes to an end."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Sign:
    """The last sign of life of a thread that reads.

    Attributes:
        file: that it began to read then; None: it had only begun its work.
        at: by `time.monotonic`.
    """

    file: str | Path | None
    at: float


_signs: dict[int, Sign] = {}


def now_reading(file: str | Path | None) -> None:
    """Note that this thread begins to read a file, or with None a piece of work."""
    _signs[threading.get_ident()] = Sign(file, time.monotonic())


def last_sign(thread: int) -> Sign | None:
    """Return the last sign of life of a thread, by its identifier."""
    return _signs.get(thread)


def forget(thread: int) -> None:
    """Drop what is known of a thread that has ended."""
    _signs.pop(thread, None)
