"""Unpacking archives that come from elsewhere: everything below one folder, or nothing.

Only regular files and folders with plain relative names are written. A member that would leave the
folder, a link, a device or an archive that unpacks to far more than declared ends it, and what was
written so far is removed.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from terrazzo.base.disk_errors import not_written
from terrazzo.base.errors import DataError, ResourceError

_CHUNK = 1 << 20
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
)
_MOST_FILES = 200_000


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry of an archive: its name, what it is, how many bytes it has, how to read it."""

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, to: Path, *, most_bytes: int, below: str = "") -> int:
    """Unpack a tar (of any compression) or zip file.

    Args:
        archive: judged by its content, not by its name.
        to: folder that does not exist yet; made when all is well.
        most_bytes: that may be written.
        below: folder of the archive to take, without it in the new names; all members are checked
            nevertheless.

    Returns:
        Number of files written.

    Raises:
        DataError: SEG-D011 the archive is truncated or damaged; SEG-D012 neither tar nor zip;
            SEG-D031 more files or bytes than allowed; SEG-S002 a member that is no plain file or
            would lie outside of `to`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    temporary = to.with_name(f".{to.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        count = _write_members(archive, temporary, most_bytes, below)
        temporary.rename(to)
    except _DAMAGED as error:
        raise DataError(
            "SEG-D011",
            "the archive is truncated or damaged",
            file=archive,
            observed=f"{error} ({archive.stat().st_size} bytes)",
            next_step="delete it and fetch it again",
        ) from error
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        raise not_written(
            Path(error.filename or to), error, problem="cannot unpack the archive"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def _write_members(archive: Path, to: Path, most_bytes: int, below: str) -> int:
    to.mkdir(parents=True)
    lead = PurePosixPath(below).parts
    files = written = 0
    with _members(archive) as members:
        for member in members:
            parts = _safe_parts(archive, member)
            if parts[: len(lead)] != lead or member.kind == "folder":
                continue
            files, written = files + 1, written + member.size
            if files > _MOST_FILES or written > most_bytes:
                raise _too_much(archive, files, written, most_bytes)
            path = to.joinpath(*parts[len(lead) :])
            path.parent.mkdir(parents=True, exist_ok=True)
            source = member.open()
            assert source is not None  # it is a regular file
            # "x": two members of one name would be one file that says nothing of the other.
            with source, path.open("xb") as target:
                _copy(source, target, member.size)
    return files


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """Copy exactly `size` bytes, whatever more a lying header leads to."""
    while size:
        chunk = source.read(min(size, _CHUNK))
        if not chunk:
            raise EOFError("a member ends early")
        target.write(chunk)
        size -= len(chunk)
    source.read(1)  # lets zipfile check the sum of the member


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened_zip:
            if len(opened_zip.infolist()) > _MOST_FILES:  # known before anything is unpacked
                raise _too_many(archive, len(opened_zip.infolist()))
            yield _zip_members(opened_zip)
        return
    if not tarfile.is_tarfile(archive):
        raise DataError(
            "SEG-D012",
            "the file is no archive that can be unpacked here",
            file=archive,
            observed=f"{archive.stat().st_size} bytes of something else",
            allowed="tar, tar.gz, tar.bz2, tar.xz or zip",
            next_step="delete it and fetch it again",
        )
    with tarfile.open(archive) as opened:
        yield _tar_members(opened)


def _tar_members(opened: tarfile.TarFile) -> Iterator[_Member]:
    for info in opened:
        kind = "file" if info.isreg() else "folder" if info.isdir() else "link or device"
        yield _Member(info.name, kind, info.size, partial(opened.extractfile, info))
    # tarfile stops at the end of the archive, before the checksum of the compressed stream.
    while opened.fileobj is not None and opened.fileobj.read(_CHUNK):
        pass


def _zip_members(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        mode = info.external_attr >> 16
        plain = stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)
        kind = ("folder" if info.is_dir() else "file") if plain else "link or device"
        # As stored: `filename` has been cut and cleaned already.
        yield _Member(info.orig_filename, kind, info.file_size, partial(opened.open, info))


def _safe_parts(archive: Path, member: _Member) -> tuple[str, ...]:
    name = member.name
    path = PurePosixPath(name)
    reason = None
    if member.kind not in ("file", "folder"):
        reason = member.kind
    elif path.is_absolute() or name[1:2] == ":":
        reason = "absolute name"
    elif ".." in path.parts:
        reason = "a name with .."
    elif "\\" in name or "\0" in name:
        reason = "a backslash or NUL in the name"
    elif member.kind == "file" and not path.parts:
        reason = "no name"
    if reason is not None:
        raise DataError(
            "SEG-S002",
            "the archive holds something that is not unpacked",
            file=archive,
            observed=f"{name!r}: {reason}",
            allowed="plain files and folders with relative names",
            next_step="nothing was unpacked; do not use this archive",
        )
    return path.parts


def _too_many(archive: Path, entries: int) -> DataError:
    return DataError(
        "SEG-D031",
        "the archive unpacks to more than it should",
        file=archive,
        observed=f"{entries} entries",
        allowed=f"{_MOST_FILES} files",
        next_step="nothing was unpacked; do not use this archive",
    )


def _too_much(archive: Path, files: int, written: int, most_bytes: int) -> DataError:
    return DataError(
        "SEG-D031",
        "the archive unpacks to more than it should",
        file=archive,
        observed=f"{files} files, {written} bytes, and more to come",
        allowed=f"{_MOST_FILES} files, {most_bytes} bytes",
        next_step="nothing was unpacked; do not use this archive",
    )
