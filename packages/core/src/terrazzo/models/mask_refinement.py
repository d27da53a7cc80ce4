"""Predictions brought to the outlines of class-agnostic masks, such as those of Segment Anything.

A model that cuts everything out of an image, knowing no classes, gives masks; inside each the
probabilities of our model are averaged, so that its most probable class is a majority vote by
summed probabilities. Small masks lie on top of large ones, for they are the more particular; what
no mask covers stays as it was. The result is again probabilities that sum to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, unknown_name
from terrazzo.io.images import as_rgb
from terrazzo.models import backends
from terrazzo.models.contract import MaskGenerator, MaskingBackend, Predictor
from terrazzo.models.derived import Derived

Refinement = Literal["sam"]

DEFINITION = (
    "inside each mask of a Segment Anything model the class with the largest sum of probabilities, "
    "small masks above large ones; outside of all masks as without"
)


@dataclass(frozen=True, slots=True)
class MaskSettings:
    """Where masks come from; small, and the same in every process that sees the folder.

    Attributes:
        folder: of the mask model, as its library's ``save_pretrained`` writes it.
        backend: whose framework computes it.
        points: points along each side of the grid of prompts.
        quality: least IoU that the mask model gives a mask itself, 0…1.
        stability: least IoU of a mask with itself when its threshold is moved, 0…1.
        overlap: of the boxes of two masks, as IoU, above which the better one alone is kept.
    """

    folder: Path
    backend: str = "torch"
    points: int = 32
    quality: float = 0.88
    stability: float = 0.95
    overlap: float = 0.7

    def record(self) -> dict[str, Any]:
        """Return what tells these masks from others, the weights included, as JSON holds it.

        Raises:
            CheckpointError: SEG-C012, the folder holds no such model.
        """
        found: dict[str, Any] = asdict(self)
        found["folder"] = self.folder.name
        found["sha256"] = mask_backend(self.backend).mask_model_digest(self.folder)
        return found


def require_refinement(word: str) -> None:
    """Refuse what is no refinement.

    Raises:
        ConfigError: SEG-X004.
    """
    if word not in get_args(Refinement):
        raise unknown_name("refinement", word, get_args(Refinement))


def backend_for_masks(predicting: str | None) -> str:
    """Return whose framework computes masks beside a model.

    Args:
        predicting: the backend whose framework computes the model; None: none of them does.

    Raises:
        ConfigError: SEG-X173, masks need another framework than the model.
    """
    if predicting in ("torch", None):
        return "torch"
    if isinstance(backends.load(predicting), MaskingBackend):
        return predicting
    raise ConfigError(
        "SEG-X173",
        "Segment Anything is computed by PyTorch, and one process holds one framework",
        observed=f"a model computed by {predicting}",
        allowed="a model of the backend torch, or one computed by OpenVINO or ONNX Runtime",
        next_step="add --runtime openvino or --runtime onnxruntime",
    )


def mask_backend(name: str) -> MaskingBackend:
    """Load the backend that computes masks."""
    backend = backends.load(name)
    assert isinstance(backend, MaskingBackend)
    return backend


@cache
def mask_generator(settings: MaskSettings) -> MaskGenerator:
    """Load a mask model, once a process.

    Raises:
        CheckpointError: SEG-C012 the folder holds no such model; SEG-C006 it is damaged.
        ConfigError: SEG-X003, what computes it is not installed.
    """
    return mask_backend(settings.backend).mask_generator(
        settings.folder,
        points=settings.points,
        quality=settings.quality,
        stability=settings.stability,
        overlap=settings.overlap,
    )


def refined(predictor: Predictor, settings: MaskSettings | None) -> Predictor:
    """Return a model whose probabilities are averaged inside masks; None: the model itself."""
    if settings is None:
        return predictor
    return Derived((predictor,), partial(_refined, predictor, settings))


def _refined(
    predictor: Predictor, settings: MaskSettings, images_BHWC: NDArray[np.generic]
) -> NDArray[np.float32]:
    generator = mask_generator(settings)
    found_BHWK = np.array(predictor.predict(images_BHWC), np.float32)
    for image_HWC, probabilities_HWK in zip(images_BHWC, found_BHWK, strict=True):
        average_inside(probabilities_HWK, generator.masks(_shown(image_HWC)))
    return found_BHWK


def _shown(image_HWC: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the image as people see it; 0 where values are missing."""
    if image_HWC.dtype.kind == "f" and np.isnan(image_HWC).all():
        return np.zeros((*image_HWC.shape[:2], 3), np.uint8)
    return as_rgb(image_HWC)


def average_inside(
    probabilities_HWK: NDArray[np.float32], masks: Sequence[NDArray[np.bool_]]
) -> None:
    """Replace the probabilities inside each mask by their mean over it, in place.

    Means are taken of the probabilities as they were given; where masks overlap, the smallest one
    has the pixel.

    Args:
        probabilities_HWK: sum to 1 over K; changed.
        masks: H×W each.
    """
    areas = [int(np.count_nonzero(mask_HW)) for mask_HW in masks]
    order = sorted(range(len(masks)), key=lambda number: (-areas[number], number))
    means = {
        number: probabilities_HWK[masks[number]].mean(axis=0, dtype=np.float64)
        for number in order
        if areas[number]
    }
    for number in order:
        if areas[number]:
            probabilities_HWK[masks[number]] = means[number].astype(np.float32)
