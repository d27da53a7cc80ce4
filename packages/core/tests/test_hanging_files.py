"""Files that never come to an end, and files that are none.

A file hangs here as on a dead network share: another process holds a lease on it (fcntl(2),
F_SETLEASE), and the system lets nobody open it until the lease is given back.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import DataError, ResourceError
from terrazzo.base.ordered_map import Abandoned, ordered_map
from terrazzo.base.reading import now_reading
from terrazzo.io import images, rasters
from terrazzo.testing import scenes
from terrazzo.testing.faults.interruptions import nobody_may_open

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
with_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")

RECIPE = """
backend = "reference"
name = "colours"

[data]
format = "folder"
root = "{root}"
labels = "{labels}"
options = {{ split = {{ train = 0.6, val = 0.2, test = 0.2 }} }}

[loader]
threads = 1
prefetch = 1

[model]
name = "pixel_softmax"

[training]
epochs = 4
batch_size = 2
schedule = {{ learning_rate = 0.05 }}

[log]
every_steps = 1
"""
LABELS = """
name = "colours"
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""
# Says when it is about to make the fifth step, and goes on when it is told to.
PROGRAM = """
import sys
from terrazzo.cli.app import main
from terrazzo.training import loop
rate = loop.learning_rate
def waiting(schedule, *, step, **others):
    if step == 4:
        print("ready", flush=True)
        sys.stdin.readline()
    return rate(schedule, step=step, **others)
loop.learning_rate = waiting
main()
"""


