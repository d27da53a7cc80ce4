"""A run that kills itself: proof that a resume gives the same bits.

    python -m terrazzo.testing.kill step:7 run --config R --out DIR     before optimiser step 7
    python -m terrazzo.testing.kill sync:3 run …                        at the 3rd flush to disk
    python -m terrazzo.testing.kill rename:1 run …                      before the 1st rename
    python -m terrazzo.testing.kill renamed:1 run …                     after the 1st rename
    python -m terrazzo.testing.kill replace:2 run …                     before the 2nd replacement
    python -m terrazzo.testing.kill replaced:2 run …                    after the 2nd replacement
    python -m terrazzo.testing.kill delete:4 run …                      before the 4th deletion

Checkpoints and models are renamed into place; single files replace their former selves; files and
emptied folders are deleted one by one. SIGKILL cannot be caught, so nothing is tidied up: what is
on disk then is what a kill of the process leaves. Flushes, renames, replacements and deletions
happen within a save only, so these points lie inside saves.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from terrazzo.cli.app import main
from terrazzo.training import learning_rate
from terrazzo.training import loop as training_loop


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


CALLS = {
    "sync": ("fsync",),
    "rename": ("rename",),
    "replace": ("replace",),
    "delete": ("unlink", "remove", "rmdir"),
}
"""The functions of `os` that each kind of point is about; pathlib and shutil call them too."""


def record(path: Path) -> None:
    """From now on, append the kind of each call of `CALLS` to a file, a line each."""

    def recording(kind: str, call: Any) -> Any:
        def recorded(*arguments: Any, **named: Any) -> Any:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{kind}\n")
            return call(*arguments, **named)

        return recorded

    for kind in CALLS:
        _wrap(kind, partial(recording, kind))


def _wrap(kind: str, wrapper: Callable[[Any], Any]) -> None:
    for name in CALLS[kind]:
        setattr(os, name, wrapper(getattr(os, name)))


def arm(point: str, number: int) -> None:
    """Replace the calls that `point` is about by ones that count and then kill this process.

    Args:
        point: step, sync, rename, renamed, replace, replaced or delete.
        number: which of these calls to die at; the first is 1. 0 never comes.
    """
    calls = 0

    def dying(call: Any, *, after: bool = False) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            last = calls == number
            if last and not after:
                _die()
            answer = call(*arguments, **named)
            if last:
                _die()
            return answer

        return counted

    match point:
        case "step":
            rate = learning_rate.learning_rate

            def counted_rate(schedule: Any, *, step: int, **others: Any) -> float:
                if step + 1 == number:
                    _die()
                return rate(schedule, step=step, **others)

            training_loop.learning_rate = counted_rate  # type: ignore[attr-defined]
        case "sync" | "rename" | "replace" | "delete":
            _wrap(point, dying)
        case "renamed" | "replaced":
            _wrap(point.removesuffix("d"), lambda call: dying(call, after=True))
        case _:
            raise AssertionError(point)


if __name__ == "__main__":
    point, _, number = sys.argv.pop(1).partition(":")
    arm(point, int(number))
    main()
