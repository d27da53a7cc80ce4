"""Every command on a disk that is full at a random byte: one message, nothing half-written.

    python tools/sweeps/full_disk.py --points 60

A point runs one command on a disk of random size, looks at what is left, then runs it again with
space. Wanted: no traceback; exit code 5, or 0 where it fitted; each file under its final name
absent, as it was before, or as an undisturbed run leaves it; and after the second run everything as
after an undisturbed one, with nothing of the first lying about. Ends with 1 where a point failed.

The disk is a small tmpfs where this process may mount one (Linux, root), for every other point;
else no file may grow beyond a random size (RLIMIT_FSIZE), which any process may ask for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from terrazzo.base.errors import CheckpointError
from terrazzo.runs import checkpoint
from terrazzo.testing.scenes import make_model, make_scene

REPOSITORY = Path(__file__).resolve().parents[2]
REFUSED = 5
"""Exit code of a `ResourceError`."""
_PAGE = 4096
_ROOM = 64 << 20
_GROWING = ("log.jsonl", "timing.jsonl")
"""May hold the first lines of what an undisturbed run writes."""
_MARKS = (".trained", ".scored")
"""Empty files of a study."""
_EACH_TIME_ANEW = ("run.json", "timing.jsonl", "report.html", "device")
"""Hold times, or the command."""

_RECIPE = """
backend = "reference"
name = "colours"
seed = 3
data.format = "folder"
data.root = "DATA/colours"
data.labels = "DATA/labels.toml"
data.options.split = { train = 0.6, val = 0.2, test = 0.2 }
model = { name = "pixel_softmax" }
training = { epochs = 2, batch_size = 2, schedule = { learning_rate = 0.05 } }
checkpoint = { every_steps = 2 }
log = { every_steps = 1 }
"""
_LABELS = """
name = "colours"
ignored = [9]
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""
_STUDY = """
recipe = "colours.toml"
[[runs]]
name = "first"
[[runs]]
name = "second"
set = ["seed=4"]
"""


@dataclass(frozen=True)
class Command:
    """One command that writes.

    Attributes:
        name: of the command.
        words: of its command line; the disk is ``DISK``, what it reads below ``DATA``.
        before: copied to the disk first: from below ``DATA``, to below ``DISK``.
        again: returns what the command line needs in addition, where the disk holds something.
        code: exit code of an undisturbed run.
    """

    name: str
    words: tuple[str, ...]
    before: tuple[tuple[str, str], ...] = ()
    again: Callable[[Path], tuple[str, ...]] = lambda _: ()
    code: int = 0


def _if(file: str, *words: str) -> Callable[[Path], tuple[str, ...]]:
    return lambda disk: words if (disk / file).exists() else ()


_TABLES = ("--csv", "DISK/c/s.csv", "--latex", "DISK/c/s.tex")
COMMANDS = (
    Command(
        "run",
        ("run", "--config", "DATA/colours.toml", "--out", "DISK/run"),
        again=_if("run/config.toml", "--resume"),
    ),
    Command("evaluate", ("evaluate", "DISK/run", "--split", "val"), (("run", "run"),)),
    Command(
        "predict images",
        ("predict", "DATA/run", "DATA/photos", "--out", "DISK/maps", "--probabilities"),
        again=lambda _: ("--resume",),
    ),
    Command(
        "predict scene",
        (
            *("predict", "DATA/model", "DATA/scene.tif", "--out", "DISK/map.tif"),
            *("--probabilities", "--cog", "--polygons", "DISK/map.gpkg"),
        ),
        again=lambda _: ("--resume",),
    ),
    Command(
        "predict scene plain",
        ("predict", "DATA/model", "DATA/scene.tif", "--out", "DISK/m.tif"),
        again=lambda _: ("--resume",),
    ),
    Command(
        "compare",
        (
            *("compare", "DATA/run", "DATA/run2", "--out", "DISK/c/compare.html", *_TABLES),
            *("--tables", "DISK/tables", "--figures", "DISK/figures"),
        ),
        again=lambda _: ("--overwrite",),
    ),
    Command(
        "convert",
        ("convert", "DATA/torch", "--to", "keras", "--out", "DISK/keras"),
        again=_if("keras/config.toml", "--overwrite"),
    ),
    Command("check", ("check", "--config", "DATA/colours.toml", "--json")),
    Command(
        "generated data",
        ("check", "DISK/city", "--format", "demo"),
    ),
    Command(
        "study",
        ("study", "DATA/study.toml", "--out", "DISK/study"),
        again=_if("study/study.toml", "--resume"),
    ),
)


