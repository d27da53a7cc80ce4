"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from terrazzo.base.processes import STOP_SIGNALS, launcher_has_gone, speaks


def stop_on_signal() -> Callable[[], bool]:
    """Return a question that is answered yes once one of `STOP_SIGNALS` has come.

    The first signal lets the step end and the state be saved; the second one ends at once. Under
    ``torchrun`` further ones change nothing: its processes get a signal from whoever sent it to
    all, and the same one again from ``torchrun``, which ends them itself after 30 seconds. There
    the answer is yes as well once ``torchrun`` has gone.
    """
    received: list[int] = []
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    orphaned = launcher_has_gone()

    def remember(number: int, _: FrameType | None) -> None:
        if not received:
            text = "stopping after this step" + ("" if launched else "; once more to stop at once")
            if speaks():
                print(text, file=sys.stderr)
        received.append(number)
        if not launched:
            signal.signal(number, signal.SIG_DFL)

    for number in STOP_SIGNALS:
        signal.signal(number, remember)
    return lambda: bool(received) or orphaned()
