"""The whole check: every file of a data set is decoded once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from terrazzo.base.config_parsing import StrPath, resolve_path
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import Config, DataConfig, data_config
from terrazzo.check import (
    bands,
    coverage,
    doubted_labels,
    drawn_shapes,
    grids,
    headers,
    instance_masks,
    label_map_proposal,
    label_nodata,
    label_values,
    leaks,
    nan_pixels,
    palettes,
    pixel_sizes,
    unusable_files,
)
from terrazzo.check.proposed_labels import refuse_place
from terrazzo.check.report import Report, in_order
from terrazzo.check.scan import Survey, survey
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelMap

_MOST_THREADS = 16


def check_data(
    data: Config | DataConfig | StrPath,
    root: StrPath | None = None,
    *,
    labels: StrPath | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
    run: StrPath | None = None,
    corrections: StrPath | None = None,
    fresh: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Decode every file of a data set once and say what is wrong with it, worst first.

    Args:
        data: a recipe or its data table, the path of a recipe, or with `root` the name of a format
            (``terrazzo list datasets``).
        root: folder of the data set, where `data` is the name of a format.
        labels: name or path of a label map, in place of the recipe's or the format's own; where
            there is none, one is proposed.
        options: settings of the format, in place of the recipe's.
        run: a finished run on these classes, whose model looks for wrong labels.
        corrections: a folder that is empty or not there, for masks of the labels that the model of
            `run` proposes.
        fresh: look again at files that have not changed since the last check.
        threads: images looked at side by side. None: one a processor, up to 16.
        progress: told after every image; None: shows nothing.

    Raises:
        ConfigError: no such data set, unknown format, option or label map.
        CheckpointError: `run` is no finished run, or has other classes; SEG-C002, the place of
            corrections is taken.
    """
    progress = Silent() if progress is None else progress
    settings = data_config(data, root, labels=labels, options=options)
    place = None if corrections is None else Path(corrections)
    if place is not None:
        refuse_place(place, resolve_path(settings.root, where="data.root"))
    label_map = _label_map(settings)
    threads = threads or min(os.cpu_count() or 1, _MOST_THREADS)
    seen = survey(settings, label_map, threads=threads, fresh=fresh, progress=progress)
    counted = coverage.count(seen)
    objects = instance_masks.numbered_objects(seen)
    findings = [
        *unusable_files.find(seen),
        *instance_masks.find(seen, objects),
        *label_values.find(seen, are_numbers=objects is not None),
        *palettes.find(seen),
        *coverage.find(seen, counted),
        *bands.find(seen),
        *headers.find(seen),
        *grids.find(seen),
        *nan_pixels.find(seen),
        *label_nodata.find(seen.sources.values(), label_map),
        *pixel_sizes.find(seen.sources.values()),
        *leaks.find(seen),
        *drawn_shapes.find(seen.sources, settings.root, threads),
    ]
    if run is not None:
        findings += doubted_labels.find(seen, Path(run), progress, place)
    pixels = 0 if counted is None else int(counted.pixels_NK.sum() + counted.ignored_N.sum())
    return Report(
        root=settings.root,
        format=settings.format,
        images=dict(Counter(scanned.split for scanned in seen.scanned_images)),
        reused=seen.reused,
        findings=in_order(findings),
        classes=() if counted is None or label_map is None else coverage.table(counted, label_map),
        ignored_share=0.0 if counted is None else float(counted.ignored_N.sum() / max(pixels, 1)),
        no_data_share=_no_data_share(seen),
        bands=bands.table(seen),
        proposal=label_map_proposal.propose(seen, objects),
        notes=tuple(dict.fromkeys(n for source in seen.sources.values() for n in source.notes)),
    )


def _no_data_share(seen: Survey) -> float:
    """Return the share of the pixels of all images that hold no data, or that a mask takes away."""
    images = [scanned.image for scanned in seen.scanned_images if scanned.image is not None]
    pixels = sum(image.rows * image.columns for image in images)
    valid = sum(image.rows * image.columns * image.valid for image in images)
    return float(1 - valid / pixels) if pixels else 0.0


def warnings_before_training(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Return what does not stop a run and may make its scores mean something else, a line each.

    Headers are read, and label rasters that call a class nodata.
    """
    sources = [split.source for split in splits.values()]
    label_map = next(iter(splits.values())).label_map
    found = [*label_nodata.find(sources, label_map), *pixel_sizes.find(sources)]
    return tuple(each.as_line() for each in found)


def _label_map(data: DataConfig) -> LabelMap | None:
    if data.labels is None and datasets.load_format(data.format).LABELS is None:
        return None
    return datasets.load_labels(data)
