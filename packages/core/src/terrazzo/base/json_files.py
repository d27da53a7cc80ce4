"""JSON files and files of JSON lines, written as a whole, read with what is wrong in them named."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from terrazzo.base.atomic_write import flush_file, replacing
from terrazzo.base.disk_errors import unreadable, writing
from terrazzo.base.errors import CheckpointError

_appending = threading.Lock()


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file in place of an older one and flush it; complete or not at all.

    Raises:
        ResourceError: as `replacing`.
    """
    content = json.dumps(value, indent=1) + "\n"
    with replacing(path, needed_bytes=len(content)) as temporary:
        temporary.write_text(content, encoding="utf-8")
        flush_file(temporary)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON and flush it to the disk, where the caller has a context of `writing`.

    Raises:
        OSError: the disk is full or refuses.
    """
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
    value = json_value(content)
    if not isinstance(value, dict):
        msg = f"a {type(value).__name__} where an object with keys is expected"
        raise ValueError(msg)  # noqa: TRY004 - the content is wrong, not an argument
    return value


def json_value(content: bytes) -> Any:
    """Return what a JSON file holds; it may begin with a byte order mark.

    Raises:
        ValueError: it is no JSON (a `json.JSONDecodeError` with line and column), or has a key
            twice, of which one would be lost.
    """
    try:
        return json.loads(content, object_pairs_hook=_each_key_once)
    except RecursionError:
        msg = "lists or objects are nested too deeply"
        raise ValueError(msg) from None


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"the key {twice!r} stands there {names.count(twice)} times"
        raise ValueError(msg)
    return value


def append_json_line(path: Path, line: Mapping[str, Any], *, flush: bool = False) -> None:
    """Append a line of JSON as a whole; with `flush` it is on the disk when this returns.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; the file is as before.
    """
    content = (json.dumps(line) + "\n").encode()
    with (
        _appending,  # or what a thread takes back could be another's
        writing(
            path,
            problem="cannot add a line to the file",
            needed_bytes=len(content),
            then="then go on with --resume; earlier lines and files are whole",
        ),
        path.open("ab", buffering=0) as file,
    ):
        before = file.seek(0, os.SEEK_END)
        try:
            _write_all(file.fileno(), content)
            if flush:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.ftruncate(file.fileno(), before)
            raise


def _write_all(descriptor: int, content: bytes) -> None:
    """Write every byte: a disk that is nearly full takes some, and refuses the next."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def cut_unfinished_line(path: Path) -> None:
    """Take away what a killed process has left behind the last whole line of a file.

    Raises:
        ResourceError: SEG-R004, as `writing`.
    """
    with writing(path), suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


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
