"""A command of ours in a process of its own, which ends with the process that started it."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from typing import IO

from terrazzo.base.errors import ResourceError, Stopped, TerrazzoError

_STOPPED = 75
_PR_SET_PDEATHSIG = 1


def start(
    words: list[str], *, folder: str | None = None, stderr: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start ``terrazzo`` with `words`.

    Args:
        words: of the command.
        folder: to work in; None: this process's.
        stderr: where its messages go; None: where this process's do.
    """
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "terrazzo", *words],
        stdout=subprocess.DEVNULL,  # its table is in its report; the study prints the ranking
        stderr=stderr,
        cwd=folder,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
    )


def require_success(
    code: int, name: str, *, stopped: bool = False, said: str | None = None
) -> None:
    """Turn what the process of a run ended with into the error that it means.

    Args:
        code: of the process; negative where a signal ended it.
        name: of the run.
        stopped: whether it was asked to stop.
        said: its last messages; None: they are on the terminal.

    Raises:
        Stopped: SEG-R013, it was asked to stop.
        ResourceError: SEG-R050, something killed it.
        TerrazzoError: SEG-R051, it failed; with its exit code.
    """
    if code == _STOPPED or stopped:
        raise Stopped(
            "SEG-R013",
            "the study was stopped by a signal; everything is saved",
            file=name,
            next_step="the same command with --resume goes on from here",
        )
    if code < 0:
        raise ResourceError(
            "SEG-R050",
            f"the process of the run {name!r} was killed",
            observed=signal.Signals(-code).name,
            next_step="SIGKILL most often means too little memory: make the batch smaller, or give "
            "it more; then go on with --resume",
        )
    if code != 0:
        failed = TerrazzoError(
            "SEG-R051",
            f"the run {name!r} failed; what it says is above"
            if said is None
            else f"the run {name!r} failed",
            observed=f"exit code {code}" + ("" if said is None else f"\n{said}"),
            next_step="put it right, then go on with --resume: what is done is not done again",
        )
        failed.exit_code = code
        raise failed


def _end_with_parent() -> None:
    """Have the kernel of Linux, which alone knows how, kill this process when the study is killed.

    An orphan would go on training and hold the lock of its run; a resume would then be refused.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
