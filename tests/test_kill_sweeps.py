"""The sweeps of `tools/sweeps` that need a framework, in small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SWEEPS = Path(__file__).resolve().parents[1] / "tools" / "sweeps"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


def sweep(script, *words):
    command = [sys.executable, str(SWEEPS / script), *map(str, words)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_training_killed_six_times_ends_with_the_same_bits(tmp_path, backend):
    words = ("--backend", backend, "--points", 6, "--seed", 2, "--out", tmp_path / "sweep")
    assert "unlike: 0" in sweep("kill_training.py", *words)


def test_convert_killed_and_typed_again(tmp_path):
    words = ("--command", "convert", "--points", 3, "--seed", 1, "--out", tmp_path)
    assert "equal 3, unlike 0" in sweep("kill_commands.py", *words)
