"""`terrazzo evaluate`: the model of a finished run scored on a split of its own data or others."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.config_parsing import StrPath
from terrazzo.base.file_lock import locked
from terrazzo.base.progress import Progress, Silent
from terrazzo.data import datasets
from terrazzo.evaluation.other_data import open_other_data
from terrazzo.models import compatibility, radiometry
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder
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
    progress = Silent() if progress is None else progress
    folder = RunFolder(Path(run))
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
    asked = {"calibration": calibration, "boundary": boundary}
    given = {name: value for name, value in asked.items() if value is not None}
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=given)})
    rules = datasets.reading_rules(recipe.data)
    compatibility.require_same_labels(card.label_map, opened.label_map, folder.model)
    compatibility.require_known_pixels(
        card, compatibility.pixels_of_split(opened, rules), any_pixel_size=any_pixel_size
    )
    if (warning := radiometry.split_unlike_training(card.bands, opened)) is not None:
        progress.say(f"warning {radiometry.CODE}: {warning}")
    _, trainer = saved_model.load(folder.model)
    with locked(folder.path):
        return score_run(folder, recipe, trainer, opened, card.step, progress)
