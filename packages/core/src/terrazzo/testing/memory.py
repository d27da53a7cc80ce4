"""A split without files, and the memory in use, for tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import Sample


@dataclass(frozen=True)
class MemorySplit:
    """Images and labels held as arrays; takes the place of `terrazzo.data.datasets.Split`.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        images: N arrays H×W×C.
        labels: N arrays H×W of train ids or the map's ignore value.
        label_map: its classes.
        instances: N arrays H×W of instance ids, where there are any.
    """

    name: str
    images: tuple[NDArray[np.generic], ...]
    labels: tuple[NDArray[np.generic], ...]
    label_map: LabelMap
    instances: tuple[NDArray[np.integer], ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> tuple[str, ...]:
        """N names: the split's name and a number."""
        return tuple(f"{self.name}{index:04d}" for index in range(len(self)))

    @property
    def band_names(self) -> tuple[str, ...]:
        """C names: ``band1``…"""
        return tuple(f"band{band + 1}" for band in range(self.images[0].shape[2]))

    def read(self, index: int) -> Sample:
        """Return one sample; the arrays are shared."""
        name = f"{self.name}{index:04d}"
        return Sample(name, self.images[index], self.labels[index], f"{name}.png")

    @property
    def has_instances(self) -> bool:
        """Whether there are instance ids."""
        return bool(self.instances)

    def read_instances(self, index: int) -> NDArray[np.integer]:
        """Return the instance ids of one sample."""
        return self.instances[index]


def bytes_in_use() -> int:
    """Return the bytes of this process that lie in memory now; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])
