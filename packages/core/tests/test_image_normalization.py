"""``data.normalize = "image"``: the same numbers wherever a model meets an image, or a refusal."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.processes import SingleProcess
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import AugmentConfig, Config, DataConfig, LoaderConfig
from terrazzo.data import datasets
from terrazzo.data.image_standardization import moments_of_image, standardized
from terrazzo.data.input_statistics import IMAGENET, fitted, remark_unfit
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.loader import TrainingOrder, digest, evaluation_samples, training_batches
from terrazzo.data.model_input import as_seen, seen_at_size
from terrazzo.data.normalization import bands_of
from terrazzo.data.sample import Bands, Sample
from terrazzo.inference import predict as prediction
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io.pixels import ImagePixels
from terrazzo.io.resize import resize_image
from terrazzo.models import compatibility
from terrazzo.models.compatibility import Pixels
from terrazzo.models.radiometry import unlike_training
from terrazzo.models.test_time_augmentation import augmented
from terrazzo.runs import conversion, saved_model
from terrazzo.runs.folder import RunFolder
from terrazzo.runs.init_weights import other_normalization
from terrazzo.testing.scenes import make_model, make_scene
from terrazzo.workflows import evaluate as evaluation
from terrazzo.workflows.export.export import export
from terrazzo.workflows.export.for_client import export_for
from terrazzo.workflows.speed import measure
from terrazzo.workflows.train import train, warnings_of_settings

RGB = ("red", "green", "blue")
MAP = LabelMap("two", (LabelClass("dark", "#FF0000", (0,)), LabelClass("bright", "#00FF00", (1,))))
LARGEST = {"uint8": 255, "uint16": 65535, "float32": 0.01}


def image(dtype, shape=(21, 17, 3), seed=0):
    values = np.random.default_rng(seed).random(shape) * [1, 0.5, 0.25, 1][: shape[2]]
    return (values * LARGEST[dtype]).astype(dtype)


def holes(shape, seed=1):
    present_HWC = np.ones(shape, bool)
    present_HWC[:5, :7] = False
    present_HWC[np.random.default_rng(seed).random(shape) < 0.05] = False
    return present_HWC


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("dtype", LARGEST)
def test_mean_0_and_deviation_1_by_the_valid_values(dtype, bands, missing):
    image_HWC = image(dtype, (21, 17, bands))
    present_HWC = holes(image_HWC.shape) if missing else None
    known = Bands.normalized_per_image(tuple("abcd"[:bands]), dtype)
    seen_HWC = as_seen(ImagePixels(image_HWC, None, present_HWC), None, known)
    assert seen_HWC.dtype == np.float32 == np.dtype(known.seen_dtype)
    kept = seen_HWC if present_HWC is None else seen_HWC[present_HWC]
    assert abs(float(kept.mean(dtype=np.float64))) < 1e-6
    assert abs(float(kept.std(dtype=np.float64)) - 1) < 1e-6
    assert np.isnan(seen_HWC).sum() == (0 if present_HWC is None else (~present_HWC).sum())
    if present_HWC is not None:  # whatever lies where nothing is
        other_HWC = np.where(present_HWC, image_HWC, np.asarray(LARGEST[dtype], dtype))
        again_HWC = as_seen(ImagePixels(other_HWC, None, present_HWC), None, known)
        np.testing.assert_array_equal(again_HWC, seen_HWC)


def test_bands_keep_their_ratio_and_their_order_does_not_matter():
    image_HWC = image("uint8")
    moments = moments_of_image(image_HWC, None)
    assert moments == moments_of_image(image_HWC[..., ::-1], None)
    seen_HWC = standardized(image_HWC, moments)
    assert seen_HWC[..., 0].mean() > seen_HWC[..., 1].mean() > seen_HWC[..., 2].mean()
    np.testing.assert_array_equal(standardized(image_HWC[..., ::-1], moments), seen_HWC[..., ::-1])


@pytest.mark.parametrize("value", [0, 200])
@pytest.mark.parametrize("dtype", LARGEST)
def test_an_image_of_one_colour_is_0(dtype, value):
    image_HWC = np.full((8, 8, 3), value if dtype != "float32" else value / 3, dtype)
    seen_HWC = standardized(image_HWC, moments_of_image(image_HWC, None))
    assert (np.abs(seen_HWC) < 1).all()
    np.testing.assert_allclose(seen_HWC, 0, atol=1e-6)


def test_images_without_any_value_or_with_infinite_ones():
    image_HWC = image("float32")
    nothing = np.zeros(image_HWC.shape, bool)
    moments = moments_of_image(image_HWC, nothing)
    assert np.isnan(standardized(image_HWC, moments, nothing)).all()
    image_HWC[0, 0, 0] = np.inf
    seen_HWC = standardized(image_HWC, moments_of_image(image_HWC, None))
    assert seen_HWC[0, 0, 0] == np.inf  # the loss is not finite, as the contract says
    assert np.isfinite(seen_HWC.ravel()[1:]).all()


def test_the_unit_of_floats_does_not_matter():
    """TensorFlow's least deviation, 1 / √N, would flatten reflectances that differ by little."""
    image_HWC = image("float32")
    for unit in (1e-6, 1.0, 1e4):
        scaled_HWC = image_HWC * np.float32(unit)
        seen_HWC = standardized(scaled_HWC, moments_of_image(scaled_HWC, None))
        assert abs(float(seen_HWC.std(dtype=np.float64)) - 1) < 1e-6


