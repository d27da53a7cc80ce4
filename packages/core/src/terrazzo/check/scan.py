"""One look at every file of a data set, by threads; faults are noted and the rest goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import DataError
from terrazzo.base.ordered_map import ordered_map
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import DataConfig, LoaderConfig
from terrazzo.check import file_statistics
from terrazzo.check.cache import Cache, Entry, Stamp, open_cache, sha256_of
from terrazzo.check.file_statistics import ImageFacts, LabelFacts
from terrazzo.check.finding import Finding, of_error
from terrazzo.data import datasets
from terrazzo.data.datasets import MaskedLabels, Source
from terrazzo.data.datasets._paired_files import PairedFiles
from terrazzo.data.labels import LabelMap
from terrazzo.data.scene_placement import Placed
from terrazzo.io import images
from terrazzo.io.folders import state_of
from terrazzo.io.raster_formats import is_raster

_TOGETHER = 8  # images handed to a thread at once: handing over costs a part of a decode


@dataclass(frozen=True, slots=True)
class ScannedImage:
    """One image as it was found.

    Attributes:
        split: its split.
        index: its place there.
        name: unique within the split.
        files: the image file and the label file or files.
        image: what the image is like; None: it cannot be read.
        label: what its label holds; None: it cannot be read.
        faults: why not.
        corner: first row and column in the scene it was cut from; None: it is a whole file.
    """

    split: str
    index: int
    name: str
    files: tuple[Path, ...]
    image: ImageFacts | None
    label: LabelFacts | None
    faults: tuple[Finding, ...] = ()
    corner: tuple[int, int] | None = None

    @property
    def place(self) -> str:
        """Where the image lies in its scene, to go after an observed value; empty: a whole file."""
        if self.corner is None:
            return ""
        return (
            f"; chip {self.name}, from row {self.corner[0]}, column {self.corner[1]} of the scene"
        )

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from every other image."""
        return self.split, self.index

    @property
    def image_file(self) -> str:
        """The image file, for messages."""
        return str(self.files[0])

    @property
    def label_file(self) -> str:
        """The label file or files, for messages."""
        return ", ".join(map(str, self.files[1:]))


@dataclass(frozen=True)
class Survey:
    """Everything that was seen of a data set.

    Attributes:
        data: its settings.
        label_map: None where none was named; then every raw value is news.
        sources: by split, those that could be opened.
        images: in the order of the splits.
        faults: what kept images out: folders, pairs, lists.
        reused: images whose files had not changed since the last check.
    """

    data: DataConfig
    label_map: LabelMap | None
    sources: dict[str, Source]
    scanned_images: tuple[ScannedImage, ...]
    faults: tuple[Finding, ...]
    reused: int


@dataclass(frozen=True, slots=True)
class _File:
    """What the bytes of a file tell.

    Attributes:
        stamp: its state.
        palette_PC: of a PNG that has one.
        size: rows and columns of an image file that lies as it is displayed, else None.
    """

    stamp: Stamp
    palette_PC: NDArray[np.uint8] | None
    size: tuple[int, int] | None


@dataclass
class _Files:
    """Files that were read as bytes, each once: many images may share one."""

    known: dict[Path, _File] = field(default_factory=dict)

    def of(self, path: Path) -> _File:
        """Read a file that was decoded before, so that its header is sound."""
        if path not in self.known:
            num_bytes, changed_ns = state_of(path)
            if is_raster(path):  # a scene may be larger than memory
                stamp = Stamp(num_bytes, changed_ns, sha256_of(path))
                self.known[path] = _File(stamp, None, None)
                return self.known[path]
            if path.suffix.lower() == ".txt" and num_bytes == 0:  # YOLO: no object there
                stamp = Stamp(0, changed_ns, hashlib.sha256(b"").hexdigest())
                self.known[path] = _File(stamp, None, None)
                return self.known[path]
            data, header = images.decoded_bytes(path)
            stamp = Stamp(len(data), changed_ns, hashlib.sha256(data).hexdigest())
            size = None  # a photo that is to be turned comes whole, in the size it has then
            if header is not None and header.orientation == 1:
                size = header.rows, header.columns
            self.known[path] = _File(stamp, images.palette(data), size)
        return self.known[path]


