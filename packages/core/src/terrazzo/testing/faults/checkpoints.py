"""Runs that are killed, damaged, moved, changed, or resumed by two at once."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from terrazzo.base.errors import CheckpointError
from terrazzo.runs import checkpoint, manifest
from terrazzo.testing.faults import places
from terrazzo.testing.faults.interruptions import during_save, during_step, ended, paused
from terrazzo.testing.faults.places import SAVED_EVERY, STEPS, sets, train
from terrazzo.testing.faults.prediction import file_size_limit
from terrazzo.testing.faults.table import Place, row


def resumed(place: Place, after: int | None, *words: object) -> None:
    """Resume the run of the place and compare it with one that nothing has happened to."""
    answer = train(place, "--resume", *words)
    told = () if after is None else f"resuming after step {after}"
    place.expect(answer, None, exit=0, observed=told)
    place.expect_equal_runs(place.folder / "run", places.finished_run(place))


@row("C01", "SIGKILL at any step", kept="L1", frameworks=True)
def row_c01(place: Place) -> None:
    """A resume goes on from the last checkpoint and ends with the same bytes."""
    places.with_data_of_finished(place)
    points = (1, 4, 6) if place.backend == "reference" else (6,)
    saved = {1: 0, 2: 0, 3: 2, 4: 3, 5: 4, 6: 4}
    for step in points:
        shutil.rmtree(place.folder / "run", ignore_errors=True)
        place.killed(f"step:{step}", *places.run_words())
        assert 0 <= step - 1 - saved[step] < SAVED_EVERY
        if saved[step]:
            place.expect_checkpoint(place.folder / "run", saved[step])
        resumed(place, saved[step] or None)


@row("C02", "SIGKILL inside a save: at a flush, a rename, a deletion", kept="L1", frameworks=True)
def row_c02(place: Place) -> None:
    """The checkpoint before is used, and nothing of the broken one is left.

    A chain: killed in a flush, resumed and killed before a rename, after it, in a deletion.
    """
    places.with_data_of_finished(place)
    points: tuple[str, ...] = ("sync:23", "rename:1", "renamed:1", "delete:5")
    if place.backend != "reference":
        points = points[:1]
    for number, point in enumerate(points):
        place.killed(point, *places.run_words(*(["--resume"] if number else [])))
        place.expect_checkpoint(place.folder / "run", (3, 3, 4, 6)[number])
    resumed(place, None)


@row("C03", "a power cut: names are there, bytes are not", "SEG-C006", kept="L1")
def row_c03(place: Place) -> None:
    """Zeros in the newest checkpoint, and a log that is cut short and filled with NUL."""
    run = places.copied_run(place)
    newest = run / "checkpoints" / f"step-{STEPS:06d}"
    weights = newest / "weights.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))
    log = run / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-200] + bytes(200))
    answer = train(place, "--resume")
    told = ("passed over", "resuming after step 4", "SHA-256")
    place.expect(answer, "SEG-C006", exit=0, path=weights, observed=told)
    place.expect_equal_runs(run, places.finished_run(place))


@row("C04", "a full disk while a checkpoint is saved", "SEG-R004", kept="L1")
def row_c04(place: Place) -> None:
    """The checkpoint before stays; what is needed and free is said."""
    places.with_data_of_finished(place)
    with during_save(4, lambda: file_size_limit(100)):
        answer = train(place)
    told = ("free on this disk", "File too large", "--resume")
    place.expect(answer, "SEG-R004", exit=5, path="step-000004", observed=told)
    place.expect_checkpoint(place.folder / "run", 3)
    resumed(place, 3)


@contextlib.contextmanager
def _flushes_fail(number: int) -> Iterator[None]:
    flush = os.fsync

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    os.fsync = failing  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = flush


@row("C05", "a read-only folder, EIO, a stale file handle", "SEG-R004", "SEG-R005", kept="L1")
def row_c05(place: Place) -> None:
    """The path and what the system says."""
    places.with_data_of_finished(place)
    for number in (errno.EIO, errno.ESTALE):
        shutil.rmtree(place.folder / "run", ignore_errors=True)
        with during_save(4, lambda number=number: _flushes_fail(number)):  # type: ignore[misc]
            answer = train(place)
        told = os.strerror(number)
        place.expect(answer, "SEG-R004", exit=5, path="step-000004", observed=told)
        place.expect_checkpoint(place.folder / "run", 3)
    resumed(place, 3)
    if sys.platform == "linux":
        closed = place.folder / "closed"
        closed.mkdir(mode=0o555)
        with place.nothing_written():
            answer = place.process(
                *places.run_words(out="closed/run"),
                preexec_fn=places.give_up_the_rights_of_root,
            )
            told = "Permission denied"
            place.expect(answer, "SEG-R005", exit=5, path="closed", observed=told)
        closed.chmod(0o755)


@row(
    "C06",
    "flipped bits, cut and longer files in a checkpoint",
    "SEG-C006",
    kept="L1",
    frameworks=True,
)
def row_c06(place: Place) -> None:
    """Each is found; the checkpoint before is used."""
    run = places.copied_run(place)
    newest = run / "checkpoints" / f"step-{STEPS:06d}"
    draw = random.Random(0)  # noqa: S311 - any flips will do
    for path in sorted(newest.iterdir()):
        whole = path.read_bytes()
        damages = [whole[:-1], whole + b"\0"]
        for _ in range(50):
            flipped = bytearray(whole)
            flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            damages.append(bytes(flipped))
        for damaged in damages:
            path.write_bytes(damaged)
            try:
                checkpoint.read(run / "checkpoints", STEPS)
            except CheckpointError as error:
                assert error.code == "SEG-C006"  # noqa: PT017
            else:
                raise AssertionError(path)
        path.write_bytes(whole)
    weights = newest / "weights.safetensors"
    weights.write_bytes(damages[-1])
    answer = train(place, "--resume")
    told = ("passed over", "resuming after step 4", "SHA-256")
    place.expect(answer, "SEG-C006", exit=0, path=weights, observed=told)
    place.expect_equal_runs(run, places.finished_run(place))


def _as_of_format(folder: Path, number: int) -> None:
    path = folder / "MANIFEST.json"
    table = json.loads(path.read_text())
    del table["manifest_sha256"]
    path.write_bytes(manifest._text({**table, "format": number}))


@row(
    "C07",
    "checkpoints and models of another network, other classes, another backend, a newer format",
    "SEG-C011",
    "SEG-C007",
    "SEG-C013",
    "SEG-X017",
    kept="L0",
    frameworks=True,
)
def row_c07(place: Place) -> None:
    """What differs first, or which version is needed."""
    run = places.copied_run(place)
    other = {"reference": 'model.options.features="neighbourhood"'}
    with place.nothing_written():
        answer = train(
            place, "--resume", "--set", other.get(place.backend, "model.options.width=3")
        )
        place.expect(answer, "SEG-C011", exit=4, observed="model.options")
    _as_of_format(run / "checkpoints" / f"step-{STEPS:06d}", 3)
    with place.nothing_written(run):
        answer = train(place, "--resume")
        told = ("format 3", "format up to 1", "upgrade")
        place.expect(answer, "SEG-C007", exit=4, path="step-000006", observed=told)
    state = checkpoint.read(run / "checkpoints", 4)
    foreign = {
        name: np.zeros((*array.shape, 2), np.float32) for name, array in state.state().items()
    }
    shutil.rmtree(run / "checkpoints" / f"step-{STEPS:06d}")
    checkpoint.write(run / "checkpoints", STEPS, foreign, state.record, state.log)
    with place.nothing_written(run / "checkpoints", run / "model"):
        answer = train(place, "--resume")
        place.expect(answer, "SEG-C007", exit=4, observed="2)")
    _as_of_format(run / "model", 3)
    with place.nothing_written():
        answer = place.terrazzo("evaluate", "run")
        place.expect(answer, "SEG-C007", exit=4, path="run/model", observed="format 3")
    finished = places.finished_run(place)
    with place.nothing_written():
        words = sets(f'init.run="{finished}"', other.get(place.backend, "model.options.width=3"))
        answer = train(place, *words, out="next")
        place.expect(answer, "SEG-C013", exit=4, path=finished, observed="(")
    shutil.copytree(finished, place.folder / "theirs")
    card = place.folder / "theirs" / "model" / "model.toml"
    backend = "torch" if place.backend != "torch" else "keras"
    card.write_text(card.read_text().replace(f'"{place.backend}"', f'"{backend}"'))
    (card.parent / "MANIFEST.json").unlink()
    manifest.write(card.parent, STEPS)
    with place.nothing_written():
        answer = train(place, *sets(f'init.run="{place.folder / "theirs"}"'), out="next")
        place.expect(answer, "SEG-X017", exit=2, observed=backend)


class _Attack:
    """Makes a file when it is read as a pickle."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (self.canary, "w"))


