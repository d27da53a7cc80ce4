"""Files that come from somebody else: weights and archives."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from terrazzo.data import download
from terrazzo.data.download import Archive, DataSet
from terrazzo.io import archives, named_arrays
from terrazzo.testing.faults import places
from terrazzo.testing.faults.table import Outcome, Place, row

FILES = {"set/train/a.png": b"first", "set/trainannot/a.png": b"second"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _fetch(place: Place, content: bytes, sha256: str | None = None) -> Outcome:
    """``terrazzo data camvid`` from a server here."""
    served = place.shared / "served"
    served.mkdir(exist_ok=True)
    (served / "set.bin").write_bytes(content)
    known = sha256 or hashlib.sha256(content).hexdigest()
    before = download.FETCHED
    with _served(served) as url:
        archive = Archive(f"{url}set.bin", "set.bin", len(content), known, 10_000_000, "set")
        offered = DataSet((archive,), "free", {"train": 1, "trainannot": 1})
        try:
            download.FETCHED = {"camvid": offered}
            return place.terrazzo("data", "camvid", "--root", "fetched")
        finally:
            download.FETCHED = before


def _tar(
    files: dict[str, bytes], change: Callable[[tarfile.TarInfo], object] = lambda _: None
) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


@row(
    "S01",
    "files fetched from elsewhere that are not the published ones",
    "SEG-S001",
    kept="L0",
    frameworks=True,
    note="the sum decides, whatever server or link the file came through",
)
def row_s01(place: Place) -> None:
    """An archive of a data set; and, where a backend has them, pretrained weights."""
    answer = _fetch(place, _tar(FILES), sha256="0" * 64)
    place.expect(answer, "SEG-S001", exit=3, observed=("SHA-256 0000", "SHA-256"))
    assert not list((place.folder / "fetched").rglob("*.png"))
    places.make_images(place)
    with place.nothing_written():
        if place.backend == "torch":
            weights = place.shared / "weights.safetensors"
            named_arrays.write(weights, {"conv1.weight": np.zeros((4, 3, 7, 7), np.float32)})
            options = (
                'model.options={encoder="resnet18",width=16,depth=4,'
                f'pretrained="{weights}",sha256="{"0" * 64}"}}'
            )
            answer = places.train(place, "--set", options)
            place.expect(answer, "SEG-S001", exit=4, path=weights, observed=f"SHA-256 {'0' * 64}")


@row(
    "S02", "archives with ../, links, devices, a million entries", "SEG-S002", "SEG-D031", kept="L0"
)
def row_s02(place: Place) -> None:
    """Nothing lies outside, and nothing half."""

    def linked(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0

    def device(info: tarfile.TarInfo) -> None:
        info.type, info.size = tarfile.CHRTYPE, 0

    packed = {
        "../evil.png": _tar({**FILES, "set/../../evil.png": b"x"}),
        "set/train/link": _tar({"set/train/link": b""}, linked),
        "set/train/device": _tar({"set/train/device": b""}, device),
        "/evil.png": _tar({**FILES, "/evil.png": b"x"}),
    }
    outside = place.folder.parent
    with place.nothing_written(outside):
        for name, content in packed.items():
            answer = _fetch(place, content)
            place.expect(answer, "SEG-S002", exit=3, observed=name)
            _forget(place)
        with _fewer_files(2000):
            answer = _fetch(place, _many(2001))
        place.expect(answer, "SEG-D031", exit=3, observed="2001")
        _forget(place)
        answer = _fetch(place, _tar({"set/train/a.png": bytes(20_000_000)}))
        place.expect(answer, "SEG-D031", exit=3)
        _forget(place)


@contextlib.contextmanager
def _fewer_files(most: int) -> Iterator[None]:
    """Lower what an archive may hold, so that too many are made in no time."""
    before = archives._MOST_FILES
    archives._MOST_FILES = most
    try:
        yield
    finally:
        archives._MOST_FILES = before


def _forget(place: Place) -> None:
    """Take the root away, in which the archive itself may be kept for the next try."""
    assert not list((place.folder / "fetched").rglob("*.png"))
    for path in sorted((place.folder / "fetched").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (place.folder / "fetched").rmdir()


def _many(count: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(count):
            archive.writestr(f"set/train/{number}", b"")
    return packed.getvalue()
