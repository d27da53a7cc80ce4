"""`terrazzo run`: train by a recipe, score the best epoch on the test split, write the report."""

from __future__ import annotations

from pathlib import Path

from terrazzo import check, tracking
from terrazzo.base.atomic_write import read_json, replace_json, replacing
from terrazzo.base.errors import ConfigError, unknown_name
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import Config, TrainingConfig
from terrazzo.data import datasets, pixel_size
from terrazzo.data.class_weights import class_weights
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelMap
from terrazzo.data.normalization import bands_of
from terrazzo.data.sample import Bands
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Backend, Trainer
from terrazzo.runs import checkpoint, saved_model
from terrazzo.runs.folder import RunFolder, claimed, create_run, refuse_occupied, reopen_run
from terrazzo.runs.init_weights import load_init_weights
from terrazzo.runs.provenance import describe_run
from terrazzo.training import loop as training_loop
from terrazzo.workflows.finished_run import FinishedRun, StopRequested, score_run


def train(
    recipe: Config,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    stop_requested: StopRequested = lambda: False,
) -> FinishedRun:
    """Train by a recipe, score the best epoch once on the test split, write the report.

    Args:
        recipe: what to do; see `terrazzo.load_recipe`.
        out: the run folder; ``runs/NAME`` by default.
        resume: go on with the run in `out`.
        overwrite: delete the run in `out` first.
        progress: told how far it is; None: shows nothing.
        stop_requested: asked after every step.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.base.errors`.
    """
    progress = progress or Silent()
    folder = RunFolder(Path("runs") / recipe.name if out is None else Path(out))

    # Resolve and check everything that can be refused without a model; nothing is written yet.
    if resume:
        reopen_run(folder.path, recipe)
    else:
        refuse_occupied(folder.path, overwrite=overwrite)
    backend = backends.load(recipe.backend)
    _require_known_model(backend, recipe)
    trackers = tracking.trackers(recipe.tracking, folder)
    data = datasets.with_kept_draw(recipe.data, folder.splits) if resume else recipe.data
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    label_map = splits["train"].label_map
    _require_weight_a_class(recipe, label_map)
    check.check_before_training(splits, recipe.loader.threads)
    bands = bands_of(splits["train"], recipe.data.normalize)

    with claimed(folder.path):
        training = _with_class_weights(recipe.training, splits["train"], folder, resume=resume)
        trainer = backend.build(recipe.model, training, label_map, bands, recipe.seed)
        if recipe.init is not None and not (resume and checkpoint.found(folder.checkpoints)):
            load_init_weights(trainer, recipe, label_map, bands, progress)
        if not resume:
            create_run(folder.path, recipe, label_map, overwrite=overwrite)
        if trainer.world.rank == 0 and not folder.record.exists():
            if datasets.draws(recipe.data):
                with replacing(folder.splits) as temporary:
                    datasets.keep_draw(splits, temporary)
            replace_json(
                folder.record, describe_run(recipe, training, backend, trainer, splits, bands)
            )
        _introduce(recipe, trainer, splits, progress)
        with tracking.follow(
            trackers if trainer.world.rank == 0 else {}, recipe.tracking, folder, progress
        ) as logged:
            position = training_loop.train(
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
            return score_run(folder, recipe, trainer, splits["test"], position.best_step, progress)


def _require_known_model(backend: Backend, recipe: Config) -> None:
    if recipe.model.name not in backend.models():
        kind = f"{backend.name} model"
        raise unknown_name(kind, recipe.model.name, backend.models())


def _require_weight_a_class(recipe: Config, label_map: LabelMap) -> None:
    weights = recipe.training.loss.class_weights
    if isinstance(weights, tuple) and len(weights) != len(label_map):
        raise ConfigError(
            "SEG-X012",
            "training.loss.class_weights needs one number a class",
            observed=f"{len(weights)} numbers",
            allowed=f"{len(label_map)}: {', '.join(label_map.names)}",
        )


def _with_class_weights(
    training: TrainingConfig, train: Split, folder: RunFolder, *, resume: bool
) -> TrainingConfig:
    """Replace the name of a rule for class weights by the weights it gives on these labels.

    They are in ``run.json``, so that a resumed run does not read every label again.
    """
    rule = training.loss.class_weights
    if not isinstance(rule, str):
        return training
    known = read_json(folder.record) if resume else {}
    weights = known.get("class_weights") or class_weights(train, rule)
    loss = training.loss.model_copy(update={"class_weights": tuple(weights)})
    return training.model_copy(update={"loss": loss})


def _introduce(
    recipe: Config, trainer: Trainer, splits: dict[str, Split], progress: Progress
) -> None:
    """Say what is about to be trained, and what a person should know of it."""
    progress.say(
        f"{recipe.name}: {recipe.backend} {recipe.model.name}, "
        f"{trainer.num_parameters:,} parameters on {trainer.device}, "
        f"{len(splits['train'])} training images"
    )
    for remark in trainer.remarks:
        progress.say(remark)
    for note in dict.fromkeys(n for split in splits.values() for n in split.source.notes):
        progress.say(note)
    for warning in check.warnings_before_training(splits):
        progress.say(warning)


def _keep_best(
    folder: RunFolder,
    recipe: Config,
    trainer: Trainer,
    train: Split,
    bands: Bands,
    position: training_loop.Position,
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
            pixel_size.pixel_sizes(train),
        )
        saved_model.write(folder.model, card, weights)