@row(
    "C08",
    "pickles and code in the place of weights",
    "SEG-C006",
    "SEG-D012",
    kept="L0",
    frameworks=True,
    note="torch: also as model.options.pretrained; of Keras as arrays alone",
)
def row_c08(place: Place) -> None:
    """Nothing of them is run: the file that they would make is not there."""
    run = places.copied_run(place)
    canary = place.folder / "canary"
    attack = pickle.dumps(_Attack(canary), protocol=2)
    (run / "model" / "weights.safetensors").write_bytes(attack)
    (run / "model" / "MANIFEST.json").unlink()
    with place.nothing_written():
        answer = place.terrazzo("evaluate", "run")
        place.expect(answer, "SEG-C006", exit=4, path="weights.safetensors")
    state = run / "checkpoints" / f"step-{STEPS:06d}" / "weights.safetensors"
    state.write_bytes(attack)
    place.expect(train(place, "--resume"), "SEG-C006", exit=0, path=state, observed="passed over")
    photo = place.folder / "photo.png"
    np.save(place.folder / "a.npy", np.array([_Attack(canary)], object), allow_pickle=True)
    shutil.move(place.folder / "a.npy", photo)
    with place.nothing_written():
        answer = place.terrazzo("predict", places.finished_run(place), photo, "--out", "maps")
        place.expect(answer, "SEG-D012", exit=3, path=photo)
    if place.backend != "reference":
        options = {
            "torch": 'model={name="unet",options={encoder="resnet18",pretrained="PATH"}}',
            "keras": 'model={name="inception_resnet_v2_unet",options={pretrained="PATH"}}',
        }[place.backend]
        for ending in (".pt", ".h5", ".keras", ".safetensors"):
            evil = place.folder / f"evil{ending}"
            evil.write_bytes(attack)
            with place.nothing_written():
                answer = train(place, "--set", options.replace("PATH", str(evil)), out="next")
                assert answer.exit in (2, 4), answer
                assert "Traceback" not in answer.text, answer
                assert evil.name in answer.text, answer
    assert not canary.exists()


