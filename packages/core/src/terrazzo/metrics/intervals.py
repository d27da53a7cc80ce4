"""Intervals of scores, of their differences, and verdicts that hold for a whole table of them.

Images differ in what they hold: a class that lies in few of them is scored by few. So an interval
is worked out from how far each score moves when one image is left out (the jackknife; Efron &
Stein 1981), on a scale that ends at 0 and 1, and is as wide as Student's t says for the number of
images that the score really rests on (Kish's effective number; for a mean of classes, after
Satterthwaite 1946). Where a class is held by fewer than `MIN_IMAGES` images there is no interval:
`benchmarks/interval_coverage.py` shows where coverage ends.

A verdict is worth what the number of verdicts beside it allows. The differences of a table are
judged by the largest of all of them under equality (Westfall & Young 1993, max-T), drawn with the
correlation that the images show.

A method is several runs that differ in nothing but their seed. Its interval covers other images
and other seeds: the variance over seeds is added, less what of it is only the few images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from terrazzo.metrics import student_t
from terrazzo.metrics.bootstrap import Statistic

Floats = NDArray[np.float64]

LEVEL = 0.95
MIN_IMAGES = 6
"""Images (or groups) that must hold a class for an interval of its score."""
MIN_SEEDS = 3
"""Runs that must make up a method for a verdict about it."""
DRAWS = 10_000

NAN = float("nan")
_CHUNK = 1024
_LEAST_FREEDOM = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and where it would lie with other images.

    Attributes:
        estimate: from the images as they are; NaN where it is not defined.
        low: lower end; NaN where there are too few images for an interval.
        high: upper end, likewise.
        images: images or groups that hold what is scored; None where they were not counted.
        adjusted_low: lower end that holds for all differences of a table at once; NaN for what is
            no difference, and where there is no interval.
        adjusted_high: upper end, likewise.
    """

    estimate: float
    low: float
    high: float
    images: int | None = None
    adjusted_low: float = NAN
    adjusted_high: float = NAN

    @property
    def too_few(self) -> bool:
        """Whether there are too few images for an interval."""
        return math.isnan(self.low) and not math.isnan(self.estimate)

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the adjusted interval; False where there is none."""
        return self.adjusted_low > 0 or self.adjusted_high < 0

    @property
    def turned(self) -> Interval:
        """The same of the difference the other way round."""
        low, high = 0.0 - self.high, 0.0 - self.low
        adjusted = 0.0 - self.adjusted_high, 0.0 - self.adjusted_low
        return Interval(0.0 - self.estimate, low, high, self.images, *adjusted)


@dataclass(frozen=True, eq=False)
class Scored:
    """S scores of a run or method, and how each unit (image or group) moves them.

    Attributes:
        estimates_S: NaN where not defined.
        moved_US: score of all units minus that without the unit.
        freedom_S: degrees of freedom of the variance over units.
        images_S: units that hold what is scored.
        seeds_S: variance of the estimate over seeds; 0 for a single run.
        images_in_seeds_S: what of `seeds_S` comes from the images alone.
        num_seeds: runs behind the estimates.
    """

    estimates_S: Floats
    moved_US: Floats
    freedom_S: Floats
    images_S: NDArray[np.int64]
    seeds_S: Floats
    images_in_seeds_S: Floats
    num_seeds: int = 1

    @property
    def variance_S(self) -> Floats:  # noqa: N802 - a shape suffix
        """Variance over units."""
        variance_S: Floats = (self.moved_US**2).sum(axis=0)
        return variance_S

    def no_freer_than(self, weights_US: Floats) -> Scored:
        """Return the same with no more degrees of freedom than weights of the units allow."""
        return replace(self, freedom_S=np.minimum(self.freedom_S, _freedom(weights_US)))


def jackknife(
    units_UF: Floats, statistic: Statistic, wholes_US: Floats, images_S: NDArray[np.int64]
) -> Scored:
    """Score all units, and all but each.

    Args:
        units_UF: what each unit adds.
        statistic: of the sums.
        wholes_US: what each unit adds to the denominator of each score: how much it counts.
        images_S: units that hold what is scored.
    """
    total_F = units_UF.sum(axis=0)
    estimates_S = statistic(total_F)
    moved_US = estimates_S - statistic(total_F - units_UF)
    # Without its only image a class has no score; that it has too few images stops it elsewhere.
    moved_US[np.isnan(moved_US)] = 0.0
    none_S = np.zeros(len(estimates_S))
    return Scored(estimates_S, moved_US, _freedom(wholes_US), images_S, none_S, none_S)


def _freedom(wholes_US: Floats) -> Floats:
    """Return Kish's effective number of units, less one."""
    total_S = wholes_US.sum(axis=0)
    squares_S = (wholes_US**2).sum(axis=0)
    effective_S = np.divide(total_S**2, squares_S, out=np.ones_like(total_S), where=squares_S > 0)
    return np.asarray(np.maximum(effective_S - 1, _LEAST_FREEDOM))


