"""Extra metrics from their counts, with intervals: boundary bands, calibration, instances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.evaluation.extra_counts import ExtraCounts
from terrazzo.metrics import calibration, cityscapes, intervals, roc
from terrazzo.metrics.bootstrap import units
from terrazzo.metrics.calibration import NUM_BINS, CalibrationCounts
from terrazzo.metrics.image_counts import ClassPixels, ImageCounts, mean_of_defined, ratio
from terrazzo.metrics.intervals import Interval, Scored

NAN = float("nan")

BOUNDARY_DEFINITION = (
    "Boundary IoU (Cheng et al. 2021) of the bands of truth and prediction, trimap IoU of all "
    "within one of the true border; pixels summed over the split, mean over the classes present; "
    "ignored pixels make no border and count nowhere"
)
CALIBRATION_DEFINITION = (
    f"from the probabilities at the size of the label files; {NUM_BINS} bins of equal width; "
    "expected_calibration_error: |accuracy − confidence| of the predicted class, weighted by the "
    "pixels of each bin (Guo et al. 2017); class_calibration_error: the same of the probability of "
    "one class over all pixels; brier: mean of Σ(p − y)² over the classes, 0…2; roc_area: of each "
    f"class against all others, {roc.SCORE_BINS} bins, pixels of one bin tied, so off by "
    "roc_area_error (one a class) at most; ignored pixels count nowhere"
)
INSTANCE_DEFINITION = (
    "iIoU of the Cityscapes benchmark: pixels of things weighted by the average size of an "
    "instance of the class over the size of their instance"
)


def summary(
    extra: ExtraCounts, counts_NKK: NDArray[np.int64], class_names: tuple[str, ...]
) -> dict[str, Any]:
    """Return what ``<split>.json`` holds of it; NaN becomes null."""
    found: dict[str, Any] = {}
    if extra.boundary is not None and extra.trimap is not None:
        bands = {"boundary_iou": extra.boundary, "trimap_iou": extra.trimap}
        iou = {name: iou_of(pixels) for name, pixels in bands.items()}
        found["boundary"] = {
            "definition": BOUNDARY_DEFINITION,
            "width": extra.boundary_width,
            **{f"mean_{name}": _number(mean_of_defined(values)) for name, values in iou.items()},
            "per_class": {name: _numbers(values) for name, values in iou.items()},
        }
    if extra.calibration is not None:
        counts = total(extra.calibration)
        found["calibration"] = {
            "definition": CALIBRATION_DEFINITION,
            "expected_calibration_error": _number(calibration.expected_calibration_error(counts)),
            "brier": _number(calibration.brier(counts)),
            "roc_area_error": _numbers(roc.area_errors(counts.scores)),
            "per_class": {
                "class_calibration_error": _numbers(calibration.class_calibration_errors(counts)),
                "brier": _numbers(calibration.class_brier(counts)),
                "roc_area": _numbers(roc.areas(counts.scores)),
            },
        }
    if extra.instances_N3K is not None:
        images = ImageCounts(
            counts_NKK, np.zeros(len(counts_NKK), np.int64), class_names, extra.instances_N3K
        )
        found["instances"] = {
            "definition": INSTANCE_DEFINITION,
            "mean_iiou": _number(cityscapes.mean_class_iiou(images)),
            "mean_category_iiou": _number(cityscapes.mean_category_iiou(images)),
            "per_class": {"iiou": _numbers(cityscapes.class_iiou(images))},
        }
    return found


def lines(told: dict[str, Any]) -> list[str]:
    """Say the scores of `summary` in a line each, for a terminal."""
    found = []
    for part, names in {
        "boundary": {"mean_boundary_iou": "mean Boundary IoU", "mean_trimap_iou": "trimap IoU"},
        "calibration": {"expected_calibration_error": "calibration error", "brier": "Brier score"},
        "instances": {"mean_iiou": "mean iIoU", "mean_category_iiou": "of categories"},
    }.items():
        scores = [(name, told.get(part, {}).get(key)) for key, name in names.items()]
        if part in told:
            found.append(", ".join(f"{name} {_text(value)}" for name, value in scores))
    return found


def _text(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _number(value: float | NDArray[np.float64]) -> float | None:
    return None if math.isnan(value) else float(value)


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [_number(value) for value in values]


def total(counts: CalibrationCounts) -> CalibrationCounts:
    """Return the counts of all images together, whose `scores` are so already."""
    return CalibrationCounts(
        counts.pixels.sum(axis=0),
        counts.right.sum(axis=0),
        counts.confidence.sum(axis=0),
        counts.squares.sum(axis=0),
        counts.scores,
    )


def iou_of(pixels: ClassPixels) -> NDArray[np.float64]:
    """Return the IoU of each class of N×K pixels, summed over the images; NaN where absent."""
    return ratio(pixels.true_positives.sum(axis=0), pixels.union.sum(axis=0), NAN)


@dataclass(frozen=True)
class ExtraIntervals:
    """Scores of one run with their intervals; empty where they were not counted.

    Attributes:
        boundary_width: of the boundary band, as a part of the diagonal.
        boundary: Boundary IoU: mean, then K classes.
        boundary_to_first: the same minus that of the first run, where both have one width.
        trimap: trimap IoU: mean, then K classes.
        calibration: expected calibration error and Brier score.
    """

    boundary_width: float | None
    boundary: tuple[Interval, ...]
    boundary_to_first: tuple[Interval, ...]
    trimap: tuple[Interval, ...]
    calibration: tuple[Interval, ...]


def with_intervals(
    runs: Sequence[ExtraCounts], *, groups: Sequence[object] | None, draws: int
) -> tuple[ExtraIntervals, ...]:
    """Work out the intervals of runs on the same images, as `terrazzo.metrics.intervals` does.

    Verdicts about the differences to the first run hold for all of them and all classes at once.

    Raises:
        DataError: SEG-M010, SEG-M011 as `terrazzo.metrics.bootstrap.units`.
    """
    bands = [None if run.boundary is None else _band(run.boundary, groups) for run in runs]
    to_first = _to_first(runs, bands, draws)
    return tuple(
        ExtraIntervals(
            boundary_width=run.boundary_width,
            boundary=_own(bands[number]),
            boundary_to_first=to_first.get(number, ()),
            trimap=() if run.trimap is None else _own(_band(run.trimap, groups)),
            calibration=()
            if run.calibration is None
            else _own(_reliable(run.calibration, groups), bounded=False),
        )
        for number, run in enumerate(runs)
    )


def _own(scored: Scored | None, *, bounded: bool = True) -> tuple[Interval, ...]:
    return () if scored is None else intervals.own_intervals([scored], bounded=bounded)[0]


def _to_first(
    runs: Sequence[ExtraCounts], bands: Sequence[Scored | None], draws: int
) -> dict[int, tuple[Interval, ...]]:
    """Return the differences of boundary scores to those of the first run, where of one width."""
    width = runs[0].boundary_width
    alike = [
        (number, band)
        for number, (run, band) in enumerate(zip(runs, bands, strict=True))
        if band is not None and run.boundary_width == width
    ]
    if len(alike) < 2 or alike[0][0] != 0:
        return {}
    scored = [band for _, band in alike]
    num_scores = len(scored[0].estimates_S)
    classes = np.arange(1, num_scores)
    defined = ~np.isnan([each.estimates_S[classes] for each in scored]).any(axis=0)
    pairs = [(number, 0) for number in range(1, len(scored))]
    found = intervals.differences(scored, pairs, [(0, classes[defined])])
    together = np.ones((1, num_scores), bool)
    (judged_at,) = intervals.family_levels(scored, found, together, draws=draws)
    judged_at_S = np.full(num_scores, judged_at)
    return {alike[i][0]: found[i, j].intervals(judged_at_S) for i, j in pairs}


def _band(pixels: ClassPixels, groups: Sequence[object] | None) -> Scored:
    """Score a band: the mean, then K classes."""
    sums_NF = np.concatenate([_class_sums(pixels), pixels.in_truth.astype(np.float64)], axis=1)
    units_UF = units(sums_NF, groups, least=1)
    _, union_UK, truth_UK = np.split(units_UF, 3, axis=1)
    images_K = np.count_nonzero(truth_UK, axis=0)
    scored = intervals.jackknife(
        units_UF[:, : 2 * len(images_K)],
        _boundary_scores,
        np.concatenate([union_UK.sum(axis=1, keepdims=True), union_UK], axis=1),
        np.array([0, *images_K]),
    )
    return intervals.with_mean(scored, 0, 1 + np.flatnonzero(~np.isnan(scored.estimates_S[1:])))


def _reliable(counts: CalibrationCounts, groups: Sequence[object] | None) -> Scored:
    """Score the calibration: expected calibration error and Brier score."""
    units_UF = units(_reliability(counts), groups, least=1)
    pixels_U = np.split(units_UF[:, :-1], 3, axis=1)[0].sum(axis=1)
    return intervals.jackknife(
        units_UF,
        _calibration_scores,
        np.stack([pixels_U, pixels_U], axis=1),
        np.full(2, np.count_nonzero(pixels_U)),
    )


def _class_sums(pixels: ClassPixels) -> NDArray[np.float64]:
    parts = (pixels.true_positives, pixels.union)
    return np.concatenate(parts, axis=1).astype(np.float64)


def _boundary_scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    right, union = np.split(sums, 2, axis=-1)
    iou = ratio(right, union, NAN)
    defined = ~np.isnan(iou)
    mean = ratio(np.where(defined, iou, 0).sum(axis=-1), defined.sum(axis=-1), NAN)
    return np.concatenate([mean[..., None], iou], axis=-1)


def _reliability(counts: CalibrationCounts) -> NDArray[np.float64]:
    """Return N×(3B+1): bins of the winning class and the sum of all squares."""
    rows = [each[:, 0] for each in (counts.pixels, counts.right, counts.confidence)]
    return np.concatenate([*rows, counts.squares.sum(axis=1, keepdims=True)], axis=1)


def _calibration_scores(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    pixels, right, confidence = np.split(sums[..., :-1], 3, axis=-1)
    counted = pixels.sum(axis=-1)
    gaps = np.abs(right - confidence).sum(axis=-1)
    return np.stack([ratio(gaps, counted, NAN), ratio(sums[..., -1], counted, NAN)], axis=-1)
