"""Pixel sizes on the ground, and scenes over the network."""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from affine import Affine

from terrazzo.base import config_parsing
from terrazzo.base.errors import DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.data import pixel_size
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict as predict_scenes
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters, remote_paths
from terrazzo.runs import saved_model
from terrazzo.testing.scenes import LABELS, UTM, make_model, make_scene
from terrazzo.workflows import train as train_workflow

SMALL = Tiling(tile=32, overlap=12)


def predict(model: Path, source: Path, out: Path, **settings):
    settings = Settings(tiling=SMALL, **settings)
    predict_scenes(model, [source], out, settings, progress=Silent())


PLACES = [
    ("EPSG:32633", Affine(0.5, 0, 392_000, 0, -0.5, 5_820_000), 0.5),
    ("EPSG:32633", Affine(0.3, 0.4, 392_000, 0.4, -0.3, 5_820_000), 0.5),  # turned
    ("EPSG:2264", Affine(10, 0, 2_000_000, 0, -10, 700_000), 3.048),  # US feet
    ("EPSG:4326", Affine(1e-5, 0, 13, 0, -1e-5, 60), 1.1132 * 0.5**0.5),
    (None, None, None),
    (None, Affine(0.5, 0, 0, 0, -0.5, 0), None),
]


@pytest.mark.parametrize(("crs", "transform", "metres"), PLACES)
def test_pixel_metres(tmp_path, crs, transform, metres):
    path = tmp_path / "s.tif"
    rasters.write(path, np.ones((4, 4, 1), np.uint8), crs=crs, transform=transform)
    found = pixel_size.pixel_metres(rasters.info(path))
    assert found == (metres if metres is None else pytest.approx(metres, rel=1e-4))


class Source:
    def __init__(self, paths):
        self.paths = paths
        self.source = self

    def __len__(self):
        return len(self.paths)

    def files(self, index):
        return (self.paths[index],)


def test_pixel_sizes_of_training(tmp_path):
    paths = [tmp_path / f"{n}.tif" for n in range(3)]
    for path, (crs, transform, _) in zip(paths, (PLACES[0], PLACES[2], PLACES[4]), strict=True):
        rasters.write(path, np.ones((4, 4, 1), np.uint8), crs=crs, transform=transform)
    assert pixel_size.pixel_sizes(Source(paths)) == pytest.approx((0.5, 3.048), rel=1e-4)
    assert pixel_size.pixel_sizes(Source(paths[2:])) is None
    assert pixel_size.pixel_sizes(Source([tmp_path / "a.png"])) is None


def test_scenes_of_another_pixel_size_are_refused(tmp_path):
    model = make_model(tmp_path / "model", pixel_metres=(0.25, 0.5))
    assert saved_model.read_card(model).pixel_metres == (0.25, 0.5)
    coarse = {"crs": "EPSG:32633", "transform": Affine(10, 0, 392_000, 0, -10, 5_820_000)}
    source = make_scene(tmp_path / "coarse.tif", (40, 40, 3), **coarse)
    with pytest.raises(DataError) as caught:
        predict(model, source, tmp_path / "map.tif")
    assert caught.value.code == "SEG-D028"
    assert (caught.value.observed, caught.value.allowed[:13]) == ("10 m", "0.25 to 0.5 m")
    predict(model, source, tmp_path / "map.tif", any_pixel_size=True)
    predict(model, make_scene(tmp_path / "fine.tif", (40, 40, 3)), tmp_path / "fine_map.tif")
    nowhere = make_scene(tmp_path / "nowhere.tif", (40, 40, 3), crs=None, transform=None)
    predict(model, nowhere, tmp_path / "nowhere_map.tif")


def test_a_run_keeps_the_pixel_size_of_its_scenes(tmp_path):
    make_scene(tmp_path / "image.tif", (64, 64, 3))
    rows, columns = np.indices((64, 64))
    label_HWC = ((rows + columns) // 8 % 6).astype(np.uint8)[..., None]
    rasters.write(tmp_path / "label.tif", label_HWC, **UTM)
    (tmp_path / "labels.toml").write_text(tomli_w.dumps(LABELS.as_toml()))
    scenes = [{"images": ["image.tif"], "label": "label.tif"}]
    recipe = config_parsing.parse(
        Config,
        {
            "name": "ground",
            "backend": "reference",
            "data": {
                "format": "geotiff",
                "root": str(tmp_path),
                "labels": str(tmp_path / "labels.toml"),
                "options": {"scenes": scenes, "chip": 8, "block": 1, "buffer": 0},
            },
            "model": {"name": "pixel_softmax"},
            "training": {"steps": 1, "batch_size": 2, "schedule": {"learning_rate": 0.1}},
        },
        where="here",
    )
    train_workflow.train(recipe, tmp_path / "run", progress=Silent())
    assert saved_model.read_card(tmp_path / "run" / "model").pixel_metres == (0.5, 0.5)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("https://host/a/b.tif", "/vsicurl/https://host/a/b.tif"),
        ("/vsicurl/http://host/b.tif", "/vsicurl/http://host/b.tif"),
        ("s3://bucket/b.tif", "/vsis3/bucket/b.tif"),
        ("/vsizip/a.zip/b.tif", "/vsizip/a.zip/b.tif"),
    ],
)
def test_names_for_gdal(given, name):
    assert remote_paths.is_remote(Path(given))
    assert remote_paths.allow(Path(given)).gdal_name == name
    assert remote_paths.allow(Path("/data/a.tif")) == Path("/data/a.tif")
    with pytest.raises(DataError, match="gopher:"):
        remote_paths.allow(Path("gopher://host/a.tif"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_):
        self.asked.append(self.path)


def test_a_remote_scene_needs_leave(tmp_path):
    model = make_model(tmp_path / "model")
    make_scene(tmp_path / "s.tif", (70, 50, 3), nodata=0)
    (tmp_path / "vrt.tif").write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>")
    Quiet.asked = asked = []
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for name in ("s.tif", "vrt.tif"):
            with pytest.raises(DataError, match="SEG-D030"):
                predict(model, Path(f"{url}/{name}"), tmp_path / "map.tif")
        assert not asked
        predict(model, remote_paths.allow(Path(f"{url}/s.tif")), tmp_path / "map.tif")
        assert asked
        for name in ("vrt.tif", "missing.tif"):
            with pytest.raises(DataError):
                predict(model, remote_paths.allow(Path(f"{url}/{name}")), tmp_path / "other.tif")
        server.shutdown()
    predict(model, tmp_path / "s.tif", tmp_path / "local.tif")
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "local.tif").read_bytes()
