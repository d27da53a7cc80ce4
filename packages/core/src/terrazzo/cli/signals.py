"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

from terrazzo.base.processes import STOP_SIGNALS


def stop_on_signal() -> Callable[[], bool]:
    """Return a question that is answered yes once one of `STOP_SIGNALS` has come.

    The first signal lets the step end and the state be saved; the second one ends at once.
    """
    received: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        print("stopping after this step; once more to stop at once", file=sys.stderr)

    for number in STOP_SIGNALS:
        signal.signal(number, remember)
    return lambda: bool(received)
