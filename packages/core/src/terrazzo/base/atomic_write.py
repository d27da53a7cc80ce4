"""Files and folders that are complete under their own name or not there.

The one place that flushes to the disk, renames into place, and knows what killed processes leave.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from pathlib import Path

from terrazzo.base.disk_errors import writing

_LONGEST_TEMPORARY = 240  # SQLite writes ``<name>-journal`` beside its file
_TOKEN = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})(?P<process>[0-9a-f]{8})[0-9a-f]{16}(\..+)?")
"""Names of temporary files: who writes them can be told, so that those of killed ones can go."""
_SECONDS_IN_USE = 86_400
"""A temporary file of a process that cannot be asked is left alone until it is a day old."""
_in_use: set[str] = set()
_swept: set[Path] = set()


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where there are none.

    Raises:
        ResourceError: SEG-R004, as `writing`.
    """
    with writing(path, problem="cannot make the folder"):
        path.mkdir(parents=True, exist_ok=True)


def refuse_folder(path: Path) -> None:
    """Refuse a folder in the place of a file, and a name no disk takes, before the work for it.

    Raises:
        ResourceError: SEG-R004, as `writing`.
    """
    with writing(path):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):  # told when the folder is made
            return
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def delete_folder(path: Path) -> None:
    """Delete a folder and all in it, or nothing where there is none.

    Raises:
        ResourceError: SEG-R004, as `writing`.
    """
    with writing(path, problem="cannot delete the folder"), suppress(FileNotFoundError):
        shutil.rmtree(path)


def short_name(name: str, room: int) -> str:
    """Return a name of at most `room` bytes in UTF-8, different for different names.

    A name that is too long is cut, one that is no UTF-8 loses what is none; both end in a sum of
    the whole.
    """
    encoded = os.fsencode(name)
    if len(encoded) <= room and encoded.decode(errors="ignore") == name:
        return name
    sum_of_all = hashlib.sha256(encoded).hexdigest()[:8]
    kept = encoded[: room - len(sum_of_all) - 1]
    return f"{kept.decode(errors='ignore')}-{sum_of_all}"


@contextmanager
def replacing(path: Path, *, needed_bytes: int | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it when the block ends well.

    Readers see the old file or the new one, never half of one. The suffix is kept, since writers
    choose their format by it.

    Args:
        path: the file.
        needed_bytes: its size, where that is known.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; `path` is untouched.
    """
    temporary = _temporary_beside(path)
    _in_use.add(temporary.name)
    try:
        sweep_temporaries(path.parent)
        with writing(path, needed_bytes=needed_bytes, unfinished=temporary):
            yield temporary
            temporary.replace(path)
    except BaseException:
        _delete_beginning_with(temporary)
        raise
    finally:
        _in_use.discard(temporary.name)


def sweep_temporaries(folder: Path) -> None:
    """Delete what processes that were killed have left half-written; once a process and folder."""
    place = folder.absolute()
    if place in _swept or not folder.is_dir():
        return
    _swept.add(place)
    for path in folder.glob(".*"):
        if (found := _TOKEN.fullmatch(path.name)) is not None and path.is_file():
            with suppress(OSError):
                if _is_left(path, found["machine"], int(found["process"], 16)):
                    path.unlink()


def _is_left(path: Path, machine: str, process: int) -> bool:
    """Tell whether no process writes a temporary file any more."""
    if machine != _machine() or os.name == "nt":
        return time.time() - path.stat().st_mtime > _SECONDS_IN_USE
    if process == os.getpid():
        return path.name not in _in_use
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _token() -> str:
    """Return 32 hexadecimal digits: of this machine, of this process, and by chance."""
    return f"{_machine()}{os.getpid():08x}{uuid.uuid4().hex[:16]}"


@cache
def _machine() -> str:
    """Tell machines apart, and containers on one machine, whose process numbers are their own."""
    try:
        numbers = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:8]


def move_into_place(temporary: Path, final: Path) -> None:
    """Rename a file, also to another disk; `final` is the old file or the new one, never half.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; `final` is untouched.
    """
    with writing(final):
        try:
            temporary.rename(final)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with replacing(final, needed_bytes=temporary.stat().st_size) as beside:
                shutil.copyfile(temporary, beside)
                flush_file(beside)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; it takes the place of `path` as a whole.

    Readers see the old files or the new ones, never some of each; for a moment, none. What a
    killed process has left beside `path` is deleted.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; `path` is untouched.
    """
    for leftover in path.parent.glob(f".{escape(path.name)}.*"):
        if _TOKEN.fullmatch(leftover.name) is not None:  # a folder of the user's is not ours
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.{_token()}")
    former = path.with_name(f".{path.name}.{_token()}")
    try:
        with writing(path, problem="cannot write the folder", unfinished=temporary):
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                if not path.is_dir():  # moving it away would lose it
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
                path.replace(former)
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def _temporary_beside(path: Path) -> Path:
    """Return a new name with the suffix of `path`, no longer than a disk takes, and in UTF-8.

    GDAL takes no other names.
    """
    token = _token()
    room = _LONGEST_TEMPORARY - len(token) - 2
    stem, suffix = (os.fsencode(part).decode(errors="ignore") for part in (path.stem, path.suffix))
    suffix = suffix if len(os.fsencode(suffix)) < room else ""
    stem = short_name(stem, room - len(os.fsencode(suffix)))
    return path.with_name(f".{stem}.{token}{suffix}")


def _delete_beginning_with(temporary: Path) -> None:
    """Delete a temporary file, and what a library has left beside it under a longer name."""
    with suppress(OSError):
        for path in temporary.parent.iterdir():
            if path.name.startswith(temporary.name):
                path.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file in place of an older one; complete or not at all.

    A byte of a file's name that is no UTF-8 is written as an escape.

    Raises:
        ResourceError: as `replacing`.
    """
    replace_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file in place of an older one; complete or not at all.

    Raises:
        ResourceError: as `replacing`.
    """
    with replacing(path, needed_bytes=len(content)) as temporary:
        temporary.write_bytes(content)


def cut_file(path: Path, length: int) -> None:
    """Cut a file back to a length; make it if missing. One that is shorter stays as it is.

    Raises:
        ResourceError: SEG-R004, as `writing`.
    """
    with writing(path), path.open("ab") as file:
        file.truncate(min(length, file.tell()))


def flushed_bytes(path: Path) -> bytes:
    """Return the bytes of a file once they are on the disk; make it if missing.

    Raises:
        ResourceError: SEG-R004, as `writing`.
    """
    with writing(path):
        path.touch()
        flush_file(path)
        return path.read_bytes()


def flush_file(path: Path) -> None:
    """Return when the bytes of a file are on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk; Windows cannot be asked to."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
