"""Pixel sizes on the ground, and scenes over the network."""

from __future__ import annotations

import contextlib
import functools
import http.server
import math
import threading
import tomllib
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
import tomli_w
from affine import Affine

from terrazzo.base import config_parsing
from terrazzo.base.errors import DataError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.data import ground, pixel_size
from terrazzo.data.pixel_size import PixelSizes
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


def radii(latitude):
    """Radii of curvature of WGS 84 at a latitude: along the meridian, and across it."""
    a, es = 6_378_137.0, 0.00669437999014
    root = math.sqrt(1 - es * math.sin(math.radians(latitude)) ** 2)
    return a * (1 - es) / root**3, a / root


def degree_at(latitude):
    """Metres of a degree of longitude and of one of latitude."""
    along, across = radii(latitude)
    return (
        math.radians(1) * across * math.cos(math.radians(latitude)),
        math.radians(1) * along,
    )


def mercator(latitude, metres):
    """Return the transform of Web Mercator pixels at a latitude, and their sides on the ground."""
    y = 6_378_137.0 * math.log(math.tan(math.pi / 4 + math.radians(latitude) / 2))
    along, across = radii(latitude)
    cosine = math.cos(math.radians(latitude)) / 6_378_137.0
    sides = metres * across * cosine, metres * along * cosine
    return Affine(metres, 0, 1_000_000, 0, -metres, y), sides


UTM_SCALE = 0.9996 * (1 + 108_000**2 / (2 * 6_380_000**2))
PLACES = [
    ("EPSG:32633", Affine(0.5, 0, 392_000, 0, -0.5, 5_820_000), (0.5 / UTM_SCALE,) * 2),
    # Turned; and with sides of their own, whose root of the area is 0.5 m.
    ("EPSG:32633", Affine(0.3, 0.4, 392_000, 0.4, -0.3, 5_820_000), (0.5 / UTM_SCALE,) * 2),
    (
        "EPSG:32633",
        Affine(0.29, 0, 392_000, 0, -0.85, 5_820_000),
        (0.29 / UTM_SCALE, 0.85 / UTM_SCALE),
    ),
    ("EPSG:2264", Affine(10, 0, 2_000_000, 0, -10, 700_000), (3.048, 3.048)),  # US feet
    ("EPSG:3857", *mercator(60, 1.0)),
    ("EPSG:3857", *mercator(0, 1.0)),
    ("EPSG:4326", Affine(1e-5, 0, 13, 0, -1e-5, 60), tuple(1e-5 * m for m in degree_at(60))),
    ("EPSG:4326", Affine(1e-5, 0, 179.99999, 0, -1e-5, 10), tuple(1e-5 * m for m in degree_at(10))),
    (None, None, None),
    (None, Affine(0.5, 0, 0, 0, -0.5, 0), None),
]


@pytest.mark.parametrize(("crs", "transform", "metres"), PLACES)
def test_sides_of_a_pixel_on_the_ground(tmp_path, crs, transform, metres):
    path = tmp_path / "s.tif"
    rasters.write(path, np.ones((4, 4, 1), np.uint8), crs=crs, transform=transform)
    found = ground.pixel_sides(rasters.info(path))
    assert found == (metres if metres is None else pytest.approx(metres, rel=2e-4))


def geodesic_m2(info, polygon, points=20_000):
    """Area by pyproj of a polygon in pixels, its sides cut so fine that they may be geodesics."""
    crs = pyproj.CRS.from_wkt(info.crs.to_wkt())
    to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    length = shapely.length(polygon) / points

    def ring_m2(ring):
        columns, rows = shapely.get_coordinates(shapely.segmentize(ring, length)).T
        place = to_degrees.transform(*info.to_coordinates(columns, rows))
        return abs(crs.get_geod().polygon_area_perimeter(*place)[0])

    return ring_m2(polygon.exterior) - sum(map(ring_m2, polygon.interiors))


