"""`terrazzo run`: train by a recipe, score the best epoch on the test split, write the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terrazzo import check, tracking
from terrazzo.base.atomic_write import replacing
from terrazzo.base.config_parsing import StrPath, resolve_path
from terrazzo.base.errors import CheckpointError, ConfigError, unknown_name
from terrazzo.base.json_files import read_json, replace_json, undamaged_json_lines
from terrazzo.base.processes import (
    World,
    first_does,
    json_from_first,
    leaving_word,
    restarts,
    together,
)
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import (
    Config,
    TrainingConfig,
    from_anywhere,
    load_recipe,
    require_run_name,
)
from terrazzo.base.terminal import record_losses
from terrazzo.check.coverage import Coverage
from terrazzo.data import datasets, pixel_size
from terrazzo.data.augment import require_eight_bits_for_clahe
from terrazzo.data.class_weights import class_weights
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelMap
from terrazzo.data.loader import TrainingOrder
from terrazzo.data.normalization import bands_of, noise_deviations
from terrazzo.data.sample import Bands
from terrazzo.data.scaling import require_one_scaling, scaling_of
from terrazzo.evaluation.remarks import training_remarks
from terrazzo.io.raster_formats import is_raster
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Backend, Trainer
from terrazzo.runs import checkpoint, saved_model
from terrazzo.runs.data_fingerprint import differences, fingerprint
from terrazzo.runs.folder import (
    RunFolder,
    claimed,
    create_run,
    refuse_occupied,
    refuse_to_delete_inputs,
    reopen_run,
    require_space,
    with_kept_defaults,
)
from terrazzo.runs.init_weights import load_init_weights
from terrazzo.runs.provenance import describe_run, last_used, note_resumption
from terrazzo.tracking.log_follower import Tracker
from terrazzo.training import loop as training_loop
from terrazzo.training.doubtful_settings import doubtful_settings
from terrazzo.training.state import EventSchedule, TrainingState
from terrazzo.workflows.finished_run import FinishedRun, StopRequested, score_run


@dataclass(frozen=True)
class _Allowed:
    """What may differ from the run that is resumed."""

    changed_data: bool
    other_processes: bool


def train(
    recipe: Config | StrPath,
    out: StrPath | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    allow_changed_data: bool = False,
    allow_other_processes: bool = False,
    progress: Progress | None = None,
    stop_requested: StopRequested = lambda: False,
) -> FinishedRun:
    """Train by a recipe, score the best epoch once on the test split, write the report.

    Started in several processes, by ``torchrun`` for one, they train together: rank 0 writes the
    run folder, which all of them see under the same path. Started again by ``torchrun
    --max-restarts``, they go on from the last checkpoint.

    Args:
        recipe: what to do, or the path of a recipe; see `terrazzo.load_recipe`.
        out: the run folder. None: ``runs/NAME`` in the working directory.
        resume: go on with the run in `out`.
        overwrite: delete the run in `out` first.
        allow_changed_data: go on with a run whose data have changed since; its record says so.
        allow_other_processes: go on with another number of processes although results depend on
            it; the record says so.
        progress: told how far it is; None: shows nothing.
        stop_requested: asked after every step; once it says yes in any process, the state is saved
            and `Stopped` raised in all.

    Returns:
        The run with its scores on the test split.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.base.errors`.
    """
    recipe = from_anywhere(recipe if isinstance(recipe, Config) else load_recipe(recipe))
    if out is None:
        require_run_name(recipe.name, where="recipe")
    folder = RunFolder(Path("runs") / recipe.name if out is None else Path(out))
    if resume or restarts():
        recipe = with_kept_defaults(recipe, folder.config)
    backend = backends.load(recipe.backend)
    _require_known_model(backend, recipe)
    world = backend.world()
    if progress is None or world.rank != 0:
        progress = Silent()

    def require_free() -> None:
        if resume:
            reopen_run(folder.path, recipe)
        else:
            refuse_occupied(folder.path, overwrite=overwrite)
            if overwrite:
                refuse_to_delete_inputs(folder.path, _inputs(recipe))

    with leaving_word(world), ExitStack() as stack:
        if restarts() and json_from_first(world, folder.config.is_file):
            resume, overwrite = True, False  # begun before torchrun started all again
        first_does(world, require_free)
        first_does(world, lambda: stack.enter_context(claimed(folder.path)))
        first_does(world, require_free)  # another process may have come in between
        training = _prepare(
            world,
            backend,
            recipe,
            folder,
            resume=resume,
            overwrite=overwrite,
            allowed=_Allowed(allow_changed_data, allow_other_processes),
            progress=progress,
        )
        return _train_and_score(training, folder, recipe, progress, stop_requested)


@dataclass(frozen=True)
class _Prepared:
    """All that a training needs beside its recipe."""

    trainer: Trainer
    splits: dict[str, Split]
    bands: Bands
    deviations: tuple[float, ...] | None
    trackers: dict[str, Tracker]


def _prepare(
    world: World,
    backend: Backend,
    recipe: Config,
    folder: RunFolder,
    *,
    resume: bool,
    overwrite: bool,
    allowed: _Allowed,
    progress: Progress,
) -> _Prepared:
    """Check all that can be refused, build the trainer, and write the beginning of the run.

    Rank 0 alone reads every label and writes; the others learn what it found.
    """
    data = datasets.with_kept_draw(recipe.data, folder.splits) if resume else recipe.data
    splits = together(
        world, lambda: {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    )
    train, label_map = splits["train"], splits["train"].label_map
    labelled: Coverage | None = None
    trackers: dict[str, Tracker] = {}
    data_now: dict[str, Any] = {}
    scales = check.TrainingScales(train)

    def check_on_first() -> None:
        nonlocal labelled, trackers, data_now
        trackers = tracking.trackers(recipe.tracking, folder)
        require_weight_a_class(recipe, label_map)
        labelled = check.check_before_training(
            splits,
            recipe.loader.threads,
            None if resume else recipe.data,
            recipe.loader.timeout,
        )
        data_now = fingerprint(splits, recipe.loader.timeout)
        if resume:
            _require_same_data(folder, data_now, allowed=allowed.changed_data)

    first_does(world, check_on_first)
    expected = backend.input_statistics(recipe.model)
    bands = _bands_from_first(
        world, lambda: bands_of(train, recipe.data.normalize, scales.look, expected)
    )
    together(world, lambda: require_eight_bits_for_clahe(recipe.augment, bands.dtype))
    if not datasets.reading_rules(recipe.data).apply_scale:
        together(world, lambda: require_one_scaling(splits))
    deviations = json_from_first(
        world, lambda: noise_deviations(train, bands) if recipe.augment.noise else None
    )
    training = _with_class_weights(world, recipe.training, train, folder, resume=resume)
    trainer = together(
        world, lambda: backend.build(recipe.model, training, label_map, bands, recipe.seed)
    )
    if recipe.init is not None and not (resume and checkpoint.found(folder.checkpoints)):
        together(world, lambda: load_init_weights(trainer, recipe, train, progress))

    def write_beginning() -> None:
        if resume:
            _require_same_processes(folder, trainer, allowed=allowed.other_processes)
        else:
            require_space(folder.path, _space_needed(recipe, trainer, train))
            create_run(folder.path, recipe, label_map, overwrite=overwrite)
        if not folder.record.exists():
            if datasets.draws(recipe.data):
                with replacing(folder.splits) as temporary:
                    datasets.keep_draw(splits, temporary)
            record = describe_run(recipe, training, backend, trainer, splits, bands, data_now)
            replace_json(folder.record, record)
        else:
            _note_resumption(folder, backend, trainer, data_now, progress)
        _introduce(recipe, trainer, splits, progress)
        if recipe.data.normalize == "pretrained" and expected is None:
            progress.say(
                'data.normalize = "pretrained": nothing says what images the weights expect; these '
                "are normalised by mean and deviation of their own"
            )
        if (warning := scales.warning()) is not None:
            progress.say(warning)
        if not resume:
            for line in warnings_of_settings(recipe, train, labelled, processes=trainer.world.size):
                progress.say(line)
        record_losses(folder.timing)

    first_does(world, write_beginning)
    return _Prepared(
        trainer, splits, bands, None if deviations is None else tuple(deviations), trackers
    )


def _train_and_score(
    prepared: _Prepared,
    folder: RunFolder,
    recipe: Config,
    progress: Progress,
    stop_requested: StopRequested,
) -> FinishedRun:
    trainer, splits = prepared.trainer, prepared.splits
    with tracking.follow(prepared.trackers, recipe.tracking, folder, progress) as logged:
        state = training_loop.train(
            folder,
            trainer,
            recipe,
            splits["train"],
            splits["val"],
            progress=progress,
            deviations=prepared.deviations,
            stop_requested=stop_requested,
            logged=logged,
        )
        if trainer.world.rank == 0:
            for line in training_remarks(undamaged_json_lines(folder.log)):
                progress.say(f"warning: {line}")
        _keep_best(folder, recipe, trainer, splits["train"], prepared.bands, state)
        return score_run(folder, recipe, trainer, splits["test"], state.best_step, progress)


def _space_needed(recipe: Config, trainer: Trainer, train: Split) -> int:
    """Return the bytes of all checkpoints that will lie there at one time, and of the model."""
    order = TrainingOrder(len(train), recipe.training.batch_size, recipe.seed, 0, 1)
    schedule = EventSchedule(recipe, order.steps_per_epoch)
    size = sum(array.nbytes for array in trainer.state().values())
    return size * (schedule.most_checkpoints + 1)


def _bands_from_first(world: World, make: Callable[[], Bands]) -> Bands:
    """Let rank 0 look at the images once for all."""
    fields = json_from_first(world, lambda: dataclasses.asdict(make()))
    return Bands(
        tuple(fields["names"]),
        fields["dtype"],
        tuple(fields["mean"]),
        tuple(fields["std"]),
        fields["per_image"],
    )


def _require_same_processes(folder: RunFolder, trainer: Trainer, *, allowed: bool) -> None:
    """Refuse to go on in another number of processes where that changes the result.

    Raises:
        CheckpointError: SEG-C060.
    """
    size = trainer.world.size
    before = last_used(read_json(folder.record), "processes", size)
    if before == size or allowed or trainer.depends_on_share is None:
        return
    by_batch_norm = trainer.depends_on_share == "batch normalisation"
    raise CheckpointError(
        "SEG-C060",
        f"the result depends on the number of processes, by {trainer.depends_on_share}, and this "
        "run went on with another one so far",
        file=folder.record,
        observed=f"{size} processes",
        allowed=f"{before}",
        next_step="go on with as many as before, or all the same with --allow-other-processes, "
        "which the record of the run will say"
        + ("; new runs: training.sync_batch_norm = true" if by_batch_norm else ""),
    )


def _inputs(recipe: Config) -> Iterator[Path]:
    """Yield the places a run is read from, so that it does not delete them."""
    yield resolve_path(recipe.data.root, where="data.root")
    if (labels := recipe.data.labels) is not None and labels.endswith((".toml", ".csv")):
        yield resolve_path(labels, where="data.labels")
    if recipe.init is not None:
        yield resolve_path(recipe.init.run, where="init.run")


def _require_same_data(folder: RunFolder, now: Mapping[str, Any], *, allowed: bool) -> None:
    """Refuse to go on with other data than those the run began with.

    Raises:
        CheckpointError: SEG-C015; other classes are refused in any case.
    """
    before = read_json(folder.record).get("data", {})
    changed = differences(before, now)
    other_classes = "classes" in before and before["classes"] != now["classes"]
    if not changed or (allowed and not other_classes):
        return
    raise CheckpointError(
        "SEG-C015",
        "the data are not those this run began with",
        file=folder.record,
        observed="; ".join(changed),
        next_step="start a new run with --out DIR"
        if other_classes
        else "bring the old data back, start a new run with --out DIR, or go on all the same with "
        "--allow-changed-data, which the record of the run will say",
    )


def _note_resumption(
    folder: RunFolder,
    backend: Backend,
    trainer: Trainer,
    data_now: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Say what has changed since the run began, and keep it in its record."""
    step = max(checkpoint.found(folder.checkpoints), default=0)
    record = read_json(folder.record)
    record, changed = note_resumption(record, backend, trainer, data_now, step=step)
    if changed:
        replace_json(folder.record, record)
        progress.say(f"changed since the run began: {'; '.join(changed)}")


def _require_known_model(backend: Backend, recipe: Config) -> None:
    if recipe.model.name not in backend.models():
        kind = f"{backend.name} model"
        raise unknown_name(kind, recipe.model.name, backend.models())


def require_weight_a_class(recipe: Config, label_map: LabelMap) -> None:
    """Refuse class weights that are not one a class.

    Raises:
        ConfigError: SEG-X012.
    """
    weights = recipe.training.loss.class_weights
    if isinstance(weights, tuple) and len(weights) != len(label_map):
        raise ConfigError(
            "SEG-X012",
            "training.loss.class_weights needs one number a class",
            observed=f"{len(weights)} numbers",
            allowed=f"{len(label_map)}: {', '.join(label_map.names)}",
        )


def _with_class_weights(
    world: World, training: TrainingConfig, train: Split, folder: RunFolder, *, resume: bool
) -> TrainingConfig:
    """Replace the name of a rule for class weights by the weights it gives on these labels.

    They are in ``run.json``, so that a resumed run does not read every label again.
    """
    rule = training.loss.class_weights
    if not isinstance(rule, str):
        return training
    known = read_json(folder.record) if resume else {}
    weights = json_from_first(
        world, lambda: known.get("class_weights") or list(class_weights(train, rule))
    )
    loss = training.loss.model_copy(update={"class_weights": tuple(weights)})
    return training.model_copy(update={"loss": loss})


def _introduce(
    recipe: Config, trainer: Trainer, splits: dict[str, Split], progress: Progress
) -> None:
    """Say what is about to be trained, and what the user should know of it."""
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


def warnings_of_settings(
    recipe: Config, train: Split, labelled: Coverage | None, *, processes: int = 1
) -> list[str]:
    """Return a line for each setting that cannot do what was meant.

    Args:
        recipe: of the run.
        train: its training split.
        labelled: what `check.check_before_training` counted.
        processes: that train together.
    """
    order = TrainingOrder(len(train), recipe.training.batch_size, recipe.seed, 0, processes)
    rows, columns = recipe.data.image_size or train.source.read_image(0)[0].shape[:2]
    return list(
        doubtful_settings(
            recipe,
            total_steps=EventSchedule(recipe, order.steps_per_epoch).total_steps,
            training_images=len(train),
            of_rasters=is_raster(train.source.files(0)[0]),
            image_size=(rows, columns),
            ignored_share=0.0 if labelled is None else labelled.ignored_share("train"),
        )
    )


def _keep_best(
    folder: RunFolder,
    recipe: Config,
    trainer: Trainer,
    train: Split,
    bands: Bands,
    state: TrainingState,
) -> None:
    """Load the best checkpoint into the trainer and write it as the run's model."""
    assert state.best_step is not None  # the last step always validates
    weights = checkpoint.read(folder.checkpoints, state.best_step).weights()
    trainer.load_state(weights)

    best_step = state.best_step

    def write_model() -> None:
        rules = datasets.reading_rules(recipe.data, train.source)
        card = ModelCard(
            recipe.backend,
            recipe.model,
            train.label_map,
            bands,
            recipe.data.image_size,
            best_step,
            pixel_size.pixel_sizes(train),
            rules,
            None if rules.apply_scale else scaling_of(train),
            recipe.training.precision,
        )
        saved_model.write(folder.model, card, weights)

    first_does(trainer.world, write_model)
