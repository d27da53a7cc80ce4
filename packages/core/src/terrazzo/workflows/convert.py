"""`terrazzo convert`: the model of a finished run as a run of the other framework."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from terrazzo.base.atomic_write import read_json, replace_json, replacing
from terrazzo.base.recipe import Config
from terrazzo.models.weight_conversion import portable
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder, create_run


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
    card = saved_model.read_card(source.model)
    here, there = portable(card.backend, card.model.name), portable(to, card.model.name)
    weights = saved_model.read_weights(source.model)
    bare = {name.removeprefix("weights/"): array for name, array in weights.items()}
    moved = there.from_common(card.model.name, here.to_common(card.model.name, bare))
    # The weights are here, so those the training began with are not needed again.
    options = {n: v for n, v in card.model.options.items() if n not in ("pretrained", "revision")}
    model = card.model.model_copy(update={"options": options})
    target = create_run(
        out,
        Config.model_validate({**recipe.model_dump(), "backend": to, "model": model.model_dump()}),
        card.label_map,
        overwrite=overwrite,
    )
    saved_model.write(
        target.model,
        dataclasses.replace(card, backend=to, model=model),
        {f"weights/{name}": array for name, array in moved.items()},
    )
    record = read_json(source.record)
    replace_json(target.record, {**record, "backend": to, "converted_from": str(run)})
    for kept, place in ((source.log, target.log), (source.splits, target.splits)):
        if kept.exists():
            with replacing(place, needed_bytes=kept.stat().st_size) as temporary:
                shutil.copy(kept, temporary)
    return target
