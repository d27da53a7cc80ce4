"""A scene shared by row bands: the bytes of one process, whoever did the rows and whoever died."""

from __future__ import annotations

import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import psutil
import pytest

from terrazzo.base import ray_cluster
from terrazzo.base.errors import CheckpointError, ConfigError, DataError, ResourceError
from terrazzo.base.progress import Silent
from terrazzo.inference import jobs, map_writer, row_journal
from terrazzo.inference.outputs import Settings, Work
from terrazzo.inference.predict import order_for
from terrazzo.inference.predict import predict as predict_scenes
from terrazzo.inference.process_pool import ProcessPool
from terrazzo.inference.row_journal import RowBand
from terrazzo.inference.tiled_prediction import Scene, Tiling
from terrazzo.inference.unfinished_map import PartialMap, folder_of, has_rows
from terrazzo.io import rasters
from terrazzo.runs import saved_model
from terrazzo.runs.model_source import ModelSource
from terrazzo.testing.scenes import UTM, make_model, make_scene

SMALL = Tiling(tile=32, overlap=12, batch_size=3)
TILINGS = (
    SMALL,
    Tiling(tile=32, overlap=25, blend="cosine"),  # three tiles share a pixel
    Tiling(tile=32, overlap=12, blend="none"),
)


class Reversed:
    """Does all bands in this process, the last one first."""

    size = 3

    def __init__(self, trainer):
        self.trainer = trainer
        self.bands = []

    def do(self, tasks):
        for task in reversed(list(tasks)):
            self.bands.append(task.band)
            jobs.work(self.trainer, task, lambda: None)
            yield task


def make_map(model: Path, source: Path, out: Path, executor, *, resume=False, **settings):
    card = saved_model.read_card(model)
    scene = Scene.of_file(source, tuple(range(len(card.bands))))
    settings = Settings(**{"tiling": SMALL, **settings})
    probabilities = out.with_name(f"{out.stem}_probabilities.tif")
    work = Work(source, out, probabilities=probabilities if settings.probabilities else None)
    order = order_for(scene, card, work, settings, ("model",))
    return list(map_writer.make_maps([order], executor, resume=resume))


def alone(model: Path):
    return jobs.ThisProcess(saved_model.load(model)[1], lambda: None)


@pytest.mark.parametrize("rows", [1, 32, 33, 200, 211])
@pytest.mark.parametrize("most", [1, 2, 3, 50])
def test_bands_divide_the_rows(rows, most):
    bands = SMALL.row_bands(rows, most)
    assert len(bands) <= most
    assert bands[0].first == 0
    assert bands[-1].last == rows
    assert all(one.last == other.first for one, other in itertools.pairwise(bands))
    assert all(band.first < band.last for band in bands)


def test_there_is_a_band_for_each_worker():
    assert SMALL.row_bands(400, 3) == (RowBand(0, 123), RowBand(123, 263), RowBand(263, 400))


@pytest.mark.parametrize("tiling", TILINGS, ids=["linear", "threefold", "none"])
def test_bands_give_the_bytes_of_one(tmp_path, tiling):
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (211, 75, 3), nodata=0)
    make_map(model, source, tmp_path / "one.tif", alone(model), tiling=tiling, probabilities=True)
    executor = Reversed(saved_model.load(model)[1])
    make_map(model, source, tmp_path / "bands.tif", executor, tiling=tiling, probabilities=True)
    assert len(executor.bands) == 3
    for end in (".tif", "_probabilities.tif"):
        assert (tmp_path / f"one{end}").read_bytes() == (tmp_path / f"bands{end}").read_bytes()
    assert not list(tmp_path.glob(".*.partial"))


def test_a_resume_keeps_the_bands_it_finds(tmp_path):
    """So the number of workers may differ."""
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (211, 75, 3))
    executor = Reversed(saved_model.load(model)[1])
    calls = []

    def fail_at_the_last(trainer, task, row_done):
        calls.append(task)
        if len(calls) == 3:
            raise DataError("SEG-D011", "cut off")
        original(trainer, task, row_done)

    original, jobs.work = jobs.work, fail_at_the_last
    try:
        with pytest.raises(DataError, match="cut off"):
            make_map(model, source, tmp_path / "map.tif", executor)
    finally:
        jobs.work = original
    assert not (tmp_path / "map.tif").exists()
    rows = []
    executor = jobs.ThisProcess(executor.trainer, lambda: rows.append(1))
    make_map(model, source, tmp_path / "map.tif", executor, resume=True)
    assert len(rows) == 3  # those of the first band
    make_map(model, source, tmp_path / "one.tif", alone(model))
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "one.tif").read_bytes()


