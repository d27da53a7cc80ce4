"""Small models with random weights and scenes of noise, for tests of prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.data.sample import Bands
from terrazzo.io import rasters
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model

UTM: dict[str, Any] = {
    "crs": "EPSG:32633",
    "transform": Affine(0.5, 0, 392_000, 0, -0.5, 5_820_000),
}
"""Half a metre a pixel."""

LABELS = LabelMap(
    "scene", tuple(LabelClass(f"class {k}", f"#{k * 40:02X}00FF", (k,)) for k in range(6))
)


def make_model(
    folder: Path,
    bands: int = 3,
    dtype: str = "uint8",
    *,
    names: tuple[str, ...] | None = None,
    image_size: tuple[int, int] | None = None,
    pixel_metres: PixelSizes | None = None,
    labels: LabelMap = LABELS,
    per_image: bool = False,
) -> Path:
    """Write a model that looks at 3×3 pixels."""
    top = float(np.iinfo(dtype).max) if np.dtype(dtype).kind == "u" else 1.0
    names = names or tuple(f"band {n}" for n in range(1, bands + 1))
    known = Bands(names, dtype, (top / 2,) * bands, (top / 8,) * bands)
    if per_image:
        known = Bands.normalized_per_image(names, dtype)
    model = ModelConfig(name="pixel_softmax", options={"features": "neighbourhood"})
    trainer = backends.load("reference").build(model, TrainingConfig(steps=1), labels, known, 5)
    rng = np.random.default_rng(11)
    weights = {
        name: array for name, array in trainer.state().items() if name.startswith("weights/")
    }
    kernel = weights["weights/kernel"]
    weights["weights/kernel"] = rng.normal(0, 0.4, kernel.shape).astype(np.float32)
    card = ModelCard("reference", model, labels, known, image_size, 1, pixel_metres)
    saved_model.write(folder, card, weights)
    return folder


def make_scene(
    path: Path,
    shape: tuple[int, int, int],
    dtype: str = "uint8",
    nodata: float | None = None,
    seed: int = 0,
    names: tuple[str, ...] | None = None,
    **place: Any,
) -> Path:
    """Write noise, with a corner of no data where there is a nodata value."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    image_HWC = (rng.random(shape) * top).astype(dtype)
    if nodata is not None:
        rows, columns = np.indices(shape[:2])
        image_HWC[rows + columns < min(20, shape[0] + shape[1] - 3)] = nodata
    rasters.write(path, image_HWC, nodata=nodata, band_names=names, **(place or UTM))
    return path
