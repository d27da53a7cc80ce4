"""What a map's files hold beside its pixels: names and colours of classes, overviews, a style."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as Xml

import numpy as np
import pytest
import rasterio

from terrazzo.base.errors import CheckpointError
from terrazzo.base.progress import Silent
from terrazzo.data import class_areas
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.inference import jobs, map_writer, predict, qgis_styles
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import image_headers, rasters
from terrazzo.io.rasters import RasterInfo, handles
from terrazzo.runs import saved_model
from terrazzo.testing.scenes import LABELS, UTM, make_model, make_scene

ODD = LabelMap(
    "odd",
    tuple(
        LabelClass(name, colour, (k,))
        for k, (name, colour) in enumerate(
            [('Wald & <"x">', "#00AA10"), ("l'eau", "#1020FF"), ("ä ö", "#FF8000")]
        )
    ),
)
MANY = LabelMap("many", tuple(LabelClass(f"class {k}", f"#{k * 40:06X}", (k,)) for k in range(300)))


def grid(rows, columns, bands=("class",)):
    crs = rasterio.crs.CRS.from_epsg(32633)
    return RasterInfo(rows, columns, bands, "uint8", 255, crs, UTM["transform"], "uint8")


def write_map(path, labels_HW, label_map=LABELS, *, cog=False, rows=None):
    rows = rows or len(labels_HW)
    groups = (labels_HW[row : row + rows] for row in range(0, len(labels_HW), rows))
    size = grid(*labels_HW.shape)
    map_writer.write_map(path, size, groups, label_map, cloud_optimised=cog)
    return path


def overview(path, level=0):
    with rasterio.open(path, overview_level=level) as dataset:
        return dataset.read()


def libraries(package):
    """Find the GDAL that the wheel of a package brings along on Linux."""
    return list(Path(package.__file__).parent.with_suffix(".libs").glob("libgdal*"))


READ_BY_NEWER_GDAL = """
import ctypes, json, sys
import pyogrio
gdal = ctypes.CDLL(sys.argv[2])

def function(name, result, *arguments):
    found = getattr(gdal, name)
    found.restype, found.argtypes = result, arguments
    return found

pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
function("GDALAllRegister", None)()
dataset = function("GDALOpen", pointer, text, number)(sys.argv[1].encode(), 0)
band = function("GDALGetRasterBand", pointer, pointer, number)(dataset, 1)
table = function("GDALGetDefaultRAT", pointer, pointer)(band)
rows = function("GDALRATGetRowCount", number, pointer)(table)
uses = function("GDALRATGetUsageOfCol", number, pointer, number)
cell = function("GDALRATGetValueAsString", text, pointer, number, number)
columns = function("GDALRATGetColumnCount", number, pointer)(table)
print(json.dumps({
    "uses": [uses(table, column) for column in range(columns)],
    "rows": [[cell(table, row, column).decode() for column in range(columns)]
             for row in range(rows)],
}))
"""
VALUE, NAME, RED, GREEN, BLUE = 5, 2, 6, 7, 8  # uses of columns, in GDAL's numbers


def has_newer_gdal():
    """Tell whether pyogrio brings a GDAL that reads attribute tables inside TIFF files."""
    if importlib.util.find_spec("pyogrio") is None:
        return False
    import pyogrio

    return pyogrio.__gdal_version__ >= (3, 12, 0) and any(libraries(pyogrio))


def expected_table(label_map):
    return [
        [str(k), each.name, *(str(int(each.colour[at : at + 2], 16)) for at in (1, 3, 5))]
        for k, each in enumerate(label_map.classes)
    ]


@pytest.mark.parametrize("label_map", [ODD, MANY], ids=["odd names", "300 classes"])
@pytest.mark.parametrize("cog", [False, True])
def test_names_and_colours_lie_in_the_map(tmp_path, cog, label_map):
    labels_HW = np.arange(90_000).reshape(300, 300) % len(label_map)
    labels_HW = labels_HW.astype(label_map.dtype)
    path = write_map(tmp_path / "m.tif", labels_HW, label_map, cog=cog)
    assert [each.name for each in tmp_path.iterdir()] == ["m.tif"]
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == ("class",)
        # GDAL before 3.12 passes over the table, and no trace of its place holder is left.
        assert dataset.tags(1) == {}
        assert json.loads(dataset.tags()["TERRAZZO_CLASSES"]) == list(label_map.names)
        if label_map is ODD:
            assert dataset.colormap(1)[1] == (16, 32, 255, 255)
        np.testing.assert_array_equal(dataset.read(1), labels_HW)
    place, text = image_headers.tiff_metadata(path)
    assert path.read_bytes()[place:].startswith(text)
    (table,) = Xml.fromstring(text.rstrip(b"\0")).iter("GDALRasterAttributeTable")
    rows = [[cell.text for cell in row] for row in table.iter("Row")]
    assert rows == expected_table(label_map)


def test_a_file_that_was_cut_short_has_no_place_for_the_table(tmp_path):
    path = write_map(tmp_path / "m.tif", np.zeros((40, 50), np.uint8), ODD)
    table = rasters.ClassTable(ODD.names, ODD.colours)
    assert not table.put_into(path)  # it is there already
    data = path.read_bytes()
    for length in (0, 6, 40, len(data) // 2):
        path.write_bytes(data[:length])
        assert not table.put_into(path)


@pytest.mark.skipif(not has_newer_gdal(), reason="no GDAL from 3.12 on comes with pyogrio")
@pytest.mark.parametrize("cog", [False, True])
def test_gdal_reads_the_attribute_table(tmp_path, cog):
    path = write_map(tmp_path / "m.tif", np.zeros((40, 50), np.uint8), ODD, cog=cog)
    import pyogrio

    (library,) = libraries(pyogrio)
    command = [sys.executable, "-c", READ_BY_NEWER_GDAL, str(path), str(library)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found == {"uses": [VALUE, NAME, RED, GREEN, BLUE], "rows": expected_table(ODD)}
    assert [each.name for each in tmp_path.iterdir()] == ["m.tif"]


def test_overviews_hold_the_commonest_class(tmp_path):
    """One corner of each block of four is of another class: nearest shows nothing else."""
    labels_HW = np.full((1200, 1100), 1, np.uint8)
    labels_HW[:, 550:] = 4
    labels_HW[::2, ::2] = 5
    labels_HW[:100] = 255
    path = write_map(tmp_path / "m.tif", labels_HW, cog=True)
    (half_HW,) = overview(path)
    assert half_HW.shape == (600, 550)
    assert (half_HW[:50] == 255).all()
    assert (half_HW[50:, :275] == 1).all()
    assert (half_HW[50:, 275:] == 4).all()


@pytest.mark.parametrize("label_map", [LABELS, MANY], ids=["uint8", "uint16"])
def test_overviews_invent_no_class(tmp_path, label_map):
    ids = np.array([0, 2, len(label_map) - 1, label_map.ignore_index], label_map.dtype)
    blocks_HW = np.random.default_rng(0).choice(ids, (400, 380))
    labels_HW = blocks_HW.repeat(3, axis=0).repeat(3, axis=1)
    path = write_map(tmp_path / "m.tif", labels_HW, label_map, cog=True)
    with rasterio.open(path) as dataset:
        levels = len(dataset.overviews(1))
    assert levels >= 2
    for level in range(levels):
        assert np.isin(overview(path, level), ids).all()


def test_overviews_of_probabilities_are_means(tmp_path):
    values_KHW = np.random.default_rng(0).random((2, 1100, 1200), np.float32)
    values_KHW[:, :101] = np.nan
    path = tmp_path / "p.tif"
    rasters.write_rows(
        path,
        grid(1100, 1200),
        [values_KHW],
        dtype="float32",
        nodata=float("nan"),
        band_names=("a", "b"),
        tags={},
        cloud_optimised=True,
    )
    half_KHW = overview(path)
    blocks = values_KHW.reshape(2, 550, 2, 600, 2)
    np.testing.assert_allclose(half_KHW[:, 51:], blocks[:, 51:].mean((2, 4)), atol=1e-6)
    # One row of these blocks holds no data: the mean is of the other one.
    np.testing.assert_allclose(half_KHW[:, 50], blocks[:, 50, 1].mean(2), atol=1e-6)
    assert np.isnan(half_KHW[:, :50]).all()


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_the_file_does_not_depend_on_how_its_rows_come(tmp_path, monkeypatch, kind):
    """Where GDAL's memory is short, tiles that are filled bit by bit are compressed twice."""
    monkeypatch.setattr(handles, "_CACHE_BYTES", 1 << 18)
    rng = np.random.default_rng(0)
    found = set()
    for rows in (7, 100, 256, 300, 700):
        path = tmp_path / f"{rows}.tif"
        if kind == "classes":
            labels_HW = rng.integers(0, 6, (700, 900), np.uint8)
            rng = np.random.default_rng(0)
            write_map(path, labels_HW, rows=rows)
        else:
            rng = np.random.default_rng(0)
            values_KHW = rng.random((3, 700, 900), np.float32)
            groups = (values_KHW[:, row : row + rows] for row in range(0, 700, rows))
            names = ("a", "b", "c")
            size = grid(700, 900)
            rasters.write_rows(
                path, size, groups, dtype="float32", nodata=np.nan, band_names=names, tags={}
            )
        found.add(path.read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
def test_cloud_optimised_files_are_valid(tmp_path, kind):
    cogeo = pytest.importorskip("rio_cogeo")
    path = tmp_path / "m.tif"
    if kind == "classes":
        labels_HW = np.random.default_rng(0).integers(0, 3, (1100, 1300), np.uint8)
        write_map(path, labels_HW, ODD, cog=True)
    else:
        rasters.write_rows(
            path,
            grid(1100, 1300),
            [np.random.default_rng(0).random((2, 1100, 1300), np.float32)],
            dtype="float32",
            nodata=np.nan,
            band_names=("a", "b"),
            tags={},
            cloud_optimised=True,
        )
    assert cogeo.cog_validate(path, strict=True, quiet=True) == (True, [], [])


def entries(path):
    return [
        (entry.get("value"), entry.get("label"), entry.get("color"))
        for entry in Xml.parse(path).iter("paletteEntry")
    ]


def test_the_style_names_the_classes(tmp_path):
    qgis_styles.write_map_style(tmp_path / "m.qml", ODD)
    assert entries(tmp_path / "m.qml") == [
        (str(k), each.name, each.colour.lower()) for k, each in enumerate(ODD.classes)
    ]


def test_the_style_is_a_planned_file(tmp_path):
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (60, 50, 3))
    out, style = tmp_path / "map.tif", tmp_path / "map.qml"
    tiling = Tiling(tile=32, overlap=12)
    said = []
    progress = SimpleNamespace(say=said.append, advance=Silent().advance)

    def run(**settings):
        settings = Settings(tiling=tiling, **settings)
        return predict.predict(model, source, out, settings, progress=progress)

    style.write_text("mine")
    with pytest.raises(CheckpointError, match=r"SEG-C002(.*\n)+.*map\.qml"):
        run()
    assert style.read_text() == "mine"
    assert not out.exists()
    run(overwrite=True)
    assert entries(style)[5] == ("5", "class 5", "#c800ff")
    before = out.read_bytes()
    # A map of an earlier version, without a style: no row is predicted again.
    style.unlink()
    assert run(resume=True) == []
    assert entries(style)[5] == ("5", "class 5", "#c800ff")
    assert out.read_bytes() == before
    style.write_text("mine")
    assert run(resume=True) == []
    assert style.read_text() == "mine"


