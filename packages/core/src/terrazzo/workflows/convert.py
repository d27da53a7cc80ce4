"""`terrazzo convert`: the model of a finished run as a run of the other framework."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from terrazzo.base.atomic_write import replacing
from terrazzo.base.errors import ConfigError
from terrazzo.base.json_files import read_json, replace_json
from terrazzo.base.output_paths import is_inside
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config, Statistics
from terrazzo.models.weight_conversion import common_options, portable
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder, claimed, create_run, refuse_occupied


def convert(
    run: Path, to: str, out: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> RunFolder:
    """Write the model of a finished run as a run of the backend `to`, ready to evaluate.

    Args:
        run: a finished run.
        to: name of a backend.
        out: the new run folder.
        overwrite: delete a run in `out` first.
        progress: told what could not be verified; None: shows nothing.

    Raises:
        ConfigError: SEG-X018, the model or an option of it exists in one framework only; SEG-X032,
            `out` is the input, holds it or lies in it.
        CheckpointError: `run` is not finished or damaged, or `out` is taken.
        ResourceError: SEG-C009, another process works in `out`.
    """
    source = RunFolder(run)
    recipe = source.read_config()
    if is_inside(run, out) or is_inside(out, run):
        raise ConfigError(
            "SEG-X032",
            "a run cannot be converted into its own place",
            file=out,
            observed=f"the input is {run}",
            next_step="choose another place with --out DIR",
        )
    card = saved_model.read_card(source.model, None if progress is None else progress.say)
    here, common = portable(card.backend, card.model.name), dict(card.model.options)
    if to != card.backend:
        common = common_options(card.backend, card.model.name, common)
    there = portable(to, card.model.name)
    refuse_occupied(out, overwrite=overwrite, resumable=False)
    with claimed(out):
        weights = saved_model.read_weights(source.model)
        bare = {name.removeprefix("weights/"): array for name, array in weights.items()}
        moved = there.from_common(card.model.name, here.to_common(card.model.name, bare))
        # The weights are here, so those the training began with are not needed again.
        dropped = ("pretrained", "revision", "sha256")
        options = {n: v for n, v in common.items() if n not in dropped}
        model = card.model.model_copy(update={"options": options})
        data = recipe.data
        if data.normalize == "pretrained":  # without those weights, the numbers themselves
            by_hand = Statistics(mean=card.bands.mean, std=card.bands.std)
            data = data.model_copy(update={"normalize": by_hand})
        changed = {"backend": to, "model": model.model_dump(), "data": data.model_dump()}
        target = create_run(
            out,
            Config.model_validate({**recipe.model_dump(), **changed}),
            card.label_map,
            overwrite=overwrite,
        )
        for kept, place in ((source.log, target.log), (source.splits, target.splits)):
            if kept.exists():
                with replacing(place, needed_bytes=kept.stat().st_size) as temporary:
                    shutil.copy(kept, temporary)
        record = read_json(source.record)
        replace_json(target.record, {**record, "backend": to, "converted_from": str(run)})
        # Last, because a model says that the run is finished.
        saved_model.write(
            target.model,
            dataclasses.replace(card, backend=to, model=model),
            {f"weights/{name}": array for name, array in moved.items()},
        )
    return target
