"""Chips of GeoTIFF scenes: drawn at random or by class, apart from other splits and scenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from affine import Affine
from typer.testing import CliRunner

from terrazzo import check
from terrazzo.base.errors import DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.cli import app
from terrazzo.data import datasets
from terrazzo.data.datasets import _chip_sampling, _spatial_blocks, _tile_histogram, geotiff
from terrazzo.data.normalization import bands_of, noise_deviations
from terrazzo.io import rasters

LEFT, TOP, PIXEL = 392_000, 5_820_000, 2
CHIP, BLOCK = 16, 2


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_scene(root: Path, name="a", shape=(128, 160), at=(0, 0), label=None):
    """Write a scene whose bands hold its rows and columns, counted from one corner for all."""
    place = {
        "crs": "EPSG:32633",
        "transform": Affine(PIXEL, 0, LEFT + PIXEL * at[1], 0, -PIXEL, TOP - PIXEL * at[0]),
    }
    rows, columns = np.indices(shape)
    image_HWC = np.stack([rows + at[0], columns + at[1]], axis=2).astype(np.uint16)
    rasters.write(root / f"{name}.tif", image_HWC, band_names=("row", "column"), **place)
    label_HW = np.zeros(shape, np.uint8) if label is None else label
    rasters.write(root / f"{name}_label.tif", label_HW[..., None], **place)
    return {"images": (f"{name}.tif",), "label": f"{name}_label.tif"}


def options(*scenes, **changes):
    given = {"scenes": scenes, "chip": CHIP, "block": BLOCK, "buffer": 5, **changes}
    return geotiff.Options(**given)


def pixels(source):
    """Return the place of every pixel that counts, one row each, and of every pixel seen."""
    counted, seen = [], []
    for index in range(len(source.names)):
        raw = source.read(index)
        counted.append(raw.image_HWC[raw.valid_HW])
        inside = np.ones(raw.valid_HW.shape, bool)
        row, column = source.places[index][1:]
        grid = source.open_scenes[source.places[index][0]].grid
        inside[grid.rows - row :], inside[:, grid.columns - column :] = False, False
        seen.append(raw.image_HWC[inside])
    return (np.unique(np.concatenate(parts).astype(int), axis=0) for parts in (counted, seen))


def apart(one, other):
    """Return the smallest distance between pixels of two sets."""
    outside = np.ones((300, 300), np.uint8)
    outside[tuple(other.T + 20)] = 0
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return round(float(distance[tuple(one.T + 20)].min()), 3)


@pytest.mark.parametrize("chips", ["random", "balanced"])
def test_drawn_chips_keep_to_their_split(tmp_path, chips):
    scene = write_scene(tmp_path)
    chosen = options(scene, chips=chips, count=150)
    splits = {name: geotiff.open_split(tmp_path, name, chosen) for name in datasets.SPLITS}
    train, seen = pixels(splits["train"])
    for name in ("val", "test"):
        other, _ = pixels(splits[name])
        assert apart(train, other) >= 5
        assert apart(seen, other) >= 1  # no pixel of another split is in an image
        assert len(splits[name].names) * CHIP**2 == len(pixels_of_grid(splits[name]))
    assert len(splits["train"].names) == len(set(splits["train"].names)) == 150
    assert list(splits["train"].names) == sorted(splits["train"].names)
    places = {place[1:] for place in splits["train"].places}
    assert sum(row % CHIP > 0 or column % CHIP > 0 for row, column in places) > 75
    again = geotiff.open_split(tmp_path, "train", chosen)
    assert again.places == splits["train"].places
    other_seed = geotiff.open_split(
        tmp_path, "train", options(scene, chips=chips, count=150, seed=1)
    )
    assert other_seed.places != again.places


def pixels_of_grid(source):
    return np.concatenate(
        [source.read(i).image_HWC.reshape(-1, 2) for i in range(len(source.names))]
    )


def test_balanced_chips_ask_for_each_class_equally(tmp_path):
    """A class in 1 of 80 tiles comes about as often as the one in all others."""
    label_HW = np.zeros((128, 160), np.uint8)
    label_HW[16:32, 32:48] = 1
    scene = write_scene(tmp_path, label=label_HW)
    whole = {"split": {"train": 1, "val": 0, "test": 0}, "count": 400}

    def share(**changes):
        source = geotiff.open_split(tmp_path, "train", options(scene, **whole, **changes))
        near = [
            abs(row - 16) < CHIP and abs(column - 32) < CHIP for _, row, column in source.places
        ]
        return np.mean(near)

    assert share(chips="random") < 0.15
    assert 0.45 < share(chips="balanced") < 0.65
    assert share(chips="balanced", balance=(1,)) == 1.0
    with pytest.raises(DataError, match=r"SEG-D023(.|\n)*raw values 0, 1"):
        share(chips="balanced", balance=(7,))


def test_weights_by_hand():
    counts_NV = np.array([[10, 0, 0], [30, 5, 0], [0, 15, 0]])
    expected = [(10 / 40) / 2, (30 / 40 + 5 / 20) / 2, (15 / 20) / 2]
    np.testing.assert_allclose(_chip_sampling.weights(counts_NV), expected)


def test_tiles_are_counted_once(tmp_path):
    scene = write_scene(tmp_path)
    looked = []

    def read(index):
        looked.append(index)
        return np.array([3, 3, index], np.uint8)

    files = [tmp_path / "a.tif", tmp_path / "a_label.tif"]
    for settings, expected in (("x", 4), ("x", 4), ("y", 8)):
        found = _tile_histogram.count(read, 4, files=files, settings=settings)
        assert len(looked) == expected
        assert found.values_V.tolist() == [0, 1, 2, 3]
        assert found.counts_NV.tolist() == [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 1, 2], [0, 0, 0, 3]]
        assert found.of((3, 9)).tolist() == [[2], [2], [2], [3]]
    files[1].write_bytes(files[1].read_bytes() + b" ")  # another state of a file
    _tile_histogram.count(read, 4, files=files, settings="x")
    assert len(looked) == 12
    assert scene


def test_scenes_side_by_side_keep_their_distance(tmp_path):
    """Two tiles of one flight share an edge, and a third lies across both at half pixels."""
    scenes = [
        write_scene(tmp_path, "left", (64, 64)),
        write_scene(tmp_path, "right", (64, 64), at=(0, 64)),
        write_scene(tmp_path, "across", (64, 64), at=(32, 48)),
    ]
    chosen = options(*scenes, split={"train": 0.5, "val": 0.25, "test": 0.25, "seed": 3})
    found = {}
    for name in datasets.SPLITS:
        found[name], _ = pixels(geotiff.open_split(tmp_path, name, chosen))
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert apart(found[one], found[other]) >= 5
    assert len(found["train"]) > 500


def test_another_crs_and_half_pixels_are_rounded_outwards(tmp_path):
    write_scene(tmp_path, "a")
    grid = rasters.info(tmp_path / "a.tif")
    rasters.write(
        tmp_path / "b.tif",
        np.ones((50, 50, 1), np.uint8),
        crs="EPSG:32633",
        transform=Affine(PIXEL, 0, LEFT + 21, 0, -PIXEL, TOP - 41),
    )
    other = rasters.info(tmp_path / "b.tif")
    boxes_M4 = np.array([[0, 10, 0, 20]])
    assert rasters.boxes_on(grid, other, boxes_M4).tolist() == [[20, 31, 10, 31]]
    assert rasters.neighbours((grid, other), 0) == ((1,), (0,))
    assert rasters.neighbours((grid, other), 100) == ((1,), (0,))
    far = write_scene(tmp_path, "far", (64, 64), at=(0, 175))["images"][0]
    grids = (grid, rasters.info(tmp_path / far))
    assert rasters.neighbours(grids, 0) == ((), ())
    assert rasters.neighbours(grids, 32) == ((1,), (0,))


def test_seasons_of_one_place_share_their_draw(tmp_path):
    scenes = [write_scene(tmp_path, name) for name in ("spring", "summer")]
    for split in datasets.SPLITS:
        source = geotiff.open_split(tmp_path, split, options(*scenes))
        by_scene = [{p[1:] for p in source.places if p[0] == number} for number in (0, 1)]
        assert by_scene[0] == by_scene[1]
        assert by_scene[0]


def test_the_check_of_distances_sees_a_pixel_too_near(monkeypatch):
    box = np.array([[0, 8, 10, 20]])
    pixels_HW = np.zeros((16, 30), bool)
    pixels_HW[12, 24] = True  # 5 rows and 5 columns from the corner
    assert _spatial_blocks.distance_to(box, pixels_HW, 12) == pytest.approx(
        np.hypot(5, 5), abs=1e-3
    )
    pixels_HW[4, 12] = True
    assert _spatial_blocks.distance_to(box, pixels_HW, 12) == 0


def test_a_kept_draw_of_random_chips(tmp_path):
    scene = write_scene(tmp_path)
    four = [f'{{name="c{k}", colour="#00000{k}", raw=[{k}]}}' for k in range(2)]
    (tmp_path / "l.toml").write_text(f'name = "l"\nclasses = [{", ".join(four)}]\n')
    data = DataConfig(
        format="geotiff",
        root=str(tmp_path),
        labels=str(tmp_path / "l.toml"),
        options=options(scene, chips="random", count=3).model_dump(mode="json", exclude_none=True),
    )
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    datasets.keep_draw(splits, tmp_path / "splits.json")
    other_seed = {**data.options, "split": {"train": 0.6, "val": 0.2, "test": 0.2, "seed": 9}}
    other = data.model_copy(update={"options": other_seed})
    again = datasets.with_kept_draw(other, tmp_path / "splits.json")
    for name, split in splits.items():
        assert datasets.open_split(again, name).source.places == split.source.places
    assert datasets.open_split(other, "test").names != splits["test"].names


def test_statistics_over_valid_pixels_with_and_without_outliers(tmp_path):
    values_HWC = np.random.default_rng(0).normal(500, 20, (128, 160, 2)).astype(np.float32)
    values_HWC[:, :, 1] *= 2
    values_HWC[::9, ::9] = 60_000
    values_HWC[:30] = np.nan
    scene = write_scene(tmp_path)
    place = rasters.info(tmp_path / "a.tif")
    rasters.write(tmp_path / "a.tif", values_HWC, crs=place.crs, transform=place.transform)
    classes = '[{ name = "all", colour = "#000000", raw = [0] }]'
    (tmp_path / "l.toml").write_text(f'name = "l"\nclasses = {classes}\n')
    data = {"format": "geotiff", "root": str(tmp_path), "labels": str(tmp_path / "l.toml")}
    everything = options(scene, split={"train": 1, "val": 0, "test": 0})
    told = everything.model_dump(mode="json", exclude_none=True)
    train = datasets.open_split(DataConfig(**data, options=told), "train")
    plain, robust = bands_of(train, "dataset"), bands_of(train, "robust")
    valid = values_HWC[30:].reshape(-1, 2)
    np.testing.assert_allclose(plain.mean, valid.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(robust.mean, (500, 1000), rtol=0.01)
    np.testing.assert_allclose(robust.std, (20, 40), rtol=0.1)
    # Noise keeps to the many pixels, whatever the bands are normalised with.
    np.testing.assert_allclose(noise_deviations(train, plain), (20, 40), rtol=0.1)
    assert noise_deviations(train, replace(plain, dtype="uint8")) is None
    rasters.write(
        tmp_path / "a.tif",
        np.full_like(values_HWC, np.nan),
        crs=place.crs,
        transform=place.transform,
    )
    for normalize in ("dataset", "robust"):
        with pytest.raises(DataError, match=r"SEG-D023(.|\n)*a\.tif"):
            bands_of(train, normalize)


def test_scenes_of_several_files_pass_the_checks(tmp_path):
    """Stacked rasters with chosen bands: their headers differ from the model's bands."""
    label_HW = (np.indices((128, 160))[1] // 8 % 2).astype(np.uint8)
    scene = write_scene(tmp_path, label=label_HW)
    place = rasters.info(tmp_path / "a.tif")
    height_HWC = np.random.default_rng(0).random((128, 160, 1)).astype(np.float32)
    rasters.write(tmp_path / "height.tif", height_HWC, crs=place.crs, transform=place.transform)
    names = ("row", "column", "height")
    chosen = options(
        {**scene, "images": ("a.tif", "height.tif")},
        band_names=names,
        bands=("column", "row", "height"),
    )
    classes = [f'{{name="c{k}", colour="#0000{k}0", raw=[{k}]}}' for k in range(2)]
    (tmp_path / "l.toml").write_text(f'name = "l"\nclasses = [{", ".join(classes)}]\n')
    data = DataConfig(
        format="geotiff",
        root=str(tmp_path),
        labels=str(tmp_path / "l.toml"),
        options=chosen.model_dump(mode="json", exclude_none=True),
    )
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    check.check_before_training(splits, 2)
    sample = splits["test"].read(0)
    assert sample.image_HWC.dtype == np.float32
    row, column = splits["test"].source.places[0][1:]
    part = height_HWC[row : row + CHIP, column : column + CHIP, 0]
    np.testing.assert_array_equal(sample.image_HWC[..., 2], part)
    recipe = tmp_path / "r.toml"
    import tomli_w

    recipe.write_text(tomli_w.dumps({"data": data.model_dump(mode="json", exclude_none=True)}))
    answer = CliRunner().invoke(app.app, ["check", "--config", str(recipe), "--json"])
    assert answer.exit_code == 0, answer.output
    assert '"images"' in answer.output
