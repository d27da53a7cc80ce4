"""Training, scoring and studies on a Ray cluster of this machine; skipped where Ray is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors.numpy import load_file

pytest.importorskip("ray", reason="Ray is not installed: pip install 'terrazzo[ray]'")
pytestmark = pytest.mark.slow

RECIPE = Path(__file__).parents[1] / "packages/torch_models/src/terrazzo_torch/demo.toml"
SETTINGS = {
    "data.root": "demo_data",
    "augment.crop": "[32,32]",
    "model.options.width": "4",
    "log.every_steps": "1",
    "training.optimizer.name": '"sgd"',
    "training.epochs": "16",
    "validation.every_epochs": "8",
    "checkpoint.every_steps": "20",
}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "terrazzo", *map(str, arguments)]


def run(out: object, *more: object) -> list[str]:
    assigned = [text for key, value in SETTINGS.items() for text in ("--set", f"{key}={value}")]
    return command("run", "--config", RECIPE, "--out", out, *assigned, *more)


RAY = ("--ray", "local", "--workers", "2")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
"""As many threads as Ray gives its workers; and no waiting for whatever else runs here."""


def finish(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )


def steps(out: Path) -> int:
    log = out / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for_steps(out: Path, number: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while steps(out) < number:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that train."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]


def same_weights(first: Path, second: Path) -> bool:
    one, two = (load_file(folder / "model/weights.safetensors") for folder in (first, second))
    return one.keys() == two.keys() and all(np.array_equal(one[n], two[n]) for n in one)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working directory in which two torchrun processes have trained ``torchrun``."""
    place = tmp_path_factory.mktemp("ray")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = finish([*launcher, *run("torchrun")[1:]], place)
    assert done.returncode == 0, done.stderr
    return place


def test_two_workers_do_what_torchrun_does(place: Path) -> None:
    done = finish(run("ray", *RAY), place)
    assert done.returncode == 0, done.stderr
    assert "2 processes, each with a CPU" in done.stderr
    assert done.stdout.count("mean of 5 classes") == 1
    assert (place / "ray/log.jsonl").read_bytes() == (place / "torchrun/log.jsonl").read_bytes()
    assert same_weights(place / "ray", place / "torchrun")
    assert not list(place.glob(".ray*"))

    before = json.loads((place / "ray/evaluation/test.json").read_text())
    (place / "ray/evaluation/test.json").unlink()
    done = finish(command("evaluate", "ray", *RAY), place)
    assert done.returncode == 0, done.stderr
    assert json.loads((place / "ray/evaluation/test.json").read_text()) == before

    refused = finish(run("ray", *RAY), place)
    assert refused.returncode == 4
    assert "SEG-C002" in refused.stderr


def test_sigterm_saves_and_a_resume_gives_the_same_bits(place: Path) -> None:
    out = place / "stopped"
    with subprocess.Popen(
        run(out, *RAY),
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        wait_for_steps(out, 25, process)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "SEG-R013" in stderr
    assert "everything is saved" in stderr
    newest = max(int(p.name.removeprefix("step-")) for p in (out / "checkpoints").iterdir())
    assert newest == steps(out)
    done = finish(run(out, "--resume", *RAY), place)
    assert done.returncode == 0, done.stderr
    assert same_weights(out, place / "torchrun")


def test_a_lost_worker_is_replaced_and_the_bits_are_the_same(place: Path) -> None:
    out = place / "lost"
    with subprocess.Popen(
        run(out, *RAY),
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        wait_for_steps(out, 25, process)
        first, *_ = workers_of(process)
        first.kill()
        _, stderr = process.communicate(timeout=500)
    assert process.returncode == 0, stderr
    assert "a worker was lost; attempt 2 of 4" in stderr
    assert "resuming after step 20" in stderr
    assert same_weights(out, place / "torchrun")


def test_an_error_of_the_data_is_not_tried_again(place: Path) -> None:
    words = run("broken", *RAY, "--set", "training.batch_size=0")
    assert finish(words, place).returncode == 2
    words = run("broken", *RAY, "--set", "model.options.width=-1")
    refused = finish(words, place)
    assert refused.returncode == 2, refused.stderr
    assert "attempt" not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (place / "broken").exists()


def test_no_cluster_answers(place: Path) -> None:
    refused = finish(run("none", "--ray", "127.0.0.1:1", "--workers", "2"), place)
    assert refused.returncode == 2, refused.stderr
    assert "SEG-X033" in refused.stderr
    assert not (place / "none").exists()


LABELS = """
name = "colours"
classes = [{ name = "red", colour = "#FF0000", raw = [0] },
           { name = "green", colour = "#00FF00", raw = [1] }]
"""
RECIPE_OF_STUDY = """
backend = "reference"
model = { name = "pixel_softmax" }
training = { steps = 600, batch_size = 2, schedule = { learning_rate = 0.01 } }
checkpoint = { every_steps = 20 }
validation = { every_steps = 600 }
log = { every_steps = 1 }
data = { format = "folder", root = "one", labels = "labels.toml" }
"""
STUDY = """
name = "colours"
recipe = "recipe.toml"
[[runs]]
name = "second"
init = { run = "first" }
[[runs]]
name = "first"
[[runs]]
name = "third"
set = ["seed=3"]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "one" / kind).mkdir(parents=True)
    for number in range(20):
        mask = draw.integers(0, 2, (8, 8)).astype(np.uint8)
        image = np.zeros((8, 8, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 90 + draw.integers(0, 160, (8, 8, 2))
        Image.fromarray(image).save(tmp_path / "one/images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "one/masks" / f"{number}.png")
    for name, text in (("recipe", RECIPE_OF_STUDY), ("study", STUDY), ("labels", LABELS)):
        (tmp_path / f"{name}.toml").write_text(text)
    return tmp_path


def counts(folder: Path) -> dict[str, object]:
    return {
        name: json.loads((folder / "runs" / name / "evaluation/test.json").read_text())["counts"]
        for name in ("first", "second", "third")
    }


def test_a_study_side_by_side_stops_and_goes_on(study: Path) -> None:
    done = finish(command("study", "study.toml", "--out", "alone"), study)
    assert done.returncode == 0, done.stderr
    with subprocess.Popen(
        command("study", "study.toml", "--out", "both", *RAY),
        cwd=study,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        for name in ("first", "third"):  # at the same time; the second waits for the first
            wait_for_steps(study / "both/runs" / name, 30, process)
        assert not (study / "both/runs/second").exists()
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 75, stderr
    assert "everything is saved" in stderr
    newest = max((study / "both/runs/first/checkpoints").iterdir())
    assert int(newest.name.removeprefix("step-")) == steps(study / "both/runs/first")
    done = finish(command("study", "study.toml", "--out", "both", "--resume", *RAY), study)
    assert done.returncode == 0, done.stderr
    assert counts(study / "both") == counts(study / "alone")


def test_a_run_that_fails_ends_the_study_with_what_it_said(study: Path) -> None:
    words = ("--set", "set=['model.options.nothing=1']")
    done = finish(command("study", "study.toml", "--out", "bad", *words, *RAY), study)
    assert done.returncode == 2, done.stderr
    assert "SEG-R051" in done.stderr
    assert "nothing" in done.stderr
