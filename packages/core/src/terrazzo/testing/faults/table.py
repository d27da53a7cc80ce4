"""One row for each fault that users meet: what it is, what must be said of it, what must stay.

A row plants its fault for real, runs the commands of Terrazzo, and `Place` checks what they say and
what they leave: exit code, code, path and observed value in the message, no traceback, soon enough,
and the files that were to stay as they were. A row passes only if it has asked for all of that.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from terrazzo.base.processes import STOP_SIGNALS
from terrazzo.cli.app import main
from terrazzo.runs import checkpoint

Kept = Literal["L0", "L1", "L2", "–"]

KEPT = {
    "L0": "nothing is written, and what is read stays as it was",
    "L1": "the last checkpoint and the log up to it",
    "L2": "the outputs that are finished",
    "–": "there is nothing to lose: the command does its work",
}

_LONGEST_SECONDS = 300.0
"""From the command to its error: generous, for machines that are shared."""
_PROGRAM = "from terrazzo.cli.app import main; main()"


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        id: such as D01.
        fault: in a few words.
        codes: that the user sees; empty where the command does its work.
        kept: what must survive, see `KEPT`.
        check: plants the fault and checks what follows.
        note: what stands for the fault here, where the list of faults means something else.
        slow: more than ten seconds with the reference backend.
        frameworks: whether it matters with the arrays and devices of a framework.
        failing: reason by backend, where the row does not pass yet.
    """

    id: str
    fault: str
    codes: tuple[str, ...]
    kept: Kept
    check: Callable[[Place], None]
    note: str = ""
    slow: bool = False
    frameworks: bool = False
    failing: dict[str, str] = field(default_factory=dict)


ROWS: dict[str, Row] = {}
"""By id."""


def row(
    id_: str,
    fault: str,
    *codes: str,
    kept: Kept,
    note: str = "",
    slow: bool = False,
    frameworks: bool = False,
    failing: dict[str, str] | None = None,
) -> Callable[[Callable[[Place], None]], Callable[[Place], None]]:
    """Put a function into `ROWS`; the arguments are those of `Row`."""

    def add(check: Callable[[Place], None]) -> Callable[[Place], None]:
        assert id_ not in ROWS, id_
        ROWS[id_] = Row(id_, fault, codes, kept, check, note, slow, frameworks, failing or {})
        return check

    return add


@dataclass(frozen=True, repr=False)
class Outcome:
    """What a command came to.

    Attributes:
        exit: its exit code; −9 where it died of SIGKILL.
        out: its standard output.
        err: its standard error.
        seconds: it took.
    """

    exit: int
    out: str
    err: str
    seconds: float

    def __repr__(self) -> str:
        return f"exit {self.exit} after {self.seconds:.1f} s\n{self.out}\n{self.err}"

    @property
    def text(self) -> str:
        """All that it printed."""
        return f"{self.out}\n{self.err}"