def prepare(data: Path) -> None:
    """Make what the commands read."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (data / "colours" / folder).mkdir(parents=True)
    for number in range(10):
        mask_HW = draw.integers(0, 2, (32, 24)).astype(np.uint8)
        image_HWC = np.zeros((32, 24, 3), np.uint8)
        image_HWC[..., :2] = np.eye(2)[mask_HW] * 150 + draw.integers(0, 100, (32, 24, 2))
        Image.fromarray(image_HWC).save(data / "colours" / "images" / f"{number}.png")
        Image.fromarray(mask_HW).save(data / "colours" / "masks" / f"{number}.png")
    shutil.copytree(data / "colours" / "images", data / "photos")
    for name, text in (
        ("labels.toml", _LABELS),
        ("colours.toml", _RECIPE),
        ("study.toml", _STUDY),
    ):
        (data / name).write_text(text.replace("DATA", str(data)))
    make_model(data / "model")
    make_scene(data / "scene.tif", (300, 280, 3), nodata=0)
    shutil.copytree(REPOSITORY / "tests" / "stored_runs" / "torch", data / "torch")
    for words in (("--out", "run"), ("--out", "run2", "--set", "seed=4")):
        done = terrazzo(["run", "--config", "colours.toml", *words], data, cache=data / "cache")
        assert done.returncode == 0, done.stderr


def terrazzo(
    words: list[str], cwd: Path, *, cache: Path, most_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line; with `most_bytes`, no file may grow beyond."""

    def limit() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "terrazzo", *words],
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "MPLCONFIGDIR": str(cwd)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=limit,
    )


