"""Images of the report as ``data:`` URLs: image, truth, prediction, and where they differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.data.labels import LabelMap
from terrazzo.evaluation.stored import ExampleFiles
from terrazzo.io import images

BUDGET = 1_800_000
"""Characters that all images of a report may take together."""
LONGEST_SIDES = (1024, 768, 512, 384, 256, 160)
"""Pixels; the first that keeps the budget is taken."""
WRONG = (213, 94, 0)
"""Vermilion of Okabe and Ito: told apart from grey with any colour vision."""
IGNORED = (110, 110, 110)


@dataclass(frozen=True)
class Shown:
    """One example, ready for the page.

    Attributes:
        name: as it is in the file names.
        height: rows of the files.
        width: columns of the files.
        image: ``data:`` URL, as are the next three.
        errors: None where the colours do not tell all classes and IGNORE apart.
        wrong: share of the counted pixels whose class is wrong; NaN where `errors` is None.
    """

    name: str
    height: int
    width: int
    image: str
    truth: str
    prediction: str
    errors: str | None
    wrong: float


def encode(examples: Sequence[ExampleFiles], label_map: LabelMap) -> tuple[Shown, ...]:
    """Read and encode examples, all reduced alike until they keep `BUDGET`."""
    for side in LONGEST_SIDES:
        shown = tuple(_encode(example, label_map, side) for example in examples)
        if sum(map(_length, shown)) <= BUDGET:
            break
    return shown


def _length(shown: Shown) -> int:
    urls = (shown.image, shown.truth, shown.prediction, shown.errors or "")
    return sum(map(len, urls))


def _encode(example: ExampleFiles, label_map: LabelMap, side: int) -> Shown:
    photo, truth, prediction = (
        Image.fromarray(images.read_image(path))
        for path in (example.image, example.truth, example.prediction)
    )
    errors, wrong = None, float("nan")
    if colours_tell_all(label_map):
        base = photo if photo.size == truth.size else photo.resize(truth.size)
        errors, wrong = error_map(np.asarray(base), np.asarray(truth), np.asarray(prediction))
    return Shown(
        name=example.name,
        height=truth.height,
        width=truth.width,
        image=url(photo, side, lossless=False),
        truth=url(truth, side, lossless=True),
        prediction=url(prediction, side, lossless=True),
        errors=None if errors is None else url(Image.fromarray(errors), side, lossless=False),
        wrong=wrong,
    )


def colours_tell_all(label_map: LabelMap) -> bool:
    """Whether coloured labels can be read back: all classes differ, and none is black (IGNORE)."""
    colours = {c.colour.lower() for c in label_map.classes}
    return len(colours) == len(label_map) and "#000000" not in colours


def error_map(
    image_HWC: NDArray[np.uint8], truth_HWC: NDArray[np.uint8], prediction_HWC: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], float]:
    """Return the faded image with wrong pixels in `WRONG`, and the share of wrong pixels."""
    ignored_HW = (truth_HWC == 0).all(axis=2)
    wrong_HW = (truth_HWC != prediction_HWC).any(axis=2) & ~ignored_HW
    faded_HW = 255 - (255 - image_HWC.mean(axis=2)) * 0.45
    errors_HWC = np.repeat(faded_HW[..., None], 3, axis=2).astype(np.uint8)
    errors_HWC[wrong_HW] = WRONG
    errors_HWC[ignored_HW] = IGNORED
    counted = int(ignored_HW.size - ignored_HW.sum())
    return errors_HWC, float(wrong_HW.sum() / counted) if counted else float("nan")


def url(image: Image.Image, side: int, *, lossless: bool) -> str:
    """Encode an image as a ``data:`` URL, its longer side reduced to `side` pixels at most."""
    scale = side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        # Mixed class colours would be colours of no class, or of another one.
        kind = Image.Resampling.NEAREST if lossless else Image.Resampling.BOX
        image = image.resize(size, kind)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=lossless, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
