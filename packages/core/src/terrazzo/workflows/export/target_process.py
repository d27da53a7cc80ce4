"""The process that opens an exported folder in its runtime and tells what it gives there.

A process of its own: nothing of the model it was made from is in it, and some runtimes cannot share
one with the framework.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from terrazzo.base import child_module
from terrazzo.base.progress import Silent
from terrazzo.data import datasets
from terrazzo.evaluation import loop
from terrazzo.io import named_arrays
from terrazzo.models import runtimes
from terrazzo.models.contract import State
from terrazzo.models.exporter import exporter
from terrazzo.models.runtimes.predictor import SessionPredictor
from terrazzo.models.session import Session
from terrazzo.runs import checkpoint, exported_model
from terrazzo.runs.exported_model import Exported
from terrazzo.runs.folder import RunFolder
from terrazzo.runs.own_data import own_data

IMAGES, ANSWERS = "images.safetensors", "answers.safetensors"
"""Names of the files in the scratch folder."""


def open_exported(exported: Exported) -> Session:
    """Open an exported folder in the runtime it is for, the framework's own formats too."""
    if exported.runtime is not None:
        return runtimes.open_session(exported.runtime, exported.folder, exported.form)
    own = exporter(exported.card.backend)
    return own.open(exported.to, exported.folder, exported.card, exported.form)


def answer(folder: Path, scratch: Path, run: Path | None) -> None:
    """Write logits and labels of the images in `scratch`, and counts of the run's split ``val``.

    Args:
        folder: an exported folder.
        scratch: holds `IMAGES`, gets `ANSWERS`.
        run: whose data are scored; None: no data are.
    """
    exported = exported_model.read(folder)
    session = open_exported(exported)
    images = named_arrays.read(scratch / IMAGES)
    answers: State = {}
    for name, images_BHWC in images.items():
        answers[f"logits/{name}"] = session.logits(images_BHWC)
        answers[f"labels/{name}"] = session.labels(images_BHWC).astype(np.int32)
    if run is not None:
        card = exported.card
        predictor = SessionPredictor(session, card.bands, card.label_map.dtype)
        recipe = RunFolder(run).read_config()
        split = datasets.open_split(own_data(RunFolder(run), recipe.data), "val")
        evaluation = loop.evaluate(
            predictor,
            split,
            recipe.data,
            recipe.loader,
            batch_size=recipe.validation.batch_size,
            step=card.step,
            progress=Silent(),
            num_examples=0,
        )
        answers["counts_NKK"] = evaluation.counts_NKK
    checkpoint.write_arrays(scratch / ANSWERS, answers)


def main(arguments: list[str]) -> int:
    """Answer; say in one line what went wrong."""
    folder, scratch, *run = map(Path, arguments)
    return child_module.answer(lambda: answer(folder, scratch, run[0] if run else None))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
