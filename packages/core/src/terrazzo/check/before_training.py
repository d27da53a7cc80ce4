"""The check that every run begins with: headers, one image a split, one pass over the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import DataError
from terrazzo.base.ordered_map import side_by_side
from terrazzo.base.recipe import DataConfig, LoaderConfig
from terrazzo.check import coverage, file_statistics, headers, label_values
from terrazzo.check.cache import Cache, open_cache
from terrazzo.check.coverage import Coverage
from terrazzo.check.file_statistics import LabelFacts
from terrazzo.check.finding import Finding, Level
from terrazzo.check.scan import ScannedImage, Survey
from terrazzo.data.datasets import MaskedLabels, OfPlaces, Source, Split
from terrazzo.data.scene_placement import Placed
from terrazzo.io.raster_formats import is_raster


def check_before_training(
    splits: Mapping[str, Split],
    threads: int,
    data: DataConfig | None = None,
    timeout: float = LoaderConfig().timeout,
) -> Coverage | None:
    """Look at the headers of all files, decode one image of each split, read every label once.

    Labels that `check_data` has seen are not read again. Of scenes each chip is counted as training
    sees it: nodata, masks, area and the buffer between splits do not count. Where more chips of
    training are drawn than the grid has, those of the grid are counted.

    Args:
        splits: by name; as many images of each as are used.
        threads: files looked at side by side.
        data: the settings behind the splits. None: labels are not read.
        timeout: seconds that a file may take.

    Returns:
        Pixels of each class in each image or chip; None where labels were not read.

    Raises:
        DataError: the first fault, with the number of the others.
        ResourceError: SEG-R002, a file takes longer than `timeout`.
    """
    for split in splits.values():
        split.read(0)  # what is wrong with every file shows in one
    files = {
        split.source.files(index): split.source.band_names
        for split in splits.values()
        if not split.source.is_cut_from_scenes
        for index in range(len(split))
    }
    seen = side_by_side(lambda item: headers.look(*item), files.items(), threads, timeout)
    faults = [fault for each in seen for fault in each.faults]
    faults += headers.differences({name: split.source for name, split in splits.items()}, seen)
    _refuse(faults)
    if data is None:
        return None
    survey = _survey_of_labels(splits, threads, data, timeout)
    counted = coverage.count(survey)
    findings = [*label_values.find(survey), *coverage.find(survey, counted)]
    _refuse([_as_error(each) for each in findings if each.level is Level.ERROR])
    return counted


def _survey_of_labels(
    splits: Mapping[str, Split], threads: int, data: DataConfig, timeout: float
) -> Survey:
    cache = open_cache(data, resolve_path(data.root, where="data.root"))
    counted = {name: _counted_images(split) for name, split in splits.items()}
    sources = {name: source for name, (source, _) in counted.items()}
    items = [(name, index) for name, (_, number) in counted.items() for index in range(number)]

    def look(item: tuple[str, int]) -> ScannedImage:
        split, index = item
        source = sources[split]
        name, files = source.names[index], source.files(index)
        label = _label_facts(source, index, name, files, cache)
        corner = source.place(index)[1:] if isinstance(source, Placed) else None
        return ScannedImage(split, index, name, files, None, label, corner=corner)

    scanned = tuple(side_by_side(look, items, threads, timeout))
    label_map = next(iter(splits.values())).label_map
    return Survey(data, label_map, sources, scanned, (), 0)


def _counted_images(split: Split) -> tuple[Source, int]:
    """Return the source whose labels are counted, and how many of its images."""
    source = split.source
    if isinstance(source, OfPlaces) and len(split) > len(source.drawn):
        return source.on_grid(), len(source.drawn)
    return source, len(split)


def _label_facts(
    source: Source, index: int, name: str, files: tuple[Path, ...], cache: Cache
) -> LabelFacts:
    known = cache.find(cache.key(name, files), files)
    if known is not None:
        return known.label
    if isinstance(source, MaskedLabels):
        label = source.read_counted_label(index)
        return file_statistics.of_label(label.raw_label, label.counts_HW, None, label.unlabelled)
    if is_raster(files[0]):  # labels count where the image holds data
        raw = source.read(index)
        return file_statistics.of_label(raw.raw_label, raw.valid_HW, None)
    return file_statistics.of_label(source.read_label(index), None, None)


def _as_error(finding: Finding) -> DataError:
    return DataError(
        finding.code,
        finding.problem,
        file=finding.file,
        observed=finding.observed,
        allowed=finding.allowed,
        next_step=finding.next_step,
    )


def _refuse(found: Sequence[DataError]) -> None:
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
