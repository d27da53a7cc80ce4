"""The contract of `terrazzo.models.contract.Trainer`, carried out in NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError
from terrazzo.base.processes import SingleProcess
from terrazzo.base.recipe import TrainingConfig
from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import Bands, Batch
from terrazzo.models.contract import State
from terrazzo.models.parameter_groups import Part
from terrazzo.testing.reference import losses, optimizers
from terrazzo.testing.reference.models import pixel_softmax


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimiser step tells: the loss before the update, and the norm of its gradient."""

    loss: float
    gradient_norm: float = math.nan


class ReferenceTrainer:
    """A `pixel_softmax` model with its optimiser, float32 throughout."""

    world = SingleProcess()
    threads = 1
    depends_on_share = None
    device = "cpu"
    remarks = ()
    asynchronous = False
    measures_gradient = False

    def __init__(
        self,
        options: pixel_softmax.Options,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
        seed: int,
    ) -> None:
        self._options = options
        self._training = training
        self._ignore = labels.ignore_index
        self._label_dtype = labels.dtype
        self._bands = bands
        self._mean_C = np.array(bands.mean, np.float32)
        self._std_C = np.array(bands.std, np.float32)
        shape_FK = (pixel_softmax.num_features(options, len(bands)), len(labels))
        kernel_FK = np.random.default_rng(seed).normal(0, 0.01, shape_FK)
        self._weights = {
            "kernel": kernel_FK.astype(np.float32),
            "bias": np.zeros(len(labels), np.float32),
        }
        self._slots = {
            name: optimizers.empty_slots(training.optimizer, weights)
            for name, weights in self._weights.items()
        }
        self._average = None if training.ema is None else dict(self._weights)
        self._steps = 0

    @property
    def bands(self) -> Bands:
        """The bands it was built for, with their means and deviations."""
        return self._bands

    @property
    def num_parameters(self) -> int:
        """Number of weights."""
        return sum(weights.size for weights in self._weights.values())

    @property
    def parts(self) -> dict[str, Part]:
        """All is head: the features are not learned."""
        return {f"weights/{name}": "head" for name in self._weights}

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Make one optimiser update from `batch`, unless its loss is not finite."""
        # A loss that is not finite is an answer here, not a mishap: it leaves the update out.
        with np.errstate(invalid="ignore", over="ignore"):
            features_BHWF = self._features(batch.images_BHWC)
            loss, slope_BHWK = losses.total(
                self._training.loss,
                self._logits(features_BHWF, self._weights),
                batch.labels_BHW.astype(np.int64),
                self._ignore,
            )
        if not math.isfinite(loss):
            return Step(loss)
        slope_NK = slope_BHWK.astype(np.float32).reshape(-1, slope_BHWK.shape[-1])
        features_NF = features_BHWF.reshape(-1, features_BHWF.shape[-1])
        gradients = {"kernel": features_NF.T @ slope_NK, "bias": slope_NK.sum(axis=0)}
        self._update(gradients, learning_rate)
        return Step(loss, optimizers.norm(gradients) if self.measures_gradient else math.nan)

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K."""
        logits_BHWK = self.logits(images_BHWC)
        return np.exp(losses.log_softmax(logits_BHWK)).astype(np.float32)

    @property
    def options(self) -> pixel_softmax.Options:
        """The settings of the model."""
        return self._options

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K."""
        return self._logits(self._features(images_BHWC), self._scored)

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W uint8 or uint16."""
        logits_BHWK = self.logits(images_BHWC)
        labels_BHW: NDArray[np.integer] = logits_BHWK.argmax(axis=-1).astype(self._label_dtype)
        return labels_BHW

    def score(
        self, images_BHWC: NDArray[np.generic], labels_BHW: NDArray[np.generic]
    ) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
        """Return the most probable classes, and the cross-entropy of each image in nats."""
        logits_BHWK = self.logits(images_BHWC)
        log_p_BHWK = losses.log_softmax(logits_BHWK)
        valid_BHW = labels_BHW != self._ignore
        truth_BHW = np.where(valid_BHW, labels_BHW, 0).astype(np.int64)
        log_p_BHW = np.take_along_axis(log_p_BHWK, truth_BHW[..., None], axis=-1)[..., 0]
        losses_B: NDArray[np.float64] = -np.where(valid_BHW, log_p_BHW, 0).sum(axis=(1, 2))
        return logits_BHWK.argmax(axis=-1).astype(self._label_dtype), losses_B

    def state(self) -> State:
        """Return a copy of everything a bit-exact resume needs."""
        raw = {} if self._average is None else self._weights
        return {
            **{f"weights/{name}": array.copy() for name, array in self._scored.items()},
            **{f"optimizer/raw/{name}": array.copy() for name, array in raw.items()},
            **{f"optimizer/{name}": array.copy() for name, array in self._slots.items()},
            "optimizer/steps": np.array(self._steps),
        }

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over `state`. Without any ``optimizer/`` key only the weights are taken over.

        Raises:
            CheckpointError: SEG-C007, naming the first arrays whose names or shapes differ.
        """
        resume = any(name.startswith("optimizer/") for name in state)
        own = {n: a for n, a in self.state().items() if resume or n.startswith("weights/")}
        _require_same_arrays(own, state)
        for name in self._weights:
            stored = state[f"weights/{name}"]
            raw = state.get(f"optimizer/raw/{name}", stored)
            self._weights[name] = np.array(raw, np.float32)
            if self._average is not None:
                self._average[name] = np.array(stored, np.float32)
        if resume:
            for name in self._slots:
                self._slots[name] = np.array(state[f"optimizer/{name}"], np.float32)
            self._steps = int(np.asarray(state["optimizer/steps"], np.int64))

    def out_of_memory(self, error: Exception) -> bool:  # noqa: ARG002
        """Return False: NumPy raises Python's MemoryError, which core knows."""
        return False

    @property
    def _scored(self) -> dict[str, NDArray[np.float32]]:
        return self._weights if self._average is None else self._average

    def _features(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        return pixel_softmax.features(self._options, self._normalised(images_BHWC))

    def _normalised(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        normalised_BHWC = (images_BHWC.astype(np.float32) - self._mean_C) / self._std_C
        # NaN is "no data": as good as the mean. Infinity stays, and leaves the update out.
        return np.where(np.isnan(normalised_BHWC), np.float32(0), normalised_BHWC)

    def _logits(
        self, features: NDArray[np.float32], weights: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = features @ weights["kernel"] + weights["bias"]
        return logits

    def _update(self, gradients: dict[str, NDArray[np.float32]], learning_rate: float) -> None:
        self._steps += 1
        gradients = optimizers.clip(gradients, self._training.clip_norm)
        for name, gradient in gradients.items():
            self._weights[name], self._slots[name] = optimizers.update(
                self._training.optimizer,
                self._weights[name],
                gradient,
                self._slots[name],
                self._steps,
                learning_rate,
            )
            if self._average is not None and self._training.ema is not None:
                self._average[name] = optimizers.averaged(
                    self._training.ema, self._average[name], self._weights[name], self._steps
                )


def _require_same_arrays(own: State, given: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise a CheckpointError unless both have the same names and shapes."""
    own_shapes = {name: array.shape for name, array in own.items()}
    given_shapes = {name: array.shape for name, array in given.items()}
    differing = [
        name
        for name in sorted(own_shapes.keys() | given_shapes.keys())
        if own_shapes.get(name) != given_shapes.get(name)
    ]
    if differing:
        raise CheckpointError(
            "SEG-C007",
            "the stored weights are of another model",
            observed=_listing(differing, given_shapes),
            allowed=_listing(differing, own_shapes),
            next_step="load them with the options, classes and bands they were trained with",
        )


def _listing(names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> str:
    first = ", ".join(f"{name} {shapes.get(name, 'absent')}" for name in names[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
