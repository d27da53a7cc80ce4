"""Reference points drawn from maps: where they lie, how many, how likely, and from what."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from affine import Affine

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.data import class_map, ground, point_sampling
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.point_sampling import Design
from terrazzo.inference import map_writer
from terrazzo.io import rasters
from terrazzo.workflows.sample import sample

pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")

UTM = ("EPSG:32633", Affine(10, 0, 392_000, 0, -10, 5_820_000))
DEGREES = ("EPSG:4326", Affine(0.25, 0, 10, 0, -0.25, 75))
MERCATOR = ("EPSG:3857", Affine(3_000, 0, 1_000_000, 0, -3_000, 12_000_000))
NAMES = LabelMap(
    "three", tuple(LabelClass(n, "#102030", (0,)) for n in ("forest", "crop", "water"))
)


def blocks(shape, dtype=np.uint8, nodata=255):
    """Return three classes, one of them rare, and a corner without data."""
    labels_HW = np.zeros(shape, dtype)
    labels_HW[:, shape[1] // 2 :] = 1
    labels_HW[-9:, -20:] = 2
    labels_HW[:30, :30] = nodata
    return labels_HW


def write_map(path, labels_HW, place=UTM, nodata=255):
    rasters.write(path, labels_HW[..., None], crs=place[0], transform=place[1], nodata=nodata)
    return path


def read_points(path):
    meta, _, geometry, fields = pyogrio.raw.read(path)
    columns = dict(zip(meta["fields"], fields, strict=True))
    return meta, shapely.get_coordinates(shapely.from_wkb(geometry)), columns


@pytest.mark.parametrize("kind", point_sampling.KINDS)
@pytest.mark.parametrize("place", [UTM, DEGREES, MERCATOR], ids=["UTM", "degrees", "Mercator"])
@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 255), ("uint16", 0), ("int16", -1)])
def test_points_lie_at_centres_of_pixels_that_have_a_class(tmp_path, kind, place, dtype, nodata):
    labels_HW = blocks((300, 200), dtype, nodata)
    if nodata == 0:  # forest becomes no data, too
        labels_HW[labels_HW == 0] = 3
        labels_HW[:30, :30] = 0
    path = write_map(tmp_path / "m.tif", labels_HW, place, nodata)
    out = tmp_path / "p.gpkg"
    drawn = sample(path, out, Design(200, kind, min_per_class=20, seed=3))
    meta, xy_N2, fields = read_points(out)
    assert meta["crs"] == place[0]
    columns_N, rows_N = rasters.info(path).to_pixels(*xy_N2.T)
    np.testing.assert_allclose(columns_N % 1, 0.5, atol=1e-6)
    np.testing.assert_allclose(rows_N % 1, 0.5, atol=1e-6)
    there_N = labels_HW[rows_N.astype(int), columns_N.astype(int)]
    assert (there_N != nodata).all()
    np.testing.assert_array_equal(fields["map_class"], there_N)
    assert len({*map(tuple, xy_N2)}) == len(xy_N2) == len(drawn.rows_N)
    assert all(value is None for value in fields["reference"])
    assert set(fields["design"]) == {kind}
    if kind == "systematic":
        assert len(xy_N2) == pytest.approx(200, rel=0.2)
    else:
        assert len(xy_N2) == 200
    width, height = ground.pixel_sides(rasters.info(path))
    if place is UTM:
        hectares = (labels_HW != nodata).sum() * width * height / 1e4
        assert fields["weight"].sum() == pytest.approx(hectares, rel=1e-5)
    if kind == "stratified":
        np.testing.assert_array_equal(fields["stratum"], there_N)
        assert (fields["stratum"] == 2).sum() == 20
        for id_ in np.unique(there_N):
            of_stratum = fields["stratum"] == id_
            assert set(fields["stratum_px"][of_stratum]) == {(labels_HW == id_).sum()}


def test_names_of_the_map_are_told(tmp_path):
    info = rasters.info(write_map(tmp_path / "s.tif", blocks((300, 200))))
    map_writer.write_map(
        tmp_path / "m.tif", info, [blocks((300, 200))[:256], blocks((300, 200))[256:]], NAMES
    )
    sample(tmp_path / "m.tif", tmp_path / "p.gpkg", Design(60, min_per_class=10))
    _, _, fields = read_points(tmp_path / "p.gpkg")
    named = {*zip(fields["map_class"].tolist(), fields["map_name"].tolist(), strict=True)}
    assert named == {(0, "forest"), (1, "crop"), (2, "water")}


def test_the_seed_alone_decides(tmp_path):
    path = write_map(tmp_path / "m.tif", blocks((300, 200)))
    found = []
    for number, seed in enumerate((5, 5, 6)):
        out = tmp_path / f"{number}.gpkg"
        sample(path, out, Design(100, min_per_class=10, seed=seed))
        found.append(read_points(out)[1])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_shares_of_the_points():
    rows = {
        id_: point_sampling._Rows(np.array([pixels]), np.array([float(pixels)]))
        for id_, pixels in enumerate((7, 300, 60_000, 40_000))
    }
    counts = point_sampling._allocate(Design(400, min_per_class=50), rows)
    assert counts == {0: 7, 1: 50, 2: 206, 3: 137}
    assert sum(point_sampling._allocate(Design(107, min_per_class=25), rows).values()) == 107
    with pytest.raises(ConfigError, match="SEG-X095") as caught:
        point_sampling._allocate(Design(150, min_per_class=50), rows)
    assert "157 points or more" in str(caught.value)


@pytest.mark.parametrize("kind", point_sampling.KINDS)
def test_a_square_metre_has_the_same_chance_at_every_latitude(tmp_path, kind):
    """From 75 to 15 degrees north a pixel becomes four times as large."""
    labels_HW = np.zeros((240, 50), np.uint8)
    source = class_map.open_map(write_map(tmp_path / "m.tif", labels_HW, DEGREES))
    (sums,) = class_map.sums_by_row(source.groups(), source.info, source.path)
    north_share = sums.areas_RV[:120].sum() / sums.areas_RV.sum()
    assert north_share < 0.37
    drawn = [point_sampling.draw(source, Design(200, kind, seed=seed)).rows_N for seed in range(25)]
    share = np.mean(np.concatenate(drawn) < 120)
    assert share == pytest.approx(north_share, abs=0.025)


def test_all_pixels_of_a_small_class_are_taken(tmp_path):
    labels_HW = blocks((60, 60))
    labels_HW[labels_HW == 2] = 1
    labels_HW[50, 50:53] = 2
    path = write_map(tmp_path / "m.tif", labels_HW)
    sample(path, tmp_path / "p.gpkg", Design(40, min_per_class=10))
    _, _, fields = read_points(tmp_path / "p.gpkg")
    assert (fields["stratum"] == 2).sum() == 3


@pytest.mark.parametrize("kind", ["stratified", "simple"])
def test_points_keep_a_distance_on_the_ground(tmp_path, kind):
    path = write_map(tmp_path / "m.tif", blocks((300, 200)), MERCATOR)
    out = tmp_path / "p.gpkg"
    sample(path, out, Design(40, kind, min_per_class=5, min_distance=4_000))
    _, xy_N2, _ = read_points(out)
    info = rasters.info(path)
    place = ground.of_raster(info)
    at_N2 = np.stack(info.to_pixels(*xy_N2.T), axis=1)
    metres = [
        place.metres(np.stack([one, other]))
        for number, one in enumerate(at_N2)
        for other in at_N2[:number]
    ]
    assert 4_000 <= min(metres) < 20_000
    with pytest.raises(DataError, match="SEG-D082"):
        sample(path, tmp_path / "q.gpkg", Design(400, kind, min_distance=90_000))
    assert not (tmp_path / "q.gpkg").exists()


def test_only_the_rows_that_are_looked_at_are_in_memory(tmp_path, monkeypatch):
    path = write_map(tmp_path / "m.tif", blocks((900, 200)))
    most = []
    read = rasters.read_label_with_mask

    def noted(path, row, column, rows, columns):
        most.append(rows)
        return read(path, row, column, rows, columns)

    monkeypatch.setattr(rasters, "read_label_with_mask", noted)
    sample(path, tmp_path / "p.gpkg", Design(60, min_per_class=10))
    assert max(most) <= class_map.ROWS_AT_ONCE < 900


@pytest.mark.parametrize(
    ("design", "code"),
    [
        (Design(0), "SEG-X095"),
        (Design(100, min_per_class=1), "SEG-X095"),
        (Design(100, min_distance=-1.0), "SEG-X095"),
        (Design(100, "systematic", min_distance=5.0), "SEG-X095"),
        (Design(100, "random"), "SEG-X004"),
        (Design(100, min_per_class=50), "SEG-X095"),
    ],
)
def test_designs_that_cannot_be_are_refused(tmp_path, design, code):
    path = write_map(tmp_path / "m.tif", blocks((100, 100)))
    with pytest.raises(ConfigError, match=code):
        sample(path, tmp_path / "p.gpkg", design)
    assert not (tmp_path / "p.gpkg").exists()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_without_a_place_is_sampled_in_pixels(tmp_path):
    path = write_map(tmp_path / "m.tif", blocks((100, 100)), (None, None))
    drawn = sample(path, tmp_path / "p.gpkg", Design(60, min_per_class=10))
    assert all(np.isnan(each.hectares) for each in drawn.strata)
    _, _, fields = read_points(tmp_path / "p.gpkg")
    assert fields["weight"].sum() == pytest.approx((blocks((100, 100)) != 255).sum())
    with pytest.raises(ConfigError, match="SEG-X095"):
        sample(path, tmp_path / "q.gpkg", Design(60, min_distance=3.0))


def test_a_map_of_nothing_and_places_that_are_taken(tmp_path):
    empty = write_map(tmp_path / "e.tif", np.full((20, 20), 255, np.uint8))
    with pytest.raises(DataError, match="SEG-D082"):
        sample(empty, tmp_path / "p.gpkg", Design(10))
    path = write_map(tmp_path / "m.tif", blocks((100, 100)))
    design = Design(60, min_per_class=10)
    with pytest.raises(ConfigError, match="SEG-X032"):
        sample(path, tmp_path / "p.shp", design)
    sample(path, tmp_path / "p.gpkg", design)
    before = (tmp_path / "p.gpkg").read_bytes()
    with pytest.raises(CheckpointError, match="SEG-C002"):
        sample(path, tmp_path / "p.gpkg", design)
    assert (tmp_path / "p.gpkg").read_bytes() == before
    sample(path, tmp_path / "p.gpkg", Design(61, min_per_class=10), overwrite=True)
    assert len(read_points(tmp_path / "p.gpkg")[1]) == 61
    assert sorted(each.name for each in tmp_path.iterdir()) == ["e.tif", "m.tif", "p.gpkg"]


def test_the_command(tmp_path):
    path = write_map(tmp_path / "m.tif", blocks((100, 100)))
    words = [
        "sample",
        path,
        "--points",
        "90",
        "--min-per-class",
        "20",
        "--out",
        tmp_path / "p.gpkg",
    ]
    answer = subprocess.run(
        [sys.executable, "-m", "terrazzo", *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "90 points" in answer.stdout
    assert answer.stdout.splitlines()[0].split() == ["stratum", "hectares", "points"]