def test_large_images_are_taken_by_strips(monkeypatch):
    image_HWC = image("uint16", (300, 40, 3))
    whole = moments_of_image(image_HWC, None)
    monkeypatch.setattr("terrazzo.data.image_standardization._STRIP", 1000)
    strips = moments_of_image(image_HWC, None)
    np.testing.assert_allclose((strips.mean, strips.std), (whole.mean, whole.std), rtol=1e-12)
    wide_HWC = image_HWC.astype(np.float64)
    np.testing.assert_allclose((whole.mean, whole.std), (wide_HWC.mean(), wide_HWC.std()))


class Few:
    """Images in memory, as a split gives them."""

    name = "train"
    label_map = MAP

    def __init__(self, images, present=None):
        self._images, self._present = images, present

    def __len__(self):
        return len(self._images)

    def read(self, index):
        image_HWC = self._images[index]
        label_HW = (np.arange(image_HWC[..., 0].size) % 2).reshape(image_HWC.shape[:2])
        present = None if self._present is None else self._present[index]
        return Sample(f"{index}", image_HWC, label_HW.astype(np.uint8), f"{index}.png", present)


def seen(few, bands, augment=None, *, batch_size=2, image_size=None, epochs=1, threads=0):
    """What a training and what an evaluation show of all images."""
    data = DataConfig(format="folder", root="x", image_size=image_size)
    loader = LoaderConfig(threads=threads)
    order = TrainingOrder(len(few), batch_size, seed=1)
    batches = list(
        training_batches(
            few,
            data,
            augment or AugmentConfig(),
            loader,
            order,
            start_step=0,
            stop_step=epochs * order.steps_per_epoch,
            bands=bands,
        )
    )
    shown = evaluation_samples(few, data, loader, world=SingleProcess(), bands=bands)
    return batches, [image_HWC for _, image_HWC, _ in shown]


@pytest.mark.parametrize("image_size", [None, (30, 20), (11, 40)])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("dtype", LARGEST)
def test_training_without_augmentation_sees_what_evaluation_sees(dtype, missing, image_size):
    images = [image(dtype, seed=n) for n in range(3)]
    present = [holes(each.shape, n) for n, each in enumerate(images)] if missing else None
    bands = Bands.normalized_per_image(RGB, dtype)
    few = Few(images, present)
    for batch_size in (1, 3):
        batches, shown = seen(few, bands, image_size=image_size, batch_size=batch_size)
        for batch in batches:
            assert batch.images_BHWC.dtype == np.float32
            for name, image_HWC in zip(batch.names, batch.images_BHWC, strict=True):
                np.testing.assert_array_equal(image_HWC, shown[int(name)])
    if image_size is not None and not missing:  # of the image at its size, not of the file
        assert all(abs(float(each.std()) - 1) < 1e-5 for each in shown)


@pytest.mark.parametrize("image_size", [None, (40, 36)])
def test_a_crop_has_the_statistics_of_its_whole_image(image_size):
    images = [image("uint8", (33, 29, 3), n) for n in range(4)]
    bands = Bands.normalized_per_image(RGB, "uint8")
    crop = AugmentConfig(crop=(16, 16))
    batches, shown = seen(Few(images), bands, crop, image_size=image_size, epochs=3)
    for batch in batches:
        for name, window_HWC in zip(batch.names, batch.images_BHWC, strict=True):
            whole_HWC = shown[int(name)]
            views = np.lib.stride_tricks.sliding_window_view(whole_HWC, (16, 16), (0, 1))
            # A window that was resized by itself differs in the last bit of a grey level.
            step = 0 if image_size is None else 2 / moments_of_image(images[0], None).std
            off = np.abs(views - np.moveaxis(window_HWC, 2, 0)).max(axis=(2, 3, 4)).min()
            assert off <= step
    means = [float(each.mean()) for batch in batches for each in batch.images_BHWC]
    assert max(map(abs, means)) > 0.01  # by itself, every window would have mean 0