WORLD = ("EPSG:4326", Affine(0.5, 0, -180, 0, -0.5, 90), (360, 720))
SCENES = [
    ("EPSG:3857", mercator(60, 0.3)[0], (400, 400)),
    ("EPSG:3857", mercator(60, 1000.0)[0], (400, 400)),
    ("EPSG:32633", Affine(10, 0, 392_000, 0, -10, 5_820_000), (400, 400)),
    ("EPSG:4326", Affine(1e-5, 0, 13, 0, -1e-5, 60), (400, 400)),
    ("EPSG:3035", Affine(30, 0, 4_500_000, 0, -30, 3_200_000), (400, 400)),
    ("EPSG:2264", Affine(10, 0, 2_000_000, 0, -10, 700_000), (400, 400)),
    ("EPSG:3413", Affine(25_000, 0, -5_000_000, 0, -25_000, 5_000_000), (400, 400)),  # the pole
    WORLD,
]


@pytest.mark.parametrize(("crs", "transform", "size"), SCENES)
def test_areas_are_those_on_the_ellipsoid(tmp_path, crs, transform, size):
    path = tmp_path / "s.tif"
    rasters.write(path, np.ones((*size, 1), np.uint8), crs=crs, transform=transform)
    info = rasters.info(path)
    ring = shapely.box(40, 50, 300, 330).difference(shapely.box(100, 110, 220, 260))
    # The bow of a long side is not that of the short ones that face it.
    stairs = shapely.union_all(
        [shapely.box(40, 50 + step, 52 + step, 51 + step) for step in range(60)]
    )
    shapes = [ring, shapely.box(7, 8, 8, 9), shapely.box(100, 110, 220, 260), stairs]
    found = ground.areas_m2(np.array(shapes, dtype=object), info)
    for area, shape in zip(found, shapes, strict=True):
        assert area == pytest.approx(geodesic_m2(info, shape), rel=1e-6)


def test_areas_at_60_degrees_are_not_those_of_web_mercator(tmp_path):
    transform, (width, height) = mercator(60, 1.0)
    rasters.write(
        tmp_path / "s.tif", np.ones((9, 9, 1), np.uint8), crs="EPSG:3857", transform=transform
    )
    info = rasters.info(tmp_path / "s.tif")
    (area,) = ground.areas_m2(np.array([shapely.box(0, 0, 9, 9)]), info)
    assert area == pytest.approx(81 * width * height, rel=1e-4)
    assert 81 / area == pytest.approx(3.99, abs=0.02)


def test_the_whole_world_has_its_area(tmp_path):
    rasters.write(
        tmp_path / "s.tif", np.ones((360, 720, 1), np.uint8), crs=WORLD[0], transform=WORLD[1]
    )
    shapes = np.array([shapely.box(0, 0, 720, 360), shapely.box(700, 0, 720, 360)])
    world, strip = ground.areas_m2(shapes, rasters.info(tmp_path / "s.tif"))
    assert world == pytest.approx(510_065_621_724_089, rel=1e-9)
    assert strip == pytest.approx(world / 36, rel=1e-9)


def test_areas_of_no_place_are_not_known(tmp_path):
    rasters.write(tmp_path / "s.tif", np.ones((4, 4, 1), np.uint8), crs=None, transform=None)
    info = rasters.info(tmp_path / "s.tif")
    assert np.isnan(ground.areas_m2(np.array([shapely.box(0, 0, 2, 2)]), info)).all()
    assert ground.areas_m2(np.array([], dtype=object), info).shape == (0,)


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
    for path, (crs, transform, _) in zip(paths, (PLACES[2], PLACES[3], PLACES[8]), strict=True):
        rasters.write(path, np.ones((4, 4, 1), np.uint8), crs=crs, transform=transform)
    found = pixel_size.pixel_sizes(Source(paths))
    assert found.width == pytest.approx((0.29 / UTM_SCALE, 3.048), rel=2e-4)
    assert found.height == pytest.approx((0.85 / UTM_SCALE, 3.048), rel=2e-4)
    assert pixel_size.pixel_sizes(Source(paths[2:])) is None
    assert pixel_size.pixel_sizes(Source([tmp_path / "a.png"])) is None


