"""The whole check: every file of a data set is decoded once."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import DataConfig, load_data_config
from terrazzo.check import (
    bands,
    coverage,
    doubted_labels,
    grids,
    headers,
    label_map_proposal,
    label_values,
    leaks,
    nan_pixels,
    palettes,
    unusable_files,
)
from terrazzo.check.report import Report, in_order
from terrazzo.check.scan import survey
from terrazzo.data import datasets
from terrazzo.data.labels import LabelMap

_MOST_THREADS = 16


def check_data(
    data: DataConfig | str | Path,
    *,
    progress: Progress | None = None,
    threads: int | None = None,
    fresh: bool = False,
    run: Path | None = None,
) -> Report:
    """Decode every file of a data set once and say what is wrong with it, worst first.

    Args:
        data: which data set, or the path of a recipe; without any label map one is proposed.
        progress: told after every image; None: shows nothing.
        threads: images looked at side by side. None: one a processor, up to 16.
        fresh: look again at files that have not changed since the last check.
        run: a finished run on these classes, whose model may doubt labels.

    Raises:
        ConfigError: unknown format, option or label map.
        CheckpointError: `run` is no finished run, or has other classes.
    """
    progress = progress or Silent()
    if not isinstance(data, DataConfig):
        data = load_data_config(Path(data))
    label_map = _label_map(data)
    threads = threads or min(os.cpu_count() or 1, _MOST_THREADS)
    seen = survey(data, label_map, threads=threads, fresh=fresh, progress=progress)
    counted = coverage.count(seen)
    findings = [
        *unusable_files.find(seen),
        *label_values.find(seen),
        *palettes.find(seen),
        *coverage.find(seen, counted),
        *bands.find(seen),
        *headers.find(seen),
        *grids.find(seen),
        *nan_pixels.find(seen),
        *leaks.find(seen),
    ]
    if run is not None:
        findings += doubted_labels.find(seen, run, progress)
    pixels = 0 if counted is None else int(counted.pixels_NK.sum() + counted.ignored_N.sum())
    return Report(
        root=data.root,
        format=data.format,
        images=dict(Counter(scanned.split for scanned in seen.scanned_images)),
        reused=seen.reused,
        findings=in_order(findings),
        classes=() if counted is None or label_map is None else coverage.table(counted, label_map),
        ignored_share=0.0 if counted is None else float(counted.ignored_N.sum() / max(pixels, 1)),
        bands=bands.table(seen),
        proposal=label_map_proposal.propose(seen),
        notes=tuple(dict.fromkeys(n for source in seen.sources.values() for n in source.notes)),
    )


def _label_map(data: DataConfig) -> LabelMap | None:
    if data.labels is None and datasets.load_format(data.format).LABELS is None:
        return None
    return datasets.load_labels(data)
