"""A lock that keeps other processes from writing into a folder; it dies with its process."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from terrazzo.base.disk_errors import not_written
from terrazzo.base.errors import ResourceError

LOCK = ".lock"
"""Name of the file in the folder that is locked."""


def not_writable(path: Path, error: OSError) -> ResourceError:
    """Compose the error for a run folder, or something in it, that cannot be written."""
    return not_written(
        path,
        error,
        problem="cannot write the run folder",
        then="--out DIR takes another place for a new run; a copy of an old one works elsewhere",
        code="SEG-R005",
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into `folder`, which exists.

    Raises:
        ResourceError: SEG-C009, another process holds the lock; SEG-R005, the folder cannot be
            written.
    """
    path = folder / LOCK
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise not_writable(folder, error) from error
    with file:
        try:
            _take(file)
            if not _is_at(file, path):  # its last holder has deleted it since it was opened
                raise BlockingIOError
        except OSError as error:
            file.seek(0)
            raise ResourceError(
                "SEG-C009",
                "another process works on this run",
                file=folder,
                observed=file.read().strip() or "(unknown process)",
                next_step="wait for it, or stop it",
            ) from error
        _sign(file.fileno())
        yield


def _is_at(file: IO[str], path: Path) -> bool:
    """Tell whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _sign(descriptor: int) -> None:
    """Write who holds the lock, for people: on a full disk it holds without."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())


def _take(file: IO[str]) -> None:
    """Lock an open file without waiting; OSError where another process has it."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        import msvcrt

        # A byte far behind the text, which stays readable for whoever wants to know the holder.
        file.seek(1 << 30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
