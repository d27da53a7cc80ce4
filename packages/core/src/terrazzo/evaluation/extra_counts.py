"""Counts behind the extra metrics: boundary bands, calibration, instances; where asked for.

Borders and probabilities cost time, so a recipe's ``[evaluation]`` or the command line asks for
them; instances are counted wherever the data set has them. Every number belongs to one image (the
histograms of the ROC apart, which are sums of integers), so nothing depends on the batch size, on
the order of the images or on how they are shared among processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.processes import World
from terrazzo.base.recipe import EvaluationConfig
from terrazzo.data import labels
from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import Sample
from terrazzo.metrics import boundary, calibration, cityscapes
from terrazzo.metrics.calibration import CalibrationCounts
from terrazzo.metrics.image_counts import ClassPixels
from terrazzo.models.probabilities import planes_at_size


class Scored(Protocol):
    """A split, as far as it is needed here: `terrazzo.data.datasets.Split` is one."""

    @property
    def label_map(self) -> LabelMap:
        """Its classes."""
        ...

    def __len__(self) -> int: ...

    @property
    def has_instances(self) -> bool:
        """Whether the data set has instance ids for every image."""
        ...

    def read_instances(self, index: int) -> NDArray[Any]:
        """Decode the instance ids of one image, H×W."""
        ...


@dataclass(frozen=True)
class ExtraCounts:
    """Counts of N images; None where they were not asked for.

    Attributes:
        boundary_width: of the boundary band, as a part of the diagonal; None where not counted.
        boundary: N×K pixels of the inner bands, see `terrazzo.metrics.boundary.boundary_pixels`.
        trimap: N×K pixels near true borders, see `trimap_pixels` there.
        calibration: of N images, but with K×2×S `scores` of all images together.
        instances_N3K: see `terrazzo.metrics.cityscapes.instance_shares`.
    """

    boundary_width: float | None = None
    boundary: ClassPixels | None = None
    trimap: ClassPixels | None = None
    calibration: CalibrationCounts | None = None
    instances_N3K: NDArray[np.float64] | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that is not None by the names it has in a file."""
        found: dict[str, NDArray[Any]] = {}
        if self.boundary is not None and self.trimap is not None:
            assert self.boundary_width is not None
            found["boundary_width"] = np.array([self.boundary_width])
            for name, pixels in (("boundary", self.boundary), ("trimap", self.trimap)):
                parts = (pixels.true_positives, pixels.in_truth, pixels.in_prediction)
                found[name] = np.stack(parts, axis=1)
        if self.calibration is not None:
            for name in _CALIBRATION:
                found[f"calibration_{name}"] = getattr(self.calibration, name)
        if self.instances_N3K is not None:
            found["instances"] = self.instances_N3K
        return found

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> ExtraCounts:
        """Return what `arrays` made; other names are passed over."""
        bands = {
            name: ClassPixels(*np.moveaxis(arrays[name], 1, 0))
            for name in ("boundary", "trimap")
            if name in arrays
        }
        width = arrays.get("boundary_width")
        return cls(
            boundary_width=None if width is None else float(width[0]),
            boundary=bands.get("boundary"),
            trimap=bands.get("trimap"),
            calibration=CalibrationCounts(*(arrays[f"calibration_{n}"] for n in _CALIBRATION))
            if "calibration_pixels" in arrays
            else None,
            instances_N3K=arrays.get("instances"),
        )


def of_all_images(parts: Sequence[ExtraCounts], order: NDArray[np.integer]) -> ExtraCounts:
    """Put the counts of several lists of images together: those that all of them have.

    Args:
        parts: of images that are in one part only; bands of other widths are not put together.
        order: positions in the lists one behind the other, in the order that is wanted.
    """
    arrays = [part.arrays() for part in parts]
    found: dict[str, NDArray[Any]] = {}
    for name in arrays[0]:
        if all(name in each for each in arrays):
            several = [each[name] for each in arrays]
            match name:
                case "boundary_width":
                    found[name] = several[0]
                case "calibration_scores":
                    found[name] = np.sum(several, axis=0)
                case _:
                    found[name] = np.concatenate(several)[order]
    if len({part.boundary_width for part in parts}) > 1:
        for name in ("boundary_width", *_BOUNDARY_COUNTS):
            found.pop(name, None)
    return ExtraCounts.of_arrays(found)


