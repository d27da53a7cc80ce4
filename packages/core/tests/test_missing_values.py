"""What marks nodata in a file never reaches a model: the same bytes for every marker and layout."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import rasterio
from affine import Affine

from terrazzo.base.processes import SingleProcess
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import AugmentConfig, Config, DataConfig, LoaderConfig
from terrazzo.check import check_data
from terrazzo.data.augment import augment
from terrazzo.data.datasets import open_split
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.loader import TrainingOrder, evaluation_samples, training_batches
from terrazzo.data.normalization import bands_of, noise_deviations
from terrazzo.data.sample import Bands, Sample
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.io.pixels import mark_missing
from terrazzo.testing.reference.models import pixel_softmax
from terrazzo.workflows.train import train

PLACE = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 4e5, 0, -0.5, 5.8e6)}
SIZE = 96
MARKERS = [
    ("uint8", 0),
    ("uint8", 255),
    ("uint16", 0),
    ("uint16", 255),
    ("uint16", 65535),
    ("uint16", 7),
    ("int16", 0),
    ("int16", 255),
    ("int16", -9999),
    ("int16", -32768),
    ("float32", 0.0),
    ("float32", 255.0),
    ("float32", 65535.0),
    ("float32", -9999.0),
    ("float32", float("nan")),
    ("float32", -3.4028234663852886e38),
    ("float64", -1e20),
]


def city(seed=0):
    """Values of three classes that every type can hold, and where there are none."""
    rng = np.random.default_rng(seed)
    label_HW = np.kron(rng.integers(0, 3, (SIZE // 8, SIZE // 8)), np.ones((8, 8), int))
    colours = np.array([[40, 60, 200], [60, 180, 60], [200, 60, 40]])
    image_HWC = np.clip(colours[label_HW] + rng.normal(0, 6, (SIZE, SIZE, 3)), 10, 250).astype(int)
    holes_HW = np.zeros((SIZE, SIZE), bool)
    holes_HW[:, :21] = True
    holes_HW[40:60, 50:70] = True
    return image_HWC, label_HW.astype(np.uint8), holes_HW


def write_tif(path, array_HWC, dtype, nodata=None):
    profile = {"driver": "GTiff", "height": array_HWC.shape[0], "width": array_HWC.shape[1]}
    profile |= {"count": array_HWC.shape[2], "dtype": dtype, "nodata": nodata, **PLACE}
    with rasterio.open(path, "w", **profile) as opened:
        opened.write(np.moveaxis(array_HWC, 2, 0).astype(dtype))


def write_scene(folder, dtype, nodata, *, files=1, holes_HWC=None):
    """Write the scene with `nodata` in its holes, its bands in one file or in three."""
    folder.mkdir(parents=True, exist_ok=True)
    image_HWC, label_HW, holes_HW = city()
    holes_HWC = np.repeat(holes_HW[..., None], 3, 2) if holes_HWC is None else holes_HWC
    marked = np.where(holes_HWC, np.nan if np.isnan(nodata) else nodata, image_HWC.astype(float))
    if files == 1:
        names = ["image.tif"]
        write_tif(folder / names[0], marked, dtype, nodata)
    else:
        names = [f"band{number}.tif" for number in range(3)]
        for number, name in enumerate(names):
            write_tif(folder / name, marked[..., [number]], dtype, nodata)
    write_tif(folder / "label.tif", label_HW[..., None], "uint8")
    (folder / "m.toml").write_text(
        'name = "m"\n'
        + "".join(
            f'[[classes]]\nname = "c{k}"\ncolour = "#00000{k}"\nraw = [{k}]\n' for k in range(3)
        )
    )
    return DataConfig(
        format="geotiff",
        root=str(folder),
        labels=str(folder / "m.toml"),
        options={
            "scenes": [{"images": names, "label": "label.tif"}],
            "chip": 32,
            "block": 1,
            "buffer": 2,
        },
    )


def seen_by_a_model(data, augmentation, *, image_size=None):
    """What a training sees: batches and statistics, in a form that is free of the type."""
    data = data.model_copy(update={"image_size": image_size})
    split = open_split(data, "train")
    bands = bands_of(split, "dataset")
    order = TrainingOrder(len(split), 2, seed=1)
    batches = list(
        training_batches(
            split,
            data,
            augmentation,
            LoaderConfig(threads=0),
            order,
            start_step=0,
            stop_step=order.steps_per_epoch,
            bands=bands,
            deviations=noise_deviations(split, bands),
        )
    )
    shown = [
        image
        for _, image, _ in evaluation_samples(
            split, data, LoaderConfig(threads=0), world=SingleProcess(), bands=bands
        )
    ]
    return bands, batches, shown


def same(first, second, *, exact=True):
    one, two = first.astype(np.float32), second.astype(np.float32)
    assert np.array_equal(np.isnan(one), np.isnan(two))
    if exact:
        np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    return seen_by_a_model(write_scene(folder, "uint8", 0), AugmentConfig())


@pytest.mark.parametrize(("dtype", "nodata"), MARKERS)
@pytest.mark.parametrize("files", [1, 3])
def test_a_training_sees_the_same_whatever_marks_nodata(tmp_path, expected, dtype, nodata, files):
    bands, batches, shown = seen_by_a_model(
        write_scene(tmp_path, dtype, nodata, files=files), AugmentConfig()
    )
    assert (bands.mean, bands.std) == (expected[0].mean, expected[0].std)
    assert sum(np.isnan(batch.images_BHWC.astype(float)).any() for batch in batches) > 0
    for one, two in zip(batches, expected[1], strict=True):
        same(one.images_BHWC, two.images_BHWC)
        np.testing.assert_array_equal(one.labels_BHW, two.labels_BHW)
    for one, two in zip(shown, expected[2], strict=True):
        same(one, two)


CHANGES = AugmentConfig(
    crop=(24, 24),
    scale=(0.7, 1.4),
    rotate=20,
    flip_horizontal=0.5,
    turns=True,
    brightness=0.2,
    contrast=0.2,
    colour=0.1,
    noise=0.02,
    blur=1.0,
)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("uint8", 0), ("uint8", 255)),
        (("uint16", 0), ("uint16", 65535)),
        (("float32", -9999.0), ("float32", float("nan"))),
        (("int16", -9999), ("int16", -32768)),
    ],
)
@pytest.mark.parametrize("image_size", [None, (40, 44)])
def test_augmented_and_resized_images_do_not_depend_on_the_marker(tmp_path, one, two, image_size):
    found = [
        seen_by_a_model(write_scene(tmp_path / str(number), *each), CHANGES, image_size=image_size)
        for number, each in enumerate((one, two))
    ]
    for first, second in zip(found[0][1], found[1][1], strict=True):
        same(first.images_BHWC, second.images_BHWC)
        valid = first.labels_BHW != 255
        assert np.isfinite(first.images_BHWC.astype(float)[valid]).mean() > 0.97  # nearest pixels
    for first, second in itertools.chain(zip(found[0][2], found[1][2], strict=True)):
        same(first, second)


def trained(folder, dtype, nodata, **written):
    data = write_scene(folder, dtype, nodata, **written)
    return trained_on(data, folder)


def trained_on(data, folder):
    recipe = Config.model_validate(
        {
            "backend": "reference",
            "name": "holes",
            "data": data.model_dump(),
            "model": {"name": "pixel_softmax", "options": {"features": "neighbourhood"}},
            "training": {"batch_size": 2, "steps": 30, "schedule": {"learning_rate": 0.3}},
        }
    )
    return train(recipe, folder / "run", progress=Silent())


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("uint8", 0), ("uint8", 255)),
        (("uint16", 0), ("uint16", 65535)),
        (("float32", -9999.0), ("float32", float("nan"))),
        (("uint8", 0), ("float32", -9999.0)),
        (("uint8", 0), ("int16", -9999)),
        (("uint16", 255), ("float32", 65535.0)),
        (("int16", 0), ("float32", 0.0)),
    ],
)
def test_scores_and_maps_do_not_depend_on_the_marker(tmp_path, one, two):
    maps, counts = [], []
    for number, (dtype, nodata) in enumerate((one, two)):
        run = trained(tmp_path / str(number), dtype, nodata)
        counts.append(run.evaluation.matrix.counts)
        out = tmp_path / f"{number}.tif"
        settings = Settings(tiling=Tiling(tile=32, overlap=12))
        predict(run.path, tmp_path / str(number) / "image.tif", out, settings)
        maps.append(rasters.read_label(out, "index"))
    np.testing.assert_array_equal(*counts)
    np.testing.assert_array_equal(*maps)
    assert ((maps[0] == 255) == city()[2]).all()


@pytest.mark.parametrize("rule", ["any", "all", None])
@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("uint16", 65535)])
def test_a_model_keeps_the_nodata_rule_of_its_training(tmp_path, dtype, nodata, rule):
    """Prediction and scoring follow it where one band of a pixel is marked."""
    one_band_HWC = np.zeros((SIZE, SIZE, 3), bool)
    one_band_HWC[10:20, 30:50, 1] = True
    data = write_scene(tmp_path, dtype, nodata, holes_HWC=one_band_HWC)
    if rule is not None:
        data = data.model_copy(update={"options": {**data.options, "nodata_rule": rule}})
    run = trained_on(data, tmp_path)
    predict(run.path, tmp_path / "image.tif", tmp_path / "map.tif", Settings())
    found_HW = rasters.read_label(tmp_path / "map.tif", "index") == 255
    whole = rule == "any" or (rule is None and nodata < 0)
    np.testing.assert_array_equal(found_HW, one_band_HWC.any(axis=2) if whole else False)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("uint16", 65535), ("int16", -9999)])
def test_the_table_of_the_check_counts_valid_pixels_alone(tmp_path, dtype, nodata):
    report = check_data(write_scene(tmp_path, dtype, nodata), fresh=True)
    image_HWC, _, holes_HW = city()
    valid_NC = image_HWC[~holes_HW].astype(float)
    for band, row in enumerate(report.bands):
        assert row.mean == pytest.approx(valid_NC[:, band].mean(), rel=0.02)
        assert row.low >= valid_NC[:, band].min()
        assert row.high <= valid_NC[:, band].max()


def test_one_band_of_a_file_is_missing_by_the_rule_of_its_marker(tmp_path):
    """−9999 in one band leaves the pixel without data; 0 leaves the band without a value."""
    one_band_HWC = np.zeros((SIZE, SIZE, 3), bool)
    one_band_HWC[10:20, 30:50, 1] = True
    everywhere = one_band_HWC.any(axis=2)
    for dtype, nodata, whole in (
        ("int16", -9999, True),
        ("float32", -9999.0, True),
        ("float32", float("nan"), True),
        ("float32", 0.0, True),
        ("int16", -32768, True),
        ("uint8", 0, False),
        ("uint16", 65535, False),
    ):
        layouts = []
        for files in (1, 3):
            folder = tmp_path / f"{dtype}{nodata}{files}"
            data = write_scene(folder, dtype, nodata, files=files, holes_HWC=one_band_HWC)
            source = open_split(data, "train").source
            pixels = source.open_scenes[0].read_image((0, 0, SIZE, SIZE))
            np.testing.assert_array_equal(~pixels.valid_HW, everywhere if whole else False)
            missing_HWC = np.repeat(everywhere[..., None], 3, 2) if whole else one_band_HWC
            np.testing.assert_array_equal(~pixels.present_HWC, missing_HWC)
            layouts.append(mark_missing(pixels.image_HWC, pixels.present_HWC))
        same(*layouts)
        settable = data.model_copy(
            update={"options": {**data.options, "nodata_rule": "all" if whole else "any"}}
        )
        pixels = open_split(settable, "train").source.open_scenes[0].read_image((0, 0, SIZE, SIZE))
        np.testing.assert_array_equal(~pixels.valid_HW, False if whole else everywhere)


def test_augmentation_neither_spreads_nan_nor_touches_missing_values():
    rng = np.random.default_rng(0)
    image_HWC = rng.normal(1500, 10, (20, 30, 2)).astype(np.float32)
    present_HWC = np.ones(image_HWC.shape, bool)
    present_HWC[4, 7, 0] = False
    image_HWC[~present_HWC] = 0
    sample = Sample("a", image_HWC, np.zeros((20, 30), np.uint8), "a", present_HWC)
    colours = AugmentConfig(brightness=0.3, contrast=0.3, colour=0.2, noise=0.01)
    changed = augment(
        sample,
        colours,
        None,
        np.random.default_rng(1),
        255,
        np.array([1500, 1500]),
        deviation_C=np.array([10.0, 10.0]),
    )
    assert np.argwhere(np.isnan(changed.image_HWC)).tolist() == [[4, 7, 0]]
    # Contrast turns about the mean of what is there.
    other = np.where(present_HWC, image_HWC, 9e5)
    again = augment(
        Sample("a", other, sample.label_HW, "a", present_HWC),
        colours.model_copy(update={"noise": 0.0}),
        None,
        np.random.default_rng(1),
        255,
        np.array([1500, 1500]),
    )
    assert np.nanmax(again.image_HWC) < 4000


def test_every_trainer_takes_a_missing_value_for_the_mean():
    from terrazzo.testing.reference.trainer import ReferenceTrainer

    labels = LabelMap("two", tuple(LabelClass(n, "#000000", (k,)) for k, n in enumerate("ab")))
    bands = Bands(("x",), "uint8", (100.5,), (20.0,))
    training = Config.model_fields["training"].annotation(steps=1)
    trainer = ReferenceTrainer(pixel_softmax.Options(), training, labels, bands, 0)
    missing = np.full((1, 3, 3, 1), np.nan, np.float32)
    exact = np.full((1, 3, 3, 1), 100.5, np.float32)
    np.testing.assert_array_equal(trainer.predict(missing), trainer.predict(exact))
    assert trainer.bands == bands
