"""Small patches given to a neighbour: as GDAL does, however the rows come."""

from __future__ import annotations

import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from affine import Affine
from rasterio import features
from rasterio.crs import CRS

from terrazzo.base.errors import ConfigError
from terrazzo.base.progress import Silent
from terrazzo.data import ground
from terrazzo.inference.min_area import MinArea
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import images, rasters
from terrazzo.io.rasters import RasterInfo, pixel_runs
from terrazzo.testing.scenes import make_model, make_scene

try:
    import pyogrio
except ImportError:
    pyogrio = None

needs_extra = pytest.mark.skipif(pyogrio is None, reason="terrazzo[vector] is not installed")


def speckled(seed, dtype="uint8", nodata=255):
    """Large patches of three classes, a part without data, and speckles on them."""
    rng = np.random.default_rng(seed)
    layers_KHW = [cv2.GaussianBlur(rng.random((60, 70)), (0, 0), 4) for _ in range(4)]
    labels_HW = np.argmax(layers_KHW, axis=0).astype(dtype)
    speckles_HW = (rng.random(labels_HW.shape) < 0.03) & (labels_HW != 3)
    labels_HW[speckles_HW] = (labels_HW[speckles_HW] + 1) % 3
    labels_HW[labels_HW == 3] = nodata
    return labels_HW


def sieved(labels_HW, least, rows=1000, nodata=255, **settings):
    def groups():
        return (labels_HW[row : row + rows] for row in range(0, len(labels_HW), rows))

    parts = list(rasters.sieved(groups, nodata, least, **settings)())
    assert [len(part) for part in parts] == [len(group) for group in groups()]
    return np.concatenate(parts)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint16", 65535), ("uint8", 0)])
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("least", [2, 5, 30])
def test_it_is_that_of_gdal(connectivity, least, dtype, nodata):
    changed = 0
    for seed in range(4):
        labels_HW = speckled(seed, dtype, nodata)
        expected_HW = features.sieve(
            labels_HW, least, mask=labels_HW != nodata, connectivity=connectivity
        )
        expected_HW[labels_HW == nodata] = nodata
        found_HW = sieved(labels_HW, least, nodata=nodata, connectivity=connectivity)
        np.testing.assert_array_equal(found_HW, expected_HW)
        changed += (found_HW != labels_HW).sum()
    assert changed > 100


@pytest.mark.parametrize("connectivity", [4, 8])
def test_it_does_not_depend_on_the_strips(connectivity, monkeypatch):
    rng = np.random.default_rng(0)
    for labels_HW in (speckled(0), rng.integers(0, 3, (40, 30), np.uint8)):
        whole_HW = sieved(labels_HW, 6, connectivity=connectivity)
        for rows in (1, 3, 16):
            found_HW = sieved(labels_HW, 6, rows, connectivity=connectivity)
            np.testing.assert_array_equal(found_HW, whole_HW)
    monkeypatch.setattr(pixel_runs, "_STRIP_PIXELS", 100)
    np.testing.assert_array_equal(sieved(labels_HW, 6, connectivity=connectivity), whole_HW)


def test_of_equal_neighbours_the_first_one_takes():
    labels_HW = np.array([[1, 1, 0, 2, 2]], np.uint8)
    assert sieved(labels_HW, 2).tolist() == [[1, 1, 1, 2, 2]]
    assert sieved(labels_HW[:, ::-1], 2).tolist() == [[2, 2, 2, 1, 1]]
    assert sieved(labels_HW.T, 2, rows=1).T.tolist() == [[1, 1, 1, 2, 2]]
    between = np.array([[1, 1, 2, 2], [1, 0, 0, 2], [1, 1, 2, 2]], np.uint8)
    assert sieved(between, 3)[1].tolist() == [1, 1, 1, 2]


def test_small_ones_lead_to_a_large_one_or_stay():
    row = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    assert sieved(np.array([row], np.uint8), 4).tolist() == [[3] * 10]
    assert sieved(np.array([row], np.uint8), 5).tolist() == [row]
    alone = [0, 255, 1, 1]
    assert sieved(np.array([alone], np.uint8), 2).tolist() == [alone]


