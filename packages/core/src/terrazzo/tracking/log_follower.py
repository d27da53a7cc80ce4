"""The thread that reads the log of a run and hands it to one tracker."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from terrazzo.base.json_files import append_json_line, read_json_lines
from terrazzo.runs.folder import RunFolder
from terrazzo.tracking import results, run_summary
from terrazzo.tracking.results import Results
from terrazzo.tracking.run_summary import Facts, Point

SECONDS_BETWEEN_SENDS = 2.0
"""Lines that come faster are sent together: a tracker's own work must not take the time of the
training, with which it shares the interpreter."""
SECONDS_BEFORE_RETRY = 30.0
MOST_LINES = 500
"""Lines in one send."""


class Tracker(Protocol):
    """A place that shows runs. Every method may raise anything and take any time."""

    def begin(self, facts: Facts) -> Mapping[str, int]:
        """Open the run: a new one, or the same again after a resume or an error.

        Returns:
            By kind of line (see `run_summary.MARKERS`), the last step that is there already.
        """
        ...

    def send(self, points: Sequence[Point]) -> None:
        """Add values."""
        ...

    def finish(self, status: str, results: Results | None) -> None:
        """Close the run: ``finished``, with its results, or ``stopped`` or ``failed``."""
        ...


class Follower:
    """Keeps one tracker up to date without ever holding up the caller."""

    def __init__(
        self, name: str, tracker: Tracker, folder: RunFolder, say: Callable[[str], None]
    ) -> None:
        self._name, self._tracker, self._folder, self._say = name, tracker, folder, say
        self._thread = threading.Thread(target=self._work, name=f"follow {name}", daemon=True)
        self._awake, self._ending = threading.Event(), threading.Event()
        self._status = ""
        self._facts: Facts | None = None  # None: not connected
        self._arrived: Mapping[str, int] = {}
        self._read_bytes = self._sent_bytes = 0
        self._failures = 0
        self._finished = False

    def wake(self) -> None:
        """Say that there is something new in the log; returns at once."""
        if self._thread.ident is None:
            self._thread.start()
        self._awake.set()

    def ask_to_finish(self, status: str) -> None:
        """Say that nothing more will come; returns at once."""
        self._status = status
        self._ending.set()
        self._awake.set()

    def wait(self, seconds: float) -> None:
        """Wait until all has been sent, or for `seconds`; then say what is missing."""
        if self._thread.ident is None:
            return
        self._thread.join(max(seconds, 0.0))
        if not self._finished:
            left = self._lines_left()
            self._note({"lines_left": left})
            self._say(
                f"{self._name} did not take everything: {left} lines of {self._folder.log} are "
                "left, and what comes after them; the same command with --resume sends the rest"
            )
        elif self._failures:
            self._say(f"{self._name} could be reached again, it has the whole run now")

    def _work(self) -> None:
        ending = False
        while not ending:
            self._awake.wait()
            self._awake.clear()
            ending = self._ending.is_set()
            try:
                self._send_what_is_new()
                if ending:
                    self._finish()
            except Exception as error:
                self._remember(error)
                self._awake.set()
            self._ending.wait(SECONDS_BETWEEN_SENDS if self._facts else SECONDS_BEFORE_RETRY)

    def _send_what_is_new(self) -> None:
        if self._facts is None:
            read = run_summary.read(self._folder)
            self._arrived, self._read_bytes = self._tracker.begin(read), 0
            self._facts = read
        while True:
            lines, end = _read_lines(self._folder.log, self._read_bytes)
            if not lines:
                return
            missing = [line for line in lines if self._is_missing(line)]
            if missing:
                self._tracker.send(
                    [run_summary.of_line(line, self._facts.classes) for line in missing]
                )
            self._read_bytes = end
            self._sent_bytes = max(self._sent_bytes, end)

    def _is_missing(self, line: Mapping[str, Any]) -> bool:
        kind = line["kind"]
        return kind in run_summary.MARKERS and line["step"] > self._arrived.get(kind, 0)

    def _finish(self) -> None:
        assert self._facts is not None
        found = None
        if self._status == "finished":
            found = results.read(self._facts)
            if found.scores[0] <= self._arrived.get("test", -1):
                found = found.without_scores()
        self._tracker.finish(self._status, found)
        self._finished = True

    def _remember(self, error: Exception) -> None:
        """Begin anew at the next attempt; tell people of the first failure only."""
        self._facts = None
        self._failures += 1
        if self._failures == 1:
            observed = _in_a_line(error)
            self._note({"error": observed})
            self._say(
                f"{self._name} fails, and the run goes on without it; {self._folder.log} is "
                f"complete. {observed}"
            )

    def _lines_left(self) -> int:
        with self._folder.log.open("rb") as file:
            file.seek(self._sent_bytes)
            return file.read().count(b"\n")

    def _note(self, what: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a full disk is the run's to tell of
            append_json_line(self._folder.timing, {"tracker": self._name, **what})


def _read_lines(log: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """Read up to `MOST_LINES` whole lines from byte `start`; return them and where they end."""
    found = list(itertools.islice(read_json_lines(log, start), MOST_LINES))
    return [line for line, _ in found], found[-1][1] if found else start


def _in_a_line(error: Exception) -> str:
    """Return kind and beginning of an error, without the password that a URI may hold."""
    text = re.sub(r"//[^/@\s]+@", "//", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}"
