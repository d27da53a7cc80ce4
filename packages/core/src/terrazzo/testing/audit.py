"""What Python itself sees while files are loaded: no foreign code, no network, no other files.

Uses the audit events of the interpreter (PEP 578). What a library does in C is not seen.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request")
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn")
_OF_THE_SYSTEM = ("/proc", "/sys", "/dev", "/etc")
_LONG_ENOUGH = 16  # characters: shorter code is found in any file by chance

_hooked = False
_watches: list[_Watch] = []


class _Watch:
    """Notes what must not happen while `content` is being loaded."""

    def __init__(self, folder: Path, also: tuple[Path, ...]) -> None:
        self.seen: list[str] = []
        self.folder = os.path.realpath(folder)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        self.content = b"\0".join(path.read_bytes() for path in files)
        own: list[str | Path] = [Path(__file__).parents[4], folder, *also]
        own += [sys.prefix, sys.base_prefix]
        roots = [*own, *sysconfig.get_paths().values(), *sys.path, *_OF_THE_SYSTEM]
        self.roots = tuple({os.path.realpath(root) + os.sep for root in roots if str(root)})

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class" or event in _NETWORK or event in _PROCESSES:
            self.seen.append(f"{event} {arguments[:2]!r}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            self._note_open(os.path.realpath(os.fsdecode(arguments[0])), arguments[1])
        elif event == "compile" and self._is_of_content(arguments[0]):
            self.seen.append(f"compile {arguments[0]!r:.80}")
        elif event == "exec" and isinstance(arguments[0], CodeType):
            file = os.path.realpath(arguments[0].co_filename)
            if file.startswith(self.folder + os.sep):
                self.seen.append(f"exec {file}")

    def _note_open(self, path: str, mode: str | None) -> None:
        writes = mode is not None and not set(mode).isdisjoint("wax+")
        if writes and not path.startswith("/dev"):
            self.seen.append(f"open {path} to write")
        elif not path.startswith(self.roots):
            self.seen.append(f"open {path}")

    def _is_of_content(self, source: object) -> bool:
        text = source.encode() if isinstance(source, str) else source
        return isinstance(text, bytes) and len(text) >= _LONG_ENOUGH and text in self.content


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    watches = list(_watches)
    _watches.clear()  # what a watch does itself is not looked at
    try:
        for watch in watches:
            watch.note(event, arguments)
    finally:
        _watches.extend(watches)


@contextmanager
def refused(folder: Path, also: tuple[Path, ...] = ()) -> Iterator[list[str]]:
    """Collect what code that loads `folder` must not do; empty where it does nothing of it.

    Args:
        folder: the files that are loaded; may be read.
        also: further folders that may be read. Those of Python and of this repository may be.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked = True
    watch = _Watch(folder, also)
    _watches.append(watch)
    try:
        yield watch.seen
    finally:
        _watches.remove(watch)
