"""One Keras model with its optimiser, behind `terrazzo.models.contract.Trainer`.

The Keras model is only the architecture: its variables are read once, then their values live in a
state that each step maps to a new one, ``state, loss = step(state, batch)``; `KerasTrainer.network`
is a Keras model with those values. A pure function is
what all three engines compile, differentiate and, for a non-finite gradient, undo in the same way;
`keras.Model.train_on_batch` waits for the device at every step and cannot leave out an update.
"""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError
from terrazzo.base.processes import SingleProcess
from terrazzo.models.contract import State
from terrazzo_keras import losses, multiply_adds, optimizers, pretrained
from terrazzo_keras.layout import layout, variable_names
from terrazzo_keras.raw_pixels import normalized

if TYPE_CHECKING:
    from terrazzo.base.config_parsing import Frozen
    from terrazzo.base.recipe import TrainingConfig
    from terrazzo.data.input_statistics import InputStatistics
    from terrazzo.data.labels import LabelMap
    from terrazzo.data.sample import Bands, Batch
    from terrazzo.models.parameter_groups import Part, Parts

DeviceState = dict[str, Any]
"""``weights`` and ``statistics`` (vectors), ``seeds`` (list), ``slots`` (vectors by name),
``steps`` (number of updates made) and, where asked for, ``average`` (weights and statistics)."""

Compiled = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class DeviceLoss:
    """A loss that may still be on its way."""

    tensor: Any
    norm: Any = None

    @property
    def gradient_norm(self) -> float:
        """Norm of the gradient before it was clipped; NaN where it was not asked for."""
        return math.nan if self.norm is None else float(ops.convert_to_numpy(self.norm))

    @property
    def loss(self) -> float:
        """Wait for the device and return the loss."""
        return float(ops.convert_to_numpy(self.tensor))


def build(
    build_model: Callable[[Any, int, int], keras.Model],
    options: Frozen,
    parts: Parts,
    training: TrainingConfig,
    labels: LabelMap,
    bands: Bands,
    seed: int,
    *,
    expected: InputStatistics | None = None,
) -> KerasTrainer:
    """Make a model in the wished precision and a trainer for it.

    Args:
        build_model: of its file.
        options: of the model.
        parts: of its weights.
        training: of the recipe.
        labels: K classes.
        bands: C bands.
        seed: of the weights and of dropout.
        expected: what its pretrained weights were trained on; None: it has none.
    """
    set_number_type_and_layout()
    engine = _engine()
    # Keras draws the seeds of all layers from this generator, and nothing here draws from another
    # one of the process. Its own `set_random_seed` imports TensorFlow, whatever the engine.
    random.seed(seed)
    on_gpu = engine.device() != "cpu"
    wants_bfloat16 = training.precision == "bfloat16" or (training.precision == "auto" and on_gpu)
    policy = keras.config.dtype_policy()
    # keras.applications takes the policy from nowhere else than the global one.
    keras.config.set_dtype_policy("mixed_bfloat16" if wants_bfloat16 else "float32")
    try:
        model = build_model(options, len(bands), len(labels))
    finally:
        keras.config.set_dtype_policy(policy)
    if expected is not None:
        model.remarks += pretrained.fit(model, expected, bands)
    return KerasTrainer(model, engine, parts, training, labels, bands)


def out_of_memory(error: Exception) -> bool:
    """Tell whether the engine says by this error that host or device have no memory left."""
    found: bool = _engine().out_of_memory(error)
    return found


def _engine() -> Any:
    return importlib.import_module(f"terrazzo_keras.engines.{keras.backend.backend()}")


def set_number_type_and_layout() -> None:
    """Set what the user's ``keras.json`` may have set otherwise: this package is written for these.

    In the whole process, since graphs are made when they are first used.
    """
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


