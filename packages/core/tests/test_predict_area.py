"""``--area``: nothing outside of it, the bytes of the whole map inside, and what does not fit."""

from __future__ import annotations

import csv
import importlib.util
import json
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.warp import transform, transform_geom

from terrazzo.base.errors import CheckpointError, ConfigError, DataError, TerrazzoError
from terrazzo.base.progress import Silent
from terrazzo.inference import jobs, map_writer, predict, tiled_prediction
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.io.rasters.follow_edges import along_edges
from terrazzo.runs import saved_model
from terrazzo.testing.scenes import LABELS, UTM, make_model, make_scene

SMALL = Tiling(tile=32, overlap=12, batch_size=3)
ROWS, COLUMNS = 201, 173
HAS_VECTOR = importlib.util.find_spec("pyogrio") is not None
NODATA = LABELS.ignore_index
GRID = rasters.RasterInfo(
    ROWS, COLUMNS, (), "uint8", None, CRS.from_epsg(32633), UTM["transform"], "uint8"
)


def polygon(*corners, hole=()):
    """Make a polygon on the scene of corners in columns and rows."""
    rings = [[*corners, corners[0]]] + ([[*hole, hole[0]]] if hole else [])
    return {
        "type": "Polygon",
        "coordinates": [[GRID.to_coordinates(*point) for point in ring] for ring in rings],
    }


AREA = (
    polygon(
        (60.13, 40.24),
        (130.1, 52.2),
        (118, 101.07),
        (66.2, 90),
        hole=((80, 60.1), (99.7, 62), (90, 79.6)),
    ),
    polygon((12.2, 150.3), (25, 150.3), (18, 166)),
)


def write(path, shapes=AREA, crs="EPSG:32633"):
    """Write shapes given in the coordinates of the scene as GeoJSON in another CRS."""
    if crs not in (None, "EPSG:32633"):
        size = replace(GRID, crs=CRS.from_string(crs))
        if crs == "EPSG:4326":
            shapes = transform_geom("EPSG:32633", crs, list(shapes))
        else:
            shapes = [along_edges(each, CRS.from_epsg(32633), size) for each in shapes]
    features = [{"type": "Feature", "properties": {}, "geometry": each} for each in shapes]
    content = {"type": "FeatureCollection", "features": features}
    if crs not in (None, "EPSG:4326"):
        name = f"urn:ogc:def:crs:{crs.replace(':', '::')}"
        content["crs"] = {"type": "name", "properties": {"name": name}}
    path.write_text(json.dumps(content))
    return path


def inside():
    """Draw the area at once, by rasterio alone."""
    ones = [(each, 1) for each in AREA]
    return rasterize(ones, (ROWS, COLUMNS), transform=UTM["transform"]).astype(bool)


def run(place, out, **settings):
    settings = Settings(**{"tiling": SMALL, "area": place / "area.geojson", **settings})
    return predict.predict(place / "model", place / "s.tif", out, settings, progress=Silent())


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


@pytest.fixture
def place(tmp_path):
    make_model(tmp_path / "model")
    make_scene(tmp_path / "s.tif", (ROWS, COLUMNS, 3), nodata=0)
    write(tmp_path / "area.geojson")
    return tmp_path


@pytest.mark.parametrize("overlap", [12, 25], ids=["two share", "three share"])
@pytest.mark.parametrize("blend", ["linear", "none"])
def test_inside_it_is_the_whole_map_and_outside_there_is_nothing(place, blend, overlap):
    settings = {"tiling": Tiling(tile=32, overlap=overlap, blend=blend), "probabilities": True}
    run(place, place / "whole.tif", area=None, **settings)
    ((tally),) = [each.tally for each in run(place, place / "map.tif", **settings)]
    whole_HW, map_HW = (read(place / name)[0] for name in ("whole.tif", "map.tif"))
    np.testing.assert_array_equal(map_HW, np.where(inside(), whole_HW, NODATA))
    whole_KHW, map_KHW = (read(place / f"{name}_probabilities.tif") for name in ("whole", "map"))
    np.testing.assert_array_equal(map_KHW, np.where(inside(), whole_KHW, np.nan))
    assert tally.pixels_K.sum() == np.count_nonzero(map_HW != NODATA) > 2900
    with (place / "map_areas.csv").open() as file:
        pixels = [int(row["pixels"]) for row in csv.DictReader(file)]
    assert sum(pixels[:-1]) == tally.pixels_K.sum()


