"""Prediction of images that is killed: nothing is lacking afterwards, and nothing is left over."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.atomic_write import replacing, sweep_temporaries
from terrazzo.base.errors import ResourceError
from terrazzo.base.file_lock import locked
from terrazzo.inference import predict
from terrazzo.inference.outputs import Settings
from terrazzo.inference.unfinished_map import folder_of
from terrazzo.testing.scenes import make_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
HAS_VECTOR = importlib.util.find_spec("pyogrio") is not None


@pytest.fixture
def place(tmp_path):
    """A model and two images."""
    make_model(tmp_path / "model")
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8))
        image.save(tmp_path / "in" / f"{name}.png")
    return tmp_path


def run(place, out, **settings):
    polygons = out / "polygons" if HAS_VECTOR else None
    settings = Settings(probabilities=True, polygons=polygons, **settings)
    predict.predict(place / "model", place / "in", out, settings)


def pixels(out):
    """All files by name, and the bytes of those that hold no time."""
    return {
        str(path.relative_to(out)): b"" if path.suffix == ".gpkg" else path.read_bytes()
        for path in sorted(out.rglob("*"))
        if not path.is_dir()
    }


PROGRAM = """
import os, signal, sys
from pathlib import Path
from terrazzo.inference import predict
from terrazzo.inference.outputs import Settings

place, out, polygons, overwrite, at = sys.argv[1:]
calls = 0

def counted(change):
    def changed(*arguments, **others):
        global calls
        calls += 1
        if calls == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        return change(*arguments, **others)
    return changed

for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync"):
    setattr(os, name, counted(getattr(os, name)))
predict.predict(
    Path(place, "model"), Path(place, "in"), Path(out),
    Settings(
        probabilities=True,
        polygons=Path(polygons) if polygons else None,
        overwrite=overwrite == "True",
    ),
)
print(calls)
"""
POINTS = (3, 6, 9, 11, 14, 20, 27, 34, 40)


def killed(place, out, overwrite, at):
    """Predict in a process that dies before its `at`-th change to the disk; say what it printed."""
    polygons = out / "polygons" if HAS_VECTOR else ""
    words = [place, out, polygons, overwrite, at]
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode in (0, -signal.SIGKILL), answer.stderr
    return answer


@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_killed_at_any_change_and_resumed_every_image_has_all_its_files(place, overwrite):
    run(place, place / "whole")
    expected = pixels(place / "whole")
    assert len(expected) == (20 if HAS_VECTOR else 18)  # six classes, two images
    for at in POINTS:
        out = place / f"out{at}"
        if overwrite:
            for name in expected:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_bytes(b"old")
        assert killed(place, out, overwrite, at).returncode == -signal.SIGKILL
        run(place, out, resume=True)
        after = pixels(out)
        assert after.keys() == expected.keys()
        for image in ("a", "b"):  # as a whole the new one, or as a whole left alone
            files = {n: data for n, data in after.items() if n.startswith(image)}
            old = overwrite and set(files.values()) == {b"old"}
            assert old or files == {n: expected[n] for n in files}


def test_an_image_of_which_only_some_files_were_replaced_is_made_again(place):
    out = place / "out"
    run(place, out)
    expected = pixels(out)
    folder_of(out / "a.png").mkdir()  # as a kill between two renames leaves it
    (folder_of(out / "a.png") / "map.png").write_bytes(b"half")
    (out / "a_overlay.png").write_bytes(b"old")
    run(place, out, resume=True)
    assert pixels(out) == expected


def test_two_processes_do_not_make_one_map_at_a_time(place):
    folder = folder_of(place / "out" / "a.png")
    folder.mkdir(parents=True)
    with locked(folder), pytest.raises(ResourceError, match="SEG-C009"):
        run(place, place / "out")


WRITER = """
import sys, time
from pathlib import Path
from terrazzo.base.atomic_write import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_temporary_files_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "page.html")]
    hidden = f".notes.{32 * 'g'}.txt"
    (tmp_path / hidden).write_text("mine")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout.readline() == "ready\n"
            (temporary,) = tmp_path.glob(".page.*.html")
            with replacing(tmp_path / "page.html") as mine:
                mine.write_text("whole")
            assert temporary.read_text() == "half"
        finally:
            writer.kill()
    foreign = tmp_path / f".page.{32 * '0'}.html"
    foreign.write_text("of another machine")
    answer = subprocess.run(
        [sys.executable, "-c", SWEEP, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"page.html", hidden, foreign.name}
    os.utime(foreign, (time.time() - 10**6,) * 2)
    subprocess.run([sys.executable, "-c", SWEEP, str(tmp_path)], check=True)
    assert not foreign.exists()
    sweep_temporaries(tmp_path / "nowhere")


SWEEP = """
import sys
from pathlib import Path
from terrazzo.base.atomic_write import replace_text
replace_text(Path(sys.argv[1]) / "page.html", "again")
"""