def of_mean(variances_SK: Floats, freedom_SK: Floats, num_units: int) -> Floats:
    """Return the degrees of freedom of means over K classes, after Satterthwaite.

    Args:
        variances_SK: of each class.
        freedom_SK: of each class.
        num_units: images or groups.

    Returns:
        S numbers; those of the class with the fewest where no image moves any class.
    """
    squares_S = (variances_SK**2 / freedom_SK).sum(axis=1)
    summed_S = variances_SK.sum(axis=1)
    most = float(max(num_units - 1, 1))
    found = np.divide(summed_S**2, squares_S, out=freedom_SK.min(axis=1), where=squares_S > 0)
    return np.asarray(np.clip(found, _LEAST_FREEDOM, most))


def with_mean(scored: Scored, mean: int, classes: NDArray[np.intp]) -> Scored:
    """Say of one score that it is the mean of others, over one set of classes for all units.

    Without the only image of a class, the mean is still one over all classes. It is held by as
    many images as the class that the fewest hold, be it none: one that is only predicted.

    Args:
        scored: all scores.
        mean: number of the mean.
        classes: numbers of the scores it is the mean of; without any, it has no interval.
    """
    if not len(classes):
        return scored
    freedom_S, moved_US = scored.freedom_S.copy(), scored.moved_US.copy()
    moved_US[:, mean] = moved_US[:, classes].mean(axis=1)
    variances_1K = scored.variance_S[None, classes]
    freedom_S[mean] = of_mean(variances_1K, freedom_S[None, classes], len(moved_US))[0]
    images_S = scored.images_S.copy()
    images_S[mean] = images_S[classes].min()
    return replace(scored, freedom_S=freedom_S, moved_US=moved_US, images_S=images_S)


def of_method(runs: Sequence[Scored]) -> Scored:
    """Put runs together that differ in nothing but their seed: the mean of their scores."""
    if len(runs) == 1:
        return runs[0]
    num = len(runs)
    estimates_RS = np.stack([run.estimates_S for run in runs])
    moved_US = np.mean([run.moved_US for run in runs], axis=0)
    own_S = sum(((run.moved_US - moved_US) ** 2).sum(axis=0) for run in runs) / (num - 1)
    return Scored(
        estimates_RS.mean(axis=0),
        moved_US,
        np.min([run.freedom_S for run in runs], axis=0),
        runs[0].images_S,
        estimates_RS.var(axis=0, ddof=1) / num,
        own_S / num,
        num,
    )


@dataclass(frozen=True, eq=False)
class _SeedVariance:
    """Variances over seeds of M methods, which learn from one another.

    Three seeds say little of a variance. For an interval each has the larger of its own and the
    mean over all methods, less the share of the images; a verdict rests on the larger one whole.
    """

    of_intervals_MS: Floats
    of_verdicts_MS: Floats
    own_freedom_M: NDArray[np.float64]
    from_own_MS: NDArray[np.bool_]
    all_freedom: float

    def verdict_terms(self, i: int, j: int) -> Floats:
        """Return v²/f of a pair, as Satterthwaite adds them up.

        What comes from the mean over all methods is one estimate: it adds up before the square.
        """
        pooled_S = np.zeros(self.from_own_MS.shape[1])
        terms_S = np.zeros_like(pooled_S)
        for m in (i, j):
            own_S = self.from_own_MS[m]
            terms_S += np.where(own_S, self.of_verdicts_MS[m] ** 2 / self.own_freedom_M[m], 0.0)
            pooled_S += np.where(own_S, 0.0, self.of_verdicts_MS[m])
        return np.asarray(terms_S + pooled_S**2 / self.all_freedom)