@pytest.fixture
def data(tmp_path):
    """Ten images whose colour tells the class."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number in range(10):
        mask = draw.integers(0, 2, (16, 12)).astype(np.uint8)
        image = np.zeros((16, 12, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 150 + draw.integers(0, 100, (16, 12, 2))
        Image.fromarray(image).save(tmp_path / "data" / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{number}.png")
    (tmp_path / "labels.toml").write_text(LABELS)
    recipe = RECIPE.format(root=tmp_path / "data", labels=tmp_path / "labels.toml")
    (tmp_path / "colours.toml").write_text(recipe)
    return tmp_path


def terrazzo(folder, *words):
    command = [sys.executable, "-c", "from terrazzo.cli.app import main; main()", *map(str, words)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def run(folder, *words):
    return terrazzo(folder, "run", "--config", "colours.toml", *words)


@contextlib.contextmanager
def waiting_run(folder, *words):
    """Start a run that stands before its fifth step; `go_on` lets it make it."""
    command = [sys.executable, "-c", PROGRAM, "run", "--config", "colours.toml", *words]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def images_of(folder, split):
    names = json.loads((folder / "runs" / "colours" / "splits.json").read_text())[split]
    return [path for path in (folder / "data" / "images").iterdir() if path.stem in names]


def finished_like_one_that_never_hung(folder):
    resumed = run(folder, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert run(folder, "--out", "runs/whole").returncode == 0
    for name in ("log.jsonl", "model/weights.safetensors", "evaluation/test.json"):
        hung, whole = (folder / "runs" / one / name for one in ("colours", "whole"))
        assert hung.read_bytes() == whole.read_bytes(), name
    return resumed


@on_linux
@pytest.mark.parametrize("split", ["train", pytest.param("val", marks=pytest.mark.slow)])
def test_a_file_that_hangs_ends_the_run_with_its_name(data, split):
    with waiting_run(data, "--set", "loader.timeout=5") as process:
        held = images_of(data, split)
        with nobody_may_open(held):
            go_on(process)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 5, said
    assert "SEG-R002" in said
    assert any(str(path) in said for path in held), said
    assert "loader.timeout" in said
    assert "Traceback" not in said
    finished_like_one_that_never_hung(data)


@on_linux
@pytest.mark.parametrize("split", [pytest.param("train", marks=pytest.mark.slow), "val"])
def test_a_signal_ends_a_run_that_waits_for_a_file_with_all_saved(data, split):
    with waiting_run(data) as process, nobody_may_open(images_of(data, split)):
        go_on(process)
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert "everything is saved" in said
    assert "Traceback" not in said
    assert "resuming after step" in finished_like_one_that_never_hung(data).stderr


@with_pipes
def test_a_pipe_in_the_place_of_an_image_is_named_while_training(data):
    with waiting_run(data) as process:
        path = images_of(data, "train")[0]
        path.unlink()
        os.mkfifo(path)
        go_on(process)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert "SEG-D013" in said
    assert str(path) in said
    assert "named pipe" in said


@with_pipes
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_special_files_are_refused_by_check_and_by_run(data, folder):
    path = data / "data" / folder / "3.png"
    path.unlink()
    os.mkfifo(path)
    for words in (("check", "--config", "colours.toml"), ("run", "--config", "colours.toml")):
        answer = terrazzo(data, *words)
        assert answer.returncode == 3, answer.stderr
        said = answer.stdout + answer.stderr
        assert "SEG-D013" in said
        assert str(path) in said.replace("\n", "")
        assert "named pipe" in said
        assert "Traceback" not in said
    assert not (data / "runs").exists()


def make_special(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as unheard:
            unheard.bind(str(path))
    else:
        path.symlink_to("/dev/zero")


@with_pipes
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_every_reader_refuses_special_files_before_it_opens_them(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    path = tmp_path / name
    make_special(path.relative_to(tmp_path) if kind == "socket" else path, kind)
    png = (images.read_image, images.image_info, lambda path: images.read_label(path, "index"))
    tif = (rasters.info, rasters.read, lambda path: rasters.read_label(path, "index"))
    for reader in png if name == "a.png" else tif:
        with pytest.raises(DataError, match="SEG-D013") as caught:
            reader(path)
        assert kind in str(caught.value)
        assert str(path) in str(caught.value)


@with_pipes
def test_predict_refuses_a_pipe(tmp_path):
    scenes.make_model(tmp_path / "model")
    os.mkfifo(tmp_path / "scene.tif")
    answer = terrazzo(tmp_path, "predict", "model", "scene.tif", "--out", "map.tif")
    assert answer.returncode == 3, answer.stderr
    assert "named pipe" in answer.stderr


def read_pipe(path):
    now_reading(path)
    return path.read_bytes()


@with_pipes
def test_an_ordered_map_names_the_file_that_hangs(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    results = ordered_map(
        lambda item: read_pipe(path) if item == 2 else item, range(9), threads=3, ahead=5, timeout=1
    )
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ResourceError) as caught:
        next(results)
    assert caught.value.code == "SEG-R002"
    assert caught.value.file == str(path)
    path.open("wb").close()  # lets the thread end


def test_a_slow_piece_of_work_with_many_files_does_not_hang():
    def five_files(item):
        for number in range(5):
            now_reading(f"{item}-{number}")
            time.sleep(0.4)
        return item

    assert list(ordered_map(five_files, range(1), threads=1, ahead=2, timeout=1.5)) == [0]


def test_results_that_wait_for_a_slow_caller_do_not_hang():
    results = ordered_map(lambda item: item, range(2), threads=1, ahead=1, timeout=1.0)
    for _ in results:
        time.sleep(1.2)


def test_an_error_of_the_function_about_time_stays_what_it_is():
    def late(item):
        time.sleep(0.3)
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        list(ordered_map(late, range(2), threads=1, ahead=1, timeout=5))


@with_pipes
def test_waiting_can_be_abandoned_and_the_process_still_ends(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from terrazzo.base.ordered_map import Abandoned, ordered_map\n"
        "results = ordered_map(lambda item: Path(sys.argv[1]).read_bytes(), range(3), threads=2,\n"
        "                      ahead=3, timeout=1.0, abandoned=lambda: True)\n"
        "try:\n"
        "    next(results)\n"
        "except Abandoned:\n"
        "    print('abandoned')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False, timeout=60
    )
    assert (answer.returncode, answer.stdout) == (0, "abandoned\n"), answer.stderr
    assert issubclass(Abandoned, Exception)
