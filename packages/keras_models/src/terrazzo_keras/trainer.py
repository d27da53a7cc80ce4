"""One Keras model with its optimiser, behind `terrazzo.trainer.Trainer`.

The Keras model is only the architecture: its variables are read once, then their values live in a
state that each step maps to a new one, ``state, loss = step(state, batch)``. A pure function is
what all three engines compile, differentiate and, for a non-finite gradient, undo in the same way;
`keras.Model.train_on_batch` waits for the device at every step and cannot leave out an update.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from terrazzo.errors import CheckpointError
from terrazzo.trainer import SingleProcess, State
from terrazzo_keras import losses, optimizers
from terrazzo_keras.layout import layout, variable_names

if TYPE_CHECKING:
    from terrazzo.config import Frozen, TrainingConfig
    from terrazzo.labels import LabelMap
    from terrazzo.sample import Bands, Batch

DeviceState = dict[str, Any]
"""``weights`` and ``statistics`` (vectors), ``seeds`` (list), ``slots`` (vectors by name) and
``steps`` (number of updates made)."""


@dataclass(frozen=True, slots=True)
class DeviceLoss:
    """A loss that may still be on its way."""

    tensor: Any

    @property
    def loss(self) -> float:
        """Wait for the device and return the loss."""
        return float(ops.convert_to_numpy(self.tensor))


def build(
    build_model: Callable[[Any, int, int], keras.Model],
    options: Frozen,
    training: TrainingConfig,
    labels: LabelMap,
    bands: Bands,
    seed: int,
) -> KerasTrainer:
    """Make a model in the wished precision and a trainer for it."""
    engine = importlib.import_module(f"terrazzo_keras.engines.{keras.backend.backend()}")
    keras.utils.set_random_seed(seed)
    on_gpu = engine.device() != "cpu"
    wants_bfloat16 = training.precision == "bfloat16" or (training.precision == "auto" and on_gpu)
    policy = keras.config.dtype_policy()
    # keras.applications takes the policy from nowhere else than the global one.
    keras.config.set_dtype_policy("mixed_bfloat16" if wants_bfloat16 else "float32")
    try:
        model = build_model(options, len(bands), len(labels))
    finally:
        keras.config.set_dtype_policy(policy)
    return KerasTrainer(model, engine, training, labels, bands)


class KerasTrainer:
    """Trains and applies one model on one device. The arguments are described in `build`."""

    world = SingleProcess()

    def __init__(
        self,
        model: keras.Model,
        engine: Any,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
    ) -> None:
        self.device: str = engine.device()
        self.asynchronous = self.device != "cpu"
        self._model, self._engine = model, engine
        self._training, self._labels, self._bands = training, labels, bands
        names = variable_names(model)
        self._weights = layout(model.trainable_variables, names)
        others = model.non_trainable_variables
        self._statistics = layout([v for v in others if v.dtype == "float32"], names)
        seeds = [v for v in others if v.dtype != "float32"]
        self._seed_names = tuple(names[id(v)] for v in seeds)
        self._is_statistic = [v.dtype == "float32" for v in others]
        self._decayed = np.repeat(
            [np.float32(len(shape) >= 2) for shape in self._weights.shapes], self._weights.sizes
        )
        self._first_seeds = [np.array(ops.convert_to_numpy(v)) for v in seeds]
        self._state: DeviceState = {
            "weights": self._weights.join(v.value for v in model.trainable_variables),
            "statistics": self._statistics.join(v.value for v in others if v.dtype == "float32"),
        } | self._fresh_optimizer()
        self._compiled: dict[tuple[str, ...], Callable[..., Any]] = {}

    @property
    def num_parameters(self) -> int:
        """Number of trainable weights; batch statistics do not count."""
        return sum(self._weights.sizes)

    def train_step(self, batch: Batch, learning_rate: float) -> DeviceLoss:
        """Make one optimiser update from `batch`, left out where loss or gradient is not finite.

        The loss is NaN where only the gradient is not finite.
        """
        step = self._function("step", self._step, batch.images_BHWC, batch.labels_BHW)
        self._state, loss = step(
            self._state,
            ops.convert_to_tensor(batch.images_BHWC),
            ops.convert_to_tensor(batch.labels_BHW),
            ops.convert_to_tensor(learning_rate, "float32"),
        )
        return DeviceLoss(loss)

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K, in inference mode."""
        return np.array(self._predicted("probabilities", self._probabilities, images_BHWC))

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W in the label map's dtype."""
        return np.array(self._predicted("labels", self._most_probable, images_BHWC))

    def state(self) -> State:
        """Return a copy of weights, statistics, slots, counter and dropout seeds, on the host."""
        state = self._state
        seeds = zip(self._seed_names, state["seeds"], strict=True)
        return (
            self._weights.named("weights", state["weights"])
            | self._statistics.named("weights", state["statistics"])
            | {
                name: array
                for slot, vector in state["slots"].items()
                for name, array in self._weights.named(f"optimizer/{slot}", vector).items()
            }
            | {f"optimizer/seed/{name}": np.array(ops.convert_to_numpy(v)) for name, v in seeds}
            | {"optimizer/steps": np.array(ops.convert_to_numpy(state["steps"]))}
        )

    def load_state(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Take over `state`. Without any ``optimizer/`` key the optimiser begins anew.

        Raises:
            CheckpointError: SEG-C007, naming the first arrays whose names or shapes differ; then
                nothing has changed.
        """
        resumes = any(name.startswith("optimizer/") for name in state)
        expected = {n: a for n, a in self.state().items() if resumes or n.startswith("weights/")}
        _refuse_differences(expected, state)
        self._state = {
            "weights": self._weights.vector("weights", state),
            "statistics": self._statistics.vector("weights", state),
        } | (self._loaded_optimizer(state) if resumes else self._fresh_optimizer())

    def _fresh_optimizer(self) -> DeviceState:
        size = self.num_parameters
        slots = optimizers.slot_names(self._training.optimizer)
        return {
            "seeds": [ops.convert_to_tensor(seed) for seed in self._first_seeds],
            "slots": {slot: ops.zeros((size,), "float32") for slot in slots},
            "steps": ops.zeros((), "int32"),
        }

    def _loaded_optimizer(self, state: Mapping[str, NDArray[np.generic]]) -> DeviceState:
        slots = optimizers.slot_names(self._training.optimizer)
        return {
            "seeds": [
                ops.convert_to_tensor(state[f"optimizer/seed/{n}"]) for n in self._seed_names
            ],
            "slots": {slot: self._weights.vector(f"optimizer/{slot}", state) for slot in slots},
            "steps": ops.convert_to_tensor(state["optimizer/steps"]),
        }

    def _predicted(
        self, name: str, function: Callable[..., Any], images_BHWC: NDArray[np.generic]
    ) -> Any:
        predict = self._function(name, function, images_BHWC)
        return ops.convert_to_numpy(predict(self._state, ops.convert_to_tensor(images_BHWC)))

    def _function(
        self, name: str, function: Callable[..., Any], *arrays: NDArray[np.generic]
    ) -> Callable[..., Any]:
        """Return `function` compiled for arrays of these types and bands, whatever their sizes."""
        key = (name, *(array.dtype.name for array in arrays))
        if key not in self._compiled:
            state = keras.tree.map_structure(_spec, self._state)
            images = keras.KerasTensor((None, None, None, len(self._bands)), key[1])
            arguments: tuple[Any, ...] = (state, images)
            if name == "step":
                labels = keras.KerasTensor((None, None, None), key[2])
                arguments += (labels, keras.KerasTensor((), "float32"))
            self._compiled[key] = self._engine.compiled(function, arguments)
        return self._compiled[key]

    def _step(
        self, state: DeviceState, images_BHWC: Any, labels_BHW: Any, learning_rate: Any
    ) -> tuple[DeviceState, Any]:
        training = self._training

        def loss_of(weights: Any) -> tuple[Any, Any]:
            logits_BHWK, moved = self._logits({**state, "weights": weights}, images_BHWC, True)
            loss = losses.total(training.loss, logits_BHWK, labels_BHW, self._labels.ignore_index)
            return loss, moved

        (loss, moved), gradient = self._engine.value_and_grad(loss_of, state["weights"])
        norm = ops.sqrt(ops.sum(ops.square(gradient)))
        finite = ops.logical_and(ops.isfinite(loss), ops.isfinite(norm))
        if training.clip_norm is not None:
            gradient = optimizers.clipped(gradient, norm, training.clip_norm)
        steps = state["steps"] + 1
        weights, slots = optimizers.update(
            training.optimizer,
            state["weights"],
            gradient,
            state["slots"],
            steps,
            learning_rate,
            ops.convert_to_tensor(self._decayed),
        )
        new = {"weights": weights, **moved, "slots": slots, "steps": steps}
        kept = keras.tree.map_structure(lambda n, old: ops.where(finite, n, old), new, state)
        return kept, ops.where(finite, loss, float("nan"))

    def _logits(self, state: DeviceState, images_BHWC: Any, training: bool) -> tuple[Any, Any]:
        """Return float32 logits, and the statistics and seeds after the pass."""
        statistics, seeds = iter(self._statistics.split(state["statistics"])), iter(state["seeds"])
        logits_BHWK, others = self._model.stateless_call(
            self._weights.split(state["weights"]),
            [next(statistics if is_statistic else seeds) for is_statistic in self._is_statistic],
            self._normalised(images_BHWC),
            training=training,
        )
        pairs = list(zip(others, self._is_statistic, strict=True))
        moved = {
            "statistics": self._statistics.join(v for v, is_statistic in pairs if is_statistic),
            "seeds": [value for value, is_statistic in pairs if not is_statistic],
        }
        return ops.cast(logits_BHWK, "float32"), moved

    def _normalised(self, images_BHWC: Any) -> Any:
        mean_C, std_C = (np.array(v, np.float32) for v in (self._bands.mean, self._bands.std))
        normalised_BHWC = (ops.cast(images_BHWC, "float32") - mean_C) / std_C
        # A pixel without data says nothing: it becomes the mean colour.
        return ops.where(ops.isnan(normalised_BHWC), 0.0, normalised_BHWC)

    def _probabilities(self, state: DeviceState, images_BHWC: Any) -> Any:
        logits_BHWK, _ = self._logits(state, images_BHWC, False)
        return ops.softmax(logits_BHWK, axis=-1)

    def _most_probable(self, state: DeviceState, images_BHWC: Any) -> Any:
        logits_BHWK, _ = self._logits(state, images_BHWC, False)
        return ops.cast(ops.argmax(logits_BHWK, axis=-1), self._labels.dtype.name)


def _spec(tensor: Any) -> keras.KerasTensor:
    return keras.KerasTensor(tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))


def _refuse_differences(
    expected: Mapping[str, NDArray[np.generic]], given: Mapping[str, NDArray[np.generic]]
) -> None:
    wanted = {name: f"{array.dtype}{array.shape}" for name, array in expected.items()}
    found = {name: f"{array.dtype}{array.shape}" for name, array in given.items()}
    different = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
    if not different:
        return
    shown = different[:5]
    more = f" and {len(different) - 5} more arrays" if len(different) > 5 else ""
    raise CheckpointError(
        "SEG-C007",
        "the saved arrays do not fit the model",
        observed="; ".join(f"{n}: {found.get(n, 'missing')}" for n in shown) + more,
        allowed="; ".join(f"{n}: {wanted.get(n, 'no such array')}" for n in shown) + more,
        next_step="use the model, options, label map and optimiser that the state was saved with",
    )
