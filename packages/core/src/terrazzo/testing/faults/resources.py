"""What the machine lacks: memory, files, devices, terminals, trackers, workers."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from terrazzo.runs import checkpoint
from terrazzo.testing.faults import places
from terrazzo.testing.faults.checkpoints import resumed
from terrazzo.testing.faults.interruptions import (
    during_step,
    ended,
    nobody_may_open,
    paused,
    trainers_changed,
)
from terrazzo.testing.faults.places import images, sets, train
from terrazzo.testing.faults.prediction import predict_words
from terrazzo.testing.faults.table import Outcome, Place, row

_PYTHON = f'{sys.executable} -c "from terrazzo.cli.app import main; main()"'


@row(
    "R01",
    "a worker that dies (SIGKILL)",
    "SEG-R001",
    kept="L2",
    note="images are read by threads; the workers that there are share scenes",
)
def row_r01(place: Place) -> None:
    """Its id, the signal and the rows it worked on, at once; a resume goes on."""
    scene = places.write_scene(place.folder / "scene.tif", 120, 60)
    run = places.finished_run(place)
    place.expect(place.terrazzo(*predict_words(run, scene, "whole.tif")), None, exit=0)
    killed: list[int | None] = []

    def kill_the_first() -> None:
        end = time.monotonic() + 60
        while not killed and time.monotonic() < end:
            for child in multiprocessing.active_children():
                if child.name.startswith("terrazzo-"):
                    child.kill()
                    killed.append(child.pid)
                    break
            time.sleep(0.005)

    killer = threading.Thread(target=kill_the_first)
    with place.finished_kept(place.folder / "whole.tif"):
        killer.start()
        answer = place.terrazzo(*predict_words(run, scene, "map.tif", "--workers", "2"))
        killer.join()
        told = (f"process {killed[0]}", "SIGKILL", "rows", "--resume")
        place.expect(answer, "SEG-R001", exit=5, path=scene, observed=told, seconds=60)
        assert not (place.folder / "map.tif").exists()
        answer = place.terrazzo(*predict_words(run, scene, "map.tif", "--resume"))
        place.expect(answer, None, exit=0)
    assert (place.folder / "map.tif").read_bytes() == (place.folder / "whole.tif").read_bytes()
    assert not multiprocessing.active_children()


@row("R02", "a file that is read without an end, as on a dead network share", "SEG-R002", kept="L1")
def row_r02(place: Place) -> None:
    """The file and the setting; a resume ends with the same bytes."""
    assert sys.platform == "linux", "leases, which hold readers up here, are Linux's"
    places.with_data_of_finished(place)
    home = Place(places.finished_run(place).parent, place.backend, place.row, place.shared)
    held = images(home, "train")
    words = places.run_words(*sets("loader.timeout=2", "loader.threads=1", "loader.prefetch=1"))
    # Two or so batches are read ahead of step 2; which step waits is chance.
    with paused(2, *words, folder=place.folder) as process, nobody_may_open(held):
        answer = ended(process, goes_on=True)
    told = ("loader.timeout", "2 seconds a file")
    place.expect(answer, "SEG-R002", exit=5, path=held[0].parent, observed=told, seconds=30)
    saved = checkpoint.found(place.folder / "run" / "checkpoints")[-1]
    assert 2 <= saved <= 4
    place.expect_checkpoint(place.folder / "run", saved)
    resumed(place, saved)


@row("R03", "a file that a reader fails on in the middle of training", "SEG-D012", kept="L1")
def row_r03(place: Place) -> None:
    """The reader's own reason and the file, not that a worker had an error."""
    places.make_images(place)
    good = {path: path.read_bytes() for path in images(place, "train")}

    def plant() -> None:
        for path in good:
            path.write_bytes(b"<html>404 Not Found</html>")

    with during_step(4, plant):
        answer = train(place, *sets("loader.threads=0"))
    folder = images(place, "train")[0].parent
    place.expect(answer, "SEG-D012", exit=3, path=folder, observed="html")
    place.expect_checkpoint(place.folder / "run", 4)
    for path, content in good.items():
        path.write_bytes(content)
    place.expect(train(place, "--resume", "--allow-changed-data"), None, exit=0)