def test_changes_of_colour_stay():
    """Statistics are taken before augmentation: of the image, not of what became of it."""
    images = [image("uint8", seed=n) for n in range(4)]
    bands = Bands.normalized_per_image(RGB, "uint8")
    plain, _ = seen(Few(images), bands)
    brighter, _ = seen(Few(images), bands, AugmentConfig(brightness=0.5))
    means = [float(b.images_BHWC.mean()) for b in plain + brighter]
    assert max(map(abs, means[:2])) < 1e-5
    assert max(map(abs, means[2:])) > 0.02


def test_threads_and_batches_change_nothing():
    bands = Bands.normalized_per_image(RGB, "uint16")
    images = [image("uint16", seed=n) for n in range(5)]
    augment = AugmentConfig(crop=(12, 12), scale=(0.5, 2), flip_horizontal=0.5, rotate=20)
    one, _ = seen(Few(images), bands, augment, epochs=2)
    several, _ = seen(Few(images), bands, augment, epochs=2, threads=3)
    assert digest(one) == digest(several)


def test_missing_values_take_nothing_from_their_neighbours():
    """The mean of the image stands in where pixels are mixed; 0 would be the darkest of them."""
    image_HWC = np.random.default_rng(0).integers(180, 220, (32, 32, 3)).astype(np.uint8)
    present_HWC = np.ones(image_HWC.shape, bool)
    present_HWC[8:20, 8:20] = False
    bands = Bands.normalized_per_image(RGB, "uint8")
    few = Few([image_HWC] * 2, [present_HWC] * 2)
    batches, shown = seen(few, bands, AugmentConfig(scale=(0.7, 0.7)), image_size=(24, 24))
    for each in (*shown, *batches[0].images_BHWC):
        assert np.isnan(each).any()
        assert np.nanmin(each) > -3.5


def test_an_image_that_was_normalised_is_only_resized():
    bands = Bands.normalized_per_image(RGB, "uint8")
    seen_HWC = as_seen(ImagePixels(image("uint8")), None, bands)
    np.testing.assert_array_equal(
        seen_at_size(seen_HWC, (9, 8), bands), resize_image(seen_HWC, (9, 8))
    )


def test_pretrained_weights_are_not_fitted_and_that_is_told():
    bands = Bands.normalized_per_image(RGB, "uint8")
    assert fitted(np.ones((3, 3, 3, 2)), IMAGENET, bands, padding=1) is None
    remark = remark_unfit(IMAGENET, bands)
    assert "each image normalised by itself" in remark
    assert 'data.normalize = "pretrained"' in remark
    assert IMAGENET.of_bands(bands) is None


def test_no_image_is_unlike_training():
    bands = Bands.normalized_per_image(RGB, "uint8")
    assert unlike_training(bands, np.full(3, 1e6), np.full(3, 1.0)) is None


def test_weights_to_start_from_that_saw_other_images_are_told_of():
    by_image = Bands.normalized_per_image(RGB, "uint8")
    by_set = Bands(RGB, "uint8", (0.0,) * 3, (1.0,) * 3)
    assert other_normalization(by_image, by_image) is None
    assert "each image by itself" in other_normalization(by_image, by_set)
    assert "those of this run each image by itself" in other_normalization(by_set, by_image)


# A run from its training to its predictions.


