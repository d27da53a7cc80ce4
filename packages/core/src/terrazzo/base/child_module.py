"""A module of ours run in a process of its own, which tells in one line what went wrong there."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from terrazzo.base.errors import TerrazzoError


class ChildModuleError(Exception):
    """What went wrong: a line for the user."""


def run_module(name: str, arguments: Sequence[str | Path], *, longest: float) -> None:
    """Run ``python -m name`` and wait for it. What it prints is not shown.

    Args:
        name: of a module whose program is an `answer`.
        arguments: of its command line.
        longest: seconds.

    Raises:
        ChildModuleError: it failed, was killed or took longer.
    """
    command = [sys.executable, "-W", "ignore", "-m", name, *map(str, arguments)]
    with tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.run(  # noqa: S603 - our own module
                command, stdout=subprocess.PIPE, stderr=errors, timeout=longest, check=False
            )
        except subprocess.TimeoutExpired as error:
            msg = f"it took longer than {longest:.0f} s"
            raise ChildModuleError(msg) from error
        if child.returncode == 0:
            return
        errors.seek(0)
        traceback = errors.read().decode(errors="replace").strip().splitlines()
    said = child.stdout.decode(errors="replace").strip().splitlines() or traceback
    raise ChildModuleError(said[-1] if said else f"the process ended with code {child.returncode}")


def answer(work: Callable[[], None]) -> int:
    """Do the work of such a module; return its exit status, after a line of what went wrong."""
    try:
        work()
    except (TerrazzoError, ChildModuleError) as error:
        said = str(error).partition("\n")[0]
    except Exception as error:  # frameworks, converters and runtimes have errors of every kind
        first = str(error).strip().partition("\n")[0]
        said = f"{type(error).__name__}: {first}"
    else:
        return 0
    sys.stdout.write(said + "\n")
    return 1
