"""Verification of an exported model: the written file, in its runtime, against the model itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.child_module import ChildModuleError, run_module
from terrazzo.base.errors import CheckpointError
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config
from terrazzo.data.datasets import Split
from terrazzo.data.model_input import as_seen
from terrazzo.evaluation import loop
from terrazzo.io import named_arrays
from terrazzo.io.pixels import ImagePixels
from terrazzo.metrics import scores
from terrazzo.metrics.confidence_intervals import paired_intervals, run_intervals
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Trainer
from terrazzo.models.exporter import Exporter, GraphForm
from terrazzo.models.runtimes import agreement
from terrazzo.models.runtimes.agreement import Agreement
from terrazzo.runs import checkpoint
from terrazzo.workflows.export import target_process

_LONGEST = 6 * 3600.0  # seconds
_SIDE = 512  # of the largest real image that logits are compared on
_ERRORS = {"float32": agreement.TOLERANCE, "float16": 0.02, "int8": 0.5}
_CHANGED = {"float32": 0.0, "float16": 0.01, "int8": 0.15}
"""Largest error, as a share of the range of the logits, and largest share of changed labels on real
images: beyond, something is broken and not merely rounded. float32 has the stricter
`Agreement.holds`."""


_TAKE_MISSING = ("onnx", "openvino")
"""Formats whose runtimes here take images of float32, with NaN where values are missing, for a
model of integers."""


@dataclass(frozen=True)
class ValidationData:
    """The split ``val`` of a run.

    Attributes:
        run: its folder.
        split: the samples.
        recipe: says how they are read.
        progress: told how far scoring is.
    """

    run: Path
    split: Split
    recipe: Config
    progress: Progress


@dataclass(frozen=True)
class Reference:
    """What the model itself gives.

    Attributes:
        images: batches B×H×W×C, by name; real ones begin with ``val``.
        logits: of each, B×H×W×K.
        counts_NKK: of each image of the split ``val``; None: there are no data here.
    """

    images: Mapping[str, NDArray[np.generic]]
    logits: Mapping[str, NDArray[np.float32]]
    counts_NKK: NDArray[np.int64] | None


def reference(
    trainer: Trainer, own: Exporter, card: ModelCard, to: str, data: ValidationData | None
) -> Reference:
    """Compute what an exported model is held against.

    Args:
        trainer: the model itself.
        own: exporter of its backend.
        card: what it is.
        to: the format.
        data: the run's split ``val``; None: only noise is compared.
    """
    images = {
        f"noise {rows}x{columns}": agreement.noise(
            card.bands, 3 if number % 2 else 1, (rows, columns), number
        )
        for number, (rows, columns) in enumerate(agreement.SIZES)
    }
    if to in _TAKE_MISSING:
        images["noise, values missing, 61x97"] = agreement.noise(
            card.bands, 2, (61, 97), len(images), missing=True
        )
    counts_NKK = None
    if data is not None:
        images |= _real_images(data.split, card)
        counts_NKK = loop.evaluate(
            trainer,
            data.split,
            data.recipe.data,
            data.recipe.loader,
            batch_size=data.recipe.validation.batch_size,
            step=card.step,
            progress=data.progress,
            num_examples=0,
        ).counts_NKK
    logits = {name: own.logits(trainer, each) for name, each in images.items()}
    return Reference(images, logits, counts_NKK)


def _real_images(split: Split, card: ModelCard) -> dict[str, NDArray[np.generic]]:
    """Return the beginnings of two images of the split, each at two sizes."""
    found: dict[str, NDArray[np.generic]] = {}
    for index in range(min(2, len(split))):
        image_HWC = seen(split, index, card)[:_SIDE, :_SIDE]
        rows, columns = image_HWC.shape[:2]
        for cut in ((rows, columns), (max(rows - 3, 1), max(columns - 5, 1))):
            found[f"val {index} {cut[0]}x{cut[1]}"] = image_HWC[None, : cut[0], : cut[1]]
    return {name: np.ascontiguousarray(each) for name, each in found.items()}


def seen(split: Split, index: int, card: ModelCard) -> NDArray[np.generic]:
    """Return an image of a split as the model is shown it, H×W×C."""
    sample = split.read(index)
    pixels = ImagePixels(sample.image_HWC, None, sample.present_HWC)
    return as_seen(pixels, card.image_size, card.bands)


def verify(
    folder: Path, card: ModelCard, form: GraphForm, given: Reference, run: Path | None
) -> dict[str, Any]:
    """Open a written folder in its runtime, in a process of its own, and compare.

    Args:
        folder: an exported folder, complete but for what is returned.
        card: what the model is.
        form: what the graph takes and gives.
        given: what the model itself gives.
        run: whose data are scored; None: none are.

    Returns:
        What was found, for ``export.json``.

    Raises:
        CheckpointError: SEG-C070, the folder does not give what the model gives.
    """
    # In the folder that is being made: what a killed process leaves goes with it.
    with tempfile.TemporaryDirectory(prefix="scratch_", dir=folder) as name:
        scratch = Path(name)
        checkpoint.write_arrays(scratch / target_process.IMAGES, given.images)
        _run_target(folder, scratch, run)
        answers = named_arrays.read(scratch / target_process.ANSWERS)
    found = {
        each: agreement.compare(logits, answers[f"logits/{each}"], answers[f"labels/{each}"])
        for each, logits in given.logits.items()
    }
    for each, agreed in found.items():
        _require(each, agreed, form, folder)
    real = [agreed for each, agreed in found.items() if each.startswith("val")]
    result: dict[str, Any] = {
        "in": "a process of its own, in the runtime of the format",
        "inputs": {each: _told(agreed) for each, agreed in found.items()},
        "largest_error": max(agreed.error for agreed in found.values()),
        "labels_changed": _share(list(found.values())),
    }
    if real:
        result["labels_changed_on_real_images"] = _share(real)
    if given.counts_NKK is not None:
        result["val"] = _scores(given.counts_NKK, answers["counts_NKK"], card)
        if real and _share(real) > _CHANGED[form.precision] and form.precision != "float32":
            raise _differs(folder, f"{_share(real):.1%} of the labels of real images change", form)
    return result


def _run_target(folder: Path, scratch: Path, run: Path | None) -> None:
    arguments = [folder, scratch, *([] if run is None else [run])]
    try:
        run_module(target_process.__name__, arguments, longest=_LONGEST)
    except ChildModuleError as error:
        raise CheckpointError(
            "SEG-C070",
            "the exported model does not run in the runtime it is for",
            file=folder,
            observed=str(error),
            next_step="no file is left behind; export it to another format, or report this with "
            "the versions in run.json",
        ) from error


def _require(name: str, found: Agreement, form: GraphForm, folder: Path) -> None:
    if found.shape != found.observed_shape:
        shapes = f"{found.observed_shape} in place of {found.shape}"
        raise _differs(folder, f"on {name} the logits have the shape {shapes}", form)
    holds = found.holds if form.precision == "float32" else found.error <= _ERRORS[form.precision]
    if not holds:
        raise _differs(
            folder,
            f"on {name} logits are off by {found.error:.2g} of their range, "
            f"{found.changed} of {found.pixels} labels differ, {found.unexplained} of them where "
            "the best class is clear",
            form,
        )


def _differs(folder: Path, observed: str, form: GraphForm) -> CheckpointError:
    return CheckpointError(
        "SEG-C070",
        "the exported model does not give what the model itself gives",
        file=folder,
        observed=observed,
        allowed=f"{form.precision}: {_ERRORS[form.precision]:g} of the range of the logits"
        + (
            ", labels that differ only where two classes are as close"
            if form.precision == "float32"
            else f", {_CHANGED[form.precision]:.0%} of the labels of real images"
        ),
        next_step="no file is left behind; export it to another format or with --precision "
        "float32, or report this with the versions in run.json",
    )


def _told(found: Agreement) -> dict[str, Any]:
    return {
        "shape": list(found.shape),
        "largest_error": found.error,
        "labels_changed": found.changed,
        "pixels": found.pixels,
    }


def _share(found: Sequence[Agreement]) -> float:
    return sum(each.changed for each in found) / sum(each.pixels for each in found)


def _scores(
    counts_NKK: NDArray[np.int64], exported_NKK: NDArray[np.generic], card: ModelCard
) -> dict[str, Any]:
    """Return the scores of both; of two images or more, intervals as well."""
    own, other = counts_NKK, exported_NKK.astype(np.int64)
    result: dict[str, Any] = {"images": len(own)}
    for name, counts in (("framework", own), ("exported", other)):
        each = scores.from_counts(counts.sum(axis=0))
        result[name] = {
            "mean_iou": _number(each.mean_iou),
            "pixel_accuracy": _number(each.pixel_accuracy),
            "iou": dict(zip(card.label_map.names, map(_number, each.iou), strict=True)),
        }
    if len(own) > 1:
        interval = paired_intervals(other, own).scalars["mean_iou"]
        result["mean_iou_difference"] = {
            "exported_minus_framework": _number(interval.estimate),
            "interval_95": [_number(interval.low), _number(interval.high)],
        }
        found = run_intervals(other).scalars
        result["exported"]["intervals_95"] = {
            name: [_number(found[name].low), _number(found[name].high)]
            for name in ("mean_iou", "pixel_accuracy")
        }
    result["definition"] = (
        "intersection over union of each class over all pixels of the split, mean over the classes "
        "that occur; intervals are over other images, and null where a class is in too few"
    )
    return result


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