class Counting:
    """Does jobs in this process, and counts the tiles of the model."""

    size = 3

    def __init__(self, model):
        self.trainer, self.tiles = saved_model.load(model)[1], 0

    def do(self, tasks):
        for task in reversed(list(tasks)):
            jobs.work(self, pickle.loads(pickle.dumps(task)), lambda: None)
            yield task

    def predict(self, images_BHWC):
        self.tiles += len(images_BHWC)
        return self.trainer.predict(images_BHWC)

    def __getattr__(self, name):
        return getattr(self.trainer, name)


def make(place, out, executor, **settings):
    """Make a map by an executor of the test's."""
    settings = Settings(**{"tiling": SMALL, "area": place / "area.geojson", **settings})
    card = saved_model.read_card(place / "model")
    work = predict.plan_outputs([place / "s.tif"], out, settings)[0]
    scene = predict.open_scene(place / "s.tif", card, settings, Silent())
    order = predict.order_for(scene, card, work, settings, ("model",))
    return list(map_writer.make_maps([order], executor))


def test_only_tiles_that_touch_the_area_are_predicted(place):
    counting = Counting(place / "model")
    make(place, place / "map.tif", counting)
    rows, columns = SMALL.shares(ROWS), SMALL.shares(COLUMNS)
    wanted_HW = inside() & (read(place / "s.tif") > 0).any(axis=0)
    touched = sum(
        wanted_HW[row.first : row.last, column.first : column.last].any()
        for row in rows
        for column in columns
    )
    # Bands of rows do a row of tiles again where they meet.
    assert touched <= counting.tiles <= touched + 2 * len(columns) < len(rows) * len(columns)


def test_rows_and_columns_without_tiles_are_not_read(place, monkeypatch):
    windows = []
    original = rasters.read_stack

    def seen(parts, window, **others):
        windows.append(window)
        return original(parts, window, **others)

    monkeypatch.setattr(tiled_prediction.rasters, "read_stack", seen)
    write(place / "area.geojson", AREA[:1])
    make(place, place / "map.tif", Counting(place / "model"))
    assert min(row for row, *_ in windows) >= 40 - 32
    assert max(row + rows for row, _, rows, _ in windows) <= 101 + 32
    assert all(column >= 60 - 32 and column + w <= 130 + 32 for _, column, _, w in windows)


def test_the_bytes_do_not_depend_on_workers_files_or_a_kill(place, monkeypatch):
    with rasterio.open(place / "s.tif", "r+") as dataset:  # 0 in one band would lack in it alone
        values_CHW = dataset.read()
        lacking_HW = (values_CHW == 0).all(axis=0)
        dataset.write(np.where(lacking_HW, 0, np.maximum(values_CHW, 1)))
    run(place, place / "map.tif", probabilities=True)
    expected = [
        (place / name).read_bytes()
        for name in ("map.tif", "map_probabilities.tif", "map_areas.csv")
    ]
    make(place, place / "bands.tif", Counting(place / "model"), probabilities=True)
    run(place, place / "two.tif", probabilities=True, workers=2)

    calls = []

    def fail(keeper, end):
        calls.append(end)
        if len(calls) == 5:
            raise DataError("SEG-D011", "cut off")
        original(keeper, end)

    original = tiled_prediction._RowKeeper._finish
    with monkeypatch.context() as patch:
        patch.setattr(tiled_prediction._RowKeeper, "_finish", fail)
        with pytest.raises(DataError, match="cut off"):
            run(place, place / "again.tif", probabilities=True)
    assert not (place / "again.tif").exists()
    with pytest.raises(CheckpointError, match="SEG-C011"):
        run(place, place / "again.tif", probabilities=True, resume=True, area=None)
    write(place / "other.geojson", AREA[:1])
    with pytest.raises(CheckpointError, match="SEG-C011"):
        run(
            place,
            place / "again.tif",
            probabilities=True,
            resume=True,
            area=place / "other.geojson",
        )
    run(place, place / "again.tif", probabilities=True, resume=True)

    with rasterio.open(place / "s.tif") as dataset:  # another layout, and another nodata number
        values_CHW, profile = dataset.read(), dataset.profile
    profile.update(tiled=False, compress=None, interleave="band", nodata=None, blockysize=1)
    del profile["blockxsize"]
    (place / "s.tif").unlink()
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(place / "s.tif", "w", **profile) as dataset,
    ):
        dataset.write(values_CHW)
        dataset.write_mask(~lacking_HW)
    run(place, place / "layout.tif", probabilities=True)
    for name in ("bands", "two", "again", "layout"):
        found = [
            (place / f"{name}{end}").read_bytes()
            for end in (".tif", "_probabilities.tif", "_areas.csv")
        ]
        assert found == expected, name


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32634"])
def test_the_area_may_be_in_any_crs(place, crs):
    run(place, place / "map.tif")
    write(place / "other.geojson", crs=crs)
    run(place, place / "other.tif", area=place / "other.geojson")
    assert (place / "map.tif").read_bytes() == (place / "other.tif").read_bytes()


