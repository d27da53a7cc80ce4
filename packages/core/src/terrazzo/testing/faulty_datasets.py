"""For each check of `dataset_checks`, ways to open a split that break just that promise.

Each imitates a mistake that real data loaders have made, on top of a reader that is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import Source, Split
from terrazzo.data.sample import RawSample, Sample
from terrazzo.io.pixels import ImagePixels
from terrazzo.testing.dataset_checks import Open


@dataclass(frozen=True)
class _Wrapped:
    """A source that is right."""

    source: Source

    @property
    def names(self) -> tuple[str, ...]:
        """The names."""
        return self.source.names

    @property
    def band_names(self) -> tuple[str, ...]:
        """The band names."""
        return self.source.band_names

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes."""
        return self.source.notes

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files."""
        return self.source.files(index)

    def read(self, index: int) -> RawSample:
        """Decode one image."""
        return self.source.read(index)

    @property
    def is_cut_from_scenes(self) -> bool:
        """As the reader inside."""
        return self.source.is_cut_from_scenes

    def read_image(self, index: int, *, coarse: bool = False) -> ImagePixels:
        """Decode the image alone."""
        return self.source.read_image(index, coarse=coarse)

    def read_label(self, index: int) -> NDArray[Any]:
        """Decode the label alone."""
        return self.source.read_label(index)


class ListsBackwards(_Wrapped):
    """Has an order of its own."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names, last one first."""
        return self.source.names[::-1]

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files."""
        return self.source.files(len(self.names) - 1 - index)

    def read(self, index: int) -> RawSample:
        """Decode one image."""
        return self.source.read(len(self.names) - 1 - index)


class LosesTheLastImage(_Wrapped):
    """Counts one too few."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names but the last."""
        return self.source.names[:-1]


class LeavesOutTheNewestImage(_Wrapped):
    """Lets the age of the files decide."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names but the newest."""
        ages = [self.source.files(i)[0].stat().st_mtime_ns for i in range(len(self.source.names))]
        newest = int(np.argmax(ages))
        return self.source.names[:newest] + self.source.names[newest + 1 :]


class ReadsBlueFirst(_Wrapped):
    """Takes OpenCV's order of bands for everyone's."""

    def read(self, index: int) -> RawSample:
        """Decode one image."""
        raw = self.source.read(index)
        return replace(raw, image_HWC=raw.image_HWC[..., ::-1])


class SubtractsOne(_Wrapped):
    """Shifts the labels on the quiet, so that 0 wraps around."""

    def read(self, index: int) -> RawSample:
        """Decode one image."""
        raw = self.source.read(index)
        return replace(raw, raw_label=raw.raw_label.astype(np.uint8) - np.uint8(1))


class NamesTheMaskFirst(_Wrapped):
    """Mixes up image and mask."""

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the files, the image last."""
        return self.source.files(index)[::-1]


@dataclass(frozen=True)
class FlipsAtRandom(_Wrapped):
    """Augments where it should read."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def read(self, index: int) -> RawSample:
        """Decode one image, mirrored in half of the cases."""
        raw = self.source.read(index)
        return replace(raw, image_HWC=raw.image_HWC[:, :: self.rng.choice((-1, 1))])


@dataclass(frozen=True)
class LendsOneBuffer(_Wrapped):
    """Decodes into memory it keeps."""

    buffers: dict[tuple[int, ...], np.ndarray] = field(default_factory=dict)

    def read(self, index: int) -> RawSample:
        """Decode one image over the last one."""
        raw = self.source.read(index)
        buffer = self.buffers.setdefault(raw.image_HWC.shape, raw.image_HWC)
        buffer[:] = raw.image_HWC
        return replace(raw, image_HWC=buffer)


class FillsWhatIsMissing(_Wrapped):
    """Reads on over the end of a file, as decoders do when told to be lenient."""

    def read(self, index: int) -> RawSample:
        """Decode one image, or return a black one."""
        try:
            return self.source.read(index)
        except DataError:
            image, mask = (str(path) for path in self.source.files(index)[:2])
            blank_HWC = np.zeros((4, 4, len(self.band_names)), np.uint8)
            return RawSample(self.names[index], blank_HWC, blank_HWC[..., 0], None, image, mask)


class StretchesMasks(_Wrapped):
    """Makes sizes agree."""

    def read(self, index: int) -> RawSample:
        """Decode one image and fit its mask to it."""
        raw = self.source.read(index)
        size = raw.image_HWC.shape[:2]
        return replace(raw, raw_label=np.resize(raw.raw_label, (*size, *raw.raw_label.shape[2:])))


