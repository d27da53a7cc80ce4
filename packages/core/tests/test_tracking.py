"""Runs that are shown elsewhere: with trackers that work, hang, fail, and with the real ones."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from terrazzo import tracking
from terrazzo.base.errors import ConfigError, Stopped
from terrazzo.base.recipe import Config
from terrazzo.comparison import compare
from terrazzo.report import run_figure_files
from terrazzo.runs.folder import RunFolder, deciding_settings
from terrazzo.testing.compared_runs import write_run
from terrazzo.tracking import log_follower, mlflow, run_summary
from terrazzo.workflows import train as train_workflow

LABELS = """
name = "colours"
ignored = [9]
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green & <blue>", colour = "#00FF00", raw = [1] },
    { name = "never seen", colour = "#0000FF", raw = [2] },
]
"""
STEPS = 9


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten images whose colour tells the class."""
    folder = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(10):
        mask = draw.integers(0, 2, (16, 12)).astype(np.uint8)
        image = np.zeros((16, 12, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 150 + draw.integers(0, 100, (16, 12, 2))
        mask[0] = 9
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    (folder / "labels.toml").write_text(LABELS)
    return folder


def recipe(data, **tracked):
    values = {
        "backend": "reference",
        "name": "colours",
        "data": {
            "format": "folder",
            "root": str(data),
            "labels": str(data / "labels.toml"),
            "options": {"split": {"train": 0.6, "val": 0.2, "test": 0.2}},
        },
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 3, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
        "loader": {"threads": 0},
        "checkpoint": {"every_steps": 2},
        "log": {"every_steps": 1},
    }
    return Config.model_validate(values | ({"tracking": tracked} if tracked else {}))


@dataclass
class Told:
    """Progress that remembers what it was told."""

    lines: list[str] = field(default_factory=list)

    def advance(self, done, total, text):
        pass

    def say(self, text):
        self.lines.append(text)

    def about(self, word):
        return [line for line in self.lines if line.startswith(word)]


@dataclass
class Fake:
    """A tracker in memory; `trouble` is called before every method does its work."""

    trouble: object = lambda name: None
    points: list = field(default_factory=list)
    begun: list = field(default_factory=list)
    finished: list = field(default_factory=list)

    def begin(self, about):
        self.trouble("begin")
        self.begun.append(about)
        arrived = {}
        for kind, marker in run_summary.MARKERS.items():
            arrived[kind] = max(
                (step for step, values in self.points if marker in values), default=-1
            )
        return arrived

    def send(self, points):
        self.trouble("send")
        self.points += points

    def finish(self, status, results):
        self.trouble("finish")
        self.finished.append((status, results))
        self.points += [results.scores] if results else []


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(log_follower, "SECONDS_BETWEEN_SENDS", 0.001)
    monkeypatch.setattr(log_follower, "SECONDS_BEFORE_RETRY", 0.001)


def run(data, out, monkeypatch, fake=None, *, draw=False, **arguments):
    """Run in this process, with `fake` for a tracker; returns what was said."""
    told = Told()
    if not draw:
        monkeypatch.setattr(run_figure_files, "draw", lambda record, split: {})
    made = {} if fake is None else {"fake": fake}
    monkeypatch.setattr(tracking, "trackers", lambda settings, folder: made)
    config = recipe(data, deadline=arguments.pop("deadline", 60.0))
    train_workflow.train(config, out, progress=told, **arguments)
    return told


def log(folder, kind=None):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if kind in (None, line["kind"])]


def series(points, name):
    return [(step, values[name]) for step, values in points if name in values]


def test_a_tracker_gets_settings_every_line_and_the_results(data, tmp_path, monkeypatch):
    fake = Fake()
    told = run(data, tmp_path / "run", monkeypatch, fake, draw=True)
    assert not told.about("fake")
    (about,) = fake.begun
    assert about.settings["training.epochs"] == "3"
    assert not any(key.startswith(("tracking", "loader")) for key in about.settings)
    assert about.tags["terrazzo.backend"] == "reference"
    assert len(about.tags["terrazzo.recipe_digest"]) == 64
    train, validations = log(tmp_path / "run", "train"), log(tmp_path / "run", "validation")
    assert len(train) == STEPS
    assert series(fake.points, "train/loss") == [(each["step"], each["loss"]) for each in train]
    assert len(series(fake.points, "train/learning_rate")) == STEPS
    shares = [(each["step"], each["ignored_share"]) for each in train]
    assert series(fake.points, "train/ignored_share") == shares
    found = [(each["step"], each["mean_iou"]) for each in validations]
    assert series(fake.points, "val/mean_iou") == found
    assert len(series(fake.points, "val/iou/green _ _blue_")) == len(validations) == 3
    assert not series(fake.points, "val/iou/never seen")
    ((status, results),) = fake.finished
    assert status == "finished"
    summary = json.loads((tmp_path / "run" / "evaluation" / "test.json").read_text())
    assert results.scores[1]["test/iou/red"] == summary["per_class"]["iou"][0]
    assert set(results.figures) == {
        "loss", "learning_rate", "validation", "cross_entropy", "confusion_test", "examples_test",
    }  # fmt: skip
    assert all(png.startswith(b"\x89PNG") for png in results.figures.values())
    assert (results.model / "model.toml").is_file()
    assert [path.name for path in results.files] == ["config.toml", "labels.toml", "report.html"]


def test_a_run_that_is_tracked_is_the_run_that_is_not(data, tmp_path, monkeypatch):
    run(data, tmp_path / "alone", monkeypatch)
    run(data, tmp_path / "shown", monkeypatch, Fake())
    for name in ("log.jsonl", "model/weights.safetensors", "evaluation/test.json"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "shown" / name).read_bytes()
    one, other = recipe(data), recipe(data, kind="mlflow", experiment="x")
    assert run_summary.digest(deciding_settings(one)) == run_summary.digest(
        deciding_settings(other)
    )


def test_a_dead_tracker_is_told_of_once_and_changes_nothing(data, tmp_path, monkeypatch, impatient):
    def dead(name):
        msg = "nobody at http://anna:secret@server/api"
        raise ConnectionError(msg)

    fake = Fake(dead)
    told = run(data, tmp_path / "run", monkeypatch, fake)
    assert len(log(tmp_path / "run")) == STEPS + 3
    first, last = told.about("fake")
    assert "goes on without it" in first
    assert "nobody at http://server/api" in first
    assert "secret" not in "".join(told.lines)
    assert f"{STEPS + 3} lines" in last
    assert "--resume" in last
    timing = (tmp_path / "run" / "timing.jsonl").read_text()
    assert timing.count('"error"') == 1
    assert "secret" not in timing


@pytest.mark.parametrize("where", ["begin", "send", "finish"])
def test_a_tracker_that_hangs_holds_up_a_run_no_longer_than_the_deadline(
    data, tmp_path, monkeypatch, impatient, where
):
    released = threading.Event()
    fake = Fake(lambda name: released.wait() if name == where else None)
    begun = time.monotonic()
    told = run(data, tmp_path / "run", monkeypatch, fake, deadline=0.2)
    assert time.monotonic() - begun < 30
    released.set()
    assert len(log(tmp_path / "run")) == STEPS + 3
    (line,) = told.about("fake")
    assert "did not take everything" in line


@pytest.mark.parametrize("where", ["begin", "send", "finish"])
def test_a_tracker_that_comes_back_gets_every_value_once(
    data, tmp_path, monkeypatch, impatient, where
):
    failures = iter([True, False] * 3)

    def now_and_then(name):
        if name == where and next(failures, False):
            msg = "not now"
            raise TimeoutError(msg)

    fake = Fake(now_and_then)
    # A failure at the very end is not tried again: the run would have to wait for it.
    told = run(data, tmp_path / "run", monkeypatch, fake)
    assert series(fake.points, "train/loss") == [
        (each["step"], each["loss"]) for each in log(tmp_path / "run", "train")
    ]
    assert len(series(fake.points, "val/mean_iou")) == 3
    assert len(told.about("fake fails")) == 1
    if where == "finish":
        assert "did not take everything: 0 lines" in told.about("fake")[1]
        run(data, tmp_path / "run", monkeypatch, fake, resume=True)
    else:
        assert "has the whole run" in told.about("fake")[1]
    assert [status for status, _ in fake.finished] == ["finished"]
    assert len(series(fake.points, "test/mean_iou")) == 1


def test_stopped_and_resumed_no_step_is_shown_twice(data, tmp_path, monkeypatch, impatient):
    fake = Fake()
    for stop_after in (3, 2):  # seven steps in two parts, and the rest
        asked = iter(range(1, 100))
        with pytest.raises(Stopped):
            run(
                data, tmp_path / "run", monkeypatch, fake, resume=(tmp_path / "run").exists(),
                stop_requested=lambda asked=asked, at=stop_after: next(asked) == at,
            )  # fmt: skip
        # As a kill leaves it: the log of steps that are not in a checkpoint.
    fake.points.append((6, {"train/loss": 0.5}))
    run(data, tmp_path / "run", monkeypatch, fake, resume=True)
    run(data, tmp_path / "run", monkeypatch, fake, resume=True)
    assert [step for step, _ in series(fake.points, "train/loss")] == list(range(1, STEPS + 1))
    assert [step for step, _ in series(fake.points, "val/mean_iou")] == [3, 6, 9]
    assert len(series(fake.points, "test/mean_iou")) == 1
    assert [status for status, _ in fake.finished] == ["stopped"] * 2 + ["finished"] * 2


def test_what_a_tracker_missed_arrives_at_the_resume(data, tmp_path, monkeypatch):
    run(data, tmp_path / "run", monkeypatch)
    fake = Fake()
    run(data, tmp_path / "run", monkeypatch, fake, resume=True)
    assert len(series(fake.points, "train/loss")) == STEPS
    assert fake.finished[0][0] == "finished"


def test_lines_that_come_fast_are_sent_together(data, tmp_path, monkeypatch):
    sends = []
    fake = Fake(lambda name: sends.append(name))
    run(data, tmp_path / "run", monkeypatch, fake)
    assert sends.count("send") <= 3


def test_half_a_line_waits_for_its_end(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"st')
    lines, end = log_follower._read_lines(path, 0)
    assert (lines, end) == ([{"step": 1}], 12)
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert log_follower._read_lines(path, end)[0] == [{"step": 2}]


def test_class_names_become_keys_that_differ():
    names = ("road", "a/b", "a&b", "..", "Straße", "terrain ")
    assert run_summary.class_keys(names) == ("road", "a_b 1", "a_b 2", "__", "Stra_e", "terrain")


def test_settings_of_both_recipe_and_command_line_are_used(data):
    config = tracking.also(recipe(data, kind="mlflow", experiment="mine"), ["tensorboard"])
    assert config.tracking.kind == ("mlflow", "tensorboard")
    assert config.tracking.experiment == "mine"
    assert tracking.also(recipe(data), ["mlflow"]).tracking.kind == ("mlflow",)
    with pytest.raises(ConfigError, match=r"SEG-X004(.|\n)*did you mean 'mlflow'"):
        tracking.also(recipe(data), ["mlfow"])


def test_where_a_run_is_shown_is_no_difference_between_runs(tmp_path):
    folders = [write_run(tmp_path / name, error=0.2) for name in ("one", "two")]
    with (folders[0] / "config.toml").open("a") as file:
        file.write('[tracking]\nkind = "mlflow"\n')
    assert not compare.differing_settings(compare.compare(folders, resamples=10))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("mlruns", "sqlite:///FILE.db"),
        ("file:///tmp/mlruns", "sqlite:///FILE.db"),
        ("ftp://anna:secret@server", "ftp://server"),
        ("sqlite:////nowhere/at/all.db", "the folder of the SQLite file is not there"),
    ],
)
def test_a_uri_that_cannot_be_is_refused_before_anything_is_written(data, tmp_path, uri, expected):
    config = recipe(data, kind="mlflow", uri=uri)
    with pytest.raises(ConfigError, match="SEG-X051") as caught:
        train_workflow.train(config, tmp_path / "run", progress=Told())
    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "package"), [("mlflow", "mlflow"), ("tensorboard", "tensorboardX")]
)
def test_a_missing_package_is_named_with_the_pip_line_before_training(
    data, tmp_path, kind, package
):
    text = (
        'backend = "reference"\n[data]\nformat = "folder"\n'
        f'root = "{data}"\nlabels = "{data}/labels.toml"\n'
        '[model]\nname = "pixel_softmax"\n[training]\nepochs = 1\n'
    )
    (tmp_path / "colours.toml").write_text(text)
    program = (
        "import sys\n"
        f"sys.modules[{package!r}] = None\n"
        f"sys.argv = ['terrazzo', 'run', '--config', 'colours.toml', '--track', {kind!r}]\n"
        "from terrazzo.cli.app import main\n"
        "main()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "SEG-X050" in answer.stderr
    assert f"pip install 'terrazzo[{kind}]'" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "runs").exists()


