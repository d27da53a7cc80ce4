"""Accuracy of a map, and areas of classes, estimated from a random sample of reference points.

Pixels that a map gives to a class are not the area of the class: errors of the map do not cancel.
Where the true class is known at points drawn by a probability design, the sample says both how
right the map is and how large each class really is, with standard errors.

One set of estimators serves every design (Stehman 2014, "Estimating area and map accuracy for
stratified random sampling when the strata are different from the map classes", International
Journal of Remote Sensing 35: 4923-4939): shares are weighted means over the strata, user's and
producer's accuracy are ratios of two such means. Where the strata are the classes of the map they
are the estimators of Olofsson et al. 2014, "Good practices for estimating area and assessing
accuracy of land change", Remote Sensing of Environment 148: 42-57. A simple random sample is one
stratum. A systematic sample is taken for a simple random one, whose variance is as a rule the
larger (Olofsson et al. 2014, section 5.1): its intervals are then wider than they need be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.metrics.bootstrap import RESAMPLES, resampled, units

Floats = NDArray[np.float64]

Z_95 = 1.96
"""Standard errors to each side of an interval of 95 %, as the papers print it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A quantity estimated from a sample.

    Attributes:
        value: the estimate; NaN where the sample says nothing of it.
        standard_error: of the value; NaN likewise.
    """

    value: float
    standard_error: float

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval."""
        return Z_95 * self.standard_error

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval; it may lie below 0 where there are few points."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + self.half_width

    def times(self, factor: float) -> Estimate:
        """Return the estimate of a multiple, such as an area from its share."""
        return Estimate(self.value * factor, self.standard_error * factor)


@dataclass(frozen=True, slots=True)
class AreaEstimates:
    """What a sample says of a map of K classes.

    Attributes:
        counts_KK: int64 reference points; rows the class on the map, columns the reference class.
        proportions_KK: estimated shares of the area, 0…1; rows and columns likewise.
        overall: accuracy: share of the area where the map is right.
        users: K accuracies of a class on the map: share of its mapped area that is right.
        producers: K accuracies of a reference class: share of its area that the map has right.
        area_shares: K shares of the area that are of the reference class: error-adjusted.
        mapped_shares_K: estimated shares of the area that the map gives to each class.
    """

    counts_KK: NDArray[np.int64]
    proportions_KK: Floats
    overall: Estimate
    users: tuple[Estimate, ...]
    producers: tuple[Estimate, ...]
    area_shares: tuple[Estimate, ...]
    mapped_shares_K: Floats


def estimate_by_map_classes(counts_KK: NDArray[np.integer], areas_K: Floats) -> AreaEstimates:
    """Estimate from a sample whose strata are the classes of the map (Olofsson et al. 2014).

    Args:
        counts_KK: reference points; rows the class on the map, which is the stratum, columns the
            reference class.
        areas_K: mapped areas of the classes, in any unit.

    Raises:
        DataError: as `estimate`.
    """
    num = len(counts_KK)
    counts_SKK = np.zeros((num, num, num), np.int64)
    counts_SKK[np.arange(num), np.arange(num)] = counts_KK
    return estimate(counts_SKK, areas_K)


def estimate(
    counts_SKK: NDArray[np.integer],
    areas_S: Floats,
    *,
    pixels_S: NDArray[np.integer] | None = None,
    whole_S: NDArray[np.bool_] | None = None,
) -> AreaEstimates:
    """Estimate from a stratified random sample (Stehman 2014); a simple one is one stratum.

    Args:
        counts_SKK: reference points of each stratum; then rows the class on the map, columns the
            reference class.
        areas_S: areas of the strata, in any unit. A stratum without area counts for nothing.
        pixels_S: how many pixels the points of each stratum were drawn from, for the finite
            population correction; None: so many that it does not matter.
        whole_S: strata of which every pixel is in the sample, which so have no sampling error, be
            it one pixel; None: those that `pixels_S` says.

    Returns:
        Estimates with standard errors; NaN where a class is neither in the sample nor on the map.

    Raises:
        DataError: SEG-D080, a stratum that has an area has fewer than two points.
    """
    weights_S = np.asarray(areas_S, np.float64)
    points_S = np.asarray(counts_SKK).sum(axis=(1, 2))
    unseen_S = np.ones(len(points_S)) if pixels_S is None else 1 - points_S / np.asarray(pixels_S)
    unseen_S = np.where(False if whole_S is None else whole_S, 0.0, np.maximum(unseen_S, 0.0))
    _refuse_too_few(points_S, (weights_S > 0) & ((unseen_S > 0) | (points_S == 0)))
    used = weights_S > 0
    counts_SKK, weights_S = np.asarray(counts_SKK)[used], weights_S[used] / weights_S[used].sum()
    points_S, unseen_S = points_S[used], unseen_S[used]
    # What a stratum adds to a variance, for each unit of the variance of an indicator in it.
    spread_S = weights_S**2 * unseen_S / np.maximum(points_S - 1, 1)
    shares_SKK = counts_SKK / points_S[:, None, None]
    right_SK = np.diagonal(shares_SKK, axis1=1, axis2=2)
    mapped_SK, reference_SK = shares_SKK.sum(axis=2), shares_SKK.sum(axis=1)
    ratios = [(right_SK[:, k], mapped_SK[:, k], reference_SK[:, k]) for k in range(len(right_SK.T))]
    return AreaEstimates(
        counts_SKK.sum(axis=0, dtype=np.int64),
        np.einsum("s,sij->ij", weights_S, shares_SKK),
        _mean(right_SK.sum(axis=1), weights_S, spread_S),
        tuple(_ratio(right, mapped, weights_S, spread_S) for right, mapped, _ in ratios),
        tuple(_ratio(right, truth, weights_S, spread_S) for right, _, truth in ratios),
        tuple(_mean(truth, weights_S, spread_S) for _, _, truth in ratios),
        weights_S @ mapped_SK,
    )


