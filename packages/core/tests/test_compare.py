"""`terrazzo compare` and `terrazzo metrics explain` on drawn runs."""

import csv
import html
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.comparison import compare, table_files, tables
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.evaluation import result, stored
from terrazzo.evaluation.result import Evaluation, Example
from terrazzo.metrics import ConfusionMatrix
from terrazzo.report import write_comparison, write_report
from terrazzo.runs.folder import RunFolder
from terrazzo.testing.compared_runs import LABEL_MAP, write_run
from terrazzo.workflows import explain_metrics
from terrazzo.workflows.compare import write_comparison_files

BUS = LabelClass("bus", "#00FF00", (3,))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    errors = {"poor": 0.4, "good": 0.1, "good_again": 0.1}
    return [
        write_run(folder / name, error=error, seed=seed)
        for seed, (name, error) in enumerate(errors.items())
    ]


@pytest.fixture(scope="module")
def comparison(runs):
    return compare.compare(runs, resamples=2000)


@pytest.fixture(scope="module")
def page(comparison, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "compare.html"
    write_comparison(comparison, path)
    return path.read_text(encoding="utf-8")


def test_the_best_mean_iou_is_first(comparison):
    estimates = [run.scalars["mean_iou"].estimate for run in comparison.intervals.runs]
    assert estimates == sorted(estimates, reverse=True)
    assert comparison.competitors[-1].name == "poor"
    for run, found in zip(comparison.competitors, comparison.intervals.runs, strict=True):
        matrix = ConfusionMatrix.from_counts(run.scored.counts_NKK.sum(axis=0))
        assert found.scalars["mean_iou"].estimate == pytest.approx(matrix.scores().mean_iou)
        assert found.scalars["mean_iou"].low < found.scalars["mean_iou"].estimate


def test_a_clear_difference_excludes_zero_and_equal_runs_are_not_told_apart(comparison):
    differences = comparison.intervals.differences
    assert differences[2, 0].scalars["mean_iou"].high < 0
    assert not differences[0, 1].scalars["mean_iou"].excludes_zero


def test_runs_that_differ_in_the_seed_alone_are_one_spread(comparison):
    ((names, spread),) = comparison.seeds.items()
    assert set(names) == {"poor", "good", "good_again"}  # drawn errors are no setting
    assert spread.seeds == 3


def test_groups_are_drawn_whole(runs):
    grouped = compare.compare(runs[:2], group=r"^scene\d+", resamples=200)
    assert grouped.groups == 3
    assert grouped.intervals.runs[0].units == 3


def test_intervals_of_few_groups_come_with_a_warning(runs, page, tmp_path):
    write_comparison(compare.compare(runs, group=r"^scene\d+", resamples=50), tmp_path / "few.html")
    text = (tmp_path / "few.html").read_text(encoding="utf-8")
    assert "Only 3 groups of images were scored: too few for any interval" in text
    assert "too few images: 3" in text
    assert "networks differ" not in text
    assert "were scored: too few" not in page


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_images": 11}, "other images: 12 and 11; scene2_011 is in one of them only"),
        ({"first_image": 1}, "other images: 12 and 12"),
        ({"size": (48, 64)}, "other label sizes: scene0_000 has 768 and 3,072 pixels"),
        (
            {"label_map": LabelMap("other", (*LABEL_MAP.classes[:3], BUS))},
            "other classes: bus, tram & <bus>",
        ),
        (
            {"label_map": LabelMap("turned", LABEL_MAP.classes[::-1])},
            "the same names in another order",
        ),
    ],
)  # fmt: skip
def test_runs_with_another_test_are_not_ranked(runs, tmp_path, changes, expected):
    other = write_run(tmp_path / "other", error=0.2, **changes)
    with pytest.raises(DataError, match="SEG-D050") as caught:
        compare.compare([runs[0], other])
    assert expected in str(caught.value)
    assert "other" in caught.value.file


def test_other_labels_of_the_same_size_are_noticed(runs, tmp_path):
    other = write_run(tmp_path / "other", error=0.2)
    from safetensors.numpy import load_file, save_file

    path = other / "evaluation" / "test.safetensors"
    arrays = load_file(path)
    arrays["counts"][3, 0] = np.roll(arrays["counts"][3, 0], 1)  # same truth: another prediction
    arrays["counts"][5, [0, 1]] = arrays["counts"][5, [1, 0]]
    names = json.dumps([f"scene{n // 4}_{n:03d}" for n in range(12)])
    save_file(arrays, path, metadata={"names": names})
    with pytest.raises(DataError, match="other labels: scene1_005, road"):
        compare.compare([runs[0], other])