class WaitsForTheMap:
    """Does bands of rows in this process, the last one when the map has begun to be written."""

    size = 3

    def __init__(self, model):
        self.trainer = saved_model.load(model)[1]
        self.map_was_there = False

    def do(self, tasks):
        *first, last = list(tasks)
        for task in (*first, last):
            if task is last:
                ends = time.monotonic() + 20
                unfinished = last.folder.parent / "map.tif"
                while not unfinished.exists() and time.monotonic() < ends:
                    time.sleep(0.02)
                self.map_was_there = unfinished.exists()
            jobs.work(self.trainer, task, lambda: None)
            yield task


def test_the_map_is_written_while_rows_are_made(tmp_path):
    """Areas are added up on the way; waiting for them, the map came after all rows."""
    model = make_model(tmp_path / "model")
    make_scene(tmp_path / "s.tif", (700, 60, 3), nodata=0)
    card, settings = saved_model.read_card(model), Settings(tiling=Tiling(tile=32, overlap=12))
    (work,) = predict.plan_outputs([tmp_path / "s.tif"], tmp_path / "m.tif", settings)
    scene = predict.open_scene(tmp_path / "s.tif", card, settings, Silent())
    order = predict.order_for(scene, card, work, settings, ("model",))
    executor = WaitsForTheMap(model)
    list(map_writer.make_maps([order], executor))
    assert executor.map_was_there
    added_up = class_areas.read(tmp_path / "m_areas.csv")
    of_the_file = class_areas.of_map(tmp_path / "m.tif")
    assert [each.pixels for each in added_up] == [each.pixels for each in of_the_file]
