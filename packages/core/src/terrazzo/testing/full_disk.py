"""A run on a disk that is full once one of its logs has some bytes.

    python -m terrazzo.testing.full_disk log.jsonl:300 run --config R --out DIR

A disk that is nearly full takes the first bytes of a line and refuses the next, so this does too.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from terrazzo.cli.app import main

_write = os.write


def _fill(name: str, most_bytes: int) -> None:
    """Let files of a name grow to `most_bytes` alone, where `os.write` writes to them."""

    def write(descriptor: int, data: Any) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name != name:
            return _write(descriptor, data)
        room = most_bytes - os.fstat(descriptor).st_size
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return _write(descriptor, bytes(data)[:room])

    os.write = write


if __name__ == "__main__":
    file, _, number = sys.argv.pop(1).rpartition(":")
    _fill(file, int(number))
    main()
