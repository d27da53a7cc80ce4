"""A predicted image, with what labelling programs are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError
from terrazzo.data.labels import LabelMap
from terrazzo.inference.labelling import confidence
from terrazzo.io import images


@dataclass(frozen=True, slots=True)
class PredictedImage:
    """An image and what a prediction has written of it.

    Attributes:
        source: the image.
        name: its path in the folder that was named, with ``/``.
        map: PNG of train ids.
        confidence_file: as `Confidence.write` leaves it; None: none was asked for.
        label_map: of the map.
    """

    source: Path
    name: str
    map: Path
    confidence_file: Path | None
    label_map: LabelMap

    def labels(self) -> NDArray[np.integer]:
        """Return the train ids H×W on the map.

        Raises:
            DataError: as `images.read_label`.
            CheckpointError: SEG-C002, it is the map of another model.
        """
        labels_HW = images.read_label(self.map, "index")
        beyond = (labels_HW >= len(self.label_map)) & (labels_HW != self.label_map.ignore_index)
        if beyond.any():
            raise CheckpointError(
                "SEG-C002",
                "the map that is there was not made by this model",
                file=self.map,
                observed=f"class {int(labels_HW[beyond][0])}",
                allowed=f"classes 0 to {len(self.label_map) - 1}",
                next_step="--overwrite replaces it, --out takes another place",
            )
        return labels_HW

    def confidence(self) -> tuple[float, dict[str, float]]:
        """Return the mean probability on the image, and by class name.

        Raises:
            CheckpointError: SEG-C014, its file holds something else.
        """
        assert self.confidence_file is not None
        return confidence.read(self.confidence_file)