def _seed_variance(methods: Sequence[Scored]) -> _SeedVariance:
    freedom_M = np.array([each.num_seeds - 1.0 for each in methods])
    seeds_M = np.array([float(each.num_seeds) for each in methods])[:, None]
    all_freedom = freedom_M.sum()
    raw_MS = np.stack([each.seeds_S for each in methods]) * seeds_M
    images_MS = np.stack([each.images_in_seeds_S for each in methods]) * seeds_M
    shares_M = freedom_M[:, None] / max(all_freedom, 1.0)
    pooled_S, pooled_own_S = (shares_M * raw_MS).sum(axis=0), (shares_M * images_MS).sum(axis=0)
    less_MS = np.maximum(np.maximum(raw_MS - images_MS, pooled_S - pooled_own_S), 0.0)
    several_M = seeds_M > 1
    return _SeedVariance(
        np.where(several_M, less_MS / seeds_M, 0.0),
        np.where(several_M, np.maximum(raw_MS, pooled_S) / seeds_M, 0.0),
        np.maximum(freedom_M, 1.0),
        raw_MS > pooled_S,
        max(all_freedom, 1.0),
    )


def own_intervals(
    scored: Sequence[Scored],
    *,
    level: float = LEVEL,
    bounded: bool = True,
    enough: int = MIN_IMAGES,
) -> list[tuple[Interval, ...]]:
    """Return the interval of each score of each run or method.

    Args:
        scored: runs, or methods.
        level: 0…1.
        bounded: whether scores lie between 0 and 1; else they are only not negative.
        enough: images that an interval needs.
    """
    seeds = _seed_variance(scored)
    found = []
    for m, each in enumerate(scored):
        images_S, seed_S = each.variance_S, seeds.of_intervals_MS[m]
        variance_S = images_S + seed_S
        terms_S = images_S**2 / each.freedom_S + seed_S**2 / seeds.all_freedom
        reach_S = student_t.quantile(1 - level, _ratio(variance_S**2, terms_S, each.freedom_S))
        reach_S *= np.sqrt(variance_S)
        ends = _ends(each.estimates_S, reach_S, each.freedom_S, level=level, bounded=bounded)
        found.append(_build(each.estimates_S, ends, each.images_S, enough))
    return found


def _ratio(part_S: Floats, whole_S: Floats, otherwise_S: Floats) -> Floats:
    """Divide; variances of 0 leave the degrees of freedom as they are."""
    return np.divide(part_S, whole_S, out=otherwise_S.copy(), where=(whole_S > 0) & (part_S > 0))


def _ends(
    estimates_S: Floats, reach_S: Floats, freedom_S: Floats, *, level: float, bounded: bool
) -> tuple[Floats, Floats]:
    """Return the ends on the logit scale, or the logarithm's, so that they are no impossible ones.

    A score of 0 or 1 moves with no image; its inner end is that of Clopper & Pearson (1934) for as
    many images as it rests on, all of which said the same.
    """
    inside = (estimates_S > 0) & ((estimates_S < 1) | (not bounded))
    score_S = np.where(inside, estimates_S, 0.5)
    slope_S = score_S * (1 - score_S) if bounded else score_S
    away_S = np.minimum(reach_S / slope_S, 700.0)
    if not bounded:
        with np.errstate(over="ignore"):
            low_S, high_S = score_S * np.exp(-away_S), score_S * np.exp(away_S)
        return np.where(inside, low_S, estimates_S), np.where(inside, high_S, estimates_S)
    odds_S = (1 - score_S) / score_S
    with np.errstate(over="ignore"):
        low_S, high_S = 1 / (1 + odds_S * np.exp(away_S)), 1 / (1 + odds_S * np.exp(-away_S))
    all_alike_S = ((1 - level) / 2) ** (1 / (freedom_S + 1))
    at_0_S, at_1_S = estimates_S <= 0, estimates_S >= 1
    low_S = np.where(at_0_S, 0.0, np.where(at_1_S, all_alike_S, low_S))
    high_S = np.where(at_1_S, 1.0, np.where(at_0_S, 1 - all_alike_S, high_S))
    undefined_S = np.isnan(estimates_S)
    return np.where(undefined_S, NAN, low_S), np.where(undefined_S, NAN, high_S)


