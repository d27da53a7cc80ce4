"""A few points of the sweep over full disks, ``tools/sweeps/full_disk.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = Path(__file__).parents[1] / "tools" / "sweeps" / "full_disk.py"


@pytest.mark.parametrize(
    ("points", "more"),
    [(2, ("--only", "run")), pytest.param(10, (), marks=pytest.mark.slow)],
)
def test_commands_on_a_full_disk_leave_nothing_half_written(points, more):
    command = [sys.executable, str(SWEEP), "--points", str(points), "--seed", "3", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{points} of {points} points" in done.stdout
