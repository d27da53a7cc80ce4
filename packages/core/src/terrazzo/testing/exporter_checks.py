"""Small trained models for the tests of exports, and how an exported graph is held against one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.recipe import TrainingConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands, Batch
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Backend, Trainer
from terrazzo.models.exporter import exporter
from terrazzo.testing.trainer_checks import Factory

SHAPES = ((1, 61, 97), (3, 64, 96), (1, 60, 98), (3, 7, 9), (1, 1, 1))
"""Batch, height, width."""


def trained(
    backend: Backend,
    name: str,
    dtype: str = "uint8",
    *,
    num_bands: int = 3,
    num_classes: int = 4,
    options: dict[str, Any] | None = None,
    **training: Any,
) -> tuple[Trainer, ModelCard]:
    """Return a trainer after two steps on noise, and its card.

    Args:
        backend: of the model.
        name: of the model.
        dtype: of the images.
        num_bands: C.
        num_classes: K.
        options: of the model; None: those of its small form.
        training: settings of `TrainingConfig`.
    """
    classes = tuple(LabelClass(f"class {k}", f"#{k:06x}", (k,)) for k in range(num_classes))
    label_map = LabelMap("noise", classes)
    middle = 0.0 if dtype == "float32" else np.iinfo(dtype).max / 2
    bands = Bands(
        tuple(f"band {number}" for number in range(num_bands)),
        dtype,
        tuple(middle * (1 + number / 9) for number in range(num_bands)),
        tuple((middle or 1.0) * (1 + number / 7) for number in range(num_bands)),
    )
    model = Factory.small(backend, name).model
    if options is not None:
        model = model.model_copy(update={"options": options})
    settings = TrainingConfig(steps=1, **training)
    trainer = backend.build(model, settings, label_map, bands, 0)
    random = np.random.default_rng(0)
    for _ in range(2):
        labels_BHW = random.integers(num_classes, size=(2, 40, 44)).astype(label_map.dtype)
        batch = Batch(noise(dtype, 2, 40, 44, num_bands), labels_BHW, ("a", "b"), ("a", "b"))
        trainer.train_step(batch, 1e-2)
    return trainer, ModelCard(backend.name, model, label_map, bands, None, 2)


def noise(dtype: str, *shape: int) -> NDArray[np.generic]:
    """Return images as files have them; NaN in every band of a few pixels where there can be."""
    random = np.random.default_rng(shape)
    if dtype != "float32":
        whole: NDArray[np.generic] = random.integers(
            np.iinfo(dtype).max, size=shape, dtype=np.dtype(dtype), endpoint=True
        )
        return whole
    images_BHWC = random.standard_normal(shape, dtype=np.float32)
    images_BHWC[:, ::5, ::7] = np.nan
    return images_BHWC


Run = Callable[[NDArray[np.generic]], tuple[NDArray[np.float32], NDArray[np.integer]]]
"""From an image as files have it to logits B×H×W×K and labels B×H×W."""


def assert_same(trainer: Trainer, card: ModelCard, run: Run) -> None:
    """Hold an exported graph against the model, at sizes that are no multiples and others."""
    reference = exporter(card.backend)
    for shape in SHAPES:
        images_BHWC = noise(card.bands.dtype, *shape, len(card.bands))
        expected = reference.logits(trainer, images_BHWC)
        logits_BHWK, labels_BHW = run(images_BHWC)
        assert logits_BHWK.shape == expected.shape
        assert logits_BHWK.dtype == np.float32
        error = np.abs(logits_BHWK - expected).max()
        assert error <= 1e-4 * np.ptp(expected), (shape, error)
        assert labels_BHW.dtype == card.label_map.dtype
        second, first = np.sort(expected, axis=-1)[..., -2:].transpose(3, 0, 1, 2)
        sure = first - second > 2 * error
        assert np.array_equal(labels_BHW[sure], expected.argmax(axis=-1)[sure])
        assert sure.mean() > 0.9 or shape == (1, 1, 1)
