"""`terrazzo evaluate`: the model of a finished run scored on a split of its own data or others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from terrazzo.base.file_lock import locked
from terrazzo.base.progress import Progress, Silent
from terrazzo.data import datasets
from terrazzo.evaluation.other_data import open_other_data
from terrazzo.models import compatibility
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder
from terrazzo.runs.own_data import labels_now, own_data
from terrazzo.workflows.finished_run import FinishedRun, score_run


def evaluate(
    run_folder: str | Path,
    split: str = "test",
    *,
    data: str | Path | None = None,
    any_pixel_size: bool = False,
    settings: Mapping[str, bool | None] = MappingProxyType({}),
    progress: Progress | None = None,
) -> FinishedRun:
    """Score the model of a finished run on one split.

    Args:
        run_folder: the run.
        split: train, val or test.
        data: a TOML file with a table ``data`` of other data; their scores are kept as STEM-SPLIT.
        any_pixel_size: take pixels of another size on the ground than those of training.
        settings: of the recipe's ``[evaluation]``, to be replaced by these unless None.
        progress: told how far it is; None: shows nothing.

    Raises:
        TerrazzoError: of every kind; see `terrazzo.base.errors`.
    """
    folder = RunFolder(Path(run_folder))
    recipe = folder.read_config()
    progress = progress or Silent()
    card = saved_model.read_card(folder.model)
    if data is None:
        now = labels_now(recipe.data, progress.say)
        if now is not None:
            compatibility.require_same_labels(card.label_map, now, folder.model)
        opened = datasets.open_split(own_data(folder, recipe.data), split)
    else:
        recipe, opened = open_other_data(recipe, Path(data), split, progress.say)
    given = {name: value for name, value in settings.items() if value is not None}
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=given)})
    compatibility.require_same_labels(card.label_map, opened.label_map, folder.model)
    compatibility.require_known_pixels(
        card, compatibility.pixels_of_split(opened), any_pixel_size=any_pixel_size
    )
    _, trainer = saved_model.load(folder.model)
    with locked(folder.path):
        return score_run(folder, recipe, trainer, opened, card.step, progress)