@contextmanager
def mounted(disk: Path) -> Iterator[None]:
    """Lay an empty tmpfs over a folder."""
    _as_root("mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(disk))
    try:
        yield
    finally:
        _as_root("umount", "--lazy", str(disk))


def resize(disk: Path, size: int) -> None:
    """Change the size of a mounted tmpfs."""
    _as_root("mount", "-o", f"remount,size={size}", str(disk))


def _as_root(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)  # noqa: S603 - our own words


def can_mount(folder: Path) -> bool:
    """Tell whether this process may mount a tmpfs."""
    place = folder / "try"
    place.mkdir()
    try:
        with mounted(place):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@dataclass
class Sweep:
    """The place of a sweep: ``data`` is read, ``disk`` is full."""

    data: Path
    disk: Path
    mounts: bool

    def words(self, command: Command) -> list[str]:
        """Return its command line."""
        return [
            word.replace("DISK", str(self.disk)).replace("DATA", str(self.data))
            for word in command.words
        ]

    @contextmanager
    def fresh_disk(self, command: Command, *, mount: bool) -> Iterator[None]:
        """Empty the disk and copy what the command finds there."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self.disk.mkdir()
        with mounted(self.disk) if mount else nothing():
            for source, target in command.before:
                shutil.copytree(self.data / source, self.disk / target)
            yield

    def do(
        self, command: Command, *more: str, most_bytes: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return terrazzo(
            [*self.words(command), *more],
            self.data,
            cache=self.disk / "cache",
            most_bytes=most_bytes,
        )

    def point(
        self, command: Command, wanted: dict[str, bytes], share: float, *, mount: bool
    ) -> list[str]:
        """Run a command on a disk that is too small; return what is wrong."""
        with self.fresh_disk(command, mount=mount):
            before = contents(self.disk)
            new = {name: data for name, data in wanted.items() if before.get(name) != data}
            limit = None
            if mount:
                pages = sum(-(-len(data) // _PAGE) for data in new.values())
                size = used(self.disk) + max(1, int(1.3 * share * pages)) * _PAGE
                resize(self.disk, size)
            else:
                limit = int(1.1 * share * max(map(len, new.values())))
            done = self.do(command, most_bytes=limit)
            faults = [f"{name}" for name in half_written(self.disk, before, wanted)]
            if done.returncode not in (command.code, REFUSED):
                faults.append(f"exit code {done.returncode}")
            if "Traceback" in done.stdout + done.stderr:
                faults.append("a traceback")
            if done.returncode == REFUSED and "SEG-R" not in done.stderr:
                faults.append("no code in the message")
            if faults:
                faults.append(done.stderr)
            if mount:
                resize(self.disk, _ROOM)
            again = self.do(command, *command.again(self.disk))
            if again.returncode != command.code:
                faults.append(f"with space: exit code {again.returncode}\n{again.stderr}")
            faults += [f"with space: {name}" for name in unlike(contents(self.disk), wanted)]
        return faults


@contextmanager
def nothing() -> Iterator[None]:
    """Do nothing."""
    yield


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by their relative path, but for the locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def used(disk: Path) -> int:
    """Return the bytes in use on a disk."""
    return shutil.disk_usage(disk).used


def is_temporary(name: str) -> bool:
    """Tell whether a path is one that nobody takes for a finished file."""
    parts = name.split("/")
    hidden = any(part.startswith(".") or ".tmp-" in part for part in parts)
    return hidden and parts[-1] not in _MARKS


def half_written(disk: Path, before: dict[str, bytes], wanted: dict[str, bytes]) -> Iterator[str]:
    """Yield the files under a final name that are neither whole nor what they were."""
    for folder in disk.rglob("checkpoints"):  # older ones are deleted in the end
        for step in checkpoint.found(folder):
            try:
                checkpoint.read(folder, step)
            except CheckpointError as error:
                yield str(error)
    for name, data in contents(disk).items():
        base = name.rpartition("/")[2]
        whole = wanted.get(name)
        if is_temporary(name):
            if ".partial/" not in name:
                yield f"temporary file left: {name}"
        elif base in _GROWING:
            if data and not data.endswith(b"\n"):
                yield f"half a line: {name}"
            [json.loads(line) for line in data.splitlines()]
            if base == "log.jsonl" and whole is not None and not whole.startswith(data):
                yield f"other lines: {name}"
        elif "/checkpoints/step-" in name and whole is None:
            pass  # verified above
        elif data not in (whole, before.get(name)) and not is_sound(name, data):
            yield f"half-written: {name} ({len(data)} of {len(whole or b'')} bytes)"


def is_sound(name: str, data: bytes) -> bool:
    """Tell whether a file whose bytes differ from one time to the next is whole."""
    base = name.rpartition("/")[2]
    if base.endswith(".gpkg"):  # holds the time at which it was written
        return data.startswith(b"SQLite format 3")
    if base not in _EACH_TIME_ANEW and "cache/" not in name and base != "comparison.html":
        return False
    if base.endswith(".json"):
        json.loads(data)
    if base.endswith(".html"):
        return data.rstrip().endswith(b"</html>")
    return True


def unlike(found: dict[str, bytes], wanted: dict[str, bytes]) -> Iterator[str]:
    """Yield the files that are not as an undisturbed run leaves them."""
    for name in sorted(found.keys() | wanted.keys()):
        if name not in wanted:
            yield f"left over: {name}"
        elif name not in found:
            yield f"missing: {name}"
        elif found[name] != wanted[name] and not is_sound(name, found[name]):
            yield f"other bytes: {name}"


def main() -> int:
    """Sweep; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--points", type=int, default=60, help="over all commands together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=[each.name for each in COMMANDS])
    parser.add_argument("--no-mount", action="store_true", help="limit the size of files only")
    chosen = parser.parse_args()
    commands = [each for each in COMMANDS if not chosen.only or each.name in chosen.only]
    draw = random.Random(chosen.seed)  # noqa: S311 - no secret
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        sweep = Sweep(place / "data", place / "disk", False)
        mounts = not chosen.no_mount and can_mount(place)
        prepare(sweep.data)
        wanted: dict[str, dict[str, bytes]] = {}
        for number in range(chosen.points):
            command = commands[number % len(commands)]
            if command.name not in wanted:
                with sweep.fresh_disk(command, mount=False):
                    done = sweep.do(command)
                    assert done.returncode == command.code, done.stderr
                    wanted[command.name] = contents(sweep.disk)
            mount = mounts and number // len(commands) % 2 == 0
            share = draw.random()
            faults = sweep.point(command, wanted[command.name], share, mount=mount)
            failed += bool(faults)
            kind = "disk" if mount else "file size"
            print(
                f"[{number + 1}/{chosen.points}] {command.name}, {kind} {share:.2f}: "
                f"{'FAILED' if faults else 'as it should be'}",
                *faults,
                sep="\n    ",
                flush=True,
            )
    print(f"{chosen.points - failed} of {chosen.points} points are as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
