"""What stops a run before it begins: the errors of `check` that headers and labels can tell."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from terrazzo import check
from terrazzo.base.errors import DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check.finding import Level
from terrazzo.data import datasets
from terrazzo.io import rasters
from terrazzo.workflows import train as train_workflow

DATA = Path(os.environ.get("TERRAZZO_DATA", "nowhere"))
COUNT = 10


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def label_map(path, *raw, ignored=()):
    """Write a label map with a class for each raw value."""
    lines = ['name = "m"', f"ignored = {list(ignored)}"]
    for value in raw:
        lines += ["[[classes]]", f'name = "c{value}"', 'colour = "#102030"', f"raw = [{value}]"]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    """Return what writes ten images; masks hold two values, half and half."""

    def write(raw=(0, 1), *, ignored=(), values=(0, 1), images=None, options=None):
        rng = np.random.default_rng(1)
        for number in range(COUNT):
            image = rng.integers(0, 255, (12, 10), np.uint8)
            image = image if images is None else images(number, image)
            mask = np.full((12, 10), values[0], np.uint8)
            mask[6:] = values[1]
            save(tmp_path / "images" / f"{number:03d}.png", image)
            save(tmp_path / "masks" / f"{number:03d}.png", mask)
        return DataConfig(
            format="folder",
            root=str(tmp_path),
            labels=label_map(tmp_path / "m.toml", *raw, ignored=ignored),
            options=options or {"split": {"train": 0.6, "val": 0.2, "test": 0.2}},
        )

    return write


def begin(data):
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    return check.check_before_training(splits, 2, data)


def refused(data, code):
    """Assert that the check and the run both stop at a code; return the run's error."""
    report = check.check_data(data, threads=2)
    assert code in {f.code for f in report.findings if f.level is Level.ERROR}
    with pytest.raises(DataError) as caught:
        begin(data)
    assert caught.value.code == code
    return caught.value


def test_sound_data_pass_and_are_counted(folder):
    data = folder(ignored=[255])
    counted = begin(data)
    assert counted.pixels_NK.tolist() == [[60, 60]] * COUNT
    assert counted.ignored_N.tolist() == [0] * COUNT
    assert not check.check_data(data, threads=2).must_stop


def test_masks_of_0_and_255_with_255_ignored(folder):
    error = refused(folder((0, 1), ignored=[255], values=(0, 255)), "SEG-D002")
    assert "255" in str(error)


def test_masks_ignored_altogether(folder):
    refused(folder((0, 1), ignored=[7], values=(7, 7)), "SEG-D017")


def test_values_that_are_not_in_the_map(folder, tmp_path):
    data = folder()
    for name in names_of(data, "train")[2:4]:  # not the one that is decoded whole
        save(tmp_path / "masks" / f"{name}.png", np.full((12, 10), 3, np.uint8))
    error = refused(data, "SEG-D001")
    assert "1 more images have faults" in str(error)
    assert "3 (120 px); 3 first at row 0, column 0" in str(error)


def test_one_class_beside_ignored_pixels(folder):
    error = refused(folder((1,), ignored=[0]), "SEG-D043")
    assert "'c1'" in str(error)
    assert "50.0% of all pixels are ignored" in str(error)
    assert "make the background a class" in str(error)


def test_one_class_alone_is_no_task(folder):
    refused(folder((1,), values=(1, 1)), "SEG-D043")


def test_a_class_without_pixels_is_no_error_where_nothing_is_ignored(folder):
    begin(folder((0, 1, 2), values=(0, 0)))  # a part of a data set, for a trial


def names_of(data, split):
    return datasets.open_split(data, split).names


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_with_nothing_to_teach_or_score(folder, tmp_path, split):
    data = folder(ignored=[9])
    for name in names_of(data, split):
        save(tmp_path / "masks" / f"{name}.png", np.full((12, 10), 9, np.uint8))
    error = refused(data, "SEG-D044")
    assert f"'{split}' holds no labelled pixel" in str(error)


def test_a_test_split_without_labels_stops_nothing(folder, tmp_path):
    data = folder(ignored=[9])
    for name in names_of(data, "test"):
        save(tmp_path / "masks" / f"{name}.png", np.full((12, 10), 9, np.uint8))
    begin(data)


def test_one_image_of_16_bits_among_those_of_8(folder, tmp_path):
    data = folder()
    name = names_of(data, "test")[0]
    save(tmp_path / "images" / f"{name}.png", np.full((12, 10), 4000, np.uint16))
    error = refused(data, "SEG-D021")
    assert error.file == str(tmp_path / "images" / f"{name}.png")
    assert "uint16" in str(error)


def by_lists(tmp_path):
    names = [f"{number:03d}" for number in range(COUNT)]
    parts = {"train": names[:6], "val": names[6:8], "test": names[8:]}
    for split, some in parts.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(some))
    return {"lists": {split: f"{split}.txt" for split in parts}}


@pytest.mark.parametrize("numbers", [(9,), (8, 9)])
def test_rgb_among_grey_in_test_only(folder, tmp_path, numbers):
    def rgb_in_test(number, image):
        return np.stack([image] * 3, axis=2) if number in numbers else image

    error = refused(folder(images=rgb_in_test, options=by_lists(tmp_path)), "SEG-D020")
    assert "00" in error.file


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_tiff_of_three_pages_among_those_of_one(folder, tmp_path, split):
    data = folder()
    (stacked, *_) = names_of(data, split)
    pages = [Image.fromarray(np.full((12, 10), value, np.uint8)) for value in (90, 120, 150)]
    for number in range(COUNT):
        path = tmp_path / "images" / f"{number:03d}.png"
        with Image.open(path) as image:
            image.save(path.with_suffix(".tif"))
        path.unlink()
    several = tmp_path / "images" / f"{stacked}.tif"
    pages[0].save(several, save_all=True, append_images=pages[1:])
    error = refused(data, "SEG-D041")
    assert error.file == str(several)
    assert "3 planes" in str(error)