@dataclass
class Place:
    """A folder in which a row plants its fault, with the backend it is for.

    Attributes:
        folder: empty at first.
        backend: its name.
        row: that is being checked.
        shared: a folder that all rows of a backend share, for what is dear to make and only read.
        shown: first line of each message that was checked.
        kept: which promises about files have been checked.
    """

    folder: Path
    backend: str
    row: Row
    shared: Path
    shown: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)

    # Commands

    def terrazzo(self, *words: object, folder: Path | None = None) -> Outcome:
        """Run a command in this process."""
        return _in_this_process([str(word) for word in words], folder or self.folder)

    def process(
        self,
        *words: object,
        program: Sequence[str] = ("-c", _PROGRAM),
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> Outcome:
        """Run a command in a process of its own.

        Args:
            words: the command and its arguments.
            program: what Python runs instead of the command line.
            folder: where; the place by default.
            environment: variables to set.
            options: for `subprocess.run`.
        """
        begun = time.perf_counter()
        answer = subprocess.run(  # noqa: S603
            [sys.executable, *program, *map(str, words)],
            cwd=folder or self.folder,
            env={**os.environ, **(environment or {})},
            check=False,
            **{"capture_output": True, "timeout": 300, **options},
        )
        texts = [(each or b"").decode(errors="replace") for each in (answer.stdout, answer.stderr)]
        return Outcome(answer.returncode, texts[0], texts[1], time.perf_counter() - begun)

    def killed(self, point: str, *words: object) -> None:
        """Run a command that kills itself; see `terrazzo.testing.kill`."""
        answer = self.process(*words, program=("-m", "terrazzo.testing.kill", point))
        assert answer.exit == -signal.SIGKILL, answer

    # What is said

    def expect(
        self,
        outcome: Outcome,
        code: str | None,
        *,
        exit: int,  # noqa: A002 - as the table calls it
        path: object = None,
        observed: Sequence[object] | object = (),
        seconds: float = _LONGEST_SECONDS,
    ) -> None:
        """Check what the user sees.

        Args:
            outcome: of the command.
            code: in the message; None where there is no error.
            exit: exit code.
            path: that must be named.
            observed: text that must be there, one or several.
            seconds: most that the command may take.
        """
        assert outcome.exit == exit, outcome
        assert "Traceback" not in outcome.text, outcome
        text = outcome.text.replace("\n", "")
        if code is not None:
            assert code in self.row.codes, (code, self.row.codes)
            assert code in text, outcome
            self._show(outcome, code)
        for part in observed if isinstance(observed, tuple | list) else [observed]:
            assert str(part) in text, (str(part), outcome)
        if path is not None:  # as it was typed: most commands are run in the place
            assert str(path).removeprefix(f"{self.folder}/") in text, (path, outcome)
        if code is not None:
            assert outcome.seconds < seconds, outcome.seconds

    def expect_finding(
        self,
        outcome: Outcome,
        code: str,
        *,
        path: object = None,
        observed: Sequence[object] | object = (),
        level: str = "error",
    ) -> None:
        """Check one finding of ``terrazzo check --json``; arguments as in `expect`."""
        assert "Traceback" not in outcome.err, outcome
        assert outcome.exit in (0, 3), outcome
        report = json.loads(outcome.out)
        assert (outcome.exit == 3) == report["must_stop"]
        assert report["must_stop"] or level != "error"
        assert code in self.row.codes, (code, self.row.codes)
        wanted = observed if isinstance(observed, tuple | list) else [observed]
        found = [
            each
            for each in report["findings"]
            if each["code"] == code
            and each["level"] == level
            and (path is None or str(path) in f"{each['file']} {each['observed']}")
            and all(str(part) in " ".join(map(str, each.values())) for part in wanted)
        ]
        assert found, report["findings"]
        assert outcome.seconds < _LONGEST_SECONDS
        self._note(f"{code}: {found[0]['problem']}")

    def _show(self, outcome: Outcome, code: str) -> None:
        lines = [line.strip() for line in outcome.text.splitlines() if code in line]
        self._note(lines[0].removeprefix("error ").removeprefix("passed over: "))

    def _note(self, line: str) -> None:
        line = self.without_places(line)
        if line not in self.shown:
            self.shown.append(line)

    def without_places(self, text: str) -> str:
        """Return text without the names of folders of this machine."""
        for path, name in ((self.folder, "PLACE"), (self.shared, "SHARED")):
            text = text.replace(str(path), name)
        text = re.sub(r"process \d+ on \S+", "process N on HOST", text)
        return re.sub(r"/tmp/[^\s'\"]*/", "PLACE/", text)  # noqa: S108 - whatever is left of them

    # What is kept

    @contextlib.contextmanager
    def nothing_written(self, *folders: Path) -> Iterator[None]:
        """Check L0: what is in the place is the same afterwards, byte for byte."""
        looked_at = folders or (self.folder,)
        before = [contents(each) for each in looked_at]
        yield
        assert [contents(each) for each in looked_at] == before
        self.kept.add("L0")

    def expect_checkpoint(self, run: Path, step: int) -> None:
        """Check L1: the newest checkpoint that verifies is that of a step, with its log."""
        newest, _ = checkpoint.latest(run / "checkpoints")
        assert newest is not None
        assert newest.step == step
        assert newest.state()
        length = newest.record["log_bytes"]
        assert newest.log is not None
        assert len(newest.log) == length
        if step > 1:
            assert (run / "log.jsonl").read_bytes()[:length] == newest.log
        self.kept.add("L1")

    @contextlib.contextmanager
    def finished_kept(self, *outputs: Path) -> Iterator[None]:
        """Check L2: outputs that were finished are the same afterwards."""
        before = [each.read_bytes() for each in outputs]
        yield
        assert [each.read_bytes() for each in outputs] == before
        self.kept.add("L2")

    def expect_equal_runs(self, run: Path, whole: Path) -> None:
        """Check L1: a run ended with the bytes of one that nothing has happened to."""
        for name in ("log.jsonl", "model/weights.safetensors", "evaluation/test.json"):
            assert (run / name).read_bytes() == (whole / name).read_bytes(), name
        assert not list(run.glob("checkpoints/*.tmp-*"))
        self.kept.add("L1")


def check_row(row: Row, folder: Path, shared: Path, backend: str) -> list[str]:
    """Check one row.

    Args:
        row: one of `ROWS`.
        folder: empty.
        shared: see `Place`.
        backend: name.

    Returns:
        The first lines of the messages it has led to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, backend, row, shared)
    row.check(place)
    if row.kept != "–":
        assert row.kept in place.kept, f"{row.id} has not looked at what is kept"
    assert place.shown or not row.codes, f"{row.id} has not looked at what is said"
    said = " ".join(place.shown)
    assert not [code for code in row.codes if code not in said], (row.codes, place.shown)
    return place.shown


def contents(folder: Path) -> dict[str, str | None]:
    """Return the SHA-256 of each file below a folder by its path; None for folders and others."""
    found: dict[str, str | None] = {}
    for root, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(root, name)  # noqa: PTH118 - names may be no text
            plain = os.path.isfile(path) and not os.path.islink(path)  # noqa: PTH113, PTH114
            key = os.fsdecode(os.path.relpath(path, os.fsencode(folder)))
            if plain and key.rpartition("/")[2] != ".lock":
                with open(path, "rb") as file:  # noqa: PTH123
                    found[key] = hashlib.file_digest(file, "sha256").hexdigest()
            elif not plain:
                found[key] = None
    return found


def _in_this_process(words: list[str], folder: Path) -> Outcome:
    streams = io.StringIO(), io.StringIO()
    kept = sys.argv, {number: signal.getsignal(number) for number in STOP_SIGNALS}
    code, begun = 0, time.perf_counter()
    try:
        sys.argv = ["terrazzo", *words]
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
        ):
            main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        code = 1
        streams[1].write(traceback.format_exc())
    finally:
        sys.argv = kept[0]
        for number, handler in kept[1].items():
            signal.signal(number, handler)
    out, err = (stream.getvalue() for stream in streams)
    return Outcome(code, out, err, time.perf_counter() - begun)
