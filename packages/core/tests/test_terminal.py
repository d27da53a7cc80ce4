"""Commands whose terminal or pipe is closed, full or gone: real processes, the NumPy backend."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from terrazzo.base import config_parsing

RECIPE = """
backend = "reference"
name = "tiny"

[data]
format = "folder"
root = "data"
labels = "labels.toml"
options = { split = { train = 0.6, val = 0.2, test = 0.2 } }

[model]
name = "pixel_softmax"

[training]
epochs = 2
batch_size = 2
schedule = { learning_rate = 0.05 }

[log]
every_steps = 1
"""
LABELS = """
name = "tiny"
classes = [
    { name = "dark – dunkel", colour = "#FF0000", raw = [0] },
    { name = "bright", colour = "#00FF00", raw = [1] },
]
"""
PROGRAM = f'{sys.executable} -c "from terrazzo.cli.app import main; main()"'
RUN = f"{PROGRAM} run --config tiny.toml --out out"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    draw = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / "data" / name).mkdir(parents=True)
    for number in range(10):
        mask = draw.integers(0, 2, (8, 8)).astype(np.uint8)
        image = np.repeat(mask[..., None] * 150, 3, axis=2)
        Image.fromarray(image).save(folder / "data" / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "data" / "masks" / f"{number}.png")
    (folder / "labels.toml").write_text(LABELS, encoding="utf-8")
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def folder(files, tmp_path):
    for each in files.iterdir():
        (tmp_path / each.name).symlink_to(each)
    return tmp_path


def shell(folder, line, **environment):
    """Run a line in a shell; its exit code is that of the first command that fails."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=folder, capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL, env=os.environ | environment,
    )  # fmt: skip


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_quiet(answer):
    for word in ("Traceback", "Exception ignored", "BrokenPipe"):
        assert word not in answer.stderr


@pytest.mark.parametrize(
    ("redirection", "stream"),
    [
        ("2>&1 | head -1", "standard error"),
        (" | true", "standard output"),
        ("2>&-", "standard error"),
        (">&- 2>&- <&-", "standard error"),
        ("> /dev/full", "standard output"),
        ("2> /dev/full", "standard error"),
    ],
)
def test_a_run_outlives_its_terminal(folder, redirection, stream):
    answer = shell(folder, f"{RUN} {redirection}")
    assert answer.returncode == 0, answer.stderr
    assert_quiet(answer)
    assert (folder / "out" / "report.html").exists()
    log = (folder / "out" / "log.jsonl").read_text()
    assert "terminal" not in log
    assert [line["step"] for line in map(json.loads, log.splitlines())][-1] == 6
    told = [line.get("terminal", "") for line in lines(folder / "out" / "timing.jsonl")]
    assert any(stream in line for line in told), told


def test_the_log_is_the_same_with_and_without_a_terminal(folder):
    assert shell(folder, RUN).returncode == 0
    assert shell(folder, f"{RUN}2 2>&- >&-").returncode == 0
    assert (folder / "out" / "log.jsonl").read_bytes() == (
        folder / "out2" / "log.jsonl"
    ).read_bytes()


@pytest.mark.parametrize(
    "words", ["list labels", "list models", "--help", "check data --labels labels.toml --json"]
)
def test_other_commands_end_as_sigpipe_ends_them_when_nobody_reads(folder, words):
    answer = shell(folder, f"{PROGRAM} {words} | (exec <&-; sleep 0)", XDG_CACHE_HOME=str(folder))
    assert answer.returncode == 141, answer.stderr
    assert answer.stderr == ""


def test_other_commands_say_that_their_output_is_full(folder):
    answer = shell(folder, f"{PROGRAM} list labels > /dev/full")
    assert answer.returncode == 5
    assert "SEG-R004: cannot write to standard output" in answer.stderr
    assert_quiet(answer)


@pytest.mark.parametrize("redirection", ["2>&-", ">&-", ">&- 2>&- <&-", "2> /dev/full"])
def test_other_commands_work_without_their_streams(folder, redirection):
    answer = shell(folder, f"{PROGRAM} list labels {redirection}")
    assert answer.returncode == 0
    assert_quiet(answer)


def test_an_error_keeps_its_exit_code_when_nobody_reads_it(folder):
    for redirection in ("2>&1 | true", "2>&-", "2> /dev/full"):
        answer = shell(folder, f"{PROGRAM} run --config missing.toml {redirection}")
        assert answer.returncode == 2
        assert answer.stderr == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"TERM": "dumb"},
        {"HOME": "/nonexistent"},
    ],
    ids=str,
)
def test_odd_surroundings_work(folder, environment):
    named = shell(folder, f"{PROGRAM} list labels labels.toml", **environment)
    assert named.returncode == 0, named.stderr
    assert "dunkel" in named.stdout


@pytest.mark.parametrize("locale", ["", "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"])
def test_a_run_needs_nothing_but_a_path(folder, locale):
    answer = shell(folder, f"env -i PATH=$PATH PYTHONPATH=$PYTHONPATH {locale} {RUN}")
    assert answer.returncode == 0, answer.stderr
    assert "bright" in answer.stdout


def test_the_cache_of_a_user_without_a_home_lies_with_the_temporary_files(monkeypatch, tmp_path):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987654)  # of no account
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert config_parsing.cache_folder() == tmp_path / "terrazzo_987654"


def started(folder, *before):
    recipe = (folder / "tiny.toml").read_text().replace("epochs = 2", "epochs = 100000")
    (folder / "long.toml").write_text(recipe)
    # The tests may run under nohup themselves.
    heeding = "" if before else "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    program = [sys.executable, "-c", f"{heeding}from terrazzo.cli.app import main; main()"]
    process = subprocess.Popen(
        [*before, *program, "run", "--config", "long.toml", "--out", "out"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while process.poll() is None:
        if (folder / "out" / "log.jsonl").exists() and lines_so_far(folder) > 2:
            break
        time.sleep(0.02)
    return process


def lines_so_far(folder):
    return (folder / "out" / "log.jsonl").read_bytes().count(b"\n")


def test_a_closed_terminal_lets_a_run_save_and_end(folder):
    process = started(folder)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)  # the shell and the kernel each send one
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75, told
    assert "SEG-R013" in told
    assert list((folder / "out" / "checkpoints").glob("step-*"))


def test_nohup_lets_a_run_go_on(folder):
    process = started(folder, "nohup")
    process.send_signal(signal.SIGHUP)
    before = lines_so_far(folder)
    while process.poll() is None and lines_so_far(folder) < before + 20:
        time.sleep(0.02)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
