"""``--uncertainty`` and ``--tta``: numbers, files, and the same bytes after kills and sharing."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from PIL import Image

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.inference import jobs, map_writer, predict, tiled_prediction, uncertainty
from terrazzo.inference.images import FULL
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.models.test_time_augmentation import mean_over_flips
from terrazzo.runs import saved_model
from terrazzo.testing.scenes import LABELS, make_model, make_scene

SMALL = Tiling(tile=32, overlap=12, batch_size=3)
MEASURES = ("entropy", "margin")


def expected(probabilities_HWK, by):
    """Measure in float64, by sorting and by the plain formula."""
    p_HWK = probabilities_HWK.astype(np.float64)
    num_classes = p_HWK.shape[2]
    if num_classes == 1:
        return np.zeros(p_HWK.shape[:2])
    if by == "margin":
        ordered_HWK = np.sort(p_HWK, axis=2)
        return 1 - (ordered_HWK[..., -1] - ordered_HWK[..., -2])
    logs_HWK = np.log(p_HWK, out=np.zeros_like(p_HWK), where=p_HWK > 0)
    return -(p_HWK * logs_HWK).sum(axis=2) / np.log(num_classes)


def as_stored(value_HW):
    return value_HW * uncertainty.STEPS


@pytest.mark.parametrize("by", MEASURES)
@pytest.mark.parametrize("num_classes", [1, 2, 3, 19])
def test_the_measures(by, num_classes):
    rng = np.random.default_rng(num_classes)
    logits_HWK = rng.normal(0, 4, (70, 900, num_classes))
    p_HWK = np.exp(logits_HWK) / np.exp(logits_HWK).sum(axis=2, keepdims=True)
    p_HWK[0] = np.eye(num_classes)[np.arange(900) % num_classes]
    p_HWK[1] = 1 / num_classes
    p_HWK = p_HWK.astype(np.float32)
    found_HW = uncertainty.measure_pixels(p_HWK, by)
    assert found_HW.dtype == np.uint8
    np.testing.assert_allclose(found_HW, as_stored(expected(p_HWK, by)), atol=0.502)
    assert (found_HW[0] == 0).all()
    assert (found_HW[1] == (254 if num_classes > 1 else 0)).all()


def run(place, out, source="s.tif", **settings):
    settings = Settings(**{"tiling": SMALL, **settings})
    return predict.predict(place / "model", place / source, out, settings, progress=Silent())


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.fixture
def place(tmp_path):
    make_model(tmp_path / "model")
    make_scene(tmp_path / "s.tif", (150, 97, 3), nodata=0)
    return tmp_path


@pytest.mark.parametrize("blend", ["linear", "none"])
@pytest.mark.parametrize("by", MEASURES)
def test_the_file_of_a_scene(place, by, blend):
    tiling = Tiling(tile=32, overlap=12, blend=blend, batch_size=3)
    run(place, place / "plain.tif", tiling=tiling)
    run(place, place / "map.tif", tiling=tiling, uncertainty=by, probabilities=True)
    run(place, place / "alone.tif", tiling=tiling, uncertainty=by)
    assert (place / "map.tif").read_bytes() == (place / "plain.tif").read_bytes()
    path = place / "map_uncertainty.tif"
    assert path.read_bytes() == (place / "alone_uncertainty.tif").read_bytes()
    with rasterio.open(path) as dataset, rasterio.open(place / "map.tif") as beside:
        assert (dataset.dtypes, dataset.nodata) == (("uint8",), 255)
        assert (dataset.scales, dataset.offsets) == ((1 / 254,), (0.0,))
        assert dataset.descriptions == (f"uncertainty ({by})",)
        assert (dataset.crs, dataset.transform) == (beside.crs, beside.transform)
        stored_HW, labels_HW = dataset.read(1), beside.read(1)
    no_data_HW = labels_HW == LABELS.ignore_index
    assert no_data_HW.any()
    np.testing.assert_array_equal(stored_HW == 255, no_data_HW)
    p_HWK = np.moveaxis(read(place / "map_probabilities.tif"), 0, 2)[~no_data_HW][None]
    np.testing.assert_allclose(
        stored_HW[~no_data_HW][None], as_stored(expected(p_HWK, by)), atol=0.502
    )
    assert len(np.unique(stored_HW)) > 100


class Reversed:
    """Does all bands in this process, the last one first."""

    size = 3

    def __init__(self, model):
        self.trainer = saved_model.load(model)[1]

    def do(self, tasks):
        for task in reversed(list(tasks)):
            jobs.work(self.trainer, task, lambda: None)
            yield task


def make(place, out, **settings):
    settings = Settings(**{"tiling": SMALL, **settings})
    card = saved_model.read_card(place / "model")
    (work,) = predict.plan_outputs([place / "s.tif"], out, settings)
    scene = predict.open_scene(place / "s.tif", card, settings, Silent())
    order = predict.order_for(scene, card, work, settings, ("model",))
    return list(map_writer.make_maps([order], Reversed(place / "model")))


@pytest.mark.parametrize("cog", [False, True])
def test_the_bytes_do_not_depend_on_sharing_or_a_kill(place, cog, monkeypatch):
    settings = {"uncertainty": "entropy", "augmentation": "flips", "cloud_optimised": cog}
    run(place, place / "map.tif", **settings)
    make(place, place / "bands.tif", **settings)
    calls = []

    def fail(keeper, end):
        calls.append(end)
        if len(calls) == 4:
            raise DataError("SEG-D011", "cut off")
        original(keeper, end)

    original = tiled_prediction._RowKeeper._finish
    with monkeypatch.context() as patch:
        patch.setattr(tiled_prediction._RowKeeper, "_finish", fail)
        with pytest.raises(DataError, match="cut off"):
            run(place, place / "again.tif", **settings)
    for other in ({"uncertainty": "margin"}, {"augmentation": None}, {"uncertainty": None}):
        with pytest.raises(CheckpointError, match="SEG-C011"):
            run(place, place / "again.tif", resume=True, **{**settings, **other})
    run(place, place / "again.tif", resume=True, **settings)
    for name in ("bands", "again"):
        for end in (".tif", "_uncertainty.tif"):
            assert (place / f"{name}{end}").read_bytes() == (place / f"map{end}").read_bytes()
    # A finished map to which the file is asked for is made again, with it.
    run(place, place / "first.tif")
    run(place, place / "first.tif", resume=True, uncertainty="margin")
    assert (place / "first_uncertainty.tif").exists()
    if cog:
        with rasterio.open(place / "map_uncertainty.tif") as dataset:
            assert dataset.scales == (1 / 254,)
            assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


@pytest.mark.parametrize("by", MEASURES)
@pytest.mark.parametrize("whole", [0, 1 << 22])
def test_the_file_of_an_image(place, by, whole):
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    Image.fromarray(image).save(place / "photo.png")
    settings = {"uncertainty": by, "probabilities": True, "whole_images_up_to": whole}
    run(place, place / "maps", "photo.png", **settings)
    stored_HW = np.asarray(Image.open(place / "maps" / "photo_uncertainty.png"))
    assert stored_HW.dtype == np.uint8
    p_HWK = load_model(place / "model").predict_probabilities(image)
    files = sorted((place / "maps").glob("photo_probability_*.png"))
    stored_HWK = np.stack([np.asarray(Image.open(file)) for file in files], axis=2)
    np.testing.assert_allclose(stored_HWK / FULL, p_HWK, atol=0.52 / FULL)
    np.testing.assert_allclose(stored_HW, as_stored(expected(p_HWK, by)), atol=0.502)


def test_flips_of_an_image_give_flipped_probabilities(place):
    """Without them the model, whose kernel is not symmetrical, does not."""
    _, trainer = saved_model.load(place / "model")
    images_BHWC = rasters.read(place / "s.tif")[0][None, :64, :48]
    found_BHWK = mean_over_flips(trainer).predict(images_BHWC)
    assert found_BHWK.dtype == np.float32
    np.testing.assert_allclose(found_BHWK.sum(axis=3), 1, atol=1e-6)
    for axes in ((1,), (2,), (1, 2)):
        flipped_BHWC = np.ascontiguousarray(np.flip(images_BHWC, axes))
        of_flipped_BHWK = mean_over_flips(trainer).predict(flipped_BHWC)
        np.testing.assert_allclose(np.flip(of_flipped_BHWK, axes), found_BHWK, atol=1e-6)
        of_one_BHWK = np.flip(trainer.predict(flipped_BHWC), axes)
        assert np.abs(of_one_BHWK - trainer.predict(images_BHWC)).max() > 0.1
    labels_BHW = mean_over_flips(trainer).predict_labels(images_BHWC)
    assert labels_BHW.dtype == np.uint8
    np.testing.assert_array_equal(labels_BHW, found_BHWK.argmax(axis=3))


@pytest.mark.parametrize("blend", ["linear", "none"])
def test_flips_of_a_scene_are_flips_of_the_whole(place, blend):
    """Overlaps are thrown away beyond the model's reach, so tiles leave no trace."""
    tiling = Tiling(tile=32, overlap=12, blend=blend, batch_size=3)
    make_scene(place / "s.tif", (101, 77, 3))
    run(place, place / "map.tif", tiling=tiling, augmentation="flips", probabilities=True)
    run(place, place / "labels.tif", tiling=tiling, augmentation="flips")
    _, trainer = saved_model.load(place / "model")
    p_HWK = mean_over_flips(trainer).predict(rasters.read(place / "s.tif")[0][None])[0]
    blended_HWK = np.moveaxis(read(place / "map_probabilities.tif"), 0, 2)
    np.testing.assert_allclose(blended_HWK, p_HWK, atol=2e-6)
    np.testing.assert_array_equal(read(place / "labels.tif"), read(place / "map.tif"))


def test_flips_of_an_ordinary_image(place):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(image).save(place / "photo.png")
    run(place, place / "maps", "photo.png", augmentation="flips")
    _, trainer = saved_model.load(place / "model")
    expected_HW = mean_over_flips(trainer).predict_labels(image[None])[0]
    labels_HW = np.asarray(Image.open(place / "maps" / "photo.png"))
    np.testing.assert_array_equal(labels_HW, expected_HW)
    assert (labels_HW != trainer.predict_labels(image[None])[0]).any()


def test_other_words_are_refused(place):
    for word in ({"uncertainty": "entropie"}, {"augmentation": "flip"}):
        with pytest.raises(ConfigError, match="SEG-X004") as caught:
            run(place, place / "map.tif", **word)
        assert "did you mean" in str(caught.value.next_step)
