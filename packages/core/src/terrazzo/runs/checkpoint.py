"""Checkpoints: complete or invisible, verified on the way in, free of pickle.

A checkpoint is a folder ``step-000123/`` with weights, optimiser arrays, a JSON record and, written
last, a manifest of sizes and SHA-256 sums. It is built under a temporary name, flushed to disk and
renamed. The latest checkpoint is the one of the highest step whose manifest verifies; there is no
pointer that could go stale.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from terrazzo.base.atomic_write import flush_file, flush_folder, write_json, writing
from terrazzo.base.errors import CheckpointError
from terrazzo.models.contract import State

FORMAT = 1
_MANIFEST = "MANIFEST.json"
_RECORD = "record.json"
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


def write(
    folder: Path, step: int, state: Mapping[str, NDArray[np.generic]], record: Mapping[str, Any]
) -> Checkpoint:
    """Write one checkpoint below `folder`; it appears complete or not at all.

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
            _fill(temporary, step, state, record)
            if final.exists():  # a resumed run repeats a step whose checkpoint was found damaged
                shutil.rmtree(final)
            temporary.rename(final)
            flush_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Checkpoint(final, step, dict(record))


def _fill(
    folder: Path, step: int, state: Mapping[str, NDArray[np.generic]], record: Mapping[str, Any]
) -> None:
    """Write the files of a checkpoint, the manifest last, and bring them to the disk."""
    for part in _PARTS:
        arrays = {k: v for k, v in state.items() if k.startswith(f"{part}/")}
        write_arrays(folder / f"{part}.safetensors", arrays)
    write_json(folder / _RECORD, record)
    names = sorted(path.name for path in folder.iterdir())
    files = {name: _fingerprint(folder / name) for name in names}
    manifest = {"format": FORMAT, "step": step, "files": files}
    write_json(folder / _MANIFEST, manifest)
    flush_folder(folder)


def found(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint folder, verified or not, in rising order."""
    names = [p.name for p in folder.glob("step-*") if p.name.removeprefix("step-").isdigit()]
    return sorted(int(name.removeprefix("step-")) for name in names)


def read(folder: Path, step: int) -> Checkpoint:
    """Open one checkpoint and verify every byte of it.

    Raises:
        CheckpointError: SEG-C006 a file is missing or differs from the manifest; SEG-C007 a newer
            format.
    """
    place = folder / _name(step)
    try:
        manifest = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] > FORMAT:
            raise CheckpointError(
                "SEG-C007",
                "the checkpoint was written by a newer Terrazzo",
                file=place,
                observed=f"format {manifest['format']}",
                allowed=f"format up to {FORMAT}",
                next_step="upgrade terrazzo",
            )
        for name, expected in manifest["files"].items():
            if (observed := _fingerprint(place / name)) != expected:
                raise _damaged(place / name, observed, expected)
        record = json.loads((place / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(place, f"{type(error).__name__}: {error}", "a complete manifest") from error
    return Checkpoint(place, step, record)


def latest(folder: Path) -> tuple[Checkpoint | None, list[CheckpointError]]:
    """Return the newest checkpoint that verifies, and why newer ones were passed over."""
    passed_over: list[CheckpointError] = []
    for step in reversed(found(folder)):
        try:
            return read(folder, step), passed_over
        except CheckpointError as error:
            if error.code == "SEG-C007":
                raise
            passed_over.append(error)
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
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    flush_file(path)


def _read_arrays(folder: Path, part: str) -> State:
    return dict(load_file(folder / f"{part}.safetensors"))


def _name(step: int) -> str:
    return f"step-{step:06d}"


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def _damaged(path: Path, observed: object, expected: object) -> CheckpointError:
    return CheckpointError(
        "SEG-C006",
        "the checkpoint is damaged",
        file=path,
        observed=observed,
        allowed=expected,
        next_step="an older checkpoint is used where there is one; check the disk",
    )
