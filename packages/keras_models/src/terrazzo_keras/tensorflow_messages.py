"""TensorFlow's import without what it tells of every CPU and every library it did not find.

``TF_CPP_MIN_LOG_LEVEL`` silences most of it, but some lines are written before it is read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
_ERRORS_ONLY = "2"
_SECONDS_TO_END = 5.0


@contextmanager
def known_messages_hidden() -> Iterator[None]:
    """Import TensorFlow and find its devices in this block: only errors and unknown lines show.

    A user's own ``TF_CPP_MIN_LOG_LEVEL`` is kept; where it asks for more than errors, everything
    shows.
    """
    level = os.environ.setdefault(_VARIABLE, _ERRORS_ONLY)
    if level < _ERRORS_ONLY or "tensorflow" in sys.modules or os.name != "posix":
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        before = os.dup(2)
    except OSError:  # closed: nothing shows anyway
        yield
        return
    relay = _start_relay(before)
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(before, 2)  # closes our end, so that the relay ends
        os.close(before)
        if relay is not None:
            with suppress(subprocess.TimeoutExpired):  # some child of the import holds the other
                relay.wait(_SECONDS_TO_END)


def _start_relay(stderr: int) -> subprocess.Popen[bytes] | None:
    """Put a filter between descriptor 2 and `stderr`; None, and no filter, where none can start."""
    try:
        process = subprocess.Popen(  # noqa: S603 - our own file
            # Isolated, without site packages: quick, and the same in every environment.
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("relay_messages.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is for us
        )
    except OSError:
        return None
    assert process.stdin is not None
    os.dup2(process.stdin.fileno(), 2)
    process.stdin.close()
    return process
