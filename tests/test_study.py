"""A study in real processes: stopped, killed and resumed, its runs end with the same bits."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

RECIPE = """
backend = "reference"
model = { name = "pixel_softmax" }
training = { epochs = 150, batch_size = 2, schedule = { learning_rate = 0.01 } }
augment = { flip_horizontal = 0.5, brightness = 0.2 }
checkpoint = { every_steps = 20 }
validation = { every_epochs = 50 }
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


@pytest.fixture
def place(tmp_path):
    """Two small data sets and a study over them."""
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


def study(place, *words):
    command = [*COMMAND, "study", "study.toml", *words]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)


def interrupted(place, run, number, *words):
    """Start the study and send a signal when `run` has a checkpoint; return what it answers."""
    process = subprocess.Popen(
        [*COMMAND, "study", "study.toml", *words], cwd=place, stderr=subprocess.PIPE, text=True
    )
    checkpoints = place / "runs" / "colours" / "runs" / run / "checkpoints"
    deadline = time.monotonic() + 300
    while not list(checkpoints.glob("step-??????")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=300)
    return process.returncode, stderr


def final(folder):
    names = ("log.jsonl", "model/weights.safetensors", "evaluation/test.json")
    return [(folder / name).read_bytes() for name in names]


def test_stopped_then_killed_then_resumed_it_ends_as_if_nothing_had_been(place):
    out = place / "runs" / "colours"
    code, stderr = interrupted(place, "first", signal.SIGTERM)
    assert code == 75, stderr
    assert "SEG-R013" in stderr
    assert not (out / "runs" / "first" / "model").exists()
    code, _ = interrupted(place, "second", signal.SIGKILL, "--resume")
    assert code == -signal.SIGKILL
    assert not (out / "runs" / "second" / "model").exists()

    answer = study(place, "--resume")
    assert answer.returncode == 0, answer.stderr
    assert "[1/2] first: done" in answer.stderr
    assert "[2/2] second: goes on" in answer.stderr
    assert "resuming after step" in answer.stderr
    for name in ("first", "second"):
        words = ["run", "--config", out / "recipes" / f"{name}.toml", "--out", name]
        subprocess.run([*COMMAND, *words], cwd=place, check=True, capture_output=True)
        assert final(place / name) == final(out / "runs" / name)
        scored = json.loads((out / "runs" / name / "evaluation" / "two-test.json").read_text())
        assert scored["pictures"] == 2
    page = (out / "comparison.html").read_text()
    assert "excludes zero" in page
    table = (out / "comparison.csv").read_text()
    assert re.search("^(first,second|second,first),mean_iou", table, re.MULTILINE)
    assert "two-test" in (out / "comparison.tex").read_text()

    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    assert study(place, "--resume").returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")} == before


def test_what_is_refused_leaves_all_as_it_was(place):
    out = place / "runs" / "colours"
    answer = study(place, "--set", "data.two.root=nowhere")
    assert answer.returncode == 3
    assert "nowhere" in answer.stderr
    assert not out.exists()

    few = ("--set", 'set=["training.epochs=1"]')
    text = STUDY.replace('data = "two"', 'data = "two"\nset = ["model.options.width=3"]')
    (place / "study.toml").write_text(text)
    answer = study(place, *few)
    assert answer.returncode == 2  # that of the run that failed
    assert "SEG-X001" in answer.stderr
    assert "SEG-R051" in answer.stderr
    assert (out / "runs" / "first" / "model").is_dir()

    (place / "study.toml").write_text(STUDY)
    answer = study(place, *few)
    assert answer.returncode == 4
    assert "SEG-C002" in answer.stderr
    answer = study(place, "--resume")
    assert answer.returncode == 4
    assert "SEG-C011" in answer.stderr
    assert "training.epochs: 1 → 150" in answer.stderr
    assert study(place, *few, "--resume").returncode == 0
    assert (out / "comparison.html").is_file()
