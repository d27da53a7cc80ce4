"""The data check beside its findings: cache, report, proposals, doubted labels, `run`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import tomli_w
from PIL import Image

from terrazzo import check
from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import DataConfig
from terrazzo.check import file_statistics
from terrazzo.check.label_values import Cause, diagnose
from terrazzo.data import datasets, labels
from terrazzo.data.datasets import open_split
from terrazzo.data.labels import LabelClass, LabelMap

LABELS = """
name = "colours"
ignored = [9]
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path):
    """Ten images whose colour tells the class, with noise of their own."""
    root, rng = tmp_path / "data", np.random.default_rng(5)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(10):
        label_HW = np.zeros((48, 40), np.uint8)
        label_HW[:, rng.integers(10, 30) :] = 1
        label_HW[rng.integers(0, 48)] = 9
        image_HWC = rng.integers(0, 60, (48, 40, 3), np.uint8)
        image_HWC[label_HW == 0, 0] += 180
        image_HWC[label_HW == 1, 1] += 180
        Image.fromarray(image_HWC).save(root / "images" / f"{number}.png")
        Image.fromarray(label_HW).save(root / "masks" / f"{number}.png")
    (root / "colours.toml").write_text(LABELS)
    options = {"split": {"train": 0.6, "val": 0.2, "test": 0.2}}
    return DataConfig(
        format="folder", root=str(root), labels=str(root / "colours.toml"), options=options
    )


def examine(data, **options):
    return check.check_data(data, progress=Silent(), threads=2, **options)


def mask_of(data, number):
    return resolve_path(data.root, where="root") / "masks" / f"{number}.png"


def repaint(data, table, numbers=range(10)):
    """Replace the values of masks: `table` is the new value of 0…255."""
    for number in numbers:
        path = mask_of(data, number)
        with Image.open(path) as mask:
            values_HW = np.array(mask)
        Image.fromarray(np.asarray(table, np.uint8)[values_HW]).save(path)


# Counting


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 5000])
def test_values_are_counted_as_numpy_counts_them(dtype, size):
    rng = np.random.default_rng(size)
    values = np.repeat(rng.integers(0, 200, size), rng.integers(1, 9, size)).astype(dtype)
    found, counts = np.unique(values, return_counts=True)
    assert file_statistics.count_values(values) == dict(
        zip(found.tolist(), counts.tolist(), strict=True)
    )


def test_colours_are_counted():
    pixels = np.array([[1, 2, 3], [1, 2, 3], [255, 0, 1], [1, 2, 3]], np.uint8)
    assert file_statistics.count_colours(pixels) == {0x010203: 3, 0xFF0001: 1}


def test_the_table_of_classes_equals_a_count_of_the_read_labels(data):
    repaint(data, [0, 0, *range(2, 256)], range(4))
    report = examine(data)
    pixels, scanned_images, ignored = np.zeros(2), {s: np.zeros(2) for s in datasets.SPLITS}, 0
    for split in datasets.SPLITS:
        opened = open_split(data, split)
        for index in range(len(opened)):
            label_HW = opened.read(index).label_HW
            ignored += (label_HW == 255).sum()
            for k in range(2):
                pixels[k] += (label_HW == k).sum()
                scanned_images[split][k] += (label_HW == k).any() / len(opened)
    for k, row in enumerate(report.classes):
        assert row.pixel_share == pytest.approx(pixels[k] / pixels.sum())
        assert row.image_share == pytest.approx({s: n[k] for s, n in scanned_images.items()})
    assert report.ignored_share == pytest.approx(ignored / (48 * 40 * 10))


def test_suggested_weights_are_those_of_training(data):
    from terrazzo.data.class_weights import class_weights

    weights = class_weights(open_split(data, "train"), "median_frequency")
    assert [row.weight for row in examine(data).classes] == pytest.approx(weights)


