"""The object behind ``--backend torch``. Importing this module imports no framework."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from terrazzo.base import config_parsing
from terrazzo.base.errors import unknown_name
from terrazzo.base.processes import SingleProcess
from terrazzo.models import backends
from terrazzo.models.memory import memory_to_build
from terrazzo.models.parameter_groups import Parts

if TYPE_CHECKING:
    from terrazzo.base.processes import World
    from terrazzo.base.recipe import ModelConfig, TrainingConfig
    from terrazzo.data.input_statistics import InputStatistics
    from terrazzo.data.labels import LabelMap
    from terrazzo.data.sample import Bands
    from terrazzo.models.contract import Backend, MaskGenerator, Trainer
    from terrazzo.models.published_network import Asked, PublishedNetwork

_PACKAGES = ("torch", "torchvision", "timm", "transformers")


class TorchBackend:
    """PyTorch behind the `terrazzo.models.contract.Backend` contract."""

    name = "torch"

    def models(self) -> tuple[str, ...]:
        """Return the file names in ``models/``; imports no framework."""
        folder = Path(__file__).parent / "models"
        return tuple(sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")))

    def versions(self) -> dict[str, str]:
        """Return the versions of the framework's packages, for ``run.json``."""
        return {name: metadata.version(name) for name in _PACKAGES}

    def world(self) -> World:
        """Return the processes this one trains with, joining them under ``torchrun`` or Ray."""
        if os.environ.get("WORLD_SIZE", "1") == "1" and "torch.distributed" not in sys.modules:
            return SingleProcess()
        backends.claim_process(self.name, "torch")
        from terrazzo_torch import world

        return world.current()

    def input_statistics(self, model: ModelConfig) -> InputStatistics | None:
        """Return what the pretrained weights of a model were trained on; None: it has none.

        Raises:
            ConfigError: unknown model or option, with the choices; or another framework in this
                process.
            CheckpointError: as `weight_statistics.beside`.
        """
        if not model.options.get("pretrained"):
            return None
        file, options = self._file_and_options(model)
        from terrazzo_torch import weight_statistics

        if (said := weight_statistics.beside(options.pretrained)) is not None:
            return said
        return file.input_statistics(options) if hasattr(file, "input_statistics") else None

    def build(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
        seed: int,
    ) -> Trainer:
        """Make a trainer with new weights that depend on `seed` alone.

        Raises:
            ConfigError: unknown model or option, with the choices; or another framework in this
                process.
            ResourceError: SEG-R006, the model does not fit into memory.
        """
        file, options = self._file_and_options(model)
        expected = self.input_statistics(model)

        import torch

        from terrazzo_torch import first_convolution, world
        from terrazzo_torch.trainer import TorchTrainer, out_of_memory

        torch.manual_seed(seed)
        frozen = hasattr(file, "freezes") and file.freezes(options)
        parts = Parts(file.ENCODER, file.HEAD, getattr(file, "layer", None), frozen)
        with memory_to_build(model, out_of_memory):
            network = file.build(options, len(bands), len(labels))
            if expected is not None:
                network.remarks += first_convolution.fit(network, expected, bands)
            return TorchTrainer(network, parts, training, labels, bands, seed, world.current())

    def published(self, source: Path, asked: Asked) -> PublishedNetwork:
        """Read what a published network says of itself; runs no code that comes with it.

        Raises:
            TerrazzoError: see `terrazzo_torch.importing.source.read`.
        """
        backends.claim_process(self.name, "torch")
        from terrazzo_torch.importing.source import read

        return read(source, asked)

    def mask_model_digest(self, folder: Path) -> str:
        """Return the SHA-256 of the weights of a Segment Anything model."""
        from terrazzo_torch import mask_files

        return mask_files.digest(folder)

    def mask_generator(
        self, folder: Path, *, points: int, quality: float, stability: float, overlap: float
    ) -> MaskGenerator:
        """Load a Segment Anything model, see `terrazzo_torch.segment_anything`.

        Raises:
            CheckpointError: SEG-C012 the folder holds none; SEG-C006 it is damaged.
            ConfigError: SEG-X070, another framework is in this process.
            ResourceError: SEG-R006, it does not fit into memory.
        """
        from terrazzo_torch import mask_files

        mask_files.require(folder)
        backends.claim_process(self.name, "torch")
        from terrazzo_torch import segment_anything

        return segment_anything.load(
            folder, points=points, quality=quality, stability=stability, overlap=overlap
        )

    def _file_and_options(self, model: ModelConfig) -> tuple[ModuleType, Any]:
        if model.name not in self.models():
            raise unknown_name("model", model.name, self.models())
        backends.claim_process(self.name, "torch")
        from terrazzo_torch.importing.extra import model_file

        file = model_file(model.name)
        where = f"model.options ({model.name})"
        return file, config_parsing.parse(file.Options, model.options, where=where)


backend: Backend = TorchBackend()
