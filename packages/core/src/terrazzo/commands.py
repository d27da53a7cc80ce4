"""What the command line's verbs do, for use from Python as well: `run` and `evaluate`."""

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from terrazzo import (
    backends,
    beginning,
    check,
    checkpoint,
    datasets,
    elsewhere,
    engine,
    evaluation,
    further_scores,
    ground,
    model_folder,
    runs,
    tracking,
)
from terrazzo.atomic import replacing
from terrazzo.config import Config, TrainingConfig
from terrazzo.datasets import Split
from terrazzo.errors import ConfigError, unknown_name
from terrazzo.evaluation import Evaluation
from terrazzo.further_counts import Counter
from terrazzo.labels import LabelMap
from terrazzo.model_folder import ModelCard
from terrazzo.progress import Progress
from terrazzo.report import write_report
from terrazzo.runs import RunFolder
from terrazzo.sample import Bands
from terrazzo.scene_map import Mapper, Placed
from terrazzo.statistics import bands_of, class_weights
from terrazzo.trainer import Backend, Trainer


@dataclass(frozen=True)
class Outcome:
    """What a finished command leaves behind.

    Attributes:
        run: the run folder.
        label_map: its classes.
        evaluation: the scores of the split that was asked for.
        report: the page for people.
    """

    run: RunFolder
    label_map: LabelMap
    evaluation: Evaluation
    report: Path

    @property
    def further(self) -> list[str]:
        """What was scored beside the classes, a line each."""
        counts_NKK, names = self.evaluation.counts_NKK, self.label_map.names
        told = further_scores.summary(self.evaluation.further, counts_NKK, names)
        return further_scores.lines(told)