_HOLDER = """
import sys
from pathlib import Path
from terrazzo.base.file_lock import locked
with locked(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.readline()
"""


@row("C09", "two processes in one run folder", "SEG-C009", kept="L1")
def row_c09(place: Place) -> None:
    """The second is told who holds it; the lock of a process that was killed holds nobody up."""
    run = places.copied_run(place)
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", _HOLDER, str(run)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:  # noqa: S603
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
            with place.nothing_written():
                for words in (["--resume"], ["--overwrite"]):
                    answer = train(place, *words)
                    told = (f"process {other.pid} on",)
                    place.expect(answer, "SEG-C009", exit=5, path="run", observed=told)
        finally:
            other.kill()
    place.expect_checkpoint(run, STEPS)
    resumed(place, STEPS)


@row(
    "C10",
    "a resume with other threads and another prefetch",
    "SEG-R013",
    kept="L1",
    frameworks=True,
)
def row_c10(place: Place) -> None:
    """The same order of images and the same numbers."""
    places.with_data_of_finished(place)
    with during_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        answer = train(place)
    place.expect(answer, "SEG-R013", exit=75, path="run", observed="--resume")
    place.expect_checkpoint(place.folder / "run", 4)
    resumed(place, 4, *sets("loader.threads=0", "loader.prefetch=7", "validation.batch_size=1"))


