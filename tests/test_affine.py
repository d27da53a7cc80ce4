"""GeoTIFF with affine 2.4 as well as with affine 3, whose operators for points differ."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OLDEST = "2.4.0"
"""The lower bound in the dependencies of core."""


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def files(*names: str) -> list[str]:
    return [str(ROOT / f"packages/core/tests/test_{name}.py") for name in names]


def test_no_transform_is_applied_with_the_operator_that_affine_2_lacks():
    program = (
        "import sys, affine, pytest\n"
        "if hasattr(affine.Affine, '__matmul__'): del affine.Affine.__matmul__\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
    )
    answer = run(sys.executable, "-c", program, *files("ground", "rasters"))
    assert answer.returncode == 0, answer.stdout[-3000:]


@pytest.mark.slow
def test_scenes_and_shapes_with_the_oldest_affine(tmp_path):
    """Fetches it, so it is skipped where pip reaches no index."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    fetched = run(*pip, str(tmp_path), f"affine=={OLDEST}")
    if fetched.returncode != 0:
        pytest.skip("pip cannot fetch affine")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    found = run(sys.executable, "-c", "import affine; print(affine.__version__)", PYTHONPATH=path)
    assert found.stdout.strip() == OLDEST
    names = ("chips", "geotiff", "ground", "polygons", "rasters", "vectors")
    answer = run(
        *[sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"],
        *files(*names),
        PYTHONPATH=path,
    )
    assert answer.returncode == 0, answer.stdout[-3000:]


def test_the_oldest_version_is_the_declared_one():
    declared = (ROOT / "packages/core/pyproject.toml").read_text("utf-8")
    assert f'"affine>={OLDEST.removesuffix(".0")},<4"' in declared