def test_band_names_in_another_order(folder, tmp_path):
    data = folder()
    for number in range(COUNT):
        (tmp_path / "images" / f"{number:03d}.png").unlink()
        names = ("blue", "green", "red") if number == 4 else ("red", "green", "blue")
        pixels_HWC = np.random.default_rng(number).integers(0, 255, (12, 10, 3), np.uint8)
        path = tmp_path / "images" / f"{number:03d}.tif"
        rasters.write(path, pixels_HWC, crs=None, transform=None, band_names=names)
    error = refused(data, "SEG-D020")
    assert error.file == str(tmp_path / "images" / "004.tif")
    assert "blue, green, red" in str(error)


def test_a_data_set_that_cannot_be_opened_is_reported(folder, tmp_path):
    data = folder()
    for path in (tmp_path / "images").iterdir():
        path.rename(path.with_suffix(".tga"))
    report = check.check_data(data, threads=2)
    assert {f.code for f in report.findings if f.level is Level.ERROR} >= {"SEG-D014"}


def of_16_bits(scale, spread):
    """Return what makes scenes of 12 bits of more or less light, some of them on another scale."""

    def image(number, small):
        light = 1 + spread * number / COUNT
        return (small.astype(np.float64) * 4 * light).astype(np.uint16) * scale(number)

    return image


@pytest.mark.parametrize(("every", "told"), [(2, 5), (5, 2), (9, 2)])
def test_12_bits_beside_16_bits_are_told_of(folder, every, told):
    def scale(number):
        return 16 if number % every == 0 else 1

    report = check.check_data(folder(images=of_16_bits(scale, 2.0)), threads=2)
    found = [f for f in report.findings if f.code == "SEG-D045"]
    assert len(found) == told
    assert {f.level for f in found} == {Level.WARNING}
    assert "as in " in found[0].observed


@pytest.mark.parametrize("scale", [lambda _: 1, lambda _: 16])
def test_scenes_of_more_and_less_light_have_one_scale(folder, scale):
    report = check.check_data(folder(images=of_16_bits(scale, 12.0)), threads=2)
    assert "SEG-D045" not in {f.code for f in report.findings}


@pytest.mark.parametrize("normalize", ["dataset", "robust"])
@pytest.mark.parametrize(("every", "told"), [(2, True), (100, False)])
def test_a_run_tells_of_12_bits_beside_16_bits(folder, tmp_path, normalize, every, told):
    def scale(number):
        return 16 if number and number % every == 0 else 1

    data = folder(images=of_16_bits(scale, 2.0))
    config = Config.model_validate(
        {
            "backend": "reference",
            "name": "scales",
            "data": data.model_dump(mode="json", exclude_none=True) | {"normalize": normalize},
            "model": {"name": "pixel_softmax"},
            "training": {"batch_size": 2, "steps": 1, "schedule": {"learning_rate": 0.1}},
        }
    )
    said = []
    progress = SimpleNamespace(say=said.append, advance=Silent().advance)
    train_workflow.train(config, tmp_path / "run", progress=progress)
    lines = [line for line in said if line.startswith("warning SEG-D045: the images have two")]
    assert len(lines) == told
    assert all("of the 6 training images that were looked at" in line for line in lines)


def test_dark_scenes_beside_bright_ones_are_no_other_scale(folder):
    """The largest value alone, a lamp at night say, does not make a scale."""

    def night(number, small):
        image = small.astype(np.uint16) * 16
        if number % 2:
            image = image // 40
            image[0, 0] = 4000
        return image

    report = check.check_data(folder(images=night), threads=2)
    assert "SEG-D045" not in {f.code for f in report.findings}


def test_labels_the_check_has_seen_are_not_read_again(folder, tmp_path, monkeypatch):
    data = folder()
    check.check_data(data, threads=2)
    source = type(datasets.open_split(data, "train").source)
    read = source.read_label
    calls = []
    monkeypatch.setattr(source, "read_label", lambda *a: (calls.append(1), read(*a))[1])
    assert begin(data).pixels_NK.sum() == COUNT * 120
    assert len(calls) == len(datasets.SPLITS)  # of the one image a split that is decoded whole


def test_pixels_without_data_do_not_count(folder, tmp_path):
    data = folder(ignored=[255])
    for number in range(COUNT):
        (tmp_path / "images" / f"{number:03d}.png").unlink()
        pixels_HWC = np.full((12, 10, 1), 9, np.uint8)
        pixels_HWC[:2] = 0
        path = tmp_path / "images" / f"{number:03d}.tif"
        rasters.write(path, pixels_HWC, crs=None, transform=None, nodata=0)
        mask = np.zeros((12, 10), np.uint8)
        mask[:2], mask[6:] = 77, 1  # 77 is in no map, and lies where there is no data
        save(tmp_path / "masks" / f"{number:03d}.png", mask)
    assert begin(data).pixels_NK.tolist() == [[40, 60]] * COUNT


@pytest.mark.skipif(not DATA.is_dir(), reason="TERRAZZO_DATA is not set")
def test_the_labels_of_camvid_are_read_in_seconds():
    data = DataConfig(format="camvid", root=str(DATA / "camvid"))
    began = time.perf_counter()
    counted = begin(data)
    seconds = time.perf_counter() - began
    assert len(counted.splits) == 701
    assert seconds < 30