def run(
    recipe: Config,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train by a recipe, score the best epoch once on the test split, write the report.

    Args:
        recipe: what to do.
        out: the run folder.
        resume: go on with the run in `out`.
        overwrite: delete the run in `out` first.
        progress: told how far it is.
        stop_requested: asked after every step.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.errors`.
    """
    backend = backends.load(recipe.backend)
    _check_model(backend, recipe)
    trackers = tracking.trackers(recipe.tracking, RunFolder(out))
    data = datasets.with_kept_draw(recipe.data, RunFolder(out).splits) if resume else recipe.data
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    label_map = splits["train"].label_map
    _check_weights(recipe, label_map)
    check.before_training(splits, recipe.loader.threads)
    if resume:
        folder = runs.reopen(out, recipe)
    else:
        runs.refuse_occupied(out, overwrite=overwrite)
    bands = bands_of(splits["train"], recipe.data.normalize)
    training = _with_class_weights(recipe.training, splits["train"], out if resume else None)
    trainer = backend.build(recipe.model, training, label_map, bands, recipe.seed)
    if recipe.init is not None and not (resume and checkpoint.found(RunFolder(out).checkpoints)):
        beginning.begin(trainer, recipe, label_map, progress)
    if not resume:  # nothing is written before everything that can be refused has been looked at
        folder = runs.create(out, recipe, label_map, overwrite=overwrite)
    with runs.locked(folder):
        if trainer.world.rank == 0 and not folder.record.exists():
            if datasets.draws(recipe.data):
                with replacing(folder.splits) as temporary:
                    datasets.keep_draw(splits, temporary)
            record = _record(recipe, training, backend, trainer, splits, bands)
            with replacing(folder.record) as temporary:
                checkpoint.write_json(temporary, record)
        progress.say(
            f"{recipe.name}: {recipe.backend} {recipe.model.name}, "
            f"{trainer.num_parameters:,} parameters on {trainer.device}, "
            f"{len(splits['train'])} training pictures"
        )
        for remark in trainer.remarks:
            progress.say(remark)
        for note in dict.fromkeys(n for split in splits.values() for n in split.source.notes):
            progress.say(note)
        trackers = trackers if trainer.world.rank == 0 else {}
        with tracking.follow(trackers, recipe.tracking, folder, progress) as logged:
            position = engine.train(
                folder,
                trainer,
                recipe,
                splits["train"],
                splits["val"],
                progress=progress,
                stop_requested=stop_requested,
                logged=logged,
            )
            _keep_best(folder, recipe, trainer, splits["train"], bands, position)
            return _score(folder, recipe, trainer, splits["test"], position.best_step, progress)


def evaluate(
    run_folder: Path,
    split: str,
    *,
    data: Path | None = None,
    wanted: Mapping[str, bool | None] = MappingProxyType({}),
    progress: Progress,
) -> Outcome:
    """Score the model of a finished run on one split.

    Args:
        run_folder: the run.
        split: train, val or test.
        data: a TOML file with a table ``data`` of other data; their scores are kept as STEM-SPLIT.
        wanted: settings that take the place of the recipe's ``[evaluation]``, unless None.
        progress: told how far it is.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.errors`.
    """
    folder = RunFolder(run_folder)
    recipe = folder.read_config()
    if data is None:
        opened = datasets.open_split(datasets.with_kept_draw(recipe.data, folder.splits), split)
    else:
        recipe, opened = elsewhere.open_other(recipe, data, split)
    given = {name: value for name, value in wanted.items() if value is not None}
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=given)})
    card, trainer = model_folder.load(folder.model)
    model_folder.refuse_other_labels(card.label_map, opened.label_map, folder.model)
    elsewhere.refuse_other_bands(card, opened)
    with runs.locked(folder):
        return _score(folder, recipe, trainer, opened, card.step, progress)


def _check_model(backend: Backend, recipe: Config) -> None:
    """Refuse an unknown model before anything is read or written."""
    if recipe.model.name not in backend.models():
        kind = f"{backend.name} model"
        raise unknown_name(kind, recipe.model.name, backend.models())


def _check_weights(recipe: Config, label_map: LabelMap) -> None:
    weights = recipe.training.loss.class_weights
    if isinstance(weights, tuple) and len(weights) != len(label_map):
        raise ConfigError(
            "SEG-X012",
            "training.loss.class_weights needs one number a class",
            observed=f"{len(weights)} numbers",
            allowed=f"{len(label_map)}: {', '.join(label_map.names)}",
        )


def _with_class_weights(
    training: TrainingConfig, train: Split, resumed: Path | None
) -> TrainingConfig:
    """Replace the name of a rule for class weights by the weights it gives on these labels.

    They are in ``run.json``, so that a resumed run does not read every label again.
    """
    rule = training.loss.class_weights
    if not isinstance(rule, str):
        return training
    known = checkpoint.read_json(RunFolder(resumed).record) if resumed else {}
    weights = known.get("class_weights") or class_weights(train, rule)
    loss = training.loss.model_copy(update={"class_weights": tuple(weights)})
    return training.model_copy(update={"loss": loss})


def _keep_best(
    folder: RunFolder,
    recipe: Config,
    trainer: Trainer,
    train: Split,
    bands: Bands,
    position: engine.Position,
) -> None:
    """Load the best checkpoint into the trainer and write it as the run's model."""
    assert position.best_step is not None  # the last step always validates
    weights = checkpoint.read(folder.checkpoints, position.best_step).weights()
    trainer.load_state(weights)
    if trainer.world.rank == 0:
        card = ModelCard(
            recipe.backend,
            recipe.model,
            train.label_map,
            bands,
            recipe.data.image_size,
            position.best_step,
            ground.pixel_sizes(train),
        )
        model_folder.write(folder.model, card, weights)


def _score(
    folder: RunFolder,
    recipe: Config,
    trainer: Trainer,
    split: Split,
    step: int | None,
    progress: Progress,
) -> Outcome:
    """Score, write what was found, and bring the report up to date."""
    outcome = engine.evaluate(
        trainer,
        split,
        recipe.data,
        recipe.loader,
        batch_size=recipe.validation.batch_size,
        step=step or 0,
        progress=progress,
        counter=Counter(split, recipe.evaluation),
        mapper=Mapper(split.source) if isinstance(split.source, Placed) else None,
    )
    report = folder.path / "report.html"
    if trainer.world.rank == 0:
        evaluation.write(outcome, split.label_map, folder.evaluation)
        report = write_report(folder.path)
    return Outcome(folder, split.label_map, outcome, report)


def _record(
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
                    "pictures": len(split),
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
