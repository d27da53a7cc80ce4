"""Rank several runs by mean IoU, with intervals of their scores and differences.

Runs are ranked only where they were scored on the same ground truth: the same images, with the
same classes, at the same label size. Everything is read from the run folders; no framework is
loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.config_parsing import StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.comparison import competitor, methods
from terrazzo.comparison.competitor import Competitor
from terrazzo.comparison.methods import Method, MethodComparison
from terrazzo.comparison.same_test import require_same_test
from terrazzo.data.labels import LabelMap
from terrazzo.evaluation import extra_scores
from terrazzo.evaluation.extra_scores import ExtraIntervals
from terrazzo.evaluation.stored import Scored
from terrazzo.metrics import confidence_intervals
from terrazzo.metrics.confidence_intervals import RunIntervals, Spread
from terrazzo.metrics.image_counts import class_pixels, ratio

NAN = float("nan")
_OWN_SETTINGS = {"name"}


@dataclass(frozen=True)
class Comparison:
    """Runs, best mean IoU first.

    Attributes:
        split: the split that was scored.
        label_map: label map of all runs.
        images: names of the N images.
        competitors: the R runs, ranked.
        intervals: intervals of the runs in this order, and of their paired differences.
        groups: number of groups of images that intervals are over; None for single images.
        image_iou_NR: mean IoU of each image by itself, 0…1; NaN where no pixel is counted.
        methods: runs that differ in nothing but the seed.
        by_method: comparison of the methods that have seeds enough; None without any.
        extra: intervals of boundary and calibration scores, one entry a run.
    """

    split: str
    label_map: LabelMap
    images: tuple[str, ...]
    competitors: tuple[Competitor, ...]
    intervals: RunIntervals
    groups: int | None
    image_iou_NR: NDArray[np.float64]
    methods: tuple[Method, ...]
    by_method: MethodComparison | None
    extra: tuple[ExtraIntervals, ...]

    @property
    def units(self) -> str:
        """What the intervals are over: "images" or "groups of images"."""
        return "images" if self.groups is None else "groups of images"

    @property
    def judges_methods(self) -> bool:
        """Whether each run belongs to a method that has seeds enough to be compared."""
        if self.by_method is None:
            return False
        return sum(len(each.runs) for each in self.by_method.methods) == len(self.competitors)

    @property
    def seeds(self) -> dict[tuple[str, ...], Spread]:
        """Spread of the mean IoU of each method, by the names of its runs."""
        return {
            tuple(self.competitors[run].name for run in method.runs): method.spread
            for method in self.methods
        }


def compare(
    runs: Sequence[StrPath],
    *,
    split: str = "test",
    group: str | None = None,
    resamples: int = confidence_intervals.DRAWS,
) -> Comparison:
    """Read and rank runs.

    Args:
        runs: run folders, two or more.
        split: train, val or test; must have been scored in every run.
        group: regular expression; images whose names have the same match (of its first group,
            if it has one) are one unit. Without it, every image is one.
        resamples: draws of the largest difference under equality, for verdicts.

    Raises:
        CheckpointError: SEG-C001, SEG-C014 no run folder or unreadable; SEG-C040 not scored.
        ConfigError: SEG-X040 fewer than two runs; SEG-X041 `group` is no regular expression or
            does not match an image.
        DataError: SEG-D050 the runs have not scored the same images, classes or label sizes.
    """
    if len(runs) < 2:
        raise ConfigError(
            "SEG-X040",
            "a comparison needs two runs or more",
            observed=", ".join(map(str, runs)) or "none",
            next_step="terrazzo compare RUN RUN --out compare.html",
        )
    paths = [Path(run) for run in runs]
    competitors = [
        competitor.read(path, name, split) for path, name in zip(paths, _names(paths), strict=True)
    ]
    for other in competitors[1:]:
        require_same_test(competitors[0], other)
    groups = None if group is None else group_names(competitors[0].scored.names, group)
    ranked = sorted(competitors, key=_mean_iou, reverse=True)
    found = confidence_intervals.compare_runs(
        [each.scored.counts_NKK for each in ranked], groups=groups, draws=resamples
    )
    of_seeds = methods.find(ranked, [_mean_iou(each) for each in ranked])
    return Comparison(
        split=split,
        label_map=ranked[0].record.label_map,
        images=ranked[0].scored.names,
        competitors=tuple(ranked),
        intervals=found,
        groups=None if groups is None else len(set(groups)),
        image_iou_NR=np.stack([_image_iou(each.scored) for each in ranked], axis=1),
        methods=of_seeds,
        by_method=methods.compare(of_seeds, ranked, groups=groups, draws=resamples),
        extra=extra_scores.with_intervals(
            [each.scored.extra for each in ranked], groups=groups, draws=resamples
        ),
    )


def differing_settings(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    """Return the settings that are not the same in all runs, a value a run ("" where unset)."""
    keys = sorted({key for each in comparison.competitors for key in each.settings})
    rows = {
        key: tuple(str(each.settings.get(key, "")) for each in comparison.competitors)
        for key in keys
        if key not in _OWN_SETTINGS
    }
    return {key: values for key, values in rows.items() if len(set(values)) > 1}


def _names(runs: Sequence[Path]) -> list[str]:
    """Folder names, or whole paths where two folders are called the same."""
    names = [path.resolve().name for path in runs]
    if len(set(names)) == len(names):
        return names
    paths = [str(path) for path in runs]
    if len(set(paths)) == len(paths):
        return paths
    twice = next(path for path in paths if paths.count(path) > 1)
    raise ConfigError(
        "SEG-X042", "a run is named twice", observed=twice, next_step="name every run once"
    )


def group_names(names: Sequence[str], pattern: str) -> list[str]:
    """Return the group of each image.

    Args:
        names: of the images.
        pattern: regular expression; its first group counts, or the whole match.

    Raises:
        ConfigError: SEG-X041, it is none, or does not match a name.
    """
    try:
        matches = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise ConfigError(
            "SEG-X041",
            "--group is not a regular expression",
            observed=f"{pattern}: {error}",
            next_step="for names such as 0001TP_008550: --group '^[^_]+'",
        ) from None
    groups = []
    for name, match in zip(names, matches, strict=True):
        if match is None:
            raise ConfigError(
                "SEG-X041",
                "--group matches no part of an image's name",
                observed=name,
                allowed=f"names that match {pattern}",
                next_step="choose a pattern that finds the scene in every name",
            )
        groups.append(match.group(1) if match.re.groups else match.group())
    return groups


def _mean_iou(run: Competitor) -> float:
    value = run.scored.summary["scores"]["mean_iou"]
    return -1.0 if value is None else float(value)


def _image_iou(scored: Scored) -> NDArray[np.float64]:
    pixels = class_pixels(scored.counts_NKK)
    iou_NK = ratio(pixels.true_positives, pixels.union, NAN)
    present_N = np.count_nonzero(pixels.union, axis=1)
    return ratio(np.nan_to_num(iou_NK).sum(axis=1), present_N, NAN)