class KerasTrainer:
    """Trains and applies one model on one device. The arguments are described in `build`."""

    world = SingleProcess()
    depends_on_share = None
    measures_gradient = False

    def __init__(
        self,
        model: keras.Model,
        engine: Any,
        parts: Parts,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
    ) -> None:
        self.device: str = engine.device()
        self.threads: int = engine.threads()
        self.asynchronous = self.device != "cpu"
        self.remarks: tuple[str, ...] = getattr(model, "remarks", ())
        self._model, self._engine = model, engine
        self._training, self._labels, self.bands = training, labels, bands
        names = variable_names(model)
        self.num_parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
        self.parts: dict[str, Part] = {
            f"weights/{names[id(v)]}": parts.of(names[id(v)])
            for v in model.variables
            if v.dtype == "float32"
        }
        for layer in model.layers:
            if any(parts.is_frozen(names[id(v)], training) for v in layer.variables):
                layer.trainable = False
        self._weights = layout(model.trainable_variables, names)
        others = model.non_trainable_variables
        self._statistics = layout([v for v in others if v.dtype == "float32"], names)
        seeds = [v for v in others if v.dtype != "float32"]
        self._seed_names = tuple(names[id(v)] for v in seeds)
        self._is_statistic = [v.dtype == "float32" for v in others]
        self._steady: DeviceState = {
            "decayed": self._weights.repeated(len(shape) >= 2 for shape in self._weights.shapes)
        }
        if factors := parts.lr_factors(self._weights.names, training):
            self._steady["lr_factors"] = self._weights.repeated(
                factors.get(name, 1) for name in self._weights.names
            )
        self._first_seeds = [np.array(ops.convert_to_numpy(v.value)) for v in seeds]
        self._state: DeviceState = {
            "weights": self._weights.join(v.value for v in model.trainable_variables),
            "statistics": self._statistics.join(v.value for v in others if v.dtype == "float32"),
        } | self._fresh_optimizer()
        self._begin_average()
        self._compiled: dict[tuple[str, ...], Compiled] = {}
        self._network: keras.Model | None = None
        self._network_is_current = False

    @property
    def network(self) -> keras.Model:
        """The network by itself, with the weights as they are now; the averaged ones with `ema`.

        A model from normalised float32 images B×H×W×C, mean 0 and deviation 1 in each band and 0
        where there is no data, to logits B×H×W×K. It is a copy: what happens to it changes nothing
        here. The same object is returned each time, and gets the weights anew where a step or
        `load_state` came in between. Layers that were not trained are not trainable in it.
        """
        if self._network is None:
            self._network = self._copied(_same)
            self._network_is_current = True
        if not self._network_is_current:
            self._give_weights(self._network)
            self._network_is_current = True
        return self._network

    @property
    def float32_network(self) -> keras.Model:
        """A new copy of the network that computes in float32, whatever the precision here."""
        return self._copied(_in_float32)

    def train_step(self, batch: Batch, learning_rate: float) -> DeviceLoss:
        """Make one optimiser update from `batch`, left out where loss or gradient is not finite.

        The loss is NaN where only the gradient is not finite.
        """
        self._network_is_current = False
        rate = {**self._steady, "rate": ops.convert_to_tensor(learning_rate, "float32")}
        if self._training.accumulate > 1 and len(batch) > 1:
            return self._told(*self._accumulated(batch, rate))
        arrays = (batch.images_BHWC, batch.labels_BHW)
        step = self._function(self._step, *arrays, fixed=(rate,))
        self._state, loss, norm = step(self._state, *map(ops.convert_to_tensor, arrays), rate)
        return self._told(loss, norm)

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K, float32, summing to 1 over K, in inference mode."""
        return np.array(self._predicted(self._probabilities, images_BHWC))

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return the most probable class, B×H×W in the label map's dtype."""
        labels_BHW = self._predicted(self._most_probable, images_BHWC)
        return np.array(labels_BHW, self._labels.dtype)  # torch has no uint16

    def score(
        self, images_BHWC: NDArray[np.generic], labels_BHW: NDArray[np.generic]
    ) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
        """Return the most probable classes, and the cross-entropy of each image in nats."""
        arrays = (images_BHWC, labels_BHW)
        scored = self._function(self._scored, *arrays)
        found, losses_BH = scored(self._state, *map(ops.convert_to_tensor, arrays))
        labels = np.array(ops.convert_to_numpy(found), self._labels.dtype)
        return labels, np.array(ops.convert_to_numpy(losses_BH), np.float64).sum(axis=1)

    def _told(self, loss: Any, norm: Any) -> DeviceLoss:
        return DeviceLoss(loss, norm if self.measures_gradient else None)

    def logits(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return logits B×H×W×K in inference mode, in float32 whatever `training.precision` is."""
        if all(layer.compute_dtype == "float32" for layer in self._model.layers):
            return np.array(self._predicted(self._scored_logits, images_BHWC))
        images_BHWC = ops.convert_to_tensor(images_BHWC)
        normalized_BHWC = normalized(images_BHWC, self.bands.mean, self.bands.std)
        logits_BHWK = self.float32_network(normalized_BHWC, training=False)
        return np.array(ops.convert_to_numpy(logits_BHWK))

    def multiply_adds(self, rows: int, columns: int) -> int:
        """Return the multiplications with addition of one image: convolutions, matrix products."""
        return multiply_adds.count(self.network, rows, columns, len(self.bands))

    def state(self) -> State:
        """Return a copy of weights, statistics, slots, counter and dropout seeds, on the host."""
        state = self._state
        scored = state.get("average", state)
        raw = {f"optimizer/raw/{n}": a for n, a in self._named(state)} if "average" in state else {}
        seeds = zip(self._seed_names, state["seeds"], strict=True)
        return (
            {f"weights/{name}": array for name, array in self._named(scored)}
            | raw
            | {
                f"optimizer/{slot}/{name}": array
                for slot, vector in state["slots"].items()
                for name, array in self._weights.named(vector).items()
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
        self._network_is_current = False
        if not resumes:
            self._state = self._vectors("weights/", state) | self._fresh_optimizer()
            self._begin_average()
            return
        averages = self._training.ema is not None
        self._state = self._vectors("optimizer/raw/" if averages else "weights/", state)
        self._state |= self._loaded_optimizer(state)
        if averages:
            self._state["average"] = self._vectors("weights/", state)

    def out_of_memory(self, error: Exception) -> bool:
        """Tell whether the engine says by this error that host or device have no memory left."""
        return out_of_memory(error)

    def _copied(self, layer: Callable[[Any], Any]) -> keras.Model:
        """Return a new network with the weights as they are; `layer` copies each layer."""
        network = keras.models.clone_model(self._model, clone_function=layer)
        self._give_weights(network)
        return network

    def _give_weights(self, network: keras.Model) -> None:
        """Assign what predictions are made with to a network of the same layers."""
        scored = self._state.get("average", self._state)
        names, arrays = variable_names(self._model), dict(self._named(scored))
        for copy, own in zip(network.variables, self._model.variables, strict=True):
            if names[id(own)] in arrays:  # else the seed of a dropout
                copy.assign(arrays[names[id(own)]])

    def _named(self, state: DeviceState) -> Iterable[tuple[str, NDArray[Any]]]:
        """Return names and host copies of the weights and statistics of `state`."""
        yield from self._weights.named(state["weights"]).items()
        yield from self._statistics.named(state["statistics"]).items()

    def _vectors(self, prefix: str, state: Mapping[str, NDArray[Any]]) -> DeviceState:
        """Return weights and statistics on the device from host arrays under `prefix`."""
        return {
            "weights": self._weights.vector(prefix, state),
            "statistics": self._statistics.vector(prefix, state),
        }

    def _begin_average(self) -> None:
        if self._training.ema is not None:
            self._state["average"] = {k: self._state[k] for k in ("weights", "statistics")}

    def _fresh_optimizer(self) -> DeviceState:
        size = sum(self._weights.sizes)
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
            "slots": {slot: self._weights.vector(f"optimizer/{slot}/", state) for slot in slots},
            "steps": ops.convert_to_tensor(state["optimizer/steps"]),
        }

    def _predicted(self, function: Compiled, images_BHWC: NDArray[np.generic]) -> Any:
        predict = self._function(function, images_BHWC)
        return ops.convert_to_numpy(predict(self._state, ops.convert_to_tensor(images_BHWC)))

    def _function(
        self, function: Compiled, *arrays: NDArray[np.generic], fixed: tuple[Any, ...] = ()
    ) -> Compiled:
        """Return `function` compiled for a state, arrays of these types and tensors like `fixed`.

        Images (B×H×W×C) and labels (B×H×W) may then be of any size.
        """
        key = (function.__name__, *(array.dtype.name for array in arrays))
        if key not in self._compiled:
            specs = [keras.KerasTensor((None,) * 3 + a.shape[3:], a.dtype.name) for a in arrays]
            state, rest = keras.tree.map_structure(_spec, (self._state, fixed))
            self._compiled[key] = self._engine.compiled(
                function, (state, *specs, *rest), self._training.compile
            )
        return self._compiled[key]

    def _step(
        self, state: DeviceState, images_BHWC: Any, labels_BHW: Any, rate: DeviceState
    ) -> tuple[DeviceState, Any, Any]:
        gradient, moved, loss = self._gradient(state, images_BHWC, labels_BHW, losses.one_part)
        return self._updated(state, gradient, moved, loss, rate)

    def _accumulated(self, batch: Batch, rate: DeviceState) -> tuple[Any, Any]:
        """Make one update from the whole batch, taking one part at a time.

        Returns the loss and the norm of the gradient.

        Terms such as Dice are no sums over pixels, so the gradient of a part needs to know the sums
        over all others: a first pass collects them, a second one with the same random numbers
        differentiates.
        """
        num_parts = min(self._training.accumulate, len(batch))
        arrays = (batch.images_BHWC, batch.labels_BHW)
        parts = [
            tuple(map(ops.convert_to_tensor, part))
            for part in zip(*(np.array_split(array, num_parts) for array in arrays), strict=True)
        ]
        collect = self._function(self._sums, *arrays)
        totals: list[Any] = []
        seeds = self._state["seeds"]
        for images_BHWC, labels_BHW in parts:
            seeds, sums = collect({**self._state, "seeds": seeds}, images_BHWC, labels_BHW)
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else list(sums)
        moved = {key: self._state[key] for key in ("statistics", "seeds")}
        gradient = ops.zeros_like(self._state["weights"])
        add = self._function(self._added, *arrays, fixed=(totals, gradient))
        for images_BHWC, labels_BHW in parts:
            gradient, moved, loss = add(
                {**self._state, **moved}, images_BHWC, labels_BHW, totals, gradient
            )
        end = (gradient, moved, loss, rate)
        self._state, loss, norm = self._function(self._updated, fixed=end)(self._state, *end)
        return loss, norm

    def _sums(
        self, state: DeviceState, images_BHWC: Any, labels_BHW: Any
    ) -> tuple[list[Any], list[Any]]:
        """Return the seeds after the pass and the sums that the loss asks for."""
        sums: list[Any] = []

        def collected(part: Any) -> Any:
            sums.append(part)
            return part

        logits_BHWK, moved = self._logits(state, images_BHWC, True)
        losses.total(
            self._training.loss, logits_BHWK, labels_BHW, self._labels.ignore_index, collected
        )
        return moved["seeds"], sums

    def _added(
        self, state: DeviceState, images_BHWC: Any, labels_BHW: Any, totals: list[Any], so_far: Any
    ) -> tuple[Any, DeviceState, Any]:
        """Add the gradient of one part of a batch to that of the parts before it."""
        following = iter(totals)

        def whole(part: Any) -> Any:
            return part + ops.stop_gradient(next(following) - part)

        gradient, moved, loss = self._gradient(state, images_BHWC, labels_BHW, whole)
        return so_far + gradient, moved, loss

    def _gradient(
        self, state: DeviceState, images_BHWC: Any, labels_BHW: Any, sum_over: losses.SumOver
    ) -> tuple[Any, DeviceState, Any]:
        """Return the gradient, statistics and seeds after the pass, and the loss."""

        def loss_of(weights: Any) -> tuple[Any, Any]:
            logits_BHWK, moved = self._logits({**state, "weights": weights}, images_BHWC, True)
            ignore, terms = self._labels.ignore_index, self._training.loss
            return losses.total(terms, logits_BHWK, labels_BHW, ignore, sum_over), moved

        (loss, moved), gradient = self._engine.value_and_grad(loss_of, state["weights"])
        return gradient, moved, loss

    def _updated(
        self,
        state: DeviceState,
        gradient: Any,
        moved: DeviceState,
        loss: Any,
        rate: DeviceState,
    ) -> tuple[DeviceState, Any, Any]:
        """Return the state after an update, the old one where anything is not finite.

        And the loss, and the norm of the gradient before it was clipped.

        Args:
            rate: the learning rate and `_steady`, what it and weight decay are for each weight.
        """
        training = self._training
        norm = ops.sqrt(ops.sum(ops.square(gradient)))
        finite = ops.logical_and(ops.isfinite(loss), ops.isfinite(norm))

        def updated() -> DeviceState:
            steps = state["steps"] + 1
            weights, slots = optimizers.update(
                training.optimizer,
                state["weights"],
                gradient
                if training.clip_norm is None
                else optimizers.clipped(gradient, norm, training.clip_norm),
                state["slots"],
                steps,
                rate["rate"] * rate["lr_factors"] if "lr_factors" in rate else rate["rate"],
                rate["decayed"],
            )
            new = {"weights": weights, **moved, "slots": slots, "steps": steps}
            if training.ema is not None:
                new["average"] = optimizers.averaged(training.ema, steps, state["average"], new)
            return new

        kept = self._engine.either(finite, updated, state)
        return kept, ops.where(finite, loss, float("nan")), norm

    def _logits(self, state: DeviceState, images_BHWC: Any, training: bool) -> tuple[Any, Any]:
        """Return float32 logits, and the statistics and seeds after the pass."""
        statistics, seeds = iter(self._statistics.split(state["statistics"])), iter(state["seeds"])
        logits_BHWK, others = self._model.stateless_call(
            self._weights.split(state["weights"]),
            [next(statistics if is_statistic else seeds) for is_statistic in self._is_statistic],
            normalized(images_BHWC, self.bands.mean, self.bands.std),
            training=training,
        )
        pairs = list(zip(others, self._is_statistic, strict=True))
        moved = {
            "statistics": self._statistics.join(v for v, is_statistic in pairs if is_statistic),
            "seeds": [value for value, is_statistic in pairs if not is_statistic],
        }
        return ops.cast(logits_BHWK, "float32"), moved

    def _probabilities(self, state: DeviceState, images_BHWC: Any) -> Any:
        return ops.softmax(self._scored_logits(state, images_BHWC), axis=-1)

    def _most_probable(self, state: DeviceState, images_BHWC: Any) -> Any:
        logits_BHWK = self._scored_logits(state, images_BHWC)
        return ops.cast(ops.argmax(logits_BHWK, axis=-1), self._labels.dtype.name)

    def _scored(self, state: DeviceState, images_BHWC: Any, labels_BHW: Any) -> tuple[Any, Any]:
        """Return the most probable classes B×H×W, and the cross-entropy of each row, B×H."""
        logits_BHWK = self._scored_logits(state, images_BHWC)
        labels_BHW = ops.cast(labels_BHW, "int32")
        valid_BHW = ops.not_equal(labels_BHW, self._labels.ignore_index)
        truth_BHW = ops.where(valid_BHW, labels_BHW, ops.zeros_like(labels_BHW))
        right_BHW = ops.take_along_axis(logits_BHWK, truth_BHW[..., None], axis=-1)[..., 0]
        loss_BHW = ops.logsumexp(logits_BHWK, axis=-1) - right_BHW
        loss_BHW = ops.where(valid_BHW, loss_BHW, ops.zeros_like(loss_BHW))
        classes_BHW = ops.cast(ops.argmax(logits_BHWK, axis=-1), self._labels.dtype.name)
        return classes_BHW, ops.sum(loss_BHW, axis=2)

    def _scored_logits(self, state: DeviceState, images_BHWC: Any) -> Any:
        return self._logits({**state, **state.get("average", {})}, images_BHWC, False)[0]


def _same(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config(layer.get_config())


def _in_float32(layer: keras.layers.Layer) -> keras.layers.Layer:
    return type(layer).from_config(layer.get_config() | {"dtype": "float32"})


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
