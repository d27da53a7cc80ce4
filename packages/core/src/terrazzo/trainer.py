"""The contract between core and a backend: everything a framework must do, and nothing more.

Core owns epochs, order, augmentation, schedules, evaluation, checkpoints and reports. A backend
owns one optimiser step, one forward pass and its arrays. `terrazzo.testing.trainer_checks` says the
same in tests; a backend that passes them is a backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from terrazzo.config import ModelConfig, TrainingConfig
    from terrazzo.labels import LabelMap
    from terrazzo.parts import Part
    from terrazzo.sample import Bands, Batch

State = dict[str, NDArray[np.generic]]
"""Named arrays. Keys begin with ``weights/`` (all that prediction needs, batch-norm statistics and
their like included) or ``optimizer/`` (all that only training needs: slots, counters, seeds)."""

IntegerArray = TypeVar("IntegerArray", bound=NDArray[np.integer])


class World(Protocol):
    """The processes that run this training together."""

    @property
    def rank(self) -> int:
        """Number of this process, 0…size-1. Rank 0 writes files."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return the exact sum of an int64 array over all processes, to all processes."""
        ...


@dataclass(frozen=True, slots=True)
class SingleProcess:
    """The world of one process."""

    rank: int = 0
    size: int = 1

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return `counts` unchanged."""
        return counts


class StepResult(Protocol):
    """What one optimiser step tells."""

    @property
    def loss(self) -> float:
        """Loss of the batch before the update. Reading it may wait for the device.

        Not finite means that the update was left out: the weights are as before the step.
        """
        ...


class Trainer(Protocol):
    """One model with its optimiser on one device."""

    @property
    def world(self) -> World:
        """The processes that train this model together."""
        ...

    @property
    def device(self) -> str:
        """Where the model runs, for the record: ``cpu``, ``cuda:0 NVIDIA H200``."""
        ...

    @property
    def asynchronous(self) -> bool:
        """True if `train_step` returns before its loss is known, so reading it early costs time."""
        ...

    @property
    def num_parameters(self) -> int:
        """Number of trainable and frozen weights, without batch-norm statistics."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know of the weights it began with: taken, made anew, inflated."""
        ...

    @property
    def parts(self) -> Mapping[str, Part]:
        """Part of the network that each weight belongs to, by its name in `state`."""
        ...

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Make one optimiser update from `batch`, unless its loss is not finite.

        With `training.accumulate` the update is that of the whole batch, batch statistics apart.
        The last batch of an epoch may be shorter than the others. A batch whose pixels are all
        IGNORE has loss 0. NaN in a float picture means "no data" and is taken as the band's mean;
        infinity makes the loss not finite.
        """
        ...

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K, in inference mode.

        Any height and width: padded inside and cropped back.
        """
        ...

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W uint8 or uint16: the fast path of evaluation."""
        ...

    def state(self) -> State:
        """Return a copy of everything a bit-exact resume needs, on the host."""
        ...

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over `state`. Without any ``optimizer/`` key only the weights are taken over.

        Raises:
            CheckpointError: naming the first arrays whose names or shapes differ.
        """
        ...


class Backend(Protocol):
    """A framework: the module-level object ``backend`` in ``terrazzo_<name>/backend.py``."""

    @property
    def name(self) -> str:
        """The word after ``--backend``."""
        ...

    def models(self) -> tuple[str, ...]:
        """Return the file names in ``models/``; imports no framework."""
        ...

    def versions(self) -> dict[str, str]:
        """Return the versions of the framework's packages, for ``run.json``."""
        ...

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
            ConfigError: unknown model or option, with the choices.
        """
        ...
