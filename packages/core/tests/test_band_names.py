"""Bands in another order: found by name, wherever a file, a data set or a model has names."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

from terrazzo.base.errors import DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import DataConfig
from terrazzo.check import check_before_training, check_data
from terrazzo.data import band_names, datasets
from terrazzo.data.datasets import geotiff
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.testing.scenes import make_model

PLACE = {"crs": "EPSG:32633", "transform": Affine(2, 0, 392_000, 0, -2, 5_820_000)}
RGB, BGR = ("red", "green", "blue"), ("blue", "green", "red")
COLOURS = {name: getattr(ColorInterp, name) for name in RGB}


def write(path, bands=3, *, names=None, colours=None, dtype="uint8", seed=0):
    shape = (40, 60)
    values_CHW = np.random.default_rng(seed).integers(1, 250, (bands, *shape)).astype(dtype)
    size = {"height": shape[0], "width": shape[1], "count": bands, "dtype": dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", photometric="MINISBLACK", **size, **PLACE) as d:
        d.write(values_CHW)
        if names:
            d.descriptions = names
        if colours:
            d.colorinterp = [COLOURS.get(name, ColorInterp.undefined) for name in colours]
    return path


def map_of(root, model, scene, *bands):
    out = root / "map.tif"
    for path in (out, out.with_suffix(".qml"), root / "map_areas.csv"):
        path.unlink(missing_ok=True)
    settings = Settings(tiling=Tiling(tile=32, overlap=12), bands=bands)
    predict(model, [scene], out, settings, progress=Silent())
    with rasterio.open(out) as dataset:
        return dataset.read(1)


def refusal(root, model, scene, *bands):
    with pytest.raises(DataError) as caught:
        map_of(root, model, scene, *bands)
    assert caught.value.code == "SEG-D020"
    return caught.value


def test_names_contradict_where_both_have_one():
    assert not band_names.contradict(("red", "band 2"), ("red", "nir"))
    assert band_names.contradict(("red", "band 2"), ("nir", "band 2"))
    assert band_names.contradict(("red",), ("red", "nir"))


def test_colours_are_names_where_a_file_has_none(tmp_path):
    bgr = rasters.info(write(tmp_path / "bgr.tif", colours=BGR))
    assert bgr.band_names == BGR
    two = rasters.info(write(tmp_path / "two.tif", 4, colours=("blue", "red", "", "")))
    assert two.band_names == ("band 1", "band 2", "band 3", "band 4")
    named = rasters.info(write(tmp_path / "named.tif", names=("a", "b", "c"), colours=BGR))
    assert named.band_names == ("a", "b", "c")
    model = make_model(tmp_path / "model", names=RGB)
    error = refusal(tmp_path, model, tmp_path / "bgr.tif")
    assert (error.observed, error.allowed) == (", ".join(BGR), ", ".join(RGB))


def test_names_that_are_chosen_must_be_the_models(tmp_path):
    """A number is a person's word where the file's name for the band is none of the model's."""
    model = make_model(tmp_path / "model", names=RGB)
    scene = write(tmp_path / "s.tif", 4, names=(*BGR, "nir"))
    right_HW = map_of(tmp_path, model, scene, *RGB)
    np.testing.assert_array_equal(map_of(tmp_path, model, scene, "3", "2", "1"), right_HW)
    for wrong in (BGR, ("red", "green", "nir")):
        error = refusal(tmp_path, model, scene, *wrong)
        assert error.observed == ", ".join(wrong)
    refusal(tmp_path, model, scene, "1", "2", "3")
    other = write(tmp_path / "other.tif", 4, names=("B2", "B3", "B4", "B8"))
    assert map_of(tmp_path, model, other, "1", "2", "3").shape == right_HW.shape
    # Who gives one number has not vouched for the names beside it.
    refusal(tmp_path, model, scene, "blue", "2", "1")


