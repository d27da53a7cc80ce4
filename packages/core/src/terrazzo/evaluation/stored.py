"""What the report takes from a run folder, as values.

Only the recipe and the label map must be there: a run may have been stopped at any time, and a
report may be made while it goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from terrazzo.base.config_parsing import read_toml
from terrazzo.base.json_files import damaged_file, read_json, read_json_lines, undamaged_json_lines
from terrazzo.base.recipe import Config
from terrazzo.data import labels
from terrazzo.data.labels import LabelMap
from terrazzo.evaluation import array_file, result, scene_overview
from terrazzo.evaluation.array_file import ArrayFile
from terrazzo.evaluation.extra_counts import ExtraCounts
from terrazzo.evaluation.scene_overview import SceneOverview
from terrazzo.runs.folder import RunFolder

_FORMER_KEYS = {"pictures": "images", "pooled_iou": "micro_iou"}
_IMAGE_ENDINGS = ("_image.png", "_picture.png")
"""Of the files of examples; the second one until version 0.1."""

SPLIT_ORDER = ("test", "val", "train")
"""The split whose score leads the report is the first of these that was scored."""


@dataclass(frozen=True)
class ExampleFiles:
    """The three PNG files of one image to look at.

    Attributes:
        name: one of the names of the evaluation; in folders of version 0.1 its last part, where
            several images share that.
    """

    name: str
    image: Path
    truth: Path
    prediction: Path


@dataclass(frozen=True)
class BatchFiles:
    """The two PNG files of one image of the first batch: after augmentation, and its labels."""

    image: Path
    labels: Path


@dataclass(frozen=True)
class Scored:
    """One evaluation.

    Attributes:
        summary: what ``<split>.json`` holds, see `terrazzo.evaluation.result.summary`.
        names: N image names; empty where the counts of each image are not there.
        counts_NKK: int64 confusion counts an image, rows truth, columns prediction.
        ignored_N: int64 ignored pixels an image.
        examples: in the order of their files.
        extra: what else was counted.
        maps: of scenes.
    """

    summary: dict[str, Any]
    names: tuple[str, ...]
    counts_NKK: NDArray[np.int64]
    ignored_N: NDArray[np.int64]
    examples: tuple[ExampleFiles, ...]
    extra: ExtraCounts
    maps: tuple[SceneOverview, ...]


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        name: of the run folder.
        config_text: ``config.toml`` as written.
        config: the same, parsed.
        run: ``run.json``; empty if there is none.
        log: the objects of ``log.jsonl``.
        timing: the objects of ``timing.jsonl``.
        label_map: of the run.
        scored: the evaluations, the leading one first.
        first_batch: of the training; empty in runs of version 0.1.
    """

    name: str
    config_text: str
    config: Config
    run: dict[str, Any]
    log: tuple[dict[str, Any], ...]
    timing: tuple[dict[str, Any], ...]
    label_map: LabelMap
    scored: tuple[Scored, ...]
    first_batch: tuple[BatchFiles, ...] = ()


def read(folder: RunFolder) -> Record:
    """Read a run folder.

    Raises:
        CheckpointError: SEG-C001 this is no run folder; SEG-C014 a file in it cannot be read.
        ConfigError: ``config.toml`` or ``labels.toml`` is missing or wrong.
    """
    recipe = folder.read_config()
    return Record(
        folder.path.absolute().name,
        config_text=folder.config.read_text(encoding="utf-8"),
        config=recipe,
        run=_with_present_names(read_json(folder.record)),
        log=_lines(folder.log),
        timing=tuple(undamaged_json_lines(folder.timing)),
        label_map=labels.from_toml(read_toml(folder.labels), where=folder.labels),
        scored=tuple(_read_scored(path) for path in _summaries(folder.evaluation)),
        first_batch=tuple(
            BatchFiles(path, path.with_name(path.name.replace("_image", "_labels")))
            for path in sorted(folder.first_batch.glob("*_image.png"))
        ),
    )


def column(log: Sequence[Mapping[str, Any]], kind: str, key: str) -> tuple[list[int], list[float]]:
    """Return steps and values of the lines of one kind; NaN where a value is not defined."""
    entries = [entry for entry in log if entry["kind"] == kind]
    given = [entry.get(key) for entry in entries]  # older versions wrote fewer keys
    values = [math.nan if value is None else float(value) for value in given]
    return [entry["step"] for entry in entries], values


def _summaries(folder: Path) -> list[Path]:
    def rank(path: Path) -> tuple[int, str]:
        known = path.stem in SPLIT_ORDER
        return (SPLIT_ORDER.index(path.stem) if known else len(SPLIT_ORDER), path.stem)

    return sorted(folder.glob("*.json"), key=rank)


