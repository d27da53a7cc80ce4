"""Data sets on disk: one file a directory layout, found by its name.

A format module holds

    class Options(config.Frozen)                      its settings under [data.options]
    LABELS = "camvid"                                 its own label map, or None
    def open_split(root, split, options) -> Source    images of one split, nothing decoded yet
    def instance_file(label_file) -> Path             where it has instance ids; may be missing
    GROUP = "^([^/]+)/"                               what a draw holds together; may be missing

A format reads files and nothing else. The label map is applied here, once, for all of them. A
format that divides images by a draw has the options ``split``, a `_split_draw.Draw` or None, and
``split_file``, so that a run can go back to its own draw.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from terrazzo.base import config_parsing
from terrazzo.base.atomic_write import make_folder, replacing
from terrazzo.base.config_parsing import Frozen, StrPath, resolve_path
from terrazzo.base.errors import ConfigError, DataError, unknown_name
from terrazzo.base.recipe import NO_DATA, Config, DataConfig, data_config
from terrazzo.data import labels as label_maps
from terrazzo.data.datasets import _chosen_images, _split_draw
from terrazzo.data.datasets._annotated_images import open_by_words
from terrazzo.data.datasets._faults import noting as noting
from terrazzo.data.datasets._shape_options import ShapeOptions
from terrazzo.data.labels import LabelMap
from terrazzo.data.limits import limited
from terrazzo.data.sample import RawSample, Sample
from terrazzo.io import images
from terrazzo.io.derived_bands import Derivation
from terrazzo.io.pixels import ImagePixels, ReadingRules

SPLITS: tuple[str, ...] = _split_draw.SPLITS


class Source(Protocol):
    """The images of one split of one data set."""

    @property
    def names(self) -> tuple[str, ...]:
        """N names, unique, sorted: the order all seeds refer to."""
        ...

    @property
    def band_names(self) -> tuple[str, ...]:
        """C band names."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or taken for granted, for the person who runs it."""
        ...

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the image file and then the label file or files of one image."""
        ...

    def read(self, index: int) -> RawSample:
        """Decode one image; safe to call from several threads.

        Raises:
            DataError: a file is missing, truncated, or not what its name says.
        """
        ...

    @property
    def is_cut_from_scenes(self) -> bool:
        """Whether images are parts of larger files, whose headers were seen at the opening."""
        ...

    def read_image(self, index: int, *, coarse: bool = False) -> ImagePixels:
        """Decode the image alone.

        Args:
            index: which image.
            coarse: it may come at half or a quarter of its size where that is quicker.
        """
        ...

    def read_label(self, index: int) -> NDArray[Any]:
        """Decode the label alone, in the files' own values."""
        ...


@runtime_checkable
class Derives(Protocol):
    """A source that may compute bands of those of its files."""

    @property
    def derivation(self) -> Derivation | None:
        """What is computed of which bands; None: nothing."""
        ...


@runtime_checkable
class OfPlaces(Protocol):
    """A source whose split was drawn by places, about which its images may be cut anywhere."""

    @property
    def drawn(self) -> tuple[str, ...]:
        """Names of the places that a draw gave the split, wherever its images are cut there."""
        ...

    def on_grid(self) -> Source:
        """Return the images at these places themselves, side by side."""
        ...


class CountedLabel(NamedTuple):
    """The label of one image, and which of its pixels count.

    Attributes:
        raw_label: H×W, in the files' own values.
        counts_HW: bool, where it teaches or scores.
        unlabelled: pixels without a label; see `MaskedLabels.unlabelled`.
    """

    raw_label: NDArray[Any]
    counts_HW: NDArray[np.bool_]
    unlabelled: int


@runtime_checkable
class MaskedLabels(Protocol):
    """A source whose label files may say of pixels that they have no label."""

    def read_counted_label(self, index: int) -> CountedLabel:
        """Read the label of one image as `Source.read` does, without its image if that can be.

        Raises:
            DataError: as `Source.read`.
        """
        ...

    def unlabelled(self, index: int) -> int:
        """Return how many pixels of one image have no label; what fills it up counts as none."""
        ...


class Format(Protocol):
    """What a module in this folder holds."""

    Options: type[Frozen]
    LABELS: str | None

    def open_split(self, root: Path, split: str, options: Frozen) -> Source:
        """Find the images of one split.

        Raises:
            DataError: missing folder, missing or orphan masks, two images of a stem; all listed.
        """
        ...


