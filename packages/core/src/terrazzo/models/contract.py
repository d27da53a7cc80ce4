"""The contract between core and a backend: everything a framework must do, and nothing more.

Core owns epochs, order, augmentation, schedules, evaluation, checkpoints and reports. A backend
owns one optimiser step, one forward pass and its arrays. `terrazzo.testing.trainer_checks` says the
same in tests; a backend that passes them is a backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.processes import World

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from terrazzo.base.recipe import ModelConfig, TrainingConfig
    from terrazzo.data.input_statistics import InputStatistics
    from terrazzo.data.labels import LabelMap
    from terrazzo.data.sample import Bands, Batch
    from terrazzo.models.parameter_groups import Part
    from terrazzo.models.published_network import Asked, PublishedNetwork

State = dict[str, NDArray[np.generic]]
"""Named arrays. Keys begin with ``weights/`` (all that prediction needs, batch-norm statistics and
their like included) or ``optimizer/`` (all that only training needs: slots, counters, seeds)."""


class StepResult(Protocol):
    """What one optimiser step tells."""

    @property
    def loss(self) -> float:
        """Loss of the batch before the update. Reading it may wait for the device.

        Not finite means that the update was left out: the weights are as before the step.
        """
        ...

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient of all weights together, before it was clipped.

        NaN where `Trainer.measures_gradient` was off in the step. Reading it may wait for the
        device.
        """
        ...


class Predictor(Protocol):
    """One trained model on one device: the part of a `Trainer` that predicts.

    Exported models have this part alone; see `terrazzo.models.runtimes`.
    """

    @property
    def world(self) -> World:
        """The processes that use this model together."""
        ...

    @property
    def device(self) -> str:
        """Where the model runs, for the record: ``cpu``, ``cuda:0 NVIDIA H200``."""
        ...

    @property
    def threads(self) -> int:
        """Threads the framework shares sums among on the CPU: with another number, bits differ."""
        ...

    @property
    def bands(self) -> Bands:
        """The bands it was built for, with their means and deviations."""
        ...

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K, in inference mode.

        Any height and width: padded inside and cropped back.
        """
        ...

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W uint8 or uint16: the fast path of evaluation."""
        ...

    def out_of_memory(self, error: Exception) -> bool:
        """Tell whether the framework says by this error that host or device have no memory left.

        Python's MemoryError need not be known here. After such an error the trainer still predicts.
        """
        ...


class Trainer(Predictor, Protocol):
    """One model with its optimiser on one device.

    Attributes:
        measures_gradient: whether the next steps tell the norm of their gradient, which may cost
            time; core sets it for the steps that are logged.
    """

    measures_gradient: bool

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
        """Lines for the user about the weights to start from: loaded, made anew, inflated."""
        ...

    @property
    def parts(self) -> Mapping[str, Part]:
        """Part of the network that each weight belongs to, by its name in `state`."""
        ...

    @property
    def depends_on_share(self) -> str | None:
        """What makes a step depend on how its batch is shared among processes; None: nothing.

        ``batch normalisation`` by each process's own images, ``dropout`` with random numbers of its
        own. A run with either cannot go on with another number of processes as if nothing were.
        """
        ...

    def train_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Make one optimiser update from `batch`, unless its loss is not finite.

        With `training.accumulate` the update is that of the whole batch, batch statistics apart.
        The last batch of an epoch may be shorter than the others. A batch whose pixels are all
        IGNORE has loss 0. NaN in a float image means "no data" and is taken as the band's mean;
        infinity makes the loss not finite.
        """
        ...

    def score(
        self, images_BHWC: NDArray[np.generic], labels_BHW: NDArray[np.generic]
    ) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
        """Return what `predict_labels` does and the loss of each image, from one forward pass.

        The loss is the cross-entropy, summed over the pixels that are not IGNORE: nats, float64, B.
        """
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

    def world(self) -> World:
        """Return the processes this one trains with, joining them where a launcher started it.

        Raises:
            ConfigError: SEG-X014, this backend trains in one process and was started in several.
        """
        ...

    def input_statistics(self, model: ModelConfig) -> InputStatistics | None:
        """Return what the pretrained weights of a model were trained on; None: it has none.

        Raises:
            ConfigError: unknown model or option, with the choices.
        """
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

        Pretrained weights are fitted to `bands`, as far as these are images of the same kind; see
        `terrazzo.data.input_statistics`.

        Raises:
            ConfigError: unknown model or option, with the choices.
        """
        ...

    def published(self, source: Path, asked: Asked) -> PublishedNetwork:
        """Read what a published network says of itself; runs no code that comes with it.

        Args:
            source: a folder as a library writes it, a file of weights, or where there is neither,
                a repository on the hub.
            asked: what the person says of it.

        Raises:
            ConfigError: SEG-X155 nothing this backend can take over; SEG-X156 it needs code of its
                own; SEG-X160 its description is refused.
            CheckpointError: SEG-C006, a file is damaged.
        """
        ...


class MaskGenerator(Protocol):
    """A model that cuts everything out of an image and knows no classes."""

    def masks(self, image_HWC: NDArray[np.uint8]) -> list[NDArray[np.bool_]]:
        """Return masks H×W of an RGB image, the best ones first; they may overlap."""
        ...


@runtime_checkable
class MaskingBackend(Protocol):
    """A backend that can also load a model for masks; not every one can."""

    def mask_model_digest(self, folder: Path) -> str:
        """Return the SHA-256 of the weights of a mask model, in hexadecimal.

        Raises:
            CheckpointError: SEG-C012, the folder holds no such model.
        """
        ...

    def mask_generator(
        self, folder: Path, *, points: int, quality: float, stability: float, overlap: float
    ) -> MaskGenerator:
        """Load a mask model; the settings are those of `terrazzo.models.mask_refinement`.

        Raises:
            CheckpointError: SEG-C012 the folder holds no such model; SEG-C006 it is damaged.
            ConfigError: SEG-X003, what computes it is not installed.
        """
        ...
