"""Test-time augmentation, tiles, ensembles and refinement: what they compute, and how it is called.

Scores by them never take the place of the plain ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.processes import SingleProcess
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.cli import app
from terrazzo.comparison import compare as comparing
from terrazzo.data import datasets
from terrazzo.data.model_input import seen_at_size
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.evaluation import stored
from terrazzo.evaluation.extra_counts import Counter
from terrazzo.inference import jobs, map_writer, predict, tiled_prediction
from terrazzo.inference.composition import Composition
from terrazzo.inference.images import FULL
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io.resize import resize_image
from terrazzo.models import backends
from terrazzo.models.ensembles import Member, mean_over_models
from terrazzo.models.mask_refinement import MaskSettings, average_inside, backend_for_masks
from terrazzo.models.probabilities import planes_at_size
from terrazzo.models.test_time_augmentation import SCALES, augmented, mean_over_flips, scaled_size
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder
from terrazzo.testing.reference import bright_masks
from terrazzo.testing.reference.bright_masks import BrightMasks
from terrazzo.testing.reference.trainer import ReferenceTrainer
from terrazzo.testing.scenes import LABELS, make_model, make_scene
from terrazzo.testing.thread_world import in_world_of
from terrazzo.workflows.evaluate import evaluate, name_of_scores
from terrazzo.workflows.train import train

TILES = Tiling(tile=16, overlap=6, batch_size=3)

CLASSES = """
name = "colours"
ignored = [9]
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""


def write_images(root):
    """Ten images with a bright square; noise at the pixels, so that a colour alone errs."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((30, 26), np.uint8)
        top, left = draw.integers(2, 12, 2)
        mask[top : top + 14, left : left + 12] = 1
        image = np.zeros((*mask.shape, 3), np.float64)
        image[..., 0] = mask * 40 + draw.normal(100, 30, mask.shape)
        image[..., 1] = 110 - mask * 20 + draw.normal(0, 30, mask.shape)
        image[..., 2] = np.where(mask, 255, 0)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    (root / "labels.toml").write_text(CLASSES)


def recipe(root, **changes):
    values = {
        "backend": "reference",
        "name": "colours",
        "seed": 3,
        "data": {
            "format": "folder",
            "root": str(root),
            "labels": str(root / "labels.toml"),
            "options": {"split": {"train": 0.4, "val": 0.2, "test": 0.4}},
        },
        "loader": {"threads": 0},
        "model": {"name": "pixel_softmax", "options": {"features": "neighbourhood"}},
        "training": {"epochs": 1, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
        "evaluation": {"calibration": True},
        **changes,
    }
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs on the same data: two seeds, and one that sees images at half their size."""
    place = tmp_path_factory.mktemp("ways")
    write_images(place / "data")
    train(recipe(place / "data"), place / "a")
    train(recipe(place / "data", seed=4), place / "b")
    sized = recipe(place / "data")
    data = sized.data.model_copy(update={"image_size": (15, 13)})
    train(sized.model_copy(update={"data": data}), place / "half")
    (place / "masks").mkdir()
    (place / "masks" / bright_masks.FILE).write_text('{"threshold": 110}')
    return place


def summary(run, name):
    return json.loads((run / "evaluation" / f"{name}.json").read_text())


def images_of_test(run):
    """The images of the test split with their names, and their labels."""
    names = stored.read(RunFolder(run)).scored[0].names
    root = run.parent / "data"
    for name in names:
        image = np.asarray(Image.open(next((root / "images").glob(f"{name}.*"))))
        yield image, np.asarray(Image.open(next((root / "masks").glob(f"{name}.*"))))


def counts(predictions, run):
    total = np.zeros((2, 2), np.int64)
    for labels_HW, (_, truth_HW) in zip(predictions, images_of_test(run), strict=True):
        np.add.at(total, (truth_HW, labels_HW), 1)
    return total.tolist()


