"""Whether two runs were scored on the same test, without which their scores do not compare."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from terrazzo.base.errors import DataError
from terrazzo.comparison.competitor import Competitor
from terrazzo.evaluation.stored import Scored


def require_same_test(first: Competitor, other: Competitor) -> None:
    """Raise SEG-D050 unless both runs were scored on the same images, labels and classes."""
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
    """Describe how the tests of two runs differ; empty where they are the same."""
    ours, theirs = first.scored, other.scored
    maps = first.record.label_map, other.record.label_map
    if maps[0].names != maps[1].names:
        unshared = sorted(set(maps[0].names) ^ set(maps[1].names))
        return f"other classes: {', '.join(unshared) or 'the same names in another order'}"
    if ours.names != theirs.names:
        unshared = sorted(set(ours.names) ^ set(theirs.names))
        only = f"{unshared[0]} is in one of them only" if unshared else "another order"
        return f"other images: {len(ours.names)} and {len(theirs.names)}; {only}"
    sizes = [each.counts_NKK.sum(axis=(1, 2)) + each.ignored_N for each in (ours, theirs)]
    if not np.array_equal(*sizes):
        image = int(np.flatnonzero(sizes[0] != sizes[1])[0])
        pixels = " and ".join(f"{each[image]:,}" for each in sizes)
        return f"other label sizes: {ours.names[image]} has {pixels} pixels"
    truth = [each.counts_NKK.sum(axis=2) for each in (ours, theirs)]
    if not np.array_equal(*truth):
        image, class_id = (int(each[0]) for each in np.nonzero(truth[0] != truth[1]))
        pixels = " and ".join(f"{each[image, class_id]:,}" for each in truth)
        return f"other labels: {ours.names[image]}, {maps[0].names[class_id]}: {pixels} pixels"
    ways = [_prediction(each) for each in (ours, theirs)]
    if ways[0] != ways[1]:
        return "other ways of predicting: " + " and ".join(
            json.dumps(way) if way else "the model alone" for way in ways
        )
    files = [_files(each) for each in (first, other)]
    # Version 0.1 took the fingerprint of the same files in another way.
    alike = files[0].keys() == files[1].keys()
    if alike and files[0].get("fingerprint") != files[1].get("fingerprint"):
        return "the contents of the files of the split (fingerprint in run.json)"
    return ""


def _prediction(scored: Scored) -> dict[str, Any]:
    """Return how predictions were made; which runs are in an ensemble differs from run to run."""
    way = dict(scored.summary.get("prediction", {}))
    if "ensemble" in way:
        way["ensemble"] = len(way["ensemble"])
    return way


def _files(run: Competitor) -> dict[str, Any]:
    """Return what the record of a run keeps of the split's files; empty where it keeps none."""
    splits = run.record.run.get("data", {}).get("splits", {})
    found: dict[str, Any] = splits.get(run.scored.summary["split"], {})
    return found
