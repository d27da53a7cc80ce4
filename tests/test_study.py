"""A study in real processes: killed and resumed, its runs end with the same bits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import CheckpointError, DataError, TerrazzoError
from terrazzo.workflows.study import runner
from terrazzo.workflows.study.plan import load_study, plan_study, with_only

RECIPE = """
backend = "reference"
model = { name = "pixel_softmax" }
training = { epochs = 25, batch_size = 2, schedule = { learning_rate = 0.01 } }
augment = { flip_horizontal = 0.5, brightness = 0.2 }
checkpoint = { every_steps = 20 }
validation = { every_epochs = 25 }
log = { every_steps = 1 }
[data]
format = "folder"
root = "one"
labels = "labels.toml"
"""
STUDY = """
name = "colours"
recipe = "recipe.toml"
score = { data = "two" }
[data.two]
format = "folder"
root = "two"
labels = "labels.toml"
[[runs]]
name = "first"
[[runs]]
name = "second"
init = { run = "first" }
data = "two"
"""
LABELS = """
name = "colours"
classes = [{ name = "red", colour = "#FF0000", raw = [0] },
           { name = "green", colour = "#00FF00", raw = [1] }]
"""
COMMAND = [sys.executable, "-m", "terrazzo"]
OUT = Path("runs/colours")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two small data sets and a study over them, in the folder we are in."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for root in ("one", "two"):
        for kind in ("images", "masks"):
            (tmp_path / root / kind).mkdir(parents=True)
        for number in range(20):
            mask = draw.integers(0, 2, (8, 8)).astype(np.uint8)
            image = np.zeros((8, 8, 3), np.uint8)
            image[..., :2] = np.eye(2)[mask] * 90 + draw.integers(0, 160, (8, 8, 2))
            Image.fromarray(image).save(tmp_path / root / "images" / f"{number}.png")
            Image.fromarray(mask).save(tmp_path / root / "masks" / f"{number}.png")
    for name, text in (("recipe", RECIPE), ("study", STUDY), ("labels", LABELS)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def go_on(*assignments, resume=True, only=()):
    """Run the study from here; its runs are processes of their own in any case."""
    said = []
    settings = load_study(Path("study.toml"), assignments)
    plan = plan_study(settings, Path("study.toml"), OUT)
    runner.run(with_only(plan, only), resume=resume, say=said.append)
    return said


def killed_in(run):
    """Start the study by the command line and kill it once `run` has a checkpoint."""
    process = subprocess.Popen([*COMMAND, "study", "study.toml"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list((OUT / "runs" / run / "checkpoints").glob("step-??????")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)  # returns when the run's process is gone as well


def final(folder):
    names = ("log.jsonl", "model/weights.safetensors", "evaluation/test.json")
    return [(folder / name).read_bytes() for name in names]


def test_killed_and_resumed_a_study_ends_as_if_nothing_had_been(place):
    killed_in("second")
    first, second = OUT / "runs" / "first", OUT / "runs" / "second"
    assert not (second / "model").exists()
    before = final(first), (first / "report.html").stat().st_mtime_ns

    assert go_on() == [
        "looking at all data, settings and models before the first step",
        "[1/2] first: done",
        "[2/2] second: goes on",
        "[2/2] second: is scored on two-test",
    ]
    assert (final(first), (first / "report.html").stat().st_mtime_ns) == before
    words = ["run", "--config", OUT / "recipes" / "second.toml", "--out", "alone"]
    subprocess.run([*COMMAND, *words], check=True, capture_output=True)
    assert final(Path("alone")) == final(second)

    for folder in (first, second):
        scored = json.loads((folder / "evaluation" / "two-test.json").read_text())
        assert scored["images"] == 2
    assert "two-test" in (OUT / "comparison.html").read_text()
    assert "two-test" in (OUT / "comparison.tex").read_text()
    table = (OUT / "comparison.csv").read_text()
    assert re.search("^(first,second|second,first),mean_iou", table, re.MULTILINE)

    assert go_on() == ["[1/2] first: done", "[2/2] second: done"]
    with pytest.raises(CheckpointError, match="SEG-C002"):
        go_on(resume=False)
    with pytest.raises(CheckpointError, match=r"SEG-C011(.|\n)*training.epochs: 25 → 1"):
        go_on("set=['training.epochs=1']")
    shutil.rmtree(first)
    with pytest.raises(CheckpointError, match=r"SEG-C045(.|\n)*no checkpoint of first"):
        go_on()


def test_killed_before_its_first_file_a_study_begins(place):
    """A file that was being written then is nobody's; a letter is."""
    writer = """
from pathlib import Path
from terrazzo.base.atomic_write import replacing
import os
with replacing(Path("runs/colours/study.toml")) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""
    OUT.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", writer], check=False)
    (left,) = OUT.iterdir()
    assert left.name.startswith(".study.")
    plan = plan_study(load_study(Path("study.toml"), ()), Path("study.toml"), OUT)
    runner._refuse_occupied(plan, resume=True)
    assert not any(OUT.iterdir())
    (OUT / "letter.txt").write_text("Dear")
    with pytest.raises(CheckpointError, match="SEG-C001"):
        go_on()
    assert [path.name for path in OUT.iterdir()] == ["letter.txt"]


def test_missing_images_are_found_before_anything_is_written(place):
    with pytest.raises(DataError, match="nowhere"):
        go_on("data.two.root=nowhere")
    assert not OUT.exists()
    OUT.mkdir(parents=True)
    (OUT / "letter.txt").write_text("Dear")
    with pytest.raises(CheckpointError, match="SEG-C001"):
        go_on()
    assert [path.name for path in OUT.iterdir()] == ["letter.txt"]


def test_a_study_ends_with_the_exit_code_of_the_run_that_failed(place):
    with pytest.raises(TerrazzoError, match="SEG-R051") as failed:
        go_on("set=['training.schedule.learning_rate=1e38']")
    assert failed.value.exit_code == 6


def test_one_run_of_a_study_is_done_and_what_is_there_is_compared(place):
    short = "all.training.steps=2"
    assert go_on(short, only=["first"])[1:] == [
        "[1/2] first: begins",
        "[1/2] first: is scored on two-test",
    ]
    assert not (OUT / "comparison.html").exists()
    assert not (OUT / "runs" / "second").exists()
    assert go_on(short, only=["second"])[1:] == [
        "[1/2] first: done",
        "[2/2] second: begins",
        "[2/2] second: is scored on two-test",
    ]
    assert (OUT / "comparison.html").exists()


PATIENT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", flush=True)
time.sleep(60)
"""


def test_signals_are_handed_on_to_the_run(place):
    process = subprocess.Popen([sys.executable, "-c", PATIENT], stdout=subprocess.PIPE)
    process.stdout.readline()
    with runner._handing_on(process) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert process.wait(timeout=30) == 75
    process.stdout.close()
    assert received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
