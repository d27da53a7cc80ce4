"""Progress: a bar on a terminal, plain lines elsewhere, nothing unless asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from terrazzo.base import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_SECONDS_BETWEEN_LINES = 15.0


class Progress(Protocol):
    """Where the engine tells how far it is."""

    def advance(self, done: int, total: int, text: str) -> None:
        """Say that `done` of `total` are done; called often, shown when it pays."""
        ...

    def say(self, text: str) -> None:
        """Show one line that stays."""
        ...


class Silent:
    """Shows nothing."""

    def advance(self, done: int, total: int, text: str) -> None:
        """Show nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""


@dataclass
class PlainLines:
    """A line now and then, for logs and pipes."""

    last: float = field(default_factory=time.monotonic)

    def advance(self, done: int, total: int, text: str) -> None:
        """Print a line if the last one is a while ago."""
        if time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
            self.say(f"{done}/{total} {text}")

    def say(self, text: str) -> None:
        """Print one line."""
        self.last = time.monotonic()
        print(printable.lines(text), file=sys.stderr, flush=True)  # noqa: T201 - this file is what prints


@dataclass
class TerminalBar:
    """A bar that is redrawn in place."""

    bar: Bar
    task: TaskID

    def advance(self, done: int, total: int, text: str) -> None:
        """Redraw the bar."""
        self.bar.update(
            self.task, completed=done, total=total, description=printable.one_line(text)
        )

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self.bar.console.print(text)


@contextmanager
def shown(title: str) -> Iterator[Progress]:
    """Show progress on standard error for as long as the context lasts."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from terrazzo.base.console import PlainConsole

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=PlainConsole(stderr=True), refresh_per_second=5) as bar:
        yield TerminalBar(bar, bar.add_task(printable.one_line(title), total=None))