@pytest.mark.skipif(not HAS_VECTOR, reason="pyogrio is not installed")
@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_geopackage_and_shapefile(place, suffix):
    import pyogrio
    import shapely

    path = place / f"area{suffix}"
    wkb = shapely.to_wkb([shapely.geometry.shape(each) for each in AREA])
    options = {"driver": {".gpkg": "GPKG", ".shp": "ESRI Shapefile"}[suffix]}
    pyogrio.raw.write(path, wkb, [], [], geometry_type="Polygon", crs="EPSG:32633", **options)
    run(place, place / "map.tif")
    polygons = place / "map.gpkg"
    run(place, place / "other.tif", area=path, polygons=polygons)
    assert (place / "map.tif").read_bytes() == (place / "other.tif").read_bytes()
    _, _, _, (pixels,) = pyogrio.raw.read(polygons, layer="classes", columns=["pixels"])
    assert pixels.sum() == np.count_nonzero(read(place / "map.tif") != NODATA)


@pytest.mark.skipif(not HAS_VECTOR, reason="pyogrio is not installed")
def test_a_layer_of_several(place):
    import pyogrio
    import shapely

    path, shapes = place / "area.gpkg", [shapely.geometry.shape(each) for each in AREA]
    for layer, wkb in (("plots", shapely.to_wkb(shapes)), ("one", shapely.to_wkb(shapes[:1]))):
        into = {"layer": layer, "geometry_type": "Polygon", "crs": "EPSG:32633", "driver": "GPKG"}
        pyogrio.raw.write(path, wkb, [], [], append=path.exists(), **into)
    run(place, place / "map.tif")
    run(place, place / "plots.tif", area=path, area_layer="plots")
    assert (place / "map.tif").read_bytes() == (place / "plots.tif").read_bytes()
    for asked in (None, "fields"):
        with pytest.raises(ConfigError, match="SEG-X130") as caught:
            run(place, place / "other.tif", area=path, area_layer=asked)
        assert caught.value.allowed == "plots, one"
        assert "--area-layer" in caught.value.next_step
    with pytest.raises(ConfigError, match="SEG-X094"):
        run(place, place / "other.tif", area=None, area_layer="plots")


def test_a_map_of_an_area_is_the_same_after_kills(place):
    def command(program, name, *more):
        words = ["predict", place / "model", place / "s.tif", "--out", place / f"{name}.tif"]
        words += ["--area", place / "area.geojson", "--tile", "32", "--overlap", "12", *more]
        return subprocess.run([sys.executable, "-m", *program, *map(str, words)], check=False)

    kill = "terrazzo.testing.kill"
    assert command(["terrazzo"], "straight").returncode == 0
    for number in (5, 9):  # inside the first rows of tiles with a pixel to predict
        assert command([kill, f"sync:{number}"], "killed").returncode == -signal.SIGKILL
        assert not (place / "killed.tif").exists()
        assert command(["terrazzo"], "killed", "--resume").returncode == 0
        assert (place / "killed.tif").read_bytes() == (place / "straight.tif").read_bytes()
        for path in place.glob("killed*"):
            path.unlink()


def test_strips_of_an_area_are_the_area_drawn_at_once():
    rng = np.random.default_rng(3)
    grid = replace(GRID, rows=1100, columns=300)
    centres = rng.uniform(0, (300, 1100), (40, 2))
    angles = np.sort(rng.uniform(0, 2 * np.pi, (40, 9)), axis=1)
    reach = rng.uniform(3, 150, (40, 9))
    shapes = tuple(
        polygon(*zip(x + r * np.cos(a), y + r * np.sin(a), strict=True))
        for (x, y), a, r in zip(centres, angles, reach, strict=True)
    )
    together = {"type": "MultiPolygon", "coordinates": [each["coordinates"] for each in shapes[:9]]}
    features = rasters.Features("a", (together, *shapes[9:]), (None,) * 32, tuple(range(32)))
    expected_HW = rasters.inside(features, grid)
    area = rasters.AreaRows.of(features, grid)
    for first, last in ((0, 1100), (0, 1), (255, 257), (300, 301), (511, 1100), (256, 512)):
        np.testing.assert_array_equal(area.rows(first, last), expected_HW[first:last])
    np.testing.assert_array_equal(area.filled_rows, expected_HW.any(axis=1))
    columns = np.flatnonzero(expected_HW.any(axis=0))
    assert area.columns == (columns[0], columns[-1] + 1)