@row(
    "C11",
    "a resume with another recipe, other data, other software",
    "SEG-C011",
    "SEG-C015",
    kept="L1",
)
def row_c11(place: Place) -> None:
    """What differs is listed; other data only with leave; other versions are noted."""
    places.make_images(place)
    with during_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert train(place).exit == 75
    run = place.folder / "run"
    with place.nothing_written():
        answer = train(place, "--resume", *sets("seed=4", "training.batch_size=3"))
        place.expect(answer, "SEG-C011", exit=4, observed=("seed", "training.batch_size"))
    places.save(places.images(place, "train")[0], np.zeros((*places.SIZE, 3), np.uint8))
    with place.nothing_written():
        answer = train(place, "--resume")
        refusal = ("train: the contents of image files", "--allow-changed-data")
        place.expect(answer, "SEG-C015", exit=4, path="run.json", observed=refusal)
    place.expect_checkpoint(run, 3)
    record = json.loads((run / "run.json").read_text())
    record["versions"]["numpy"] = "0.1"
    (run / "run.json").write_text(json.dumps(record))
    answer = train(place, "--resume", "--allow-changed-data")
    told = ("changed since the run began", "numpy: 0.1 →", "resuming after step 3")
    place.expect(answer, None, exit=0, observed=told)
    assert json.loads((run / "run.json").read_text())["resumed"][0]["after_step"] == 3


@row("C12", "a run folder that was copied, renamed or moved", kept="–")
def row_c12(place: Place) -> None:
    """Everything in it is found from where it lies."""
    run = places.copied_run(place)
    moved = place.folder / "elsewhere" / "renamed"
    moved.parent.mkdir()
    run.rename(moved)
    shutil.rmtree(moved / "checkpoints" / f"step-{STEPS:06d}")
    answer = train(place, "--resume", out="elsewhere/renamed")
    place.expect(answer, None, exit=0, observed="resuming after step 4")
    place.expect_equal_runs(moved, places.finished_run(place))
    place.expect(place.terrazzo("evaluate", moved), None, exit=0)
    for path in (moved / "checkpoints").rglob("*.json"):
        assert str(place.folder) not in path.read_text()


@row(
    "C13",
    "SIGTERM, SIGUSR1, SIGINT: once, twice, during a validation, during a save",
    "SEG-R013",
    kept="L1",
    frameworks=True,
)
def row_c13(place: Place) -> None:
    """Saved after the step and exit code 75; a second SIGINT ends at once."""
    places.with_data_of_finished(place)
    run = place.folder / "run"

    def send(number: int) -> None:
        os.kill(os.getpid(), number)

    @contextlib.contextmanager
    def sending() -> Iterator[None]:
        send(signal.SIGUSR1)
        yield

    moments = {
        2: during_step(2, lambda: send(signal.SIGTERM)),
        5: during_save(4, sending),
    }
    for step, moment in moments.items():
        with moment:
            answer = train(place, *(["--resume"] if step > 2 else []))
        told = f"stopped by a signal after step {step}"
        place.expect(answer, "SEG-R013", exit=75, path="run", observed=told)
        place.expect_checkpoint(run, step)
    resumed(place, 5)
    if place.backend != "reference":
        return
    shutil.rmtree(run)
    with paused(4, *places.run_words(), folder=place.folder) as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert any("once more" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        assert ended(process).exit == -signal.SIGINT
    place.expect_checkpoint(run, 3)
    resumed(place, 3)


@row("C14", "a clock that was put back", kept="L1")
def row_c14(place: Place) -> None:
    """The newest checkpoint is that of the highest step, whatever the times of the files."""
    run = places.copied_run(place)
    for number, path in enumerate(sorted((run / "checkpoints").iterdir())):
        os.utime(path, (2e9 - 1e8 * number,) * 2)
        for each in path.iterdir():
            os.utime(each, (2e9 - 1e8 * number,) * 2)
    place.expect_checkpoint(run, STEPS)
    resumed(place, STEPS)
