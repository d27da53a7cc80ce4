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
        "processes": trainer.world.size,
        "versions": {"numpy": importlib.metadata.version("numpy"), **backend.versions()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        **source_state(Path(__file__).parents[1]),
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


def source_state(package: Path) -> dict[str, Any]:
    """Return the commit of a package's source, wherever the program was started.

    Args:
        package: folder of the package's own code.

    Returns:
        ``git_commit``, and ``git_dirty``: whether tracked files of that repository were changed or
        files added to the package since. Both None where the code is no part of a repository: an
        ordinary install, known by its version, even in an environment that lies in a repository.
    """
    is_tracked = _git(package, "ls-files", "--error-unmatch", "--", "__init__.py") is not None
    commit = _git(package, "rev-parse", "HEAD") if is_tracked else None
    if commit is None:
        return {"git_commit": None, "git_dirty": None}
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")
    added = _git(package, "ls-files", "--others", "--exclude-standard", "--", ".")
    return {"git_commit": commit, "git_dirty": bool(changed or added)}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints in a folder; None where there is no git or it refuses."""
    git = shutil.which("git")
    if git is None:
        return None
    answer = subprocess.run(  # noqa: S603 - fixed commands
        [git, "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() if answer.returncode == 0 else None