class TakesTheUnknownForTheFirstClass(Split):
    """Starts with zeros and fills in what it knows."""

    def read(self, index: int) -> Sample:
        """Decode one sample, all of the first class where a value is unknown."""
        try:
            return super().read(index)
        except DataError:
            raw = self.source.read(index)
            label_HW = np.zeros(raw.image_HWC.shape[:2], np.uint8)
            return Sample(raw.name, raw.image_HWC, label_HW, raw.image_file)


class TakesIgnoredForTheFirstClass(Split):
    """Scores what is to be ignored."""

    def read(self, index: int) -> Sample:
        """Decode one sample without ignored pixels."""
        sample = super().read(index)
        ignored_HW = sample.label_HW == self.label_map.ignore_index
        return replace(sample, label_HW=np.where(ignored_HW, np.uint8(0), sample.label_HW))


class SwapsTwoClasses(Split):
    """Orders the classes by name while the map orders them by position."""

    def read(self, index: int) -> Sample:
        """Decode one sample with the first two classes the other way round."""
        sample = super().read(index)
        table = np.arange(256, dtype=np.uint8)
        table[:2] = 1, 0
        return replace(sample, label_HW=table[sample.label_HW])


def trains_on_val(data: DataConfig, split: str) -> Split:
    """Pool val into train, as a study with a second split of its own does."""
    opened = datasets.open_split(data, split)
    return datasets.open_split(data, "val") if split == "train" else opened


def ignores_the_kept_draw(data: DataConfig, split: str) -> Split:
    """Draw anew, whatever the run did."""
    options = {key: value for key, value in data.options.items() if key != "split_file"}
    return datasets.open_split(data.model_copy(update={"options": options}), split)


def lists_the_first_fault_only(data: DataConfig, split: str) -> Split:
    """Stop at the first fault, so that a user meets them one run at a time."""
    try:
        return datasets.open_split(data, split)
    except DataError as error:
        first = str(error.observed).partition(";")[0]
        raise DataError(error.code, error.problem, file=error.file, observed=first) from None


def takes_a_missing_root_for_an_empty_split(data: DataConfig, split: str) -> Split | None:
    """Find no files where there is no folder, and think nothing of it."""
    return datasets.open_split(data, split) if Path(data.root).is_dir() else None


def drops_unknown_options(data: DataConfig, split: str) -> Split:
    """Use the settings it knows."""
    known = datasets.load_format(data.format).Options.model_fields
    options = {key: value for key, value in data.options.items() if key in known}
    return datasets.open_split(data.model_copy(update={"options": options}), split)


def reading(kind: type[_Wrapped]) -> Open:
    """Return a way to open splits whose source is of this kind."""

    def open_split(data: DataConfig, split: str) -> Split:
        opened = datasets.open_split(data, split)
        return replace(opened, source=kind(opened.source))

    open_split.__name__ = kind.__name__
    return open_split


def splitting(kind: type[Split]) -> Open:
    """Return a way to open splits of this kind."""

    def open_split(data: DataConfig, split: str) -> Split:
        opened = datasets.open_split(data, split)
        return kind(opened.name, opened.source, opened.label_map, opened.length)

    open_split.__name__ = kind.__name__
    return open_split


FAULTY_DATASETS: Mapping[str, tuple[Open, ...]] = {
    "names_are_unique_and_sorted": (reading(ListsBackwards),),
    "every_image_is_in_one_split": (reading(LosesTheLastImage), trains_on_val),
    "reads_what_was_written": (reading(ReadsBlueFirst), reading(SubtractsOne)),
    "labels_are_train_ids": (splitting(TakesIgnoredForTheFirstClass), splitting(SwapsTwoClasses)),
    "files_are_those_read": (reading(NamesTheMaskFirst),),
    "reading_is_repeatable_in_threads": (reading(FlipsAtRandom), reading(LendsOneBuffer)),
    "opening_twice_gives_the_same": (reading(LeavesOutTheNewestImage),),
    "a_kept_draw_outlives_new_images": (ignores_the_kept_draw,),
    "missing_files_are_all_listed": (lists_the_first_fault_only,),
    "missing_root_is_named": (takes_a_missing_root_for_an_empty_split,),
    "unknown_options_are_refused": (drops_unknown_options,),
    "truncated_files_are_refused": (reading(FillsWhatIsMissing),),
    "mask_of_another_size_is_refused": (reading(StretchesMasks),),
    "unmapped_values_are_refused": (splitting(TakesTheUnknownForTheFirstClass),),
}
"""By the name of the check that must catch them."""
