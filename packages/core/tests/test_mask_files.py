"""Masks that lie in files of their own: what they take away, in training and in prediction."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio import warp

from terrazzo.base import config_parsing
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check import check_data
from terrazzo.data import datasets, mask_files
from terrazzo.data.mask_files import MaskFile, open_mask, parse_mask
from terrazzo.data.normalization import bands_of
from terrazzo.data.scene_stack import Placing
from terrazzo.inference import predict as predict_module
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.testing.scenes import make_model
from terrazzo.workflows import train as train_workflow
from terrazzo.workflows.evaluate import evaluate

ROWS, COLUMNS = SHAPE = (48, 64)
CRS = "EPSG:32633"
PLACE = Affine(10, 0, 392_000, 0, -10, 5_820_000)
LABELS = """
name = "m"
classes = [
    { name = "background", colour = "#000000", raw = [0] },
    { name = "house", colour = "#FF0000", raw = [1] },
]
"""
SMALL = Tiling(tile=32, overlap=12)
REPROJECT = Placing(align="reproject")


def write(path, values_HWC, transform=PLACE, names=(), **profile):
    """Write by rasterio itself, tile by tile or as the profile says."""
    values_HWC = values_HWC[..., None] if values_HWC.ndim == 2 else values_HWC
    rows, columns, bands = values_HWC.shape
    size = {"height": rows, "width": columns, "count": bands, "dtype": values_HWC.dtype.name}
    place = {"crs": CRS, "transform": transform}
    with rasterio.open(path, "w", driver="GTiff", **{**size, **place, **profile}) as dataset:
        dataset.write(np.moveaxis(values_HWC, 2, 0))
        for number, name in enumerate(names, 1):
            dataset.set_band_description(number, name)
    return path


def noise(bands=3, dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(1, 250, (*SHAPE, bands)).astype(dtype)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A scene of three bands and its labels: a house in every other eight columns."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "image.tif", noise())
    write(tmp_path / "label.tif", (np.indices(SHAPE)[1] // 8 % 2).astype(np.uint8))
    (tmp_path / "m.toml").write_text(LABELS)
    return tmp_path


def data_of(root, mask=None, image="image.tif", **options):
    scene = {"images": [image], "label": "label.tif", **({} if mask is None else {"mask": mask})}
    chosen = {"scenes": [scene], "chip": 16, "block": 1, "buffer": 0, **options}
    return DataConfig(format="geotiff", root=str(root), labels=str(root / "m.toml"), options=chosen)


def opened(root, mask=None, **options):
    whole = {"chip": 64, "split": {"train": 1, "val": 0, "test": 0}, **options}
    return datasets.open_source(data_of(root, mask, **whole), "train")


def counts_in_training(root, mask, **options):
    return opened(root, mask, **options).read(0).valid_HW[:ROWS]


def map_of(root, model, *masks, name="map.tif", image="image.tif", **settings):
    masks = tuple((root / each.file, each) for each in masks)
    settings = Settings(tiling=SMALL, masks=masks, **settings)
    predict(model, [root / image], root / name, settings, progress=Silent())
    with rasterio.open(root / name) as dataset:
        return dataset.read(1)


def qa_pixel(rng):
    """Random quality bits; value 1 is fill, as USGS declares."""
    return rng.integers(0, 1 << 16, SHAPE).astype(np.uint16)


RULES = {
    "bits": (
        lambda rng: qa_pixel(rng) & 0b1111,
        {"bits": [1, 3]},
        lambda values: values & 0b1010 == 0,
    ),
    "one bit alone": (
        lambda rng: np.int16(-1) - rng.integers(0, 2, SHAPE).astype(np.int16) * np.int16(2**14),
        {"bits": [14]},
        lambda values: values.view(np.uint16) & (1 << 14) == 0,
    ),
    "landsat": (
        lambda rng: np.where(rng.random(SHAPE) < 0.5, 21824, qa_pixel(rng)).astype(np.uint16),
        {"kind": "landsat_qa_pixel"},
        lambda values: values & 0b11111 == 0,
    ),
    "sentinel": (
        lambda rng: rng.integers(0, 12, SHAPE).astype(np.uint8),
        {"kind": "sentinel2_scl"},
        lambda values: np.isin(values, [2, 4, 5, 6, 7, 11]),
    ),
    "values": (
        lambda rng: rng.integers(0, 4, SHAPE).astype(np.int32) * 1000,
        {"values": [2000, 3000]},
        lambda values: values < 2000,
    ),
    "keep": (
        lambda rng: rng.integers(0, 4, SHAPE).astype(np.uint8),
        {"keep": [1, 2]},
        lambda values: (values == 1) | (values == 2),
    ),
    "values of floats": (
        lambda rng: rng.choice([0, 1, np.nan], SHAPE).astype(np.float32),
        {"values": [1]},
        lambda values: values == 0,
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_mask_takes_pixels_away_in_training_and_in_the_map(root, rule):
    make, given, counts = RULES[rule]
    values_HW = make(np.random.default_rng(3))
    expected_HW = counts(values_HW)
    assert 0 < expected_HW.sum() < expected_HW.size
    write(root / "qa.tif", values_HW, tiled=True, blockxsize=16, blockysize=16)
    mask = {"file": "qa.tif", **given}
    np.testing.assert_array_equal(counts_in_training(root, mask), expected_HW)
    model = make_model(root / "model")
    labels_HW = map_of(root, model, config_parsing.parse(MaskFile, mask, where="here"))
    np.testing.assert_array_equal(labels_HW != 255, expected_HW)


def test_udm2_by_its_band(root):
    """Eight bands without names: the first is 1 where a pixel is clear, the sixth where cloudy."""
    udm2_HWC = np.random.default_rng(1).integers(0, 2, (*SHAPE, 8)).astype(np.uint8)
    write(root / "udm2.tif", udm2_HWC)
    clear = counts_in_training(root, {"file": "udm2.tif", "kind": "planet_udm2"})
    np.testing.assert_array_equal(clear, udm2_HWC[..., 0] == 1)
    cloudless = counts_in_training(root, {"file": "udm2.tif", "band": 6, "values": [1]})
    np.testing.assert_array_equal(cloudless, udm2_HWC[..., 5] == 0)
    names = ("clear", "snow", "shadow", "haze_light", "haze_heavy", "cloud", "confidence", "udm1")
    write(root / "named.tif", udm2_HWC, names=names)
    named = counts_in_training(root, {"file": "named.tif", "band": "cloud", "values": [1]})
    np.testing.assert_array_equal(named, cloudless)
    for wrong in ("clouds", 9, None):
        mask = {"file": "named.tif", "values": [1]} | ({} if wrong is None else {"band": wrong})
        with pytest.raises(ConfigError) as caught:
            opened(root, mask)
        assert caught.value.code == "SEG-X105"
        assert "haze_light" in caught.value.allowed


def test_four_nameless_bytes_are_four_bands_of_a_mask(root):
    """GDAL takes the fourth for alpha; of a mask it is a band like the others."""
    values_HWC = np.random.default_rng(1).integers(0, 2, (*SHAPE, 4)).astype(np.uint8)
    write(root / "qa.tif", values_HWC, photometric="RGB", alpha="YES")
    for band in range(4):
        counts_HW = counts_in_training(root, {"file": "qa.tif", "band": band + 1, "values": [1]})
        np.testing.assert_array_equal(counts_HW, values_HWC[..., band] == 0)


def test_a_palette_does_not_change_what_the_numbers_mean(root):
    values_HW = np.random.default_rng(1).integers(0, 12, SHAPE).astype(np.uint8)
    write(root / "scl.tif", values_HW)
    with rasterio.open(root / "scl.tif", "r+") as dataset:
        dataset.write_colormap(1, {number: (number, 200, 10, 255) for number in range(12)})
    counts_HW = counts_in_training(root, {"file": "scl.tif", "kind": "sentinel2_scl"})
    np.testing.assert_array_equal(counts_HW, np.isin(values_HW, [2, 4, 5, 6, 7, 11]))


def test_a_side_file_that_gdal_wrote(root):
    shown_HW = np.random.default_rng(1).random(SHAPE) < 0.5
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(root / "image.tif", "r+") as dataset,
    ):
        dataset.write_mask(shown_HW)
    assert (root / "image.tif.msk").is_file()
    assert counts_in_training(root, None).all()  # side files are not looked for
    counts_HW = counts_in_training(root, {"file": "image.tif.msk"})
    np.testing.assert_array_equal(counts_HW, shown_HW)
    assert not check_data(data_of(root, {"file": "image.tif.msk"})).findings
    labels_HW = map_of(root, make_model(root / "model"), parse_mask("image.tif.msk"))
    np.testing.assert_array_equal(labels_HW != 255, shown_HW)


def test_a_named_side_file_is_not_said_to_be_unused(root):
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(root / "image.tif", "r+") as dataset,
    ):
        dataset.write_mask(np.indices(SHAPE)[0] > 3)
    make_model(root / "model")
    for mask, is_unused in (({"file": "image.tif.msk"}, False), (None, True)):
        notes = " ".join(opened(root, mask).notes)
        assert ("image.tif.msk is not used" in notes) == is_unused
        given = [] if mask is None else ["--mask", "model/../image.tif.msk"]
        words = ["predict", "model", "image.tif", "--out", f"{is_unused}.tif", "--blend", "none"]
        command = [sys.executable, "-m", "terrazzo", *words, *given]
        made = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        assert ("image.tif.msk is not used" in made.stderr) == is_unused


def test_several_masks_and_one_in_the_file(root):
    image_HWC = noise()
    image_HWC[:4] = 0
    write(root / "image.tif", image_HWC, nodata=0)
    write(root / "scl.tif", np.where(np.indices(SHAPE)[0] < 10, 9, 4).astype(np.uint8))
    write(root / "qa.tif", np.where(np.indices(SHAPE)[1] < 7, 8, 0).astype(np.uint16))
    masks = [{"file": "scl.tif", "kind": "sentinel2_scl"}, {"file": "qa.tif", "bits": [3]}]
    expected_HW = (np.indices(SHAPE)[0] >= 10) & (np.indices(SHAPE)[1] >= 7)
    np.testing.assert_array_equal(counts_in_training(root, masks), expected_HW)
    source = opened(root, masks)
    assert [path.name for path in source.files(0)] == [
        "image.tif",
        "scl.tif",
        "qa.tif",
        "label.tif",
    ]


SAME = [
    ("uint8", 0, {}),
    ("uint8", 255, {"tiled": True, "blockxsize": 16, "blockysize": 16}),
    ("uint16", 65535, {"interleave": "band"}),
    ("float32", -9999.0, {"compress": "deflate"}),
    ("float32", float("nan"), {"interleave": "band", "compress": "lzw"}),
]


@pytest.mark.parametrize(("dtype", "nodata", "layout"), SAME)
def test_masked_pixels_are_those_the_file_marks_as_nodata(root, dtype, nodata, layout):
    """Whatever number, type and layout: statistics and maps have the same bytes."""
    image_HWC = noise(dtype=dtype)
    values_HW = np.random.default_rng(4).integers(0, 12, SHAPE).astype(np.uint8)
    write(root / "scl.tif", values_HW)
    taken_HW = np.isin(values_HW, [0, 1, 3, 8, 9, 10])
    write(root / "image.tif", image_HWC)
    marked_HWC = np.where(taken_HW[..., None], np.array(nodata, dtype), image_HWC)
    write(root / "marked.tif", marked_HWC, nodata=nodata, **layout)
    mask = MaskFile(file="scl.tif", kind="sentinel2_scl")
    found = []
    for name, masks in (("image", [mask]), ("marked", [])):
        given = [each.model_dump(exclude_none=True) for each in masks]
        data = data_of(root, given or None, f"{name}.tif")
        split = datasets.open_split(data, "train")
        model = make_model(root / f"model_{name}", 3, dtype)
        map_of(root, model, *masks, name=f"map_{name}.tif", image=f"{name}.tif")
        samples = [split.source.read(index) for index in range(len(split))]
        found.append(
            (
                bands_of(split, "dataset"),
                [raw.valid_HW.tobytes() for raw in samples],
                [raw.image_HWC[raw.valid_HW].tobytes() for raw in samples],
                (root / f"map_{name}.tif").read_bytes(),
            )
        )
    assert found[0] == found[1]


def recipe_of(root, mask, image):
    values = {
        "name": "scene",
        "backend": "reference",
        "data": data_of(root, mask, image).model_dump(mode="json", exclude_none=True),
        "model": {"name": "pixel_softmax"},
        "training": {"steps": 3, "batch_size": 2, "schedule": {"learning_rate": 0.1}},
    }
    return config_parsing.parse(Config, values, where="here")


def test_training_and_scores_are_those_of_a_scene_with_nodata(root):
    image_HWC = noise()
    values_HW = np.random.default_rng(4).integers(0, 2, SHAPE).astype(np.uint8)
    write(root / "cloud.tif", values_HW)
    write(root / "marked.tif", np.where(values_HW[..., None] == 1, 0, image_HWC), nodata=0)
    found = []
    for image, mask in (
        ("image.tif", {"file": "cloud.tif", "values": [1]}),
        ("marked.tif", None),
    ):
        run = root / image.replace(".tif", "_run")
        train_workflow.train(recipe_of(root, mask, image), run, progress=Silent())
        evaluate(run, "val", progress=Silent())
        scores = json.loads((run / "evaluation" / "val.json").read_text())
        weights = (run / "model" / "weights.safetensors").read_bytes()
        found.append((weights, scores["scores"]))
    assert found[0] == found[1]


# Other grids

TWICE = Affine(20, 0, 392_000, 0, -20, 5_820_000)


def coarse(values_HW):
    return values_HW.repeat(2, axis=0).repeat(2, axis=1)


def test_a_mask_of_twenty_metres(root):
    """It is refused by name, or brought to ten metres by nearest neighbour."""
    values_HW = np.random.default_rng(5).integers(0, 12, (ROWS // 2, COLUMNS // 2)).astype(np.uint8)
    write(root / "scl.tif", values_HW, TWICE)
    mask = MaskFile(file="scl.tif", kind="sentinel2_scl")
    given = mask.model_dump(exclude_none=True)
    model = make_model(root / "model")
    for use in (lambda: opened(root, given), lambda: map_of(root, model, mask)):
        with pytest.raises(DataError) as caught:
            use()
        assert caught.value.code == "SEG-D009"
        assert str(caught.value.file).endswith("scl.tif")
        assert "reproject" in caught.value.next_step
    expected_HW = np.isin(coarse(values_HW), [2, 4, 5, 6, 7, 11])
    for nodata in (None, 0):  # as ESA has none, and some copies of it have 0
        write(root / "scl.tif", values_HW, TWICE, nodata=nodata)
        counts_HW = counts_in_training(root, given, align="reproject")
        np.testing.assert_array_equal(counts_HW, expected_HW)
        labels_HW = map_of(root, model, mask, name=f"{nodata}.tif", align="reproject")
        np.testing.assert_array_equal(labels_HW != 255, expected_HW)


def test_nothing_counts_beside_the_mask(root):
    write(root / "qa.tif", np.zeros((ROWS // 2, COLUMNS), np.uint8))
    mask = {"file": "qa.tif", "bits": [0]}
    counts_HW = counts_in_training(root, mask, align="reproject")
    np.testing.assert_array_equal(counts_HW, np.indices(SHAPE)[0] < ROWS // 2)


# What is refused


REFUSED = [
    ("float32", None, {"bits": [1]}, "SEG-D095", "float32"),
    ("uint8", None, {"bits": [1, 12]}, "SEG-D095", "bit 12"),
    ("uint8", None, {"kind": "landsat_qa_pixel"}, "SEG-D095", "uint8"),
    ("uint16", None, {"kind": "sentinel2_scl"}, "SEG-D095", "uint16"),
    ("uint8", None, {"kind": "planet_udm2"}, "SEG-D095", "1 band(s)"),
    ("uint8", 0, {"bits": [1]}, "SEG-D096", "nodata 0"),
    ("uint8", 0, {"values": [3, 8]}, "SEG-D096", "nodata 0"),
    ("uint8", 1, {"keep": [1]}, "SEG-D096", "nodata 1"),
    ("uint8", 255, {"kind": "gdal_mask"}, "SEG-D096", "nodata 255"),
]


@pytest.mark.parametrize(("dtype", "nodata", "rule", "code", "observed"), REFUSED)
def test_a_rule_that_does_not_fit_the_mask_is_refused(root, dtype, nodata, rule, code, observed):
    write(root / "qa.tif", np.ones(SHAPE, dtype), nodata=nodata)
    mask = {"file": "qa.tif", **rule}
    with pytest.raises(DataError) as caught:
        opened(root, mask)
    assert caught.value.code == code
    assert observed in caught.value.observed
    assert str(caught.value.file).endswith("qa.tif")
    with pytest.raises(DataError, match=code):
        map_of(root, make_model(root / "model"), config_parsing.parse(MaskFile, mask, where="x"))
    assert not (root / "map.tif").exists()


def test_what_a_mask_calls_nodata_is_taken_away(root):
    """Landsat declares 1, which is fill: bits of clouds alone leave it."""
    values_HW = np.random.default_rng(4).choice([1, 8, 21824], SHAPE).astype(np.uint16)
    write(root / "qa.tif", values_HW, nodata=1)
    counts_HW = counts_in_training(root, {"file": "qa.tif", "bits": [3, 4]})
    np.testing.assert_array_equal(counts_HW, values_HW == 21824)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ({"file": "qa.tif"}, "none, and is no .msk file"),
        ({"file": "qa.tif", "bits": [1], "values": [2]}, "bits and values"),
        ({"file": "qa.tif", "kind": "sentinel"}, "sentinel2_scl"),
        ({"file": "qa.tif", "kind": "planet_udm2", "band": 6}, "leave `band` out"),
        ({"file": "qa.tif", "bits": []}, "at least 1"),
        ({"file": "qa.tif", "bits": [-1]}, "greater than or equal to 0"),
    ],
)
def test_a_mask_says_one_thing(root, mask, said):
    with pytest.raises(ConfigError) as caught:
        opened(root, mask)
    assert caught.value.code == "SEG-X002"
    assert said in caught.value.observed
    assert "scenes.0.mask" in caught.value.observed


def test_a_mask_that_was_compressed_with_losses(root):
    write(root / "qa.tif", noise(1), compress="jpeg")
    with pytest.raises(DataError, match="SEG-D008"):
        counts_in_training(root, {"file": "qa.tif", "values": [1]})


def test_a_mask_that_is_not_there(root):
    with pytest.raises(DataError, match="SEG-D013") as caught:
        opened(root, {"file": "gone.tif", "bits": [1]})
    assert str(caught.value.file).endswith("gone.tif")
    with pytest.raises(DataError, match="SEG-D013"):
        map_of(root, make_model(root / "model"), parse_mask("bits:1=gone.tif"))


def test_a_scene_under_clouds_alone(root):
    """There is a map without data, and a warning that names the mask."""
    write(root / "qa.tif", np.ones(SHAPE, np.uint8))
    said = []
    settings = Settings(tiling=SMALL, masks=((root / "qa.tif", parse_mask("bits:0=qa.tif")),))
    progress = SimpleNamespace(say=said.append, advance=Silent().advance)
    model = make_model(root / "model")
    predict(model, [root / "image.tif"], root / "map.tif", settings, progress=progress)
    with rasterio.open(root / "map.tif") as dataset:
        assert (dataset.read(1) == 255).all()
    assert any("SEG-D023" in line and "or masked" in line for line in said)
    recipe = recipe_of(root, {"file": "qa.tif", "values": [1]}, "image.tif")
    with pytest.raises(DataError) as caught:
        train_workflow.train(recipe, root / "run", progress=Silent())
    assert caught.value.code == "SEG-D017"
    assert not (root / "run").exists()


# On the command line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sentinel2_scl=a/b=c.tif", {"file": "a/b=c.tif", "kind": "sentinel2_scl"}),
        ("bits:0,1,3=qa.tif", {"file": "qa.tif", "bits": (0, 1, 3)}),
        ("values:1@cloud=udm.tif", {"file": "udm.tif", "values": (1,), "band": "cloud"}),
        ("keep:1@6=udm.tif", {"file": "udm.tif", "keep": (1,), "band": 6}),
        ("x=1/scene.tif.msk", {"file": "x=1/scene.tif.msk"}),
    ],
)
def test_masks_are_typed(text, expected):
    assert parse_mask(text) == MaskFile(**expected)


@pytest.mark.parametrize("text", ["qa.tif", "sentinel_scl=qa.tif", "bits:=qa.tif", "bits:x=qa.tif"])
def test_a_typed_mask_without_a_rule(text):
    with pytest.raises(ConfigError) as caught:
        parse_mask(text)
    assert caught.value.code == "SEG-X109"
    assert "sentinel2_scl=FILE" in caught.value.allowed


def test_masks_on_the_command_line(root):
    values_HW = np.random.default_rng(4).integers(0, 2, (ROWS // 2, COLUMNS // 2)).astype(np.uint8)
    write(root / "qa.tif", values_HW, TWICE)
    make_model(root / "model")
    words = "predict model image.tif --out map.tif --mask keep:1=qa.tif --tile 32 --overlap 12"

    command = [sys.executable, "-m", "terrazzo", *words.split(), "--align", "reproject"]
    made = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    with rasterio.open(root / "map.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1) != 255, coarse(values_HW) == 1)


def test_a_way_to_align_that_there_is_not_and_nothing_to_align(root):
    make_model(root / "model")
    words = "predict model image.tif --out map.tif --align"
    for way, code in (("nearest", "SEG-X002"), ("reproject", "SEG-X094")):
        command = [sys.executable, "-m", "terrazzo", *words.split(), way]
        refused = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert code in refused.stderr


def test_masks_are_of_one_scene(root):
    write(root / "qa.tif", np.zeros(SHAPE, np.uint8))
    settings = Settings(masks=((root / "qa.tif", parse_mask("bits:1=qa.tif")),))
    model = make_model(root / "model")
    with pytest.raises(ConfigError, match="SEG-X108"):
        predict(model, [root / "image.tif", root / "label.tif"], root / "maps", settings)
    with pytest.raises(ConfigError, match="SEG-X032"):
        predict(model, [root / "image.tif"], root / "qa.tif", settings)


def test_a_map_goes_on_with_the_mask_it_was_begun_with(root, monkeypatch):
    values_HW = np.random.default_rng(4).integers(0, 2, SHAPE).astype(np.uint8)
    write(root / "qa.tif", values_HW)
    model, mask = make_model(root / "model"), parse_mask("bits:0=qa.tif")
    whole_HW = map_of(root, model, mask, name="whole.tif")

    class KilledError(Exception):
        pass

    def killed(*_):
        raise KilledError

    monkeypatch.setattr(predict_module._RowsDone, "row_done", killed)
    with pytest.raises(KilledError):
        map_of(root, model, mask)
    monkeypatch.undo()
    with pytest.raises(CheckpointError) as caught:
        map_of(root, model, parse_mask("values:0=qa.tif"), resume=True)
    assert caught.value.code == "SEG-C011"
    assert "masks" in str(caught.value)
    np.testing.assert_array_equal(map_of(root, model, mask, resume=True), whole_HW)
    assert (root / "map.tif").read_bytes() == (root / "whole.tif").read_bytes()


@pytest.mark.slow
def test_several_processes_see_the_mask(root):
    write(root / "qa.tif", np.random.default_rng(4).integers(0, 2, SHAPE).astype(np.uint8))
    model, mask = make_model(root / "model"), parse_mask("bits:0=qa.tif")
    map_of(root, model, mask)
    map_of(root, model, mask, name="shared.tif", workers=2)
    assert (root / "map.tif").read_bytes() == (root / "shared.tif").read_bytes()


def test_a_changed_mask_is_other_data(root):
    """A resume compares the contents of the files, masks included."""
    from terrazzo.runs import data_fingerprint

    def fingerprint():
        data = data_of(root, {"file": "qa.tif", "bits": [0]})
        splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
        return data_fingerprint.fingerprint(splits)

    write(root / "qa.tif", np.zeros(SHAPE, np.uint8))
    before = fingerprint()
    write(root / "qa.tif", np.indices(SHAPE)[0].astype(np.uint8) % 2)
    assert data_fingerprint.differences(before, fingerprint())


def test_what_is_behind_a_mask_is_data_too(root):
    """A VRT stays what it is while its source changes."""
    from terrazzo.runs import data_fingerprint

    def fingerprint():
        data = data_of(root, {"file": "qa.vrt", "values": [1]}, allow_vrt=True)
        splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
        return data_fingerprint.fingerprint(splits)

    write(root / "qa.tif", np.zeros(SHAPE, np.uint8))
    rows, columns = SHAPE
    box = f'xOff="0" yOff="0" xSize="{columns}" ySize="{rows}"'
    (root / "qa.vrt").write_text(
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}"><SRS>{CRS}</SRS>'
        f"<GeoTransform>{', '.join(map(str, PLACE.to_gdal()))}</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">qa.tif</SourceFilename><SourceBand>1</SourceBand>'
        f"<SrcRect {box}/><DstRect {box}/></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    before = fingerprint()
    write(root / "qa.tif", np.ones(SHAPE, np.uint8))
    assert data_fingerprint.differences(before, fingerprint())


def test_labels_count_where_the_mask_lets_them(root):
    """The check before training reads labels alone where no header speaks against it."""
    values_HW = np.random.default_rng(4).integers(0, 2, SHAPE).astype(np.uint8)
    write(root / "qa.tif", values_HW)
    counted = opened(root, {"file": "qa.tif", "bits": [0]}).read_counted_label(0)
    np.testing.assert_array_equal(counted.counts_HW[:ROWS], values_HW == 0)
    assert counted.unlabelled == 0


def test_check_counts_what_is_left(root):
    """A class that a mask takes away altogether is missing, not there."""
    is_house_HW = np.indices(SHAPE)[1] // 8 % 2 == 1
    write(root / "qa.tif", is_house_HW.astype(np.uint8))
    whole = check_data(data_of(root))
    assert not whole.findings
    assert whole.no_data_share == 0
    assert "(no data)" not in whole.as_text()
    report = check_data(data_of(root, {"file": "qa.tif", "values": [1]}))
    assert report.no_data_share == pytest.approx(is_house_HW.mean(), abs=0.02)
    assert re.search(r"^\(no data\) +\d\d\.\d", report.as_text(), re.MULTILINE)
    (finding,) = report.findings
    assert finding.code == "SEG-D037"
    assert "house" in finding.observed


def test_every_product_says_where_its_numbers_come_from():
    assert set(mask_files.PRODUCTS) == set(mask_files.Kind.__args__)
    assert all(len(product.source) > 10 for product in mask_files.PRODUCTS.values())


@pytest.mark.parametrize("nodata", [None, 0])
def test_a_mask_in_degrees_does_not_depend_on_the_window(tmp_path, nodata):
    """Nor on the tile: GDAL alone takes another neighbour in a large window than in a small one."""
    rows = columns = 600
    image_HW = np.ones((rows, columns), np.uint8)
    write(tmp_path / "image.tif", image_HW)
    grid = rasters.info(tmp_path / "image.tif")
    x, y = grid.to_coordinates(np.array([0, columns, 0, columns]), np.array([0, 0, rows, rows]))
    longitude, latitude = map(np.array, warp.transform(CRS, "EPSG:4326", x, y))
    side = 0.0003
    place = Affine(side, 0, longitude.min() - side, 0, -side, latitude.max() + side)
    size = int(max(np.ptp(longitude), np.ptp(latitude)) / side) + 4
    values_HW = np.random.default_rng(0).integers(1, 12, (size, size)).astype(np.uint8)
    write(tmp_path / "scl.tif", values_HW, place, crs="EPSG:4326", nodata=nodata)
    mask = MaskFile(file="scl.tif", kind="sentinel2_scl")
    part = open_mask(tmp_path / "scl.tif", mask, tmp_path / "image.tif", grid, REPROJECT)

    def counts(*window):
        return rasters.read_window(tmp_path / "image.tif", *window, masks=[part]).valid_HW

    whole_HW = counts(0, 0, rows, columns)
    for row, column, height, width in np.random.default_rng(1).integers(10, 290, (20, 4)).tolist():
        part_HW = counts(row, column, height, width)
        expected_HW = whole_HW[row : row + height, column : column + width]
        np.testing.assert_array_equal(part_HW, expected_HW)
