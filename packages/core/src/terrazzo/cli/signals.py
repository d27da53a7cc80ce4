"""Signals that ask a run to stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType

from terrazzo.base.processes import STOP_SIGNALS


def stop_on_signal() -> Callable[[], bool]:
    """Return a question that is answered yes once one of `STOP_SIGNALS` has come.

    The first signal lets the step end and the state be saved; the second one ends at once, unless
    it is SIGHUP: a terminal that is closed sends it more than once. A signal that is ignored stays
    so: `nohup` does that.
    """
    received: list[int] = []
    hang_up = getattr(signal, "SIGHUP", None)

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_IGN if number == hang_up else signal.SIG_DFL)
        # Not print: the handler may have come in the middle of one.
        with contextlib.suppress(OSError):
            os.write(2, b"stopping after this step; once more to stop at once\n")

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, remember)
    return lambda: bool(received)
