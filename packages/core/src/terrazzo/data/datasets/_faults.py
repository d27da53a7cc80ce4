"""Whether a fault in a list of files stops at once or is noted for a report.

Formats call `refuse` for faults that leave something to go on with. `terrazzo check` wants all
faults of a data set, so it opens the splits inside `noting`; everyone else gets the first one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from terrazzo.base.errors import DataError

_noted: ContextVar[list[DataError] | None] = ContextVar("noted", default=None)


@contextmanager
def noting() -> Iterator[list[DataError]]:
    """Collect what `refuse` is given instead of raising it."""
    faults: list[DataError] = []
    token = _noted.set(faults)
    try:
        yield faults
    finally:
        _noted.reset(token)


def is_noting() -> bool:
    """Tell whether faults are collected at present."""
    return _noted.get() is not None


def refuse(error: DataError) -> None:
    """Raise `error`, or note it where the caller of the format wants to go on.

    Raises:
        DataError: `error`, outside of `noting`.
    """
    faults = _noted.get()
    if faults is None:
        raise error
    faults.append(error)
