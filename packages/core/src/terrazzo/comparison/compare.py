"""Several runs side by side: who is ahead, by how much, and whether other images would agree.

Runs are ranked only where they have scored the same truth: the same images, with the same
classes, at the same label size. Everything comes from the run folders; no framework is loaded.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.data.labels import LabelMap
from terrazzo.evaluation import extra_scores, stored
from terrazzo.evaluation.extra_scores import ExtraIntervals
from terrazzo.evaluation.stored import Record, Scored
from terrazzo.metrics import confidence_intervals
from terrazzo.metrics.confidence_intervals import RunIntervals, Spread
from terrazzo.metrics.image_counts import class_pixels, ratio
from terrazzo.runs import timing
from terrazzo.runs.folder import RunFolder

NAN = float("nan")
_OWN_SETTINGS = {"name"}
_SEED = {"seed"}


@dataclass(frozen=True)
class Competitor:
    """One run.

    Attributes:
        name: of its folder; unique in the comparison.
        record: what the folder holds.
        scored: its evaluation on the split.
        settings: the resolved recipe, by dotted key.
    """

    name: str
    record: Record
    scored: Scored
    settings: dict[str, Any]

    @property
    def training_seconds(self) -> float | None:
        """Time of training, see `timing.training_seconds`; None where it is not known."""
        return timing.training_seconds(self.record.timing)

    @property
    def peak_memory(self) -> int | None:
        """Most bytes of memory a process of the training had in use; None where not known."""
        peaks = [entry.get("peak_memory_bytes", 0) for entry in self.record.timing]
        return max(peaks, default=0) or None


@dataclass(frozen=True)
class Comparison:
    """Runs, best mean IoU first.

    Attributes:
        split: that was scored.
        label_map: of all runs.
        images: N names.
        competitors: R, ranked.
        intervals: of the runs in this order, and of their differences.
        groups: how many groups of images were drawn from; None for single images.
        image_iou_NR: mean IoU of each image by itself; NaN where nothing is counted.
        seeds: by the names of runs that differ in nothing but the seed: spread of their mean IoU.
        extra: scores of borders and probabilities, a run.
    """

    split: str
    label_map: LabelMap
    images: tuple[str, ...]
    competitors: tuple[Competitor, ...]
    intervals: RunIntervals
    groups: int | None
    image_iou_NR: NDArray[np.float64]
    seeds: dict[tuple[str, ...], Spread]
    extra: tuple[ExtraIntervals, ...]


def compare(
    runs: Sequence[Path],
    *,
    split: str = "test",
    group: str | None = None,
    resamples: int = confidence_intervals.RESAMPLES,
) -> Comparison:
    """Read and rank runs.

    Args:
        runs: run folders, two or more.
        split: train, val or test; must have been scored in every run.
        group: regular expression; images whose names agree in what it matches (its first group,
            if it has one) are drawn together. Without it, every image is drawn by itself.
        resamples: draws of the bootstrap.

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
    competitors = [
        _competitor(path, name, split) for path, name in zip(runs, _names(runs), strict=True)
    ]
    for other in competitors[1:]:
        _refuse_other_test(competitors[0], other)
    groups = None if group is None else _groups(competitors[0].scored.names, group)
    ranked = sorted(competitors, key=_mean_iou, reverse=True)
    found = confidence_intervals.bootstrap_runs(
        [each.scored.counts_NKK for each in ranked], groups=groups, resamples=resamples
    )
    return Comparison(
        split=split,
        label_map=ranked[0].record.label_map,
        images=ranked[0].scored.names,
        competitors=tuple(ranked),
        intervals=found,
        groups=None if groups is None else len(set(groups)),
        image_iou_NR=np.stack([_image_iou(each.scored) for each in ranked], axis=1),
        seeds=_seeds(ranked),
        extra=extra_scores.with_intervals(
            [each.scored.extra for each in ranked], groups=groups, resamples=resamples
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


def _competitor(path: Path, name: str, split: str) -> Competitor:
    found = stored.read(RunFolder(path))
    for scored in found.scored:
        if scored.summary["split"] == split and scored.names:
            settings = _flat(tomllib.loads(found.config_text))
            settings = {k: v for k, v in settings.items() if not k.startswith("tracking.")}
            return Competitor(name, found, scored, settings)
    raise CheckpointError(
        "SEG-C040",
        "this run has not been scored on the split",
        file=path,
        observed=", ".join(scored.summary["split"] for scored in found.scored) or "no scores",
        allowed=split,
        next_step=f"terrazzo evaluate {path} --split {split}",
    )


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _refuse_other_test(first: Competitor, other: Competitor) -> None:
    """Refuse to rank runs that were not asked the same question."""
    difference = _difference(first, other)
    if difference:
        raise DataError(
            "SEG-D050",
            "these runs have not been scored on the same images, classes and label size",
            file=other.name,
            observed=f"{difference} (compared with {first.name})",
            allowed="the same test in every run: only then one score can be above another",
            next_step="score the runs on one split with one label map, or compare them apart",
        )


def _difference(first: Competitor, other: Competitor) -> str:
    """Say in what two tests differ; empty where they are the same."""
    ours, theirs = first.scored, other.scored
    maps = first.record.label_map, other.record.label_map
    if maps[0].names != maps[1].names:
        odd = sorted(set(maps[0].names) ^ set(maps[1].names))
        return f"other classes: {', '.join(odd) or 'the same names in another order'}"
    if ours.names != theirs.names:
        odd = sorted(set(ours.names) ^ set(theirs.names))
        only = f"{odd[0]} is in one of them only" if odd else "another order"
        return f"other images: {len(ours.names)} and {len(theirs.names)}; {only}"
    sizes = [each.counts_NKK.sum(axis=(1, 2)) + each.ignored_N for each in (ours, theirs)]
    if not np.array_equal(*sizes):
        odd_one = int(np.flatnonzero(sizes[0] != sizes[1])[0])
        pixels = " and ".join(f"{each[odd_one]:,}" for each in sizes)
        return f"other label sizes: {ours.names[odd_one]} has {pixels} pixels"
    truth = [each.counts_NKK.sum(axis=2) for each in (ours, theirs)]
    if not np.array_equal(*truth):
        odd_one, class_id = (int(each[0]) for each in np.nonzero(truth[0] != truth[1]))
        pixels = " and ".join(f"{each[odd_one, class_id]:,}" for each in truth)
        return f"other labels: {ours.names[odd_one]}, {maps[0].names[class_id]}: {pixels} pixels"
    prints = [_fingerprint(each) for each in (first, other)]
    if None not in prints and prints[0] != prints[1]:
        return "the files of the split differ in size (fingerprint in run.json)"
    return ""


def _fingerprint(run: Competitor) -> str | None:
    split = run.scored.summary["split"]
    found: str | None = (
        run.record.run.get("data", {}).get("splits", {}).get(split, {}).get("fingerprint")
    )
    return found


def _groups(names: Sequence[str], pattern: str) -> list[str]:
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


def _seeds(ranked: Sequence[Competitor]) -> dict[tuple[str, ...], Spread]:
    """Group runs whose recipes differ in the seed alone."""
    alike: dict[str, list[Competitor]] = {}
    for each in ranked:
        rest = {k: v for k, v in each.settings.items() if k not in _OWN_SETTINGS | _SEED}
        alike.setdefault(repr(sorted(rest.items())), []).append(each)
    return {
        tuple(each.name for each in group): confidence_intervals.spread(
            [_mean_iou(each) for each in group]
        )
        for group in alike.values()
        if len({each.settings.get("seed") for each in group}) > 1
    }
