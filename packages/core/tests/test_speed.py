"""`terrazzo speed` measures a finished run, and `compare` shows it."""

import json

import pytest

from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import load_recipe
from terrazzo.comparison import compare, tables
from terrazzo.report import comparison_page
from terrazzo.testing.compared_runs import write_run
from terrazzo.workflows import speed
from terrazzo.workflows.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = {
        "backend": "reference",
        "data": {
            "format": "demo",
            "root": str(tmp_path_factory.mktemp("demo")),
            "limit": {"train": 2, "val": 1, "test": 1},
        },
        "model": {"name": "pixel_softmax"},
        "training": {"steps": 1, "batch_size": 1},
    }
    folder = tmp_path_factory.mktemp("runs") / "fast"
    train(load_recipe(recipe), folder)
    return folder


def test_a_run_is_timed_and_the_result_kept(run):
    found = speed.measure(run, size=(40, 60), batch_size=2, repeats=3)
    kept = json.loads((run / "speed.json").read_text())
    assert (kept["rows"], kept["columns"], kept["batch_size"], kept["repeats"]) == (40, 60, 2, 3)
    assert 0 < kept["fastest"] <= kept["milliseconds"] <= kept["slowest"]
    assert kept["milliseconds"] == found.milliseconds
    assert kept["parameters"] > 0
    assert kept["multiply_adds"] is None  # the reference backend does not count


@pytest.mark.parametrize("wrong", [{"size": (0, 5)}, {"batch_size": 0}, {"repeats": 0}])
def test_nothing_is_timed_without_an_image(run, wrong):
    with pytest.raises(ConfigError) as caught:
        speed.measure(run, **wrong)
    assert caught.value.code == "SEG-X200"


def test_compare_has_it_beside_the_score(tmp_path):
    runs = [write_run(tmp_path / name, error=0.2, seed=n) for n, name in enumerate("ab")]
    found = compare.compare(runs, resamples=50)
    assert "Multiply-adds" not in comparison_page(found)
    measured = {
        "multiply_adds": 12_300_000_000,
        "milliseconds": 41.2,
        "batch_size": 4,
        "rows": 512,
        "columns": 640,
    }
    (runs[0] / "speed.json").write_text(json.dumps(measured))
    found = compare.compare(runs, resamples=50)  # the file is not taken for an evaluation
    page = comparison_page(found)
    assert "12.3·10⁹" in page
    assert "41.2 ms for 4 × 512×640" in page
    assert "not measured" in page
    cost = tables.cost(found)
    titles = [column.title for column in cost.columns]
    row = next(row for row in cost.rows if row[0] == "a")
    assert row[titles.index("milliseconds an image")] == 41.2 / 4
    assert row[titles.index("multiply-adds")] == 12_300_000_000
