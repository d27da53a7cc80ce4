"""Memory that runs out: how the libraries of the host say so, and the one message it becomes."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from terrazzo.base.errors import ResourceError, TerrazzoError

_NO_MEMORY_IN_OPENCV = -4  # cv::Error::StsNoMem
_NOT_LOADED = "failed to map segment"
"""How the loader of libraries says it; it says the same of a disk that is mounted ``noexec``."""


def host_ran_out(error: BaseException) -> bool:
    """Tell whether an error says that the machine had no memory left: Python, NumPy, OpenCV, GDAL.

    Frameworks have errors of their own; see `terrazzo.models.contract.Trainer.out_of_memory`.
    """
    if isinstance(error, TerrazzoError):  # whoever was nearer has said it
        return False
    found: BaseException | None = error
    while found is not None:
        kind = type(found)
        if isinstance(found, MemoryError) or kind.__name__ == "CPLE_OutOfMemoryError":
            return True
        if kind.__module__ == "cv2" and getattr(found, "code", 0) == _NO_MEMORY_IN_OPENCV:
            return True
        if isinstance(found, OSError) and found.errno == errno.ENOMEM:
            return True
        if (
            isinstance(found, (ImportError, OSError))
            and _NOT_LOADED in str(found)
            and _is_limited()
        ):
            return True
        if isinstance(found, RuntimeError) and "can't start new thread" in str(found):
            return True
        found = found.__cause__
    return False


def _is_limited() -> bool:
    """Tell whether this process has a limit on its memory (`ulimit -v`)."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def out_of_memory(
    doing: str,
    error: BaseException,
    *,
    size: str | None = None,
    file: str | Path | None = None,
    next_step: str,
) -> ResourceError:
    """Compose SEG-R006.

    Args:
        doing: what was being made, after "out of memory while".
        error: what the library said; its first line is shown.
        size: of what was being made; see `size_of`.
        file: that was being read.
        next_step: which settings need less.
    """
    said = str(error).strip().partition("\n")[0][:300]
    observed = "; ".join(part for part in (size, said) if part)
    return ResourceError(
        "SEG-R006",
        f"out of memory while {doing}",
        file=file,
        observed=observed or type(error).__name__,
        next_step=next_step,
    )


@contextmanager
def memory_for(
    doing: str,
    *,
    size: str | None = None,
    file: str | Path | None = None,
    next_step: str,
    ran_out: Callable[[Exception], bool] = lambda _: False,
) -> Iterator[None]:
    """Turn errors of memory within the block into SEG-R006; see `out_of_memory`.

    Args:
        doing, size, file, next_step: see `out_of_memory`.
        ran_out: tells a framework's errors of memory from its others.

    Raises:
        ResourceError: SEG-R006.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, TerrazzoError) or not (host_ran_out(error) or ran_out(error)):
            raise
        raise out_of_memory(doing, error, size=size, file=file, next_step=next_step) from error


def size_of(shape: tuple[int, ...], dtype: Any, itemsize: int) -> str:
    """Return what an array takes, for people: ``8×512×512×3 uint8, 6.3 MB``."""
    megabytes = math.prod(shape) * itemsize / 1e6
    return f"{'×'.join(map(str, shape))} {dtype}, {megabytes:.1f} MB"


def available_bytes() -> int | None:
    """Return how much memory this process may still take; None where the system does not say.

    The least of what the machine has free, what its control group leaves, and `ulimit -v`.
    """
    found = [_free_on_machine(), _left_in_control_group(), _address_space()]
    return min((each for each in found if each is not None), default=None)


def _free_on_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    except (OSError, ValueError, StopIteration):
        pass
    try:  # half of what there is, where what is free is not told
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return None


def _left_in_control_group() -> int | None:
    folder = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, taken = ((folder / name).read_text().strip() for name in (limit, used))
            return max(int(most) - int(taken), 0)
        except (OSError, ValueError):  # "max": no limit
            continue
    return None


def _address_space() -> int | None:
    if not _is_limited():
        return None
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0]