def write_images(root):
    """Pictures whose brightness changes from one to the next, and not the contrast in them."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((30, 26), np.uint8)
        mask[6:20, 4 + number : 14 + number] = 1
        light = draw.uniform(0.2, 1.0)
        values = (60 + 120 * mask[..., None] + draw.normal(0, 20, (*mask.shape, 3))) * light
        file = root / "images" / f"{number}.png"
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(file)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    (root / "labels.toml").write_text(
        'name = "two"\nclasses = [{ name = "dark", colour = "#FF0000", raw = [0] }, '
        '{ name = "bright", colour = "#00FF00", raw = [1] }]\n'
    )


def recipe(root, **changes):
    table = {
        "backend": "reference",
        "name": "each",
        "data": {
            "format": "folder",
            "root": str(root),
            "labels": str(root / "labels.toml"),
            "normalize": "image",
            "options": {"split": {"train": 0.4, "val": 0.2, "test": 0.4}},
        },
        "loader": {"threads": 0},
        "model": {"name": "pixel_softmax", "options": {"features": "neighbourhood"}},
        "training": {"epochs": 3, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
    }
    table["data"] |= changes.pop("data", {})
    return Config.model_validate({**table, **changes})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("by_image")
    write_images(place / "data")
    train(recipe(place / "data", augment={"crop": (20, 20)}), place / "run")
    train(recipe(place / "data", data={"image_size": (15, 13)}), place / "half")
    train(recipe(place / "data", data={"normalize": "dataset"}), place / "set")
    return place


def counts_of(runs, predicted):
    """Count predictions by image name against their masks."""
    total = np.zeros((2, 2), np.int64)
    for name, labels_HW in predicted.items():
        truth_HW = np.asarray(Image.open(runs / "data" / "masks" / f"{name}.png"))
        np.add.at(total, (truth_HW, labels_HW), 1)
    return total.tolist()


def scored_images(runs):
    """Return the names of the scored images, with their pixels."""
    split = datasets.open_split(recipe(runs / "data").data, "test")
    return {sample.name: sample.image_HWC for sample in (split.read(n) for n in range(len(split)))}


@pytest.mark.parametrize("name", ["run", "half"])
def test_scores_are_those_of_predictions(runs, name):
    run = runs / name
    stored = json.loads((run / "evaluation" / "test.json").read_text())
    model = load_model(run)
    predicted = {each: model.predict(image) for each, image in scored_images(runs).items()}
    assert stored["counts"] == counts_of(runs, predicted)
    assert model.card.bands.per_image
    record = json.loads(RunFolder(run).record.read_text())
    assert record["normalisation"]["per_image"] is True
    page = (run / "report.html").read_text()
    assert "each image by itself, to mean 0" in page


def test_a_darker_picture_gets_the_same_map(runs):
    """The point of it: light that changes all values alike changes nothing."""
    model, by_set = load_model(runs / "run"), load_model(runs / "set")
    picture = (image("uint8", (30, 26, 3)) // 4 * 2).astype(np.uint8)
    dark = picture // 2
    np.testing.assert_array_equal(
        model.predict_probabilities(picture), model.predict_probabilities(dark)
    )
    assert not np.array_equal(
        by_set.predict_probabilities(picture), by_set.predict_probabilities(dark)
    )


def test_tiles_have_the_statistics_of_their_image(runs):
    run = runs / "run"
    tiling = Tiling(tile=16, overlap=6, batch_size=3)
    model = load_model(run)
    images = scored_images(runs)
    plain = {name: model.predict(each) for name, each in images.items()}
    by_tiles = {
        name: np.concatenate([rows for rows, _ in model.predict_by_tiles(each, tiling)])
        for name, each in images.items()
    }
    for name, labels_HW in plain.items():  # it looks at 3×3 pixels: blended tiles are the whole
        np.testing.assert_array_equal(by_tiles[name], labels_HW)
    finished = evaluation.evaluate(run, tiling=tiling)
    assert finished.evaluation.matrix.counts.tolist() == counts_of(runs, plain)


def test_test_time_augmentation_is_of_the_normalised_image(runs):
    run = runs / "run"
    finished = evaluation.evaluate(run, augmentation="flips+scales")
    card, trainer = saved_model.load(run / "model")
    ways = augmented(trainer, "flips+scales")
    predicted = {
        name: ways.predict_labels(as_seen(ImagePixels(each), None, card.bands)[None])[0]
        for name, each in scored_images(runs).items()
    }
    assert finished.evaluation.matrix.counts.tolist() == counts_of(runs, predicted)


def test_maps_of_files_are_those_of_arrays(runs, tmp_path):
    file = runs / "data" / "images" / "3.png"
    (written,) = prediction.predict(runs / "run", [file], tmp_path, Settings(), progress=Silent())
    found = np.asarray(Image.open(written.path))
    wanted = load_model(runs / "run").predict(np.asarray(Image.open(file)))
    np.testing.assert_array_equal(found, wanted)


def test_the_card_says_so_and_only_then(runs):
    text = (runs / "run" / "model" / "model.toml").read_text()
    assert tomllib.loads(text)["bands"]["per_image"] is True
    assert "per_image" not in (runs / "set" / "model" / "model.toml").read_text()
    assert not saved_model.read_card(runs / "set" / "model").bands.per_image


def test_a_card_that_contradicts_itself_is_refused(runs, tmp_path):
    card, trainer = saved_model.load(runs / "set" / "model")
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    saved_model.write(tmp_path / "model", card, weights)
    path = tmp_path / "model" / "model.toml"
    path.write_text(path.read_text().replace("[bands]", "[bands]\nper_image = true"))
    (tmp_path / "model" / "MANIFEST.json").unlink()
    with pytest.raises((CheckpointError, ConfigError), match="per_image is for mean 0 and std 1"):
        saved_model.read_card(tmp_path / "model")


def test_a_resumed_run_keeps_its_normalisation(runs, tmp_path):
    with pytest.raises(CheckpointError, match="image → dataset"):
        train(recipe(runs / "data", data={"normalize": "dataset"}), runs / "run", resume=True)


def test_speed_and_conversions_show_the_model_what_it_takes(runs):
    card = saved_model.read_card(runs / "run" / "model")
    assert conversion.raw_form(card).dtype == "float32"
    assert measure(runs / "run", size=(8, 8), repeats=1).rows == 8


# What cannot be done is refused.


def test_scenes_are_refused(tmp_path):
    scene = make_scene(tmp_path / "scene.tif", (40, 30, 3))
    model = make_model(tmp_path / "model", per_image=True)
    with pytest.raises(DataError, match="SEG-D147") as caught:
        prediction.predict(model, [scene], tmp_path / "out", Settings(), progress=Silent())
    assert 'data.normalize = "dataset"' in caught.value.next_step
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_images_that_prediction_takes_for_scenes_are_told_of_before_training(tmp_path):
    """Such as TIFF files of a microscope: all of the run works, but for `predict`."""
    write_images(tmp_path / "data")
    files = [path.with_suffix(".tif") for path in (tmp_path / "data" / "images").iterdir()]
    for path in files:
        Image.open(path.with_suffix(".png")).save(path)
        path.with_suffix(".png").unlink()
    settings = recipe(tmp_path / "data", training={"steps": 1})
    train_split = datasets.open_split(settings.data, "train")
    (told,) = warnings_of_settings(settings, train_split, None)
    assert "but no raster" in told
    by_set = recipe(tmp_path / "data", training={"steps": 1}, data={"normalize": "dataset"})
    assert warnings_of_settings(by_set, train_split, None) == []
    train(settings, tmp_path / "run")
    with pytest.raises(DataError, match="SEG-D147") as caught:
        prediction.predict(
            tmp_path / "run", files[:1], tmp_path / "out", Settings(), progress=Silent()
        )
    assert "load_model(RUN).predict" in caught.value.next_step
    labels_HW = load_model(tmp_path / "run").predict(np.asarray(Image.open(files[0])))
    assert labels_HW.shape == (30, 26)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return DataConfig(format="demo", root=str(tmp_path_factory.mktemp("demo") / "data"))


def test_training_on_parts_of_scenes_is_refused(demo):
    split = datasets.open_split(demo, "train")
    assert split.source.is_cut_from_scenes
    with pytest.raises(ConfigError, match=r"SEG-X011(.*\n)+.*data.normalize = 'dataset'"):
        bands_of(split, "image")


def test_scores_on_parts_of_scenes_are_refused(runs, demo, tmp_path):
    card = saved_model.read_card(runs / "run" / "model")
    whole = Pixels(tmp_path, card.bands.names, "uint8")
    compatibility.require_known_pixels(card, whole)
    with pytest.raises(DataError, match="SEG-D147"):
        compatibility.require_known_pixels(card, replace(whole, of_scene=True))
    # Weights to start from: this run decides how its images are normalised.
    assert compatibility.doubts_before_training(card, replace(whole, of_scene=True)) == ()
    split = datasets.open_split(demo, "test")
    rules = datasets.reading_rules(demo, split.source)
    assert compatibility.pixels_of_split(split, rules).of_scene


def test_exports_are_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="SEG-X080") as caught:
        export(runs / "run", "onnx", tmp_path / "out")
    assert "terrazzo predict" in caught.value.next_step
    for client in ("triton", "arcgis", "bioimageio", "deepness", "mlflow"):
        with pytest.raises(ConfigError, match="SEG-X080"):
            export_for(runs / "run", client, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ensembles_of_models_that_cannot_share_an_image_are_refused(runs):
    for first, other in (("run", "set"), ("set", "run"), ("run", "half")):
        with pytest.raises(ConfigError, match="SEG-X172"):
            evaluation.evaluate(runs / first, ensemble=[runs / other])


def test_an_ensemble_that_shares_its_images(runs, tmp_path):
    train(recipe(runs / "data", seed=4), tmp_path / "other")
    finished = evaluation.evaluate(runs / "run", ensemble=[tmp_path / "other"])
    models = [load_model(runs / "run"), load_model(tmp_path / "other")]
    predicted = {
        name: np.mean([m.predict_probabilities(each) for m in models], axis=0).argmax(axis=2)
        for name, each in scored_images(runs).items()
    }
    assert finished.evaluation.matrix.counts.tolist() == counts_of(runs, predicted)
