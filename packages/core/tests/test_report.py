import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from PIL import Image

from terrazzo.base.errors import CheckpointError, ResourceError
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Batch
from terrazzo.evaluation import result
from terrazzo.evaluation.result import Evaluation, Example
from terrazzo.metrics import ConfusionMatrix
from terrazzo.report import image_layers, run_examples, write_report
from terrazzo.runs.folder import RunFolder
from terrazzo.training import first_batch

STREET = {
    "sky": "#808080",
    "building": "#800000",
    "pole": "#C0C080",
    "road": "#804080",
    "pavement": "#3C28DE",
    "tree": "#808000",
    "sign": "#C08080",
    "fence": "#40407F",
    "car": "#400080",
    "pedestrian": "#404000",
    "bicyclist": "#0080C0",
}
ABSENT = 10
"""Train id that `street_scene` never draws."""


def street_map(num_classes=11):
    colours = [*STREET.values(), *(f"#{4099 * k % 0xFFFFFF:06X}" for k in range(12, 80))]
    names = [*STREET, *(f"class {k}" for k in range(12, 80))]
    return LabelMap(
        "street",
        tuple(
            LabelClass(name, colour, (k,))
            for k, (name, colour) in enumerate(
                zip(names[:num_classes], colours[:num_classes], strict=True)
            )
        ),
    )


