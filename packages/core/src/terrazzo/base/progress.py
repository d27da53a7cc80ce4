"""Progress: a bar on a terminal, plain lines elsewhere, nothing unless asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from terrazzo.base import printable
from terrazzo.base.durations import duration
from terrazzo.base.processes import speaks

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_LONGEST_SECONDS, _SHORTEST_SECONDS = 30.0, 10.0
"""Between two lines of one piece of work."""
_SHARE = 0.1
"""Of a piece of work after which there is a line, if it took long enough."""


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
class _Phase:
    """One count from 0, or from where a resumed run goes on, to its total."""

    begun: float
    begun_at: int
    shown: float
    shown_at: int
    done: int


class Pace:
    """How long each piece of work will still take, by its pace so far in this process.

    Pieces with other words or totals are timed apart: training, and each validation within it. The
    time of the validations counts as training's, which they hold up. What an earlier process has
    done took none of this one's time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phases: dict[tuple[str, int], _Phase] = {}

    def look(self, done: int, total: int, text: str, shown: float) -> _Phase:
        """Return the piece of work that `text` begins with; `shown`: of the last line before it."""
        key = (text.partition("  ")[0], total)
        phase = self._phases.get(key)
        ended = phase is not None and (done < phase.done or phase.done >= total)
        if phase is None or ended:  # the first, or the next of its kind
            phase = self._phases[key] = _Phase(self._clock(), done, shown, done, done)
        phase.done = done
        return phase

    def left(self, phase: _Phase, total: int) -> str:
        """Return the time left as text; empty at the beginning and at the end."""
        steps, seconds = phase.done - phase.begun_at, self._clock() - phase.begun
        if steps <= 0 or phase.done >= total:
            return ""
        return f"  about {duration(seconds / steps * (total - phase.done))} left"


@dataclass
class PlainLines:
    """A line now and then, for logs and pipes: after 30 s, or after a tenth if that took 10 s."""

    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._pace = Pace(self.clock)
        self._said = self.clock()

    def advance(self, done: int, total: int, text: str) -> None:
        """Print a line if the last one is a while ago."""
        phase = self._pace.look(done, total, text, self._said)
        now = self.clock()
        waited, share = now - phase.shown, (done - phase.shown_at) / max(total, 1)
        if waited >= _LONGEST_SECONDS or (waited >= _SHORTEST_SECONDS and share >= _SHARE):
            phase.shown, phase.shown_at = now, done
            self.say(f"{done}/{total} {text}{self._pace.left(phase, total)}")

    def say(self, text: str) -> None:
        """Print one line."""
        self._said = self.clock()
        print(printable.lines(text), file=sys.stderr, flush=True)  # noqa: T201 - this file prints


@dataclass
class TerminalBar:
    """A bar that is redrawn in place."""

    bar: Bar
    task: TaskID
    pace: Pace = field(default_factory=Pace)

    def advance(self, done: int, total: int, text: str) -> None:
        """Redraw the bar."""
        # Rich's own estimate mixes the counts of training and validation.
        left = self.pace.left(self.pace.look(done, total, text, 0.0), total)
        words = printable.one_line(text + left)
        self.bar.update(self.task, completed=done, total=total, description=words)

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self.bar.console.print(text)


@contextmanager
def shown(title: str) -> Iterator[Progress]:
    """Show progress on standard error for as long as the context lasts."""
    if not speaks():
        yield Silent()
        return
    if sys.stderr is None or not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    from terrazzo.base.console import PlainConsole

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=PlainConsole(stderr=True), refresh_per_second=5) as bar:
        yield TerminalBar(bar, bar.add_task(printable.one_line(title), total=None))