@dataclass(frozen=True)
class Split:
    """The samples of one split with the label map applied.

    Attributes:
        name: ``train``, ``val`` or ``test``.
        source: where the raw samples come from.
        label_map: applied to every label.
        length: number of samples in use; less than the source holds where a limit is set.
        instance_file: from a label file to that of its instance ids, where the format has them.
    """

    name: str
    source: Source
    label_map: LabelMap
    length: int
    instance_file: Callable[[Path], Path] | None = None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Decode one sample; negative numbers count from the end. See `read`."""
        if not -self.length <= index < self.length:
            msg = f"sample {index} of {self.length}"
            raise IndexError(msg)
        return self.read(index % self.length)

    @property
    def names(self) -> tuple[str, ...]:
        """N names."""
        return self.source.names[: self.length]

    def read(self, index: int) -> Sample:
        """Decode one sample and turn its raw labels into train ids.

        Raises:
            DataError: as `Source.read` and `LabelMap.remap`; SEG-D009 where image and label differ
                in size.
        """
        raw = self.source.read(index)
        image_size, label_size = raw.image_HWC.shape[:2], raw.raw_label.shape[:2]
        if image_size != label_size:
            raise DataError(
                "SEG-D009",
                "image and mask differ in size",
                file=raw.label_file,
                observed=f"mask {label_size[0]}×{label_size[1]} (rows×columns), "
                f"image {image_size[0]}×{image_size[1]} in {raw.image_file}",
                allowed="the same rows and columns",
                next_step="export the mask again at the size of its image",
            )
        # What a label file holds where there is no data need not be in the label map.
        valid_HW = None if raw.valid_HW is None or raw.valid_HW.all() else raw.valid_HW
        label_HW = self.label_map.remap(
            raw.raw_label,
            file=raw.label_file,
            valid_HW=valid_HW,
            name=raw.name,
            corner=raw.corner,
        )
        present_HWC = raw.present_HWC
        if present_HWC is not None and present_HWC.all():
            present_HWC = None
        return Sample(raw.name, raw.image_HWC, label_HW, raw.image_file, present_HWC)

    @property
    def has_instances(self) -> bool:
        """Whether there is a file of instance ids for every image."""
        return self.instance_file is not None and all(
            self.instance_file(self.source.files(index)[1]).is_file() for index in range(len(self))
        )

    def read_instances(self, index: int) -> NDArray[Any]:
        """Decode the instance ids of one image, H×W; see `has_instances`.

        Raises:
            DataError: as `images.read_label`.
        """
        assert self.instance_file is not None
        return images.read_label(self.instance_file(self.source.files(index)[1]), "index")


def formats() -> tuple[str, ...]:
    """Return the names of the formats: the files in this folder."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name[0] != "_"))


def load_format(name: str) -> Format:
    """Import the module of a format.

    Raises:
        ConfigError: unknown format, with the choices; SEG-X161, of a run without data of its own.
    """
    if name == NO_DATA:
        raise ConfigError(
            "SEG-X161",
            "this run was imported and has no data of its own",
            observed=f"data.format = {NO_DATA!r}",
            allowed="--data FILE where a command has it: a recipe, or a TOML with [data] alone",
            next_step="terrazzo evaluate RUN --data FILE; or import again with --data FILE, which "
            "makes them the run's own",
        )
    if name not in formats():
        raise unknown_name("data set format", name, formats())
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def load_labels(data: DataConfig) -> LabelMap:
    """Return the label map of a recipe: the named one, else the format's own.

    Raises:
        ConfigError: neither is there, or the map is wrong.
    """
    name = data.labels or load_format(data.format).LABELS
    if name is None:
        raise ConfigError(
            "SEG-X009",
            f"the format {data.format!r} needs a label map",
            allowed=", ".join(label_maps.names()),
            next_step="set data.labels to one of these, or to a path ending in .toml or .csv",
        )
    return label_maps.load_label_map(name)


def reading_rules(data: DataConfig, source: Source | None = None) -> ReadingRules:
    """Return how a recipe wants the values of GeoTIFF to be taken.

    Args:
        data: settings of the recipe.
        source: a split of the data, whose files say what its derived bands are computed of.

    Raises:
        ConfigError: unknown format or option.
    """
    options = _options(data).model_dump()
    rules = ReadingRules(
        **{name: options[name] for name in ReadingRules._fields if name in options}
    )
    return rules._replace(derivation=source.derivation) if isinstance(source, Derives) else rules


def draws(data: DataConfig) -> bool:
    """Tell whether the splits of a recipe's data come from a draw.

    Raises:
        ConfigError: unknown format or option.
    """
    return _options(data).model_dump().get("split") is not None


