"""Bands that are computed while files are read: formulas, missing values, models that keep them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import tomli_w
from affine import Affine

from terrazzo.base import config_parsing
from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check import check_data
from terrazzo.data import datasets
from terrazzo.data.normalization import bands_of
from terrazzo.inference import predict as predict_module
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import band_formula, derived_bands, images, rasters
from terrazzo.io.derived_bands import Derivation
from terrazzo.io.pixels import ReadingRules
from terrazzo.runs import saved_model
from terrazzo.serving import prediction
from terrazzo.serving.batching import Batcher
from terrazzo.serving.deadline import Deadline
from terrazzo.serving.settings import ServeSettings
from terrazzo.testing.scenes import make_model
from terrazzo.workflows import train as train_workflow
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.export.export import export
from terrazzo.workflows.export.for_client import export_for

ROWS, COLUMNS = SHAPE = (48, 64)
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 392_000, 0, -10, 5_820_000)}
LABELS = """
name = "m"
classes = [
    { name = "background", colour = "#000000", raw = [0] },
    { name = "house", colour = "#FF0000", raw = [1] },
]
"""
NDVI = "(nir - red) / (nir + red)"
NAMES = ("red", "green", "nir")
SMALL = Tiling(tile=32, overlap=12)


# Formulas


def computed(text, **values):
    arrays = {name: np.array(value, np.float64) for name, value in values.items()}
    return band_formula.parse(text).compute(arrays)


A, B, C = np.array([1.5, -2.0, 7.0]), np.array([3.0, 0.5, -1.0]), np.array([2.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", A),
        ("a - b - c", A - B - C),
        ("a - (b - c)", A - (B - C)),
        ("a / b / c", A / B / C),
        ("a + b * c", A + B * C),
        ("(a + b) * c", (A + B) * C),
        ("-a ** 2", -(A**2)),
        ("(-a) ** 2", A**2),
        ("c ** 3 ** 0.5", C ** (3**0.5)),
        ("c ** -1", 1 / C),
        ("2.5*(a-b)/(a+6*b-7.5*c+1)", 2.5 * (A - B) / (A + 6 * B - 7.5 * C + 1)),
        ("- - a + +b", A + B),
        ("1e-3 * a + .5 + 2.", 1e-3 * A + 2.5),
        ("min(a, b, c)", np.minimum(np.minimum(A, B), C)),
        ("max(a, 0)", np.maximum(A, 0)),
        ("clip(a, -1, 2)", np.clip(A, -1, 2)),
        ("abs(a) + sqrt(c) + log(c)", np.abs(A) + np.sqrt(C) + np.log(C)),
        ("""'a' + "b" """, A + B),
        ("max(min(a, b), -(c))", np.maximum(np.minimum(A, B), -C)),
    ],
)
def test_formulas_mean_what_they_mean_elsewhere(text, expected):
    np.testing.assert_allclose(computed(text, a=A, b=B, c=C), expected, rtol=1e-15)


def test_names_of_any_kind_go_into_quotes():
    formula = band_formula.parse("""('band 4' - "B8A (865 nm)") / größe + 'min' * 0""")
    assert formula.bands == ("band 4", "B8A (865 nm)", "größe", "min")


REFUSED = [
    ("__import__('os')", "a call of '__import__'"),
    ("__import__('os').system('x')", "'.' at character 17"),
    ("eval(nir)", "a call of 'eval'"),
    ("sin(nir)", "a call of 'sin'"),
    ("nir.real", "'.' at character 4"),
    ("nir[0]", "'[' at character 4"),
    ("nir if red else 1", "'if' at character 5"),
    ("lambda: nir", "':'"),
    ("nir == red", "'='"),
    ("nir; red", "';'"),
    ("nir // red", "'/' at character 6"),
    ("nir @ red", "'@'"),
    ("nir\x00", "at character 4"),
    ("nir +", "its end"),
    ("", "its end"),
    ("(nir", "its end"),
    ("nir)", "')' at character 4"),
    ("2 nir", "'nir' at character 3"),
    ("1e999 * nir", "1e999"),
    ("1 + 2", "names no band"),
    ("min(nir)", "min of 1 values"),
    ("clip(nir, 1)", "clip of 2 values"),
    ("abs(nir, red)", "abs of 2 values"),
    ("min()", "')' at character 5"),
    ("'nir", "at character 1"),
    ("(" * 21 + "nir" + ")" * 21, "more than 20"),
    ("-" * 60 + "nir", "more than 20"),
    ("nir" + " ** nir" * 60, "more than 20"),
    ("abs(" * 90 + "nir" + ")" * 90, "more than 20"),
    ("nir + " * 100 + "red", "603 characters"),
]


@pytest.mark.parametrize(("text", "observed"), REFUSED)
def test_what_is_no_arithmetic_of_bands_is_refused(text, observed):
    with pytest.raises(ConfigError) as caught:
        band_formula.parse(text, "ndvi")
    assert caught.value.code == "SEG-X106"
    assert "'ndvi'" in caught.value.problem
    assert observed in caught.value.observed
    assert caught.value.allowed


def test_huge_numbers_take_no_time():
    assert not np.isfinite(computed("9 ** 9 ** 9 ** 9 ** 9 * nir", nir=[1.0])).any()


# Scenes


def write(path, values_HWC, names=None, **profile):
    rows, columns, bands = values_HWC.shape
    size = {"height": rows, "width": columns, "count": bands, "dtype": values_HWC.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **{**size, **PLACE, **profile}) as dataset:
        dataset.write(np.moveaxis(values_HWC, 2, 0))
        for number, name in enumerate(names or (), 1):
            dataset.set_band_description(number, name)
    return path


def noise(dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(1, 250, (*SHAPE, 3)).astype(dtype)


def with_ndvi(image_HWC):
    """By hand, in float64; the bands are red, green, nir."""
    red_HW, nir_HW = (image_HWC[..., band].astype(np.float64) for band in (0, 2))
    ndvi_HW = ((nir_HW - red_HW) / (nir_HW + red_HW)).astype(np.float32)
    return np.concatenate([image_HWC.astype(np.float32), ndvi_HW[..., None]], axis=2)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A scene of three bands and its labels: a house in every other eight columns."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "image.tif", noise(), NAMES)
    label_HW = (np.indices(SHAPE)[1] // 8 % 2).astype(np.uint8)
    write(tmp_path / "label.tif", label_HW[..., None])
    (tmp_path / "m.toml").write_text(LABELS)
    return tmp_path


def data_of(root, *images, derived=None, **options):
    scene = {"images": list(images) or ["image.tif"], "label": "label.tif"}
    chosen = {"scenes": [scene], "chip": 16, "block": 1, "buffer": 0, **options}
    if derived is not None:
        chosen["derived"] = derived
    return DataConfig(format="geotiff", root=str(root), labels=str(root / "m.toml"), options=chosen)


def opened(root, *images, **options):
    whole = {"chip": 64, "split": {"train": 1, "val": 0, "test": 0}, **options}
    return datasets.open_source(data_of(root, *images, **whole), "train")


def whole(source):
    """Return the image, where its values are there, and where its pixels count."""
    raw = source.read(0)
    image_HWC, valid_HW = raw.image_HWC[:ROWS], raw.valid_HW[:ROWS]
    present_HWC = np.broadcast_to(valid_HW[..., None], image_HWC.shape)
    if raw.present_HWC is not None:
        present_HWC = raw.present_HWC[:ROWS]
    return np.where(present_HWC, image_HWC, 0), present_HWC, valid_HW


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_derived_band_follows_those_of_the_files(root):
    source = opened(root, derived={"ndvi": NDVI})
    assert source.band_names == (*NAMES, "ndvi")
    image_HWC, _, valid_HW = whole(source)
    assert image_HWC.dtype == np.float32
    assert valid_HW.all()
    assert image_HWC.tobytes() == with_ndvi(noise()).tobytes()


def test_bytes_do_not_wrap_around(root):
    source = opened(root, derived={"sum": "red + nir", "less": "red - nir", "square": "red * red"})
    image_HWC = noise().astype(np.int64)
    found_HWC = whole(source)[0][..., 3:]
    red_HW, nir_HW = image_HWC[..., 0], image_HWC[..., 2]
    for band, expected in enumerate((red_HW + nir_HW, red_HW - nir_HW, red_HW * red_HW)):
        np.testing.assert_array_equal(found_HWC[..., band], expected)


def test_bands_are_chosen_by_name(root):
    """What formulas alone need is read and is no band of the model."""
    source = opened(root, derived={"ndvi": NDVI, "twice": "2 * green"}, bands=["ndvi", "green"])
    assert source.band_names == ("green", "ndvi")
    expected_HWC = with_ndvi(noise())[..., [1, 3]]
    np.testing.assert_array_equal(whole(source)[0], expected_HWC)
    alone = opened(root, derived={"ndvi": NDVI}, bands=["ndvi"])
    np.testing.assert_array_equal(whole(alone)[0], expected_HWC[..., 1:])
    none = opened(root, derived={"ndvi": NDVI}, bands=["nir", "red"])
    assert none.band_names == ("nir", "red")
    assert whole(none)[0].dtype == np.uint8


LAYOUTS = [
    ("uint8", None, (0, 1, 2), {}),
    ("uint8", 0, (2, 0, 1), {"tiled": True, "blockxsize": 16, "blockysize": 16}),
    ("uint16", 65535, (1, 2, 0), {"interleave": "band"}),
    ("int16", -9999, (2, 1, 0), {"compress": "deflate"}),
    ("float32", float("nan"), (0, 2, 1), {"interleave": "band", "compress": "lzw"}),
    ("float64", -1.7e308, (0, 1, 2), {}),
]


def by_layout(root, dtype, nodata, order, layout):
    """Write a scene with a corner without data, and one with the band computed by hand."""
    image_HWC = noise(dtype)
    by_hand_HWC = with_ndvi(image_HWC)[..., [*order, 3]]
    if nodata is not None:
        image_HWC[:7, :9] = nodata
        by_hand_HWC[:7, :9] = np.nan
    names = [NAMES[band] for band in order]
    write(root / "image.tif", image_HWC[..., order], names, nodata=nodata, **layout)
    write(root / "hand.tif", by_hand_HWC, [*names, "ndvi"], nodata=float("nan"))


@pytest.mark.parametrize(("dtype", "nodata", "order", "layout"), LAYOUTS)
@pytest.mark.parametrize("files", ["one", "several"])
def test_it_is_the_scene_with_the_band_computed_by_hand(root, dtype, nodata, order, layout, files):
    by_layout(root, dtype, nodata, order, layout)
    images = ["image.tif"]
    if files == "several":
        with rasterio.open(root / "image.tif") as dataset:
            values_HWC = np.moveaxis(dataset.read(), 0, 2)
        images = [f"{band}.tif" for band in range(3)]
        for band, name in enumerate(images):
            named = [NAMES[order[band]]]
            write(root / name, values_HWC[..., [band]], named, nodata=nodata, **layout)
    derived = {"ndvi": NDVI}
    same(whole(opened(root, *images, derived=derived)), whole(opened(root, "hand.tif")))
    one, other = (
        bands_of(datasets.open_split(data, "train"), "dataset")
        for data in (data_of(root, *images, derived=derived), data_of(root, "hand.tif"))
    )
    assert one == other


def test_operands_in_several_files(root):
    """Bands of a file that formulas alone need come after all bands of the model."""
    image_HWC, swir_HWC = noise(), noise(seed=5)[..., :1]
    write(root / "a.tif", image_HWC[..., :2], NAMES[:2])
    write(root / "b.tif", image_HWC[..., 2:].astype(np.uint16) * 100, NAMES[2:])
    write(root / "c.tif", swir_HWC, ["swir"])
    chosen = {"x": "nir / 100 - red", "y": "swir * 2"}
    bands = ["green", "swir", "x", "y"]
    source = opened(root, "a.tif", "b.tif", "c.tif", derived=chosen, bands=bands)
    assert source.band_names == ("green", "swir", "x", "y")
    assert source.derivation.source_names == ("green", "swir", "nir", "red")
    swir_HW = swir_HWC[..., 0].astype(np.float32)
    less_HW = image_HWC[..., 2].astype(np.float32) - image_HWC[..., 0]
    expected_HWC = np.stack([image_HWC[..., 1], swir_HW, less_HW, swir_HW * 2], axis=2)
    np.testing.assert_array_equal(whole(source)[0], expected_HWC.astype(np.float32))
    names = [path.name for path in source.files(0)]
    assert names == ["a.tif", "c.tif", "b.tif", "label.tif"]


def test_any_window_has_the_same_values(root, monkeypatch):
    """However many rows are computed at once."""
    rules = ReadingRules(derivation=Derivation(NAMES, "uint8", 3, (("ndvi", NDVI),)))
    whole_HWC = rasters.read(root / "image.tif", rules).image_HWC
    np.testing.assert_array_equal(whole_HWC, with_ndvi(noise()))
    monkeypatch.setattr(derived_bands, "_PIXELS_AT_ONCE", 100)
    part = rasters.read_window(root / "image.tif", 5, 3, 30, 40, rules=rules)
    np.testing.assert_array_equal(part.image_HWC, whole_HWC[5:35, 3:43])


# Missing values


def test_where_there_is_no_result_the_value_is_missing(root):
    image_HWC = noise()
    image_HWC[:5, :, [0, 2]] = 0  # 0 / 0
    write(root / "image.tif", image_HWC, NAMES)
    _, _, valid_HW = whole(opened(root, derived={"ndvi": NDVI}))
    np.testing.assert_array_equal(valid_HW, np.indices(SHAPE)[0] >= 5)
    _, present_HWC, valid_HW = whole(opened(root, derived={"ndvi": NDVI}, nodata_rule="all"))
    assert valid_HW.all()
    assert present_HWC[..., :3].all()
    np.testing.assert_array_equal(present_HWC[..., 3], np.indices(SHAPE)[0] >= 5)
    for formula in (
        "red / 0",
        "log(red - red)",
        "sqrt(-1 - red)",
        "green * 1e30",
        "0 / nir",
    ):
        source = opened(root, derived={"x": formula}, nodata_rule="all")
        present_HWC = whole(source)[1]
        assert not present_HWC[:5, :, 3].any(), formula
        assert present_HWC[..., :3].all()


@pytest.mark.parametrize("rule", ["any", "all"])
def test_where_an_operand_is_missing_the_value_is_missing(root, rule):
    """Red alone is marked in some rows, green in others: only one of the two is in the formula."""
    image_HWC = noise("int16")
    image_HWC[:5, :, 0] = -1
    image_HWC[10:15, :, 1] = -1
    write(root / "image.tif", image_HWC, NAMES, nodata=-1)
    source = opened(root, derived={"ndvi": NDVI}, nodata_rule=rule, bands=["green", "ndvi"])
    _, present_HWC, valid_HW = whole(source)
    rows_HW = np.indices(SHAPE)[0]
    no_red_HW, no_green_HW = rows_HW < 5, (rows_HW >= 10) & (rows_HW < 15)
    if rule == "any":
        np.testing.assert_array_equal(valid_HW, ~no_red_HW & ~no_green_HW)
        return
    assert valid_HW.all()
    np.testing.assert_array_equal(present_HWC[..., 0], ~no_green_HW)
    np.testing.assert_array_equal(present_HWC[..., 1], ~no_red_HW)


def test_scales_are_applied_before(root):
    image_HWC = noise("uint16")
    write(root / "image.tif", image_HWC, NAMES)
    with rasterio.open(root / "image.tif", "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5, 1.0, 0.25), (1.0, 0.0, -2.0)
    scaled_HWC = (image_HWC * np.array([0.5, 1, 0.25]) + [1, 0, -2]).astype(np.float32)
    found_HWC = whole(opened(root, derived={"x": "red - nir"}, apply_scale=True))[0]
    np.testing.assert_array_equal(found_HWC[..., 3], scaled_HWC[..., 0] - scaled_HWC[..., 2])
    stored_HWC = whole(opened(root, derived={"x": "red - nir"}))[0]
    plain_HW = image_HWC[..., 0].astype(np.float32) - image_HWC[..., 2]
    np.testing.assert_array_equal(stored_HWC[..., 3], plain_HW)


# What is refused in a recipe


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"derived": {"ndvi": "(nirr - red) / (nirr + red)"}}, "SEG-X107", "did you mean 'nir'?"),
        ({"derived": {"a": "red * 2", "b": "a + 1"}}, "SEG-X107", "red, green, nir"),
        ({"derived": {"red": "nir * 2"}}, "SEG-X107", "another name"),
        ({"derived": {"ndvi": "open('x')"}}, "SEG-X106", "'open'"),
        ({"derived": {"x": "red * 2"}, "bands": ["x", "x"]}, "SEG-X011", "x, x"),
        ({"derived": {"x": "red * 2"}, "bands": ["y"]}, "SEG-X011", "'y'"),
    ],
)
def test_a_recipe_names_what_is_there(root, options, code, said):
    with pytest.raises(ConfigError) as caught:
        opened(root, **options)
    assert caught.value.code == code
    assert said in str(caught.value)


def test_scenes_compute_the_same_of_the_same(root):
    write(root / "other.tif", noise("uint16"), NAMES)
    scenes = [{"images": [name], "label": "label.tif"} for name in ("image.tif", "other.tif")]
    with pytest.raises(DataError) as caught:
        opened(root, scenes=scenes, derived={"ndvi": NDVI})
    assert caught.value.code == "SEG-D020"
    assert "of uint16, and ndvi = " in caught.value.observed


def test_check_describes_derived_bands(root):
    """In the order of the recipe, also where the last check had another."""
    for names in (("less", "more"), ("more", "less")):
        formulas = {"less": "red / 1000", "more": "red * 1000"}
        report = check_data(data_of(root, derived={name: formulas[name] for name in names}))
        assert not report.findings
        means = {row.name: row.mean for row in report.bands}
        assert tuple(means) == (*NAMES, *names)
        assert means["less"] < 1 < means["red"] < 1000 < means["more"]


def test_labels_count_where_the_band_has_a_value(root):
    """The check before training reads labels alone where no header speaks against it."""
    image_HWC = noise()
    image_HWC[:5, :, [0, 2]] = 0  # 0 / 0
    write(root / "image.tif", image_HWC, NAMES)
    counts_HW = opened(root, derived={"ndvi": NDVI}).read_counted_label(0).counts_HW[:ROWS]
    np.testing.assert_array_equal(counts_HW, np.indices(SHAPE)[0] >= 5)


# Models


def recipe_of(root, *images, **options):
    values = {
        "name": "scene",
        "backend": "reference",
        "data": data_of(root, *images, **options).model_dump(mode="json", exclude_none=True),
        "model": {"name": "pixel_softmax"},
        "training": {"steps": 3, "batch_size": 2, "schedule": {"learning_rate": 0.1}},
    }
    return config_parsing.parse(Config, values, where="here")


def trained(root, name, *images, **options):
    train_workflow.train(recipe_of(root, *images, **options), root / name, progress=Silent())
    return root / name


def predicted(root, model, image, name, **settings):
    settings = Settings(tiling=SMALL, **settings)
    predict(model, [root / image], root / name, settings, progress=Silent())
    return (root / name).read_bytes()


def scores_of(run):
    evaluate(run, "val", progress=Silent())
    return json.loads((run / "evaluation" / "val.json").read_text())["scores"]


@pytest.mark.parametrize(("dtype", "nodata", "order", "layout"), [LAYOUTS[1], LAYOUTS[3]])
def test_training_scores_and_maps_are_those_of_the_band_by_hand(root, dtype, nodata, order, layout):
    by_layout(root, dtype, nodata, order, layout)
    derived = trained(root, "derived", derived={"ndvi": NDVI})
    by_hand = trained(root, "by_hand", "hand.tif")
    weights = [run / "model" / "weights.safetensors" for run in (derived, by_hand)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert scores_of(derived) == scores_of(by_hand)
    one = predicted(root, derived, "image.tif", "one.tif")
    assert one == predicted(root, by_hand, "hand.tif", "other.tif")
    card = saved_model.read_card(derived / "model")
    names = tuple(NAMES[band] for band in order)
    read_as = "float32" if dtype == "int16" else dtype
    assert card.rules.derivation == Derivation(names, read_as, 3, (("ndvi", NDVI),))
    assert card.bands.names == (*names, "ndvi")


def model_of(root, derivation):
    """Write a model of random weights that keeps a formula."""
    folder = make_model(root / "model", len(derivation.names), "float32", names=derivation.names)
    card = saved_model.read_card(folder)
    card = replace(card, rules=ReadingRules(derivation=derivation))
    saved_model.write(folder, card, saved_model.read_weights(folder))
    assert saved_model.read_card(folder) == card
    return folder


SORTED = ("green", "red", "nir")
GREEN_NDVI = Derivation(SORTED, "uint8", 1, (("ndvi", NDVI),))


def test_prediction_reads_what_the_formula_needs(root):
    model = model_of(root, GREEN_NDVI)
    with pytest.raises(DataError) as caught:
        predicted(root, model, "image.tif", "map.tif")
    assert caught.value.code == "SEG-D020"
    assert caught.value.next_step.endswith("--bands green,red,nir")
    chosen = predicted(root, model, "image.tif", "map.tif", bands=SORTED)
    image_HWC = noise()
    write(root / "sorted.tif", image_HWC[..., [1, 0, 2]], SORTED)
    assert predicted(root, model, "sorted.tif", "sorted_map.tif") == chosen
    write(root / "wide.tif", image_HWC[..., [1, 0, 2]].astype(np.uint16), SORTED)
    with pytest.raises(DataError, match="SEG-D019"):
        predicted(root, model, "wide.tif", "wide_map.tif")
    write(root / "hand.tif", with_ndvi(image_HWC)[..., [1, 3]], ["green", "ndvi"])
    with pytest.raises(DataError, match="SEG-D020"):  # it computes the band itself
        predicted(root, model, "hand.tif", "hand_map.tif")


@pytest.mark.slow
def test_several_processes_compute_the_band(root):
    write(root / "image.tif", noise()[..., [1, 0, 2]], SORTED)
    model = model_of(root, GREEN_NDVI)
    alone = predicted(root, model, "image.tif", "map.tif")
    assert predicted(root, model, "image.tif", "shared.tif", workers=2) == alone


def test_a_map_that_was_begun_goes_on_with_its_formula(root, monkeypatch):
    write(root / "image.tif", noise()[..., [1, 0, 2]], SORTED)
    model = model_of(root, GREEN_NDVI)
    whole_map = predicted(root, model, "image.tif", "whole.tif")

    def killed(*_):
        raise InterruptedError

    monkeypatch.setattr(predict_module._RowsDone, "row_done", killed)
    with pytest.raises(InterruptedError):
        predicted(root, model, "image.tif", "map.tif")
    monkeypatch.undo()
    other = Derivation(SORTED, "uint8", 1, (("ndvi", f"2 * {NDVI}"),))
    with pytest.raises(CheckpointError) as caught:
        predicted(root, model_of(root, other), "image.tif", "map.tif", resume=True)
    assert "derived" in str(caught.value)
    model = model_of(root, GREEN_NDVI)
    assert predicted(root, model, "image.tif", "map.tif", resume=True) == whole_map


def test_other_data_computes_the_band_as_the_model_does(root):
    """Spaces make no difference; another formula under the same name is refused."""
    run = trained(root, "run", derived={"ndvi": NDVI})
    path = root / "other.toml"
    for formula, refused in (("( nir-red )/( nir+red )", False), ("(red - nir) / red", True)):
        data = data_of(root, derived={"ndvi": formula}).model_dump(mode="json", exclude_none=True)
        path.write_text(tomli_w.dumps({"data": data}))
        if not refused:
            evaluate(run, "val", data=path, progress=Silent())
            continue
        with pytest.raises(DataError) as caught:
            evaluate(run, "val", data=path, progress=Silent())
        assert caught.value.code == "SEG-D094"
        assert formula in caught.value.observed
        assert NDVI in caught.value.allowed


@pytest.mark.parametrize(
    "change",
    [
        (f'ndvi = "{NDVI}"', 'ndvi = "open(nir)"'),
        (f'ndvi = "{NDVI}"', 'ndvi = "swir * 2"'),
        ("kept = 1", "kept = 2"),
        ("kept = 1", "kept = 9"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(root, change):
    folder = model_of(root, GREEN_NDVI)
    path = folder / "model.toml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    (folder / "MANIFEST.json").unlink()
    with pytest.raises(ConfigError):
        saved_model.read_card(folder)


def test_the_server_answers_with_the_map_of_predict(root):
    write(root / "image.tif", noise()[..., [1, 0, 2]], SORTED)
    model = model_of(root, GREEN_NDVI)
    predicted(root, model, "image.tif", "map.tif")
    settings = ServeSettings()
    loaded = load_model(model)
    body = (root / "image.tif").read_bytes()
    batcher = Batcher(loaded.trainer, settings)
    try:
        answer = prediction.predict_body(body, loaded.card, batcher, settings, Deadline(60))
    finally:
        batcher.close()
    with rasterio.open(root / "map.tif") as dataset:
        np.testing.assert_array_equal(answer.labels_HW, dataset.read(1))
    shown_HWC = prediction.preview(body, loaded.card, settings)  # of the file's own bands
    np.testing.assert_array_equal(shown_HWC, images.as_rgb(noise()[..., [1, 0, 2]]))


def test_an_exported_folder_computes_the_band_and_tells_others_how(root):
    pytest.importorskip("onnxruntime", reason="needs terrazzo[onnxruntime]")
    write(root / "image.tif", noise()[..., [1, 0, 2]], SORTED)
    model = model_of(root, GREEN_NDVI)
    own = predicted(root, model, "image.tif", "map.tif")
    folder = export(model, "onnx", root / "exported", score=False, progress=Silent())
    assert saved_model.read_card(folder).rules.derivation == GREEN_NDVI
    assert f"ndvi = {NDVI}" in (folder / "README.md").read_text()
    described = json.loads((folder / "export.json").read_text())["input"]
    assert described["bands"] == ["green", "ndvi"]
    assert described["derived_bands"] == {"ndvi": NDVI}
    assert predicted(root, folder, "image.tif", "exported.tif") == own
    export_for(model, "triton", root / "triton", progress=Silent())
    (page,) = (root / "triton").rglob("README.md")
    assert f"ndvi = {NDVI}" in page.read_text()


def test_pixels_in_memory_are_given_with_the_band(root):
    """An array has the bands of the network; nothing is computed of it."""
    model = load_model(model_of(root, GREEN_NDVI))
    assert model.predict(with_ndvi(noise())[..., [1, 3]]).shape == SHAPE
    with pytest.raises(DataError, match="SEG-D020"):
        model.predict(noise())
