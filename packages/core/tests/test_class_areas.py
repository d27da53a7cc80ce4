"""Areas of the classes of a map: on the ground in any CRS, and beside every predicted map."""

from __future__ import annotations

import csv
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import shapely
from affine import Affine

from terrazzo.base.errors import CheckpointError, DataError
from terrazzo.base.progress import Silent
from terrazzo.data import class_areas, class_map, ground
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.inference import map_writer
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict as predict_scenes
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.testing.scenes import UTM, make_model, make_scene

SMALL = Tiling(tile=32, overlap=12)
NAMES = LabelMap("three", tuple(LabelClass(n, "#102030", (0,)) for n in ("a", "=b", "c")))
PLACES = {
    "UTM": ("EPSG:32633", Affine(10, 0, 392_000, 0, -10, 5_820_000)),
    "turned": ("EPSG:32633", Affine(0.3, 0.4, 392_000, 0.4, -0.3, 5_820_000)),
    "degrees": ("EPSG:4326", Affine(1e-4, 0, 13, 0, -1e-4, 60)),
    "coarse degrees": ("EPSG:4326", Affine(0.5, 0, -170, 0, -0.5, 80)),
    "Mercator": ("EPSG:3857", Affine(30, 0, 1_000_000, 0, -30, 8_400_000)),
    "feet": ("EPSG:2264", Affine(10, 0, 2_000_000, 0, -10, 700_000)),
    "pole": ("EPSG:3413", Affine(5_000, 0, -900_000, 0, -5_000, 700_000)),
    "large pixels": ("EPSG:32633", Affine(600, 0, 392_000, 0, -600, 5_820_000)),
}


def write_map(path, labels_HW, crs, transform, nodata=255):
    rasters.write(path, labels_HW[..., None], crs=crs, transform=transform, nodata=nodata)
    return path


