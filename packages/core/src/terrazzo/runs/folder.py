"""The run folder: what lies where, who may write, and what a finished run leaves behind.

runs/<name>/  config.toml   resolved recipe            labels.toml   label map in use
              run.json      versions, hardware, data   log.jsonl     losses and scores; no times
              timing.jsonl  seconds                    splits.json   names drawn for each split
              checkpoints/  see `checkpoint`
              first_batch/  see `training.first_batch`
              model/        see `saved_model`          evaluation/   see `evaluation.result`
              report.html
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from terrazzo.base import config_parsing, disk_errors
from terrazzo.base.atomic_write import flush_file, flush_folder, replacing
from terrazzo.base.config_parsing import read_toml
from terrazzo.base.disk_errors import unreadable
from terrazzo.base.errors import CheckpointError, ConfigError, ResourceError, TerrazzoError
from terrazzo.base.file_lock import LOCK, locked, not_writable
from terrazzo.base.output_paths import is_inside
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.data.labels import LabelMap, load_label_map

_FREE_TO_CHANGE = (
    "loader",
    "name",
    "tracking",
    "evaluation",
    "checkpoint",
    "log.every_steps",
    "data.allow_outside",
    "validation.batch_size",
    "validation.train_images",
)
"""Tables and keys of a recipe that change no weight and no score: a resume may differ in them."""
_LENGTH = {"training.epochs", "training.steps", "training.passes"}

_CREATING = ".creating"
"""In a folder without ``config.toml``: `create_run` was killed there, and all in it may go."""
_BEGINNINGS = {"labels.toml", "splits.json", "run.json", "log.jsonl", "timing.jsonl"}
"""What a run that was killed before its recipe was there may have left, in earlier versions."""
_TEMPORARY = re.compile(r"\.[^/]+\.[0-9a-f]{32}(\.\w+)?")
"""Names of `replacing`."""


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
    def speed(self) -> Path:
        """What `terrazzo speed` measured, where it was asked."""
        return self.path / "speed.json"

    @property
    def checkpoints(self) -> Path:
        """One folder a checkpoint."""
        return self.path / "checkpoints"

    @property
    def first_batch(self) -> Path:
        """Images and labels of the first step, as the model saw them."""
        return self.path / "first_batch"

    @property
    def model(self) -> Path:
        """All that prediction needs."""
        return self.path / "model"

    @property
    def evaluation(self) -> Path:
        """Scores by split."""
        return self.path / "evaluation"

    @property
    def files(self) -> list[Path]:
        """Every file that a run has written here."""
        report = self.path / "report.html"
        single = (
            self.config,
            self.labels,
            self.record,
            self.splits,
            self.log,
            self.timing,
            self.speed,
            report,
        )
        folders = (self.first_batch, self.checkpoints, self.model, self.evaluation)
        found = [*single, *(path for folder in folders for path in folder.rglob("*"))]
        return [path for path in found if path.is_file()]

    def read_config(self) -> Config:
        """Read the resolved recipe.

        Raises:
            CheckpointError: SEG-C001, this is no run folder.
            ResourceError: SEG-R030, the folder cannot be looked into.
        """
        try:
            present = self.config.is_file()
        except PermissionError as error:
            raise unreadable(self.config, error) from error
        if not present:
            raise CheckpointError(
                "SEG-C001",
                "not a run folder",
                file=self.path,
                observed="no config.toml in it" if self.path.is_dir() else "no such folder",
                next_step=self._how_to_begin(),
            )
        values = with_limit_of_its_time(read_toml(self.config))
        return config_parsing.parse(Config, values, where=self.config)

    def _how_to_begin(self) -> str:
        """Say what helps where there is no recipe to go on with."""
        if (self.path / _CREATING).exists():
            return "the making of this run was interrupted: begin it again without --resume"
        if self.path.is_dir() and any(self.path.iterdir()) and _is_beginning(self.path):
            return "the making of this run was interrupted: begin it again with --overwrite"
        return "name a folder that `terrazzo run` made, such as runs/demo_torch"


def with_limit_of_its_time(values: dict[str, Any]) -> dict[str, Any]:
    """Give a recipe that a run or a study has kept the meaning that `data.limit` had then.

    Earlier versions took the first names, and wrote down no `limit_draw`.
    """
    data = values.get("data")
    if isinstance(data, dict) and data.get("limit"):
        data.setdefault("limit_draw", "first")
    return values


def with_kept_defaults(recipe: Config, kept: Path) -> Config:
    """Return a recipe whose unsaid settings mean what they meant when the run was begun.

    These are how `data.limit` draws images, and how images are normalised for pretrained weights.

    Args:
        recipe: that the run goes on with; what it says itself holds.
        kept: recipe in the folder of the run or study; may not be there.

    Raises:
        ConfigError: it is there and wrong.
    """
    unsaid = {"limit_draw", "normalize"} - recipe.data.model_fields_set
    if not recipe.data.limit:
        unsaid -= {"limit_draw"}
    if not unsaid or not kept.is_file():
        return recipe
    before = with_limit_of_its_time(read_toml(kept)).get("data", {})
    found = {key: before[key] for key in unsaid if isinstance(before, dict) and key in before}
    parsed = config_parsing.parse(DataConfig, {"format": "", "root": "", **found}, where=kept)
    data = recipe.data.model_copy(update={key: getattr(parsed, key) for key in found})
    return recipe.model_copy(update={"data": data})


def create_run(path: Path, recipe: Config, label_map: LabelMap, *, overwrite: bool) -> RunFolder:
    """Make a new run folder with its recipe and label map in it; the caller has `claimed` it.

    Wherever it is killed, the folder holds the former run or counts as empty.

    Raises:
        CheckpointError: as `refuse_occupied`.
        ResourceError: SEG-R004 or SEG-R005, the folder cannot be written.
    """
    folder = RunFolder(path)
    refuse_occupied(path, overwrite=overwrite)
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / _CREATING).touch()
        flush_folder(path)
        _clear(folder)
        _write_toml(folder.labels, label_map.as_toml())
        # Last, because its presence makes this a run folder.
        _write_toml(folder.config, _toml(recipe))
        (path / _CREATING).unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            _clear(folder)
            (path / _CREATING).unlink(missing_ok=True)
        if isinstance(error, ResourceError):
            raise
        raise _not_writable(path, error) from error
    return folder


def _write_toml(path: Path, values: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(tomli_w.dumps(values), encoding="utf-8")
        flush_file(temporary)


def _clear(folder: RunFolder) -> None:
    """Delete what a run left, its recipe first; but for the lock that this process may hold."""
    folder.config.unlink(missing_ok=True)
    for entry in folder.path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name not in (LOCK, _CREATING):
            entry.unlink()


def _sweep(folder: RunFolder) -> None:
    """Delete half-written files of processes that were killed; the caller holds the lock."""
    for place in (folder.path, folder.evaluation):
        for entry in place.iterdir() if place.is_dir() else ():
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file():
                entry.unlink(missing_ok=True)
    for entry in folder.path.glob("model.tmp-*"):
        shutil.rmtree(entry, ignore_errors=True)


def _holds_anything(path: Path) -> bool:
    """Tell whether there is something to lose; not in a folder whose making was interrupted."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return bool(names - {LOCK}) and not (_CREATING in names and "config.toml" not in names)


