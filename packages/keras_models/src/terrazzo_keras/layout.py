"""Where the arrays of a model lie in the vectors that the trainer works on, and their names.

All trainable weights are one vector, all batch statistics another. So one norm, one test for
non-finite values and one optimiser rule serve the whole model, in `keras.ops`, and the graph stays
small however many layers there are.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """Named arrays laid end to end in one float32 vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def sizes(self) -> list[int]:
        """Number of elements of each array."""
        return [math.prod(shape) for shape in self.shapes]

    def split(self, vector: Any) -> list[Any]:
        """Return the arrays of a device vector, in order."""
        parts = ops.split(vector, np.cumsum(self.sizes)[:-1].tolist()) if self.names else []
        return [ops.reshape(part, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, arrays: Iterable[Any]) -> Any:
        """Return device arrays as one vector."""
        flat = [ops.reshape(array, (-1,)) for array in arrays]
        return ops.concatenate(flat) if flat else ops.zeros((0,), "float32")

    def repeated(self, numbers: Iterable[float]) -> Any:
        """Return a device vector that holds, for each element, the number of its array."""
        return ops.convert_to_tensor(np.repeat(np.array([*numbers], np.float32), self.sizes))

    def named(self, vector: Any) -> dict[str, NDArray[Any]]:
        """Return host copies by name."""
        flat = np.array(ops.convert_to_numpy(vector))
        parts = np.split(flat, np.cumsum(self.sizes, dtype=int))[:-1]
        return {
            name: part.reshape(shape).copy()
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def vector(self, prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Any:
        """Return the device vector of host arrays under ``<prefix><name>``."""
        parts = [np.ravel(arrays[f"{prefix}{name}"]) for name in self.names]
        return ops.convert_to_tensor(np.concatenate([*parts, ()], dtype=np.float32))


def layout(variables: Sequence[keras.Variable], names: Mapping[int, str]) -> Layout:
    """Lay out `variables`; `names` by ``id(variable)``, from `variable_names`."""
    return Layout(
        tuple(names[id(variable)] for variable in variables),
        tuple(tuple(variable.shape) for variable in variables),
    )


def variable_names(model: keras.Model) -> dict[int, str]:
    """Return a name for each variable, the same in every process, by ``id(variable)``.

    Keras numbers layers that were not named by how many the process has made before;
    here they are numbered by their order in the model instead.
    """
    names = {}
    made: Counter[str] = Counter()
    for layer in model.layers:
        kind = _snake_case(type(layer).__name__)
        layer_name = layer.name
        if re.fullmatch(rf"{kind}(_\d+)?", layer_name):
            layer_name = f"{kind}_{made[kind]}"
            made[kind] += 1
        for variable in layer.variables:
            names[id(variable)] = f"{layer_name}/{variable.name}"
    assert len(set(names.values())) == len(names) == len(model.variables)
    return names


def _snake_case(name: str) -> str:
    """As Keras does it: ``Conv2DTranspose`` → ``conv2d_transpose``."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
