"""One gate between a model and its pixels: scoring, prediction, the check, init."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from terrazzo.base.errors import TerrazzoError
from terrazzo.base.recipe import Config, DataConfig
from terrazzo.check import check_data
from terrazzo.data.datasets import open_split
from terrazzo.data.normalization import bands_of, moments
from terrazzo.data.sample import Bands
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.models.radiometry import unlike_training
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

SIZE = 64
RGB = ("red", "green", "blue")
COLOURS = np.array([[40, 60, 200, 30], [60, 180, 60, 200], [200, 60, 40, 90]])


@dataclass(frozen=True)
class Scene:
    """A scene as somebody may bring it."""

    dtype: str = "uint8"
    names: tuple[str | None, ...] = RGB
    order: tuple[int, ...] = (0, 1, 2)
    metres: float = 0.5
    crs: str = "EPSG:32633"
    factor: float = 1.0
    scales: tuple[float, ...] | None = None
    offsets: tuple[float, ...] | None = None
    nodata: float | None = None
    classes: tuple[str, ...] = ("a", "b", "c")
    profile: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    size: int = SIZE

    def write(self, folder: Path) -> DataConfig:
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        side = self.size // 8
        label_HW = np.kron(rng.integers(0, 3, (side, side)), np.ones((8, 8), int))
        image_HWC = COLOURS[label_HW][..., list(self.order)] * self.factor
        image_HWC = image_HWC + rng.normal(0, 6, image_HWC.shape) * self.factor
        transform = Affine(self.metres, 0, 4e5, 0, -self.metres, 5.8e6)
        if self.crs == "EPSG:4326":
            degrees = self.metres / 111_000
            transform = Affine(degrees, 0, 13, 0, -degrees, 1)
        profile = {"driver": "GTiff", "height": self.size, "width": self.size, "crs": self.crs}
        profile |= {"transform": transform, **self.profile}
        with rasterio.open(
            folder / "image.tif",
            "w",
            count=len(self.order),
            dtype=self.dtype,
            nodata=self.nodata,
            **profile,
        ) as opened:
            top = np.iinfo(self.dtype).max if np.dtype(self.dtype).kind in "ui" else np.inf
            values_HWC = np.clip(image_HWC, 1 if top < np.inf else -np.inf, top)
            opened.write(np.moveaxis(values_HWC, 2, 0).astype(self.dtype))
            if any(self.names):
                opened.descriptions = self.names
            if self.scales:
                opened.scales = self.scales
            if self.offsets:
                opened.offsets = self.offsets
        with rasterio.open(
            folder / "label.tif",
            "w",
            count=1,
            dtype="uint8",
            **{
                k: v
                for k, v in profile.items()
                if k in ("driver", "height", "width", "crs", "transform")
            },
        ) as opened:
            opened.write(label_HW.astype(np.uint8), 1)
        (folder / "m.toml").write_text(
            'name = "m"\n'
            + "".join(
                f'[[classes]]\nname = "{name}"\ncolour = "#00000{k}"\nraw = [{k}]\n'
                for k, name in enumerate(self.classes)
            )
        )
        options = {"scenes": [{"images": ["image.tif"], "label": "label.tif"}], "chip": 16}
        return DataConfig(
            format="geotiff",
            root=str(folder),
            labels=str(folder / "m.toml"),
            options={**options, "block": 1, "buffer": 0, **self.options},
        )


def recipe(data: DataConfig, **more: Any) -> Config:
    return Config.model_validate(
        {
            "backend": "reference",
            "name": "gate",
            "data": data.model_dump(exclude_none=True),
            "model": {"name": "pixel_softmax"},
            "training": {"batch_size": 2, "steps": 4, "schedule": {"learning_rate": 0.3}},
            **more,
        }
    )


MODELS = {
    "bytes": Scene(),
    "floats": Scene(dtype="float32", names=("a", "b", "c"), factor=0.01),
    "scaled": Scene(dtype="uint16", factor=20, scales=(1e-4,) * 3, offsets=(0.0,) * 3),
    "four": Scene(names=(*RGB, "nir"), order=(0, 1, 2, 3)),
    "applied": Scene(
        dtype="float32", factor=0.01, scales=(2.0,) * 3, options={"apply_scale": True}
    ),
}


class Said(list):
    """Progress that remembers its lines."""

    def advance(self, done, total, text):
        pass

    def say(self, text):
        self.append(text)

    @property
    def warnings(self):
        return [line for line in self if line.startswith("warning")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        name: train(recipe(scene.write(folder / name)), folder / f"run_{name}").path
        for name, scene in MODELS.items()
    }


def by_evaluate(run, data, place, said):
    other = place / "other.toml"
    import tomli_w

    other.write_text(tomli_w.dumps({"data": data.model_dump(exclude_none=True)}))
    evaluate(run, data=other, progress=said)


def by_predict(run, data, place, said):
    settings = Settings(tiling=Tiling(tile=32, overlap=8))
    predict(run, Path(data.root) / "image.tif", place / "map.tif", settings, progress=said)


def by_check(run, data, place, said):
    return check_data(data, run=run, progress=said).findings


def by_init(run, data, place, said):
    train(recipe(data, init={"run": str(run)}), place / "begun", progress=said)


APPLY = {"apply_scale": True}
WRONG = [
    ("bytes", Scene(dtype="uint16"), "SEG-D019"),
    ("bytes", Scene(dtype="int16"), "SEG-D019"),
    ("bytes", Scene(dtype="float32"), "SEG-D019"),
    ("bytes", Scene(names=("blue", "green", "red"), order=(2, 1, 0)), "SEG-D020"),
    ("bytes", Scene(names=("green", "red", "blue"), order=(1, 0, 2)), "SEG-D020"),
    ("bytes", Scene(names=("red", "green", "nir"), order=(0, 1, 3)), "SEG-D020"),
    ("bytes", Scene(names=(*RGB, "nir"), order=(0, 1, 2, 3)), "SEG-D020"),
    ("bytes", Scene(names=RGB[:2], order=(0, 1)), "SEG-D020"),
    ("bytes", Scene(names=RGB[:1], order=(0,)), "SEG-D020"),
    ("bytes", Scene(metres=1.0), "SEG-D028"),
    ("bytes", Scene(metres=0.2), "SEG-D028"),
    ("bytes", Scene(metres=10.0), "SEG-D028"),
    ("bytes", Scene(crs="EPSG:4326", metres=5.0), "SEG-D028"),
    ("bytes", Scene(scales=(0.5,) * 3), "SEG-D053"),
    ("bytes", Scene(offsets=(-100.0,) * 3), "SEG-D053"),
    ("bytes", Scene(classes=("a", "b", "d")), "SEG-D036"),
    ("bytes", Scene(classes=("b", "a", "c")), "SEG-D036"),
    ("floats", Scene(names=("a", "b", "c")), "SEG-D019"),
    ("floats", Scene(dtype="float32", names=("c", "b", "a"), factor=0.01), "SEG-D020"),
    ("floats", Scene(dtype="float32", names=("a", "b"), order=(0, 1)), "SEG-D020"),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), metres=2), "SEG-D028"),
    ("scaled", Scene(dtype="uint16", factor=20), "SEG-D053"),
    ("scaled", Scene(dtype="uint16", factor=2, scales=(1e-3,) * 3), "SEG-D053"),
    (
        "scaled",
        Scene(dtype="uint16", factor=20, scales=(1e-4,) * 3, offsets=(-0.1,) * 3),
        "SEG-D053",
    ),
    ("scaled", Scene(), "SEG-D019"),
    ("four", Scene(), "SEG-D020"),
    ("four", Scene(names=("nir", *RGB), order=(3, 0, 1, 2)), "SEG-D020"),
    ("four", Scene(names=(*RGB, "swir"), order=(0, 1, 2, 3)), "SEG-D020"),
    ("four", Scene(dtype="uint16", names=(*RGB, "nir"), order=(0, 1, 2, 3)), "SEG-D019"),
    ("four", Scene(names=(*RGB, "nir"), order=(0, 1, 2, 3), metres=3), "SEG-D028"),
    (
        "four",
        Scene(names=(*RGB, "nir"), order=(0, 1, 2, 3), scales=(1.0, 1.0, 1.0, 2.0)),
        "SEG-D053",
    ),
]
READ_OTHERWISE = [
    ("applied", Scene(dtype="float32", factor=0.01)),
    ("applied", Scene(dtype="float32", factor=0.01, scales=(2.0,) * 3)),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), factor=0.01, options=APPLY)),
]
WARNED = [
    ("bytes", Scene(factor=0.1)),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), factor=100.0)),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), factor=1.0)),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), factor=1e-4)),
    ("scaled", Scene(dtype="uint16", factor=250, scales=(1e-4,) * 3)),
    ("scaled", Scene(dtype="uint16", factor=1, scales=(1e-4,) * 3)),
]
RIGHT = [
    ("bytes", Scene()),
    ("bytes", Scene(nodata=0)),
    ("bytes", Scene(nodata=255)),
    ("bytes", Scene(metres=0.6)),
    ("bytes", Scene(metres=0.41)),
    ("bytes", Scene(crs="EPSG:32634")),
    ("bytes", Scene(names=(None, None, None))),
    (
        "bytes",
        Scene(profile={"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}),
    ),
    ("bytes", Scene(profile={"interleave": "pixel"})),
    ("bytes", Scene(size=96)),
    ("bytes", Scene(factor=0.6)),
    ("bytes", Scene(factor=1.2)),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), factor=0.01)),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), factor=0.01, nodata=-9999.0)),
    ("floats", Scene(dtype="float32", names=("a", "b", "c"), factor=0.012)),
    ("floats", Scene(dtype="float64", names=("a", "b", "c"), factor=0.01)),
    ("scaled", Scene(dtype="uint16", factor=20, scales=(1e-4,) * 3)),
    ("scaled", Scene(dtype="uint16", factor=25, scales=(1e-4,) * 3, offsets=(0.0,) * 3)),
    ("four", Scene(names=(*RGB, "nir"), order=(0, 1, 2, 3))),
    ("four", Scene(names=(*RGB, "nir"), order=(0, 1, 2, 3), nodata=0)),
]
DOUBTS = ("SEG-D019", "SEG-D020", "SEG-D028", "SEG-D036", "SEG-D053", "SEG-D054")
COMMANDS = {"evaluate": by_evaluate, "predict": by_predict, "check": by_check, "init": by_init}


def test_there_are_enough_pairs():
    assert len(WRONG) + len(READ_OTHERWISE) + len(WARNED) >= 40
    assert len(RIGHT) >= 20


@pytest.mark.parametrize(("model", "scene", "code"), WRONG)
def test_a_wrong_pair_is_refused_by_the_same_code(runs, tmp_path, model, scene, code):
    """But a map has no labels to differ, and training makes up for scale, size and classes."""
    data = scene.write(tmp_path / "data")
    for name, command in COMMANDS.items():
        if (name, code) in {("predict", "SEG-D036"), ("init", "SEG-D036")}:
            continue
        if name == "init" and code in ("SEG-D028", "SEG-D053"):
            said = Said()
            command(runs[model], data, tmp_path, said)
            assert any(line.startswith(f"warning {code}: ") for line in said), name
            continue
        with pytest.raises(TerrazzoError) as refused:
            command(runs[model], data, tmp_path, Said())
        assert refused.value.code == code, name


@pytest.mark.parametrize(("model", "scene"), READ_OTHERWISE)
def test_a_data_set_whose_scales_are_treated_otherwise_is_refused(runs, tmp_path, model, scene):
    """Prediction reads by the rules of the model, the others by those of the data set."""
    data = scene.write(tmp_path / "data")
    for name in ("evaluate", "check"):
        with pytest.raises(TerrazzoError, match="apply_scale") as refused:
            COMMANDS[name](runs[model], data, tmp_path, Said())
        assert refused.value.code == "SEG-D053", name
    said = Said()
    by_init(runs[model], data, tmp_path, said)
    assert any(line.startswith("warning SEG-D053: ") for line in said)


@pytest.mark.parametrize(("model", "scene"), WARNED)
def test_values_far_from_those_of_training_are_warned_of(runs, tmp_path, model, scene):
    data = scene.write(tmp_path / "data")
    for name in ("evaluate", "predict"):
        said = Said()
        COMMANDS[name](runs[model], data, tmp_path, said)
        assert len(said.warnings) == 1, name
        assert said.warnings[0].startswith("warning SEG-D054: "), name
        assert "Another unit, scale or number of bits?" in said.warnings[0]
    found = [each for each in by_check(runs[model], data, tmp_path, Said()) if each.code in DOUBTS]
    assert {each.code for each in found} == {"SEG-D054"}
    assert all("Another unit" in each.observed for each in found)


@pytest.mark.parametrize(("model", "scene"), RIGHT)
def test_a_right_pair_passes_without_a_word(runs, tmp_path, model, scene):
    data = scene.write(tmp_path / "data")
    for name in ("evaluate", "predict", "init"):
        said = Said()
        COMMANDS[name](runs[model], data, tmp_path, said)
        assert [line for line in said.warnings if any(code in line for code in DOUBTS)] == [], name
    found = by_check(runs[model], data, tmp_path, Said())
    assert [each for each in found if each.code in DOUBTS] == []


def test_applied_scales_make_equal_reflectance_equal(tmp_path):
    """Reflectance stored in two ways: refused together, equal where the tags are applied."""
    one = Scene(dtype="uint16", factor=20, scales=(5e-5,) * 3)
    two = Scene(dtype="uint16", factor=100, scales=(1e-5,) * 3)
    applied = {"options": {"apply_scale": True}}
    run = train(
        recipe(Scene(**{**one.__dict__, **applied}).write(tmp_path / "one")), tmp_path / "run"
    )
    maps = []
    for number, scene in enumerate((one, two)):
        data = Scene(**{**scene.__dict__, **applied}).write(tmp_path / f"scene{number}")
        said = Said()
        by_predict(run.path, data, tmp_path / f"scene{number}", said)
        assert said.warnings == []
        with rasterio.open(tmp_path / f"scene{number}" / "map.tif") as opened:
            maps.append(opened.read(1))
    assert (maps[0] == maps[1]).mean() > 0.99
    mixed = one.write(tmp_path / "mixed")
    two.write(tmp_path / "mixed" / "other")
    scenes = [
        {"images": ["image.tif"], "label": "label.tif"},
        {"images": ["other/image.tif"], "label": "other/label.tif"},
    ]
    data = mixed.model_copy(update={"options": {**mixed.options, "scenes": scenes}})
    with pytest.raises(TerrazzoError, match="SEG-D053"):
        train(recipe(data), tmp_path / "mixed_run")


def test_a_model_may_be_given_pixels_of_any_size_on_purpose(runs, tmp_path):
    data = Scene(metres=2.0).write(tmp_path / "data")
    import tomli_w

    (tmp_path / "o.toml").write_text(tomli_w.dumps({"data": data.model_dump(exclude_none=True)}))
    assert (
        evaluate(runs["bytes"], data=tmp_path / "o.toml", any_pixel_size=True).scores.mean_iou > 0
    )


@pytest.mark.parametrize(
    ("format_name", "root", "step"),
    [
        ("camvid", "camvid", 4),
        ("oxford_pet", "oxford_pet/oxford-iiit-pet", 5),
        ("part_masks", "sperm_parts", 3),
        ("colour_tiles", "dubai_aerial/Semantic segmentation dataset", 1),
    ],
)
def test_no_real_image_is_taken_for_another_unit(format_name, root, step):
    if "TERRAZZO_DATA" not in os.environ:
        pytest.skip("TERRAZZO_DATA is not set")
    data = DataConfig(
        format=format_name,
        root=str(Path(os.environ["TERRAZZO_DATA"]) / root),
        labels="dubai_6" if format_name == "colour_tiles" else None,
    )
    bands = bands_of(open_split(data, "train"), "dataset")
    for split in ("train", "val", "test"):
        opened = open_split(data, split)
        for index in range(0, len(opened), step):
            found = moments([opened.source.read_image(index)], len(bands))
            assert unlike_training(bands, *found) is None, opened.names[index]


def test_what_is_far_is_told_by_mean_and_deviation():
    bands = Bands(("x",), "uint16", (1000.0,), (300.0,))

    def told(mean, std):
        return unlike_training(bands, np.array([mean]), np.array([std]))

    assert told(1000, 300) is None
    assert told(1000, 3) is None  # flat: water, a table top
    assert told(140, 50) is None  # dark
    assert told(2190, 300) is None
    assert "mean 2210" in told(2210, 300)
    assert "deviation 1600" in told(1000, 1600)
    assert "mean 62.5, deviation 18.75" in told(62.5, 18.75)  # 16 times smaller