def test_areas_are_those_on_the_ground():
    """In Web Mercator at 60 degrees north pixels of 10 m are 25 m2, at the equator 100."""
    crs = CRS.from_epsg(3857)
    labels_HW = np.ones((41, 60), np.uint8)
    for column, length in enumerate(range(1, 21)):
        labels_HW[20, 3 * column] = 0
        labels_HW[21 : 20 + length, 3 * column] = 0
    for top, metres in ((0.0, 100.0), (8_399_737.9, 25.0)):
        place = Affine(10, 0, 0, 0, -10, top + 205)
        size = RasterInfo(41, 60, ("class",), "uint8", 255, crs, place, "uint8")
        assert ground.pixel_sides(size)[0] ** 2 == pytest.approx(metres, rel=0.01)
        for text in ("440m2", "0.044ha", "0.00044km2", "440 m²"):
            wanted = MinArea.parse(text)
            (found_HW,) = wanted.sieved(lambda: [labels_HW], size, 255)()
            kept = (found_HW == 0).sum(axis=0)[::3]
            lengths = np.arange(1, 21)
            np.testing.assert_array_equal(kept, np.where(lengths * metres < 440, 0, lengths))
        (found_HW,) = MinArea.parse("7px").sieved(lambda: [labels_HW], size, 255)()
        assert (found_HW == 0).sum() == np.arange(7, 21).sum()


@pytest.mark.parametrize(
    "text", ["", "500", "m2", "-1m2", "0px", "infm2", "nanha", "1.2.3m2", "3ft"]
)
def test_what_is_no_area_is_refused(text):
    with pytest.raises(ConfigError) as caught:
        MinArea.parse(text)
    assert caught.value.code == "SEG-X092"


@needs_extra
def test_options_without_what_they_change_are_refused(tmp_path):
    area = MinArea.parse("9px")
    source = make_scene(tmp_path / "s.tif", (20, 20, 3))
    for settings in (
        Settings(min_area=area),
        Settings(sieve_map=True),
        Settings(layer_per_class=True),
        Settings(sieve_map=True, polygons=tmp_path / "p.gpkg"),
    ):
        with pytest.raises(ConfigError) as caught:
            predict(make_model(tmp_path / "m"), source, tmp_path / "o.tif", settings)
        assert caught.value.code == "SEG-X094"
    assert not (tmp_path / "o.tif").exists()


def test_square_metres_of_what_lies_nowhere_are_refused(tmp_path):
    model = make_model(tmp_path / "model")
    settings = Settings(min_area=MinArea.parse("9m2"), sieve_map=True)
    nowhere = make_scene(tmp_path / "s.tif", (20, 20, 3), crs=None, transform=None)
    image_HWC = np.zeros((20, 20, 3), np.uint8)
    images.write_png(tmp_path / "a.png", image_HWC)
    for source, out in ((nowhere, "o.tif"), (tmp_path / "a.png", "o")):
        with pytest.raises(ConfigError) as caught:
            predict(model, source, tmp_path / out, settings, progress=Silent())
        assert caught.value.code == "SEG-X093"
        assert caught.value.file == str(source)
        assert not (tmp_path / out).exists()


SMALL = Tiling(tile=32, overlap=12)


def labels_of(path):
    return rasters.read(path)[0][..., 0]


@needs_extra
def test_polygons_and_on_request_the_map_have_no_small_patches(tmp_path):
    model, source = make_model(tmp_path / "model"), tmp_path / "s.tif"
    make_scene(source, (90, 50, 3), nodata=0)
    plain = Settings(tiling=SMALL)
    predict(model, source, tmp_path / "plain.tif", plain, progress=Silent())
    labels_HW = labels_of(tmp_path / "plain.tif")
    expected_HW = sieved(labels_HW, 2)
    assert (expected_HW != labels_HW).sum() > 100
    for sieve_map in (False, True):
        out = tmp_path / f"{sieve_map}.tif"
        polygons = tmp_path / f"{sieve_map}.gpkg"
        settings = Settings(
            tiling=SMALL, polygons=polygons, min_area=MinArea.parse("0.4m2"), sieve_map=sieve_map
        )
        predict(model, source, out, settings, progress=Silent())
        np.testing.assert_array_equal(labels_of(out), expected_HW if sieve_map else labels_HW)
        _, _, _, (ids, _, pixels, areas) = pyogrio.raw.read(polygons, layer="classes")
        counts = np.bincount(ids, pixels, minlength=6)
        np.testing.assert_array_equal(counts, np.bincount(expected_HW.ravel(), minlength=256)[:6])
        assert areas.sum() == pytest.approx(pixels.sum() * 0.25, rel=1e-3)


