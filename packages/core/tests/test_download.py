"""Fetching: whole and right or not at all, from a server here that misbehaves on demand."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from terrazzo.base.errors import DataError, ResourceError
from terrazzo.base.progress import Silent
from terrazzo.data import download
from terrazzo.data.download import Archive, DataSet
from terrazzo.io import archives

FILES = {"set/train/a.png": b"first", "set/trainannot/a.png": b"second" * 50_000}


@dataclass
class Shop:
    """What the server hands out and what it has been asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off."""
    etag: str | None = '"v1"'
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    """Range header of each request."""
    url: str = ""


@pytest.fixture
def shop():
    kept = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = kept.files.get(self.path.lstrip("/"))
            kept.asked.append(self.headers.get("Range"))
            if content is None:
                self.send_error(404)
                return
            start = self._start(content)
            if start is not None and start >= len(content):
                self.send_error(416)
                return
            self.send_response(200 if start is None else 206)
            if start is not None:
                end = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            if kept.etag is not None:
                self.send_header("ETag", kept.etag)
            body = content[start or 0 :]
            self.send_header("Content-Length", str(len(body)))
            # What some servers say of every .tar.gz: it must not be unpacked in transit.
            self.send_header("Content-Encoding", "x-gzip")
            self.end_headers()
            self.wfile.write(body[: kept.cut_after.pop(0)] if kept.cut_after else body)

        def _start(self, content):
            wanted = self.headers.get("Range")
            same = self.headers.get("If-Range") in (None, kept.etag)
            if wanted is None or not kept.ranges or not same:
                return None
            return int(wanted.removeprefix("bytes=").removesuffix("-"))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


def tar_of(files, change=lambda info: info):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(change(info), io.BytesIO(content))
    return packed.getvalue()


def zip_of(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def offer(shop, content, *, sha256="true", **settings):
    shop.files["set.bin"] = content
    known = hashlib.sha256(content).hexdigest() if sha256 == "true" else sha256
    archive = Archive(
        f"{shop.url}set.bin", "set.bin", len(content), known, most_bytes=10_000_000, below="set"
    )
    return DataSet((archive,), "free", {"train": 1, "trainannot": 1}, **settings)


def fetch(data_set, root, tries=1):
    download.fetch("camvid", data_set, root, progress=Silent(), tries=tries)


def below(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


GOT = {"train/a.png", "trainannot/a.png", download.RECORD}


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_good(shop, tmp_path, pack, capfd):
    data_set = offer(shop, pack(FILES))
    fetch(data_set, tmp_path / "new" / "root")
    root = tmp_path / "new" / "root"
    assert below(root) == GOT
    assert (root / "trainannot/a.png").read_bytes() == FILES["set/trainannot/a.png"]
    record = json.loads((root / download.RECORD).read_text())
    assert record["archives"]["set.bin"] == data_set.archives[0].sha256
    fetch(data_set, root)
    assert shop.asked == [None]  # what is there is not fetched again
    assert capfd.readouterr() == ("", "")  # only `progress` speaks


def test_wrong_checksum(shop, tmp_path):
    data_set = offer(shop, tar_of(FILES), sha256="0" * 64)
    for asked in (1, 2):
        with pytest.raises(DataError, match="SHA-256 0000") as caught:
            fetch(data_set, tmp_path)
        assert caught.value.code == "SEG-S001"
        assert below(tmp_path) == set()
        # What was wrong is not kept: the next try begins anew.
        assert shop.asked == [None] * asked


def test_cut_then_resumed(shop, tmp_path):
    content = tar_of({**FILES, "set/train/a.png": bytes(range(256)) * 4000})
    data_set = offer(shop, content)
    half = len(content) // 2
    shop.cut_after = [half]
    with pytest.raises(ResourceError, match="run the same command again") as caught:
        fetch(data_set, tmp_path)
    assert caught.value.code == "SEG-R020"
    assert f"{half} bytes are kept" in str(caught.value)
    assert not (tmp_path / download.RECORD).exists()
    fetch(data_set, tmp_path)
    assert shop.asked == [None, f"bytes={half}-"]
    assert below(tmp_path) == GOT


def test_cut_several_times_within_one_fetch(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    content = tar_of(FILES)
    shop.cut_after = [100, 200]
    fetch(offer(shop, content), tmp_path, tries=3)
    assert shop.asked == [None, "bytes=100-", "bytes=300-"]
    assert below(tmp_path) == GOT


def test_parts_of_two_versions_are_never_joined(shop, tmp_path):
    data_set = offer(shop, tar_of(FILES))
    shop.cut_after = [100]
    with pytest.raises(ResourceError):
        fetch(data_set, tmp_path)
    changed = tar_of({**FILES, "set/train/a.png": b"other"})
    shop.etag = '"v2"'
    fetch(offer(shop, changed), tmp_path)
    assert shop.asked[-1] == "bytes=100-"
    assert (tmp_path / "train/a.png").read_bytes() == b"other"


@pytest.mark.parametrize(("etag", "ranges"), [(None, True), ('W/"weak"', True), ('"v1"', False)])
def test_server_that_cannot_resume(shop, tmp_path, etag, ranges):
    shop.etag, shop.ranges = etag, ranges
    data_set = offer(shop, tar_of(FILES))
    shop.cut_after = [100]
    with pytest.raises(ResourceError):
        fetch(data_set, tmp_path)
    fetch(data_set, tmp_path)
    assert below(tmp_path) == GOT
    # Without a strong tag nothing tells whether the rest belongs to what is here.
    assert shop.asked[1:] == (["bytes=100-"] if etag == '"v1"' else [None])


def test_part_longer_than_the_file_is_begun_anew(shop, tmp_path, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    data_set = offer(shop, tar_of(FILES))
    (tmp_path / ".download").mkdir()
    (tmp_path / ".download/set.bin.part").write_bytes(bytes(10**6))
    (tmp_path / ".download/set.bin.tag").write_text('"v1"')
    fetch(data_set, tmp_path, tries=2)
    assert below(tmp_path) == GOT


@pytest.mark.parametrize("right", [True, False])
def test_an_archive_of_an_earlier_try_is_taken_only_if_it_is_right(shop, tmp_path, right):
    content = tar_of(FILES)
    (tmp_path / ".download").mkdir()
    (tmp_path / ".download/set.bin").write_bytes(content if right else content[:-1] + b"x")
    fetch(offer(shop, content), tmp_path)
    assert shop.asked == ([] if right else [None])
    assert below(tmp_path) == GOT


def test_absent_file_and_absent_server(shop, tmp_path):
    data_set = offer(shop, tar_of(FILES))
    shop.files.clear()
    with pytest.raises(ResourceError, match="404") as caught:
        fetch(data_set, tmp_path, tries=3)
    assert caught.value.code == "SEG-R020"
    assert len(shop.asked) == 1  # it will not appear by asking again
    archive = Archive("http://127.0.0.1:9/x", "x", 1, "0" * 64, most_bytes=1)
    with pytest.raises(ResourceError, match="check the network"):
        fetch(DataSet((archive,), "free", {}), tmp_path / "other")


def test_too_little_space(shop, tmp_path, monkeypatch):
    data_set = offer(shop, tar_of(FILES))
    usage = download.shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match="too little space") as caught:
        fetch(data_set, tmp_path)
    assert caught.value.code == "SEG-R004"


def test_content_that_is_not_the_published_one(shop, tmp_path):
    content = tar_of(FILES)
    with pytest.raises(DataError, match="3 files") as caught:
        fetch(DataSet(offer(shop, content, sha256=None).archives, "free", {"train": 3}), tmp_path)
    assert caught.value.code == "SEG-S001"
    with pytest.raises(DataError, match="'trainannot'"):
        fetch(offer(shop, content, sha256=None, digests={"trainannot": "1" * 64}), tmp_path)
    assert not (tmp_path / "train").exists()
    (tmp_path / "known").mkdir()
    (tmp_path / "known" / "a.png").write_bytes(FILES["set/trainannot/a.png"])
    right = download.digest(tmp_path / "known")
    fetch(offer(shop, content, sha256=None, digests={"trainannot": right}), tmp_path)
    assert below(tmp_path) >= GOT


def test_nothing_is_written_over(shop, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="in the way") as caught:
        fetch(offer(shop, tar_of(FILES)), tmp_path)
    assert caught.value.code == "SEG-D014"
    assert not (tmp_path / "trainannot").exists()
    assert (tmp_path / "train" / "mine.txt").read_text() == "mine"


def linked(kind):
    def change(info):
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0
        return info

    return change


BAD_NAMES = ["../evil", "set/../../evil", "/tmp/evil", "C:/evil", "set\\..\\evil"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_archive_that_would_leave_its_folder(shop, tmp_path, pack, name):
    root = tmp_path / "deep" / "root"
    with pytest.raises(DataError, match="nothing was unpacked") as caught:
        fetch(offer(shop, pack({**FILES, name: b"evil"})), root)
    assert caught.value.code == "SEG-S002"
    assert repr(name) in str(caught.value)
    assert below(tmp_path) <= {"deep/root/.download/set.bin"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices(shop, tmp_path, kind):
    with pytest.raises(DataError, match="link or device") as caught:
        fetch(offer(shop, tar_of(FILES, linked(kind))), tmp_path)
    assert caught.value.code == "SEG-S002"


def test_link_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link or device"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "out", most_bytes=100)
    assert below(tmp_path) == {"a.zip"}


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_bomb_and_damage(tmp_path, pack):
    archive, out = tmp_path / "a.bin", tmp_path / "out"
    archive.write_bytes(pack({"big": bytes(5_000_000)}))
    with pytest.raises(DataError, match="more than it should") as caught:
        archives.unpack(archive, out, most_bytes=1_000_000)
    assert caught.value.code == "SEG-D031"
    content = archive.read_bytes()
    for share in (0.2, 0.6, 0.95):
        archive.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError) as caught:
            archives.unpack(archive, out, most_bytes=10_000_000)
        assert caught.value.code in ("SEG-D011", "SEG-D012")
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    archive.write_bytes(damaged)
    with pytest.raises(DataError) as caught:
        archives.unpack(archive, out, most_bytes=10_000_000)
    assert caught.value.code == "SEG-D011"
    assert below(tmp_path) == {"a.bin"}


def test_no_archive_at_all(tmp_path):
    (tmp_path / "a.html").write_text("<html>please log in</html>")
    with pytest.raises(DataError, match="no archive") as caught:
        archives.unpack(tmp_path / "a.html", tmp_path / "out", most_bytes=100)
    assert caught.value.code == "SEG-D012"


def test_published_tables_are_complete():
    for data_set in download.FETCHED.values():
        for archive in data_set.archives:
            assert archive.url.startswith("https://")
            # Without a checksum of the archive there is one of what is in it.
            assert (archive.sha256 and archive.size) or data_set.digests


def test_camvid_masks_are_those_the_table_knows():
    import os
    from pathlib import Path

    root = os.environ.get("TERRAZZO_DATA")
    if not root:
        pytest.skip("TERRAZZO_DATA is not set")
    known = download.FETCHED["camvid"].digests
    assert {name: download.digest(Path(root) / "camvid" / name) for name in known} == known


def terrazzo(folder, *words):
    command = [sys.executable, "-c", "from terrazzo.cli.app import main; main()", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_command_for_a_set_behind_a_registration(tmp_path):
    answer = terrazzo(tmp_path, "data", "cityscapes")
    assert answer.returncode == 3
    assert "register at https://www.cityscapes-dataset.com" in answer.stdout
    assert "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png" in answer.stdout
    answer = terrazzo(tmp_path, "data", "cityscape")
    assert answer.returncode == 2
    assert "did you mean 'cityscapes'" in answer.stderr


def test_command_where_the_set_is_already(tmp_path):
    (tmp_path / download.RECORD).write_text("{}")
    answer = terrazzo(tmp_path, "data", "camvid", "--root", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert "already" in answer.stderr
