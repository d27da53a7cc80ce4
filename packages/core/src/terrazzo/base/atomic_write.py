"""Files that are complete under their own name or not there, and JSON files read back.

The one place that flushes to the disk, renames into place, and reads and writes JSON and lines of
JSON.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from terrazzo.base.errors import CheckpointError, ResourceError

_TOKEN = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})(?P<process>[0-9a-f]{8})[0-9a-f]{16}(\..+)?")
"""Names of temporary files: who writes them can be told, so that those of killed ones can go."""
_SECONDS_IN_USE = 86_400
"""A temporary file of a process that cannot be asked is left alone until it is a day old."""
_in_use: set[str] = set()
_swept: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; rename it when the block ends well.

    Readers see the old file or the new one, never half of one. The suffix is kept, since writers
    choose their format by it.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; `path` is untouched.
    """
    temporary = path.with_name(f".{path.stem}.{_token()}{path.suffix}")
    _in_use.add(temporary.name)
    try:
        sweep_temporaries(path.parent)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        raise _not_written(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
        _in_use.discard(temporary.name)


def sweep_temporaries(folder: Path) -> None:
    """Delete what processes that were killed have left half-written; once a process and folder."""
    if folder in _swept or not folder.is_dir():
        return
    _swept.add(folder)
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
    try:
        temporary.rename(final)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise _not_written(final, error) from error
        with replacing(final) as beside:
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
    for leftover in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.{_token()}")
    former = path.with_name(f".{path.name}.{_token()}")
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.replace(former)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        raise _not_written(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def replace_text(path: Path, text: str) -> None:
    """Write a text file in place of an older one; complete or not at all.

    Raises:
        ResourceError: as `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file in place of an older one and flush it; complete or not at all.

    Raises:
        ResourceError: as `replacing`.
    """
    with replacing(path) as temporary:
        write_json(temporary, value)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON and flush it to the disk."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    flush_file(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is no file.

    Raises:
        CheckpointError: SEG-C014, the file is no JSON object, or repeats a key.
        ResourceError: SEG-R030, it is there and cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return json_object(content)
    except ValueError as error:
        raise damaged_file(path, error) from None


def json_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in the content of a file.

    Raises:
        ValueError: it is no JSON, no object, or has a key twice, of which one would be lost.
    """
    try:
        value = json.loads(content, object_pairs_hook=_each_key_once)
    except RecursionError:
        msg = "lists or objects are nested too deeply"
        raise ValueError(msg) from None
    if not isinstance(value, dict):
        msg = f"a {type(value).__name__} where an object with keys is expected"
        raise ValueError(msg)  # noqa: TRY004 - the content is wrong, not an argument
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"the key {twice!r} stands there {names.count(twice)} times"
        raise ValueError(msg)
    return value


def append_json_line(path: Path, line: Mapping[str, Any], *, flush: bool = False) -> None:
    """Append a line of JSON; with `flush` it is on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        if flush:
            file.flush()
            os.fsync(file.fileno())


def read_json_lines(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each whole line of a file of JSON lines with the byte at which it ends.

    A line without its end is being written now, or was when a process was killed: reading stops
    there. Nothing is yielded where there is no file.

    Args:
        path: the file.
        start: byte to begin at; the end of a line.

    Raises:
        CheckpointError: SEG-C014, a line is no JSON object, or repeats a key.
        ResourceError: SEG-R030, the file is there and cannot be read.
    """
    for value, end in _json_lines(path, start):
        if isinstance(value, ValueError):
            number = path.read_bytes()[:end].count(b"\n")
            raise damaged_file(path, f"line {number}: {value}", next_step=_DAMAGED_LOG)
        yield value, end


def undamaged_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines that can be read, of a file that nothing depends on."""
    return [value for value, _ in _json_lines(path) if not isinstance(value, ValueError)]


def json_lines_before_damage(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield as `read_json_lines`, up to the first line that cannot be read."""
    for value, end in _json_lines(path):
        if isinstance(value, ValueError):
            return
        yield value, end


_DAMAGED_LOG = (
    "where it is the log, `terrazzo run --resume` restores it from the newest checkpoint; or move "
    "the file away to have the report without it"
)


def _json_lines(path: Path, start: int = 0) -> Iterator[tuple[dict[str, Any] | ValueError, int]]:
    """Yield each whole line, or what is wrong with it, with the byte at which it ends."""
    try:
        opened = path.open("rb")
    except FileNotFoundError:
        return
    except OSError as error:
        raise unreadable(path, error) from error
    with opened as file:
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n"):
                return
            start += len(line)
            try:
                value: dict[str, Any] | ValueError = json_object(line)
            except ValueError as error:
                value = error
            yield value, start


def cut_file(path: Path, length: int) -> None:
    """Cut a file back to a length; make it if missing. One that is shorter stays as it is."""
    with path.open("ab") as file:
        file.truncate(min(length, file.tell()))


def flushed_bytes(path: Path) -> bytes:
    """Return the bytes of a file once they are on the disk; make it if missing.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    try:
        path.touch()
        flush_file(path)
        return path.read_bytes()
    except OSError as error:
        raise _not_written(path, error) from error


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


def _not_written(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        "SEG-R004",
        "cannot write the file",
        file=path,
        observed=error.strerror or error,
        next_step="free space or choose another folder; nothing was changed",
    )


def not_allowed(path: Path, error: PermissionError) -> ResourceError:
    """Compose the error for a file or folder that the system keeps from this user."""
    return ResourceError(
        "SEG-R030",
        "this user may not use the file or folder",
        file=path,
        observed=error.strerror,
        next_step=f"see who may with: ls -ld {shlex.quote(str(path))}",
    )


def unreadable(path: Path, error: OSError) -> ResourceError:
    """Compose the error for a file that is there and cannot be read, with the system's reason."""
    return ResourceError(
        "SEG-R030",
        "the file is there and cannot be read",
        file=path,
        observed=error.strerror or error,
        allowed="a file that this user may read",
        next_step=f"see who may read it with: ls -l {shlex.quote(str(path))}",
    )


def damaged_file(
    path: Path,
    observed: object,
    allowed: str = "a JSON object in UTF-8, each key once",
    next_step: str = "move the file away to have the report without it",
) -> CheckpointError:
    """Compose the error for a file of a run folder with a content that cannot be."""
    return CheckpointError(
        "SEG-C014",
        "a file of the run folder cannot be read",
        file=path,
        observed=observed,
        allowed=allowed,
        next_step=next_step,
    )
