"""A run that kills itself: proof that a resume gives the same bits.

    python -m terrazzo.testing.kill step:7 run --config R --out DIR     before optimiser step 7
    python -m terrazzo.testing.kill sync:3 run …                        at the 3rd flush to disk
    python -m terrazzo.testing.kill rename:1 run …                      before the 1st rename
    python -m terrazzo.testing.kill renamed:1 run …                     after the 1st rename

SIGKILL cannot be caught, so nothing is tidied up: what is on disk then is what a power cut of the
process leaves. Flushes and renames happen within a save only, so these points lie inside saves.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from terrazzo.cli.app import main
from terrazzo.training import learning_rate
from terrazzo.training import loop as training_loop


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(point: str, number: int) -> None:
    """Replace the one call that `point` is about by one that counts and then dies."""
    calls = 0
    rate, fsync, rename = learning_rate.learning_rate, os.fsync, Path.rename

    def reached() -> bool:
        nonlocal calls
        calls += 1
        return calls == number

    def counted_rate(schedule, *, step, **others):  # type: ignore[no-untyped-def]
        if step + 1 == number:
            _die()
        return rate(schedule, step=step, **others)

    def counted_fsync(descriptor: int) -> None:
        if reached():
            _die()
        fsync(descriptor)

    def counted_rename(self: Path, target: Path) -> Path:
        last = reached()
        if last and point == "rename":
            _die()
        renamed = rename(self, target)
        if last:
            _die()
        return renamed

    match point:
        case "step":
            training_loop.learning_rate = counted_rate  # type: ignore[attr-defined]
        case "sync":
            os.fsync = counted_fsync  # type: ignore[assignment]
        case "rename" | "renamed":
            Path.rename = counted_rename  # type: ignore[method-assign,assignment]
        case _:
            raise AssertionError(point)


if __name__ == "__main__":
    point, _, number = sys.argv.pop(1).partition(":")
    _arm(point, int(number))
    main()
