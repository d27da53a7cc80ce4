"""Standard output and standard error of a command, which may be closed, full or gone.

A run outlives the terminal or the pipe that it was started in; any other command ends quietly, as
others do, when nobody reads its output any more. A stream that is gone is replaced by the null
device, so that nothing fails again: neither C libraries and children, which write to the
descriptor, nor the flush at the end of Python.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast

from terrazzo.base.errors import ResourceError
from terrazzo.base.json_files import append_json_line

BROKEN_PIPE = 128 + int(getattr(signal, "SIGPIPE", 13))
"""Exit code of a command whose reader is gone: 141, as shells show for one that SIGPIPE ended."""

_OUTPUT, _ERROR = 1, 2
_NAMES = {_OUTPUT: "standard output", _ERROR: "standard error"}


class _Streams:
    """What has happened to the streams of this process, and what is to follow."""

    lost: dict[str, str] = {}  # noqa: RUF012 - one a process, as the descriptors are
    """Reason by name of each stream that is gone."""
    outlived = False
    told: Callable[[str, str], None] | None = None


def guard_streams() -> None:
    """Make standard output and error of this process such that they cannot end it by surprise.

    Called once, before anything is opened: a file that took the number of a closed stream would
    receive what is printed. Characters that the encoding lacks are written as escapes.
    """
    _fill_closed_descriptors()
    if sys.stdout is sys.__stdout__:  # else someone has put a stream of their own there
        sys.stdout = _guarded(sys.stdout, _OUTPUT)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, _ERROR)


def outlive_output() -> None:
    """Go on also when standard output is gone: the product of this command is files."""
    _Streams.outlived = True


def record_losses(file: Path) -> None:
    """Append a line to a file of JSON lines for each stream that is gone or goes from now on."""

    def record(name: str, reason: str) -> None:
        with suppress(OSError):  # a full disk is the run's to tell of
            append_json_line(file, {"terminal": f"{name} is gone: {reason}"})

    for name, reason in _Streams.lost.items():
        record(name, reason)
    _Streams.told = record


def flush_output() -> None:
    """Write what standard output still holds, while an error can still be told."""
    if sys.stdout is not None:
        sys.stdout.flush()


class _Descriptor(io.FileIO):
    """A stream that becomes the null device when it cannot be written to."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._number = number

    def write(self, data: bytes) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            _replace_by_null_device(self._number)
            _lose(self._number, error)
        return len(data)


def _lose(number: int, error: OSError) -> None:
    name, reason = _NAMES[number], error.strerror or str(error)
    _Streams.lost[name] = reason
    if _Streams.told is not None:
        _Streams.told(name, reason)
    if number == _ERROR or _Streams.outlived:
        return
    if error.errno == errno.EPIPE:
        raise SystemExit(BROKEN_PIPE)
    raise ResourceError(
        "SEG-R004",
        f"cannot write to {name}",
        observed=reason,
        next_step="send the output elsewhere",
    )


def _guarded(stream: TextIO | None, number: int) -> TextIO:
    encoding = (stream.encoding if stream is not None else None) or "utf-8"
    kept = stream.errors if stream is not None and encoding.lower().startswith("utf") else None
    # File names that are no text come back as the bytes they were, where Python is set up for it.
    errors = "surrogateescape" if kept == "surrogateescape" else "backslashreplace"
    if stream is not None:
        stream.flush()
    buffered = io.BufferedWriter(cast(io.RawIOBase, _Descriptor(number)))
    lines = number == _ERROR or buffered.isatty()
    return io.TextIOWrapper(buffered, encoding, errors, line_buffering=lines)


def _fill_closed_descriptors() -> None:
    """Open the null device in place of each standard stream that was closed."""
    for number in (0, _OUTPUT, _ERROR):
        try:
            os.fstat(number)
        except OSError as error:
            if number:
                _Streams.lost[_NAMES[number]] = error.strerror or "closed"
            _replace_by_null_device(number)


def _replace_by_null_device(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
