"""Copy standard input to standard error, without the messages of TensorFlow that mean nothing.

A program of its own, so that what TensorFlow says before it crashes is shown all the same. Imports
nothing but the standard library: it starts in the time of a bare Python.
"""

from __future__ import annotations

import os
import re

_NO_DRIVER = not any(map(os.path.exists, ("/dev/nvidiactl", "/dev/dxg")))
_PLACE = r"\S+\.(?:cc|h):\d+\] "
_KNOWN = re.compile(
    "|".join(
        (
            r"WARNING: All log messages before absl::InitializeLog\(\) is called ",
            # Information and warnings, which TF_CPP_MIN_LOG_LEVEL=2 silences once it is read.
            rf"[IW]\d{{4}} [\d:.]+ +\d+ {_PLACE}",
            rf"\d{{4}}-\d\d-\d\d [\d:.]+: [IW] {_PLACE}",
            "To enable the following instructions: ",
            # Errors in name only: of libraries that are there twice, of a machine without a GPU.
            rf"(?:E\d{{4}} [\d:.]+ +\d+|[\d-]+ [\d:.]+: E) {_PLACE}Unable to register cu",
            *((rf"E\d{{4}} [\d:.]+ +\d+ {_PLACE}failed call to cuInit",) if _NO_DRIVER else ()),
        )
    ).encode()
)
_MAY_BE_KNOWN = re.compile(rb"WARN|[IWE]\d|\d{4}-|To e|[IWET]?$|W[AR]*$|To? ?$|\d{1,4}$")
"""Beginning of a line that is kept back until its end is there."""


class Relay:
    """Bytes as they come, less the known lines."""

    def __init__(self) -> None:
        self._kept = b""

    def take(self, data: bytes) -> bytes:
        """Return what of `data`, and of what was kept before, is to be shown now."""
        *whole, rest = (self._kept + data).split(b"\n")
        shown = b"".join(line + b"\n" for line in whole if not _KNOWN.match(line))
        self._kept = rest if _MAY_BE_KNOWN.match(rest) else b""
        return shown if self._kept else shown + rest

    def end(self) -> bytes:
        """Return what is left."""
        return b"" if _KNOWN.match(self._kept) else self._kept


def main() -> None:
    """Relay until the other end is closed."""
    relay = Relay()
    while data := os.read(0, 1 << 16):
        _write(relay.take(data))
    _write(relay.end())


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]


if __name__ == "__main__":
    main()
