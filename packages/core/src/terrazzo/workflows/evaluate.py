"""`terrazzo evaluate`: the model of a finished run scored on a split of its own data or others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from terrazzo.base.config_parsing import StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.processes import World, first_does, leaving_word, together
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import Config, TrainingConfig, load_data_config
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.evaluation.other_data import open_other_data
from terrazzo.models import backends, compatibility, radiometry
from terrazzo.models.card import ModelCard
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.runs import exported_model, model_source, saved_model
from terrazzo.runs.folder import RunFolder, claimed
from terrazzo.runs.model_source import ModelSource
from terrazzo.runs.own_data import labels_now, own_data
from terrazzo.workflows.finished_run import FinishedRun, score_export, score_run


def evaluate(
    run: StrPath,
    split: str = "test",
    *,
    data: StrPath | None = None,
    calibration: bool | None = None,
    boundary: bool | None = None,
    any_pixel_size: bool = False,
    runtime: str | None = None,
    precision: ComputePrecision | None = None,
    progress: Progress | None = None,
) -> FinishedRun:
    """Score the model of a finished run, or an exported one, on one split.

    Scores by another runtime than the run's own framework are kept under a name of their own, such
    as ``test-openvino``, so that those of a comparison are all computed alike.

    Args:
        run: the run folder; or an exported folder, with `data`.
        split: train, val or test.
        data: a TOML file with a table ``data`` of other data; their scores are kept as STEM-SPLIT.
        calibration: score the probabilities as well. None: as the recipe says.
        boundary: score boundary bands as well. None: as the recipe says.
        any_pixel_size: take pixels of another size on the ground than those of training.
        runtime: what computes the model, see `terrazzo.runs.model_source.choose`; None: the run's
            own framework.
        precision: of its arithmetic; None: that of training, or float32.
        progress: told how far it is; None: shows nothing.

    Returns:
        The run with its scores on the split.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.base.errors`.
    """
    folder = RunFolder(Path(run))
    asked = {"calibration": calibration, "boundary": boundary}
    if exported_model.is_exported(folder.path):
        return _evaluate_exported(
            folder, split, data, asked, runtime, precision, any_pixel_size, progress or Silent()
        )
    recipe = folder.read_config()  # before it is locked: nothing is written where no run is
    world = backends.load(recipe.backend).world()
    if progress is None or world.rank != 0:
        progress = Silent()
    with leaving_word(world), ExitStack() as stack:
        first_does(world, lambda: stack.enter_context(claimed(folder.path)))
        recipe, opened, card = together(
            world,
            lambda: _open(
                folder, split, data, asked, any_pixel_size=any_pixel_size, progress=progress
            ),
        )
        source = model_source.choose(
            folder.model,
            card,
            runtime=runtime or model_source.OWN,
            precision=precision,
            say=progress.say,
        )
        _refuse_several(world, source)
        opened = _named_after(opened, source)
        _, trainer = together(world, source.load)
        return score_run(folder, recipe, trainer, opened, card.step, progress)


def _named_after(split: Split, source: ModelSource) -> Split:
    """Give a split a name that tells who computed its predictions."""
    words = [split.name, source.runtime, source.precision]
    return replace(split, name="-".join(word for word in words if word is not None))


def _refuse_several(world: World, source: ModelSource) -> None:
    if world.size > 1 and source.runtime is not None:
        raise ConfigError(
            "SEG-X082",
            f"the runtime {source.runtime!r} scores in one process",
            observed=f"{world.size} processes",
            allowed="one process, or the run's own framework",
            next_step="start it without torchrun, or leave --runtime away",
        )


def _evaluate_exported(
    folder: RunFolder,
    split: str,
    data: StrPath | None,
    asked: Mapping[str, bool | None],
    runtime: str | None,
    precision: ComputePrecision | None,
    any_pixel_size: bool,
    progress: Progress,
) -> FinishedRun:
    """Score an exported model on the data that a file names."""
    if data is None:
        raise ConfigError(
            "SEG-X082",
            "an exported model brings no data to be scored on",
            file=folder.path,
            allowed="--data FILE, a recipe or a TOML with a table data",
            next_step="the config.toml of the run it was exported from is such a recipe",
        )
    card = saved_model.read_card(folder.path, progress.say)
    source = model_source.choose(
        folder.path, card, runtime=runtime, precision=precision, say=progress.say
    )
    config = load_data_config(Path(data), note=progress.say)
    if config.image_size is None:
        config = config.model_copy(update={"image_size": card.image_size})
    recipe = Config(
        backend=card.backend, data=config, model=card.model, training=TrainingConfig(steps=1)
    )
    opened = datasets.open_split(config, split)
    recipe = _compatible(recipe, opened, card, folder.path, asked, any_pixel_size, progress)
    card, predictor = source.load()
    opened = replace(opened, name=f"{Path(data).stem}-{split}")
    return score_export(folder, recipe, predictor, _named_after(opened, source), card, progress)


def _open(
    folder: RunFolder,
    split: str,
    data: StrPath | None,
    asked: Mapping[str, bool | None],
    *,
    any_pixel_size: bool,
    progress: Progress,
) -> tuple[Config, Split, ModelCard]:
    """Open what is to be scored; refuse what the model was not made for."""
    recipe = folder.read_config()
    card = saved_model.read_card(folder.model, progress.say)
    if data is None:
        now = labels_now(recipe.data, progress.say)
        if now is not None:
            compatibility.require_same_labels(card.label_map, now, folder.model)
        opened = datasets.open_split(own_data(folder, recipe.data), split)
    else:
        recipe, opened = open_other_data(recipe, Path(data), split, progress.say)
    recipe = _compatible(recipe, opened, card, folder.model, asked, any_pixel_size, progress)
    return recipe, opened, card


def _compatible(
    recipe: Config,
    opened: Split,
    card: ModelCard,
    model: Path,
    asked: Mapping[str, bool | None],
    any_pixel_size: bool,
    progress: Progress,
) -> Config:
    """Refuse data that the model was not made for; return the recipe with what is asked for."""
    for note in opened.source.notes:
        progress.say(note)
    given = {name: value for name, value in asked.items() if value is not None}
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=given)})
    rules = datasets.reading_rules(recipe.data, opened.source)
    compatibility.require_same_labels(card.label_map, opened.label_map, model)
    compatibility.require_known_pixels(
        card, compatibility.pixels_of_split(opened, rules), any_pixel_size=any_pixel_size
    )
    if (warning := radiometry.split_unlike_training(card.bands, opened)) is not None:
        progress.say(f"warning {radiometry.CODE}: {warning}")
    return recipe
