"""Signals that ask a run to stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType

from terrazzo.base.processes import STOP_SIGNALS, launcher_has_gone, speaks


def stop_on_signal() -> Callable[[], bool]:
    """Return a question that is answered yes once one of `STOP_SIGNALS` has come.

    The first signal lets the step end and the state be saved; the second one ends at once, unless
    it is SIGHUP: a terminal that is closed sends it more than once. A signal that is ignored stays
    so: `nohup` does that. Under ``torchrun`` further signals change nothing: its processes get one
    from whoever sent it to all, and the same one again from ``torchrun``, which ends them itself
    after 30 seconds. There the answer is yes as well once ``torchrun`` has gone.
    """
    received: list[int] = []
    hang_up = getattr(signal, "SIGHUP", None)
    launched = "TORCHELASTIC_RUN_ID" in os.environ
    orphaned = launcher_has_gone()

    def remember(number: int, _: FrameType | None) -> None:
        received.append(number)
        stays = launched or number == hang_up
        signal.signal(number, signal.SIG_IGN if stays else signal.SIG_DFL)
        text = "stopping after this step" + ("" if launched else "; once more to stop at once")
        if speaks():
            # Not print: the handler may have come in the middle of one.
            with contextlib.suppress(OSError):
                os.write(2, f"{text}\n".encode())

    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, remember)
    return lambda: bool(received) or orphaned()