def test_statistics_of_bands_come_from_the_images(data):
    files = sorted(mask_of(data, 0).parent.parent.glob("images/*.png"))
    pixels_PC = np.concatenate([np.array(Image.open(f)).reshape(-1, 3) for f in files])
    for band, row in enumerate(examine(data).bands):
        assert row.mean == pytest.approx(pixels_PC[:, band].mean())
        assert row.std == pytest.approx(pixels_PC[:, band].std())
        assert (row.low, row.high) == (pixels_PC[:, band].min(), pixels_PC[:, band].max())


def test_pixels_without_data_count_nowhere(tmp_path):
    report = examine(DataConfig(format="demo", root=str(tmp_path / "demo")))
    assert not report.must_stop
    first = datasets.open_source(DataConfig(format="demo", root=str(tmp_path / "demo")), "train")
    valid = [first.read_image(i)[1] for i in range(len(first.names))]
    assert any(not mask_HW.all() for mask_HW in valid)
    assert sum(row.pixel_share for row in report.classes) == pytest.approx(1)


# Outliers


@pytest.mark.parametrize("count", [12, 24])
def test_a_dark_image_stands_out_among_many_only(tmp_path, count):
    root, rng = tmp_path / "data", np.random.default_rng(2)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        image_HWC = rng.integers(0, 250, (32, 32, 3), np.uint8)
        image_HWC[..., 1] //= 3 if number == 5 else 1
        Image.fromarray(image_HWC).save(root / "images" / f"{number:02}.png")
        Image.fromarray(image_HWC[..., 0] // 200).save(root / "masks" / f"{number:02}.png")
    report = examine(DataConfig(format="folder", root=str(root)))
    found = [f for f in report.findings if f.code == "SEG-D021"]
    assert [f.file for f in found] == [str(root / "images" / "05.png")] * (count >= 20)
    assert all("band green: mean" in f.observed for f in found)


def test_flat_images_are_not_taken_for_one_another(data):
    """Fog, night and empty sea look alike; what is left of them is the vignette of the lens."""
    faint_HWC = np.tile((100 + np.arange(40) // 8).astype(np.uint8)[None, :, None], (48, 1, 3))
    for number in range(10):
        image = mask_of(data, number).parent.parent / "images" / f"{number}.png"
        Image.fromarray(faint_HWC).save(image)
    assert {f.code for f in examine(data).findings} == set()


# Cache


def test_unchanged_files_are_not_read_again(data):
    first = examine(data)
    assert first.reused == 0
    again = examine(data)
    assert again.reused == 10
    assert again.classes == first.classes
    assert again.bands == first.bands
    assert examine(data, fresh=True).reused == 0


def test_a_changed_file_is_read_again_and_a_copied_one_is_not(data):
    examine(data)
    path = mask_of(data, 3)
    before = path.stat()
    with Image.open(path) as mask:
        values_HW = np.array(mask)
    values_HW[0, 0] = 77
    Image.fromarray(values_HW).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    os.utime(mask_of(data, 4), ns=(1, 1))  # the same bytes at another time
    report = examine(data)
    assert report.reused == 9
    assert [f.file for f in report.findings if f.code == "SEG-D001"] == [str(path)]


def test_a_change_that_keeps_the_size_is_seen_by_its_hash(data):
    examine(data)
    path = mask_of(data, 3)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # the checksum of the last chunk
    os.utime(path, ns=(1, 1))
    assert [f.file for f in examine(data).findings if f.code == "SEG-D011"] == [str(path)]


def test_other_options_are_another_data_set(data):
    examine(data)
    by_colour = data.model_copy(
        update={"labels": None, "options": {**data.options, "mask_kind": "colour"}}
    )
    report = examine(by_colour)
    assert report.reused == 0
    assert "#010101" in (report.proposal or "")


def test_a_broken_cache_and_one_that_cannot_be_written_cost_time_alone(data, tmp_path, monkeypatch):
    examine(data)
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_text('{"a": [')
    assert examine(data).reused == 0
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert not examine(data).must_stop


def test_another_label_map_needs_no_second_look(data):
    examine(data)
    file = mask_of(data, 0).parent.parent / "other.toml"
    file.write_text(LABELS.replace("ignored = [9]", ""))
    report = examine(data.model_copy(update={"labels": str(file)}))
    assert report.reused == 10
    assert {f.code for f in report.findings} == {"SEG-D001"}


# Causes


@pytest.mark.parametrize(
    ("raws", "ignored", "values", "cause"),
    [
        (range(5), (), (1, 2, 5), Cause.SHIFTED_UP),
        (range(5), (), (5,), Cause.UNKNOWN),  # one value fits nearly any shift
        (range(1, 6), (0,), (1, 2, 6), Cause.UNKNOWN),  # nothing is missing at the lower end
        (range(1, 6), (255,), (0, 1, 2), Cause.SHIFTED_DOWN),
        (range(1, 6), (255,), (0, 1, 2, 255), Cause.MAPPED),  # with void already mapped
        ((7, 8, 11), (255,), (0, 1, 2, 255), Cause.MAPPED),
    ],
)
def test_a_cause_is_named_where_the_values_leave_one_alone(raws, ignored, values, cause):
    classes = tuple(LabelClass(f"class {raw}", "#000000", (raw,)) for raw in raws)
    assert diagnose(dict.fromkeys(values, 9), LabelMap("own", classes, ignored)) is cause


# Proposals


def proposed(data):
    """Return the proposed map, after checking with it that nothing is left to say."""
    text = examine(data).proposal
    assert text is not None
    file = mask_of(data, 0).parent.parent / "proposed.toml"
    file.write_text(text)
    fitting = data.model_copy(update={"labels": str(file)})
    report = examine(fitting)
    assert report.proposal is None
    assert not report.must_stop
    return labels.from_toml(tomllib.loads(text), where=file)


def test_a_map_that_fits_is_left_alone(data):
    assert examine(data).proposal is None


def test_a_map_is_proposed_where_none_is_named(data):
    own = proposed(data.model_copy(update={"labels": None}))
    assert [each.raw for each in own.classes] == [(0,), (1,), (9,)]


def test_proposed_colours_are_seen_and_differ(data):
    binary = data.model_copy(update={"labels": None})
    repaint(data, [0, 255, *[255] * 254])
    assert (examine(binary).proposal or "").startswith(
        "# nothing says what the values mean: 0 is called background as it is usual\n"
    )
    shown = [each.colour for each in proposed(binary).classes]
    assert shown == ["#BAB0AC", "#4E79A7"]
    black = data.model_copy(update={"options": {**data.options, "mask_kind": "colour"}})
    colours_C3 = np.array([(0, 0, 0), (5, 5, 5), (200, 0, 0)], np.uint8)
    for number in range(10):
        path = mask_of(data, number)
        rows, columns = np.asarray(Image.open(path)).shape
        values_HW = np.repeat(np.arange(rows)[:, None] * 3 // rows, columns, 1)
        Image.fromarray(colours_C3[values_HW]).save(path)
    text = examine(black.model_copy(update={"labels": None})).proposal
    shown = [each["colour"] for each in tomllib.loads(text or "")["classes"]]
    assert len(set(shown)) == len(shown) == 3
    assert not {"#000000", "#050505"} & set(shown)


def test_many_proposed_classes_have_colours_of_their_own(data):
    for number in range(10):
        path = mask_of(data, number)
        rows, columns = np.asarray(Image.open(path)).shape
        values_HW = np.arange(rows * columns).reshape(rows, columns) * 20 // (rows * columns)
        Image.fromarray(values_HW.astype(np.uint8)).save(path)
    own = proposed(data.model_copy(update={"labels": None}))
    assert len(own) == len({each.colour for each in own.classes}) == 20


def test_a_shift_is_followed(data):
    repaint(data, np.arange(1, 257))
    own = proposed(data)
    assert own.names == ("red", "green")
    assert [each.raw for each in own.classes] == [(1,), (2,)]
    assert 10 in own.ignored


def test_a_shift_downwards_is_followed(data):
    file = mask_of(data, 0).parent.parent / "higher.toml"
    file.write_text(LABELS.replace("[0]", "[1]").replace("[1] },\n]", "[2] },\n]"))
    higher = data.model_copy(update={"labels": str(file)})
    repaint(data, [0, 1, *[0] * 254])
    assert [each.raw for each in proposed(higher).classes] == [(0,), (1,)]


def test_masks_that_were_mapped_before_get_a_map_of_train_ids(data):
    file = mask_of(data, 0).parent.parent / "ids.toml"
    file.write_text(LABELS.replace("[0]", "[7]").replace("raw = [1]", "raw = [11]"))
    repaint(data, [0, 1, *[255] * 254])
    own = proposed(data.model_copy(update={"labels": str(file)}))
    assert [each.raw for each in own.classes] == [(0,), (1,)]
    assert own.ignored == (255,)


def test_masks_mapped_before_get_a_map_also_where_no_value_is_stray(data):
    file = mask_of(data, 0).parent.parent / "ids.toml"
    text = LABELS.replace("[0]", "[7]").replace("raw = [1]", "raw = [11]")
    file.write_text(text.replace("ignored = [9]", "ignored = [0, 1, 255]"))
    repaint(data, [0, 1, *[255] * 254])
    own = proposed(data.model_copy(update={"labels": str(file)}))
    assert [each.raw for each in own.classes] == [(0,), (1,)]


def test_no_map_is_proposed_for_what_is_no_mask(data):
    rng = np.random.default_rng(1)
    for number in range(10):
        Image.fromarray(rng.integers(0, 100, (48, 40), np.uint8)).save(mask_of(data, number))
    assert examine(data.model_copy(update={"labels": None})).proposal is None


def test_nothing_is_proposed_where_the_masks_are_spoilt(data):
    file = mask_of(data, 0).parent.parent / "void.toml"
    file.write_text(LABELS.replace("[9]", "[255]"))
    repaint(data, [0, 1, *[254] * 254])
    report = examine(data.model_copy(update={"labels": str(file)}))
    assert "subtracted 1" in report.findings[0].problem
    assert report.proposal is None


def test_a_binary_mask_gets_its_255(data):
    repaint(data, [0, 255] + [0] * 254)
    assert [each.raw for each in proposed(data).classes] == [(0,), (255,)]


def test_a_frequent_new_value_becomes_a_class_and_a_rare_one_is_ignored(data):
    repaint(data, [0, 5, *range(2, 256)], range(5))
    path = mask_of(data, 7)
    with Image.open(path) as mask:
        values_HW = np.array(mask)
    values_HW[3, 3] = 200
    Image.fromarray(values_HW).save(path)
    own = proposed(data)
    assert own.names == ("red", "green", "value_5")
    assert own.ignored == (9, 200)


# Report and command line


def terrazzo(*words, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from terrazzo.cli.app import main; main()", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_the_report_is_worst_first_and_json_says_the_same(data, tmp_path):
    repaint(data, [9] * 256, [7])  # a warning: an image to train on, among others
    mask_of(data, 5).write_bytes(b"")  # an error
    words = ("check", data.root, "--labels", data.labels)
    answer = terrazzo(*words, cwd=tmp_path)
    assert answer.returncode == 3, answer.stderr
    assert answer.stdout.index("error SEG-D013") < answer.stdout.index("warning SEG-D017")
    assert "put the errors right before training" in answer.stdout
    assert "Traceback" not in answer.stderr
    record = json.loads(terrazzo(*words, "--json", cwd=tmp_path).stdout)
    assert record["must_stop"] is True
    assert [f["level"] for f in record["findings"]][:2] == ["error", "warning"]
    assert record["findings"][0]["file"] == str(mask_of(data, 5))


def test_a_recipe_or_a_folder_and_not_both(data, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(tomli_w.dumps({"data": data.model_dump(exclude_none=True)}))
    answer = terrazzo("check", "--config", recipe, cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "nothing stops training" in answer.stdout
    for words in ((), (data.root, "--config", recipe)):
        answer = terrazzo("check", *words, cwd=tmp_path)
        assert answer.returncode == 2
        assert "SEG-X013" in answer.stderr


# The cheap part


def before_training(data):
    check.check_before_training({name: open_split(data, name) for name in datasets.SPLITS}, 2)


def test_headers_are_looked_at_before_training(data):
    before_training(data)
    train = open_split(data, "train")
    image, mask = train.source.files(len(train) - 1)  # not the one that is decoded
    with Image.open(mask) as whole:
        whole.crop((0, 0, 40, 47)).save(mask)
    with pytest.raises(DataError, match=r"SEG-D009.*\n.*\n.*mask 47×40.*image 48×40") as caught:
        before_training(data)
    assert caught.value.file == str(mask)
    Image.new("L", (40, 47)).save(image)
    with pytest.raises(DataError, match="SEG-D020"):
        before_training(data)
    image.write_bytes(b"")
    train.source.files(1)[1].write_bytes(b"")
    with pytest.raises(DataError, match="1 more images have faults"):
        before_training(data)


def test_a_faulty_header_stops_a_run_before_anything_is_written(data, tmp_path):
    train = open_split(data, "train")
    train.source.files(len(train) - 1)[0].write_bytes(b"%PDF-1.7")
    recipe = {
        "backend": "reference",
        "data": data.model_dump(exclude_none=True),
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 1, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
    }
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe))
    answer = terrazzo("run", "--config", "recipe.toml", "--out", "out", cwd=tmp_path)
    assert answer.returncode == 3
    assert "SEG-D012" in answer.stderr
    assert not (tmp_path / "out").exists()


# Doubts


def test_a_trained_model_doubts_a_wrong_label_and_no_right_one(data, tmp_path):
    recipe = {
        "backend": "reference",
        "data": data.model_dump(exclude_none=True),
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 20, "batch_size": 2, "schedule": {"learning_rate": 0.1}},
    }
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe))
    answer = terrazzo("run", "--config", "recipe.toml", "--out", "out", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert not [f for f in examine(data, run=tmp_path / "out").findings if f.code == "SEG-D040"]

    path = mask_of(data, 6)
    with Image.open(path) as mask:
        values_HW = np.array(mask)
    values_HW[10:22, 0:9] = 1  # red in the image
    values_HW[30:36, 0:9] = 1  # the same, and smaller than what is worth a look
    Image.fromarray(values_HW).save(path)
    unsure = path.parent.parent / "images" / "3.png"
    with Image.open(unsure) as scanned:
        pixels_HWC = np.array(scanned)
    for top, green in ((0, 120), (12, 140), (24, 160)):  # labelled red; green is not sure either
        pixels_HWC[top : top + 12, 0:9] = (105, green, 30)
    Image.fromarray(pixels_HWC).save(unsure)
    doubted = [f for f in examine(data, run=tmp_path / "out").findings if f.code == "SEG-D040"]
    assert [f.file for f in doubted] == [str(path)]
    assert "labelled 'green'; the model says 'red'" in doubted[0].observed
    assert "column 4 " in doubted[0].observed

    # What the model proposes, as masks; the data stay as they are.
    before = path.read_bytes()
    place = tmp_path / "proposed"
    examine(data, run=tmp_path / "out", corrections=place)
    assert path.read_bytes() == before
    (proposed,) = (place / "labels").rglob("*.png")
    (changes,) = (place / "changes").rglob("*.png")
    assert proposed.relative_to(place / "labels") == changes.relative_to(place / "changes")
    red, ignored = 0, 255
    expected_HW = np.full(values_HW.shape, ignored)
    expected_HW[10:22, 0:9] = red
    np.testing.assert_array_equal(np.asarray(Image.open(changes)), expected_HW)
    found_HW, own_HW = np.asarray(Image.open(proposed)), values_HW.copy()
    own_HW[10:22, 0:9] = red
    labelled_HW = own_HW < 2
    np.testing.assert_array_equal(found_HW[labelled_HW], own_HW[labelled_HW])
    (row,) = csv.DictReader((place / "corrections.csv").read_text().splitlines())
    assert (row["labelled"], row["proposed"], row["pixels"]) == ("green", "red", "108")
    assert row["label_file"] == str(path)
    assert (place / "legend.png").exists()
    with pytest.raises(CheckpointError, match="SEG-C002"):
        examine(data, run=tmp_path / "out", corrections=place)
    inside = resolve_path(data.root, where="root") / "proposed"
    with pytest.raises(ConfigError, match="SEG-X032"):
        examine(data, run=tmp_path / "out", corrections=inside)


def test_other_classes_than_the_models_are_refused(data, tmp_path):
    recipe = {
        "backend": "reference",
        "data": data.model_dump(exclude_none=True),
        "model": {"name": "pixel_softmax"},
        "training": {"steps": 1, "batch_size": 2, "schedule": {"learning_rate": 0.1}},
    }
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe))
    assert terrazzo("run", "--config", "recipe.toml", "--out", "out", cwd=tmp_path).returncode == 0
    other = tmp_path / "other.toml"
    other.write_text(LABELS.replace('"green"', '"blue"'))
    answer = terrazzo("check", data.root, "--labels", other, "--run", "out", cwd=tmp_path)
    assert answer.returncode == 4
    assert "SEG-D036" in answer.stderr
    shutil.rmtree(tmp_path / "out")
    answer = terrazzo("check", data.root, "--labels", data.labels, "--run", "out", cwd=tmp_path)
    assert answer.returncode == 4


# Scenes


def test_scenes_of_several_rasters_are_checked_and_their_headers_pass(tmp_path):
    """Chips share their files; a label raster's own nodata is no stray value."""
    from affine import Affine

    from terrazzo.io import rasters

    root, rng = tmp_path / "scenes", np.random.default_rng(4)
    root.mkdir()
    place = {"crs": "EPSG:32633", "transform": Affine(2, 0, 392_000, 0, -2, 5_820_000)}
    for name, bands in (("rgb", 3), ("nir", 1)):
        pixels_HWC = rng.integers(1, 900, (200, 160, bands)).astype(np.uint16)
        rasters.write(root / f"{name}.tif", pixels_HWC, **place)
    label_HWC = rng.integers(0, 2, (200, 160, 1)).astype(np.uint8)
    label_HWC[:20] = 77
    rasters.write(root / "label.tif", label_HWC, nodata=77, **place)
    (root / "two.toml").write_text(LABELS.replace("[9]", "[]"))
    scene = {"images": ["rgb.tif", "nir.tif"], "label": "label.tif"}
    data = DataConfig(
        format="geotiff",
        root=str(root),
        labels=str(root / "two.toml"),
        options={"scenes": [scene], "chip": 32, "block": 1, "buffer": 4},
    )
    report = examine(data)
    assert [f for f in report.findings if f.level.name != "NOTE"] == []
    assert sum(report.images.values()) == 7 * 5
    assert [row.name for row in report.bands][3] == "band 4"
    before_training(data)
    label_HWC[150, 100] = 5
    rasters.write(root / "label.tif", label_HWC, nodata=77, **place)
    (found,) = [f for f in examine(data).findings if f.level.name == "ERROR"]
    assert found.code == "SEG-D001"
    assert found.file.endswith("label.tif")
    assert "5 (1 px)" in found.observed
    content = (root / "nir.tif").read_bytes()
    (root / "nir.tif").write_bytes(content[: len(content) * 3 // 5])
    damaged = [f for f in examine(data).findings if f.code == "SEG-D011"]
    assert [f.file for f in damaged] == [str(root / "nir.tif")]  # once, and not for every chip
