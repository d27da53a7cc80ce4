"""Runs in TensorBoard: event files in ``tensorboard/`` of the run folder."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from terrazzo.base.recipe import TrackingConfig
from terrazzo.runs.folder import RunFolder
from terrazzo.tracking.results import Results
from terrazzo.tracking.run_summary import Facts, Point


def make(settings: TrackingConfig, folder: RunFolder) -> TensorboardTracker:  # noqa: ARG001
    """Make the tracker; imports tensorboardX, writes nothing.

    Raises:
        ImportError: the package is missing.
    """
    return TensorboardTracker(folder, *_import())


class TensorboardTracker:
    """The event files of one run.

    Whoever opens the run anew writes a new file that begins by taking back all older ones: their
    last lines may be of steps that a resume has gone back behind.
    """

    def __init__(self, folder: RunFolder, writer: Any, events: Any, summary: Any) -> None:
        self._path = folder.path / "tensorboard"
        self._writer, self._events, self._summary = writer, events, summary
        self._file: Any = None
        self._last_step = 0

    def begin(self, facts: Facts) -> Mapping[str, int]:
        """Begin a file with settings and tags; nothing has arrived in it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        older = sorted(self._path.glob("events.out.tfevents.*"))
        self._path.mkdir(exist_ok=True)
        self._file = self._writer.EventsWriter(
            str(self._path / "events"), filename_suffix=f".{len(older)}"
        )
        if older:
            start = self._events.SessionLog.START
            self._write(session_log=self._events.SessionLog(status=start))
        for title, table in (("recipe", facts.settings), ("tags", facts.tags)):
            rows = "\n".join(f"| {key} | {_cell(value)} |" for key, value in table.items())
            self._write_text(title, f"| | |\n|---|---|\n{rows}")
        self._file.flush()
        return {}

    def send(self, points: Sequence[Point]) -> None:
        """Add values."""
        value = self._summary.Summary.Value
        for step, values in points:
            scalars = [value(tag=tag, simple_value=number) for tag, number in values.items()]
            self._write(step, summary=self._summary.Summary(value=scalars))
            self._last_step = step
        self._file.flush()

    def finish(self, status: str, results: Results | None) -> None:
        """Close the file; a finished run gets scores and figures."""
        if results is not None:
            for name, png in results.figures.items():
                self._write_image(f"figures/{name}", png)
            self._write_text("model", _cell(str(results.model)))
            self.send([results.scores])
        self._write_text("status", status)
        self._file.close()

    def _write_image(self, tag: str, png: bytes) -> None:
        summary = self._summary.Summary
        columns, rows = Image.open(io.BytesIO(png)).size
        image = summary.Image(height=rows, width=columns, colorspace=3, encoded_image_string=png)
        self._write(self._last_step, summary=summary(value=[summary.Value(tag=tag, image=image)]))

    def _write_text(self, tag: str, markdown: str) -> None:
        self._write(self._last_step, summary=self._summary.text(tag, markdown))

    def _write(self, step: int = 0, **what: Any) -> None:
        self._file.write_event(self._events.Event(wall_time=time.time(), step=step, **what))


def _cell(text: str) -> str:
    """Return text as code in a cell of a Markdown table."""
    return f"`{text.replace('|', chr(92) + '|').replace('`', chr(39))}`"


def _import() -> tuple[Any, Any, Any]:
    """Import what is needed of tensorboardX, and no torch.

    It would import torch only to know a tensor when it sees one; in a process of another framework
    that takes seconds and memory, and two frameworks do not belong in one process.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        from tensorboardX import event_file_writer, summary
        from tensorboardX.proto import event_pb2
    finally:
        if hidden:
            del sys.modules["torch"]
    return event_file_writer, event_pb2, summary
