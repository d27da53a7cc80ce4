"""Commands of Terrazzo in forked processes, to be killed: nothing is imported a second time.

A framework takes seconds to import, a fork none. The process that forks must have no threads and
must have run nothing of a framework: it imports only, what `run_and_import` found to be needed.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from terrazzo.cli.app import main
from terrazzo.testing import kill

_POLL_SECONDS = 0.0005


_NEW_PROCESS = """
import atexit, pathlib, sys
place = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: place.write_text("\\n".join(name for name in list(sys.modules))))
from terrazzo.cli.app import main
main()
"""


def run_and_import(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``terrazzo WORDS`` in a new process, then import here all that it has imported there.

    Args:
        words: the command and its arguments.
        folder: where it is run.
    """
    with tempfile.TemporaryDirectory() as place:
        names = Path(place) / "modules.txt"
        command = [sys.executable, "-c", _NEW_PROCESS, str(names), *words]
        answer = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, text=True, check=False
        )
        for name in names.read_text(encoding="utf-8").splitlines():
            with suppress(Exception):  # some are made, not imported
                importlib.import_module(name)
    gc.freeze()  # or each forked process would copy what its own collections touch
    return answer


def start(
    words: Sequence[str],
    output: Path,
    *,
    point: str | None = None,
    folder: Path = Path(),
    calls: Path | None = None,
) -> int:
    """Start ``terrazzo WORDS`` in a forked process, the leader of a group of its own.

    Args:
        words: the command and its arguments.
        output: file to which all that it prints is appended.
        point: where it kills itself, ``sync:3`` or so; see `terrazzo.testing.kill`.
        folder: where it is run.
        calls: file to record the calls in that it could be killed at.

    Returns:
        Its process id.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _be_command(words, output, point, folder, calls)
    return process


def _be_command(
    words: Sequence[str], output: Path, point: str | None, folder: Path, calls: Path | None
) -> NoReturn:
    code = 1
    try:
        atexit._clear()  # what the process that forked wants done at its own end
        os.setsid()
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
        os.chdir(folder)
        sys.argv = ["terrazzo", *words]
        if calls is not None:
            kill.record(calls)
        if point is not None:
            name, _, number = point.partition(":")
            kill.arm(name, int(number))
        main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # never back into the code that forked


def wait(
    process: int,
    *,
    begun: Callable[[], bool] = lambda: True,
    seconds: float | None = None,
) -> int:
    """Wait for a process to end; with `seconds`, kill it that long after it has `begun`.

    Returns:
        Its exit status; −9 where it died of SIGKILL.
    """
    since: float | None = None
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        now = time.perf_counter()
        if seconds is not None:
            if since is None and begun():
                since = now
            if since is not None and now - since >= seconds:
                os.kill(process, signal.SIGKILL)
                return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        time.sleep(_POLL_SECONDS)


def group_ended(process: int, seconds: float = 30.0) -> bool:
    """Wait until a process has left no child behind; tell whether that came true in time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        try:
            os.killpg(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    return False
