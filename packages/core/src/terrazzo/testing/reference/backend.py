"""The backend ``reference``: NumPy, for tests and teaching."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from terrazzo.base import config_parsing
from terrazzo.base.errors import unknown_name
from terrazzo.base.processes import SingleProcess, World
from terrazzo.models.contract import MaskGenerator
from terrazzo.testing.reference import bright_masks, published
from terrazzo.testing.reference.models import pixel_softmax
from terrazzo.testing.reference.trainer import ReferenceTrainer

if TYPE_CHECKING:
    from pathlib import Path

    from terrazzo.base.recipe import ModelConfig, TrainingConfig
    from terrazzo.data.input_statistics import InputStatistics
    from terrazzo.data.labels import LabelMap
    from terrazzo.data.sample import Bands
    from terrazzo.models.published_network import Asked, PublishedNetwork


class ReferenceBackend:
    """Builds `ReferenceTrainer`."""

    name = "reference"

    def models(self) -> tuple[str, ...]:
        """Return the file names in ``models/``."""
        return ("pixel_softmax",)

    def versions(self) -> dict[str, str]:
        """Return the version of NumPy."""
        return {"numpy": np.__version__}

    def world(self) -> World:
        """Return this process alone."""
        return SingleProcess()

    def input_statistics(self, model: ModelConfig) -> InputStatistics | None:
        """Return None: there are no pretrained weights."""
        self.options(model)
        return None

    def build(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
        seed: int,
    ) -> ReferenceTrainer:
        """Make a trainer with new weights that depend on `seed` alone.

        Raises:
            ConfigError: unknown model or option, with the choices.
        """
        return ReferenceTrainer(self.options(model), training, labels, bands, seed)

    def published(self, source: Path, asked: Asked) -> PublishedNetwork:  # noqa: ARG002 - the contract
        """Read a network from a folder that `terrazzo.testing.published.write` left.

        Raises:
            ConfigError: SEG-X155, it is none.
        """
        return published.read(source)

    def options(self, model: ModelConfig) -> pixel_softmax.Options:
        """Return the typed options of `model`.

        Raises:
            ConfigError: unknown model or option, with the choices.
        """
        if model.name not in self.models():
            raise unknown_name("model", model.name, self.models())
        return config_parsing.parse(pixel_softmax.Options, model.options, where="model.options")

    def mask_model_digest(self, folder: Path) -> str:
        """Return the SHA-256 of a mask model."""
        return bright_masks.digest(folder)

    def mask_generator(
        self, folder: Path, *, points: int, quality: float, stability: float, overlap: float
    ) -> MaskGenerator:
        """Load a mask model, which knows no such settings."""
        del points, quality, stability, overlap
        return bright_masks.load(folder)


backend = ReferenceBackend()
