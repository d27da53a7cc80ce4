"""What tells the data of a run from other data: names, contents of files, the label map."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from terrazzo.base.ordered_map import side_by_side
from terrazzo.base.reading import now_reading
from terrazzo.base.recipe import LoaderConfig
from terrazzo.data.datasets import Split
from terrazzo.data.labels import LabelMap
from terrazzo.io.annotations import SUFFIXES as SHAPE_SUFFIXES
from terrazzo.io.folders import files_of

_SAMPLE = 1 << 16  # bytes read at the beginning, in the middle and at the end of a file
_THREADS = 8
_SHOWN = 4


def fingerprint(
    splits: Mapping[str, Split], timeout: float = LoaderConfig().timeout
) -> dict[str, Any]:
    """Return what ``run.json`` keeps of the data, without the notes of the formats.

    A file is known by its size and by three samples of its bytes, so scenes of any size cost the
    same; a file that several samples share is read once. Files of shapes are read whole: a corner
    that moves need not change their size.

    Raises:
        ResourceError: SEG-R002, a file takes longer than `timeout`.
    """
    label_map = splits["train"].label_map
    files = {path for split in splits.values() for _, paths in _files(split) for path in paths}
    found = side_by_side(_file_digest, files, _THREADS, timeout)
    digests = dict(zip(files, found, strict=True))
    return {
        "label_map": label_map.name,
        "classes": list(label_map.names),
        "raw_values": _digest(_raw_values(label_map)),
        "splits": {name: _of_split(split, digests) for name, split in splits.items()},
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in words what differs between two fingerprints; what one of them lacks is left out."""
    found = []
    old, new = before.get("classes"), now.get("classes")
    if old is not None and old != new:
        found.append(f"classes: {_listed(old)} → {_listed(new or [])}")
    elif before.get("raw_values", now["raw_values"]) != now["raw_values"]:
        found.append("label map: the raw values of its classes have changed")
    for name, split in now["splits"].items():
        earlier = before.get("splits", {}).get(name, {})
        if earlier.get("images", split["images"]) != split["images"]:
            found.append(f"{name}: {earlier['images']} → {split['images']} images")
            continue
        for key, words in _WHAT.items():
            if earlier.get(key, split[key]) != split[key]:
                found.append(f"{name}: {words}")
                break
    return found


_WHAT = {
    "names": "images of other names",
    "image_files": "the contents of image files",
    "label_files": "the contents of label files",
}


def _of_split(split: Split, digests: Mapping[Path, str]) -> dict[str, Any]:
    files = _files(split)
    kept = {
        "images": len(split),
        "names": _digest(list(split.names)),
        "image_files": _digest([digests[paths[0]] for _, paths in files]),
        "label_files": _digest([[digests[path] for path in paths[1:]] for _, paths in files]),
    }
    return {**kept, "fingerprint": _digest(kept)}


@runtime_checkable
class LeadsToOthers(Protocol):
    """A `terrazzo.data.datasets.Source` whose files may lead to more that say what pixels mean."""

    def other_files(self, index: int) -> tuple[Path, ...]:
        """Return the files that an image and its label depend on, besides `Source.files`."""
        ...


def _files(split: Split) -> Sequence[tuple[str, tuple[Path, ...]]]:
    source = split.source
    more = source.other_files if isinstance(source, LeadsToOthers) else lambda _: ()
    return [(name, (*source.files(index), *more(index))) for index, name in enumerate(split.names)]


def _raw_values(label_map: LabelMap) -> list[Any]:
    return [[list(each.raw) for each in label_map.classes], list(label_map.ignored)]


def _file_digest(path: Path) -> str:
    now_reading(path)
    if path.is_dir():  # one image of many files
        return _digest(
            [[each.relative_to(path).as_posix(), _file_digest(each)] for each in files_of(path)]
        )
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if path.suffix.lower() in SHAPE_SUFFIXES:
            return hashlib.file_digest(file, lambda: digest).hexdigest()
        for start in sorted({0, max(size // 2 - _SAMPLE // 2, 0), max(size - _SAMPLE, 0)}):
            file.seek(start)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
