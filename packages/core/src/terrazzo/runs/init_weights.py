"""Weights to start from: those of another run (`[init]` in a recipe)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import CheckpointError
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.data.sample import Bands
from terrazzo.models import compatibility
from terrazzo.models.contract import State, Trainer
from terrazzo.models.parameter_groups import Part
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder

_SHOWN = 3


def load_init_weights(trainer: Trainer, recipe: Config, train: Split, progress: Progress) -> None:
    """Give `trainer` the weights that `recipe.init` names, and say what was taken.

    The encoder is taken, and with ``part = "all"`` the decoder too; the head, which depends on the
    classes, only where both runs have the same classes in the same order. What is not taken keeps
    its random weights. Another scale or pixel size than that run's is a warning: training makes up
    for it.

    Args:
        trainer: gets the weights.
        recipe: of this run.
        train: what it will be trained on.
        progress: told what was taken.

    Raises:
        ConfigError: SEG-X017, the other run's model is of another kind.
        CheckpointError: SEG-C012 the other run is not finished; SEG-C013 an array of the encoder or
            decoder is missing or has another shape.
    """
    init = recipe.init
    assert init is not None
    folder = RunFolder(resolve_path(init.run, where="init.run")).model
    card = saved_model.read_card(folder, progress.say)
    compatibility.require_same_model(
        (card.backend, card.model.name), (recipe.backend, recipe.model.name), folder=init.run
    )
    pixels = compatibility.pixels_of_split(train, datasets.reading_rules(recipe.data, train.source))
    for doubt in compatibility.doubts_before_training(card, pixels):
        progress.say(doubt)
    otherwise = other_normalization(card.bands, trainer.bands)
    if otherwise is not None:
        progress.say(f"warning: {init.run}: {otherwise}")
    given = saved_model.read_weights(folder)
    own = {name: array for name, array in trainer.state().items() if name in trainer.parts}
    same_classes = card.label_map.names == train.label_map.names
    wanted = wanted_weights(trainer.parts, init.part, same_classes=same_classes)
    refuse_differences(folder, {n: own[n] for n in wanted}, given)
    trainer.load_state({name: given[name] if name in wanted else own[name] for name in own})
    left = sorted({part for name, part in trainer.parts.items() if name not in wanted})
    progress.say(
        f"begins with {len(wanted)} of {len(own)} arrays of {init.run}"
        + (f"; new: {', '.join(left)}" if left else "")
    )


def other_normalization(before: Bands, now: Bands) -> str | None:
    """Say that weights were trained on images normalised otherwise; None: on about the same.

    Args:
        before: of the run that gives its weights.
        now: of this run, with as many bands.
    """
    if before.per_image != now.per_image:
        each, mine = (
            'each image by itself (data.normalize = "image")' if bands.per_image else "by one mean"
            for bands in (before, now)
        )
        return f"its images were normalised {each}, and those of this run {mine}"
    mean_C, std_C = np.array(before.mean), np.array(before.std)
    shift = float(np.max(np.abs(np.array(now.mean) - mean_C) / std_C))
    factors_C = np.array(now.std) / std_C
    if shift < _SHIFT and factors_C.min() > 1 / _FACTOR and factors_C.max() < _FACTOR:
        return None
    mean, std = (", ".join(f"{v:.6g}" for v in values) for values in (before.mean, before.std))
    return (
        "its images were normalised otherwise: means lie up to "
        f"{shift:.2g} deviations apart, deviations differ by factors of {factors_C.min():.2g} to "
        f"{factors_C.max():.2g}; data.normalize = {{ mean = [{mean}], std = [{std}] }} is its own"
    )


_SHIFT, _FACTOR = 0.25, 1.25
"""Below, training makes up for it in a few steps."""


def wanted_weights(parts: Mapping[str, Part], part: str, *, same_classes: bool) -> set[str]:
    """Return the names of the weights that are taken from another run.

    Args:
        parts: part of each weight of the model.
        part: ``init.part`` of the recipe.
        same_classes: whether both runs have the same classes in the same order.
    """
    taken = {"encoder"} if part == "encoder" else {"encoder", "decoder"}
    if part == "all" and same_classes:
        taken.add("head")
    return {name for name, its_part in parts.items() if its_part in taken}


def refuse_differences(folder: Path, wanted: State, given: State) -> None:
    """Refuse weights that are missing or of another shape.

    Args:
        folder: where they come from, for the message.
        wanted: arrays of the model by name; their shapes count.
        given: arrays of the other run.

    Raises:
        CheckpointError: SEG-C013.
    """
    different = sorted(
        name for name in wanted if name not in given or given[name].shape != wanted[name].shape
    )
    if not different:
        return
    shapes = {name: str(given[name].shape) if name in given else "missing" for name in different}
    raise CheckpointError(
        "SEG-C013",
        f"the weights do not fit the model: {len(different)} arrays differ",
        file=folder,
        observed="; ".join(f"{name} {shapes[name]}" for name in different[:_SHOWN]),
        allowed="; ".join(f"{name} {wanted[name].shape}" for name in different[:_SHOWN]),
        next_step="use the model options and bands of the other run, or init.part = 'encoder'",
    )