def _build(
    estimates_S: Floats, ends: tuple[Floats, Floats], images_S: NDArray[np.int64], enough: int
) -> tuple[Interval, ...]:
    return tuple(
        Interval(float(estimate), float(low), float(high), int(images))
        if images >= enough
        else Interval(float(estimate), NAN, NAN, int(images))
        for estimate, low, high, images in zip(estimates_S, *ends, images_S, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Difference:
    """S differences of one pair, with what their intervals and verdicts are worked out from.

    Attributes:
        estimates_S: NaN where not defined.
        images_S: units that hold what is scored.
        variance_S: over units and seeds, for the interval.
        freedom_S: its degrees of freedom.
        verdict_variance_S: the same for a verdict; larger where there are several seeds.
        verdict_freedom_S: its degrees of freedom.
    """

    estimates_S: Floats
    images_S: NDArray[np.int64]
    variance_S: Floats
    freedom_S: Floats
    verdict_variance_S: Floats
    verdict_freedom_S: Floats

    def intervals(
        self, judged_at_S: Floats, *, level: float = LEVEL, enough: int = MIN_IMAGES
    ) -> tuple[Interval, ...]:
        """Return the intervals of this pair alone, with the adjusted ones.

        Args:
            judged_at_S: two-sided level of each verdict, from `family_levels`.
            level: of the intervals of the pair alone, 0…1.
            enough: images that an interval needs.
        """
        reach_S = student_t.quantile(1 - level, self.freedom_S) * np.sqrt(self.variance_S)
        further_S = student_t.quantile(judged_at_S, self.verdict_freedom_S) * np.sqrt(
            self.verdict_variance_S
        )
        ends = self.estimates_S - reach_S, self.estimates_S + reach_S
        alone = _build(self.estimates_S, ends, self.images_S, enough)
        # A verdict never claims more than the interval beside it.
        further_S = np.maximum(reach_S, further_S)
        return tuple(
            each
            if math.isnan(each.low)
            else replace(
                each,
                adjusted_low=float(each.estimate - further),
                adjusted_high=float(each.estimate + further),
            )
            for each, further in zip(alone, further_S, strict=True)
        )


def differences(
    scored: Sequence[Scored],
    pairs: Sequence[tuple[int, int]],
    means: Sequence[tuple[int, NDArray[np.intp]]] = (),
) -> dict[tuple[int, int], Difference]:
    """Return the differences of pairs of runs or methods on the same units.

    Args:
        scored: runs, or methods.
        pairs: (i, j): i minus j.
        means: a score that is a mean, and the scores it is the mean of.
    """
    seeds = _seed_variance(scored)
    return {(i, j): _difference(scored, seeds, i, j, means) for i, j in pairs}


def _difference(
    scored: Sequence[Scored],
    seeds: _SeedVariance,
    i: int,
    j: int,
    means: Sequence[tuple[int, NDArray[np.intp]]],
) -> Difference:
    one, other = scored[i], scored[j]
    images_S = ((one.moved_US - other.moved_US) ** 2).sum(axis=0)
    freedom_S = np.minimum(one.freedom_S, other.freedom_S)
    for mean, classes in means:
        freedom_S[mean] = of_mean(
            images_S[None, classes], freedom_S[None, classes], len(one.moved_US)
        )[0]
    seed = seeds.of_intervals_MS[i], seeds.of_intervals_MS[j]
    verdict_seed = seeds.of_verdicts_MS[i], seeds.of_verdicts_MS[j]
    variance_S, verdict_S = images_S + seed[0] + seed[1], images_S + sum(verdict_seed)
    from_images_S = images_S**2 / freedom_S
    # The mean over all methods is one estimate, so its parts add up before they are squared.
    terms_S = from_images_S + (seed[0] + seed[1]) ** 2 / seeds.all_freedom
    verdict_terms_S = from_images_S + seeds.verdict_terms(i, j)
    return Difference(
        one.estimates_S - other.estimates_S,
        np.minimum(one.images_S, other.images_S),
        variance_S,
        _ratio(variance_S**2, terms_S, freedom_S),
        verdict_S,
        _ratio(verdict_S**2, verdict_terms_S, freedom_S),
    )


def family_levels(
    scored: Sequence[Scored],
    found: dict[tuple[int, int], Difference],
    families_FS: NDArray[np.bool_],
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
    enough: int = MIN_IMAGES,
) -> Floats:
    """Return the two-sided level at which each difference of a family is judged.

    If all are equal, at least one is found to differ in `1 - level` of all tables, or fewer.

    Args:
        scored: runs, or methods.
        found: their differences, one of each pair.
        families_FS: which scores are judged together, over all pairs.
        level: 0…1.
        draws: of the largest difference under equality.
        seed: of the draws.
        enough: images that a verdict needs.
    """
    noise = _Noise(scored, seed)
    largest_DF = np.zeros((draws, len(families_FS)))
    usable = [(pair, _usable(each, enough)) for pair, each in found.items()]
    for start in range(0, draws, _CHUNK):
        drawn_RDS = noise.draw(min(_CHUNK, draws - start))
        kept_DF = largest_DF[start : start + _CHUNK]
        for (i, j), judged_S in usable:
            variance_S = found[i, j].verdict_variance_S
            z_DS = np.abs(drawn_RDS[i] - drawn_RDS[j])
            z_DS *= np.where(judged_S, 1 / np.sqrt(np.where(judged_S, variance_S, 1.0)), 0.0)
            for family, holds_S in enumerate(families_FS):
                np.maximum(kept_DF[:, family], z_DS[:, holds_S].max(axis=1), out=kept_DF[:, family])
    # Correlations from few units come out too strong, and the largest of them too small.
    num_units = len(scored[0].moved_US)
    largest_DF *= math.sqrt(num_units / max(num_units - 1, 1))
    # As a level, so that each difference is judged by its own degrees of freedom.
    alone = 1 - level
    return np.array(
        [
            min(max(student_t.normal_two_sided(float(z)), 1e-12), alone)
            for z in np.quantile(largest_DF, level, axis=0)
        ]
    )


def _usable(difference: Difference, enough: int) -> NDArray[np.bool_]:
    usable_S: NDArray[np.bool_] = (
        ~np.isnan(difference.estimates_S)
        & (difference.images_S >= enough)
        & (difference.verdict_variance_S > 0)
    )
    return usable_S


class _Noise:
    """Draws how the scores of all runs or methods would move together, were there no difference."""

    def __init__(self, scored: Sequence[Scored], seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._shape = (len(scored), scored[0].moved_US.shape[1])
        moved_UF = np.concatenate([each.moved_US for each in scored], axis=1)
        self._factor_UF = _short_factor(moved_UF)
        self._seeds_MS = np.sqrt(_seed_variance(scored).of_verdicts_MS)

    def draw(self, draws: int) -> Floats:
        """Return R×draws×S."""
        units_DU = self._random.standard_normal((draws, len(self._factor_UF)))
        moved_DRS = (units_DU @ self._factor_UF).reshape(draws, *self._shape)
        drawn_RDS = np.ascontiguousarray(moved_DRS.swapaxes(0, 1))
        if self._seeds_MS.any():
            drawn_RDS += self._random.standard_normal(drawn_RDS.shape) * self._seeds_MS[:, None]
        return drawn_RDS


def _short_factor(moved_UF: Floats) -> Floats:
    """Return rows with the same sums of products, no more than columns: draws then cost less."""
    if len(moved_UF) <= moved_UF.shape[1]:
        return moved_UF
    values_F, vectors_FF = np.linalg.eigh(moved_UF.T @ moved_UF)
    return np.asarray(np.sqrt(np.maximum(values_F, 0.0))[:, None] * vectors_FF.T)
