"""A curve over the number of training images, where runs differ in it."""

from __future__ import annotations

import json

import pytest

from terrazzo.base.json_files import read_json
from terrazzo.comparison.compare import compare
from terrazzo.report import comparison_page
from terrazzo.report.comparison_figure_files import all_figures
from terrazzo.report.learning_curve import learning_curves
from terrazzo.testing.compared_runs import write_run


def write(tmp_path, name, images, *, model="unet", seed=0, error=0.2):
    folder = tmp_path / name
    write_run(folder, error=error, seed=seed)
    record = read_json(folder / "run.json")
    record.setdefault("data", {}).setdefault("splits", {})["train"] = {"images": images}
    (folder / "run.json").write_text(json.dumps(record))
    config = folder / "config.toml"
    text = config.read_text().replace('name = "unet"', f'name = "{model}"')
    config.write_text(text.replace("[data]", f"[data]\nlimit_seed = {seed}", 1))
    return folder


@pytest.fixture
def comparison(tmp_path):
    return compare(
        [
            write(tmp_path, "unet_25", 25, error=0.4),
            write(tmp_path, "unet_25_other", 25, seed=7, error=0.38),
            write(tmp_path, "unet_100", 100, error=0.1),
            write(tmp_path, "fcn", 100, model="fcn", error=0.3),
        ],
    )


def test_runs_that_differ_in_the_number_of_images_make_a_curve(comparison):
    (points,) = learning_curves(comparison)
    assert [point.images for point in points] == [25, 25, 100]
    names = [comparison.competitors[point.run].name for point in points]
    assert sorted(names[:2]) == ["unet_25", "unet_25_other"]
    assert names[2] == "unet_100"
    assert "Mean IoU by training images" in comparison_page(comparison)
    assert {"learning_curve.png", "learning_curve.svg"} <= all_figures(comparison).keys()


def test_runs_with_as_many_images_make_none(tmp_path):
    runs = [write(tmp_path, name, 25, seed=n) for n, name in enumerate("ab")]
    comparison = compare(runs)
    assert learning_curves(comparison) == []
    assert "by training images" not in comparison_page(comparison)
