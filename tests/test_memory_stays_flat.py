"""Memory does not grow with the steps of a run or the images of a prediction."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_MEGABYTES = 6
"""Of growth; a kilobyte more a step or an image would be 2.7."""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory in use is read as Linux tells it")
@pytest.mark.parametrize(
    ("backend", "count"),
    [
        ("reference", 3000),
        pytest.param("torch", 3000, marks=pytest.mark.slow),
        pytest.param("keras", 3000, marks=pytest.mark.slow),
    ],
)
def test_memory_stays_flat(backend, count):
    command = [sys.executable, "benchmarks/memory.py", "--backend", backend]
    counts = ["--steps", str(count), "--images", str(count)]
    answer = subprocess.run(
        [*command, *counts], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    rows = [line.split() for line in answer.stdout.splitlines()[-2:]]
    assert [row[:2] for row in rows] == [[str(count), "steps"], [str(count), "images"]]
    for row in rows:
        assert float(row[-1]) < MOST_MEGABYTES, answer.stdout
