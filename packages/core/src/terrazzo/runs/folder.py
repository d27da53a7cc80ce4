"""The run folder: what lies where, who may write, and what a finished run leaves behind.

runs/<name>/  config.toml   resolved recipe            labels.toml   label map in use
              run.json      versions, hardware, data   log.jsonl     losses and scores; no times
              timing.jsonl  seconds                    splits.json   names drawn for each split
              checkpoints/  see `checkpoint`
              model/        see `saved_model`          evaluation/   see `evaluation.result`
              report.html
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from terrazzo.base import config_parsing
from terrazzo.base.atomic_write import not_written, replace_text
from terrazzo.base.config_parsing import read_toml
from terrazzo.base.errors import CheckpointError, ResourceError
from terrazzo.base.file_lock import LOCK, locked
from terrazzo.base.recipe import Config
from terrazzo.data.labels import LabelMap

_FREE_TO_CHANGE = (
    "loader",
    "name",
    "tracking",
    "evaluation",
    "checkpoint",
    "log.every_steps",
    "validation.batch_size",
)
"""Tables and keys of a recipe that change no weight and no score: a resume may differ in them."""
_LENGTH = {"training.epochs", "training.steps"}


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """Resolved recipe."""
        return self.path / "config.toml"

    @property
    def labels(self) -> Path:
        """Label map in use."""
        return self.path / "labels.toml"

    @property
    def record(self) -> Path:
        """Versions, hardware, data."""
        return self.path / "run.json"

    @property
    def splits(self) -> Path:
        """Names of each split, where they were drawn; see `terrazzo.data.datasets.keep_draw`."""
        return self.path / "splits.json"

    @property
    def log(self) -> Path:
        """Losses and scores; the same bytes for the same run, however often it was killed."""
        return self.path / "log.jsonl"

    @property
    def timing(self) -> Path:
        """Seconds, which differ from run to run."""
        return self.path / "timing.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """All that prediction needs."""
        return self.path / "model"

    @property
    def evaluation(self) -> Path:
        """Scores by split."""
        return self.path / "evaluation"

    def read_config(self) -> Config:
        """Read the resolved recipe.

        Raises:
            CheckpointError: SEG-C001, this is no run folder.
        """
        if not self.config.is_file():
            raise CheckpointError(
                "SEG-C001",
                "not a run folder",
                file=self.path,
                observed="no config.toml in it" if self.path.is_dir() else "no such folder",
                next_step="name a folder that `terrazzo run` made, such as runs/demo_torch",
            )
        return config_parsing.parse(Config, read_toml(self.config), where=self.config)


def create_run(path: Path, recipe: Config, label_map: LabelMap, *, overwrite: bool) -> RunFolder:
    """Make a new run folder with its recipe and label map in it.

    Raises:
        CheckpointError: as `refuse_occupied`.
        ResourceError: SEG-R005, the folder cannot be written.
    """
    folder = RunFolder(path)
    refuse_occupied(path, overwrite=overwrite)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _clear(path)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        replace_text(folder.labels, tomli_w.dumps(label_map.as_toml()))
        # Last, because `read_config` takes its presence for a run folder.
        replace_text(folder.config, tomli_w.dumps(_toml(recipe)))
    except ResourceError:
        folder.labels.unlink(missing_ok=True)  # alone it would be in the way of the next try
        raise
    return folder


def _clear(path: Path) -> None:
    """Delete what a run left, but for the lock that this process may hold."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def _holds_anything(path: Path) -> bool:
    return path.is_dir() and any(entry.name != LOCK for entry in path.iterdir())


def _not_writable(path: Path, error: OSError) -> ResourceError:
    return not_written(
        path if error.filename is None else Path(error.filename),
        error,
        problem="cannot write the run folder",
        then="--out DIR takes another place",
        code="SEG-R005",
    )


def refuse_occupied(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where a new run would destroy something; changes nothing.

    Raises:
        CheckpointError: SEG-C002, there is a run and `overwrite` is off; SEG-C003, there is
            something else.
    """
    try:
        if not _holds_anything(path):
            return  # a file in the way is found when the folder is made
    except OSError as error:
        raise _not_writable(path, error) from error
    if not overwrite:
        raise CheckpointError(
            "SEG-C002",
            "the run folder exists",
            file=path,
            next_step="--resume goes on with it, --overwrite deletes it, --out DIR takes "
            "another place",
        )
    if not RunFolder(path).config.is_file():
        raise CheckpointError(
            "SEG-C003",
            "--overwrite deletes run folders only, and this is none",
            file=path,
            observed="no config.toml in it",
            next_step="choose another place with --out DIR, or delete it yourself",
        )


def reopen_run(path: Path, recipe: Config) -> RunFolder:
    """Open a run folder to go on with it.

    Raises:
        CheckpointError: SEG-C001 no run folder; SEG-C011 the recipe has changed since.
    """
    folder = RunFolder(path)
    before, now = deciding_settings(folder.read_config()), deciding_settings(recipe)
    changed = {
        key: f"{key}: {before.get(key, '(unset)')} → {now.get(key, '(unset)')}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }
    if changed:
        next_step = "resume with the old settings, or start a new run with --out DIR"
        if changed.keys() <= _LENGTH:
            next_step = (
                "the learning rate of every step depends on the length; to train on, start a new "
                f'run with --out DIR and, in its recipe, [init] run = "{path}"'
            )
        raise CheckpointError(
            "SEG-C011",
            "the recipe differs from the one this run was started with",
            file=folder.config,
            observed="; ".join(changed.values()),
            next_step=next_step,
        )
    return folder


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes from the place of a run; make its folder if there is none.

    Where the work fails before a run is created, nothing is left behind.

    Raises:
        ResourceError: as `locked`.
    """
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        with locked(path):
            yield
    finally:
        if made and not _holds_anything(path):
            (path / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another process has come into one of them
                for folder in made:
                    folder.rmdir()


def deciding_settings(recipe: Config) -> dict[str, Any]:
    """Return what decides a run, by dotted key; not what changes only its speed or place."""
    return {
        key: value
        for key, value in config_parsing.flatten(_toml(recipe)).items()
        if key not in _FREE_TO_CHANGE and key.partition(".")[0] not in _FREE_TO_CHANGE
    }


def _toml(recipe: Config) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude_none=True)