@row(
    "R04",
    "too little shared memory",
    kept="–",
    note="nothing uses /dev/shm: images are read by threads",
)
def row_r04(place: Place) -> None:
    """A whole run puts nothing there."""
    places.with_data_of_finished(place)
    shared = Path("/dev/shm")  # noqa: S108
    seen: list[set[str]] = []

    def look() -> None:
        seen.append({path.name for path in shared.iterdir() if path.owner() == _user()})

    before = {path.name for path in shared.iterdir()}
    with during_step(4, look):
        place.expect(train(place), None, exit=0)
    assert len(seen) == 1
    mine = {name for name in seen[0] - before if str(os.getpid()) in name or "torch" in name}
    assert not mine


def _user() -> str:
    return Path("/proc/self").owner()


_LIMITED = """
import resource, sys
from terrazzo.cli.app import main
import terrazzo.check, terrazzo.check.check_data, terrazzo.io.images, terrazzo.base.recipe
import terrazzo.data.datasets, terrazzo.data.datasets.folder, cv2, numpy
used = 1024 * int(open("/proc/self/status").read().split("VmSize:")[1].split()[0])
limit = used + int(sys.argv.pop(1)) * 1_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
main()
"""


@row("R05", "a limit on the memory of the process", "SEG-R006", kept="L0")
def row_r05(place: Place) -> None:
    """What was being made, its size, and the setting to lower."""
    places.make_images(place)
    image = images(place, "train")[2]
    Image.new("RGB", (8000, 8000)).save(image)
    Image.new("L", (8000, 8000)).save(places.masks(place, "train")[2])
    with place.nothing_written():
        answer = place.process("150", "check", "--config", "recipe.toml", program=("-c", _LIMITED))
        told = ("out of memory while decoding an image", "8000×8000", "loader.threads")
        place.expect(answer, "SEG-R006", exit=5, path=image.parents[2], observed=told)


def _device_is_full(backend: str) -> Exception:
    """Return the error that the framework raises where its device has no memory left."""
    # The backend has loaded it; this package imports no framework.
    framework = sys.modules.get({"torch": "torch", "keras": "tensorflow"}.get(backend, ""))
    if backend == "torch":
        torch: Any = framework
        full: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return full
    if backend == "keras":
        tensorflow: Any = framework
        errors = tensorflow.errors
        no_room = "OOM when allocating tensor with shape[4]"
        exhausted: Exception = errors.ResourceExhaustedError(None, None, no_room)
        return exhausted
    return MemoryError("Unable to allocate 2.00 GiB")


@row(
    "R06",
    "a device without memory, in a step or in a validation alone",
    "SEG-R006",
    kept="L1",
    frameworks=True,
    note="the framework's own error, raised in the place of its allocator",
)
def row_r06(place: Place) -> None:
    """The batch and the setting to lower; a validation halves its batch and goes on."""
    places.with_data_of_finished(place)

    def full_at_step_4(trainer: Any) -> None:
        step, calls = trainer.train_step, []

        def limited(batch: Any, rate: float) -> Any:
            calls.append(len(batch))
            if len(calls) == 4:
                raise _device_is_full(place.backend)
            return step(batch, rate)

        trainer.train_step = limited

    with trainers_changed(full_at_step_4):
        answer = train(place)
    told = ("making training step 4", "batch 2×16×12×3 uint8", "training.batch_size")
    place.expect(answer, "SEG-R006", exit=5, observed=told)
    place.expect_checkpoint(place.folder / "run", 3)

    def full_for_two(trainer: Any) -> None:
        predict = trainer.predict_labels

        def limited(images_BHWC: places.Array) -> Any:
            if len(images_BHWC) > 1:
                raise _device_is_full(place.backend)
            return predict(images_BHWC)

        trainer.predict_labels = limited

    with trainers_changed(full_for_two):
        answer = train(place, "--resume")
    told = ("out of memory while scoring", "validation.batch_size", "resuming after step 3")
    place.expect(answer, None, exit=0, observed=told)
    place.expect_equal_runs(place.folder / "run", places.finished_run(place))


def _few_files(most: int) -> Callable[[], None]:
    import resource  # not on Windows

    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@row("R07", "few open files allowed (ulimit -n)", kept="–")
