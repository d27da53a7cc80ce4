"""What a disk or the system refuses, as an error: path, reason, space needed and free, advice."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from terrazzo.base.errors import ResourceError, TerrazzoError

LONGEST_NAME = 255
"""Bytes of a file's name on nearly every file system."""
AGAIN = "then run the same command again (a run goes on with --resume)"
"""What to do once the reason is gone."""
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
            needed: str | None = amount(needed_bytes)
        else:
            written = 0 if unfinished is None else _size(unfinished)
            needed = f"more than {amount(written)}" if written else None
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
        observed += "" if free is None else f"; {amount(free)} free on this disk"
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


def amount(size: int) -> str:
    """Return a number of bytes for people."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit / 10:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