def num_groups(data: DataConfig) -> int:
    """Return how many groups of images a draw divides, over all splits.

    Raises:
        ConfigError: SEG-X184, the splits come from no draw; as `open_split`.
        DataError: as `open_split`.
    """
    rule = _draw_of(data)
    pattern = rule["group"] or getattr(load_format(data.format), "GROUP", None)
    halves = _options(with_fold(data, 2, 0))  # of all that a fold can be of
    module, root = load_format(data.format), resolve_path(data.root, where="data.root")
    names = {name for split in SPLITS for name in _drawn(module.open_split(root, split, halves))}
    return len({_split_draw.name_of_group(name, pattern) for name in names})


def with_fold(data: DataConfig, folds: int, fold: int) -> DataConfig:
    """Return settings whose test is one of so many parts.

    Raises:
        ConfigError: SEG-X184, the splits come from no draw; unknown format or option.
    """
    rule = {key: value for key, value in _draw_of(data).items() if value is not None}
    split = {**rule, "folds": folds, "fold": fold}
    return data.model_copy(update={"options": {**data.options, "split": split}})


def _with_stratified_draw(data: DataConfig) -> DataConfig:
    """Return settings that name a stratified draw in a file, where a recipe asks for one.

    The file is kept beside others that can be made again, under what the draw depends on.

    Raises:
        ConfigError: SEG-X186, images are cut from scenes; unknown format or option.
        DataError: a label cannot be read, or holds values that are not in the label map.
    """
    given = _options(data).model_dump()
    rule = given.get("split")
    if not rule or not rule["stratify"] or given["split_file"] is not None:
        return data
    module, root = load_format(data.format), resolve_path(data.root, where="data.root")
    plain = data.model_copy(
        update={"options": {**data.options, "split": {**rule, "stratify": False}}}
    )
    options = _options(with_fold(plain, 2, 0))  # its three splits are all that is divided
    sources = [module.open_split(root, split, options) for split in SPLITS]
    if any(isinstance(source, OfPlaces) for source in sources):
        raise ConfigError(
            "SEG-X186",
            "blocks of scenes are not divided by their classes",
            observed="data.options.split.stratify = true",
            next_step="remove it; another data.options.split.seed divides them anew",
        )
    label_map = load_labels(data)
    images = [
        (source.names[index], source, index)
        for source in sources
        for index in range(len(source.names))
    ]
    files = [(name, *map(_stamp, source.files(index)[1:])) for name, source, index in images]
    depends = [rule, getattr(module, "GROUP", None), label_map.as_toml(), sorted(files)]
    digest = hashlib.sha256(json.dumps(depends, default=str).encode()).hexdigest()
    file = config_parsing.cache_folder() / "draws" / f"{digest}.json"
    if not file.is_file():
        pixels = {name: _class_pixels(source, index, label_map) for name, source, index in images}
        drawn = _split_draw.draw_stratified(
            pixels, _split_draw.Draw(**rule), group=getattr(module, "GROUP", None)
        )
        make_folder(file.parent)
        with replacing(file) as temporary:
            _split_draw.write(temporary, drawn)
    return data.model_copy(update={"options": {**data.options, "split_file": str(file)}})


def _stamp(file: Path) -> tuple[str, int, int]:
    found = file.stat()
    return str(file), found.st_size, found.st_mtime_ns


def _class_pixels(source: Source, index: int, label_map: LabelMap) -> NDArray[np.int64]:
    """Return the pixels of each class in one image."""
    label_HW = label_map.remap(source.read_label(index), file=str(source.files(index)[1]))
    counted = label_HW[label_HW != label_map.ignore_index]
    return np.bincount(counted, minlength=len(label_map)).astype(np.int64)


def _draw_of(data: DataConfig) -> dict[str, Any]:
    rule: dict[str, Any] | None = _options(data).model_dump().get("split")
    if rule is None:
        raise ConfigError(
            "SEG-X184",
            "folds are drawn, and the splits of these data are not",
            observed=f"format {data.format!r}, splits as they lie on the disk",
            allowed="data.options.split with shares of train, val and test",
            next_step="set data.options.split; `terrazzo list options FORMAT` shows it",
        )
    return rule


def keep_draw(splits: Mapping[str, Split], file: Path) -> None:
    """Write which images were drawn for which split, whatever limit is set on them."""
    _split_draw.write(file, {name: _drawn(split.source) for name, split in splits.items()})


def _drawn(source: Source) -> tuple[str, ...]:
    source = _chosen_images.whole(source)
    return source.drawn if isinstance(source, OfPlaces) else source.names


