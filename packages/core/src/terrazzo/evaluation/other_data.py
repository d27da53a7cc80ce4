"""Evaluating a run on other data than its own: trained on one domain, scored on another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from terrazzo.base.recipe import Config, load_data_config
from terrazzo.data import datasets
from terrazzo.data.datasets import Split


def open_other_data(
    recipe: Config, file: Path, split: str, note: Callable[[str], None] = lambda _: None
) -> tuple[Config, Split]:
    """Open the data that `file` names in place of a run's own.

    Args:
        recipe: of the run; its image size holds where the other data name none.
        file: a recipe, or a TOML file with a table ``data`` alone.
        split: train, val or test.
        note: told of paths that were not found from the folder of `file`.

    Returns:
        The recipe with the other data, and their split under the name STEM-SPLIT, so that its
        scores lie beside those of the run's own.

    Raises:
        ConfigError: see `config_parsing.read_toml` and `config_parsing.parse`.
        DataError: see `datasets.open_split`.
    """
    data = load_data_config(file, note=note)
    if data.image_size is None:
        data = data.model_copy(update={"image_size": recipe.data.image_size})
    opened = replace(datasets.open_split(data, split), name=f"{file.stem}-{split}")
    return recipe.model_copy(update={"data": data}), opened
