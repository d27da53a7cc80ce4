"""`terrazzo compare --tables --figures`: what goes into a paper."""

import csv
import io
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from terrazzo.comparison import compare
from terrazzo.evaluation import extra_scores
from terrazzo.io import images
from terrazzo.metrics import roc
from terrazzo.report import (
    comparison_figure_files,
    comparison_grid,
    confusion_figure,
    figure_files,
)
from terrazzo.report.palettes import PAGE_PALETTE
from terrazzo.testing.compared_runs import LABEL_MAP, write_run
from terrazzo.workflows.compare import write_comparison_files

TABLES = {"ranking", "pairs", "iou", "precision", "recall", "f1", "cost", "settings"}
FIGURES = {"ranking", "iou", "precision", "recall", "f1", "validation", "loss", "learning_rate"}
OF_PROBABILITIES = {"reliability", "roc", "precision_recall"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    errors = {"poor_$1$": 0.4, "good": 0.1}
    return [
        write_run(folder / name, error=error, seed=seed)
        for seed, (name, error) in enumerate(errors.items())
    ]


@pytest.fixture(scope="module")
def comparison(runs):
    return compare.compare(runs, resamples=200)


@pytest.fixture(scope="module")
def tables(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables") / "made"
    page = folder.parent / "page.html"
    paths = write_comparison_files(comparison, page, tables=folder)[1:]
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


@pytest.fixture(scope="module")
def drawn(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    paths = write_comparison_files(comparison, folder / "page.html", figures=folder)[1:]
    return {path.name: path for path in paths}


def test_every_table_is_there_in_both_forms(tables):
    names = TABLES | {"confusion_good", "confusion_poor__1_"}
    assert set(tables) == {f"{name}.{kind}" for name in names for kind in ("csv", "tex")} | {
        "scores.csv"
    }


def test_csv_holds_the_numbers_with_their_intervals(tables, comparison):
    rows = list(csv.DictReader(io.StringIO(tables["iou.csv"])))
    assert [row["class"] for row in rows] == [*LABEL_MAP.names, "Mean"]
    assert rows[3]["good"] == ""  # absent
    found = comparison.intervals.runs[0].per_class["iou"][1]
    assert float(rows[1]["good low"]) == pytest.approx(found.low, abs=1e-6)
    assert float(rows[4]["good"]) == pytest.approx(
        comparison.intervals.runs[0].scalars["mean_iou"].estimate, abs=1e-6
    )
    counts = list(csv.reader(io.StringIO(tables["confusion_good.csv"])))
    expected = comparison.competitors[0].scored.counts_NKK.sum(axis=0)
    assert [[int(cell) for cell in row[1:]] for row in counts[1:]] == expected.tolist()


def test_latex_is_whole_and_its_names_are_escaped(tables):
    for name, text in tables.items():
        if name.endswith(".tex"):
            body = text.split(r"\midrule", 1)[1]
            rows = [line for line in text.splitlines() if line.endswith(r"\\")]
            columns = re.search(r"\\begin\{tabular\}\{(l?r*)\}", text)[1]
            for row in rows:
                assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1, (name, row)
            assert r"\toprule" in text
            assert r"\bottomrule" in body
            assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert r"tram \& \textless{}bus\textgreater{}" in tables["iou.tex"]
    assert r"poor\_\$1\$" in tables["pairs.tex"]
    # Both differences, and what the mark means.
    assert tables["pairs.tex"].count(r"\textsuperscript{\dag}") == 3
    assert "*" not in tables["pairs.tex"]
    assert "95 \\% intervals over 12 images" in tables["iou.tex"]


def test_every_figure_is_there_in_both_forms(drawn):
    names = FIGURES | OF_PROBABILITIES | {"images", "confusion_good", "confusion_poor__1_"}
    assert set(drawn) == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    for name, path in drawn.items():
        if name.endswith(".png"):
            image = Image.open(path)
            assert image.info["dpi"] == pytest.approx((300, 300), abs=1)
            assert min(image.size) > 200
            image = image.convert("RGB")
            assert image.getpixel((0, 0)) == (255, 255, 255)
            assert len(image.getcolors(1 << 24)) > 10
        else:
            text = path.read_text(encoding="utf-8")
            ET.fromstring(text)
            assert "var(" not in text
            # The colours by which the page's are put in place look black here.
            for stand_in in (PAGE_PALETTE.text, PAGE_PALETTE.grid, *PAGE_PALETTE.runs):
                assert stand_in not in text


def test_dots_of_the_page_and_of_the_file_lie_at_the_same_places(comparison):
    runs = comparison.intervals.runs
    classes = comparison.label_map.names
    found = [run.per_class["iou"] for run in runs]
    mean = [run.scalars["mean_iou"] for run in runs]
    from terrazzo.report.comparison_figures import draw_class_scores

    figure = next(
        figure for name, figure in comparison_figure_files.draw(comparison) if name == "iou"
    )
    on_page = draw_class_scores(classes, found, mean, PAGE_PALETTE).axes[0].lines
    in_file = figure.axes[0].lines
    assert [line.get_xydata().tolist() for line in on_page] == [
        line.get_xydata().tolist() for line in in_file
    ]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "good", r"poor_\$1\$",
    ]  # fmt: skip


def test_the_same_figure_gives_the_same_bytes(comparison, drawn):
    again = next(
        figure for name, figure in comparison_figure_files.draw(comparison) if name == "iou"
    )
    for kind in figure_files.FORMATS:
        assert figure_files.encode(again, kind) == drawn[f"iou.{kind}"].read_bytes()


def test_a_matrix_shades_each_row_by_its_share():
    figure = confusion_figure.draw_confusion(
        np.array([[3, 1, 0], [0, 0, 0], [0, 999, 1]]), ("a", "b", "c")
    )
    axes = figure.axes[0]
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares[0], [0.75, 0.25, 0])
    assert np.ma.is_masked(shares[1]) or np.isnan(shares[1]).all()
    assert [text.get_text() for text in axes.texts] == ["75", "25", "100", "<1"]


def test_from_the_command_line(runs, tmp_path):
    words = ["compare", *map(str, runs), "--tables", "paper", "--figures", "paper"]
    done = subprocess.run(
        [sys.executable, "-c", "from terrazzo.cli.app import main; main()", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("compare.html", "paper/iou.svg", "paper/iou.png", "paper/iou.tex"):
        assert name in done.stdout.split()
        assert (tmp_path / name).stat().st_size > 100


def test_curves_of_thresholds_are_those_of_the_areas(comparison):
    """The trapezoids under the drawn ROC curve are the area that the page prints."""
    figures = dict(comparison_figure_files.draw(comparison))
    counts = extra_scores.total(comparison.competitors[0].scored.extra.calibration)
    for k, axes in enumerate(a for a in figures["roc"].axes if a.get_visible()):
        across, up = axes.lines[1].get_data()  # after the diagonal
        assert (across[0], up[0], across[-1], up[-1]) == (0, 0, 1, 1)
        area = np.trapezoid(up, across)
        assert area == pytest.approx(roc.areas(counts.scores[k]), abs=1e-12)
        recall, precision = figures["precision_recall"].axes[k].lines[0].get_data()
        of_it = counts.scores[k, 1].sum() / counts.scores[k].sum()
        assert (recall[-1], precision[-1]) == pytest.approx((1, of_it))


def test_the_grid_shows_truth_and_predictions_in_the_colours_of_the_classes(comparison):
    figure = dict(comparison_figure_files.draw(comparison))["images"]
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["Image", "Ground truth", "good", r"poor_\$1\$"]
    for row, files in enumerate(comparison_grid.chosen(comparison)):
        line = figure.axes[row * 4 : row * 4 + 4]
        for axes, path in zip(
            line[1:], [files[0].truth, *(each.prediction for each in files)], strict=True
        ):
            shown_HWC = np.asarray(axes.images[0].get_array())
            np.testing.assert_array_equal(shown_HWC, images.read_image(path))


def test_a_run_that_stores_nothing_more_has_fewer_figures(tmp_path):
    made = [
        write_run(tmp_path / name, error=0.2, seed=seed, extra=False, num_examples=0)
        for seed, name in enumerate("ab")
    ]
    names = {name for name, _ in comparison_figure_files.draw(compare.compare(made, resamples=50))}
    assert names == FIGURES | {"confusion_a", "confusion_b"}
