"""What a power cut leaves of a run: a log cut short, filled with NUL bytes, or damaged inside."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from terrazzo.base.errors import CheckpointError
from terrazzo.base.json_files import append_json_line
from terrazzo.base.recipe import load_recipe
from terrazzo.evaluation import stored
from terrazzo.inference.row_journal import Layer, RowBand, RowJournal
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

RECIPE = """
backend = "reference"
[data]
format = "camvid"
root = "camvid"
[model]
name = "pixel_softmax"
[training]
steps = 6
batch_size = 2
schedule = { learning_rate = 0.05 }
[log]
every_steps = 1
[validation]
every_steps = 2
[checkpoint]
keep = 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a recipe and, in `whole`, its run."""
    folder = tmp_path_factory.mktemp("power")
    WRITERS["camvid"](folder / "camvid")
    (folder / "r.toml").write_text(RECIPE)
    train(load_recipe(folder / "r.toml"), folder / "whole")
    return folder


def as_before(place, run):
    """Assert that a run ended with the bytes of the one that was never interrupted."""
    for name in ("log.jsonl", "model/weights.safetensors", "evaluation/test.json"):
        assert (run / name).read_bytes() == (place / "whole" / name).read_bytes()


def of_earlier_versions(run):
    """Take the log out of every checkpoint."""
    for step in checkpoint.found(run / "checkpoints"):
        folder = run / "checkpoints" / f"step-{step:06d}"
        found = checkpoint.read(run / "checkpoints", step)
        state, record = found.state(), found.record
        shutil.rmtree(folder)
        checkpoint.write(run / "checkpoints", step, state, record)
        assert not (folder / "log.jsonl").exists()


def damage(log, kind, where):
    content = bytearray(log.read_bytes())
    match kind:
        case "cut":
            del content[where:]
        case "nul":
            content[where:] = bytes(len(content) - where)
        case "flip":
            content[where] ^= 0x80
    log.write_bytes(content)


@pytest.mark.parametrize("earlier", [False, True], ids=["now", "earlier version"])
@pytest.mark.parametrize("kind", ["cut", "nul", "flip"])
def test_the_log_ends_with_the_bytes_of_a_run_without_a_power_cut(tmp_path, place, kind, earlier):
    length = (place / "whole" / "log.jsonl").stat().st_size
    rng = np.random.default_rng(len(kind))
    for where in (length - 1, *rng.integers(0, length, 1).tolist()):
        run = tmp_path / f"run{where}"
        shutil.copytree(place / "whole", run, dirs_exist_ok=True)
        if earlier:
            of_earlier_versions(run)
        damage(run / "log.jsonl", kind, where)
        train(load_recipe(place / "r.toml"), run, resume=True)
        as_before(place, run)


def test_a_log_that_is_gone_is_restored(tmp_path, place):
    shutil.copytree(place / "whole", tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").unlink()
    train(load_recipe(place / "r.toml"), tmp_path / "run", resume=True)
    as_before(place, tmp_path / "run")


def test_a_damaged_log_is_named_with_what_heals_it(tmp_path, place):
    shutil.copytree(place / "whole", tmp_path / "run")
    damage(tmp_path / "run" / "log.jsonl", "flip", 3)
    with pytest.raises(CheckpointError, match=r"SEG-C014(.|\n)*log\.jsonl(.|\n)*--resume"):
        evaluate(tmp_path / "run")
    train(load_recipe(place / "r.toml"), tmp_path / "run", resume=True)
    as_before(place, tmp_path / "run")


@pytest.mark.parametrize("line", [b"\0\0\0\n", b'{"step": 1, "sec', b"5\n", b"\xff\xfe\n"])
def test_damaged_seconds_stop_nothing(tmp_path, place, line):
    run = tmp_path / "run"
    shutil.copytree(place / "whole", run)
    before = (run / "timing.jsonl").read_bytes()
    (run / "timing.jsonl").write_bytes(line + before)
    train(load_recipe(place / "r.toml"), run, resume=True)
    evaluate(run)
    as_before(place, run)
    assert stored.read(RunFolder(run)).timing


def test_a_journal_of_rows_goes_on_before_a_damaged_line(tmp_path):
    layers = (Layer("labels", (4,), "uint8"),)
    journal = RowJournal.open(tmp_path / "rows", RowBand(0, 6), layers)
    for row in range(3):
        journal.append({"labels": np.full((2, 4), row, np.uint8)}, {"number": row})
    lines = tmp_path / "rows" / "rows.jsonl"
    content = bytearray(lines.read_bytes())
    content[content.index(b"\n") + 3] = 0
    lines.write_bytes(content)
    again = RowJournal.open(tmp_path / "rows", RowBand(0, 6), layers)
    assert again.next_row == 2
    assert lines.read_bytes().count(b"\n") == 1


def test_a_checkpoint_brings_its_log_and_what_was_appended_later_is_cut_off(tmp_path, place):
    shutil.copytree(place / "whole", tmp_path / "run")
    append_json_line(tmp_path / "run" / "log.jsonl", {"kind": "train", "step": 99})
    train(load_recipe(place / "r.toml"), tmp_path / "run", resume=True)
    as_before(place, tmp_path / "run")
