"""A network that others trained, as its folder or file describes it: what `terrazzo import` takes.

A backend reads the description (`Backend.published`); the rest, classes and sizes and what is
refused, is decided once for all of them in `terrazzo.workflows.import_model`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.config_parsing import Size
from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import ModelConfig
from terrazzo.data.class_matching import Matching


@dataclass(frozen=True)
class Asked:
    """What the person who imports says of a source that it does not say itself.

    Attributes:
        architecture: of the network, for a file of weights alone.
        revision: commit, for a repository on the hub.
    """

    architecture: str | None = None
    revision: str | None = None


class Taken(NamedTuple):
    """The network itself, in our terms.

    Attributes:
        model: its name and options.
        weights: as `Trainer.state` has them.
        remarks: what was left out or changed.
    """

    model: ModelConfig
    weights: dict[str, NDArray[np.generic]]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class PublishedNetwork:
    """What a source says of its network.

    Attributes:
        kind: of network, with its library.
        class_names: K; their numbers where the source has no names.
        has_names: whether it has.
        labels_reduced: its masks held class k as k + 1, and 0 for pixels that do not count.
        band_names: C.
        mean: of each band, in units of uint8 pixels; None: the source does not say.
        std: likewise.
        image_size: rows and columns that its own pipeline brings images to; None: as they are, or
            `size_rule`.
        size_rule: what its pipeline does that no one size says; None: nothing.
        normalization_unknown: why mean and std are not known, for the message.
        notes: for the person who imports.
        files: SHA-256 of what was read, by name.
        origin: where it comes from, with its commit.
        take: reads the weights, once it is known what the classes mean and how large images are.
    """

    kind: str
    class_names: tuple[str, ...]
    has_names: bool
    labels_reduced: bool
    band_names: tuple[str, ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    image_size: Size | None
    size_rule: str | None
    normalization_unknown: str
    notes: tuple[str, ...]
    files: Mapping[str, str]
    origin: str
    take: Callable[[Matching, Size | None], Taken]


def require_one_to_one(matching: Matching, library: str) -> None:
    """Refuse classes that are made up of several, for networks that cannot add them.

    Raises:
        ConfigError: SEG-X157.
    """
    if matching.one_to_one:
        return
    several = [ours for ours, g in zip(matching.ours, matching.groups, strict=True) if len(g) > 1]
    raise ConfigError(
        "SEG-X157",
        f"networks of {library} keep their classes as they are: one of theirs for one of ours",
        observed=f"several are {several[0]}"
        if several
        else f"{matching.theirs[matching.left_out[0]]} is left out",
        allowed=f"a label map of {len(matching.theirs)} classes",
        next_step="give a label map of all its classes",
    )


def digests(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by name."""
    sums = {}
    for path in files:
        with path.open("rb") as file:
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