def test_the_map_is_the_same_with_workers_and_when_it_goes_on(tmp_path):
    model, source = make_model(tmp_path / "model"), tmp_path / "s.tif"
    make_scene(source, (90, 50, 3), nodata=0)
    settings = {"tiling": SMALL, "min_area": MinArea.parse("2px"), "sieve_map": True}
    predict(model, source, tmp_path / "one.tif", Settings(**settings), progress=Silent())
    expected = (tmp_path / "one.tif").read_bytes()
    two = Settings(workers=2, **settings)
    predict(model, source, tmp_path / "two.tif", two, progress=Silent())
    assert (tmp_path / "two.tif").read_bytes() == expected

    class Stopped(Silent):
        def advance(self, done, total, text):
            if done > 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(model, source, tmp_path / "cut.tif", Settings(**settings), progress=Stopped())
    assert not (tmp_path / "cut.tif").exists()
    resumed = Settings(resume=True, **settings)
    predict(model, source, tmp_path / "cut.tif", resumed, progress=Silent())
    assert (tmp_path / "cut.tif").read_bytes() == expected


@needs_extra
def test_images_are_sieved_too(tmp_path):
    model = make_model(tmp_path / "model")
    rng = np.random.default_rng(0)
    images.write_png(tmp_path / "a.png", rng.integers(0, 256, (40, 50, 3), np.uint8))
    settings = {"min_area": MinArea.parse("2px"), "polygons": tmp_path / "p"}
    predict(model, tmp_path / "a.png", tmp_path / "plain", Settings(), progress=Silent())
    labels_HW = images.read_label(tmp_path / "plain" / "a.png", "index")
    expected_HW = sieved(labels_HW, 2)
    sieve = Settings(sieve_map=True, **settings)
    predict(model, tmp_path / "a.png", tmp_path / "sieved", sieve, progress=Silent())
    found_HW = images.read_label(tmp_path / "sieved" / "a.png", "index")
    np.testing.assert_array_equal(found_HW, expected_HW)
    assert (found_HW != labels_HW).any()
    fields = pyogrio.raw.read(tmp_path / "p" / "a.gpkg", layer="classes")[3]
    counts = np.bincount(fields[0], fields[2], minlength=256)
    np.testing.assert_array_equal(counts, np.bincount(expected_HW.ravel(), minlength=256))


def command(module, *words):
    return subprocess.run(
        [sys.executable, "-m", *module, "predict", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


@needs_extra
def test_from_the_command_line_and_after_a_kill(tmp_path):
    model, source = make_model(tmp_path / "model"), tmp_path / "s.tif"
    make_scene(source, (90, 50, 3), nodata=0)
    expected = None
    for name, kill in (("straight", "step:0"), ("killed", "sync:5")):
        out, polygons = tmp_path / f"{name}.tif", tmp_path / f"{name}.gpkg"
        words = (model, source, "--out", out, "--tile", 32, "--overlap", 12, "--sieve-map")
        words += ("--polygons", polygons, "--layer-per-class", "--min-area", "2px")
        answer = command(("terrazzo.testing.kill", kill), *words)
        if name == "killed":
            assert answer.returncode == -signal.SIGKILL
            assert not out.exists()
            assert not polygons.exists()
            answer = command(("terrazzo",), *words, "--resume")
        assert answer.returncode == 0, answer.stderr
        layers = [
            [column.tolist() for column in (*read[1:3], *read[3])]
            for k in range(6)
            for read in [pyogrio.raw.read(polygons, layer=f"{k} class {k}", return_fids=True)]
        ]
        found = (out.read_bytes(), repr(layers))
        assert expected is None or found == expected
        expected = found
    assert (labels_of(out) == sieved(labels_of(out), 2)).all()
    refused = command(("terrazzo",), *words[:-1], "2 feet", "--overwrite")
    assert refused.returncode == 2
    assert "SEG-X092" in refused.stderr
    assert "Traceback" not in refused.stderr
