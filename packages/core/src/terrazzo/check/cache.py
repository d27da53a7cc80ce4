"""What was found in files that have not changed since, so that a second check is quick.

One JSON file a data set, in ``$XDG_CACHE_HOME/terrazzo/check``. Facts hold for as long as every
file of an image keeps its size and its time of change, or else its SHA-256: a copy of a data set
has new times. Faulty files are not remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydantic

from terrazzo.base.atomic_write import replacing
from terrazzo.base.config_parsing import cache_folder
from terrazzo.base.errors import ResourceError
from terrazzo.base.reading import now_reading
from terrazzo.base.recipe import DataConfig
from terrazzo.check.file_statistics import ImageFacts, LabelFacts
from terrazzo.io.folders import files_of, state_of

_VERSION = 6
"""Raised where facts mean something else than before."""

_PART = 1 << 24  # bytes hashed at a time


@dataclass(frozen=True, slots=True)
class Stamp:
    """One state of a file."""

    size: int
    changed_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """The facts of one image, and the states of its files they hold for."""

    stamps: tuple[Stamp, ...]
    image: ImageFacts
    label: LabelFacts


_Entries = pydantic.TypeAdapter(dict[str, Entry])


@dataclass
class Cache:
    """Facts by image; safe to use from several threads, since each image is looked at once.

    Attributes:
        file: where they are kept.
        entries: from the last check.
        fresh: from this one.
    """

    file: Path
    entries: dict[str, Entry] = field(default_factory=dict)
    fresh: dict[str, Entry] = field(default_factory=dict)
    _sums: dict[tuple[Path, int], str] = field(default_factory=dict)

    @staticmethod
    def key(name: str, files: Sequence[Path]) -> str:
        """Return what an image is known by."""
        return "\n".join([name, *map(str, files)])

    def find(self, key: str, files: Sequence[Path]) -> Entry | None:
        """Return what is known of an image if its files are as they were."""
        entry = self.entries.get(key)
        if entry is None or len(entry.stamps) != len(files):
            return None
        stamps = []
        for path, stamp in zip(files, entry.stamps, strict=True):
            try:
                now = state_of(path)
            except OSError:
                return None
            if now.size != stamp.size:
                return None
            if now.changed_ns != stamp.changed_ns:
                if self._sha256_now(path, now.changed_ns) != stamp.sha256:
                    return None
                stamp = Stamp(stamp.size, now.changed_ns, stamp.sha256)
            stamps.append(stamp)
        known = Entry(tuple(stamps), entry.image, entry.label)
        self.fresh[key] = known
        return known

    def _sha256_now(self, path: Path, changed_ns: int) -> str:
        """Return the SHA-256 of a file, read once: many chips share a scene."""
        key = (path, changed_ns)
        if key not in self._sums:
            self._sums[key] = sha256_of(path)
        return self._sums[key]

    def keep(self, key: str, entry: Entry) -> None:
        """Remember the facts of an image."""
        self.fresh[key] = entry

    def write(self) -> bool:
        """Write what this check found; False where the folder refuses, which costs time alone."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as temporary:
                temporary.write_bytes(_Entries.dump_json(self.fresh))
        except (OSError, ResourceError):
            return False
        return True


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file of any size, or of a folder that is one image."""
    digest = hashlib.sha256()
    for each in files_of(path):
        if each != path:
            digest.update(f"{each.relative_to(path).as_posix()}\0".encode(errors="surrogateescape"))
        with each.open("rb") as file:
            while part := file.read(_PART):
                digest.update(part)
                now_reading(path)  # a scene of many gigabytes takes its time and does not hang
    return digest.hexdigest()


def open_cache(data: DataConfig, root: Path, *, fresh: bool = False) -> Cache:
    """Read what the last check of a data set left; nothing where there was none, or if `fresh`.

    Facts depend on the format and its options, and not on the label map.
    """
    # In the order of the recipe, which is that of derived bands.
    told = json.dumps([_VERSION, data.format, str(root.resolve()), data.options])
    name = hashlib.sha256(told.encode()).hexdigest()[:16]
    file = cache_folder() / "check" / f"{name}.json"
    if fresh:
        return Cache(file)
    try:
        return Cache(file, _Entries.validate_json(file.read_bytes()))
    except (OSError, pydantic.ValidationError):  # none yet, or not one of ours
        return Cache(file)
