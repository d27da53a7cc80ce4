"""The Keras backend: which models there are, and how one becomes a trainer.

Importing this file imports no framework; `KerasBackend.build` does.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from terrazzo.base import config_parsing
from terrazzo.base.errors import ConfigError, unknown_name
from terrazzo.base.processes import SingleProcess, World
from terrazzo.models import backends
from terrazzo.models.memory import memory_to_build
from terrazzo.models.parameter_groups import Parts
from terrazzo_keras.tensorflow_messages import known_messages_hidden

if TYPE_CHECKING:
    from terrazzo.base.recipe import ModelConfig, TrainingConfig
    from terrazzo.data.input_statistics import InputStatistics
    from terrazzo.data.labels import LabelMap
    from terrazzo.data.sample import Bands
    from terrazzo.models.contract import Trainer
    from terrazzo.models.published_network import Asked, PublishedNetwork

ENGINES = ("tensorflow", "torch", "jax")


@dataclass(frozen=True, slots=True)
class KerasBackend:
    """Models built with Keras, on the engine that ``KERAS_BACKEND`` names (TensorFlow)."""

    name: str = "keras"

    def models(self) -> tuple[str, ...]:
        """Return the file names in ``models/``; imports no framework."""
        files = (Path(__file__).parent / "models").glob("*.py")
        return tuple(sorted(file.stem for file in files if file.stem != "__init__"))

    def versions(self) -> dict[str, str]:
        """Return the versions of Keras and its engine."""
        return {name: metadata.version(name) for name in ("keras", engine_name())}

    def world(self) -> World:
        """Return this process alone.

        Raises:
            ConfigError: SEG-X014, it was started as one of several.
        """
        _refuse_several_processes()
        return SingleProcess()

    def input_statistics(self, model: ModelConfig) -> InputStatistics | None:
        """Return what the pretrained weights of a model were trained on; None: it has none.

        Raises:
            ConfigError: as `build`.
        """
        if not model.options.get("pretrained"):
            return None
        _, module, options = self._module_and_options(model)
        if not hasattr(module, "input_statistics"):
            return None
        found: InputStatistics | None = module.input_statistics(options)
        return found

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
            ConfigError: unknown model, option or engine, with the choices; several processes; or
                another framework in this one.
            ResourceError: SEG-R006, the model does not fit into memory.
        """
        trainer, module, options = self._module_and_options(model)
        expected = self.input_statistics(model)
        parts = Parts(module.ENCODER, module.HEAD)
        with memory_to_build(model, trainer.out_of_memory):
            made: Trainer = trainer.build(
                module.build, options, parts, training, labels, bands, seed, expected=expected
            )
        return made

    def published(self, source: Path, asked: Asked) -> PublishedNetwork:
        """Read what a preset of keras-hub says of its network; runs no code that comes with it.

        Raises:
            TerrazzoError: see `terrazzo_keras.importing.preset.read`.
        """
        _refuse_several_processes()
        engine = engine_name()
        backends.claim_process(self.name, engine)
        import_trainer(engine).set_number_type_and_layout()
        from terrazzo_keras.importing.preset import read

        return read(source, asked)

    def _module_and_options(self, model: ModelConfig) -> tuple[ModuleType, ModuleType, Any]:
        if model.name not in self.models():
            raise unknown_name("Keras model", model.name, self.models())
        _refuse_several_processes()
        engine = engine_name()
        backends.claim_process(self.name, engine)
        trainer = import_trainer(engine)
        module = importlib.import_module(f"terrazzo_keras.models.{model.name}")
        options = config_parsing.parse(module.Options, model.options, where=f"model {model.name}")
        return trainer, module, options


def import_trainer(engine: str) -> ModuleType:
    """Import Keras on its engine, and what trains with it."""
    os.environ["KERAS_BACKEND"] = engine
    if engine != "tensorflow":
        return importlib.import_module("terrazzo_keras.trainer")
    with known_messages_hidden():
        import tensorflow as tf

        tf.config.list_physical_devices()  # the first look at devices has a message of its own
        return importlib.import_module("terrazzo_keras.trainer")


def engine_name() -> str:
    """Return the engine that ``KERAS_BACKEND`` names.

    Raises:
        ConfigError: SEG-X004, there is no such engine.
    """
    name = os.environ.get("KERAS_BACKEND", "tensorflow")
    if name not in ENGINES:
        raise unknown_name("engine in KERAS_BACKEND", name, ENGINES)
    return name


def _refuse_several_processes() -> None:
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1":
        raise ConfigError(
            "SEG-X014",
            "the Keras backend trains in one process",
            observed=f"WORLD_SIZE={size}",
            allowed="WORLD_SIZE=1, or not set",
            next_step="start it without torchrun; to share the images of a step among several GPUs "
            "or machines use --backend torch (unet, segformer, deeplabv3 and others)",
        )


backend = KerasBackend()
