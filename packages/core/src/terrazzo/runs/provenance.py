"""What a run records of itself: versions, hardware, data, the command that made it."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from terrazzo.base.recipe import Config, TrainingConfig
from terrazzo.data.datasets import Split
from terrazzo.data.sample import Bands
from terrazzo.models.contract import Backend, Trainer


def describe_run(
    recipe: Config,
    training: TrainingConfig,
    backend: Backend,
    trainer: Trainer,
    splits: dict[str, Split],
    bands: Bands,
) -> dict[str, Any]:
    """Say all that is needed to understand or repeat this run."""
    return {
        "terrazzo": importlib.metadata.version("terrazzo"),
        "backend": recipe.backend,
        "model": recipe.model.name,
        "num_parameters": trainer.num_parameters,
        "pretrained": list(trainer.remarks),
        "device": trainer.device,
        "precision": training.precision,
        "processes": trainer.world.size,
        "versions": {"numpy": importlib.metadata.version("numpy"), **backend.versions()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "git_commit": _git_commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "class_weights": training.loss.class_weights,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "data": {
            "format": recipe.data.format,
            "root": recipe.data.root,
            "label_map": splits["train"].label_map.name,
            "splits": {
                name: {
                    "images": len(split),
                    "fingerprint": _fingerprint(split),
                    "notes": list(split.source.notes),
                }
                for name, split in splits.items()
            },
        },
        "normalisation": {
            "bands": list(bands.names),
            "mean": list(bands.mean),
            "std": list(bands.std),
        },
    }


def _fingerprint(split: Split) -> str:
    """Hash names and file sizes: cheap, and enough to notice other data."""
    digest = hashlib.sha256()
    for index, name in enumerate(split.names):
        sizes = [path.stat().st_size for path in split.source.files(index)]
        digest.update(json.dumps([name, sizes]).encode())
    return digest.hexdigest()


def _git_commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    answer = subprocess.run(  # noqa: S603 - a fixed command
        [git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() if answer.returncode == 0 else None
