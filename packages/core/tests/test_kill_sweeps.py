"""The sweeps of `tools/sweeps` in small: SIGKILL of training and of commands changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SWEEPS = Path(__file__).resolve().parents[3] / "tools" / "sweeps"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def sweep(script, *words):
    command = [sys.executable, str(SWEEPS / script), *map(str, words)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def test_training_killed_ten_times_ends_with_the_same_bits(tmp_path):
    told = sweep("kill_training.py", "--points", 10, "--seed", 2, "--out", tmp_path / "sweep")
    assert "   10  " in told
    assert "unlike: 0" in told


@pytest.mark.parametrize("command", ["predict", "check"])
def test_commands_killed_and_typed_again_leave_what_undisturbed_ones_leave(tmp_path, command):
    words = ("--command", command, "--points", 3, "--seed", 1, "--out", tmp_path)
    assert "equal 3, unlike 0" in sweep("kill_commands.py", *words)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict-scene", "evaluate", "compare", "study"])
def test_longer_commands_killed_and_typed_again(tmp_path, command):
    words = ("--command", command, "--points", 3, "--seed", 1, "--out", tmp_path)
    assert "equal 3, unlike 0" in sweep("kill_commands.py", *words)