def row_r07(place: Place) -> None:
    """Handles are given back: more scenes and a run work with 48 files."""
    places.with_data_of_finished(place)
    most, scenes = (48, 24) if place.backend == "reference" else (256, 3)
    (place.folder / "in").mkdir()
    for number in range(scenes):
        places.write_scene(place.folder / "in" / f"{number}.tif", 20, 20, seed=number)
    run = places.finished_run(place)
    answer = place.process(*predict_words(run, "in", "maps"), preexec_fn=_few_files(most))
    place.expect(answer, None, exit=0)
    assert len(list((place.folder / "maps").glob("*.tif"))) == scenes
    answer = place.process(
        *places.run_words(*sets("loader.threads=8")), preexec_fn=_few_files(most)
    )
    place.expect(answer, None, exit=0)


@row("R08", "a loss that is NaN or infinite", "SEG-R008", kept="L1", frameworks=True)
def row_r08(place: Place) -> None:
    """Stopped before the update: the step and its images; a resume ends with the same bytes."""
    places.with_data_of_finished(place)

    def infinite_at_step_5(trainer: Any) -> None:
        step, calls = trainer.train_step, []

        def poisoned(batch: Any, rate: float) -> Any:
            calls.append(batch.files)
            if len(calls) == 5:
                infinite_BHWC = np.full(batch.images_BHWC.shape, np.inf, np.float32)
                batch = replace(batch, images_BHWC=infinite_BHWC)
            return step(batch, rate)

        trainer.train_step = poisoned

    with trainers_changed(infinite_at_step_5):
        answer = train(place)
    folder = places.finished_run(place).parent / "data" / "images" / "train"
    told = ("step 5", "that update was left out", "learning rate")
    place.expect(answer, "SEG-R008", exit=6, path=folder, observed=told)
    place.expect_checkpoint(place.folder / "run", 4)
    resumed(place, 4)


@row(
    "R09",
    "a tracker that cannot be written to or reached",
    kept="L1",
    note="TensorBoard's folder is taken by a file; MLflow is tested where it is installed",
)
def row_r09(place: Place) -> None:
    """Said once; the log of the run is complete and the training as without it."""
    places.with_data_of_finished(place)
    run = place.folder / "run"
    with during_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert train(place).exit == 75
    (run / "tensorboard").write_text("in the way")
    answer = train(place, "--resume", "--track", "tensorboard")
    place.expect(answer, None, exit=0, observed="tensorboard fails")
    assert answer.text.count("tensorboard fails") == 1
    place.expect_equal_runs(run, places.finished_run(place))
    assert [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _shell(place: Place, line: str, **environment: str) -> Outcome:
    begun = time.perf_counter()
    answer = subprocess.run(  # noqa: S603
        ["bash", "-o", "pipefail", "-c", line],  # noqa: S607
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        timeout=300,
    )
    return Outcome(answer.returncode, answer.stdout, answer.stderr, time.perf_counter() - begun)


@row(
    "R10",
    "output that is closed or full, no terminal, no HOME, an odd locale",
    kept="–",
)
def row_r10(place: Place) -> None:
    """A run goes on to its end; other commands end quietly; errors keep their exit code."""
    places.with_data_of_finished(place)
    run = f"{_PYTHON} {' '.join(map(str, places.run_words()))}"
    lines = {f"{run} 2>&1 | head -1": 0}
    if place.backend == "reference":
        lines |= {
            f"LC_ALL=C PYTHONUTF8=0 HOME=/nonexistent {run} > /dev/full 2>&- <&-": 0,
            f"{_PYTHON} list labels | true": 141,
            f"{_PYTHON} run --config missing.toml 2>&-": 2,
        }
    for line, code in lines.items():
        answer = _shell(place, line)
        assert answer.exit == code or (code == 141 and answer.exit == 0), (line, answer)
        for word in ("Traceback", "Exception ignored", "BrokenPipe"):
            assert word not in answer.text, (line, answer)
        if run in line:
            place.expect(place.terrazzo("evaluate", "run"), None, exit=0)
            assert (place.folder / "run" / "report.html").exists()
            shutil.rmtree(place.folder / "run")
