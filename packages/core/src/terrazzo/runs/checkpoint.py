"""Checkpoints: complete or invisible, verified on the way in, free of pickle.

A checkpoint is a folder ``step-000123/`` with weights, optimiser arrays, a JSON record and, written
last, a manifest of sizes and SHA-256 sums. It is built under a temporary name, flushed to disk and
renamed. The latest checkpoint is the one of the highest step whose manifest verifies; there is no
pointer that could go stale.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import flush_file, flush_folder
from terrazzo.base.disk_errors import unreadable, writing
from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import json_object, write_json
from terrazzo.io import named_arrays
from terrazzo.models.contract import State
from terrazzo.runs import manifest

_KIND = manifest.Kind(
    "the checkpoint", "an older checkpoint is used where there is one; check the disk"
)
_RECORD = "record.json"
_LOG = "log.jsonl"
_PARTS = ("weights", "optimizer")


@dataclass(frozen=True)
class Checkpoint:
    """One complete checkpoint on disk.

    Attributes:
        folder: where it lies.
        step: optimiser steps done.
        record: what the engine needs to go on: scores so far, length of the log.
    """

    folder: Path
    step: int
    record: dict[str, Any]

    def state(self) -> State:
        """Read all arrays."""
        return {k: v for part in _PARTS for k, v in _read_arrays(self.folder, part).items()}

    def weights(self) -> State:
        """Read the arrays that prediction needs."""
        return _read_arrays(self.folder, "weights")

    @property
    def log(self) -> bytes | None:
        """The log of the run up to here; None in checkpoints of version 0.1's first months."""
        path = self.folder / _LOG
        return path.read_bytes() if path.is_file() else None


def write(
    folder: Path,
    step: int,
    state: Mapping[str, NDArray[np.generic]],
    record: Mapping[str, Any],
    log: bytes | None = None,
) -> Checkpoint:
    """Write one checkpoint below `folder`; it appears complete or not at all.

    Args:
        folder: of all checkpoints.
        step: optimiser steps done.
        state: arrays of the trainer.
        record: what the engine needs to go on.
        log: of the run so far, which a power cut may shorten in its own place.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses; older checkpoints are untouched.
    """
    final = folder / _name(step)
    temporary = folder / f"{final.name}.tmp-{os.getpid()}"
    needed = sum(array.nbytes for array in state.values())
    try:
        with writing(
            final,
            problem="the checkpoint could not be written; older checkpoints are untouched",
            needed_bytes=needed,
            then="then go on with --resume",
        ):
            temporary.mkdir(parents=True)
            _fill(temporary, step, state, record, log)
            if final.exists():  # a resumed run repeats a step whose checkpoint was found damaged
                shutil.rmtree(final)
            temporary.rename(final)
            flush_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Checkpoint(final, step, dict(record))


def _fill(
    folder: Path,
    step: int,
    state: Mapping[str, NDArray[np.generic]],
    record: Mapping[str, Any],
    log: bytes | None,
) -> None:
    """Write the files of a checkpoint, the manifest last, and bring them to the disk."""
    for part in _PARTS:
        arrays = {k: v for k, v in state.items() if k.startswith(f"{part}/")}
        write_arrays(folder / f"{part}.safetensors", arrays)
    write_json(folder / _RECORD, record)
    if log is not None:
        (folder / _LOG).write_bytes(log)
        flush_file(folder / _LOG)
    manifest.write(folder, step)


def found(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint folder, verified or not, in rising order."""
    names = [p.name for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(int(name.removeprefix("step-")) for name in names)


def read(folder: Path, step: int) -> Checkpoint:
    """Open one checkpoint and verify every byte of it.

    Raises:
        CheckpointError: SEG-C006 a file is missing or differs from the manifest; SEG-C007 a newer
            format.
        ResourceError: SEG-R030, a file is there and cannot be read.
    """
    place = folder / _name(step)
    listed = manifest.read(place, _KIND)
    if listed is None:
        raise manifest.damaged(_KIND, place, "no MANIFEST.json", "a complete manifest")
    listed.verify()
    path = place / _RECORD
    try:
        record = json_object(listed.verified(_RECORD, path.read_bytes()))
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise manifest.damaged(_KIND, path, error, "a JSON object") from error
    return Checkpoint(place, step, record)


def latest(
    folder: Path, fits: Callable[[Checkpoint], bool] = lambda _: True
) -> tuple[Checkpoint | None, list[CheckpointError]]:
    """Return the newest checkpoint that verifies, and why newer ones were passed over.

    Args:
        folder: of all checkpoints.
        fits: whether what else belongs to a checkpoint is there: the log up to it.
    """
    passed_over: list[CheckpointError] = []
    for step in reversed(found(folder)):
        try:
            checkpoint = read(folder, step)
        except CheckpointError as error:
            if error.code == "SEG-C007":
                raise
            passed_over.append(error)
            continue
        if fits(checkpoint):
            return checkpoint, passed_over
        passed_over.append(
            CheckpointError(
                "SEG-C006",
                "the log of the run does not reach this checkpoint undamaged",
                file=checkpoint.folder,
                observed="a log that was cut short, as by a power cut, or changed",
                allowed=f"its first {checkpoint.record['log_bytes']} bytes as they were written",
                next_step="training goes on from before; it comes to the same weights and log",
            )
        )
    return None, passed_over


def sweep(folder: Path, *, keep: int, also: int | None) -> None:
    """Delete all but the `keep` newest checkpoints and the one of step `also`; and leftovers."""
    steps = found(folder)
    for step in steps[:-keep]:
        if step != also:
            shutil.rmtree(folder / _name(step), ignore_errors=True)
    clear_leftovers(folder)


def clear_leftovers(folder: Path) -> None:
    """Delete what a save that was killed has left behind."""
    for leftover in folder.glob("step-*.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write named arrays as safetensors and flush them to the disk."""
    named_arrays.write(path, arrays)
    flush_file(path)


def _read_arrays(folder: Path, part: str) -> State:
    return named_arrays.read(folder / f"{part}.safetensors")


def _name(step: int) -> str:
    return f"step-{step:06d}"
