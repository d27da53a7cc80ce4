"""GeoTIFF files that lie in memory alone: what a server is sent, and what it answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rasterio.io import MemoryFile

from terrazzo.io.rasters import handles
from terrazzo.io.remote_paths import MemoryPath


@contextmanager
def in_memory(data: bytes) -> Iterator[Path]:
    """Yield a path by which all of this package reads a GeoTIFF that is given as bytes.

    The name is one of ours, and the file is opened by the GTiff driver alone, as any other.

    Args:
        data: the file. It is not copied.
    """
    with MemoryFile(data, dirname=_folder(), filename="image.tif") as file:
        path = MemoryPath(file.name)
        path.data = data
        try:
            yield path
        finally:
            handles.close(path)


def written_in_memory(write: Callable[[Path], None]) -> bytes:
    """Return the bytes of a GeoTIFF that is written by a function of its path.

    Args:
        write: gets a path in memory, and writes there, such as by `write_rows`.

    Raises:
        ResourceError: SEG-R004, as `write_rows`.
    """
    with MemoryFile(dirname=_folder(), filename="map.tif") as file:
        path = MemoryPath(file.name)
        path.buffer = file.getbuffer
        write(path)
        return bytes(file.read())


def _folder() -> str:
    return f"terrazzo-{uuid.uuid4().hex}"
