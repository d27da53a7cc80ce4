"""`terrazzo evaluate`: the model of a finished run scored on a split of its own data or others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from terrazzo.base.config_parsing import StrPath
from terrazzo.base.processes import first_does, leaving_word, together
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import Config
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.evaluation.other_data import open_other_data
from terrazzo.models import backends, compatibility, radiometry
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder, claimed
from terrazzo.runs.own_data import labels_now, own_data
from terrazzo.workflows.finished_run import FinishedRun, score_run


def evaluate(
    run: StrPath,
    split: str = "test",
    *,
    data: StrPath | None = None,
    calibration: bool | None = None,
    boundary: bool | None = None,
    any_pixel_size: bool = False,
    progress: Progress | None = None,
) -> FinishedRun:
    """Score the model of a finished run on one split.

    Args:
        run: the run folder.
        split: train, val or test.
        data: a TOML file with a table ``data`` of other data; their scores are kept as STEM-SPLIT.
        calibration: score the probabilities as well. None: as the recipe says.
        boundary: score boundary bands as well. None: as the recipe says.
        any_pixel_size: take pixels of another size on the ground than those of training.
        progress: told how far it is; None: shows nothing.

    Returns:
        The run with its scores on the split.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.base.errors`.
    """
    folder = RunFolder(Path(run))
    recipe = folder.read_config()  # before it is locked: nothing is written where no run is
    world = backends.load(recipe.backend).world()
    if progress is None or world.rank != 0:
        progress = Silent()
    asked = {"calibration": calibration, "boundary": boundary}
    with leaving_word(world), ExitStack() as stack:
        first_does(world, lambda: stack.enter_context(claimed(folder.path)))
        recipe, opened, card = together(
            world,
            lambda: _open(
                folder, split, data, asked, any_pixel_size=any_pixel_size, progress=progress
            ),
        )
        _, trainer = together(world, lambda: saved_model.load(folder.model))
        return score_run(folder, recipe, trainer, opened, card.step, progress)


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
    for note in opened.source.notes:
        progress.say(note)
    given = {name: value for name, value in asked.items() if value is not None}
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=given)})
    rules = datasets.reading_rules(recipe.data)
    compatibility.require_same_labels(card.label_map, opened.label_map, folder.model)
    compatibility.require_known_pixels(
        card, compatibility.pixels_of_split(opened, rules), any_pixel_size=any_pixel_size
    )
    if (warning := radiometry.split_unlike_training(card.bands, opened)) is not None:
        progress.say(f"warning {radiometry.CODE}: {warning}")
    return recipe, opened, card
