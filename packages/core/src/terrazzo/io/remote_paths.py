"""Rasters that are read over the network: only where the user allowed it, and only as GeoTIFF."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path, PosixPath, WindowsPath
from typing import Any

from terrazzo.base.errors import DataError

_REMOTE = re.compile(r"/vsi|[A-Za-z][A-Za-z0-9+.-]+:/")
_URL = re.compile(r"(\w+):/+(.*)", re.DOTALL)
_SYSTEMS = {"http": "vsicurl", "https": "vsicurl", "s3": "vsis3", "gs": "vsigs", "az": "vsiaz"}


_Path = WindowsPath if os.name == "nt" else PosixPath


class RemotePath(_Path):  # type: ignore[misc, valid-type]
    """A path that GDAL may follow off this machine; made by `allow`."""

    @property
    def gdal_name(self) -> str:
        """What GDAL calls it: ``/vsicurl/https://…`` for ``https://…``, ``/vsis3/…`` for ``s3://…``.

        Paths keep one of the two slashes of a URL, so the other is put back.
        """
        url = _URL.fullmatch(str(self))
        if url is None:
            return re.sub(r"(https?):/+", r"\1://", str(self))
        scheme, rest = url.groups()
        prefix = f"{scheme}://" if _SYSTEMS[scheme] == "vsicurl" else ""
        return f"/{_SYSTEMS[scheme]}/{prefix}{rest}"


class MemoryPath(_Path):  # type: ignore[misc, valid-type]
    """A file that lies in memory alone, under a name that GDAL knows; see `rasters.in_memory`.

    It can be read by those who ask the path itself; no file beside it is there.
    """

    data: bytes | None = None
    buffer: Callable[[], Any] | None = None

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """Open it for reading bytes, or (``r+b``) for changing some where `buffer` gives them."""
        if mode == "r+b":
            assert self.buffer is not None
            return _Changed(self.buffer())
        assert mode == "rb"
        return io.BytesIO(self._content())

    def stat(self, **_: Any) -> os.stat_result:
        """Return its size; it never changes."""
        size = len(self._content())
        return os.stat_result((stat.S_IFREG | stat.S_IRUSR, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def unlink(self, missing_ok: bool = False) -> None:
        """Do nothing: it goes with the block that made it."""

    def _content(self) -> bytes:
        if self.data is None and self.buffer is not None:
            return bytes(self.buffer())
        if self.data is None:
            raise FileNotFoundError(2, os.strerror(2), str(self))
        return self.data


class _Changed(io.BytesIO):
    """A copy of a block of memory that goes back into it when it is closed."""

    def __init__(self, block: Any) -> None:
        super().__init__(bytes(block))
        self._block = block

    def close(self) -> None:
        """Put the bytes back, as many as there were."""
        if not self.closed:
            self._block[:] = memoryview(self.getvalue())
        super().close()


def is_remote(path: str | Path) -> bool:
    """Tell whether GDAL would look for this beyond the plain files of this machine."""
    return _REMOTE.match(str(path)) is not None


def allow(path: Path) -> Path:
    """Return a path that may be read over the network, if it asks for that.

    Raises:
        DataError: SEG-D030, a kind of URL that is not read.
    """
    if not is_remote(path):
        return path
    url = _URL.fullmatch(str(path))
    if url is not None and url[1] not in _SYSTEMS:
        raise DataError(
            "SEG-D030",
            "this kind of URL is not read",
            file=path,
            observed=f"{url[1]}:",
            allowed=", ".join(f"{scheme}:" for scheme in _SYSTEMS) + ", or GDAL's /vsi… paths",
        )
    return RemotePath(path)
