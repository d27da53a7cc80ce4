"""Both frameworks by the command line on one generated scene, each in processes of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
BACKENDS = ("torch", "keras")
SMALL = (
    "model.name=unet",
    "model.options={width=8, depth=2}",
    "training.epochs=4",
    "training.schedule.warmup_steps=2",
    "log.every_steps=1",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


def terrazzo(folder, *words, kill_at=None):
    program = [str(ROOT / "tools" / "run.py")]
    if kill_at is not None:
        program = ["-m", "terrazzo.testing.kill", kill_at, "run"]
    return subprocess.run(
        [sys.executable, *program, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def words(backend, out, *assignments):
    changes = [word for text in (*SMALL, *assignments) for word in ("--set", text)]
    recipe = ROOT / f"packages/{backend}_models/src/terrazzo_{backend}/demo.toml"
    return ["--config", recipe, "--out", out, *changes]


@pytest.fixture(scope="module")
def results(place):
    """The evaluation of both, from the shortest useful training."""
    found = {}
    for backend in BACKENDS:
        answer = terrazzo(place, *words(backend, f"{backend}_whole"))
        assert answer.returncode == 0, answer.stderr
        (place / f"{backend}_told.txt").write_text(answer.stderr)
        text = (place / f"{backend}_whole" / "evaluation" / "test.json").read_text()
        found[backend] = json.loads(text)
    return found


def test_both_backends_report_in_one_form_and_learn(results):
    torch, keras = (results[backend] for backend in BACKENDS)
    assert torch.keys() == keras.keys()
    for key in ("split", "images", "pixels_counted", "pixels_ignored", "classes", "definition"):
        assert torch[key] == keras[key]
    for result in results.values():
        truth = [sum(row) for row in result["counts"]]
        commonest_only = max(truth) / sum(truth)
        assert result["scores"]["pixel_accuracy"] > commonest_only + 0.1
        assert result["scores"]["mean_iou"] > 0.25


def test_standard_error_holds_our_lines_alone(place, results):
    for backend in results:
        told = (place / f"{backend}_told.txt").read_text()
        assert not re.search(r"\.(cc|h|py):\d+|absl|oneDNN|Warning|WARNING", told), told


def final(folder):
    """The bytes a run must end with."""
    saved = sorted((folder / "checkpoints").iterdir())
    newest = saved[-1]
    parts = [load_file(newest / f"{part}.safetensors") for part in ("weights", "optimizer")]
    arrays = {name: array.tobytes() for part in parts for name, array in part.items()}
    files = [folder / "log.jsonl", folder / "model" / "weights.safetensors"]
    return [place.name for place in saved], arrays, [file.read_bytes() for file in files]


KILLS = ("step:3", "sync:2", "step:15", "sync:4", "step:23", "renamed:1")


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_again_and_again_the_run_ends_with_the_same_bits(place, results, backend):
    """Six SIGKILLs, three of them inside a save, each followed by a resume."""
    assert results
    for number, point in enumerate(KILLS):
        resume = ["--resume"] if number else []
        answer = terrazzo(place, *words(backend, f"{backend}_parts"), *resume, kill_at=point)
        assert answer.returncode == -signal.SIGKILL, answer.stderr
    answer = terrazzo(place, *words(backend, f"{backend}_parts"), "--resume")
    assert answer.returncode == 0, answer.stderr
    assert final(place / f"{backend}_parts") == final(place / f"{backend}_whole")


def test_loader_threads_change_nothing_and_both_frameworks_see_the_same_batches(place, results):
    """One digest for 0, 1 and 4 threads; the loader does not know which framework asks."""
    assert results
    program = """
import sys
from pathlib import Path
from terrazzo.base.recipe import load_recipe
from terrazzo.data import datasets, loader
from terrazzo.data.normalization import bands_of
from terrazzo.models import backends
digests = set()
for backend in ("torch", "keras"):
    for threads in (0, 1, 4):
        recipe = load_recipe(backends.demo_recipe(backend),
                             assignments=(f"loader.threads={threads}", "training.batch_size=4"))
        split = datasets.open_split(recipe.data, "train")
        order = loader.TrainingOrder(len(split), recipe.training.batch_size, recipe.seed)
        digests.add(loader.digest(loader.training_batches(
            split, recipe.data, recipe.augment, recipe.loader, order,
            start_step=0, stop_step=2 * order.steps_per_epoch, bands=bands_of(split, "dataset"))))
print(len(digests))
"""
    answer = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "1"