def noise(shape, dtype="uint8", seed=0, nodata=255):
    rng = np.random.default_rng(seed)
    labels_HW = rng.choice([0, 1, 2, nodata], shape, p=[0.5, 0.3, 0.1, 0.1]).astype(dtype)
    labels_HW[: shape[0] // 3] %= 2  # more of one in the north
    labels_HW[:5, :7] = nodata
    return labels_HW


@pytest.mark.parametrize("place", PLACES)
def test_areas_are_those_of_every_pixel_by_itself(tmp_path, place):
    labels_HW = noise((130, 170))
    info = rasters.info(write_map(tmp_path / "m.tif", labels_HW, *PLACES[place]))
    rows, columns = np.indices(labels_HW.shape).reshape(2, -1)
    pixels = shapely.box(columns, rows, columns + 1, rows + 1)
    square_metres = ground.areas_m2(pixels, info)  # as polygons have them
    found = class_areas.of_map(tmp_path / "m.tif")
    assert [each.id for each in found] == [0, 1, 2, None]
    for each in found:
        inside = labels_HW.reshape(-1) == (255 if each.id is None else each.id)
        assert each.pixels == inside.sum()
        assert each.hectares == pytest.approx(square_metres[inside].sum() / 1e4, rel=1e-7)
    total = sum(each.hectares for each in found[:-1])
    assert [each.share for each in found[:-1]] == pytest.approx(
        [each.hectares / total for each in found[:-1]]
    )


def test_pixels_at_the_edge_of_a_projection_count(tmp_path):
    """Beyond the disc of the Earth there is no data; up to it every pixel has an area."""
    place = ("+proj=ortho +lon_0=10 +ellps=WGS84", Affine(1, 0, 6_378_137 - 96, 0, -1, 30))
    labels_HW = np.ones((60, 170), np.uint8)
    info = rasters.info(write_map(tmp_path / "s.tif", labels_HW, *place))
    rows, columns = np.indices(labels_HW.shape).reshape(2, -1)
    square_metres = ground.areas_m2(shapely.box(columns, rows, columns + 1, rows + 1), info)
    labels_HW[np.isnan(square_metres).reshape(labels_HW.shape)] = 255
    assert 0.3 < (labels_HW == 255).mean() < 0.6
    inside, beyond = class_areas.of_map(write_map(tmp_path / "m.tif", labels_HW, *place))
    assert inside.hectares == pytest.approx(np.nansum(square_metres) / 1e4, rel=0.01)
    assert np.isnan(beyond.hectares)


def test_the_whole_world_has_its_area(tmp_path):
    path = write_map(
        tmp_path / "m.tif",
        np.ones((360, 720), np.uint8),
        "EPSG:4326",
        Affine(0.5, 0, -180, 0, -0.5, 90),
    )
    (world, _) = class_areas.of_map(path)
    assert world.hectares == pytest.approx(51_006_562_172.4089, rel=1e-9)


def test_a_degree_map_is_not_counted_in_pixels(tmp_path):
    labels_HW = np.repeat(np.array([0, 1], np.uint8), 70)[:, None] * np.ones((1, 9), np.uint8)
    path = write_map(tmp_path / "m.tif", labels_HW, "EPSG:4326", Affine(0.5, 0, 0, 0, -0.5, 70))
    north, south, _ = class_areas.of_map(path)
    assert north.pixels == south.pixels
    assert north.share < 0.4 < 0.6 < south.share


@pytest.mark.parametrize(
    ("dtype", "ids", "nodata"),
    [("uint8", [10, 20, 95], 0), ("uint16", [7, 300, 65_000], 65_535), ("int16", [-5, 0, 9], None)],
)
def test_ids_are_what_the_file_has(tmp_path, dtype, ids, nodata):
    rng = np.random.default_rng(3)
    labels_HW = rng.choice(ids + ([] if nodata is None else [nodata]), (300, 40)).astype(dtype)
    path = write_map(tmp_path / "m.tif", labels_HW, *PLACES["UTM"], nodata)
    found = class_areas.of_map(path)
    assert [each.id for each in found] == [*ids, None]
    for each in found:
        value = nodata if each.id is None else each.id
        assert each.pixels == (0 if value is None else (labels_HW == value).sum())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_without_a_place_areas_are_not_known_and_shares_are_of_pixels(tmp_path):
    labels_HW = noise((40, 30))
    found = class_areas.of_map(write_map(tmp_path / "m.tif", labels_HW, None, None))
    assert all(np.isnan(each.hectares) for each in found)
    assert found[0].share == (labels_HW == 0).sum() / (labels_HW != 255).sum()
    class_areas.write(tmp_path / "a.csv", found)
    assert class_areas.read(tmp_path / "a.csv")[0].pixels == found[0].pixels
    assert (tmp_path / "a.csv").read_text().splitlines()[1].startswith("0,class 0,")
    assert ",," in (tmp_path / "a.csv").read_text()
    assert "unknown" in class_areas.text_lines(found)[1]


def test_names_come_from_the_map_and_classes_without_pixels_are_told(tmp_path):
    info = rasters.info(write_map(tmp_path / "s.tif", noise((20, 20)), *PLACES["UTM"]))
    labels_HW = np.zeros((20, 20), np.uint8)
    map_writer.write_map(tmp_path / "m.tif", info, [labels_HW], NAMES)
    found = class_areas.of_map(tmp_path / "m.tif")
    again = class_areas.of_groups([labels_HW], info, NAMES, tmp_path / "m.tif")
    assert repr(found) == repr(again)  # a share may be NaN, which Python 3.13 takes for unequal
    assert [(each.name, each.pixels) for each in found] == [
        ("a", 400), ("=b", 0), ("c", 0), (class_areas.NODATA, 0)
    ]  # fmt: skip
    assert found[1].hectares == 0
    class_areas.write(tmp_path / "a.csv", found)
    assert [each.name for each in class_areas.read(tmp_path / "a.csv")][1] == "=b"
    assert "'=b" in (tmp_path / "a.csv").read_text()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("classes", [2, 7, 40])
@pytest.mark.parametrize("width", [1, 70_001])  # which is more than is looked at together
def test_classes_are_counted_by_row(dtype, classes, width):
    rng = np.random.default_rng(classes)
    labels_RW = rng.choice([*range(classes), 255], (5, 2 * width)).astype(dtype)[:, ::2]
    valid_RW = rng.random((5, width)) < 0.9
    ids = np.array([*range(classes), 255])
    expected = [[np.count_nonzero(labels_W == id_) for id_ in ids] for labels_W in labels_RW]
    assert np.array_equal(class_map.counts_by_row(labels_RW, ids), expected)
    kept_RW = np.where(valid_RW, labels_RW, 254)
    expected = [[np.count_nonzero(labels_W == id_) for id_ in ids] for labels_W in kept_RW]
    assert np.array_equal(class_map.counts_by_row(labels_RW, ids, valid_RW), expected)


@pytest.mark.parametrize("place", ["UTM", "degrees", None])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_classes_that_come_late_are_counted_as_well(tmp_path, place, dtype):
    """Classes of the rows before are looked for first; all are found, whatever the order."""
    ids = [(5,), (5, 3), (3, 5), (9,), (), tuple(range(30)), (29, 0), (4,)]
    rng = np.random.default_rng(0)
    groups = [rng.choice([*some, 100], (3, 50)).astype(dtype) for some in ids]
    info = rasters.info(
        write_map(
            tmp_path / "m.tif",
            np.zeros((3 * len(ids), 50), np.uint8),
            *(PLACES[place] if place else (None, None)),
        )
    )
    pairs = [(labels_RW, labels_RW != 100) for labels_RW in groups]
    areas = ground.PixelAreas(info)
    found = class_map.sums_by_row(pairs, info, tmp_path / "m.tif")
    for sums, labels_RW in zip(found, groups, strict=True):
        there = np.setdiff1d(labels_RW, [100])
        assert sums.ids_V.tolist() == there.tolist()
        for row, labels_W in enumerate(labels_RW):
            counts = [np.count_nonzero(labels_W == id_) for id_ in (*there, 100)]
            assert [*sums.pixels_RV[row], sums.nodata_R[row]] == counts
            areas_W = areas.row(sums.first_row + row, np.ones(50, bool))
            expected = [areas_W[labels_W == id_].sum() for id_ in (*there, 100)]
            if place is None:
                expected = [np.nan] * len(expected)
            assert [*sums.areas_RV[row], sums.nodata_areas_R[row]] == pytest.approx(
                expected, rel=1e-12, nan_ok=True
            )


def test_numbers_of_the_rows_before_take_no_memory(tmp_path):
    """As of a map of objects, each with a number of its own: no group of rows has them all."""
    info = rasters.info(
        write_map(tmp_path / "m.tif", np.zeros((80, 500), np.uint8), *PLACES["UTM"])
    )

    def peak(num_groups):
        groups = (
            np.arange(500, dtype=np.uint16).repeat(8).reshape(500, 8).T + 500 * number
            for number in range(num_groups)
        )
        pairs = ((labels_RW, np.ones(labels_RW.shape, bool)) for labels_RW in groups)
        tracemalloc.start()
        try:
            ids = [sums.ids_V[0] for sums in class_map.sums_by_row(pairs, info, tmp_path)]
            assert ids == [500 * number for number in range(num_groups)]
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is imported and kept
    assert peak(10) < 1.5 * peak(2)


def test_an_image_is_no_map(tmp_path):
    rng = np.random.default_rng(0)
    pixels_HW = rng.integers(0, 2**31, (20, 20), np.int32)
    with pytest.raises(DataError, match="SEG-D081"):
        class_areas.of_map(write_map(tmp_path / "m.tif", pixels_HW, *PLACES["UTM"], None))
    with pytest.raises(DataError, match="SEG-D007"):
        class_map.open_map(make_scene(tmp_path / "s.tif", (9, 9, 3)))


def areas_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_map_of_a_scene_has_its_areas(tmp_path):
    model = make_model(tmp_path / "model")
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        make_scene(tmp_path / "in" / f"{name}.tif", (300, 50, 3), nodata=0)
    settings = Settings(tiling=SMALL)
    made = predict_scenes(model, [tmp_path / "in"], tmp_path / "out", settings, progress=Silent())
    for name, written in zip("ab", made, strict=True):
        assert written.areas == tmp_path / "out" / f"{name}_areas.csv"
        labels_HW = rasters.read(written.path)[0][..., 0]
        rows = areas_csv(written.areas)
        assert [int(row["pixels"]) for row in rows[:-1]] == written.tally.pixels_K.tolist()
        assert rows[-1]["class_name"] == class_areas.NODATA
        assert int(rows[-1]["pixels"]) == (labels_HW == 255).sum() > 0
        hectares = sum(float(row["hectares"]) for row in rows)
        width, height = ground.pixel_sides(rasters.info(written.path))
        assert hectares == pytest.approx(labels_HW.size * width * height / 1e4, rel=1e-6)
        assert sum(float(row["share"]) for row in rows[:-1]) == pytest.approx(1)


def test_areas_follow_the_rules_of_other_outputs(tmp_path):
    model = make_model(tmp_path / "model")
    source, out = make_scene(tmp_path / "s.tif", (60, 50, 3), nodata=0), tmp_path / "m.tif"

    def predict(**settings):
        settings = Settings(tiling=SMALL, **settings)
        return predict_scenes(model, [source], out, settings, progress=Silent())

    predict()
    areas = tmp_path / "m_areas.csv"
    before, map_bytes = areas.read_bytes(), out.read_bytes()
    with pytest.raises(CheckpointError, match="SEG-C002"):
        predict()
    out.unlink()
    with pytest.raises(CheckpointError, match="SEG-C002") as caught:
        predict()
    assert "m_areas.csv" in str(caught.value)
    predict(overwrite=True)
    assert out.read_bytes() == map_bytes
    areas.unlink()  # as with a map of an earlier version: nothing is predicted again
    made = out.stat().st_mtime_ns
    assert predict(resume=True) == []
    assert areas.read_bytes() == before
    assert out.stat().st_mtime_ns == made
    areas.write_text("others'\n")
    assert predict(resume=True) == []
    assert areas.read_text() == "others'\n"


def test_the_command_prints_the_areas(tmp_path):
    model = make_model(tmp_path / "model")
    source = make_scene(tmp_path / "s.tif", (40, 50, 3), nodata=0, **UTM)
    answer = subprocess.run(
        [sys.executable, "-m", "terrazzo", "predict", model, source, "--out", tmp_path / "m.tif"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = answer.stdout.splitlines()
    assert lines[1].split() == ["class", "pixels", "hectares", "share"]
    assert lines[2].startswith("  class 0")
    assert lines[-1].startswith(f"  {class_areas.NODATA}")
