"""From a folder of images to a scored model with a real framework, in one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "keras"])
def test_a_folder_becomes_a_scored_model(backend: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "mine" / name).mkdir(parents=True)
    for number in range(24):
        image_HWC = rng.integers(0, 100, (64, 64, 3)).astype(np.uint8)
        mask_HW = np.zeros((64, 64), np.uint8)
        row, column = rng.integers(0, 40, 2)
        mask_HW[row : row + 24, column : column + 24] = 255
        image_HWC[mask_HW > 0] += 120
        Image.fromarray(image_HWC).save(tmp_path / "mine" / "images" / f"{number}.png")
        Image.fromarray(mask_HW).save(tmp_path / "mine" / "masks" / f"{number}.png")
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "terrazzo", "run", "mine", "--backend", backend),
            *("--set", "training.epochs=6", "--set", "model.options.width=8"),
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    recipe = (tmp_path / "mine" / "recipe.toml").read_text()
    assert "asked for with --set" in recipe
    record = json.loads((tmp_path / "runs" / "mine" / "run.json").read_text())
    assert record
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
