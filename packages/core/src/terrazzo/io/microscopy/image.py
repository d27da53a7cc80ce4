"""One image of a microscope's file: its header, and windows of its pixels."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError, TerrazzoError
from terrazzo.base.memory import host_ran_out, out_of_memory

RGB = ("red", "green", "blue")
MOST_BANDS = 4096
MOST_BLOCK_BYTES = 1 << 30
"""Largest tile, strip or chunk that is decoded; a window needs at least one of them whole."""

Window = tuple[int, int, int, int]
"""First row, first column, rows, columns."""

_MOST_NAME = 64


class UnknownPlanesError(Exception):
    """A TIFF of several pages says nothing that is known of what they are."""


def _nothing() -> None:
    """Close nothing."""


class Keeper(Protocol):
    """What keeps decoded pixels between windows."""

    def forget(self) -> None:
        """Let them go."""
        ...


class _LastKeeper(threading.local):
    """What this thread read last; a thread has many files open, and memory for one."""

    reference: Callable[[], Keeper | None] | None = None


_last = _LastKeeper()


def keep_alone(keeper: Keeper) -> None:
    """Let go of what any other file keeps that this thread has read."""
    before = None if _last.reference is None else _last.reference()
    if before is not None and before is not keeper:
        before.forget()
    _last.reference = weakref.ref(keeper)


@dataclass(frozen=True)
class MicroscopeImage:
    """One image of a file, open for reading by one thread.

    Attributes:
        rows: height in pixels, of the finest level.
        columns: width in pixels.
        dtype: NumPy dtype name of the pixels.
        band_names: C names; ``band 1`` … where the file names none.
        read: reads a window of some bands, numbers from 0: H×W×C.
        block: rows and columns of the pieces the file is decoded by.
        physical_sides: width and height of a pixel in metres; None: not noted.
        alpha_bands: numbers, from 1, of bands that say which pixels count; not in `band_names`.
        read_mask: reads H×W bool, False where nothing was scanned; None: all of it was.
        white_is_zero: whether 0 stands for white.
        no_mask: why the file cannot be a mask of classes; empty: it can.
        notes: what else the file holds, for the person who runs it.
        close: closes the file.
    """

    rows: int
    columns: int
    dtype: str
    band_names: tuple[str, ...]
    read: Callable[[Window, Sequence[int]], NDArray[Any]]
    block: tuple[int, int]
    physical_sides: tuple[float, float] | None = None
    alpha_bands: tuple[int, ...] = ()
    read_mask: Callable[[Window], NDArray[np.bool_]] | None = None
    white_is_zero: bool = False
    no_mask: str = ""
    notes: tuple[str, ...] = ()
    close: Callable[[], None] = _nothing


def named(told: Sequence[str | None], count: int) -> tuple[str, ...]:
    """Return the names of channels, and ``band N`` where a name is not usable.

    Args:
        told: what the file says, perhaps of another number of channels: then it says nothing.
        count: of bands.
    """
    if len(told) != count:
        told = [None] * count
    clean = [_usable(name) for name in told]
    return tuple(
        name if name and clean.count(name) == 1 else f"band {number}"
        for number, name in enumerate(clean, 1)
    )


def _usable(name: str | None) -> str:
    """Return a name in one line and of some length; empty where nothing is left of it."""
    line = re.sub(r"\s+", " ", name or "").strip()
    return line if line.isprintable() and len(line) <= _MOST_NAME else ""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a library says of a file that it cannot read into an error about that file.

    Libraries of formats raise whatever the bytes of a damaged file lead them into.

    Raises:
        DataError: SEG-D011.
        ResourceError: SEG-R006, out of memory.
    """
    try:
        yield
    except (TerrazzoError, UnknownPlanesError):
        raise
    except Exception as error:
        if host_ran_out(error):
            raise out_of_memory(
                "reading a microscope image",
                error,
                file=path,
                next_step="lower loader.threads and augment.crop; for `predict`, --tile",
            ) from error
        raise DataError(
            "SEG-D011",
            "the file is truncated or damaged",
            file=path,
            observed=f"{type(error).__name__}: {str(error)[:300]}",
            next_step="copy or export the file again",
        ) from error


def refuse_large_block(path: Path, observed: str, size: int) -> None:
    """Refuse a file whose pieces are too large to be decoded, which also guards against bombs.

    Raises:
        DataError: SEG-D031.
    """
    if size > MOST_BLOCK_BYTES:
        raise DataError(
            "SEG-D031",
            "the pieces of the file are too large to be read",
            file=path,
            observed=f"{observed}: {size} bytes",
            allowed=f"{MOST_BLOCK_BYTES} bytes",
            next_step="write the file again in tiles or chunks, such as of 512×512 pixels",
        )


def refuse_many_bands(path: Path, bands: int) -> None:
    """Refuse more bands than any model takes, before they are named.

    Raises:
        DataError: SEG-D019.
    """
    if not 1 <= bands <= MOST_BANDS:
        raise DataError(
            "SEG-D019",
            "this number of bands is not read",
            file=path,
            observed=f"{bands} bands",
            allowed=f"1 to {MOST_BANDS}",
            next_step="write fewer channels into the file",
        )
