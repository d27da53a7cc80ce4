"""How right a map of a model is likely to be, by the spatial test blocks of its run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.data import class_map
from terrazzo.data.datasets import geotiff
from terrazzo.evaluation import map_assessment, stored
from terrazzo.evaluation.map_assessment import Assessment
from terrazzo.evaluation.stored import Record, Scored
from terrazzo.metrics import area_estimation
from terrazzo.runs.folder import RunFolder

_CHIP = re.compile(r"(?:(.*)/)?r(\d+)_c(\d+)")
"""Names of chips, as the formats ``geotiff`` and ``demo`` give them: scene, row and column."""


def assess(map_path: Path, run: Path, split: str) -> Assessment:
    """Estimate the accuracy of a map and the areas of its classes from the errors on a split.

    Args:
        map_path: a GeoTIFF of classes that a model of the run has made.
        run: run folder whose data are GeoTIFF scenes, divided by spatial blocks.
        split: that was scored, usually test.

    Raises:
        CheckpointError: SEG-C001, SEG-C014 no run folder or unreadable; SEG-C040 not scored.
        ConfigError: SEG-X096, the run has no spatial blocks.
        DataError: SEG-D083, the map has other classes than the run; SEG-D080, a class of the map is
            never predicted on the split; SEG-M010, there are fewer than two blocks; as
            `map_assessment.sizes_on`.
    """
    record = stored.read(RunFolder(run))
    scored = _scored(record, run, split)
    names, on_map = record.label_map.names, map_assessment.sizes_on(map_path)
    if class_map.open_map(map_path).names != names:
        raise DataError(
            "SEG-D083",
            "the map has other classes than the run",
            file=map_path,
            observed=", ".join(class_map.open_map(map_path).names) or "no names of classes",
            allowed=", ".join(names),
            next_step="name a map that a model of this run has made",
        )
    blocks = _blocks(run, record, scored)
    sizes_K = np.array([on_map.of_class[id_] for id_ in range(len(names))])
    estimates = area_estimation.estimate_by_blocks(scored.counts_NKK, sizes_K, blocks)
    return Assessment(
        map_path,
        run,
        "test blocks",
        on_map.unit,
        map_assessment.mapped_classes(
            range(len(names)), names, sizes_K.tolist(), estimates, float(sizes_K.sum())
        ),
        estimates,
        f"{len(set(blocks))} blocks of {split}, {int(scored.counts_NKK.sum()):,} pixels",
        {},
    )


def _scored(record: Record, run: Path, split: str) -> Scored:
    for scored in record.scored:
        if scored.summary["split"] == split and scored.names:
            return scored
    raise CheckpointError(
        "SEG-C040",
        "this run has not been scored on the split",
        file=run,
        observed=", ".join(scored.summary["split"] for scored in record.scored) or "no scores",
        allowed=split,
        next_step=f"terrazzo evaluate {run} --split {split}",
    )


def _blocks(run: Path, record: Record, scored: Scored) -> list[tuple[str, int, int]]:
    """Return the block of each chip: scene, row and column of blocks."""
    data = record.config.data
    chips = [_CHIP.match(name) for name in scored.names]
    if data.format not in ("geotiff", "demo") or None in chips:
        raise ConfigError(
            "SEG-X096",
            "the run has no spatial test blocks",
            file=run,
            observed=f"data of the format {data.format!r}",
            allowed="a run on GeoTIFF scenes, whose splits are blocks of them",
            next_step="assess the map by reference points: terrazzo sample",
        )
    # A chip of the demo is a block.
    usual = geotiff.Options.model_fields["block"].default
    side = int(data.options.get("block", usual)) if data.format == "geotiff" else 1
    return [
        (found[1] or "", int(found[2]) // side, int(found[3]) // side)
        for found in chips
        if found is not None
    ]