def test_scenes_of_another_pixel_size_are_refused(tmp_path):
    model = make_model(tmp_path / "model", pixel_metres=PixelSizes.square(0.25, 0.5))
    assert saved_model.read_card(model).pixel_metres == PixelSizes((0.25, 0.5), (0.25, 0.5))
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


@pytest.mark.parametrize(
    ("sides", "told"),
    [
        ((0.29, 0.85), "0.2901 m wide, 0.8502 m high"),
        ((0.85, 0.29), "0.8502 m wide, 0.2901 m high"),
        ((0.5, 0.7), "0.5001 m wide, 0.7002 m high"),
        ((0.5, 0.5), None),
        ((0.45, 0.6), None),
    ],
)
def test_width_and_height_of_a_pixel_are_compared_each_by_itself(tmp_path, sides, told):
    model = make_model(tmp_path / "model", pixel_metres=PixelSizes.square(0.5, 0.5))
    place = {
        "crs": "EPSG:32633",
        "transform": Affine(sides[0], 0, 392_000, 0, -sides[1], 5_820_000),
    }
    source = make_scene(tmp_path / "scene.tif", (40, 40, 3), **place)
    if told is None:
        predict(model, source, tmp_path / "map.tif")
        return
    with pytest.raises(DataError, match="SEG-D028") as caught:
        predict(model, source, tmp_path / "map.tif")
    assert str(caught.value.observed) == told


def test_a_model_of_oblong_pixels_takes_these_and_no_others(tmp_path):
    oblong = PixelSizes((0.29, 0.29), (0.85, 0.85))
    model = make_model(tmp_path / "model", pixel_metres=oblong)
    assert saved_model.read_card(model).pixel_metres == oblong
    for name, sides, fits in (("a", (0.29, 0.85), True), ("b", (0.5, 0.5), False)):
        transform = Affine(sides[0], 0, 392_000, 0, -sides[1], 5_820_000)
        source = make_scene(
            tmp_path / f"{name}.tif", (40, 40, 3), crs="EPSG:32633", transform=transform
        )
        with contextlib.nullcontext() if fits else pytest.raises(DataError, match="SEG-D028"):
            predict(model, source, tmp_path / f"{name}_map.tif")


def test_a_scene_in_web_mercator_is_measured_on_the_ground(tmp_path):
    model = make_model(tmp_path / "model", pixel_metres=PixelSizes.square(0.5, 0.5))
    for metres, fits in ((1.0, True), (0.5, False)):
        transform, _ = mercator(60, metres)
        source = make_scene(
            tmp_path / f"{metres}.tif", (40, 40, 3), crs="EPSG:3857", transform=transform
        )
        with contextlib.nullcontext() if fits else pytest.raises(DataError, match="SEG-D028"):
            predict(model, source, tmp_path / f"{metres}_map.tif")


def test_a_model_of_version_0_1_is_read(tmp_path):
    model = make_model(tmp_path / "model", pixel_metres=PixelSizes.square(0.25, 0.5))
    text = (model / "model.toml").read_text()
    table = tomllib.loads(text)
    assert table["pixel_metres"] == [[0.25, 0.5], [0.25, 0.5]]
    (model / "model.toml").write_text(tomli_w.dumps({**table, "pixel_metres": [0.25, 0.5]}))
    (model / "MANIFEST.json").unlink()
    assert saved_model.read_card(model).pixel_metres == PixelSizes.square(0.25, 0.5)


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
    found = saved_model.read_card(tmp_path / "run" / "model").pixel_metres
    assert (*found.width, *found.height) == pytest.approx((0.5,) * 4, rel=1e-3)


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