def test_a_resume_on_another_device_is_refused(tmp_path):
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (100, 75, 3))
    out = tmp_path / "map.tif"

    class Elsewhere(type(saved_model.load(model)[1])):
        device = "cuda:0"

    def stop_after_a_row():
        raise ArithmeticError

    executor = jobs.ThisProcess(saved_model.load(model)[1], stop_after_a_row)
    for again in range(2):  # the first row of tiles is in the journal after its end
        with pytest.raises(ArithmeticError):
            make_map(model, source, out, executor, resume=bool(again))
    executor.trainer.__class__ = Elsewhere
    with pytest.raises(CheckpointError, match="another device"):
        make_map(model, source, out, executor, resume=True)


def predict(model: Path, sources: list[Path], out: Path, **settings):
    settings = Settings(**{"tiling": SMALL, **settings})
    return predict_scenes(model, sources, out, settings, progress=Silent())


def test_workers(tmp_path):
    """Rows of one scene, then scenes of a folder; and an error met in a worker."""
    model = make_model(tmp_path / "model")
    (tmp_path / "scenes").mkdir()
    sources = [
        make_scene(tmp_path / "scenes" / f"{n}.tif", (211, 75, 3), nodata=0, seed=n)
        for n in range(3)
    ]
    predict(model, [tmp_path / "scenes"], tmp_path / "one")
    shared = predict(model, [tmp_path / "scenes"], tmp_path / "two", workers=2)
    assert sorted(each.path.name for each in shared) == ["0.tif", "1.tif", "2.tif"]
    predict(model, sources[:1], tmp_path / "two" / "rows.tif", workers=2)
    for name in ("0.tif", "1.tif", "2.tif"):
        expected = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "two" / name).read_bytes() == expected
    assert (tmp_path / "two" / "rows.tif").read_bytes() == (tmp_path / "one" / "0.tif").read_bytes()
    holes = np.random.default_rng(0).random((211, 75, 1), np.float32)
    holes[170, 3] = np.inf
    rasters.write(tmp_path / "inf.tif", holes, **UTM)
    grey = make_model(tmp_path / "grey", 1, "float32")
    with pytest.raises(DataError, match="row 170, column 3"):
        predict(grey, [tmp_path / "inf.tif"], tmp_path / "inf_map.tif", workers=2)
    assert not (tmp_path / "inf_map.tif").exists()


def test_a_worker_that_dies_is_told_at_once(tmp_path):
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (400, 300, 3))
    executor = ProcessPool(
        ModelSource(model), 2, lambda: os.kill(executor._workers[0].process.pid, signal.SIGKILL)
    )
    with pytest.raises(ResourceError, match="SIGKILL") as caught, executor:
        make_map(model, source, tmp_path / "map.tif", executor)
    assert caught.value.code == "SEG-R001"
    assert not (tmp_path / "map.tif").exists()
    assert not any(worker.process.is_alive() for worker in executor._workers)
    make_map(model, source, tmp_path / "map.tif", alone(model), resume=True)
    make_map(model, source, tmp_path / "one.tif", alone(model))
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "one.tif").read_bytes()


def command(model: Path, source: Path, out: Path, *more: str) -> list[str]:
    code = "from terrazzo.cli.app import main; main()"
    tiling = ("--tile", "32", "--overlap", "12", "--batch-size", "3")
    start = [sys.executable, "-c", code, "predict", str(model), str(source)]
    return [*start, "--out", str(out), *tiling, *more]


