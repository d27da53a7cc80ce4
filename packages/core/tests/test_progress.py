"""Lines of progress where there is no terminal."""

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.progress import Progress as Bar
from rich.progress import TextColumn

import terrazzo
from terrazzo.base import progress
from terrazzo.base.console import PlainConsole
from terrazzo.base.progress import Pace, PlainLines, TerminalBar
from terrazzo.inference import predict
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.testing.scenes import make_model, make_scene


class Clock:
    """Seconds that pass when the test says so, or a given number with each look."""

    def __init__(self, seconds_a_look=0.0):
        self.now, self.seconds_a_look = 100.0, seconds_a_look

    def __call__(self):
        self.now += self.seconds_a_look
        return self.now


def counted(capsys, steps, seconds_a_step, *, begun_at=0, total=1000, text="train  loss 0.5"):
    clock = Clock()
    lines = PlainLines(clock)
    for step in range(begun_at + 1, begun_at + steps + 1):
        clock.now += seconds_a_step
        lines.advance(step, total, text)
    return capsys.readouterr().err.splitlines()


def test_a_fast_count_has_a_line_each_tenth(capsys):
    shown = counted(capsys, 1000, 0.15)
    assert [line.split("/")[0] for line in shown] == [f"{100 * k + 1}" for k in range(1, 10)]
    assert shown[0] == "101/1000 train  loss 0.5  about 2 min left"


def test_a_slow_count_has_a_line_each_half_minute(capsys):
    shown = counted(capsys, 90, 1.0)
    assert [line.split()[0] for line in shown] == ["30/1000", "60/1000", "90/1000"]
    assert shown[-1] == "90/1000 train  loss 0.5  about 15 min left"


def test_a_count_of_a_moment_has_no_line(capsys):
    assert counted(capsys, 1000, 0.005) == []


def test_the_first_line_comes_although_its_step_took_an_hour(capsys):
    assert counted(capsys, 1, 3600.0) == ["1/1000 train  loss 0.5"]


def test_what_an_earlier_process_did_does_not_count_as_pace(capsys):
    shown = counted(capsys, 31, 1.0, begun_at=900)
    assert shown == ["930/1000 train  loss 0.5  about 70 s left"]


def test_validations_are_timed_apart_and_hold_training_up(capsys):
    clock = Clock()
    lines = PlainLines(clock)
    for step in range(1, 101):
        clock.now += 1
        lines.advance(step, 100, "train  loss 0.5")
        if step % 10 == 0:
            for image in range(5):
                clock.now += 2
                lines.advance(image, 5, "score val")
    shown = capsys.readouterr().err.splitlines()
    half = next(line for line in shown if re.match(r"5\d/100 train", line))
    step = int(half.split("/")[0])
    seconds = re.search(r"about (\d+) s left", half)
    assert abs(int(seconds[1]) - 2 * (100 - step)) <= 15


def test_a_bar_tells_the_time_left():
    clock = Clock()
    console = PlainConsole(file=io.StringIO(), force_terminal=True)
    with Bar(TextColumn("{task.description}", markup=False), console=console) as bar:
        shown = TerminalBar(bar, bar.add_task("", total=None), Pace(clock))
        for done in (10, 20, 30):
            shown.advance(done, 100, f"train  loss {done}")
            clock.now += 10
        assert bar.tasks[0].description == "train  loss 30  about 70 s left"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_names_as_text(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown("[/a] :smile:") as shown:
        shown.advance(1, 2, "train [red]x[/a]\x1b[2J")
        shown.say("[/b] :smile:\x1b[2J")
    text = terminal.getvalue()
    assert "train [red]x[/a]\\x1b[2J" in text
    assert "[/b] :smile:\\x1b[2J" in text
    assert "\x1b[2J" not in text


@pytest.fixture
def recipe(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.full((8, 8, 3)[: 3 if name == "images" else 2], number % 2, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    classes = [{"name": f"c{k}", "colour": f"#00000{k}", "raw": [k]} for k in range(2)]
    (tmp_path / "labels.toml").write_text(f'name = "x"\nclasses = {as_toml(classes)}\n')
    return terrazzo.load_recipe(
        {
            "backend": "reference",
            "data": {
                "format": "folder",
                "root": str(tmp_path / "data"),
                "labels": str(tmp_path / "labels.toml"),
                "options": {"split": {"train": 0.6, "val": 0.2, "test": 0.2}},
            },
            "model": {"name": "pixel_softmax"},
            "training": {"epochs": 20, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
            "log": {"every_steps": 1},
        }
    )


def as_toml(classes):
    return "[" + ",".join(
        f'{{name="{c["name"]}",colour="{c["colour"]}",raw={c["raw"]}}}' for c in classes
    ) + "]"  # fmt: skip


def test_a_run_without_a_terminal_tells_loss_ignored_pixels_and_time_left(recipe, tmp_path, capsys):
    terrazzo.train(recipe, tmp_path / "out", progress=PlainLines(Clock(0.5)))
    shown = [line for line in capsys.readouterr().err.splitlines() if "/60 train" in line]
    assert 2 <= len(shown) <= 15
    for line in shown[1:-1]:
        assert re.fullmatch(
            r"\d+/60 train  loss \d\.\d{4}  ignored \d+%  about \d+ (s|min) left", line
        )


def test_prediction_of_a_scene_tells_speed_and_time_left_without_a_terminal(
    tmp_path, capsys, monkeypatch
):
    make_model(tmp_path / "model")
    make_scene(tmp_path / "s.tif", (200, 100, 3))
    clock = Clock(20.0)
    monkeypatch.setattr(predict._RowsDone, "__init__", partial_clock(clock))
    settings = Settings(tiling=Tiling(tile=32, overlap=12))
    lines = PlainLines(clock)
    predict.predict(
        tmp_path / "model", tmp_path / "s.tif", tmp_path / "m.tif", settings, progress=lines
    )
    shown = [line for line in capsys.readouterr().err.splitlines() if " predict" in line]
    speeds = [
        line for line in shown if re.search(r"\d+/10 predict  0\.00 Mpx/s  about .* left", line)
    ]
    assert len(speeds) > 5, shown


def partial_clock(clock):
    """Return an initialiser of `_RowsDone` whose time is the test's."""
    original = predict._RowsDone.__init__

    def initialise(self, progress, total, pixels):
        original(self, progress, total, pixels, clock)

    return initialise


def test_a_resumed_scene_counts_only_what_this_process_did():
    class Told(progress.Silent):
        lines = ()

        def advance(self, done, total, text):
            self.lines += ((done, total, text),)

    told, clock = Told(), Clock()
    counter = predict._RowsDone(told, 10, 20_000_000, clock)
    size = SimpleNamespace(rows=200)
    order = SimpleNamespace(
        tiling=Tiling(tile=32, overlap=12), scene=SimpleNamespace(info=size, area=None)
    )
    rows = SimpleNamespace(finished_rows=100)
    counter.map_begun(SimpleNamespace(rows=rows, order=order))
    clock.now += 4
    counter.row_done()
    assert told.lines == ((5, 10, "predict"), (6, 10, "predict  0.50 Mpx/s"))