@pytest.mark.parametrize("word", ["flips", "flips+scales"])
def test_scores_of_augmentation_lie_beside_the_plain_ones(runs, word):
    run = runs / "a"
    plain = (run / "evaluation" / "test.json").read_bytes()
    finished = evaluate(run, augmentation=word)
    name = f"test-tta_{word.replace('+', '_')}"
    assert (run / "evaluation" / "test.json").read_bytes() == plain
    found = summary(run, name)
    assert found["prediction"] == {"tta": word}
    assert f"tta {word}: mean of the softmax probabilities" in found["definition"]
    assert "prediction" not in json.loads(plain)
    trainer = augmented(saved_model.load(run / "model")[1], word)
    expected = counts([trainer.predict_labels(i[None])[0] for i, _ in images_of_test(run)], run)
    assert found["counts"] == expected == finished.evaluation.matrix.counts.tolist()
    assert found["counts"] != json.loads(plain)["counts"]
    assert found["calibration"] != json.loads(plain)["calibration"]
    page = (run / "report.html").read_text()
    assert name in page
    assert "These are not the scores of the model alone" in page


def test_scales_are_averaged_at_the_size_of_the_image(runs):
    _, trainer = saved_model.load(runs / "a" / "model")
    image = next(images_of_test(runs / "a"))[0]
    parts = []
    for scale in SCALES:
        seen = resize_image(image, (round(30 * scale), round(26 * scale)))
        flipped = mean_over_flips(trainer).predict(seen[None])[0]
        parts.append(np.stack(list(planes_at_size(flipped, (30, 26))), axis=2))
    found = augmented(trainer, "flips+scales").predict(image[None])[0]
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=2), 1, atol=1e-5)
    assert np.abs(parts[0] - parts[1]).max() > 0.01


def test_scales_of_missing_values_take_nothing_from_them(runs):
    """NaN is a missing value, whose neighbours are mixed with the mean of the band."""
    _, trainer = saved_model.load(runs / "a" / "model")
    image = next(images_of_test(runs / "a"))[0].astype(np.float32)
    image[4:9, 5:11] = np.nan
    found = augmented(trainer, "flips+scales").predict(image[None])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=3), 1, atol=1e-5)
    size = scaled_size((30, 26), SCALES[0])
    seen = seen_at_size(np.where(np.isnan(image), image, np.float32(7)), size, trainer.bands)
    missing = cv2.resize(
        np.isnan(image).astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT
    )
    np.testing.assert_array_equal(np.isnan(seen), missing)
    assert 0 < missing.sum() < missing.size


def test_tiles_are_taken_at_the_own_scale_of_images(runs):
    """A 3×3 model by blended tiles is the model itself; one with an image size is not resized."""
    run = runs / "half"
    said = Told()
    finished = evaluate(run, tiling=TILES, progress=said)
    assert any("at the images' own scale" in line for line in said.lines)
    found = summary(run, "test-tile_16_6")
    assert found["prediction"] == {"tiles": {"tile": 16, "overlap": 6, "blend": "linear"}}
    assert "tiles of 16 pixels" in found["definition"]
    _, trainer = saved_model.load(run / "model")
    expected = counts([trainer.predict_labels(i[None])[0] for i, _ in images_of_test(run)], run)
    assert finished.evaluation.matrix.counts.tolist() == expected
    assert found["counts"] != summary(run, "test")["counts"]


def test_an_ensemble_asks_each_member_at_its_own_size(runs):
    run = runs / "a"
    finished = evaluate(run, ensemble=[runs / "b", runs / "half"])
    found = summary(run, "test-ensemble_of_3")
    members = found["prediction"]["ensemble"]
    assert [each["name"] for each in members] == ["a", "b", "half"]
    assert len({each["sha256"] for each in members}) == 3
    assert "mean of the probabilities of 3 runs (a, b, half)" in found["definition"]
    models = [load_model(runs / name) for name in ("a", "b", "half")]
    predicted = [
        np.mean([m.predict_probabilities(i) for m in models], axis=0).argmax(axis=2)
        for i, _ in images_of_test(run)
    ]
    assert finished.evaluation.matrix.counts.tolist() == counts(predicted, run)
    # One alone is the model: with its size, and its probabilities brought back.
    image = next(images_of_test(run))[0]
    _, half = saved_model.load(runs / "half" / "model")
    alone = mean_over_models([Member(half, (15, 13))])
    np.testing.assert_array_equal(
        alone.predict(image[None])[0], models[2].predict_probabilities(image)
    )