def test_workers_die_with_their_parent(tmp_path):
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (800, 200, 3))
    out = tmp_path / "map.tif"
    with subprocess.Popen(
        command(model, source, out, "--workers", "2"), stderr=subprocess.PIPE
    ) as parent:
        deadline = time.monotonic() + 60
        while not has_rows(folder_of(out)):
            assert time.monotonic() < deadline
            assert parent.poll() is None, parent.stderr.read()
            time.sleep(0.01)
        workers = psutil.Process(parent.pid).children()
        parent.kill()
    assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    assert not out.exists()
    predict(model, [source], out, resume=True)
    predict(model, [source], tmp_path / "one.tif")
    assert out.read_bytes() == (tmp_path / "one.tif").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray(tmp_path):
    """A local Ray with two actors: rows of one scene, and scenes of a folder."""
    model = make_model(tmp_path / "model")
    (tmp_path / "scenes").mkdir()
    for n in range(2):
        make_scene(tmp_path / "scenes" / f"{n}.tif", (211, 75, 3), nodata=0, seed=n)
    predict(model, [tmp_path / "scenes"], tmp_path / "one")
    for source, out in (
        (tmp_path / "scenes" / "0.tif", tmp_path / "rows.tif"),
        (tmp_path / "scenes", tmp_path / "many"),
    ):
        done = subprocess.run(
            # Relative paths: the actors work in another folder.
            command(
                *(path.relative_to(tmp_path) for path in (model, source, out)),
                *("--ray", "local", "--workers", "2"),
            ),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
    expected = (tmp_path / "one" / "0.tif").read_bytes()
    assert (tmp_path / "rows.tif").read_bytes() == expected
    for name in ("0.tif", "1.tif"):
        expected = (tmp_path / "one" / name).read_bytes()
        assert (tmp_path / "many" / name).read_bytes() == expected


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_more_actors_than_the_cluster_has_room_for(tmp_path):
    """Ray would wait for ever; a cluster made here has at least as many processors as asked for."""
    cluster = ray_cluster.Cluster(None, "auto", cpus=6, gpus=2)
    assert (cluster.workers(None), cluster.workers(1)) == (2, 1)
    with pytest.raises(
        ConfigError, match=r"SEG-X072(.|\n)*3 workers, each with a GPU(.|\n)*up to 2"
    ):
        cluster.workers(3)
    with ray_cluster.joined("local", 5) as made:
        assert made.workers(None) == made.cpus >= 5


def test_without_ray_the_pip_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (40, 40, 3))
    with pytest.raises(ValueError, match=r"terrazzo\[ray\]"):
        predict(model, [source], tmp_path / "map.tif", ray="auto")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto"])
def test_an_address_where_nobody_listens_is_told_at_once(address, tmp_path, monkeypatch):
    """Ray itself would try again for ever."""
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))  # it is not asked
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text("127.0.0.1:1\n")  # it has ended
    words = rf"SEG-X033(.|\n)*no cluster answers(.|\n)*{address}: .*refused"
    with pytest.raises(ConfigError, match=words), ray_cluster.joined(address):
        pass


def test_rows_that_are_waited_for_are_read_when_there_are_more(tmp_path, monkeypatch):
    """Whoever waits looks at sizes; the lines of a journal are read when these have changed."""
    bands, layers = (RowBand(0, 6), RowBand(6, 8)), (row_journal.Layer("labels", (4,), "uint8"),)
    rows = PartialMap.begin(tmp_path, {}, bands, layers)
    labels_RW = np.arange(32, dtype=np.uint8).reshape(8, 4)
    journals = [row_journal.RowJournal.open(rows.journal_folder(b), b, layers) for b in bands]
    looks, read, lines = [], [], row_journal.read_lines
    monkeypatch.setattr(row_journal, "read_lines", lambda *a: read.append(a) or lines(*a))
    # The second band is finished first; the first one by two rows at every tenth look.
    made = [(journals[1], 6, 8), *((journals[0], row, row + 2) for row in (0, 2, 4))]

    def wait():
        looks.append(None)
        if len(looks) % 10 == 0:
            journal, first, last = made.pop(0)
            journal.append({"labels": labels_RW[first:last]}, {})

    found = list(rows.groups("labels", 5, wait))
    assert np.array_equal(np.concatenate(found), labels_RW)
    assert len(looks) == 40
    assert len(read) <= 8  # at the beginning of a wait, and after each time that rows came