class _Beside(pydantic.BaseModel):
    """See `terrazzo.evaluation.paired.PairedDifference`."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    split: str
    mean_iou: float | None
    difference: float | None
    low: float | None
    high: float | None
    level: float
    images: int


class _Summary(pydantic.BaseModel):
    """What every ``<split>.json`` must hold, with its types; it may hold more."""

    model_config = pydantic.ConfigDict(extra="ignore", strict=True)

    split: str
    step: int
    images: int
    pixels_counted: int
    pixels_ignored: int
    definition: str
    label_map: str
    classes: list[str]
    scores: dict[str, float | None]
    per_class: dict[str, list[float | None]]
    counts: list[list[int]]
    calibration: dict[str, Any] | None = None
    boundary: dict[str, Any] | None = None
    instances: dict[str, Any] | None = None
    prediction: dict[str, Any] = {}
    prediction_definition: str = ""
    beside: _Beside | None = None

    @pydantic.model_validator(mode="after")
    def _one_value_a_class(self) -> _Summary:
        num_classes = len(self.classes)
        lengths = {"counts": len(self.counts)}
        lengths |= {f"per_class.{name}": len(values) for name, values in self.per_class.items()}
        for name, length in lengths.items():
            if length != num_classes:
                msg = f"{name} has {length} entries for {num_classes} classes"
                raise ValueError(msg)
        if any(len(row) != num_classes for row in self.counts):
            msg = f"counts has rows of other lengths than {num_classes}"
            raise ValueError(msg)
        return self


def _require_summary(summary: dict[str, Any], path: Path) -> None:
    try:
        _Summary.model_validate(summary)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        raise damaged_file(
            path,
            f"{key}: {problem['msg']}" if key else problem["msg"],
            "scores as `terrazzo evaluate` writes them",
            "score the split again with `terrazzo evaluate`",
        ) from None


def _read_scored(path: Path) -> Scored:
    summary = _with_present_names(read_json(path))
    _require_summary(summary, path)
    num_classes = len(summary["classes"])
    names: tuple[str, ...] = ()
    counts_NKK = np.zeros((0, num_classes, num_classes), dtype=np.int64)
    ignored_N = np.zeros(0, dtype=np.int64)
    extra = ExtraCounts()
    counts_file = path.with_suffix(".safetensors")
    if counts_file.is_file():
        stored = array_file.read(counts_file)
        counts_NKK, ignored_N = result.counts_in(stored)
        if counts_NKK.shape[1:] != (num_classes, num_classes):
            observed = f"array 'counts' of shape {counts_NKK.shape}"
            raise stored.refused(observed, f"counts of {num_classes} classes, as in {path.name}")
        names = _names(stored, len(counts_NKK))
        extra = result.extra_in(stored)
    examples = _examples(path.with_name(f"{path.stem}_examples"), names)
    maps = scene_overview.read(result.overviews_file(path.parent, path.stem))
    return Scored(summary, names, counts_NKK, ignored_N, examples, extra, maps)


def _names(stored: ArrayFile, count: int) -> tuple[str, ...]:
    names = stored.metadata.get("names")
    if (
        not isinstance(names, list)
        or len(names) != count
        or any(not isinstance(name, str) for name in names)
    ):
        raise stored.refused("metadata 'names' are no names", f"the names of {count} images")
    return tuple(names)


def _examples(folder: Path, names: Sequence[str]) -> tuple[ExampleFiles, ...]:
    found = {
        path.name.removesuffix(ending): path
        for ending in _IMAGE_ENDINGS
        for path in folder.glob(f"*{ending}")
    }
    index = folder / result.EXAMPLE_NAMES
    known = read_json(index) if index.is_file() else _guessed_names(found, names)
    return tuple(
        ExampleFiles(
            name=known[stem],
            image=image,
            truth=folder / f"{stem}_truth.png",
            prediction=folder / f"{stem}_prediction.png",
        )
        for stem, image in sorted(found.items())
        if stem in known
    )


def _guessed_names(stems: Iterable[str], names: Sequence[str]) -> dict[str, str]:
    """Name examples that were stored without their names, in version 0.1.

    Only the last part of a name is in the file names. Where several images share it, it stays as it
    is; where none has it, the example is left from an earlier evaluation and is not shown.
    """
    by_last_part: dict[str, list[str]] = {}
    for name in names:
        by_last_part.setdefault(Path(name).name, []).append(name)
    guessed = {}
    for stem in stems:
        last_part = stem.partition("_")[2]
        candidates = by_last_part.get(last_part, [])
        if candidates or not names:
            guessed[stem] = candidates[0] if len(candidates) == 1 else last_part
    return guessed


def _with_present_names(stored: Any) -> Any:
    """Give keys that older versions wrote the names they have now, at any depth."""
    if isinstance(stored, dict):
        return {_FORMER_KEYS.get(k, k): _with_present_names(v) for k, v in stored.items()}
    return [_with_present_names(each) for each in stored] if isinstance(stored, list) else stored


def _lines(path: Path) -> tuple[dict[str, Any], ...]:
    return tuple(line for line, _ in read_json_lines(path))