def test_models_that_make_no_ensemble_are_refused(runs, tmp_path):
    def refused(kind, code, other):
        with pytest.raises(kind, match=code):
            evaluate(runs / "a", ensemble=[other])

    refused(ConfigError, "SEG-X174", runs / "a")
    make_model(tmp_path / "classes")
    refused(ConfigError, "SEG-X171", tmp_path / "classes")
    labels = saved_model.read_card(runs / "a" / "model").label_map
    make_model(tmp_path / "deep", dtype="uint16", labels=labels)
    refused(DataError, "SEG-D019", tmp_path / "deep")
    make_model(tmp_path / "more", bands=4, labels=labels)
    refused(DataError, "SEG-D020", tmp_path / "more")
    refused(CheckpointError, "SEG-C012", tmp_path)


def test_one_process_holds_one_framework(tmp_path, runs):
    card, trainer = saved_model.load(runs / "b" / "model")
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    saved_model.write(tmp_path / "other", replace(card, backend="torch"), weights)
    with pytest.raises(ConfigError, match=r"SEG-X170(.*\n)+.*reference and torch"):
        evaluate(runs / "a", ensemble=[tmp_path / "other"])
    rules = card.rules._replace(apply_scale=not card.rules.apply_scale)
    saved_model.write(tmp_path / "read", replace(card, rules=rules), weights)
    with pytest.raises(ConfigError, match="SEG-X172"):
        evaluate(runs / "a", ensemble=[tmp_path / "read"])


@pytest.mark.skipif("keras" not in backends.installed(), reason="needs terrazzo-keras")
def test_masks_need_the_framework_that_computes_them():
    with pytest.raises(ConfigError, match="SEG-X173"):
        backend_for_masks("keras")
    assert backend_for_masks(None) == backend_for_masks("torch") == "torch"


@dataclass(frozen=True)
class InWorld:
    """A model as one of several processes has it."""

    trainer: object
    world: object

    def __getattr__(self, name):
        return getattr(self.trainer, name)


