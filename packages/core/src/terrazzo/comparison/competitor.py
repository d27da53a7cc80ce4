"""One run of a comparison, as read from its folder."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base import config_parsing
from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import read_json
from terrazzo.evaluation import stored
from terrazzo.evaluation.stored import Record, Scored
from terrazzo.runs import timing
from terrazzo.runs.folder import RunFolder


@dataclass(frozen=True)
class Competitor:
    """One run of the comparison.

    Attributes:
        folder: of the run.
        name: name of its folder; unique in the comparison.
        record: contents of the run folder.
        scored: evaluation of the run on the split.
        settings: the resolved recipe, by dotted key.
    """

    folder: RunFolder
    name: str
    record: Record
    scored: Scored
    settings: dict[str, Any]

    @property
    def counts_KK(self) -> NDArray[np.int64]:  # noqa: N802 - a shape suffix
        """Confusion matrix of the split, in pixels: rows ground truth, columns prediction."""
        counts_KK: NDArray[np.int64] = self.scored.counts_NKK.sum(axis=0)
        return counts_KK

    @property
    def training_seconds(self) -> float | None:
        """Time of training, see `timing.training_seconds`; None where it is not known."""
        return timing.training_seconds(self.record.timing)

    @property
    def steps_per_second(self) -> float | None:
        """Median of the logged training speeds; None where it is not known."""
        rates = [e["steps_per_second"] for e in self.record.timing if "steps_per_second" in e]
        return median(rates) if rates else None

    @property
    def measured_speed(self) -> dict[str, Any]:
        """What `terrazzo speed` has kept; empty where it was not asked.

        Raises:
            CheckpointError: SEG-C014, the file is damaged.
        """
        return read_json(self.folder.speed)

    @property
    def milliseconds_an_image(self) -> float | None:
        """Time of prediction by `measured_speed`, shared among the images of a call."""
        found = self.measured_speed
        return found["milliseconds"] / found["batch_size"] if found else None

    @property
    def peak_memory(self) -> int | None:
        """Largest memory use of a training process in bytes; None where it is not known."""
        peaks = [entry.get("peak_memory_bytes", 0) for entry in self.record.timing]
        return max(peaks, default=0) or None


def read(path: Path, name: str, split: str) -> Competitor:
    """Read a run folder and its scores on the split.

    Raises:
        CheckpointError: SEG-C001, SEG-C014 no run folder or unreadable; SEG-C040 not scored.
    """
    found = stored.read(RunFolder(path))
    for scored in found.scored:
        if scored.summary["split"] == split and scored.names:
            settings = config_parsing.flatten(tomllib.loads(found.config_text))
            settings = {k: v for k, v in settings.items() if not k.startswith("tracking.")}
            return Competitor(RunFolder(path), name, found, scored, settings)
    raise CheckpointError(
        "SEG-C040",
        "this run has not been scored on the split",
        file=path,
        observed=", ".join(scored.summary["split"] for scored in found.scored) or "no scores",
        allowed=split,
        next_step=f"terrazzo evaluate {path} --split {split}",
    )
