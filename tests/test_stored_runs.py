"""Run folders written by an earlier Terrazzo are scored, resumed, compared and predicted with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from safetensors.numpy import load_file

from terrazzo.io import images

STORED = Path(__file__).parent / "stored_runs"
BACKENDS = ("reference", "torch", "keras")

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def terrazzo(place, *words):
    """Run one command in a process of its own; return what it printed."""
    answer = subprocess.run(
        [sys.executable, "-m", "terrazzo", *map(str, words)],
        cwd=place,
        env=os.environ | {"TERRAZZO_STORED_RUNS": str(STORED), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path, backend):
    """A copy of the finished run."""
    return Path(shutil.copytree(STORED / backend, tmp_path / backend))


def test_it_scores_the_same(run, tmp_path):
    before = read_json(run / "evaluation/test.json")
    shutil.rmtree(run / "evaluation")
    terrazzo(tmp_path, "evaluate", run)
    now = read_json(run / "evaluation/test.json")
    assert now["counts"] == before["counts"]
    assert now["images"] == before["pictures"]
    assert now["scores"].pop("micro_iou") == before["scores"].pop("pooled_iou")
    added = {"calibration": {"roc_area_error"}}
    for kind in ("scores", "calibration", "boundary"):
        assert now[kind].keys() == before[kind].keys() | added.get(kind, set())
    assert now["scores"] == before["scores"]


def test_it_predicts_the_same_map_and_image(run, tmp_path, backend):
    terrazzo(tmp_path, "predict", run, STORED / "data/scene.tif", "--out", "map.tif")
    terrazzo(tmp_path, "predict", run, STORED / "data/images/tile_00.png", "--out", "images")
    expected = STORED / "expected" / backend
    with rasterio.open(tmp_path / "map.tif") as now, rasterio.open(expected / "map.tif") as before:
        np.testing.assert_array_equal(now.read(1), before.read(1))
        assert len(np.unique(now.read(1))) > 1  # else equal maps would say little
        # Later maps hold more than these: a table of their classes.
        assert now.profile == before.profile
        assert now.colormap(1) == before.colormap(1)
        assert now.tags().items() >= before.tags().items()
        assert now.descriptions == before.descriptions
    np.testing.assert_array_equal(
        images.read_label(tmp_path / "images/tile_00.png", "index"),
        images.read_label(expected / "tile_00.png", "index"),
    )


def test_a_stopped_one_is_resumed_to_the_same_end(tmp_path, backend):
    stopped = Path(shutil.copytree(STORED / f"{backend}_stopped", tmp_path / "stopped"))
    terrazzo(tmp_path, "run", "--config", stopped / "config.toml", "--out", stopped, "--resume")
    found, wanted = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (stopped, STORED / backend)
    )
    assert [line["step"] for line in found] == [line["step"] for line in wanted]
    for key in ("loss", "mean_iou"):
        assert [line[key] for line in found if key in line] == pytest.approx(
            [line[key] for line in wanted if key in line], rel=1e-5
        )
    weights = load_file(stopped / "model/weights.safetensors")
    for name, array in load_file(STORED / backend / "model/weights.safetensors").items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-4, atol=1e-6, err_msg=name)


def test_its_page_and_a_comparison_show_its_scores(run, tmp_path):
    from terrazzo.report import write_report

    page = write_report(run).read_text(encoding="utf-8")
    score = read_json(run / "evaluation/test.json")["scores"]["mean_iou"]
    assert f"{score:.3f}" in page
    assert page.count("<img") > 3  # the stored examples are found under their former names
    shutil.copytree(run, tmp_path / "other")
    terrazzo(tmp_path, "compare", run, tmp_path / "other", "--out", "compare.html")
    assert f"{score:.3f}" in (tmp_path / "compare.html").read_text(encoding="utf-8")