def test_other_files_of_the_same_names_are_noticed(runs, tmp_path):
    folders = [write_run(tmp_path / name, error=0.2) for name in ("one", "two")]
    for folder in folders:
        record = {"data": {"splits": {"test": {"fingerprint": folder.name}}}}
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(DataError, match="fingerprint"):
        compare.compare(folders)


def test_a_run_of_version_0_1_compares_with_one_of_today(tmp_path):
    """Its fingerprint is another one of the same files."""
    folders = [write_run(tmp_path / name, error=0.2) for name in ("old", "new")]
    kept = {"old": {"pictures": 12}, "new": {"images": 12, "names": "", "image_files": ""}}
    for folder in folders:
        files = {**kept[folder.name], "fingerprint": folder.name}
        record = {"data": {"splits": {"test": files}}}
        (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert compare.compare(folders)


def test_mistakes_are_named(runs, tmp_path):
    with pytest.raises(ConfigError, match="SEG-X040"):
        compare.compare(runs[:1])
    with pytest.raises(ConfigError, match="SEG-X042"):
        compare.compare([runs[0], runs[0]])
    with pytest.raises(ConfigError, match=r"SEG-X041(.|\n)*scene0_000"):
        compare.compare(runs, group="street")
    with pytest.raises(ConfigError, match=r"SEG-X041(.|\n)*not a regular expression"):
        compare.compare(runs, group="(")
    with pytest.raises(CheckpointError, match=r"SEG-C040(.|\n)*--split val"):
        compare.compare(runs, split="val")
    with pytest.raises(CheckpointError, match="SEG-C001"):
        compare.compare([runs[0], tmp_path])


class Tags(HTMLParser):
    """Tags and attributes; fails on tags that do not match."""

    VOID = frozenset({"meta", "input", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_sound_and_loads_nothing(page):
    tags = Tags(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in tags:
        for key in ("src", "href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/"))
        if tag == "img":
            assert attributes["alt"]
        for key in ("aria-labelledby", "aria-describedby", "data-filters"):
            assert attributes.get(key, ids[0]) in ids
    assert "http" not in re.sub(r'content="[^"]*"', "", page).replace("http-equiv", "")
    assert "tram &amp; &lt;bus&gt;" in page
    assert "<bus>" not in page


def test_every_row_has_a_cell_for_every_column(page):
    tables = re.findall(r'<table class="data.*?</table>', page, re.DOTALL)
    assert len(tables) > 8
    for table in tables:
        counts = {len(re.findall(r"<t[hd][ >]", row)) for row in table.split("<tr")[1:]}
        assert len(counts) == 1, table[:200]


def test_no_difference_without_its_verdict(page, comparison):
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    found = re.findall(
        r"[+−]0\.\d{3} +\[[+−]0\.\d{3}, [+−]0\.\d{3}\] +(networks differ|not told apart)", text
    )
    pairs = len(comparison.intervals.differences)
    # Beside the first run, in the table of pairs, and of boundaries beside the first run.
    assert len(found) == 2 + pairs + 2
    assert {"networks differ", "not told apart"} == set(found)
    assert "verdicts about trained networks" in text  # here three runs are one method
    assert "better" not in text.replace("Lower is better", "")
    assert "mean over the classes present in truth or prediction" in text


def test_boundaries_calibration_memory_and_maps_are_shown(page, comparison):
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for run, found in zip(comparison.competitors, comparison.extra, strict=True):
        row = page.split('id="boundaries-table"')[1].split(f'data-value="{run.name}"')[1]
        assert f"{found.boundary[0].estimate:.3f}" in row.split("</tr>")[0]
        row = page.split('id="calibration-table"')[1].split(f'data-value="{run.name}"')[1]
        for interval in found.calibration:
            assert f"{interval.estimate:.3f} <span" in row.split("</tr>")[0]
        assert run.peak_memory == 40 << 26
    assert text.count("2.50 GiB") == 3
    figures = re.findall(r'aria-label="([^"]*): share that is right against probability', page)
    assert figures == ["Predicted class", "road", "car", "sky"]  # the last is not in the truth
    for part in ("town <north>", "EPSG:32633", "392,000 to 392,", "5,820,000"):
        assert part in text
    assert page.count("Errors of poor: town &lt;north&gt;") == 1


def test_the_page_of_a_run_shows_them_too(runs):
    text = write_report(runs[1]).read_text(encoding="utf-8")
    told = json.loads((runs[1] / "evaluation" / "test.json").read_text(encoding="utf-8"))
    shown = html.unescape(re.sub(r"<[^>]+>", " ", text))
    assert "Boundaries and calibration, test split" in shown
    for score in (
        told["boundary"]["mean_boundary_iou"],
        told["calibration"]["expected_calibration_error"],
        told["calibration"]["per_class"]["roc_area"][1],
    ):
        assert f"{score:.3f}" in shown
    assert "2.50 GiB of memory at most" in shown
    tags = Tags(text).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "Prediction: town <north>" in [attributes.get("alt") for _, attributes in tags]


def test_runs_without_extra_metrics_say_so(runs, tmp_path):
    plain = write_run(tmp_path / "plain", error=0.2, extra=False)
    found = compare.compare([runs[1], plain], resamples=50)
    write_comparison(found, tmp_path / "mixed.html")
    text = (tmp_path / "mixed.html").read_text(encoding="utf-8")
    assert text.count("not counted") == 8 + 2 * len(LABEL_MAP)
    assert 'id="maps"' not in text
    more = write_run(tmp_path / "more", error=0.1, extra=False)
    write_comparison(compare.compare([plain, more], resamples=50), tmp_path / "none.html")
    text = (tmp_path / "none.html").read_text(encoding="utf-8")
    assert "Calibration" not in text
    assert "Boundaries" not in text


def test_the_same_comparison_gives_the_same_page(runs, page, tmp_path):
    path = tmp_path / "again.html"
    write_comparison(compare.compare(runs, resamples=2000), path)
    assert path.read_text(encoding="utf-8") == page


def test_worst_images_come_first(page, comparison):
    body = page.split('id="images-table"')[1]
    names = re.findall(r'<th scope="row">(scene\d_\d+)</th>', body)
    totals = dict(zip(comparison.images, comparison.image_iou_NR.sum(axis=1), strict=True))
    assert [totals[name] for name in names] == sorted(totals.values())


def test_csv_holds_every_score_and_difference(comparison):
    rows = list(csv.DictReader(io.StringIO(table_files.as_csv(tables.scores(comparison)))))
    scores, bands = 6 + 4 * len(LABEL_MAP), 1 + len(LABEL_MAP)
    assert len(rows) == (3 + 3) * scores + 3 * (2 * bands + 2) + 2 * bands
    first = comparison.intervals.runs[0].scalars["mean_iou"]
    assert float(rows[0]["low"]) == pytest.approx(first.low, abs=1e-6)
    absent = [row for row in rows if row["class"] == "tram & <bus>"]
    assert {row["estimate"] for row in absent} == {""}
    for row in rows:
        judged = bool(row["minus"]) and bool(row["low"])
        assert (row["excludes_zero"] in {"true", "false"}) == judged
        assert (row["verdict"] in {"networks differ", "not told apart"}) == judged
        assert bool(row["adjusted_low"]) == judged
        if judged:
            assert float(row["adjusted_low"]) <= float(row["low"])
            assert float(row["high"]) <= float(row["adjusted_high"])


def test_latex_names_are_escaped_and_the_table_is_whole(comparison):
    text = table_files.as_latex(tables.ranking_with_differences(comparison))
    assert r"good\_again" in text
    assert text.count(r"\\") == 4
    assert all(line.count("&") == 7 for line in text.splitlines() if line.endswith(r"\\"))
    assert r"Pixel accuracy & Micro IoU \\" in text
    poor = next(line for line in text.splitlines() if line.startswith("poor"))
    assert poor.split("&")[2].strip().endswith(r"\textsuperscript{\dag}")
    assert "the table of methods says what methods do" in text  # three seeds of one method


def test_explain_prints_every_definition(runs):
    from rich.console import Console

    console = Console(width=200, file=io.StringIO())
    console.print(explain_metrics.table(runs[0], "test"))
    text = console.file.getvalue()
    for part in ("dataset", "micro", "SMP macro-imagewise", "nnU-Net", "NaN", "3 of 4 classes"):
        assert part in text
    with pytest.raises(CheckpointError, match="SEG-C040"):
        explain_metrics.table(runs[0], "val")


def test_from_the_command_line(runs, tmp_path):
    out = tmp_path / "page.html"
    code = "from terrazzo.cli.app import main; main()"
    words = ["compare", *map(str, runs), "--out", str(out), "--csv", str(tmp_path / "scores.csv")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    *ranking, page, scores, of_methods = done.stdout.splitlines()
    assert [page, scores] == [str(out), str(tmp_path / "scores.csv")]
    assert of_methods == str(tmp_path / "scores_methods.csv")
    assert any("mean IoU" in line and "95 % interval" in line for line in ranking)
    assert all(any(f" {run.name} " in line for line in ranking) for run in runs)
    assert out.read_text(encoding="utf-8").lstrip().startswith("<!DOCTYPE html>")
    words = ["metrics", "explain", str(runs[0])]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert "torchvision" in done.stdout


def gallery(page):
    """Return what the page says of each image to look at: IoU of the runs by its name."""
    found = re.findall(r"<header><h4>([^<]*)</h4>(.*?)</header>", page, re.DOTALL)
    return {
        name: re.findall(r"[01]\.\d+", scores)
        for name, scores in found
        if "mean IoU of this image" in scores
    }


def test_images_of_one_file_name_in_two_folders_are_told_apart(tmp_path):
    runs = [
        write_run(tmp_path / name, error=error, num_images=8, num_examples=8, in_folders=True)
        for name, error in (("a", 0.1), ("b", 0.4))
    ]
    comparison = compare.compare(runs, resamples=20)
    write_comparison(comparison, tmp_path / "compare.html")
    shown = gallery((tmp_path / "compare.html").read_text(encoding="utf-8"))
    assert sorted(shown) == [
        f"scene{scene}/{number:02d}" for scene in (0, 1) for number in range(4)
    ]
    for name, iou_R in zip(comparison.images, comparison.image_iou_NR, strict=True):
        assert shown[name] == [f"{iou:.3f}" for iou in iou_R]


def test_an_evaluation_of_fewer_images_leaves_no_example_of_the_earlier_one(tmp_path):
    fewer = {"num_images": 2, "num_examples": 2}
    runs = [write_run(tmp_path / name, error=0.2, num_examples=6) for name in ("a", "b")]
    for run in runs:
        write_run(tmp_path / "again" / run.name, error=0.3, **fewer)
        again = stored.read(RunFolder(tmp_path / "again" / run.name)).scored[0]
        blank_HW = np.zeros((8, 8), np.uint8)
        examples = tuple(
            Example(name, blank_HW[..., None], blank_HW, blank_HW) for name in again.names
        )
        evaluation = Evaluation(
            "test", 40, again.names, again.counts_NKK, again.ignored_N, examples
        )
        result.write(evaluation, LABEL_MAP, run / "evaluation")
    assert len(list((runs[0] / "evaluation" / "test_examples").glob("*_image.png"))) == 2
    write_comparison(compare.compare(runs, resamples=20), tmp_path / "compare.html")
    shown = gallery((tmp_path / "compare.html").read_text(encoding="utf-8"))
    assert sorted(shown) == ["scene0_000", "scene0_001"]
    assert not list((runs[0] / "evaluation").glob(".*"))


@pytest.mark.parametrize("in_folders", [False, True])
def test_examples_of_older_runs_are_read_without_their_index(tmp_path, in_folders):
    run = write_run(tmp_path / "a", error=0.2, num_images=8, num_examples=8, in_folders=in_folders)
    examples = run / "evaluation" / "test_examples"
    before = stored.read(RunFolder(run)).scored[0].examples
    (examples / "names.json").unlink()
    for kind in ("image", "truth", "prediction"):
        path = examples / f"08_left_from_before_{kind}.png"
        path.write_bytes((examples / before[0].image.name).read_bytes())
    after = stored.read(RunFolder(run)).scored[0].examples
    assert [example.image for example in after] == [example.image for example in before]
    # Better no score than another image's.
    names = [f"{number % 4:02d}" for number in range(8)] if in_folders else [e.name for e in before]
    assert [example.name for example in after] == names


def started_from(folder, source):
    """Say in the recipe of a run that it has begun with the weights of another."""
    path = folder / "config.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f'{text}\n[init]\nrun = "{source}"\npart = "encoder"\n', encoding="utf-8")
    return folder


@pytest.mark.parametrize("sources_compared", [False, True])
def test_runs_that_begin_with_the_same_run_of_their_seed_are_one_method(tmp_path, sources_compared):
    """As a study writes them: the seed 1 of one run begins with the seed 1 of another."""
    sources = [tmp_path / f"pretrained_seed{seed}" for seed in range(3)]
    runs = [
        started_from(write_run(tmp_path / f"fine_seed{seed}", error=0.2, seed=seed), source)
        for seed, source in enumerate(sources)
    ]
    if sources_compared:
        runs += [write_run(path, error=0.4, seed=seed) for seed, path in enumerate(sources)]
    else:
        runs.append(started_from(write_run(tmp_path / "other", error=0.2, seed=4), sources[0]))
    found = compare.compare(runs, resamples=100)
    names = [method.name for method in found.methods]
    assert names == (["fine", "pretrained"] if sources_compared else ["fine"])
    assert [len(method.runs) for method in found.methods] == [3] * len(names)
    assert found.by_method is not None
    estimates = [run.scalars["mean_iou"].estimate for run in found.by_method.intervals.runs]
    assert estimates == pytest.approx([method.spread.mean for method in found.methods])
    page = tmp_path / "compare.html"
    write_comparison(found, page)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))
    assert text.count("methods differ") == sources_compared
    files = table_files.all_tables(found)
    rows = list(csv.DictReader(io.StringIO(files["methods.csv"])))
    assert [row["method"] for row in rows] == names
    assert [row["verdict"] for row in rows[1:]] == ["methods differ"] * sources_compared
    assert files["methods.tex"].count(r"*") == 1 + sources_compared
    scored = list(csv.DictReader(io.StringIO(files["method_scores.csv"])))
    assert {row["method"] for row in scored} == set(names)
    asked = {"csv": tmp_path / "scores.csv", "latex": tmp_path / "scores.tex"}
    write_comparison_files(found, page, **asked, overwrite=True)
    beside = (tmp_path / "scores_methods.csv").read_text(encoding="utf-8")
    assert beside == files["method_scores.csv"]
    latex = asked["latex"].read_text(encoding="utf-8")
    assert latex == f"{files['ranking.tex']}\n{files['methods.tex']}"


def test_seeds_with_training_images_of_their_own_are_one_method(tmp_path):
    """As a study over sizes writes them: each seed with its own draw of training images."""
    runs = [write_run(tmp_path / f"u_25_seed{seed}", error=0.2, seed=seed) for seed in range(3)]
    for seed, run in enumerate(runs):
        path = run / "config.toml"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("[data]", f"[data]\nlimit_seed = {seed}", 1), "utf-8")
    (method,) = compare.compare(runs, resamples=50).methods
    assert (method.name, len(method.runs)) == ("u_25", 3)


def test_methods_of_fewer_than_three_seeds_have_a_spread_and_no_interval(tmp_path):
    runs = [write_run(tmp_path / f"u_seed{seed}", error=0.2, seed=seed) for seed in range(2)]
    found = compare.compare(runs, resamples=50)
    assert found.by_method is None
    assert [method.name for method in found.methods] == ["u"]
    write_comparison(found, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "too few seeds: 2" in text
    assert "train at least 3 seeds of each to compare methods" in text
    assert not {"methods.csv", "method_scores.csv"} & set(table_files.all_tables(found))


def test_a_run_beside_a_method_of_three_seeds_asks_for_seeds_of_its_own(tmp_path):
    """The table of methods holds one of the two that are compared, and so says nothing of them."""
    runs = [write_run(tmp_path / f"u_seed{seed}", error=0.2, seed=seed) for seed in range(3)]
    runs.append(started_from(write_run(tmp_path / "v", error=0.2, seed=0), tmp_path / "other"))
    found = compare.compare(runs, resamples=50)
    assert [method.name for method in found.by_method.methods] == ["u"]
    write_comparison(found, tmp_path / "compare.html")
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    for text in (page, table_files.all_tables(found)["ranking.tex"]):
        assert "train at least 3 seeds of each to compare methods" in text


def test_one_image_is_ranked_without_an_interval(tmp_path):
    runs = [
        write_run(tmp_path / name, error=error, num_images=1)
        for name, error in (("a", 0.1), ("b", 0.5))
    ]
    found = compare.compare(runs, resamples=50)
    assert [run.name for run in found.competitors] == ["a", "b"]
    write_comparison(found, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "Only one image was scored: too few for any interval" in text
    assert "too few images: 1" in text
    assert "(too few images: 1)" in table_files.all_tables(found)["ranking.tex"]


def test_a_class_in_few_images_is_named_and_not_judged(tmp_path):
    """On the page, in CSV and in LaTeX alike."""
    runs = [
        write_run(tmp_path / name, error=error, num_images=5)
        for name, error in (("a", 0.1), ("b", 0.5))
    ]
    found = compare.compare(runs, resamples=50)
    write_comparison(found, tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text(encoding="utf-8")
    files = table_files.all_tables(found)
    assert "too few images: 5" in text
    assert "networks differ" not in text
    assert "(too few images: 5)" in files["ranking.tex"]
    assert "dag" not in files["pairs.tex"].split(r"\begin{tabular}")[1]
    rows = list(csv.DictReader(io.StringIO(files["scores.csv"])))
    assert {row["verdict"] for row in rows if row["class"] == "road"} == {"too few images: 5"}
    assert {row["low"] for row in rows if row["score"] == "mean_iou"} == {""}
    of_class = list(csv.DictReader(io.StringIO(files["iou.csv"])))
    assert [row["images"] for row in of_class[:3]] == ["5", "5", "5"]
