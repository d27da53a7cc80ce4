"""Several processes agree: on what is done, refused and stopped."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from terrazzo.base import processes
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.testing.thread_world import in_world_of


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 1000])
@pytest.mark.parametrize("rank", [0, 2])
def test_bytes_of_one_reach_all(length, rank):
    payload = np.random.default_rng(length).bytes(length)
    received = in_world_of(
        3, lambda w: processes.bytes_from(w, rank, payload if w.rank == rank else b"")
    )
    assert received == [payload] * 3


def test_a_value_is_made_once():
    made = []

    def make():
        made.append(1)
        return {"mean": [0.1, 1e-300], "text": "ü", "nothing": None}

    answers = in_world_of(3, lambda w: processes.json_from_first(w, make))
    assert answers == [{"mean": [0.1, 1e-300], "text": "ü", "nothing": None}] * 3
    assert len(made) == 1


def test_what_rank_0_is_refused_ends_all_with_the_same_error_told_once():
    def refuse():
        raise CheckpointError("SEG-C002", "the folder exists", file="a/b", next_step="--resume")

    errors = in_world_of(3, lambda w: processes.first_does(w, refuse))
    assert {type(error) for error in errors} == {CheckpointError}
    assert len({str(error) for error in errors}) == 1
    assert [error.told_elsewhere for error in errors] == [False, True, True]
    assert all(error.shared for error in errors)


def test_what_one_process_meets_ends_all_with_its_error():
    def work(world):
        if world.rank > 0:
            raise DataError("SEG-D011", f"rank {world.rank}", observed=3)
        return "done"

    errors = in_world_of(3, lambda w: processes.together(w, lambda: work(w)))
    assert [str(error) for error in errors] == ["SEG-D011: rank 1\n  observed 3"] * 3
    assert [error.told_elsewhere for error in errors] == [True, False, True]


def test_one_that_wants_to_stop_stops_all():
    assert in_world_of(3, lambda w: processes.any_says(w, w.rank == 1)) == [True] * 3
    assert in_world_of(3, lambda w: processes.any_says(w, False)) == [False] * 3


def test_word_is_left_by_whoever_fails_alone_and_by_nobody_else():
    def alone(world):
        with processes.leaving_word(world):
            if world.rank == 1:
                raise ConfigError("SEG-X001", "wrong")
        return world.meeting.left

    def all_of_them(world):
        with processes.leaving_word(world):
            processes.together(world, lambda: (_ for _ in ()).throw(ConfigError("SEG-X1", "w")))
        return world.meeting.left

    assert in_world_of(2, alone)[0] == {1: "SEG-X001: wrong"}
    errors = in_world_of(2, all_of_them)
    assert all(isinstance(error, ConfigError) for error in errors)


@pytest.mark.skipif(sys.platform != "linux", reason="what becomes of orphans is Linux's own")
def test_a_process_notices_that_its_launcher_has_gone(tmp_path):
    child = """
import sys, time
from terrazzo.base.processes import launcher_has_gone
gone = launcher_has_gone()
before = gone()
sys.stdout.write("."); sys.stdout.flush()
end = time.monotonic() + 20
while not gone() and time.monotonic() < end:
    time.sleep(0.02)
open(sys.argv[1], "w").write(f"[{str(before).lower()}, {str(gone()).lower()}]")
"""
    launcher = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {child!r}, sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.read(1)
os.kill(os.getpid(), 9)
"""
    told = tmp_path / "told.json"
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "none"}
    subprocess.run([sys.executable, "-c", launcher, told], env=environment, check=False)
    for _ in range(500):
        if told.exists() and told.read_text().endswith("]"):
            break
        time.sleep(0.02)
    assert json.loads(told.read_text()) == [False, True]


def test_without_a_launcher_none_has_gone(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert not processes.launcher_has_gone()()


@pytest.mark.parametrize(
    ("environment", "speaks"),
    [
        ({}, True),
        (
            {"RANK": "1"},
            True,
        ),  # of some other launcher
        ({"RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, False),
    ],
)
def test_one_process_of_several_speaks(environment, speaks, monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert processes.speaks() == speaks
