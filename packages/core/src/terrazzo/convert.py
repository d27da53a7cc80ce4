"""A trained model from one framework to the other, with the weights it has.

Each backend that takes part has a module ``portable`` that imports no framework and translates its
arrays to and from a common form: the names of `terrazzo_keras`, kernels height×width×in×out.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from pathlib import Path
from typing import Protocol, cast

from terrazzo import backends, checkpoint, model_folder, runs
from terrazzo.atomic import replacing
from terrazzo.config import Config
from terrazzo.errors import ConfigError
from terrazzo.runs import RunFolder
from terrazzo.trainer import State


class Portable(Protocol):
    """What the module ``portable`` of a backend holds. Names are without ``weights/``."""

    MODELS: tuple[str, ...]

    def to_common(self, model: str, arrays: State) -> State:
        """Return the arrays of a model in the common form."""
        ...

    def from_common(self, model: str, arrays: State) -> State:
        """Return common arrays as this backend's model has them."""
        ...


def convert(run: Path, to: str, out: Path, *, overwrite: bool = False) -> RunFolder:
    """Write the model of a finished run as a run of the backend `to`, ready to evaluate.

    Args:
        run: a finished run.
        to: name of a backend.
        out: the new run folder.
        overwrite: delete a run in `out` first.

    Raises:
        ConfigError: SEG-X018, the model exists in one framework only.
        CheckpointError: `run` is not finished, or `out` is taken.
    """
    source = RunFolder(run)
    recipe = source.read_config()
    card = model_folder.read_card(source.model)
    here, there = portable(card.backend, card.model.name), portable(to, card.model.name)
    weights = model_folder.read_weights(source.model)
    bare = {name.removeprefix("weights/"): array for name, array in weights.items()}
    moved = there.from_common(card.model.name, here.to_common(card.model.name, bare))
    # The weights are here, so those the training began with are not needed again.
    options = {n: v for n, v in card.model.options.items() if n not in ("pretrained", "revision")}
    model = card.model.model_copy(update={"options": options})
    target = runs.create(
        out,
        Config.model_validate({**recipe.model_dump(), "backend": to, "model": model.model_dump()}),
        card.label_map,
        overwrite=overwrite,
    )
    model_folder.write(
        target.model,
        dataclasses.replace(card, backend=to, model=model),
        {f"weights/{name}": array for name, array in moved.items()},
    )
    with replacing(target.record) as temporary:
        record = checkpoint.read_json(source.record)
        checkpoint.write_json(temporary, {**record, "backend": to, "converted_from": str(run)})
    for kept, place in ((source.log, target.log), (source.splits, target.splits)):
        if kept.exists():
            shutil.copy(kept, place)
    return target


def portable(backend: str, model: str) -> Portable:
    """Return the translation of a model, without importing its framework.

    Raises:
        ConfigError: SEG-X018, there is none; SEG-X003, the backend is not installed.
    """
    package = backends.require(backend)
    try:
        module = cast(Portable, importlib.import_module(f"{package}.portable"))
        models = module.MODELS
    except ModuleNotFoundError as error:
        if error.name != f"{package}.portable":
            backends.load(backend)  # says how to install it
            raise
        models = ()
    if model not in models:
        raise ConfigError(
            "SEG-X018",
            f"the model {model!r} cannot be converted",
            observed=f"{backend} has no translation of it",
            allowed=", ".join(models) or f"none of the backend {backend!r}",
            next_step="train it in the other framework",
        )
    return module