def test_the_number_of_processes_changes_no_score(runs):
    config = recipe(runs / "data")
    split = datasets.open_split(config.data, "test")
    card, trainer = saved_model.load(runs / "a" / "model")
    _, half = saved_model.load(runs / "half" / "model")
    ways = Composition("flips+scales", TILES, MaskSettings(runs / "masks", "reference"))

    def counted(world):
        members = [Member(InWorld(each, world)) for each in (trainer, half)]
        predictor = ways.of(members, card.label_map)
        assert predictor.world is world
        counter = Counter(split, config.evaluation)
        return evaluation_loop.evaluate(
            predictor,
            split,
            config.data,
            config.loader,
            batch_size=1,
            step=1,
            progress=Silent(),
            counter=counter,
        )

    one = counted(SingleProcess())
    for found in in_world_of(3, counted):
        np.testing.assert_array_equal(found.counts_NKK, one.counts_NKK)
        ours, theirs = one.extra.arrays(), found.extra.arrays()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_the_command_names_what_it_has_scored(runs):
    words = ["evaluate", runs / "a", "--refine", "sam", "--sam", runs / "masks", "--tta", "flips"]
    program = [sys.executable, "-c", "from terrazzo.cli.app import main; main()"]
    done = subprocess.run([*program, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test-tta_flips-sam" in done.stdout
    assert "predictions: tta flips: mean of the softmax" in done.stdout
    assert "test-tta_flips 0." in done.stdout
    assert "difference +0." in done.stdout
    assert (
        name_of_scores(
            "test", augmentation="flips", masks=MaskSettings(runs / "masks"), ensemble=["b"]
        )
        == "test-ensemble_of_2-tta_flips-sam"
    )
    for wrong, code in (
        (["--sam", "x"], "SEG-X094"),
        (["--refine", "sam"], "SEG-X094"),
        (["--refine", "sma", "--sam", "x"], "SEG-X004"),
        (["--tta", "flip"], "SEG-X004"),
        (["--overlap", "4"], "SEG-X094"),
        (["--tile", "4", "--overlap", "4"], "SEG-X002"),
    ):
        with pytest.raises(ConfigError, match=code):
            app.app(["evaluate", str(runs / "a"), *wrong], standalone_mode=False)


def test_a_member_with_fewer_bands_in_another_order(tmp_path):
    make_model(tmp_path / "a", bands=3, names=("red", "green", "nir"))
    make_model(tmp_path / "b", bands=2, names=("nir", "red"))
    make_scene(tmp_path / "s.tif", (40, 33, 3), names=("red", "green", "nir"))
    settings = Settings(tiling=TILES, probabilities=True, ensemble=(tmp_path / "b",))
    predict.predict(tmp_path / "a", tmp_path / "s.tif", tmp_path / "m.tif", settings)
    with rasterio.open(tmp_path / "s.tif") as dataset:
        image = np.moveaxis(dataset.read(), 0, 2)
    first, second = (saved_model.load(tmp_path / name)[1] for name in "ab")
    expected = (first.predict(image[None]) + second.predict(image[None][..., [2, 0]])) / 2
    with rasterio.open(tmp_path / "m_probabilities.tif") as dataset:
        np.testing.assert_allclose(np.moveaxis(dataset.read(), 0, 2), expected[0], atol=2e-6)
        assert json.loads(dataset.tags()["PREDICTION"])["ensemble"][1]["name"] == "b"


def test_majority_by_summed_probabilities_inside_masks():
    p = np.zeros((4, 4, 2), np.float32)
    p[..., 0], p[..., 1] = 0.6, 0.4
    p[0, 0] = 0.0, 1.0  # outvotes, by sum, the two beside it
    large, small = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    large[:3] = True
    small[0, :3] = True
    average_inside(p, [small, large, np.zeros((4, 4), bool)])
    np.testing.assert_allclose(p[0, :3, 1], (1 + 0.4 + 0.4) / 3, atol=1e-6)
    np.testing.assert_allclose(p[1, :, 1], (1 + 11 * 0.4) / 12, atol=1e-6)
    np.testing.assert_allclose(p[3, :, 1], 0.4, atol=1e-6)
    assert p.argmax(axis=2).tolist() == [[1, 1, 1, 0], [0] * 4, [0] * 4, [0] * 4]


def test_refinement_is_scored_beside_what_it_refines(runs):
    run = runs / "a"
    plain = summary(run, "test")
    finished = evaluate(run, masks=MaskSettings(runs / "masks"))
    assert summary(run, "test") == plain
    found = summary(run, "test-sam")
    assert found["scores"]["mean_iou"] > plain["scores"]["mean_iou"]  # masks are the truth here
    assert found["prediction"]["refine"]["points"] == 32
    assert len(found["prediction"]["refine"]["sha256"]) == 64
    beside = found["beside"]
    assert (beside["split"], beside["images"]) == ("test", plain["images"])
    assert beside["mean_iou"] == plain["scores"]["mean_iou"]
    assert beside["difference"] == pytest.approx(
        found["scores"]["mean_iou"] - plain["scores"]["mean_iou"]
    )
    assert finished.beside is not None
    assert "without an interval (too few images: 5" in finished.beside.line(
        finished.scores.mean_iou
    )
    enough = replace(finished.beside, low=0.1, high=0.2, images=60)
    assert "[+0.1000, +0.2000] (paired over 60 images, 95%" in enough.line(0.9)
    page = (run / "report.html").read_text()
    assert "With and without the refinement" in page
    assert f"{beside['difference']:+.4f}" in page


def test_a_refinement_without_any_mask_is_told(runs, monkeypatch):
    def told():
        progress = Told()
        evaluate(runs / "a", masks=MaskSettings(runs / "masks"), progress=progress)
        lines = [line for line in progress.lines if "changed the counts of no image" in line]
        assert all("IoU of 0.88 or more and a stability of 0.95" in line for line in lines)
        return len(lines)

    assert not told()
    monkeypatch.setattr(BrightMasks, "masks", lambda self, image_HWC: [])
    assert told() == 1


def test_a_folder_without_a_mask_model_is_refused_before_anything_is_scored(runs, tmp_path):
    before = sorted((runs / "b" / "evaluation").iterdir())
    with pytest.raises(CheckpointError, match="SEG-C012"):
        evaluate(runs / "b", split="val", masks=MaskSettings(tmp_path))
    assert sorted((runs / "b" / "evaluation").iterdir()) == before


def test_a_comparison_mixes_no_ways_of_predicting(runs, tmp_path):
    for name in ("a", "b"):
        evaluate(runs / name, augmentation="flips", tiling=TILES)
    name = "test-tta_flips-tile_16_6"
    found = comparing.compare([runs / "a", runs / "b"], split=name, resamples=50)
    assert "tta flips" in found.competitors[0].scored.summary["definition"]
    with pytest.raises(CheckpointError, match="SEG-C040"):
        comparing.compare([runs / "a", runs / "half"], split=name, resamples=50)
    path = runs / "b" / "evaluation" / f"{name}.json"
    other = json.loads(path.read_text())
    other["prediction"]["tiles"]["overlap"] = 7
    path.write_text(json.dumps(other))
    with pytest.raises(DataError, match="other ways of predicting"):
        comparing.compare([runs / "a", runs / "b"], split=name, resamples=50)


class Told:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def advance(self, done, total, text):
        """Keep nothing."""

    def say(self, text):
        self.lines.append(text)


def photo(place, size=(40, 50)):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(image).save(place / "photo.png")
    return image


def predict_photo(place, **settings):
    settings = Settings(tiling=TILES, **settings)
    predict.predict(place / "model", place / "photo.png", place / "maps", settings)
    return np.asarray(Image.open(place / "maps" / "photo.png"))


def test_probabilities_of_an_image_are_a_png_a_class(tmp_path):
    names = ("sea / ice", "land")
    classes = tuple(replace(LABELS.classes[k], name=name) for k, name in enumerate(names))
    make_model(tmp_path / "model", labels=replace(LABELS, classes=classes))
    image = photo(tmp_path)
    predict_photo(tmp_path, probabilities=True)
    expected = load_model(tmp_path / "model").predict_probabilities(image)
    files = [f"photo_probability_{name}.png" for name in ("00_sea_ice", "01_land")]
    for k, file in enumerate(files):
        with Image.open(tmp_path / "maps" / file) as shown:
            assert shown.mode.startswith("I;16")
            assert shown.text["class"] == names[k]
            assert shown.text["scale"] == "probability = value / 65535"
            values = np.asarray(shown)
        np.testing.assert_allclose(values / FULL, expected[..., k], atol=0.51 / FULL)
    written = {path.name for path in (tmp_path / "maps").iterdir()}
    assert written == {*files, "photo.png", "photo_overlay.png", "legend.png", "classes.json"}


def test_an_image_by_an_ensemble_with_augmentation_says_so(runs, tmp_path):
    image = next(images_of_test(runs / "a"))[0]
    Image.fromarray(image).save(tmp_path / "photo.png")
    settings = Settings(augmentation="flips", ensemble=(runs / "half",))
    predict.predict(runs / "a", tmp_path / "photo.png", tmp_path / "maps", settings)
    members = []
    for name, size in (("a", None), ("half", (15, 13))):
        members.append(Member(saved_model.load(runs / name / "model")[1], size))
    expected = Composition("flips").of(members, LABELS).predict_labels(image[None])[0]
    with Image.open(tmp_path / "maps" / "photo.png") as shown:
        np.testing.assert_array_equal(np.asarray(shown), expected)
        record = json.loads(shown.text["PREDICTION"])
    assert record["tta"] == "flips"
    assert [each["name"] for each in record["ensemble"]] == ["a", "half"]


def test_tiles_of_an_image_whose_model_has_an_image_size(tmp_path):
    make_model(tmp_path / "model", image_size=(16, 16))
    image = photo(tmp_path)
    labels_HW = predict_photo(tmp_path, whole_images_up_to=0)
    _, trainer = saved_model.load(tmp_path / "model")
    np.testing.assert_array_equal(labels_HW, trainer.predict_labels(image[None])[0])


def test_tiles_of_an_ensemble_are_at_the_scale_of_the_image(runs, tmp_path):
    image = next(images_of_test(runs / "a"))[0]
    Image.fromarray(image).save(tmp_path / "photo.png")
    settings = Settings(tiling=TILES, whole_images_up_to=0, ensemble=(runs / "half",))
    predict.predict(runs / "a", tmp_path / "photo.png", tmp_path / "maps", settings)
    trainers = [saved_model.load(runs / name / "model")[1] for name in ("a", "half")]
    expected = sum(trainer.predict(image[None])[0] for trainer in trainers).argmax(axis=2)
    with Image.open(tmp_path / "maps" / "photo.png") as shown:
        np.testing.assert_array_equal(np.asarray(shown), expected)
        assert json.loads(shown.text["PREDICTION"])["tiles"]["tile"] == 16


def test_an_image_refined_by_masks(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / bright_masks.FILE).write_text('{"threshold": 128}')
    make_model(tmp_path / "model")
    image = np.full((40, 50, 3), 30, np.uint8)
    image[5:20, 5:30] = np.random.default_rng(1).integers(140, 256, (15, 25, 3))
    Image.fromarray(image).save(tmp_path / "photo.png")
    labels_HW = predict_photo(tmp_path, refinement=MaskSettings(tmp_path / "masks"))
    probabilities = load_model(tmp_path / "model").predict_probabilities(image)
    assert len(np.unique(probabilities[5:20, 5:30].argmax(axis=2))) > 1
    assert (labels_HW[5:20, 5:30] == probabilities[5:20, 5:30].sum(axis=(0, 1)).argmax()).all()


def test_labels_and_probabilities_of_an_image_are_computed_once(tmp_path, monkeypatch):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / bright_masks.FILE).write_text('{"threshold": 128}')
    make_model(tmp_path / "model", image_size=(16, 16))
    photo(tmp_path)
    forward, cut, passes, cuts = ReferenceTrainer.predict, bright_masks.BrightMasks.masks, [], []

    def counted_forward(trainer, images_BHWC):
        passes.append(images_BHWC.shape)
        return forward(trainer, images_BHWC)

    def counted_cut(generator, image_HWC):
        cuts.append(image_HWC.shape)
        return cut(generator, image_HWC)

    monkeypatch.setattr(ReferenceTrainer, "predict", counted_forward)
    monkeypatch.setattr(bright_masks.BrightMasks, "masks", counted_cut)
    settings = {"probabilities": True, "refinement": MaskSettings(tmp_path / "masks")}
    labels_HW = predict_photo(tmp_path, **settings)
    assert (len(passes), len(cuts)) == (1, 1)
    planes = sorted((tmp_path / "maps").glob("photo_probability_*.png"))
    values_KHW = np.stack([np.asarray(Image.open(path)) for path in planes])
    assert (values_KHW.argmax(axis=0) == labels_HW)[values_KHW.max(0) > values_KHW.min(0)].all()


class Reversed:
    """Does all bands of a scene in this process, the last one first."""

    size = 3

    def __init__(self, source):
        self.trainer = source.load()[1]

    def do(self, tasks):
        for task in reversed(list(tasks)):
            jobs.work(self.trainer, task, lambda: None)
            yield task


def test_the_bytes_of_a_scene_do_not_depend_on_sharing_or_a_kill(tmp_path, monkeypatch):
    make_model(tmp_path / "model")
    labels = saved_model.read_card(tmp_path / "model").label_map
    make_model(tmp_path / "other", labels=labels)
    card, trainer = saved_model.load(tmp_path / "other")
    weights = {n: a + 0.1 for n, a in trainer.state().items() if n.startswith("weights/")}
    saved_model.write(tmp_path / "second", card, weights)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / bright_masks.FILE).write_text('{"threshold": 128}')
    make_scene(tmp_path / "s.tif", (70, 45, 3), nodata=0)
    settings = {
        "tiling": TILES,
        "augmentation": "flips+scales",
        "ensemble": (tmp_path / "second",),
        "refinement": MaskSettings(tmp_path / "masks"),
        "probabilities": True,
    }

    def run(out, **more):
        where = tmp_path / "model", tmp_path / "s.tif", tmp_path / out
        predict.predict(*where, Settings(**{**settings, **more}), progress=Silent())

    run("map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        record = json.loads(dataset.tags()["PREDICTION"])
    assert set(record) == {"tta", "ensemble", "refine", "definition"}
    orders = []
    original_begin = map_writer.make_maps

    def keep(given, executor, **more):
        orders.extend(given)
        return original_begin(given, executor, **more)

    with monkeypatch.context() as patch:
        patch.setattr(map_writer, "make_maps", keep)
        patch.setattr(predict, "_executor", lambda source, *_: _Given(Reversed(source)))
        run("bands.tif")
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
            run("again.tif")
    for other in (
        {"augmentation": "flips"},
        {"ensemble": ()},
        {"refinement": None},
        {"refinement": MaskSettings(tmp_path / "masks", points=8)},
    ):
        with pytest.raises(CheckpointError, match="SEG-C011"):
            run("again.tif", resume=True, **other)
    run("again.tif", resume=True)
    for name in ("bands", "again"):
        for end in (".tif", "_probabilities.tif"):
            assert (tmp_path / f"{name}{end}").read_bytes() == (tmp_path / f"map{end}").read_bytes()


class _Given:
    def __init__(self, executor):
        self.executor = executor

    def __enter__(self):
        return self.executor

    def __exit__(self, *_):
        pass
