"""Files that are complete under their own name or not there, and JSON files read back.

The one place that flushes to the disk, renames into place, reads and writes JSON and lines of JSON,
and says what to do where a disk refuses.
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
import stat
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from terrazzo.base.errors import CheckpointError, ResourceError, TerrazzoError

LONGEST_NAME = 255
"""Bytes of a file's name on nearly every file system."""

AGAIN = "then run the same command again (a run goes on with --resume)"
"""What to do once the reason is gone."""

_LONGEST_TEMPORARY = 240  # SQLite writes ``<name>-journal`` beside its file

_NO_SPACE = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}

_NEXT_STEPS = {
    errno.ENOSPC: "free some space or choose another disk",
    getattr(errno, "EDQUOT", errno.ENOSPC): "free some of your quota or choose another disk",
    errno.EFBIG: "raise the limit on the size of a file (`ulimit -f`) or choose another disk",
    errno.ENOENT: "make the folder first",
    errno.EACCES: "get the right to write there, or choose another folder",
    errno.EPERM: "get the right to write there, or choose another folder",
    errno.EROFS: "choose another folder: this disk can only be read",
    errno.ENOTDIR: "a file is where a folder is needed: move it away, or choose another place",
    errno.EEXIST: "a file is where a folder is needed: move it away, or choose another place",
    errno.EISDIR: "a folder is where the file should be: move it away, or choose another place",
    errno.ENAMETOOLONG: f"choose a shorter name: most disks take {LONGEST_NAME} bytes",
}

_appending = threading.Lock()

_TOKEN = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})(?P<process>[0-9a-f]{8})[0-9a-f]{16}(\..+)?")
"""Names of temporary files: who writes them can be told, so that those of killed ones can go."""
_SECONDS_IN_USE = 86_400
"""A temporary file of a process that cannot be asked is left alone until it is a day old."""
_in_use: set[str] = set()
_swept: set[Path] = set()


@contextmanager
def writing(
    path: Path,
    *,
    problem: str = "cannot write the file",
    needed_bytes: int | None = None,
    unfinished: Path | None = None,
    then: str = AGAIN,
) -> Iterator[None]:
    """Turn what a disk refuses to do in the block into an error about `path`.

    Args:
        path: what is being written.
        problem: one line, what is wrong.
        needed_bytes: room that it takes, where that is known.
        unfinished: where it is being written; its size tells the least that is needed.
        then: what to do once the reason is gone.

    Raises:
        ResourceError: SEG-R004, with the reason, needed and free space where that is the reason,
            and what to do.
    """
    try:
        yield
    except ResourceError as error:
        raise _about(path, unfinished, error) from error.__cause__
    except Exception as error:
        refusal = _of_the_disk(error)
        if refusal is None:
            raise
        if needed_bytes is not None:
            needed: str | None = _amount(needed_bytes)
        else:
            written = 0 if unfinished is None else _size(unfinished)
            needed = f"more than {_amount(written)}" if written else None
        raise not_written(path, refusal, problem=problem, needed=needed, then=then) from error


def not_written(
    path: Path,
    error: Exception,
    *,
    problem: str = "cannot write the file",
    needed: str | None = None,
    then: str = AGAIN,
    code: str = "SEG-R004",
) -> ResourceError:
    """Compose the error for a file that a disk does not take; see `writing`.

    An `error` without a number, as those of GDAL are, may well be for want of space, so that the
    free space is shown too.
    """
    number = error.errno if isinstance(error, OSError) else None
    observed = (error.strerror if isinstance(error, OSError) else None) or str(error)
    allowed = None
    if number in _NO_SPACE or number is None:
        free = free_bytes(path)
        observed += "" if free is None else f"; {_amount(free)} free on this disk"
        allowed = None if needed is None else f"{needed} of space"
    first = _NEXT_STEPS.get(number or errno.ENOSPC, "check the disk or choose another folder")
    return ResourceError(
        code,
        problem,
        file=path,
        observed=observed,
        allowed=allowed,
        next_step=f"{first}; {then}",
    )


def free_bytes(path: Path) -> int | None:
    """Return the free space on the disk that `path` lies on, or would; None where unknown."""
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None


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


def _about(path: Path, unfinished: Path | None, error: ResourceError) -> ResourceError:
    """Return an error about a temporary file as one about the place that it would have had."""
    if unfinished is None or error.file is None:
        return error
    file = Path(error.file)
    if not file.is_relative_to(unfinished):
        return error
    return ResourceError(
        error.code,
        error.problem,
        file=path / file.relative_to(unfinished),
        observed=error.observed,
        allowed=error.allowed,
        next_step=error.next_step,
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


def _of_the_disk(error: Exception) -> Exception | None:
    """Return what a disk refused; None where the error is of another kind, or composed already."""
    if isinstance(error, TerrazzoError):
        return None
    if isinstance(error, OSError):
        return error
    # So do libraries in Rust, safetensors for one, end the text of an error of the system.
    found = re.search(r"\(os error (\d+)\)", str(error))
    return None if found is None else OSError(int(found[1]), os.strerror(int(found[1])))


def _size(place: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 where there is nothing."""
    total = 0
    for path in (place, *place.rglob("*")):
        with suppress(OSError):
            total += 0 if path.is_dir() else path.stat().st_size
    return total


def _amount(size: int) -> str:
    """Return a number of bytes for people."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit / 10:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


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