def test_the_hint_names_the_bands_of_this_scene(tmp_path):
    model = make_model(tmp_path / "model", names=RGB)
    scene = write(tmp_path / "s.tif", 4, names=("nir", *BGR))
    hint = refusal(tmp_path, model, scene).next_step
    chosen = hint.split("--bands ")[1].split(",")
    right_HW = map_of(tmp_path, model, scene, "4", "3", "2")
    np.testing.assert_array_equal(map_of(tmp_path, model, scene, *chosen), right_HW)
    other = write(tmp_path / "o.tif", 4, names=("nir", "swir", "green", "red"))
    hint = refusal(tmp_path, model, other).next_step
    assert "red, green, blue" in hint
    assert "nir, swir, green, red" in hint
    assert "--bands 1" not in hint


def test_a_name_with_a_comma_is_hinted_at_by_number(tmp_path):
    names = ("red, 620 nm", "green", "blue")
    model = make_model(tmp_path / "model", names=names)
    scene = write(tmp_path / "s.tif", names=names[::-1])
    assert refusal(tmp_path, model, scene).next_step.endswith("--bands 3,2,1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten images beside ten masks; the eighth has its bands in another order."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(10):
        names = BGR if number == 7 else RGB
        write(tmp_path / f"images/{number}.tif", names=names, seed=number)
        mask_HW1 = np.arange(2400).reshape(40, 60, 1) % 2
        (tmp_path / "masks").mkdir(exist_ok=True)
        rasters.write(tmp_path / f"masks/{number}.tif", mask_HW1.astype(np.uint8), **PLACE)
    (tmp_path / "m.toml").write_text(
        'name = "m"\nclasses = [{ name = "a", colour = "#000000", raw = [0] }, '
        '{ name = "b", colour = "#FFFFFF", raw = [1] }]\n'
    )
    return tmp_path


def recipe(root, **options):
    return DataConfig(format="folder", root=str(root), labels=str(root / "m.toml"), options=options)


def test_another_order_in_a_folder_is_found_by_check_and_run(folder):
    data = recipe(folder)
    (finding,) = [f for f in check_data(data).findings if f.code == "SEG-D020"]
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    with pytest.raises(DataError) as caught:
        check_before_training(splits, 1)
    for found in (finding, caught.value):
        assert found.file == str(folder / "images/7.tif")
        assert found.observed == "blue, green, red"
        assert str(folder / "images/0.tif") in found.allowed
    (owner,) = [s for s in splits.values() if "7" in s.names]
    with pytest.raises(DataError, match="SEG-D020"):
        owner.read(owner.names.index("7"))


def test_another_order_in_a_split_of_its_own_is_found(folder):
    for kind in ("images", "masks"):
        for number in range(10):
            split = "test" if number == 7 else ("train", "val")[number % 2]
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{number}.tif").rename(folder / split / kind / f"{number}.tif")
    data = recipe(folder, images="{split}/images", masks="{split}/masks")
    (finding,) = [f for f in check_data(data).findings if f.code == "SEG-D020"]
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    with pytest.raises(DataError) as caught:
        check_before_training(splits, 1)
    for found in (finding, caught.value):
        assert found.file == str(folder / "test/images/7.tif")
        assert str(folder / "train/images/0.tif") in found.allowed


def test_scenes_of_one_data_set(tmp_path):
    """Colours that only one of two files knows of are no difference; another order is one."""
    write(tmp_path / "a.tif", colours=RGB)
    write(tmp_path / "plain.tif")
    write(tmp_path / "bgr.tif", colours=BGR)
    label_HW1 = np.zeros((40, 60, 1), np.uint8)
    rasters.write(tmp_path / "label.tif", label_HW1, **PLACE)

    def opened(*images):
        scenes = tuple({"images": (image,), "label": "label.tif"} for image in images)
        return geotiff.open_split(tmp_path, "train", geotiff.Options(scenes=scenes, chip=20))

    assert opened("a.tif", "plain.tif").band_names == RGB
    with pytest.raises(DataError, match="SEG-D020"):
        opened("a.tif", "bgr.tif")
    with pytest.raises(DataError, match="SEG-D020"):
        opened("plain.tif", "a.tif", "bgr.tif")
