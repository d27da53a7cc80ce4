"""Scoring a run on other data than its own: trained on one domain, asked about another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from terrazzo import config, datasets
from terrazzo.config import Config, DataConfig
from terrazzo.datasets import Split
from terrazzo.errors import DataError
from terrazzo.model_folder import ModelCard


def open_other(recipe: Config, file: Path, split: str) -> tuple[Config, Split]:
    """Open the data that `file` names in place of a run's own.

    Args:
        recipe: of the run; its picture size holds where the other data name none.
        file: a recipe, or a TOML file with a table ``data`` alone.
        split: train, val or test.

    Returns:
        The recipe with the other data, and their split under the name STEM-SPLIT, so that its
        scores lie beside those of the run's own.

    Raises:
        ConfigError: see `config.read_toml` and `config.parse`.
        DataError: see `datasets.open_split`.
    """
    data = config.parse(DataConfig, config.read_toml(file).get("data", {}), where=file)
    if data.image_size is None:
        data = data.model_copy(update={"image_size": recipe.data.image_size})
    opened = replace(datasets.open_split(data, split), name=f"{file.stem}-{split}")
    return recipe.model_copy(update={"data": data}), opened


def refuse_other_bands(card: ModelCard, split: Split) -> None:
    """Refuse pictures with another number of bands than the model was trained on.

    Raises:
        DataError: SEG-D020.
    """
    found, wanted = split.source.band_names, card.bands.names
    if len(found) != len(wanted):
        raise DataError(
            "SEG-D020",
            "the data have another number of bands than the model",
            observed=f"{len(found)} ({', '.join(found)})",
            allowed=f"{len(wanted)} ({', '.join(wanted)})",
            next_step="score on data with the bands the model was trained on",
        )
