"""The confusion matrix: every score of a run comes from one, summed over all its pixels."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.metrics import scores
from terrazzo.metrics.pair_histogram import count_pairs

_CHUNK = 1 << 22  # pixels at a time: bounds the temporaries of wide integers, not those of bytes


class ConfusionMatrix:
    """Exact pixel counts, rows truth, columns prediction.

    Counts are int64: exact up to 2^63 pixels. uint8 labels and predictions are the fast path; other
    integers of values up to 255 are narrowed to it.

    Args:
        num_classes: K; train ids are 0…K-1.
        ignore_index: label value of pixels that are not scored, outside 0…K-1; None if every
            pixel is scored.

    Raises:
        ConfigError: SEG-M007 there is no class; SEG-M017 `ignore_index` is one of the classes.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = 255) -> None:
        self._num_classes = operator.index(num_classes)
        self._ignore_index = None if ignore_index is None else operator.index(ignore_index)
        if self._num_classes < 1:
            raise ConfigError(
                "SEG-M007",
                "a confusion matrix needs a class",
                observed=f"num_classes = {num_classes}",
                allowed="1 or more",
            )
        if self._ignore_index is not None and 0 <= self._ignore_index < self._num_classes:
            raise _ignored_class(self._ignore_index, self._num_classes)
        self._counts_KK = np.zeros((self._num_classes, self._num_classes), dtype=np.int64)
        self._ignored = 0

    @classmethod
    def from_counts(cls, counts: ArrayLike, ignored: int = 0) -> ConfusionMatrix:
        """Make a matrix of counts made elsewhere.

        Args:
            counts: K×K non-negative integers, rows truth, columns prediction; copied.
            ignored: number of ignored pixels beside them.

        Returns:
            One that ignores 255, or nothing where 255 is a class.

        Raises:
            DataError: SEG-M005 not square, not integers, or negative.
        """
        counts_KK = np.asarray(counts)
        _check_counts(counts_KK, ignored)
        num_classes = counts_KK.shape[0]
        matrix = cls(num_classes, 255 if num_classes <= 255 else None)
        matrix._counts_KK += counts_KK.astype(np.int64)
        matrix._ignored = operator.index(ignored)
        return matrix

    @property
    def num_classes(self) -> int:
        """K."""
        return self._num_classes

    @property
    def ignore_index(self) -> int | None:
        """Label value of pixels that are not scored."""
        return self._ignore_index

    @property
    def counts(self) -> NDArray[np.int64]:
        """K×K int64, rows truth, columns prediction; a copy."""
        return self._counts_KK.copy()

    @property
    def ignored(self) -> int:
        """Number of pixels left out because of their label or a mask."""
        return self._ignored

    def update(self, labels: ArrayLike, predictions: ArrayLike) -> None:
        """Count the pixels of one image or batch; all of them, or none if anything is wrong.

        Args:
            labels: train ids 0…K-1 or `ignore_index`; integers of any width, shape and layout.
            predictions: train ids 0…K-1, of the same shape. Not looked at where the label is
                ignored.

        Where one of them is a `numpy.ma.MaskedArray`, pixels masked in it are ignored.

        Raises:
            DataError: SEG-M001 the shapes differ; SEG-M002 not integers; SEG-M003 a label or
                SEG-M004 a prediction is outside the classes.
        """
        visible = _visible(labels, predictions)
        labels, predictions = np.asarray(labels), np.asarray(predictions)
        _check_integers(labels, predictions)
        counts_KK = np.zeros_like(self._counts_KK)
        flat_labels, flat_predictions = labels.reshape(-1), predictions.reshape(-1)
        if visible is not None:
            flat = visible.reshape(-1)
            flat_labels, flat_predictions = flat_labels[flat], flat_predictions[flat]
        ignored = labels.size - flat_labels.size
        for start in range(0, flat_labels.size, _CHUNK):
            chunk = slice(start, start + _CHUNK)
            ignored += self._count(flat_labels[chunk], flat_predictions[chunk], counts_KK)
        if counts_KK.sum() + ignored != labels.size:
            raise self._stray(labels, predictions, visible)
        self._counts_KK += counts_KK
        self._ignored += ignored

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix to this one.

        Raises:
            DataError: SEG-M006 the other matrix has another number of classes.
        """
        if other.num_classes != self.num_classes:
            raise DataError(
                "SEG-M006",
                "confusion matrices of different classes cannot be merged",
                observed=f"{other.num_classes} classes",
                allowed=f"{self.num_classes} classes",
                next_step="score both with one label map",
            )
        self._counts_KK += other._counts_KK
        self._ignored += other._ignored

    def scores(self) -> scores.Scores:
        """Return the scores of what is counted so far."""
        return scores.from_counts(self._counts_KK)

    def _count(
        self,
        labels: NDArray[np.integer],
        predictions: NDArray[np.integer],
        counts_KK: NDArray[np.int64],
    ) -> int:
        """Add the valid pixels of a flat chunk to `counts_KK`; return how many are ignored.

        Pixels outside the classes are left out: the caller misses them in the sum.
        """
        byte_labels, byte_predictions = _as_bytes(labels), _as_bytes(predictions)
        if byte_labels is None or byte_predictions is None:
            return self._count_wide(labels, predictions, counts_KK)
        size = min(self._num_classes, 256)
        in_bytes = self._ignore_index is not None and 0 <= self._ignore_index < 256
        pairs = count_pairs(
            byte_labels, byte_predictions, size, self._ignore_index if in_bytes else None
        )
        counts_KK[:size, :size] += pairs[:size, :size]
        return int(pairs[size:].sum())

    def _count_wide(
        self,
        labels: NDArray[np.integer],
        predictions: NDArray[np.integer],
        counts_KK: NDArray[np.int64],
    ) -> int:
        """`_count` where a value does not fit into a byte."""
        scored = self._scored(labels)
        valid = scored & self._is_class(labels) & self._is_class(predictions)
        rows, columns = labels[valid].astype(np.int64), predictions[valid].astype(np.int64)
        codes = rows * self._num_classes + columns
        counts_KK += np.bincount(codes, minlength=counts_KK.size).reshape(counts_KK.shape)
        return int(labels.size - np.count_nonzero(scored))

    def _scored(self, labels: NDArray[np.integer]) -> NDArray[np.bool_]:
        if self._ignore_index is None:
            return np.ones(labels.shape, dtype=np.bool_)
        scored: NDArray[np.bool_] = labels != self._ignore_index
        return scored

    def _is_class(self, values: NDArray[np.integer]) -> NDArray[np.bool_]:
        return (values >= 0) & (values < self._num_classes)

    def _stray(
        self,
        labels: NDArray[np.integer],
        predictions: NDArray[np.integer],
        visible: NDArray[np.bool_] | None,
    ) -> DataError:
        scored = self._scored(labels)
        if visible is not None:
            scored &= visible
        classes = f"0…{self._num_classes - 1}"
        stray = scored & ~self._is_class(labels)
        if stray.any():
            ignore = "" if self._ignore_index is None else f", or {self._ignore_index} (ignored)"
            return DataError(
                "SEG-M003",
                "label outside the classes",
                observed=_commonest(labels, stray),
                allowed=classes + ignore,
                next_step="turn raw label values into train ids with a label map first",
            )
        stray = scored & ~self._is_class(predictions)
        return DataError(
            "SEG-M004",
            "prediction outside the classes",
            observed=_commonest(predictions, stray),
            allowed=classes,
            next_step="give num_classes as the model has it",
        )


def _visible(labels: ArrayLike, predictions: ArrayLike) -> NDArray[np.bool_] | None:
    """Return where neither is masked; None where nothing is, the common case."""
    masks = [np.ma.getmask(values) for values in (labels, predictions)]
    hidden = [mask for mask in masks if mask is not np.ma.nomask]
    if not hidden or np.shape(labels) != np.shape(predictions):  # the latter is refused later
        return None
    visible: NDArray[np.bool_] = ~np.logical_or.reduce(hidden)
    return visible


def _ignored_class(ignore_index: int, num_classes: int) -> ConfigError:
    return ConfigError(
        "SEG-M017",
        "ignore_index is one of the classes, whose predictions would count as errors of others",
        observed=f"ignore_index = {ignore_index}, classes 0…{num_classes - 1}",
        allowed=f"None, or a value outside 0…{num_classes - 1}, such as -1",
        next_step="give unscored pixels a label of their own: "
        f"`labels = np.where(labels == {ignore_index}, -1, labels)` with signed integers and "
        "ignore_index=-1; to leave the class out of a mean, score all classes and average "
        "`scores().iou` without it",
    )


def _check_integers(labels: NDArray[np.generic], predictions: NDArray[np.generic]) -> None:
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.dtype.kind not in "ui":
            raise DataError(
                "SEG-M002",
                f"{name} are not integers",
                observed=f"shape {values.shape}, {values.dtype}",
                allowed="integers of any width",
                next_step="take the argmax over the classes of probabilities first",
            )
    if labels.shape != predictions.shape:
        raise DataError(
            "SEG-M001",
            "labels and predictions differ in shape",
            observed=f"labels {labels.shape}, predictions {predictions.shape}",
            allowed="one shape",
            next_step="bring predictions to the size of the labels, never labels to theirs",
        )


def _as_bytes(values: NDArray[np.integer]) -> NDArray[np.uint8] | None:
    """Return contiguous uint8, or None where a value does not fit."""
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > 255):
        return None
    return np.ascontiguousarray(values, dtype=np.uint8)


def _commonest(values: NDArray[np.integer], stray: NDArray[np.bool_]) -> str:
    """Describe the commonest stray value: itself, how often, where first; then the others."""
    found, counts = np.unique(values[stray], return_counts=True)
    commonest = int(counts.argmax())
    # A prediction may hold the same value under an ignored label, where it is no fault.
    where_first = np.unravel_index(
        int((stray & (values == found[commonest])).argmax()), values.shape
    )
    position = tuple(int(axis) for axis in where_first)
    text = f"{found[commonest]} ({counts[commonest]} px, first at index {position})"
    if len(found) > 1:
        others = len(found) - 1
        text += f" and {others} other value{'s' if others > 1 else ''} in {found[0]}…{found[-1]}"
    return text


def _check_counts(counts_KK: NDArray[np.generic], ignored: int) -> None:
    square = counts_KK.ndim == 2 and counts_KK.shape[0] == counts_KK.shape[1] > 0
    if not square or counts_KK.dtype.kind not in "ui":
        observed = f"shape {counts_KK.shape}, {counts_KK.dtype}"
    elif counts_KK.min() < 0 or counts_KK.max() > np.iinfo(np.int64).max:
        observed = f"values from {counts_KK.min()} to {counts_KK.max()}"
    elif ignored < 0:
        observed = f"ignored = {ignored}"
    else:
        return
    raise DataError(
        "SEG-M005",
        "not the counts of a confusion matrix",
        observed=observed,
        allowed="K×K integers of 0 or more, rows truth, columns prediction",
    )