_CALIBRATION = ("pixels", "right", "confidence", "squares", "scores")


class Counter:
    """Counts image after image, in any order.

    Args:
        split: what is scored.
        wanted: which counts.
    """

    def __init__(self, split: Scored, wanted: EvaluationConfig) -> None:
        self._split, self._wanted = split, wanted
        self._label_map = split.label_map
        shape, num_classes = (len(split),), len(split.label_map)
        self._arrays: dict[str, NDArray[Any]] = {}
        if wanted.boundary:
            for name in ("boundary", "trimap"):
                self._arrays[name] = np.zeros((*shape, 3, num_classes), np.int64)
        if wanted.calibration:
            for name in _CALIBRATION:
                one = getattr(calibration.nothing(num_classes), name)
                whole = one.shape if name == "scores" else (*shape, *one.shape)
                self._arrays[f"calibration_{name}"] = np.zeros(whole, one.dtype)
        self._class_of: dict[int, int] = {}
        if split.has_instances and cityscapes.is_cityscapes(self._label_map.names):
            self._arrays["instances"] = np.zeros((*shape, 3, num_classes))
            names = self._label_map.names
            # Instance ids are of label ids, whatever masks the labels come from.
            for each in labels.load_label_map("cityscapes_19").classes:
                self._class_of |= dict.fromkeys(each.raw, names.index(each.name))

    @property
    def probabilities(self) -> bool:
        """Whether `add` needs probabilities."""
        return self._wanted.calibration

    def add(
        self,
        index: int,
        sample: Sample,
        prediction_HW: NDArray[np.integer],
        probabilities_HWK: NDArray[np.float32] | None,
    ) -> None:
        """Count one image.

        Args:
            index: in the split.
            sample: as the files hold it.
            prediction_HW: train ids, at the size of the label.
            probabilities_HWK: at the model's size; only where `probabilities` says so.
        """
        label_HW: NDArray[Any] = sample.label_HW
        if self._wanted.boundary:
            self._add_boundary(index, label_HW, prediction_HW)
        if self._wanted.calibration:
            assert probabilities_HWK is not None
            self._add_calibration(index, label_HW, prediction_HW, probabilities_HWK)
        if self._class_of:
            self._arrays["instances"][index] = cityscapes.instance_shares(
                self._split.read_instances(index),
                prediction_HW,
                self._class_of,
                self._label_map.names,
            )

    def _add_boundary(
        self, index: int, label_HW: NDArray[np.integer], prediction_HW: NDArray[np.integer]
    ) -> None:
        rows, columns = label_HW.shape
        width = boundary.band_width(rows, columns, self._wanted.boundary_width)
        for name, count in _BOUNDARY_COUNTS.items():
            pixels = count(
                label_HW,
                prediction_HW,
                len(self._label_map),
                width=width,
                ignore_index=self._label_map.ignore_index,
            )
            self._arrays[name][index] = pixels.true_positives, pixels.in_truth, pixels.in_prediction

    def _add_calibration(
        self,
        index: int,
        label_HW: NDArray[np.integer],
        prediction_HW: NDArray[np.integer],
        probabilities_HWK: NDArray[np.float32],
    ) -> None:
        counts = calibration.count(
            label_HW,
            prediction_HW,
            planes_at_size(probabilities_HWK, label_HW.shape),
            len(self._label_map),
            ignore_index=self._label_map.ignore_index,
        )
        for name in _CALIBRATION:
            where = ... if name == "scores" else index
            self._arrays[f"calibration_{name}"][where] += getattr(counts, name)

    def counted(self, world: World) -> ExtraCounts:
        """Return the counts of all processes."""
        summed = {name: _sum(array, world) for name, array in self._arrays.items()}
        if self._wanted.boundary:
            summed["boundary_width"] = np.array([self._wanted.boundary_width])
        return ExtraCounts.of_arrays(summed)


_BOUNDARY_COUNTS = {"boundary": boundary.boundary_pixels, "trimap": boundary.trimap_pixels}


def _sum(array: NDArray[Any], world: World) -> NDArray[Any]:
    """Return the sum over all processes.

    Each row of a float array was written by one process, and is all zero bits in the others, so the
    exact sum of integers that a world offers brings its bits together unchanged.
    """
    if array.dtype == np.int64:
        return world.sum(array)
    return world.sum(array.view(np.int64)).view(np.float64)