def _is_beginning(path: Path) -> bool:
    """Tell whether a folder without a recipe surely is what a run that was killed early left."""
    for entry in path.iterdir():
        if entry.name == "checkpoints" and entry.is_dir() and not any(entry.iterdir()):
            continue
        known = entry.name in (LOCK, _CREATING, *_BEGINNINGS) or _TEMPORARY.fullmatch(entry.name)
        if not known or not entry.is_file():
            return False
    labels = RunFolder(path).labels
    return not labels.exists() or _is_generated(labels)


def _is_generated(labels: Path) -> bool:
    """Tell whether a label map was written by a run: a person's own must not be deleted."""
    try:
        text = labels.read_text(encoding="utf-8")
        return text == tomli_w.dumps(load_label_map(labels).as_toml())
    except (OSError, ValueError, TerrazzoError):
        return False


def _not_writable(path: Path, error: OSError) -> ResourceError:
    return not_writable(path if error.filename is None else Path(error.filename), error)


def refuse_occupied(path: Path, *, overwrite: bool, resumable: bool = True) -> None:
    """Refuse a place where a new run would destroy something; changes nothing.

    Args:
        path: run folder.
        overwrite: a run that is there may go.
        resumable: the command could go on with a run that is there.

    Raises:
        CheckpointError: SEG-C002, there is a run and `overwrite` is off; SEG-C003, there is
            something else.
    """
    try:
        if not _holds_anything(path):
            return  # a file in the way is found when the folder is made
    except OSError as error:
        raise _not_writable(path, error) from error
    complete = RunFolder(path).config.is_file()
    if not overwrite:
        raise _exists(path, complete=complete, resumable=resumable)
    if not complete and not _is_beginning(path):
        raise CheckpointError(
            "SEG-C003",
            "--overwrite deletes run folders only, and this is none",
            file=path,
            observed="no config.toml in it",
            next_step="choose another place with --out DIR, or delete it yourself",
        )


