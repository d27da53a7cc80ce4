"""What the report takes from a run folder, as values.

Only the recipe and the label map must be there: a run may have been stopped at any time, and a
report may be made while it goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from terrazzo import config, evaluation, labels, scene_map
from terrazzo.config import Config
from terrazzo.errors import CheckpointError
from terrazzo.further_counts import Further
from terrazzo.labels import LabelMap
from terrazzo.runs import RunFolder
from terrazzo.scene_map import SceneMap

SPLIT_ORDER = ("test", "val", "train")
"""The split whose score leads the report is the first of these that was scored."""


@dataclass(frozen=True)
class ExampleFiles:
    """The three PNG files of one picture to look at; `name` as it is in their file names."""

    name: str
    picture: Path
    truth: Path
    prediction: Path


@dataclass(frozen=True)
class Scored:
    """One evaluation.

    Attributes:
        summary: what ``<split>.json`` holds, see `terrazzo.evaluation.summary`.
        names: N picture names; empty where the counts of each picture are not there.
        counts_NKK: int64 confusion counts a picture, rows truth, columns prediction.
        ignored_N: int64 ignored pixels a picture.
        examples: in the order of their files.
        further: what else was counted.
        maps: of scenes.
    """

    summary: dict[str, Any]
    names: tuple[str, ...]
    counts_NKK: NDArray[np.int64]
    ignored_N: NDArray[np.int64]
    examples: tuple[ExampleFiles, ...]
    further: Further
    maps: tuple[SceneMap, ...]


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        config_text: ``config.toml`` as written.
        config: the same, parsed.
        run: ``run.json``; empty if there is none.
        log: the objects of ``log.jsonl``.
        timing: the objects of ``timing.jsonl``.
        label_map: of the run.
        scored: the evaluations, the leading one first.
    """

    config_text: str
    config: Config
    run: dict[str, Any]
    log: tuple[dict[str, Any], ...]
    timing: tuple[dict[str, Any], ...]
    label_map: LabelMap
    scored: tuple[Scored, ...]


def read(folder: RunFolder) -> Record:
    """Read a run folder.

    Raises:
        CheckpointError: SEG-C001 this is no run folder; SEG-C014 a file in it cannot be read.
        ConfigError: ``config.toml`` or ``labels.toml`` is missing or wrong.
    """
    recipe = folder.read_config()
    return Record(
        config_text=folder.config.read_text(encoding="utf-8"),
        config=recipe,
        run=_read_json(folder.record) if folder.record.is_file() else {},
        log=_read_lines(folder.log),
        timing=_read_lines(folder.timing),
        label_map=labels.from_toml(config.read_toml(folder.labels), where=folder.labels),
        scored=tuple(_read_scored(path) for path in _summaries(folder.evaluation)),
    )


def column(log: Sequence[Mapping[str, Any]], kind: str, key: str) -> tuple[list[int], list[float]]:
    """Return steps and values of the lines of one kind; NaN where a value is not defined."""
    entries = [entry for entry in log if entry["kind"] == kind]
    values = [math.nan if entry[key] is None else float(entry[key]) for entry in entries]
    return [entry["step"] for entry in entries], values


def _summaries(folder: Path) -> list[Path]:
    def rank(path: Path) -> tuple[int, str]:
        known = path.stem in SPLIT_ORDER
        return (SPLIT_ORDER.index(path.stem) if known else len(SPLIT_ORDER), path.stem)

    return sorted(folder.glob("*.json"), key=rank)


def _read_scored(path: Path) -> Scored:
    summary = _read_json(path)
    num_classes = len(summary["classes"])
    names: tuple[str, ...] = ()
    counts_NKK = np.zeros((0, num_classes, num_classes), dtype=np.int64)
    ignored_N = np.zeros(0, dtype=np.int64)
    further = Further()
    counts_file = path.with_suffix(".safetensors")
    if counts_file.is_file():
        counts_NKK, ignored_N = evaluation.read_counts(path.parent, path.stem)
        further = evaluation.read_further(path.parent, path.stem)
        with safe_open(counts_file, framework="numpy") as file:
            names = tuple(json.loads(file.metadata()["names"]))
    examples = _examples(path.with_name(f"{path.stem}_examples"))
    maps = scene_map.read(evaluation.maps_file(path.parent, path.stem))
    return Scored(summary, names, counts_NKK, ignored_N, examples, further, maps)


def _examples(folder: Path) -> tuple[ExampleFiles, ...]:
    ending = "_picture.png"
    stems = sorted(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}"))
    return tuple(
        ExampleFiles(
            name=stem.partition("_")[2],
            picture=folder / f"{stem}{ending}",
            truth=folder / f"{stem}_truth.png",
            prediction=folder / f"{stem}_prediction.png",
        )
        for stem in stems
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _unreadable(path, error) from None
    return values


def _read_lines(path: Path) -> tuple[dict[str, Any], ...]:
    if not path.is_file():
        return ()
    # A line without its end is being written now, or was when the run was killed.
    lines = path.read_bytes().split(b"\n")[:-1]
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            raise _unreadable(path, f"line {number}: {error}") from None
    return tuple(values)


def _unreadable(path: Path, observed: object) -> CheckpointError:
    return CheckpointError(
        "SEG-C014",
        "a file of the run folder cannot be read",
        file=path,
        observed=observed,
        allowed="JSON in UTF-8",
        next_step="move the file away to have the report without it",
    )
