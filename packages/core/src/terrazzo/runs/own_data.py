"""The data of a run that is there: its own label map, and its own draw."""

from __future__ import annotations

from collections.abc import Callable

from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.labels import LabelMap
from terrazzo.runs.folder import RunFolder


def own_data(folder: RunFolder, data: DataConfig) -> DataConfig:
    """Return the data settings of a run, wherever its folder lies and whoever asks.

    The label map is the one in the run folder: the file that the recipe named may be on another
    machine, or may have changed since.

    Args:
        folder: of the run.
        data: as its recipe has it.

    Raises:
        ConfigError: unknown format or option.
    """
    if folder.labels.is_file():
        data = data.model_copy(update={"labels": str(folder.labels.absolute())})
    return datasets.with_kept_draw(data, folder.splits)


def labels_now(data: DataConfig, note: Callable[[str], None]) -> LabelMap | None:
    """Return the label map that the recipe of a run names, as it is today; None: it is gone.

    Args:
        data: as the recipe has it.
        note: told where it is gone.

    Raises:
        ConfigError: the label map is there and wrong.
    """
    named = data.labels
    if named is not None and named.endswith((".toml", ".csv")):
        try:
            gone = not resolve_path(named, where="data.labels").is_file()
        except ConfigError:  # by a variable that is not set here
            gone = True
        if gone:
            note(f"{named} is not there; the run's own labels.toml is used")
            return None
    return datasets.load_labels(data)
