"""What a tracker is told of a run: names, settings, scores. Everything comes from the folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terrazzo.base.config_parsing import read_toml
from terrazzo.base.json_files import read_json
from terrazzo.data import labels
from terrazzo.evaluation.result import PER_CLASS
from terrazzo.runs.folder import RunFolder, deciding_settings

Point = tuple[int, dict[str, float]]
"""A step, and finite values by name."""

MARKERS = {"train": "train/loss", "validation": "val/mean_iou", "test": "test/mean_iou"}
"""The value by which a tracker knows that a line of the log of this kind has arrived."""


@dataclass(frozen=True)
class Facts:
    """One run.

    Attributes:
        folder: the run folder.
        name: of the run.
        settings: the recipe that decides it, by dotted key.
        tags: what it was made with.
        classes: K names that are fit for keys and differ.
    """

    folder: RunFolder
    name: str
    settings: dict[str, str]
    tags: dict[str, str]
    classes: tuple[str, ...]


def read(folder: RunFolder) -> Facts:
    """Read the facts of a run folder, whose ``run.json`` must be there."""
    recipe = folder.read_config()
    record = read_json(folder.record)
    settings = deciding_settings(recipe)
    label_map = labels.from_toml(read_toml(folder.labels), where=folder.labels)
    tags = {
        "terrazzo.version": record["terrazzo"],
        "terrazzo.git_commit": record["git_commit"],
        "terrazzo.recipe_digest": digest(settings),
        "terrazzo.backend": record["backend"],
        "terrazzo.model": record["model"],
        "terrazzo.device": record["device"],
        "terrazzo.parameters": record["num_parameters"],
        "terrazzo.run_folder": folder.path.resolve(),
        "terrazzo.command": record["command"],
    }
    return Facts(
        folder=folder,
        name=recipe.name or folder.path.name,
        settings={key: str(value) for key, value in settings.items()},
        tags={key: str(value) for key, value in tags.items() if value is not None},
        classes=class_keys(label_map.names),
    )


def digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings: the same for runs that were asked to do the same."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def class_keys(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of letters, digits, ``_``, ``-`` and blanks; two that fall together get ids."""
    keys = [re.sub(r"[^\w -]", "_", name, flags=re.ASCII).strip() or "_" for name in names]
    return tuple(
        key if keys.count(key) == 1 else f"{key} {train_id}" for train_id, key in enumerate(keys)
    )


_OF_VALIDATION = ("cross_entropy", "ignored_share", "train_cross_entropy", "train_mean_iou")
"""What older runs have not; beside the scores."""


def of_line(line: Mapping[str, Any], classes: Sequence[str]) -> Point:
    """Return what a line of ``log.jsonl`` says; a class that is absent is left out."""
    values: dict[str, Any]
    if line["kind"] == "train":
        values = {
            "train/learning_rate": line["learning_rate"],
            "train/epoch": line["epoch"],
            "train/ignored_share": line.get("ignored_share"),  # older runs have none
            "train/gradient_norm": line.get("gradient_norm"),
            "train/loss": line["loss"],
        }
    else:
        iou = zip(classes, line.get("iou", ()), strict=False)
        values = {f"val/iou/{name}": value for name, value in iou}
        values |= {f"val/{name}": line.get(name) for name in _OF_VALIDATION}
        values |= {f"val/{name}": line[name] for name in ("pixel_accuracy", "mean_iou")}
    return line["step"], _defined(values.items())


def of_evaluation(summary: Mapping[str, Any], classes: Sequence[str]) -> Point:
    """Return the scores of ``evaluation/<split>.json``; those that are not defined are left out."""
    split = summary["split"]
    values = {f"{split}/{name}": value for name, value in summary["scores"].items()}
    for score in PER_CLASS:
        found = zip(classes, summary["per_class"][score], strict=True)
        values |= {f"{split}/{score}/{name}": value for name, value in found}
    return summary["step"], _defined(values.items())


def _defined(values: Iterable[tuple[str, Any]]) -> dict[str, float]:
    return {name: float(value) for name, value in values if value is not None}
