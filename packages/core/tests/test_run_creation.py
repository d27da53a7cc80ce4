"""Who may write into a run folder, and what is left of one whose making was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import tomli_w

from terrazzo.base.errors import CheckpointError, ConfigError, ResourceError
from terrazzo.base.recipe import load_recipe
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder, claimed, create_run, reopen_run
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.workflows.convert import convert
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

LABELS = LabelMap("two", (LabelClass("a", "#000000", (0,)), LabelClass("b", "#FFFFFF", (1,))))
RECIPE = """
backend = "reference"
[data]
format = "camvid"
root = "{root}"
[model]
name = "pixel_softmax"
[training]
steps = {steps}
batch_size = 2
[checkpoint]
every_steps = 1
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "camvid"
    WRITERS["camvid"](folder)
    return folder


def write_recipe(path, root, steps=2):
    path.write_text(RECIPE.format(root=root.as_posix(), steps=steps))
    return path


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_nothing_touches_a_run_that_another_process_trains_and_a_killed_one_frees_it(
    tmp_path, root
):
    out = tmp_path / "run"
    long = write_recipe(tmp_path / "long.toml", root, 10**6)
    short = load_recipe(write_recipe(tmp_path / "short.toml", root))
    command = [sys.executable, "-m", "terrazzo", "run", "--config", str(long), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        try:
            wait_for(lambda: checkpoint.found(out / "checkpoints"))
            os.kill(other.pid, signal.SIGSTOP)
            before = contents(out)
            for attempt in (
                lambda: train(short, out, overwrite=True),
                lambda: train(load_recipe(long), out, resume=True),
                lambda: evaluate(out),
            ):
                with pytest.raises(ResourceError, match="SEG-C009") as caught:
                    attempt()
                assert f"process {other.pid} " in str(caught.value)
            assert contents(out) == before
        finally:
            other.kill()
    train(short, out, overwrite=True)  # a lock dies with its process
    assert evaluate(out).scores is not None


LEFTOVERS = {
    "labels": ("labels.toml",),
    "draw": ("splits.json",),
    "both": (
        "labels.toml",
        "splits.json",
        "log.jsonl",
        ".run.0123456789abcdef0123456789abcdef.json",
    ),
}


@pytest.mark.parametrize("names", LEFTOVERS.values(), ids=LEFTOVERS)
def test_overwrite_heals_what_earlier_versions_left_half_made(tmp_path, root, names):
    recipe = load_recipe(write_recipe(tmp_path / "r.toml", root))
    out = tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    for name in names:
        (out / name).write_text("")
    if "labels.toml" in names:
        (out / "labels.toml").write_text(tomli_w.dumps(LABELS.as_toml()))
    with pytest.raises(CheckpointError, match="SEG-C002") as caught:
        create_run(out, recipe, LABELS, overwrite=False)
    assert "--resume" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"SEG-C001[^$]*begin it again with --overwrite"):
        train(recipe, out, resume=True)
    train(recipe, out, overwrite=True)
    assert (out / "report.html").is_file()
    assert not [path.name for path in out.iterdir() if path.name.startswith(".run.")]


@pytest.mark.parametrize("mine", ["labels.toml", "notes.txt", "checkpoints/a", "model/model.toml"])
def test_overwrite_deletes_nothing_that_a_person_may_have_written(tmp_path, root, mine):
    recipe = load_recipe(write_recipe(tmp_path / "r.toml", root))
    out = tmp_path / "run"
    (out / mine).parent.mkdir(parents=True)
    (out / "labels.toml").write_text(tomli_w.dumps(LABELS.as_toml()))
    (out / mine).write_text("# by hand\n" + tomli_w.dumps(LABELS.as_toml()))
    before = contents(out)
    with pytest.raises(CheckpointError, match="SEG-C003"):
        train(recipe, out, overwrite=True)
    with pytest.raises(CheckpointError, match=r"SEG-C002[^$]*next +--out DIR"):
        train(recipe, out)
    assert contents(out) == before


def die_at(number):
    """Have this process kill itself before the `number`-th change to a folder."""
    calls = 0

    def counted(change):
        def changed(*arguments, **others):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **others)

        return changed

    for name in ("replace", "unlink", "rmdir", "mkdir", "fsync", "rename"):
        setattr(os, name, counted(getattr(os, name)))


def survives(number, action):
    """Do `action` in a process that dies at its `number`-th change; tell whether it got so far."""
    if (child := os.fork()) == 0:
        try:
            die_at(number)
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


@needs_fork
@pytest.mark.parametrize("before", [False, True], ids=["new", "overwrite"])
def test_a_run_folder_is_made_as_a_whole_or_counts_as_empty(tmp_path, root, before):
    recipe = load_recipe(write_recipe(tmp_path / "r.toml", root))
    other = recipe.model_copy(update={"seed": 7})
    ends = set()
    for number in range(1, 60):
        out = tmp_path / f"run{number}"
        if before:
            create_run(out, other, LABELS, overwrite=False)
            for name in ("log.jsonl", "checkpoints/step-000001/a", "evaluation/test.json"):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_text("old")

        def make(out=out):
            with claimed(out):
                create_run(out, recipe, LABELS, overwrite=before)

        finished = survives(number, make)
        if before and (out / "config.toml").exists() and not finished:
            now = RunFolder(out).read_config()
            assert now in (recipe, other)
            assert (out / "log.jsonl").exists() == (now == other)
        elif not (out / "config.toml").exists():
            with claimed(out):
                create_run(out, recipe, LABELS, overwrite=False)  # without being told to
        with claimed(out):
            reopen_run(out, RunFolder(out).read_config())
        ends.add(finished)
        hidden = {path.name for path in out.iterdir() if path.name.startswith(".")}
        assert hidden <= {".lock", ".creating"}
        if finished:
            assert hidden == {".lock"}
            break
    assert ends == {True, False}


def test_overwrite_keeps_what_the_new_run_reads(tmp_path, root):
    out = tmp_path / "run"
    recipe = load_recipe(write_recipe(tmp_path / "r.toml", root))
    train(recipe, out)
    WRITERS["camvid"](out / "data")
    (tmp_path / "link").symlink_to(out / "data")
    before = contents(out)
    for place in (out / "data", out / "x" / ".." / "data", tmp_path / "link"):
        (out / "x").mkdir(exist_ok=True)
        inside = load_recipe(write_recipe(tmp_path / "inside.toml", place))
        with pytest.raises(ConfigError, match="SEG-X032"):
            train(inside, out, overwrite=True)
    begins = recipe.model_dump() | {"init": {"run": str(out)}}
    with pytest.raises(ConfigError, match="SEG-X032"):
        train(type(recipe).model_validate(begins), out, overwrite=True)
    assert contents(out) == before
    with pytest.raises(ConfigError, match="SEG-X032"):
        convert(out, "torch", out, overwrite=True)
    assert contents(out) == before