def _exists(path: Path, *, complete: bool, resumable: bool) -> CheckpointError:
    """Compose the error for a place that is taken; its advice is what would work there."""
    advice = ["--out DIR takes another place"]
    if complete or _is_beginning(path):
        advice.insert(0, "--overwrite deletes it")
    if complete and resumable:
        advice.insert(0, "--resume goes on with it")
    return CheckpointError(
        "SEG-C002",
        "the run folder exists" if complete else "the folder exists and holds no whole run",
        file=path,
        observed=None if complete else "no config.toml in it",
        next_step=", ".join(advice),
    )


def refuse_to_delete_inputs(path: Path, inputs: Iterable[Path]) -> None:
    """Refuse to begin a run in the place of one that holds something the new run reads.

    Raises:
        ConfigError: SEG-X032.
    """
    for each in inputs:
        if is_inside(each, path):
            raise ConfigError(
                "SEG-X032",
                "--overwrite would delete what this run reads",
                file=each,
                observed=f"it lies in {path}",
                next_step="choose another place with --out DIR, or move it out of there first",
            )


def require_space(path: Path, needed: int) -> None:
    """Refuse a disk that has less room than a run or a study will take.

    Args:
        path: on the disk; may not be there yet.
        needed: bytes of all checkpoints that lie there at one time, and of the model.

    Raises:
        ResourceError: SEG-R070.
    """
    free = disk_errors.free_bytes(path)
    if free is None or free >= needed:
        return
    raise ResourceError(
        "SEG-R070",
        "the disk is too small for the checkpoints",
        file=path,
        observed=f"{disk_errors.amount(free)} free on this disk",
        allowed=f"{disk_errors.amount(needed)} of space",
        next_step="free some space, choose another disk with --out DIR, or keep fewer of them "
        "(checkpoint.keep)",
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
            _sweep(RunFolder(path))
            try:
                yield
            finally:
                if made and not _holds_anything(path) and os.name != "nt":
                    _leave_nothing(path)  # while it is locked: nobody else's lock is deleted
    finally:
        if made and not _holds_anything(path):
            if os.name == "nt":  # which deletes no open file
                _leave_nothing(path)
            with contextlib.suppress(OSError):  # another process has come into one of them
                for folder in made:
                    folder.rmdir()


def _leave_nothing(path: Path) -> None:
    with contextlib.suppress(OSError):
        _clear(RunFolder(path))
        (path / _CREATING).unlink(missing_ok=True)
        (path / LOCK).unlink(missing_ok=True)


def deciding_settings(recipe: Config) -> dict[str, Any]:
    """Return what decides a run, by dotted key; not what changes only its speed or place."""
    return {
        key: value
        for key, value in config_parsing.flatten(_toml(recipe)).items()
        if key not in _FREE_TO_CHANGE and key.partition(".")[0] not in _FREE_TO_CHANGE
    }


def _toml(recipe: Config) -> dict[str, Any]:
    return recipe.model_dump(mode="json", exclude_none=True)