def test_an_edge_that_is_bent_in_the_scene_keeps_its_place():
    """A parallel of 100 km lies up to 250 m beside the straight line between its ends."""
    ring = [(14.0, 52.0), (15.5, 52.0), (15.5, 52.5), (14.0, 52.5), (14.0, 52.0)]
    (placed,) = along_edges({"type": "Polygon", "coordinates": [ring]}, CRS.from_epsg(4326), GRID)[
        "coordinates"
    ]
    x, y = transform("EPSG:4326", "EPSG:32633", *zip((14.37, 52.0), (15.02, 52.5), strict=True))
    for point in zip(x, y, strict=True):
        nearest = min(
            abs(_cross(np.subtract(b, a), np.subtract(point, a))) / np.hypot(*np.subtract(b, a))
            for a, b in pairwise(placed)
            if min(a[0], b[0]) - 1 <= point[0] <= max(a[0], b[0]) + 1
        )
        assert nearest < 0.1  # metres; a fifth of a pixel


def _cross(one, other):
    return one[0] * other[1] - one[1] * other[0]


@pytest.mark.parametrize(
    ("shapes", "code"),
    [
        ([polygon((900, 900), (990, 900), (950, 990))], "SEG-D028"),
        ([polygon((50.1, 50.1), (50.2, 50.1), (50.2, 50.2))], "SEG-D106"),
        ([{"type": "LineString", "coordinates": AREA[0]["coordinates"][0][:2]}], "SEG-D012"),
    ],
)
def test_an_area_that_holds_nothing_of_the_scene_is_refused(place, shapes, code):
    write(place / "area.geojson", shapes)
    with pytest.raises(DataError, match=code) as caught:
        run(place, place / "map.tif")
    assert caught.value.file == str(place / "area.geojson")
    if code != "SEG-D012":
        assert "s.tif" in caught.value.problem
    assert "align" not in str(caught.value)
    assert not list(place.glob("*map*"))


def test_what_an_area_cannot_be_is_refused(place):
    def code(**settings):
        with pytest.raises(TerrazzoError) as caught:
            run(place, place / "map.tif", **settings)
        return caught.value.code

    assert code(area=place / "s.tif") == "SEG-X011"
    assert code(area=place / "none.geojson") in ("SEG-D013", "SEG-D010")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(place / "photo.png")
    settings = Settings(area=place / "area.geojson")
    with pytest.raises(ConfigError, match="SEG-X118"):
        predict.predict(place / "model", place / "photo.png", place / "maps", settings)
    one = Settings(area=place / "area.geojson", polygons=place / "area.geojson")
    with pytest.raises(ConfigError, match="SEG-X032"):
        predict.plan_outputs([place / "s.tif"], place / "m.tif", one)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_a_place_takes_an_area_in_pixels(place):
    make_scene(place / "s.tif", (60, 50, 3), crs=None, transform=None)
    square = {"type": "Polygon", "coordinates": [[(5, 6), (25, 6), (25, 31), (5, 31), (5, 6)]]}
    write(place / "area.geojson", [square], crs=None)
    run(place, place / "map.tif")
    labels_HW = read(place / "map.tif")[0]
    assert (labels_HW[6:31, 5:25] != NODATA).all()
    assert np.count_nonzero(labels_HW != NODATA) == 500


def test_data_missing_inside_the_area_is_told(place):
    write(place / "area.geojson", [polygon((0, 0), (8, 0), (8, 8), (0, 8))])

    class Lines(Silent):
        told = ()

        def say(self, text):
            self.told += (text,)

    lines = Lines()
    settings = Settings(tiling=SMALL, area=place / "area.geojson")
    predict.predict(place / "model", place / "s.tif", place / "map.tif", settings, progress=lines)
    assert any("SEG-D023" in line and "area.geojson" in line for line in lines.told)


def test_progress_counts_rows_of_tiles_that_touch_the_area(place):
    class Counts(Silent):
        told = ()

        def advance(self, done, total, text):
            self.told += ((done, total),)

    write(place / "area.geojson", AREA[:1])
    counts = Counts()
    settings = Settings(tiling=SMALL, area=place / "area.geojson")
    predict.predict(place / "model", place / "s.tif", place / "map.tif", settings, progress=counts)
    total = sum(inside()[:110][row.first : row.last].any() for row in SMALL.shares(ROWS))
    assert counts.told == tuple((done, total) for done in range(total + 1))
    assert total < len(SMALL.shares(ROWS))