def with_kept_draw(data: DataConfig, file: Path) -> DataConfig:
    """Return settings that go back to the draw `keep_draw` left, if it left one.

    Raises:
        ConfigError: unknown format or option.
    """
    if not file.is_file() or not draws(data):
        return data
    return data.model_copy(update={"options": {**data.options, "split_file": str(file)}})


def open_split(data: DataConfig, split: str) -> Split:
    """Find the samples of one split of a recipe's data; decodes nothing.

    Raises:
        ConfigError: unknown split, format, option or label map.
        DataError: the folder is wrong, or (SEG-D016) the split is empty.
    """
    label_map = load_labels(data)
    source = open_source(data, split)
    limit = data.limit.get(split, len(source.names))  # type: ignore[call-overload]
    instance_file = getattr(load_format(data.format), "instance_file", None)
    if limit < len(source.names):
        source = _chosen_images.choose(source, limited(source.names, limit, data, split))
    return Split(split, source, label_map, min(limit, len(source.names)), instance_file)


@dataclass(frozen=True)
class SpreadSamples:
    """Up to `most` samples of a split, evenly spaced over it: always the same ones."""

    split: Split
    most: int

    @property
    def name(self) -> str:
        """Name of the split."""
        return self.split.name

    @property
    def label_map(self) -> LabelMap:
        """Label map of the split."""
        return self.split.label_map

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the samples."""
        return tuple(self.split.names[self._index(position)] for position in range(len(self)))

    def __len__(self) -> int:
        return min(self.most, len(self.split))

    def read(self, index: int) -> Sample:
        """Decode one of the samples; see `Split.read`."""
        return self.split.read(self._index(index))

    def _index(self, position: int) -> int:
        return position * len(self.split) // len(self)


class Dataset(Mapping[str, Split]):
    """A data set by the names of its splits: ``dataset["train"][0]`` is a decoded sample.

    Args:
        data: which data set.
    """

    def __init__(self, data: DataConfig) -> None:
        self.data = data

    def __getitem__(self, split: str) -> Split:
        """Open one split; see `open_split`."""
        return open_split(self.data, split)

    def __contains__(self, split: object) -> bool:
        return split in SPLITS

    def __iter__(self) -> Iterator[str]:
        return iter(SPLITS)

    def __len__(self) -> int:
        return len(SPLITS)

    @property
    def label_map(self) -> LabelMap:
        """The classes."""
        return load_labels(self.data)


def open_dataset(
    data: Config | DataConfig | StrPath,
    root: StrPath | None = None,
    *,
    labels: StrPath | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Dataset:
    """Open a data set; nothing is decoded before a sample is asked for.

    ``open_dataset("folder", root="data/mine", labels="mine.toml")["train"][0]`` is a `Sample`:
    ``image_HWC`` as the file has it, ``label_HW`` in train ids.

    Args:
        data: a recipe or its data table, the path of a recipe, or with `root` the name of a format
            (``terrazzo list datasets``).
        root: folder of the data set, where `data` is the name of a format.
        labels: name or path of a label map, in place of the recipe's or the format's own.
        options: settings of the format, in place of the recipe's.

    Returns:
        The splits ``train``, ``val`` and ``test``; each is opened when it is asked for, and raises
        DataError where the folder is wrong.

    Raises:
        ConfigError: no such data set, unknown format, option or label map.
    """
    settings = data_config(data, root, labels=labels, options=options)
    load_labels(settings)  # what is wrong is said now
    _options(settings)
    return Dataset(settings)


def open_source(data: DataConfig, split: str) -> Source:
    """Find the images of one split, without a label map; see `open_split`.

    Raises:
        ConfigError: unknown split, format or option.
        DataError: the folder is wrong, or (SEG-D016) the split is empty.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    data = _with_stratified_draw(data)
    module = load_format(data.format)
    options = _options(data)
    root = resolve_path(data.root, where="data.root")
    if isinstance(options, ShapeOptions) and options.split_words:
        source: Source = open_by_words(module.open_split, root, split, options)
    else:
        source = module.open_split(root, split, options)
    if not source.names:
        raise DataError(
            "SEG-D016",
            f"the split {split!r} is empty",
            file=root,
            observed="0 images",
            allowed="at least 1",
            next_step="check data.root and the split settings in data.options",
        )
    return source


def _options(data: DataConfig) -> Frozen:
    module = load_format(data.format)
    return config_parsing.parse(module.Options, data.options, where=f"data.options ({data.format})")