def stop_and_resume(config, out):
    """Run to the end in two parts; returns what was said."""
    told = Told()
    asked = iter(range(1, 100))
    with pytest.raises(Stopped):
        train_workflow.train(config, out, progress=told, stop_requested=lambda: next(asked) == 4)
    train_workflow.train(config, out, progress=told, resume=True)
    return told


def events(folder):
    """Every record of the event files of a folder, in the order TensorBoard reads them."""
    from tensorboardX.proto import event_pb2

    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def test_tensorboard_files_hold_each_step_once(data, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    told = stop_and_resume(recipe(data, kind="tensorboard"), tmp_path / "run")
    assert not told.about("tensorboard")
    found = list(events(tmp_path / "run" / "tensorboard"))
    restarts = [k for k, each in enumerate(found) if each.HasField("session_log")]
    assert len(restarts) == 1
    assert found[restarts[0]].step == 0  # everything before it is taken back
    scalars, images, texts = [], set(), set()
    for event in found[restarts[0] :]:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                scalars.append((event.step, {value.tag: value.simple_value}))
            elif value.HasField("image"):
                assert value.image.encoded_image_string.startswith(b"\x89PNG")
                images.add(value.tag)
            else:
                texts.add(value.tag)
    losses = [(each["step"], each["loss"]) for each in log(tmp_path / "run", "train")]
    shown = series(scalars, "train/loss")
    assert [step for step, _ in shown] == [step for step, _ in losses]
    assert [loss for _, loss in shown] == pytest.approx([loss for _, loss in losses], rel=1e-6)
    assert [step for step, _ in series(scalars, "val/iou/red")] == [3, 6, 9]
    assert len(series(scalars, "test/mean_iou")) == 1
    assert "figures/confusion_test" in images
    assert {"recipe/text_summary", "tags/text_summary", "status/text_summary"} <= texts


@pytest.mark.filterwarnings("ignore")  # its own and those of what it imports
def test_mlflow_goes_on_with_the_same_run_and_shows_no_step_twice(data, tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow._make_file(tmp_path / "mlflow.db")  # takes longer than a stopped run waits
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    told = stop_and_resume(recipe(data, kind="mlflow", uri=uri, experiment="e"), tmp_path / "run")
    assert not told.about("mlflow")
    client = MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    run_id = json.loads((tmp_path / "run" / "mlflow.json").read_text())["run_id"]
    assert (found.info.run_id, found.info.status) == (run_id, "FINISHED")
    history = client.get_metric_history(run_id, "train/loss")
    losses = [(each["step"], each["loss"]) for each in log(tmp_path / "run", "train")]
    assert sorted((each.step, each.value) for each in history) == losses
    history = client.get_metric_history(run_id, "val/iou/red")
    assert sorted(each.step for each in history) == [3, 6, 9]
    assert found.data.params["training.epochs"] == "3"
    assert found.data.tags["terrazzo.model"] == "pixel_softmax"
    for folder, name in (("model", "weights.safetensors"), ("figures", "confusion_test.png")):
        names = [each.path for each in client.list_artifacts(run_id, folder)]
        assert f"{folder}/{name}" in names


@pytest.mark.filterwarnings("ignore")
def test_mlflow_at_a_closed_port_does_not_stop_a_run(data, tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    told = Told()
    config = recipe(data, kind="mlflow", uri="http://127.0.0.1:9", deadline=20.0)
    train_workflow.train(config, tmp_path / "run", progress=told)
    assert len(log(tmp_path / "run")) == STEPS + 3
    assert len(told.about("mlflow fails")) == 1
    assert RunFolder(tmp_path / "run").model.is_dir()
