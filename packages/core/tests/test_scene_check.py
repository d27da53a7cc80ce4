"""What the data check and a run say of scenes: places in the scene, masked labels, pixel sizes."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine

from terrazzo.base import config_parsing
from terrazzo.base.errors import DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check import cache, check_before_training, check_data
from terrazzo.data import datasets
from terrazzo.io import rasters
from terrazzo.runs import saved_model
from terrazzo.workflows import train as train_workflow

SHAPE = (128, 160)
CHIP = 32


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def place(metres=2.0, left=392_000):
    transform = Affine(metres, 0, left, 0, -metres, 5_820_000)
    return {"crs": "EPSG:32633", "transform": transform}


def write(root, name="image", seed=0, dtype="uint8", nodata=None, change=lambda i, lab: None, **at):
    """Write an image and its labels 0, 1, 2, after a change to both."""
    rng = np.random.default_rng(seed)
    label_HW = rng.integers(0, 3, (SHAPE[0] // 8, SHAPE[1] // 8)).repeat(8, 0).repeat(8, 1)
    label_HW = label_HW.astype(np.uint8)
    image_HWC = (label_HW[..., None] * 60 + rng.integers(20, 60, (*SHAPE, 3))).astype(dtype)
    change(image_HWC, label_HW)
    rasters.write(root / f"{name}.tif", image_HWC, **place(**at))
    rasters.write(root / f"{name}_label.tif", label_HW[..., None], nodata=nodata, **place(**at))
    (root / "m.toml").write_text(
        'name = "m"\nignored = [9]\nclasses = [{ name = "back", colour = "#000000", raw = [0] }, '
        '{ name = "b", colour = "#00FF00", raw = [1] }, '
        '{ name = "c", colour = "#FF0000", raw = [2] }]\n'
    )
    return image_HWC, label_HW


def data_of(root, *names, **options):
    scenes = [{"images": [f"{n}.tif"], "label": f"{n}_label.tif"} for n in names or ("image",)]
    chosen = {"scenes": scenes, "chip": CHIP, "block": 1, "buffer": 0, **options}
    return DataConfig(format="geotiff", root=str(root), labels=str(root / "m.toml"), options=chosen)


def findings(root, code, *names, **options):
    report = check_data(data_of(root, *names, **options))
    return [found for found in report.findings if found.code == code]


def run(root, *names, **options):
    said = []
    recipe = config_parsing.parse(
        Config,
        {
            "name": "scene",
            "backend": "reference",
            "data": data_of(root, *names, **options).model_dump(mode="json", exclude_none=True),
            "model": {"name": "pixel_softmax"},
            "training": {"steps": 1, "batch_size": 2, "schedule": {"learning_rate": 0.1}},
        },
        where="here",
    )
    progress = SimpleNamespace(say=said.append, advance=Silent().advance)
    finished = train_workflow.train(recipe, root / "run", progress=progress)
    return finished, said


# Places


def stray(image_HWC, label_HW):
    label_HW[100, 110] = 77


def test_a_stray_label_is_placed_in_the_scene(tmp_path):
    write(tmp_path, change=stray)
    (finding,) = findings(tmp_path, "SEG-D001")
    words = "77 first at row 100, column 110 of the scene (chip image/r0003_c0003)"
    assert words in finding.observed
    reads = []
    for name in datasets.SPLITS:
        split = datasets.open_split(data_of(tmp_path), name)
        for index in range(len(split)):
            try:
                split.read(index)
            except DataError as error:
                reads.append(error)
    (error,) = reads
    assert words in error.observed


def test_a_stray_label_is_placed_in_the_scene_by_a_drawn_chip(tmp_path):
    write(tmp_path, change=stray)
    everything = {"split": {"train": 1, "val": 0, "test": 0}}
    drawn = {"chips": "random", "count": 60, **everything}
    split = datasets.open_split(data_of(tmp_path, **drawn), "train")
    holding = [
        index
        for index, (_, row, column) in enumerate(split.source.places)
        if row <= 100 < row + CHIP and column <= 110 < column + CHIP
    ]
    assert holding
    for index in holding:
        with pytest.raises(DataError, match=r"row 100, column 110 of the scene \(chip image/y"):
            split.read(index)


def ignored_chip(image_HWC, label_HW):
    label_HW[32:64, 64:96] = 9


def blank_chip(image_HWC, label_HW):
    image_HWC[32:64, 64:96] = 7


def copied_chip(image_HWC, label_HW):
    """Nearly equal chips all over the scene: some are in two splits."""
    for row in range(0, SHAPE[0], CHIP):
        for column in range(0, SHAPE[1], CHIP):
            here = np.s_[row : row + CHIP, column : column + CHIP]
            image_HWC[here] = image_HWC[:CHIP, :CHIP]
            image_HWC[row, column] += 1 + row // CHIP * 5 + column // CHIP


def larger_chip(image_HWC, label_HW):
    image_HWC[32:64, 64:96] *= 200


@pytest.mark.parametrize(
    ("code", "change", "dtype"),
    [
        ("SEG-D017", ignored_chip, "uint8"),
        ("SEG-D038", blank_chip, "uint8"),
        ("SEG-D021", larger_chip, "uint16"),
    ],
)
def test_findings_about_a_chip_say_where_it_is(tmp_path, code, change, dtype):
    write(tmp_path, change=change, dtype=dtype)
    (finding,) = findings(tmp_path, code)
    assert "chip image/r0001_c0002, from row 32, column 64 of the scene" in finding.observed
    # The same from what was kept of the first look.
    (again,) = findings(tmp_path, code)
    assert again.observed == finding.observed


def test_chips_alike_in_two_splits_say_where_both_are(tmp_path):
    write(tmp_path, change=copied_chip)
    found = findings(tmp_path, "SEG-D039")
    assert found
    for finding in found:
        one, other = finding.observed.split("; chip ")[1].split("; the other is chip ")
        for text in (one, other):
            name, rest = text.split(", from ")
            row, column = (int(part) for part in name[7:].split("_c"))
            assert rest == f"row {row * CHIP}, column {column * CHIP} of the scene"


# What stops a run before it begins


def begin(root, **options):
    data = data_of(root, **options)
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    return check_before_training(splits, 2, data)


def refused(root, code, **options):
    """Assert that the check calls a code an error, and that a run stops at it; return that."""
    assert {found.level.name for found in findings(root, code, **options)} >= {"ERROR"}
    shutil.rmtree(root / "cache")  # or nothing would be read again
    with pytest.raises(DataError) as caught:
        run(root, **options)
    assert caught.value.code == code
    assert not (root / "run").exists()
    return caught.value


DRAWN = [{}, {"chips": "random", "count": 60}, {"chips": "random", "count": 4}]


@pytest.mark.parametrize("options", DRAWN)
def test_a_scene_that_is_ignored_altogether(tmp_path, options):
    write(tmp_path, change=lambda _, label_HW: label_HW.fill(9))
    refused(tmp_path, "SEG-D017", **options)


@pytest.mark.parametrize("options", DRAWN)
def test_one_class_beside_ignored_pixels(tmp_path, options):
    def one_class(_, label_HW):
        label_HW[label_HW != 1] = 9

    write(tmp_path, change=one_class)
    assert "'b'" in str(refused(tmp_path, "SEG-D043", **options))


def test_one_class_beside_nodata_of_the_label(tmp_path):
    def one_class(_, label_HW):
        label_HW[label_HW != 1] = 200

    write(tmp_path, change=one_class, nodata=200)
    refused(tmp_path, "SEG-D043")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_chips_with_nothing_to_teach_or_score(tmp_path, split):
    write(tmp_path)
    places = datasets.open_split(data_of(tmp_path), split).source.places

    def without_labels(_, label_HW):
        for _, row, column in places:
            label_HW[row : row + CHIP, column : column + CHIP] = 9

    write(tmp_path, change=without_labels)
    assert f"'{split}' holds no labelled pixel" in str(refused(tmp_path, "SEG-D044"))


def test_a_stray_label_stops_a_run_with_its_place_in_the_scene(tmp_path):
    write(tmp_path, change=stray)
    place = "77 first at row 100, column 110 of the scene (chip image/r0003_c0003)"
    assert place in refused(tmp_path, "SEG-D001").observed


def test_a_stray_label_counts_where_the_image_holds_data(tmp_path):
    def blank_corner(image_HWC, label_HW):
        stray(image_HWC, label_HW)
        image_HWC[96:, 100:] = 0
        label_HW[40, 50] = label_HW[33, 40] = 77
        image_HWC[33, 40] = 0

    image_HWC, _ = write(tmp_path, change=blank_corner)
    rasters.write(tmp_path / "image.tif", image_HWC, nodata=0, **place())
    with pytest.raises(DataError) as caught:
        begin(tmp_path)
    assert "77 (1 px); 77 first at row 40, column 50 of the scene" in caught.value.observed


@pytest.mark.parametrize("kind", ["uint8", "nodata", "float32", "area"])
@pytest.mark.parametrize("options", [{"buffer": 12}, {"chips": "random", "count": 6}])
def test_chips_are_counted_as_training_sees_them(tmp_path, kind, options):
    def edge(image_HWC, label_HW):
        label_HW[:8] = 9
        image_HWC[20:50, 30:70] = 0 if kind != "float32" else np.nan

    dtype = "float32" if kind == "float32" else "uint8"
    image_HWC, _ = write(tmp_path, change=edge, dtype=dtype, nodata=2)
    if kind == "nodata":
        rasters.write(tmp_path / "image.tif", image_HWC, nodata=0, **place())
    data = data_of(tmp_path, **options)
    if kind == "area":
        west, north = 392_000, 5_820_000
        corners = [(0, 0), (100, 0), (100, 90), (0, 90), (0, 0)]
        ring = [[west + 2 * column, north - 2 * row] for column, row in corners]
        shape = {"type": "Polygon", "coordinates": [ring]}
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
        feature = {"type": "Feature", "properties": {}, "geometry": shape}
        collection = {"type": "FeatureCollection", "crs": crs, "features": [feature]}
        (tmp_path / "area.geojson").write_text(json.dumps(collection))
        scenes = [{**data.options["scenes"][0], "area": "area.geojson"}]
        data = data.model_copy(update={"options": {**data.options, "scenes": scenes}})
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    counted = check_before_training(splits, 2, data)
    for name, split in splits.items():
        labels = [split.read(index).label_HW for index in range(len(split))]
        seen = [[int((label_HW == k).sum()) for k in range(3)] for label_HW in labels]
        assert counted.of(name).tolist() == seen
    assert counted.ignored_N.sum() > 0


def test_the_grid_is_counted_where_more_chips_are_drawn(tmp_path):
    write(tmp_path)
    grid, drawn = begin(tmp_path), begin(tmp_path, chips="random", count=200)
    assert drawn.of("train").tolist() == grid.of("train").tolist()


def test_images_of_whole_numbers_without_marks_are_not_read(tmp_path, monkeypatch):
    write(tmp_path)
    reads = []
    read_stack = rasters.read_stack
    monkeypatch.setattr(
        rasters, "read_stack", lambda *a, **k: reads.append(1) or read_stack(*a, **k)
    )
    begin(tmp_path)
    assert len(reads) == len(datasets.SPLITS)  # of the one chip a split that is decoded whole


def test_a_scene_that_has_a_new_date_is_hashed_once(tmp_path, monkeypatch):
    write(tmp_path)
    check_data(data_of(tmp_path), threads=1)
    os.utime(tmp_path / "image.tif", ns=(1, 1))
    hashed = []
    sha256_of = cache.sha256_of
    monkeypatch.setattr(cache, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    assert check_data(data_of(tmp_path), threads=1).reused == 20
    assert hashed == [tmp_path / "image.tif"]


def test_a_run_tells_of_a_scene_that_is_mostly_ignored(tmp_path):
    def mostly(_, label_HW):
        label_HW[:, np.arange(SHAPE[1]) % CHIP > 11] = 9

    write(tmp_path, change=mostly)
    share = begin(tmp_path).ignored_share("train")
    assert share > 0.5
    _, said = run(tmp_path)
    assert [line for line in said if f"{share:.1%} of the training pixels are ignored" in line]


# Masked labels


def test_a_label_raster_that_calls_a_class_nodata(tmp_path):
    _, label_HW = write(tmp_path, nodata=0)
    share = (label_HW == 0).mean()
    report = check_data(data_of(tmp_path))
    (finding,) = [found for found in report.findings if found.code == "SEG-D047"]
    assert finding.level.name == "WARNING"
    for words in ("nodata 0", f"{share:.1%}", "'back'"):
        assert words in finding.observed
    assert report.ignored_share == pytest.approx(share)
    finished, said = run(tmp_path)
    (line,) = [text for text in said if "SEG-D047" in text]
    assert f"nodata 0 at {share:.1%}" in line
    evaluation = finished.evaluation
    masked = sum(
        int((label_HW[r * CHIP : (r + 1) * CHIP, c * CHIP : (c + 1) * CHIP] == 0).sum())
        for r, c in (map(int, n[7:].split("_c")) for n in evaluation.names)
    )
    assert evaluation.ignored_N.sum() == masked > 0


def test_a_nodata_value_that_is_no_class_is_counted_without_a_warning(tmp_path):
    def holes(image_HWC, label_HW):
        label_HW[:32] = 200

    write(tmp_path, nodata=200, change=holes)
    report = check_data(data_of(tmp_path))
    assert not [found for found in report.findings if found.code == "SEG-D047"]
    assert report.ignored_share == pytest.approx(32 / 128)


# Pixel sizes


def test_scenes_of_very_different_pixel_sizes_are_named(tmp_path):
    write(tmp_path, "fine", metres=0.5)
    write(tmp_path, "coarse", seed=1, metres=10.0, left=500_000)
    (finding,) = findings(tmp_path, "SEG-D028", "fine", "coarse")
    # The grid of a UTM zone is up to 0.04 % off the ground.
    assert finding.observed == f"10 m, and 0.5001 m in {tmp_path / 'fine.tif'}"
    assert finding.file == str(tmp_path / "coarse.tif")
    _, said = run(tmp_path, "fine", "coarse")
    assert any("10 m, and 0.5001 m" in line for line in said)
    sizes = saved_model.read_card(tmp_path / "run" / "model").pixel_metres
    assert sizes is not None
    assert sizes.width == pytest.approx((0.5, 10.0), rel=1e-3)


def test_scenes_of_nearly_one_pixel_size_need_no_word(tmp_path):
    write(tmp_path, "fine", metres=0.5)
    write(tmp_path, "other", seed=1, metres=0.6, left=500_000)
    assert not findings(tmp_path, "SEG-D028", "fine", "other")
