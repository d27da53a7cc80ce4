"""What a run records of itself: versions, hardware, data, the command that made it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terrazzo.base.recipe import Config, TrainingConfig
from terrazzo.data.datasets import Split
from terrazzo.data.sample import Bands
from terrazzo.models.contract import Backend, Trainer
from terrazzo.runs.data_fingerprint import differences


def describe_run(
    recipe: Config,
    training: TrainingConfig,
    backend: Backend,
    trainer: Trainer,
    splits: Mapping[str, Split],
    bands: Bands,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Say all that is needed to understand or repeat this run.

    Args:
        recipe: as it was asked for.
        training: with the class weights that a rule gave.
        backend: of the model.
        trainer: that was built.
        splits: of the data.
        bands: with their normalisation.
        data: see `data_fingerprint.fingerprint`.
    """
    return {
        **_describe_model(recipe, training, backend, trainer, bands),
        "class_weights": training.loss.class_weights,
        "data": {
            "format": recipe.data.format,
            "root": recipe.data.root,
            **data,
            "splits": {
                name: {**data["splits"][name], "notes": list(split.source.notes)}
                for name, split in splits.items()
            },
        },
    }


def describe_import(
    recipe: Config,
    backend: Backend,
    trainer: Trainer,
    bands: Bands,
    imported: Mapping[str, Any],
) -> dict[str, Any]:
    """Say of a run without training where its network is from.

    Args:
        recipe: of the run.
        backend: of the model.
        trainer: that holds it.
        bands: with their normalisation.
        imported: the source with its files and their sums, and what its classes were taken for.
    """
    return {
        **_describe_model(recipe, recipe.training, backend, trainer, bands),
        "imported": dict(imported),
    }


def _describe_model(
    recipe: Config,
    training: TrainingConfig,
    backend: Backend,
    trainer: Trainer,
    bands: Bands,
) -> dict[str, Any]:
    return {
        "terrazzo": importlib.metadata.version("terrazzo"),
        "backend": recipe.backend,
        "model": recipe.model.name,
        "num_parameters": trainer.num_parameters,
        "pretrained": list(trainer.remarks),
        "device": trainer.device,
        "precision": training.precision,
        "processes": trainer.world.size,
        "threads": trainer.threads,
        "versions": _versions(backend),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        **source_state(Path(__file__).parents[1]),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seed": recipe.seed,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "normalisation": {
            "bands": list(bands.names),
            "mean": list(bands.mean),
            "std": list(bands.std),
            **({"per_image": True} if bands.per_image else {}),
        },
    }


def note_resumption(
    record: Mapping[str, Any],
    backend: Backend,
    trainer: Trainer,
    data: Mapping[str, Any],
    *,
    step: int,
) -> tuple[dict[str, Any], list[str]]:
    """Return the record of a run that goes on, and what has changed since it began, in words.

    Args:
        record: ``run.json`` as it is.
        backend: of the model.
        trainer: that goes on.
        data: fingerprint of the data now.
        step: after which it goes on.
    """
    changed = differences(record.get("data", {}), data)
    before, now = record.get("versions", {}), _versions(backend)
    changed += [
        f"{package}: {before[package]} → {version}"
        for package, version in now.items()
        if before.get(package, version) != version
    ]
    changed += _other_arithmetic(record, trainer)
    if not changed:
        return dict(record), []
    resumed = [
        *record.get("resumed", []),
        {
            "after_step": step,
            "processes": trainer.world.size,
            "threads": trainer.threads,
            "changed": changed,
        },
    ]
    return {**record, "resumed": resumed}, changed


def last_used(record: Mapping[str, Any], name: str, default: int) -> int:
    """Return what a run went on with last, of what each resumption notes.

    Args:
        record: ``run.json``.
        name: ``processes`` or ``threads``.
        default: for a run of an earlier version, which does not say.
    """
    noted = [part[name] for part in (record, *record.get("resumed", [])) if name in part]
    return int(noted[-1]) if noted else default


def _other_arithmetic(record: Mapping[str, Any], trainer: Trainer) -> list[str]:
    """Say what rounds or shares sums otherwise than when the run began or was last resumed."""
    now = {"processes": trainer.world.size, "threads": trainer.threads}
    last = {name: last_used(record, name, value) for name, value in now.items()}
    changed = []
    if last["processes"] != now["processes"]:
        effect = trainer.depends_on_share or "the rounding of sums"
        changed.append(f"processes: {last['processes']} → {now['processes']}, by {effect}")
    if last["threads"] != now["threads"]:
        changed.append(
            f"threads of the framework: {last['threads']} → {now['threads']}; the bits are no "
            "longer those of an uninterrupted run"
        )
    return changed


def _versions(backend: Backend) -> dict[str, str]:
    return {"numpy": importlib.metadata.version("numpy"), **backend.versions()}


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