def survey(
    data: DataConfig, label_map: LabelMap | None, *, threads: int, fresh: bool, progress: Progress
) -> Survey:
    """Open all splits and look at every image of theirs, whatever limit the recipe sets.

    Args:
        data: which data set.
        label_map: of its classes.
        threads: images looked at side by side.
        fresh: look again at files that have not changed since the last check.
        progress: told after every image.

    Raises:
        ConfigError: unknown format or option.
        ResourceError: SEG-R002, a file is being read without an end.
    """
    root = resolve_path(data.root, where="data.root")
    sources, found = _open(data, root)
    cache = open_cache(data, root, fresh=fresh)
    read = _Files()
    items = [
        (split, index, name)
        for split, source in sources.items()
        for index, name in enumerate(source.names)
    ]

    corners = _corners(sources)

    def look(some: list[tuple[str, int, str]]) -> list[tuple[ScannedImage, bool]]:
        return [_look(item, sources[item[0]], corners, cache, read) for item in some]

    scanned_images: list[ScannedImage] = []
    known_before = 0
    parts = [items[start : start + _TOGETHER] for start in range(0, len(items), _TOGETHER)]
    scanned_parts = ordered_map(
        look, parts, threads=threads, ahead=4 * threads, timeout=LoaderConfig().timeout
    )
    with _single_threaded_opencv(), closing(scanned_parts):
        for part in scanned_parts:
            for scanned, was_known in part:
                scanned_images.append(scanned)
                known_before += was_known
            progress.advance(len(scanned_images), len(items), "check")
    if not cache.write():
        progress.say(f"cannot write {cache.file}; the next check will look at every file again")
    return Survey(data, label_map, sources, tuple(scanned_images), found, known_before)


def _open(data: DataConfig, root: Path) -> tuple[dict[str, Source], tuple[Finding, ...]]:
    sources: dict[str, Source] = {}
    found: list[DataError] = []
    for split in datasets.SPLITS:
        with datasets.noting() as faults:
            try:
                sources[split] = datasets.open_source(data, split)
            except DataError as error:
                found.append(error)
        found += faults
    # A split is empty because of what else is wrong, where something else is.
    found = [error for error in found if error.code != "SEG-D016"] or found
    # Splits that are drawn from one folder have its faults in common.
    return sources, tuple(dict.fromkeys(of_error(error, root) for error in found))


_Corners = dict[str, list[tuple[int, int]]]


def _corners(sources: dict[str, Source]) -> _Corners:
    """Return the corner in its scene of each image, for the splits whose images have one."""
    return {
        split: [source.place(index)[1:] for index in range(len(source.names))]
        for split, source in sources.items()
        if isinstance(source, Placed)
    }


def _look(
    item: tuple[str, int, str], source: Source, corners: _Corners, cache: Cache, read: _Files
) -> tuple[ScannedImage, bool]:
    split, index, name = item
    files = source.files(index)
    key = cache.key(name, files)
    entry = cache.find(key, files)
    corner = corners[split][index] if split in corners else None
    if entry is not None:
        known = ScannedImage(split, index, name, files, entry.image, entry.label, corner=corner)
        return known, True
    faults: list[Finding] = []
    image, label, valid_HW = None, None, None
    try:
        pixels = source.read_image(index, coarse=True)
        valid_HW = pixels.valid_HW
        size = None if source.is_cut_from_scenes else read.of(files[0]).size
        image = file_statistics.of_image(pixels, size)
    except DataError as error:
        faults.append(of_error(error, files[0]))
    try:
        raw_label = source.read_label(index)
        palette_PC = read.of(files[1]).palette_PC if len(files) == 2 else None
        if isinstance(source, PairedFiles) and source.mask_kind == "instance":
            palette_PC = None  # its colours tell objects apart
        unlabelled = source.unlabelled(index) if isinstance(source, MaskedLabels) else 0
        label = file_statistics.of_label(raw_label, valid_HW, palette_PC, unlabelled)
    except DataError as error:
        faults.append(of_error(error, ", ".join(map(str, files[1:]))))
        if error.code == "SEG-D114":  # knows which way a turned photo is meant
            faults = [fault for fault in faults if fault.code != "SEG-D010"]
    if image is not None and label is not None:
        cache.keep(key, Entry(tuple(read.of(path).stamp for path in files), image, label))
    return ScannedImage(split, index, name, files, image, label, tuple(faults), corner), False


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """Images are what is looked at side by side; OpenCV's own threads would get in the way."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