def estimate_by_blocks(
    counts_NKK: NDArray[np.integer],
    areas_K: Floats,
    groups: Sequence[object] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AreaEstimates:
    """Estimate from the pixels of test images, by bootstrap over groups of them.

    What the map calls a class is shared among the true classes as the test pixels that were
    predicted to be that class are. This is no sample of the map: it holds where the map errs as the
    model does on the test images. Standard errors are the deviation over draws of whole groups.

    Args:
        counts_NKK: int64 confusion counts an image, rows truth, columns prediction.
        areas_K: mapped areas of the classes, in any unit.
        groups: N labels; images of one label are drawn together. None: every image by itself.
        resamples: draws.
        seed: of the draws.

    Returns:
        Estimates; `AreaEstimates.counts_KK` are pixels, rows the prediction.

    Raises:
        DataError: SEG-M010 there are fewer than two groups; SEG-M011 there are not as many labels
            as images; SEG-D080, a class of the map is never predicted on the test images.
    """
    num, shares_K = len(areas_K), np.asarray(areas_K, np.float64) / np.sum(areas_K)
    cells_NF = np.swapaxes(counts_NKK, 1, 2).reshape(len(counts_NKK), -1).astype(np.float64)
    lacking = np.flatnonzero(
        (cells_NF.sum(axis=0).reshape(num, num).sum(axis=1) == 0) & (shares_K > 0)
    )
    if len(lacking):
        raise DataError(
            "SEG-D080",
            "the model predicts a class of the map nowhere on the test images",
            observed=f"class {', '.join(map(str, lacking))}",
            allowed="test pixels of every class that is on the map",
            next_step="assess the map by reference points: terrazzo sample",
        )

    def scores(cells_DF: Floats) -> Floats:
        return _scores_of_cells(cells_DF.reshape(*cells_DF.shape[:-1], num, num), shares_K)

    units_UF = units(cells_NF, groups)
    drawn_RS = resampled(units_UF, scores, resamples, seed)
    values_S, counts_KK = scores(units_UF.sum(axis=0)), units_UF.sum(axis=0).reshape(num, num)
    found = [
        Estimate(float(value), _deviation(draws))
        for value, draws in zip(values_S, drawn_RS.T, strict=True)
    ]
    return AreaEstimates(
        counts_KK.astype(np.int64),
        _proportions(counts_KK, shares_K),
        found[0],
        tuple(found[1 : num + 1]),
        tuple(found[num + 1 : 2 * num + 1]),
        tuple(found[2 * num + 1 :]),
        shares_K,
    )


def _proportions(cells: Floats, shares_K: Floats) -> Floats:
    """Share the mapped classes among the true ones: …×K×K, rows the map; NaN where unknown."""
    rows = cells.sum(axis=-1, keepdims=True)
    given = np.divide(cells, rows, out=np.full_like(cells, np.nan), where=rows > 0)
    return np.where(shares_K[:, None] > 0, shares_K[:, None] * given, 0.0)


def _scores_of_cells(cells: Floats, shares_K: Floats) -> Floats:
    """Return …×(1 + 3K): overall, then user's, producer's accuracy and share of each class."""
    proportions = _proportions(cells, shares_K)
    right = np.diagonal(proportions, axis1=-2, axis2=-1)
    truth, mapped = proportions.sum(axis=-2), np.broadcast_to(shares_K, right.shape)
    with np.errstate(invalid="ignore"):
        ratios = [
            np.divide(right, whole, where=whole != 0, out=np.full_like(right, np.nan))
            for whole in (mapped, truth)
        ]
    return np.concatenate([right.sum(axis=-1, keepdims=True), *ratios, truth], axis=-1)


def _deviation(draws: Floats) -> float:
    """Return the standard deviation over the draws in which a score is defined."""
    defined = draws[~np.isnan(draws)]
    return float(defined.std(ddof=1)) if len(defined) > 1 else math.nan


def _refuse_too_few(points_S: NDArray[np.integer], sampled_S: NDArray[np.bool_]) -> None:
    lacking = np.flatnonzero(sampled_S & (points_S < 2))
    if len(lacking):
        raise DataError(
            "SEG-D080",
            "a stratum has too few reference points for a standard error",
            observed=", ".join(f"stratum {at}: {points_S[at]}" for at in lacking),
            allowed="two or more in every stratum that has an area",
            next_step="interpret more points there, or merge the stratum with another",
        )


def _mean(share_S: Floats, weights_S: Floats, spread_S: Floats) -> Estimate:
    """Return the weighted mean of an indicator, by its share in each stratum."""
    variance = spread_S @ (share_S * (1 - share_S))
    return Estimate(float(weights_S @ share_S), math.sqrt(max(float(variance), 0.0)))


def _ratio(part_S: Floats, whole_S: Floats, weights_S: Floats, spread_S: Floats) -> Estimate:
    """Return the ratio of the means of two indicators, of which the first implies the second."""
    whole = float(weights_S @ whole_S)
    if whole == 0:
        return Estimate(math.nan, math.nan)
    ratio = float(weights_S @ part_S) / whole
    # Variances of the indicators, and their covariance: wherever the part holds, the whole does.
    of_part, of_whole = part_S * (1 - part_S), whole_S * (1 - whole_S)
    together = part_S - part_S * whole_S
    variance = spread_S @ (of_part + ratio**2 * of_whole - 2 * ratio * together) / whole**2
    return Estimate(ratio, math.sqrt(max(float(variance), 0.0)))
