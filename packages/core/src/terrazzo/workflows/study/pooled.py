"""The folds of a run together: its counts on every image, each from the model that never saw it.

``pooled/NAME/`` is a run folder without a model: recipe, label map, and the scores of all folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from terrazzo.base.atomic_write import make_folder, replace_text
from terrazzo.base.json_files import replace_json
from terrazzo.evaluation import extra_counts, result, stored
from terrazzo.evaluation.result import Evaluation
from terrazzo.evaluation.stored import Record, Scored
from terrazzo.report import write_report
from terrazzo.runs.folder import RunFolder
from terrazzo.workflows.study import plan as study_plan
from terrazzo.workflows.study.plan import Plan, PlannedRun
from terrazzo.workflows.study.steps import folder_of


def pool(plan: Plan, name: str, folds: Sequence[PlannedRun]) -> Path:
    """Write the scores of all folds as those of one run, and its page.

    Args:
        plan: the study.
        name: of the run.
        folds: its runs, all done.

    Returns:
        The folder.
    """
    records = [stored.read(folder_of(plan, planned)) for planned in folds]
    scored = [_scored(record, plan.split) for record in records]
    names = [name for each in scored for name in each.names]
    order = np.argsort(names)
    folder = RunFolder(plan.out / "pooled" / name)
    make_folder(folder.path)
    recipe = study_plan.as_toml(folds[0].recipe) | {"name": name}
    recipe["data"]["options"]["split"].pop("fold")
    replace_text(folder.labels, tomli_w.dumps(records[0].label_map.as_toml()))
    replace_text(folder.config, tomli_w.dumps(recipe))
    replace_json(folder.record, {**records[0].run, "data": _data(records), "folds": len(folds)})
    evaluation = Evaluation(
        plan.split,
        max(int(each.summary["step"]) for each in scored),
        tuple(names[index] for index in order),
        np.concatenate([each.counts_NKK for each in scored])[order],
        np.concatenate([each.ignored_N for each in scored])[order],
        extra=extra_counts.of_all_images([each.extra for each in scored], order),
    )
    result.write(evaluation, records[0].label_map, folder.evaluation)
    write_report(folder.path)
    return folder.path


def _data(records: Sequence[Record]) -> dict[str, Any]:
    """Return what the record says of the data: the mean number of training images.

    Which images one fold was trained on says nothing of the others.
    """
    numbers = [record.run["data"]["splits"]["train"]["images"] for record in records]
    return {"splits": {"train": {"images": round(sum(numbers) / len(numbers))}}}


def _scored(record: Record, split: str) -> Scored:
    return next(each for each in record.scored if each.summary["split"] == split)
