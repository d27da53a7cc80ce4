"""Segmentation scores as plain arithmetic on confusion counts."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of K classes, each in 0…1, from counts summed over all pixels that are not ignored.

    With TP, FP and FN the true positive, false positive and false negative pixels of a class:

    - iou = TP / (TP + FP + FN); NaN for a class neither in the truth nor in the prediction.
    - dice = f1 = 2·TP / (2·TP + FP + FN); NaN likewise. One number for hard predictions, and both
      names are in use.
    - precision = TP / (TP + FP); NaN likewise, but 0 for a class of the truth never predicted.
    - recall = TP / (TP + FN); NaN for a class not in the truth.

    The means are unweighted (macro) over the classes where the score is not NaN, and NaN where
    there is none. A class that is missed altogether therefore lowers every mean; a class that is
    only imagined lowers every mean but that of recall.

    Attributes:
        iou: K float64.
        precision: K float64.
        recall: K float64.
        f1: K float64.
        dice: K float64, equal to `f1`.
        pixel_accuracy: share of the counted pixels that are right; NaN where none is counted.
        micro_iou: ΣTP / Σ(TP + FP + FN), all classes together (micro): frequent classes decide it.
            Never to be published as mean IoU. NaN where no pixel is counted.
        classes_present: number of classes in the truth or in the prediction.
    """

    iou: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    dice: NDArray[np.float64]
    pixel_accuracy: float
    micro_iou: float
    classes_present: int

    def to_html(self, class_names: Sequence[str] | None = None, *, title: str = "") -> str:
        """Return the scores as an HTML table, a row a class and one of the means.

        Args:
            class_names: K names; None: the numbers of the classes.
            title: put above the table.
        """
        names = class_names or [str(k) for k in range(len(self.iou))]
        columns = (self.iou, self.precision, self.recall, self.f1)
        means = (self.mean_iou, self.mean_precision, self.mean_recall, self.mean_f1)
        rows = [(name, *values) for name, *values in zip(names, *columns, strict=True)]
        rows.append((f"mean of {self.classes_present} classes", *means))
        head = "".join(f"<th>{word}</th>" for word in ("class", "IoU", "precision", "recall", "F1"))
        body = "".join(
            f"<tr><td>{html.escape(name)}</td>"
            + "".join(f"<td>{'absent' if np.isnan(v) else f'{v:.4f}'}</td>" for v in values)
            + "</tr>"
            for name, *values in rows
        )
        return (
            f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()

    @property
    def mean_iou(self) -> float:
        """Unweighted mean of `iou` over the classes where it is not NaN."""
        return _mean(self.iou)

    @property
    def mean_precision(self) -> float:
        """Unweighted mean of `precision` over the classes where it is not NaN."""
        return _mean(self.precision)

    @property
    def mean_recall(self) -> float:
        """Unweighted mean of `recall` over the classes where it is not NaN."""
        return _mean(self.recall)

    @property
    def mean_f1(self) -> float:
        """Unweighted mean of `f1` over the classes where it is not NaN."""
        return _mean(self.f1)

    @property
    def mean_dice(self) -> float:
        """Unweighted mean of `dice` over the classes where it is not NaN."""
        return _mean(self.dice)


def from_counts(counts_KK: NDArray[np.int64]) -> Scores:
    """Score K×K counts, rows truth, columns prediction."""
    right = np.diagonal(counts_KK)
    in_truth = counts_KK.sum(axis=1)
    in_prediction = counts_KK.sum(axis=0)
    union = in_truth + in_prediction - right
    present = union > 0
    f1 = _ratio(2 * right, in_truth + in_prediction, present)
    total_right, total_either = right.sum(keepdims=True), union.sum(keepdims=True)
    total = counts_KK.sum(keepdims=True).reshape(1)
    return Scores(
        iou=_ratio(right, union, present),
        precision=_ratio(right, np.maximum(in_prediction, 1), present),
        recall=_ratio(right, in_truth, in_truth > 0),
        f1=f1,
        dice=f1,
        pixel_accuracy=float(_ratio(total_right, total, total > 0)[0]),
        micro_iou=float(_ratio(total_right, total_either, total > 0)[0]),
        classes_present=int(np.count_nonzero(present)),
    )


def _ratio(
    part: NDArray[np.int64], whole: NDArray[np.int64], defined: NDArray[np.bool_]
) -> NDArray[np.float64]:
    ratio = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=defined)
    ratio.setflags(write=False)
    return ratio


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
