"""The two checks: everything, and what headers alone tell."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.base.progress import Progress, Silent
from terrazzo.base.recipe import DataConfig, load_data_config
from terrazzo.check import (
    bands,
    coverage,
    doubted_labels,
    grids,
    headers,
    label_map_proposal,
    label_nodata,
    label_values,
    leaks,
    nan_pixels,
    palettes,
    pixel_sizes,
    unusable_files,
)
from terrazzo.check.finding import Finding, of_error
from terrazzo.check.report import Report, in_order
from terrazzo.check.scan import Survey, survey
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.data.datasets._paired_files import NamedBy, PairedFiles, refuse_other_order
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
        *grids.find(seen),
        *nan_pixels.find(seen),
        *label_nodata.find(seen.sources.values(), label_map),
        *pixel_sizes.find(seen.sources.values()),
        *leaks.find(seen),
    ]
    findings += _other_order(seen)
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


def check_before_training(splits: Mapping[str, Split], threads: int) -> None:
    """Look at the headers of all files, and decode one image of each split.

    Raises:
        DataError: the first fault, with the number of the others.
    """
    for split in splits.values():
        split.read(0)  # what is wrong with every file shows in one
    first_raster = _first_raster(splits)
    files = {
        split.source.files(index): (split.source.band_names, first_raster)
        for split in splits.values()
        if not split.source.is_cut_from_scenes
        for index in range(len(split))
    }
    with ThreadPoolExecutor(max(threads, 1)) as executor:
        found = [
            e
            for e in executor.map(lambda item: headers.fault(item[0], *item[1]), files.items())
            if e
        ]
    if not found:
        return
    if len(found) == 1:
        raise found[0]
    first = found[0]
    raise DataError(
        first.code,
        f"{first.problem}; {len(found) - 1} more images have faults",
        file=first.file,
        observed=first.observed,
        allowed=first.allowed,
        next_step=f"{first.next_step}; `terrazzo check --config RECIPE` names all of them",
    )


def warnings_before_training(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Return what does not stop a run and may make its scores mean something else, a line each.

    Headers are read, and label rasters that call a class nodata.
    """
    sources = [split.source for split in splits.values()]
    label_map = next(iter(splits.values())).label_map
    found = [*label_nodata.find(sources, label_map), *pixel_sizes.find(sources)]
    return tuple(
        f"warning {each.code}: {each.problem}: {each.file}: {each.observed}; {each.next_step}"
        for each in found
    )


def _other_order(seen: Survey) -> list[Finding]:
    """Return what differs in band names from one split to another."""
    known = [
        source.named_by
        for source in seen.sources.values()
        if isinstance(source, PairedFiles) and source.named_by is not None
    ]
    findings = []
    for other in known[1:]:
        try:
            refuse_other_order(other.path, known[0])
        except DataError as error:
            findings.append(of_error(error))
    return findings


def _first_raster(splits: Mapping[str, Split]) -> NamedBy | None:
    """Return the GeoTIFF whose bands those of every split must have in the same order."""
    sources = [split.source for split in splits.values()]
    known = [s.named_by for s in sources if isinstance(s, PairedFiles) and s.named_by is not None]
    return known[0] if known else None


def _label_map(data: DataConfig) -> LabelMap | None:
    if data.labels is None and datasets.load_format(data.format).LABELS is None:
        return None
    return datasets.load_labels(data)