def street_scene(random, label_map, rows, columns):
    """An image, its label and a prediction that is wrong in plausible ways."""
    label_HW = np.zeros((rows, columns), dtype=label_map.dtype)
    for column in range(0, columns, columns // 6):
        top = random.integers(rows // 8, rows // 2)
        label_HW[top:, column : column + columns // 6] = random.choice([1, 1, 5])
    label_HW[rows * 5 // 8 :] = 4
    slope = np.abs(np.arange(columns) - columns / 2) / columns
    label_HW[np.arange(rows)[:, None] > rows * (0.58 + 0.5 * slope)] = 3
    for _ in range(12):
        kind = random.choice([2, 6, 7, 8, 8, 9])
        height = rows // (3 if kind == 2 else 7)
        width = max(2, columns // (60 if kind == 2 else 9))
        top, left = random.integers(rows // 3, rows * 3 // 4), random.integers(0, columns - width)
        label_HW[top : top + height, left : left + width] = kind
    label_HW %= len(label_map)
    shading = random.normal(0, 14, (rows, columns, 1)) + np.linspace(50, -30, rows)[:, None, None]
    image_HWC = np.clip(label_map.colourise(label_HW) + shading, 0, 255).astype(np.uint8)
    prediction_HW = np.roll(label_HW, random.integers(-rows // 40, rows // 40 + 1, 2), (0, 1))
    top, left = random.integers(0, rows // 2), random.integers(0, columns // 2)
    patch_HW = prediction_HW[top : top + rows // 3, left : left + columns // 3]
    patch_HW[(patch_HW == 5) | (patch_HW == 9)] = 1 % len(label_map)
    label_HW[:, : columns // 30] = label_map.ignore_index
    return image_HWC, label_HW, prediction_HW


def scored(label_map, num_images=6, *, split="test", rows=72, columns=96, names=None, shown=3):
    random = np.random.default_rng(3)
    names = names or tuple(f"0016E5_{k:05d}" for k in range(num_images))
    matrices, examples = [], []
    for name in names:
        image_HWC, label_HW, prediction_HW = street_scene(random, label_map, rows, columns)
        matrix = ConfusionMatrix(len(label_map), label_map.ignore_index)
        matrix.update(label_HW, prediction_HW)
        matrices.append(matrix)
        examples.append(Example(name, image_HWC, label_HW, prediction_HW))
    return Evaluation(
        split,
        460,
        tuple(names),
        np.stack([matrix.counts for matrix in matrices]),
        np.array([matrix.ignored for matrix in matrices]),
        tuple(examples[:shown]),
    )


def log_entries(num_steps=460, every=10):
    random = np.random.default_rng(5)
    for step in range(every, num_steps + 1, every):
        yield {
            "kind": "train",
            "step": step,
            "epoch": step // 46,
            "loss": 2.4 * (1 + step / 20) ** -0.8 * float(np.exp(random.normal(0, 0.12))),
            "learning_rate": 1e-3 * (1 - step / (num_steps + 1)) ** 0.9,
        }
    for epoch in range(1, 11):
        late = epoch == 10
        yield {
            "kind": "validation",
            "step": epoch * num_steps // 10,
            "epoch": epoch,
            "mean_iou": 0.47 - 0.35 * 0.7**epoch - 0.02 * late,
            "pixel_accuracy": 0.84 - 0.3 * 0.6**epoch,
            "best": not late,
        }


def write_json_lines(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def config_table(name):
    return {
        "backend": "torch",
        "name": name,
        "data": {"format": "camvid", "root": "$TERRAZZO_DATA/camvid"},
        "model": {"name": "unet", "options": {"width": 16}},
        "training": {"epochs": 10, "schedule": {"learning_rate": 1e-3}},
    }


RUN = {
    "terrazzo": "0.1.0",
    "backend": "torch",
    "model": "unet",
    "num_parameters": 1943523,
    "device": "cpu",
    "versions": {"torch": "2.15.0", "numpy": "2.4.1"},
    "python": "3.11.2",
    "platform": "Linux-6.1-x86_64",
    "cpu_count": 2,
    "git_commit": "e664aac",
    "created": "2026-11-21T05:00:00+00:00",
    "seed": 0,
    "command": "terrazzo run --backend torch --config recipes/camvid/unet_quick.toml",
    "data": {
        "format": "camvid",
        "root": "data/camvid",
        "label_map": "street",
        "splits": {
            "train": {"images": 367, "fingerprint": "b1946ac92492d2347c6235b4d2611184" * 2},
            "test": {"images": 233, "fingerprint": "591785b794601e212b260e25925636fd" * 2},
        },
    },
    "normalisation": {
        "bands": ["red", "green", "blue"],
        "mean": [105.2, 108.0, 110.4],
        "std": [76.1, 78.3, 77.9],
    },
}


def make_run(folder, label_map=None, evaluations=None, *, name="camvid_unet"):
    """A finished run; `evaluations` () leaves the scores out."""
    label_map = label_map or street_map()
    folder.mkdir(parents=True)
    table = config_table(name)
    (folder / "config.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    (folder / "labels.toml").write_text(tomli_w.dumps(label_map.as_toml()), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(RUN), encoding="utf-8")
    entries = sorted(log_entries(), key=lambda entry: entry["step"])
    write_json_lines(folder / "log.jsonl", entries)
    timing = [{"step": 46 * k, "seconds": 31.0, "steps_per_second": 1.48} for k in range(1, 11)]
    first = {"step": 1, "seconds_to_first_step": 24.25}
    write_json_lines(folder / "timing.jsonl", [first, *timing])
    for outcome in (scored(label_map),) if evaluations is None else evaluations:
        result.write(outcome, label_map, folder / "evaluation")
    return folder


class Page(HTMLParser):
    """The tags, attributes and text of a page; fails on tags that do not match."""

    VOID = frozenset({"meta", "input", "img", "br", "link"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(html)
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

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "camvid_unet")


@pytest.fixture(scope="module")
def html(run_folder):
    return write_report(run_folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_is_one_small_file_that_refers_to_nothing_outside(html, page):
    assert len(html) < 3_000_000
    assert "http://" not in html
    assert "https://" not in html
    assert "//" not in "".join(re.findall(r"""(?:src|href)=["']([^"']{1,40})""", html))
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html
    assert not page.all("link")
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_ids_are_unique_and_every_reference_has_its_target(html, page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:href="#|url\(#|labelledby="|for=")([^")]+)', html))
    assert referred <= set(ids)
    assert len(referred) > 10


def test_leads_with_the_mean_iou_its_definition_and_how_many_images(page, run_folder):
    summary = json.loads((run_folder / "evaluation/test.json").read_text(encoding="utf-8"))
    assert f"{summary['scores']['mean_iou']:.3f} mean IoU, test split" in page.text
    assert "A score of these 6 images only." in page.text
    assert summary["definition"][1:] in page.text
    assert f"{summary['pixels_counted']:,} pixels counted" in page.text
    assert f"{summary['pixels_ignored']:,} ignored" in page.text
    assert "10 of 11 classes present" in page.text


def test_curves_tell_their_numbers_and_mark_the_best_step(page, html):
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert labels[0].startswith("Training loss: from ")
    assert labels[1].endswith("Best: 0.456 at step 414.")
    assert labels[2].startswith("Learning rate: from 0.00098 at step 10 to ")
    assert "best 0.456 at 414" in html
    assert all(svg["role"] == "img" for svg in page.all("svg"))
    assert "var(--first)" in html
    assert "DejaVu" not in html


def test_every_class_has_its_row_with_scores_pixels_and_colour(html, run_folder):
    summary = json.loads((run_folder / "evaluation/test.json").read_text(encoding="utf-8"))
    rows = dict(re.findall(r'<th scope="row" data-value="([^"]+)">(.*?)</tr>', html, re.DOTALL))
    assert list(rows) == list(STREET)
    for k, (name, colour) in enumerate(STREET.items()):
        assert f"background:{colour}" in rows[name]
        assert f">{sum(summary['counts'][k]):,}<" in rows[name]
        if k != ABSENT:
            assert f"{summary['per_class']['iou'][k]:.3f}" in rows[name]
            assert f"{summary['per_class']['recall'][k]:.3f}" in rows[name]


def test_an_absent_class_is_called_absent_and_never_zero(html):
    row = re.search(r'<th scope="row" data-value="bicyclist">(.*?)</tr>', html, re.DOTALL)[1]
    assert row.count(">absent<") == 4
    assert "0.000" not in row
    assert row.count('data-value=""') == 4


def test_undefined_precision_and_recall_give_their_reason(tmp_path):
    counts_NKK = np.array([[[5, 0, 0], [3, 0, 0], [0, 0, 0]]])
    label_map = street_map(3)
    never_predicted = Evaluation("test", 1, ("a",), counts_NKK, np.array([0]))
    transposed = Evaluation("val", 1, ("a",), counts_NKK.transpose(0, 2, 1), np.array([0]))
    text = page_of(make_run(tmp_path / "run", label_map, (never_predicted, transposed))).text
    summary = result.summary(never_predicted, label_map)
    assert ("not predicted" in text) == (summary["per_class"]["precision"][1] is None)
    assert "not in ground truth" in text


def test_matrix_holds_counts_and_shares_of_the_row(html, run_folder):
    counts = json.loads((run_folder / "evaluation/test.json").read_text())["counts"]
    matrix = re.search(r'<div class="matrix.*?</table>', html, re.DOTALL)[0]
    shown = re.findall(r'class="pixels">([\d,]+)<', matrix)
    assert [int(text.replace(",", "")) for text in shown] == [n for row in counts for n in row]
    share = counts[0][0] / sum(counts[0])
    assert f'--share:{share:.3f}"><span class="parts">{100 * share:.0f}<' in matrix
    assert matrix.count('class="parts">–<') == len(counts)  # the row of the absent class
    assert matrix.count('scope="row"') == matrix.count('scope="col"') == len(counts)


def test_images_are_ordered_from_the_worst(page, run_folder):
    counts_NKK, _ = result.read_counts(run_folder / "evaluation", "test")
    each = [ConfusionMatrix.from_counts(counts_KK).scores().mean_iou for counts_KK in counts_NKK]
    worst_first = [f"0016E5_{k:05d}" for k in np.argsort(each)]
    table = page.text.partition("Each image scored by itself")[2]
    assert re.findall(r"0016E5_\d{5}", table) == worst_first
    examples = [image["alt"] for image in page.all("img") if image["alt"].startswith("Image")]
    assert examples == [f"Image {name}" for name in worst_first if name < "0016E5_00003"]


def test_errors_are_told_as_a_share_of_the_counted_pixels(tmp_path):
    label_map = street_map(2)
    label_HW = np.array([[0, 0, 1, 1], [255, 255, 1, 1]], dtype=np.uint8)
    prediction_HW = np.array([[0, 1, 1, 1], [0, 0, 1, 0]], dtype=np.uint8)
    image_HWC = np.full((2, 4, 3), 90, dtype=np.uint8)
    outcome = Evaluation(
        "test",
        1,
        ("a",),
        np.array([[[1, 1], [1, 3]]]),
        np.array([2]),
        (Example("a", image_HWC, label_HW, prediction_HW),),
    )
    assert "Errors: 33.3 % of" in page_of(make_run(tmp_path / "run", label_map, (outcome,))).text


def test_the_borders_of_a_prediction_are_drawn_over_the_image():
    labels_HWC = np.full((40, 60, 3), (10, 20, 30), np.uint8)
    labels_HWC[10:30, 20:40] = (200, 100, 0)
    plain = Image.new("RGB", (60, 40), (77, 77, 77))
    drawn_HWC = np.asarray(image_layers.contours(plain, Image.fromarray(labels_HWC), 60))
    assert drawn_HWC[20, 20].tolist() == drawn_HWC[10, 30].tolist() == [200, 100, 0]
    assert drawn_HWC[20, 19].tolist() == [10, 20, 30]
    inside_or_far = (drawn_HWC == 77).all(axis=2)
    assert inside_or_far[12:28, 22:38].all()
    assert inside_or_far[:8].all()
    assert image_layers.contours(plain, Image.fromarray(labels_HWC), 30).size == (30, 20)


def test_the_first_batch_is_shown_with_its_labels_over_it(tmp_path):
    label_map = street_map(3)
    folder = make_run(tmp_path / "run", label_map)
    assert "The first batch" not in page_of(folder).text  # a run of an earlier version
    images_BHWC = np.full((10, 32, 48, 3), 90, np.uint8)
    labels_BHW = np.zeros((10, 32, 48), np.uint8)
    names = tuple(f"street{n}" for n in range(10))
    batch = Batch(images_BHWC, labels_BHW, names, names)
    first_batch.write(batch, label_map, RunFolder(folder).first_batch)
    page = page_of(folder)
    assert "The first batch" in page.text
    told = [image["alt"] for image in page.all("img") if "over image" in image["alt"]]
    assert told == [f"Labels over image {n}" for n in range(1, 9)]


def test_every_image_and_header_is_named_for_screen_readers(page):
    assert len(page.all("img")) == 5 * 3
    assert all(image["alt"] for image in page.all("img"))
    assert all(header.get("scope") in {"row", "col"} for header in page.all("th"))
    assert page.all("html") == [{"lang": "en"}]


def test_hostile_names_stay_text(tmp_path):
    hostile = "<script>alert(1)</script>"
    quoted = '"><img src=x onerror=alert(1)>'
    label_map = LabelMap(
        "street", (LabelClass(hostile, "#808080", (0,)), LabelClass(quoted, "#800000", (1,)))
    )
    outcome = scored(label_map, names=(f"night/{quoted}", "x' onload='alert(1)"))
    folder = make_run(tmp_path / "run", label_map, (outcome,), name=hostile)
    record = RUN | {"command": hostile, "versions": {hostile: quoted}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    page = page_of(folder)
    assert len(page.all("script")) == 1
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert hostile in page.text
    assert quoted in page.text


@pytest.mark.parametrize("num_classes", [1, 2, 30])
def test_any_number_of_classes(tmp_path, num_classes):
    label_map = street_map(num_classes)
    page = page_of(make_run(tmp_path / "run", label_map))
    for name in label_map.names:
        assert name in page.text
    assert len([h for h in page.all("th") if h.get("class") == "column"]) == num_classes


def test_a_matrix_that_no_one_can_read_is_left_to_the_json(tmp_path):
    page = page_of(make_run(tmp_path / "run", street_map(61)))
    assert "61 classes are too many for a readable matrix" in page.text
    assert not [h for h in page.all("th") if h.get("class") == "column"]


def test_images_are_reduced_until_they_keep_the_budget(tmp_path, monkeypatch):
    noise_HWC = np.random.default_rng(0).integers(0, 256, (270, 400, 3), dtype=np.uint8)
    blank_HW = np.zeros((270, 400), dtype=np.uint8)
    example = Example("a", noise_HWC, blank_HW, blank_HW)
    outcome = Evaluation(
        "test", 1, ("a",), np.full((1, 1, 1), blank_HW.size), np.array([0]), (example,)
    )
    folder = make_run(tmp_path / "run", street_map(1), (outcome,))

    def characters():
        return sum(len(image["src"]) for image in page_of(folder).all("img"))

    assert characters() > 80_000
    monkeypatch.setattr(run_examples, "BUDGET", 80_000)
    assert 10_000 < characters() <= 80_000


def test_a_long_log_is_drawn_in_few_points(tmp_path, html):
    folder = make_run(tmp_path / "run")
    write_json_lines(folder / "log.jsonl", log_entries(400_000))
    longer = write_report(folder).read_text(encoding="utf-8")
    assert "mean, and lowest to highest, of neighbouring steps" in longer
    assert len(longer) < len(html) + 100_000


def test_a_run_that_was_stopped_shows_what_is_there(tmp_path):
    folder = make_run(tmp_path / "run", evaluations=())
    for name in ("run.json", "timing.jsonl"):
        (folder / name).unlink()
    entries = [*log_entries(), {"kind": "stopped", "step": 460, "reason": "SIGTERM"}]
    write_json_lines(folder / "log.jsonl", entries)
    page = page_of(folder)
    assert "This run has not been scored yet" in page.text
    assert "Stopped at step 460: SIGTERM." in page.text
    assert len(page.all("svg")) == 3
    assert not page.all("img")


def test_a_run_that_has_only_begun_still_gives_a_page(tmp_path):
    folder = make_run(tmp_path / "run", evaluations=())
    (folder / "log.jsonl").write_bytes(b'{"kind": "train", "step": 10, "epo')
    page = page_of(folder)
    assert not page.all("svg")
    assert "camvid_unet" in page.text


def test_validation_scores_are_not_passed_off_as_test_scores(tmp_path):
    label_map = street_map()
    page = page_of(make_run(tmp_path / "run", label_map, (scored(label_map, split="val"),)))
    assert "mean IoU, val split" in page.text
    assert "has not been scored on the test split" in page.text


def test_the_test_split_leads_where_several_were_scored(tmp_path):
    label_map = street_map()
    outcomes = tuple(
        scored(label_map, 2, split=split) for split in ("night", "train", "val", "test")
    )
    page = page_of(make_run(tmp_path / "run", label_map, outcomes))
    assert "mean IoU, test split" in page.text
    assert re.findall(r"Classes, (\w+) split", page.text) == ["test", "val", "train", "night"]


def test_same_folder_same_bytes(run_folder, html):
    first = write_report(run_folder).read_bytes()
    assert first == html.encode()
    assert [path.name for path in run_folder.iterdir() if path.name.startswith(".")] == []


def test_no_run_folder(tmp_path):
    with pytest.raises(CheckpointError, match="SEG-C001: not a run folder"):
        write_report(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_log_names_file_and_line(tmp_path):
    folder = make_run(tmp_path / "run", evaluations=())
    (folder / "log.jsonl").write_text('{"kind": "stopped", "step": 1, "reason": ""}\n{"ki\n')
    with pytest.raises(CheckpointError, match=r"(?s)SEG-C014.*log\.jsonl.*line 2"):
        write_report(folder)


def test_a_failed_write_leaves_the_earlier_report(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run", evaluations=())
    before = write_report(folder).read_bytes()
    (folder / "run.json").unlink()

    def refuse(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ResourceError, match="No space left"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_importing_the_report_loads_no_plotting_and_writing_one_no_framework(run_folder):
    program = f"""
import sys
from pathlib import Path
import terrazzo.report
early = {{"matplotlib", "jinja2", "PIL", "cv2"}} & set(sys.modules)
assert not early, early
terrazzo.report.write_report(Path({str(run_folder)!r}))
late = {{"torch", "tensorflow", "keras", "jax", "matplotlib.pyplot"}} & set(sys.modules)
assert not late, late
"""
    subprocess.run([sys.executable, "-c", program], check=True)
