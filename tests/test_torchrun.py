"""One training in several processes, as ``torchrun`` starts them; signals and deaths included."""

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
from safetensors.numpy import load_file

from terrazzo.evaluation import result

RECIPE = Path(__file__).parents[1] / "packages/torch_models/src/terrazzo_torch/demo.toml"
SMALL = {
    "data.root": "demo_data",
    "augment.crop": "[32,32]",
    "model.options.width": "4",
    "log.every_steps": "1",
    "training.optimizer.name": '"sgd"',
    "training.sync_batch_norm": "true",
}


def command(processes: int, *arguments: object) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    start = launcher if processes > 1 else [sys.executable]
    return [*start, "-m", "terrazzo", *map(str, arguments)]


def run(out: object, *more: str, **settings: str) -> list[object]:
    settings = {key.replace("__", "."): value for key, value in settings.items()}
    pairs = [("--set", f"{key}={value}") for key, value in (SMALL | settings).items()]
    return [
        "run",
        "--config",
        RECIPE,
        "--out",
        out,
        *more,
        *(text for pair in pairs for text in pair),
    ]


def finish(
    processes: int, arguments: list[object], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(processes, *arguments), cwd=folder, capture_output=True, text=True, check=False
    )


def log(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in log(folder) if line["kind"] == "train"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working directory with the demo's data and a run of one process in it."""
    place = tmp_path_factory.mktemp("torchrun")
    done = finish(1, run("one", training__epochs="1"), place)
    assert done.returncode == 0, done.stderr
    return place


def test_two_processes_train_score_and_are_refused_as_one(place: Path) -> None:
    done = finish(2, run("two", training__epochs="1"), place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("mean of 5 classes") == 1
    assert done.stderr.count("training images") == 1
    one, two = place / "one", place / "two"
    np.testing.assert_allclose(losses(two), losses(one), rtol=2e-5)
    assert json.loads((two / "run.json").read_text())["processes"] == 2
    counts = [result.read_counts(folder / "evaluation", "test")[0] for folder in (one, two)]
    assert (counts[0].sum(axis=(1, 2)) == counts[1].sum(axis=(1, 2))).all()
    examples = [sorted(p.name for p in folder.glob("evaluation/test*/*")) for folder in (one, two)]
    assert examples[0] == examples[1]

    refused = finish(2, run("two", training__epochs="1"), place)
    assert refused.returncode == 1  # torchrun's own, whatever its processes end with
    assert refused.stderr.count("error SEG-C002") == 1
    assert "Connection closed" not in refused.stderr
    assert "SEG-C009" not in refused.stderr

    before = (two / "evaluation/test.json").read_bytes()
    done = finish(2, ["evaluate", "two"], place)
    assert done.returncode == 0, done.stderr
    assert json.loads((two / "evaluation/test.json").read_bytes()) == json.loads(before)


@pytest.mark.slow
def test_going_on_in_another_number_of_processes(place: Path) -> None:
    """Refused where each normalises by its own images; said and recorded where it does not."""
    own = {"training__sync_batch_norm": "false"}
    for name, settings in (("own", own), ("sync", {})):
        settings = {**settings, "training__epochs": "2"}
        done = finish(2, run(name, **settings), place)
        assert done.returncode == 0, done.stderr
        drop_last_checkpoint(place / name)
    refused = finish(1, run("own", "--resume", training__epochs="2", **own), place)
    assert refused.returncode == 4
    assert "SEG-C060" in refused.stderr
    assert "--allow-other-processes" in refused.stderr
    allowed = run("own", "--resume", "--allow-other-processes", training__epochs="2", **own)
    assert "processes: 2 → 1" in finish(1, allowed, place).stderr
    (note,) = json.loads((place / "own/run.json").read_text())["resumed"]
    assert note["processes"] == 1
    done = finish(1, run("sync", "--resume", training__epochs="2"), place)
    assert done.returncode == 0
    assert "processes: 2 → 1" in done.stderr


def drop_last_checkpoint(folder: Path) -> None:
    *_, last = sorted((folder / "checkpoints").iterdir())
    (last / "MANIFEST.json").unlink()


LONG = {"training__epochs": "16", "validation__every_epochs": "8", "checkpoint__every_steps": "20"}


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> Path:
    done = finish(2, run("long", **LONG), place)
    assert done.returncode == 0, done.stderr
    return place / "long"


def stop_rank_1(_: psutil.Process, ranks: list[psutil.Process]) -> None:
    ranks[1].send_signal(signal.SIGTERM)


def stop_launcher(launcher: psutil.Process, _: list[psutil.Process]) -> None:
    launcher.send_signal(signal.SIGTERM)


def warn_launcher(launcher: psutil.Process, _: list[psutil.Process]) -> None:
    launcher.send_signal(signal.SIGUSR1)  # as SLURM does before the time is up


def kill_launcher(launcher: psutil.Process, _: list[psutil.Process]) -> None:
    launcher.kill()


def signal_all(launcher: psutil.Process, ranks: list[psutil.Process]) -> None:
    for process in (*ranks, launcher):  # as scancel does
        process.send_signal(signal.SIGTERM)


def kill_rank_1(_: psutil.Process, ranks: list[psutil.Process]) -> None:
    ranks[1].kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "saved"),
    [
        (stop_rank_1, True),
        (stop_launcher, True),
        (warn_launcher, True),
        (kill_launcher, True),
        (signal_all, True),
        (kill_rank_1, False),
    ],
)
def test_what_ends_one_ends_all_and_a_resume_gives_the_same_bits(
    harm, saved: bool, place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(
        command(2, *run(out, **LONG)),
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_steps(out, 25)
        launcher = psutil.Process(process.pid)
        ranks = sorted(launcher.children(), key=lambda child: child.environ()["RANK"])
        begun = time.monotonic()
        harm(launcher, ranks)
        _, alive = psutil.wait_procs(ranks, timeout=60)
        assert not alive
        assert time.monotonic() - begun < 30
        stderr = process.communicate()[1]
    told = [line for line in stderr.splitlines() if line.startswith("error SEG")]
    newest = max(int(p.name.removeprefix("step-")) for p in (out / "checkpoints").glob("step-*"))
    if saved:
        assert told == [
            f"error SEG-R013: stopped by a signal after step {newest}; everything is saved"
        ]
        assert len(log(out)) == newest
    else:
        assert "SEG-R060" in told[0]
        assert f"rank 1 (process {ranks[1].pid} on" in stderr
        assert newest == 20
    done = finish(2, run(out, "--resume", **LONG), place)
    assert done.returncode == 0, done.stderr
    assert (out / "log.jsonl").read_bytes() == (uninterrupted / "log.jsonl").read_bytes()
    first, second = (load_file(f / "model/weights.safetensors") for f in (out, uninterrupted))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("rendezvous", ["--rdzv-backend=static", "--standalone"])
def test_torchrun_starts_a_killed_training_again(
    rendezvous: str, place: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    launcher, *words = command(2, *run(out, **LONG))
    words = [*words[:2], rendezvous, "--max-restarts=2", *words[2:]]
    with subprocess.Popen(
        [launcher, *words], cwd=place, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for_steps(out, 25)
        psutil.Process(process.pid).children()[0].kill()
        stderr = process.communicate()[1]
    assert process.returncode == 0, stderr
    assert "resuming after step 20" in stderr
    assert (out / "log.jsonl").read_bytes() == (uninterrupted / "log.jsonl").read_bytes()


def wait_for_steps(out: Path, steps: int) -> None:
    end = time.monotonic() + 120
    while not (out / "log.jsonl").exists() or len(log(out)) < steps:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_broken_image_on_one_rank_names_the_image_on_all(place: Path, tmp_path: Path) -> None:
    """A process that fails alone leaves word; the other does not guess."""
    script = """
import sys, numpy as np
from terrazzo.base.errors import DataError
from terrazzo.base.processes import leaving_word, wait_for_all
from terrazzo_torch import world
here = world.current()
with leaving_word(here):
    if here.rank == 1:
        raise DataError("SEG-D011", "the image is cut short", file="a.png")
    wait_for_all(here)
"""
    file = tmp_path / "one_fails.py"
    file.write_text(script)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(file)]
    done = subprocess.run(launcher, capture_output=True, text=True, check=False, env=os.environ)
    assert "SEG-R060: another process of this training has ended" in done.stderr
    assert "SEG-D011: the image is cut short" in done.stderr.split("SEG-R060")[1]
