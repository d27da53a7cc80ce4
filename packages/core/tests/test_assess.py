"""A map assessed by reference points: from the file of points to areas with intervals."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from affine import Affine

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.data import class_areas, point_sampling
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.point_sampling import Design
from terrazzo.evaluation import reference_points, result
from terrazzo.evaluation.result import Evaluation
from terrazzo.inference import map_writer
from terrazzo.io import rasters
from terrazzo.io.rasters import RasterInfo
from terrazzo.metrics import estimate, estimate_by_blocks, estimate_by_map_classes
from terrazzo.testing.compared_runs import write_run
from terrazzo.workflows.assess import FILES, assess
from terrazzo.workflows.sample import sample

pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")

UTM = ("EPSG:32633", Affine(10, 0, 392_000, 0, -10, 5_820_000))
DEGREES = ("EPSG:4326", Affine(0.25, 0, 10, 0, -0.25, 75))
MERCATOR = ("EPSG:3857", Affine(3_000, 0, 1_000_000, 0, -3_000, 12_000_000))
NAMES = ("forest", "crop", "<b>water</b>")


def write_map(path, labels_HW, place=UTM, names=NAMES):
    """Write a map as predict does, with the names of its classes inside."""
    crs = None if place[0] is None else rasterio.crs.CRS.from_user_input(place[0])
    size = RasterInfo(*labels_HW.shape, ("class",), "uint8", 255, crs, place[1], "uint8")
    classes = LabelMap("map", tuple(LabelClass(n, "#102030", (0,)) for n in names))
    groups = [labels_HW[row : row + 256] for row in range(0, len(labels_HW), 256)]
    map_writer.write_map(path, size, groups, classes)
    return path


def map_and_truth(shape=(300, 200), seed=0):
    rng = np.random.default_rng(seed)
    truth_HW = np.zeros(shape, np.uint8)
    truth_HW[:, shape[1] // 2 :] = 1
    truth_HW[-60:, -80:] = 2
    wrong_HW = rng.random(shape) < 0.15
    labels_HW = np.where(wrong_HW, rng.integers(0, 3, shape), truth_HW).astype(np.uint8)
    labels_HW[:20, :30] = 255
    return labels_HW, truth_HW


def fill(points, truth_of, field="reference"):
    """Write the reference of points that lie at the centres of pixels, as a person would."""
    meta, _, geometry, values = pyogrio.raw.read(points)
    fields = dict(zip(meta["fields"].tolist(), values, strict=True))
    xy_N2 = shapely.get_coordinates(shapely.from_wkb(geometry))
    fields[field] = np.array([truth_of(*xy) for xy in xy_N2], dtype=object)
    crs = None if "Undefined" in meta["crs"] else rasterio.crs.CRS.from_user_input(meta["crs"])
    rasters.write_points(points, *xy_N2.T, crs, fields, "reference_points")


def reading(path, truth_HW, names=NAMES):
    """Return what tells the class of a place by its name."""
    info = rasters.info(path)

    def truth_of(x, y):
        column, row = info.to_pixels(x, y)
        return names[truth_HW[int(row), int(column)]]

    return truth_of


PUBLISHED_KK = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
CHANGES = ("deforestation", "forest gain", "stable forest", "stable non-forest")


def published(folder):
    """Write the example of Olofsson et al. 2014 in pixels ten times as large."""
    labels_N = np.repeat(np.arange(4, dtype=np.uint8), [20_000, 15_000, 320_000, 645_000])
    side = 9000**0.5
    place = ("EPSG:6933", Affine(side, 0, 1e6, 0, -side, 5e6))
    path = write_map(folder / "change.tif", labels_N.reshape(1000, 1000), place, CHANGES)
    firsts_K, at, reference = (0, 20_000, 35_000, 355_000), [], []
    for i, row_K in enumerate(PUBLISHED_KK):
        at += [firsts_K[i] + 7 * number for number in range(row_K.sum())]
        reference += np.repeat(CHANGES, row_K).tolist()
    rows_N, columns_N = np.divmod(np.array(at), 1000)
    info = rasters.info(path)
    x_N, y_N = info.to_coordinates(columns_N + 0.5, rows_N + 0.5)
    fields = {"truth": np.array(reference, dtype=object)}
    rasters.write_points(folder / "points.gpkg", x_N, y_N, info.crs, fields, "points")
    return path, folder / "points.gpkg"


def test_the_published_example_from_files_to_the_last_digit(tmp_path):
    path, points = published(tmp_path)
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "terrazzo", "assess", path, "--reference", points),
            *("--class-field", "truth", "--design", "stratified", "--out", tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
        check=True,
        env=None,
    )
    assert "Olofsson" in answer.stdout
    (line,) = [line for line in answer.stdout.splitlines() if "deforestation" in line]
    assert "18,000" in line
    assert "21,158 ± 6,158" in line
    assert "overall accuracy 0.947 ± 0.018" in answer.stdout
    page = (tmp_path / "out" / "assessment.html").read_text("utf-8")
    assert "21,158" in page
    assert "± 6,158" in page
    assert "<td>313</td>" in page
    with (tmp_path / "out" / "accuracy.csv").open(newline="") as file:
        rows = {(row["quantity"], row["class_name"]): row for row in csv.DictReader(file)}
    area = rows["area", "deforestation"]
    assert round(float(area["value"])) == 21_158
    assert round((float(area["high"]) - float(area["low"])) / 2) == 6_158
    assert area["unit"] == "hectares"
    assert float(rows["overall_accuracy", ""]["value"]) == pytest.approx(0.947, abs=5e-4)
    with (tmp_path / "out" / "error_matrix.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [int(cell["points"]) for cell in cells] == PUBLISHED_KK.reshape(-1).tolist()
    assert sum(float(cell["area_share"]) for cell in cells) == pytest.approx(1)


@pytest.mark.parametrize("kind", point_sampling.KINDS)
@pytest.mark.parametrize("place", [UTM, DEGREES, MERCATOR], ids=["UTM", "degrees", "Mercator"])
def test_from_sample_to_areas(tmp_path, kind, place):
    labels_HW, truth_HW = map_and_truth()
    path = write_map(tmp_path / "m.tif", labels_HW, place)
    truth_HW[labels_HW == 255] = 255
    points, design = tmp_path / "p.gpkg", Design(900, kind, seed=2)
    sample(path, points, design)
    fill(points, reading(path, truth_HW))
    found, _ = assess(path, points, "reference")
    true = class_areas.of_map(write_map(tmp_path / "t.tif", truth_HW, place))
    mapped = class_areas.of_map(path)
    assert found.method == ("map classes" if kind == "stratified" else kind)
    assert found.unit == "hectares"
    for each, really, on_map in zip(found.classes, true, mapped, strict=False):
        assert each.mapped == pytest.approx(on_map.hectares)
        # One of many intervals of 95 % may miss: three standard errors do not.
        assert abs(each.estimated.value - really.hectares) < 3.3 * each.estimated.standard_error
    total = sum(each.hectares for each in mapped[:-1])
    assert sum(each.estimated.value for each in found.classes) == pytest.approx(total)
    rare = found.classes[2]
    assert rare.mapped > rare.estimated.value  # errors make the rare class larger on the map


def test_strata_of_another_map(tmp_path):
    old_HW, truth_HW = map_and_truth(seed=1)
    new_HW, _ = map_and_truth(seed=2)
    old, new = (
        write_map(tmp_path / f"{n}.tif", labels) for n, labels in (("old", old_HW), ("new", new_HW))
    )
    points = tmp_path / "p.gpkg"
    drawn = sample(old, points, Design(300, seed=2))
    fill(points, reading(old, truth_HW))
    assert assess(old, points, "reference")[0].method == "map classes"
    found, _ = assess(new, points, "reference")
    assert found.method == "other strata"
    counts_SKK = np.zeros((3, 3, 3), np.int64)
    at = drawn.rows_N, drawn.columns_N
    np.add.at(counts_SKK, (drawn.strata_N, new_HW[at], truth_HW[at]), 1)
    areas_S = np.array([each.hectares for each in drawn.strata])
    pixels_S = np.array([each.pixels for each in drawn.strata])
    expected = estimate(counts_SKK, areas_S, pixels_S=pixels_S)
    assert found.estimates.overall == expected.overall
    assert found.classes[1].estimated.value == pytest.approx(
        expected.area_shares[1].times(areas_S.sum()).value
    )


def test_points_of_others_in_degrees(tmp_path):
    """GeoJSON without any of our fields, ids for classes; in longitude and latitude."""
    labels_HW, truth_HW = map_and_truth()
    path = write_map(tmp_path / "m.tif", labels_HW)
    rng, info = np.random.default_rng(0), rasters.info(path)
    rows_N, columns_N = rng.integers(40, 300, 200), rng.integers(40, 200, 200)
    x_N, y_N = info.to_coordinates(columns_N + 0.5, rows_N + 0.5)
    longitude_N, latitude_N = rasterio.warp.transform(info.crs, "EPSG:4326", x_N, y_N)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [longitude, latitude]},
            "properties": {"label": int(truth_HW[row, column])},
        }
        for longitude, latitude, row, column in zip(
            longitude_N, latitude_N, rows_N, columns_N, strict=True
        )
    ]
    points = tmp_path / "p.geojson"
    points.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(ConfigError, match="SEG-X096"):
        assess(path, points, "label")
    found, _ = assess(path, points, "label", design="simple")
    counts_KK = np.zeros((3, 3), np.int64)
    np.add.at(counts_KK, (labels_HW[rows_N, columns_N], truth_HW[rows_N, columns_N]), 1)
    np.testing.assert_array_equal(found.estimates.counts_KK, counts_KK)
    sizes_K = [each.mapped for each in found.classes]
    stratified, _ = assess(path, points, "label", design="stratified", overwrite=True)
    assert stratified.estimates.overall == (
        estimate_by_map_classes(counts_KK, np.array(sizes_K)).overall
    )


@pytest.fixture
def filled(tmp_path):
    labels_HW, truth_HW = map_and_truth()
    path = write_map(tmp_path / "m.tif", labels_HW)
    sample(path, tmp_path / "p.gpkg", Design(160, min_per_class=30))
    fill(tmp_path / "p.gpkg", reading(path, truth_HW))
    return path, tmp_path / "p.gpkg", reading(path, truth_HW)


def test_points_without_a_class_are_left_out_and_told(tmp_path, filled):
    path, points, truth_of = filled
    count = iter(range(1000))
    fill(points, lambda x, y: " " if next(count) % 8 == 0 else truth_of(x, y).upper())
    found, (_, _, page) = assess(path, points, "reference")
    assert found.sample == "140 reference points"
    assert found.left_out == {"'reference' is empty": 20}
    assert "20 points left out" in page.read_text("utf-8")
    assert "&lt;b&gt;water&lt;/b&gt;" in page.read_text("utf-8")
    assert "<b>water" not in page.read_text("utf-8")
    assert found.method == "map classes"


def test_points_beside_the_map_and_on_no_data_are_left_out(tmp_path, filled):
    path, _, truth_of = filled
    info = rasters.info(path)
    columns_N = np.array([5.5, -3.0, 250.0, *np.arange(40.5, 190)])
    rows_N = np.array([5.5, 40.0, 50.0, *np.arange(40.5, 190)])
    x_N, y_N = info.to_coordinates(columns_N, rows_N)
    told = ["forest", "crop", "crop", *(truth_of(*xy) for xy in zip(x_N[3:], y_N[3:], strict=True))]
    fields = {"t": np.array(told, dtype=object)}
    rasters.write_points(tmp_path / "q.gpkg", x_N, y_N, info.crs, fields, "any")
    found = reference_points.assess(path, tmp_path / "q.gpkg", "t", design="simple")
    assert found.left_out == {"not on a class of the map": 3}
    assert found.sample == "150 reference points"


def test_classes_that_the_map_does_not_have_are_named(tmp_path, filled):
    path, points, truth_of = filled
    fill(points, lambda x, y: truth_of(x, y).replace("crop", "crops"))
    with pytest.raises(DataError, match="SEG-D083") as caught:
        assess(path, points, "reference")
    assert "'crops' (" in str(caught.value)
    assert "did you mean 'crop'?" in str(caught.value)
    fill(points, lambda x, y: None)
    with pytest.raises(DataError, match=r"160 points, 0 with a class in 'reference'"):
        assess(path, points, "reference")
    with pytest.raises(DataError, match="no attribute 'truth'"):
        assess(path, points, "truth")
    assert not (tmp_path / "m_assessment").exists()


def test_a_class_without_points_is_refused(tmp_path, filled):
    path, points, truth_of = filled
    info, (labels_HW, _) = rasters.info(path), map_and_truth()

    def without_crop(x, y):
        column, row = info.to_pixels(x, y)
        return None if labels_HW[int(row), int(column)] == 1 else truth_of(x, y)

    fill(points, without_crop)
    with pytest.raises(DataError, match="SEG-D080") as caught:
        assess(path, points, "reference")
    assert "crop (" in str(caught.value)
    assert "% of the area): 0" in str(caught.value)


def test_a_class_of_one_pixel_is_assessed_too(tmp_path):
    labels_HW, truth_HW = map_and_truth()
    labels_HW[labels_HW == 2] = 1
    labels_HW[150, 150] = 2
    path = write_map(tmp_path / "m.tif", labels_HW)
    sample(path, tmp_path / "p.gpkg", Design(160, min_per_class=30))
    fill(tmp_path / "p.gpkg", reading(path, truth_HW))
    found, _ = assess(path, tmp_path / "p.gpkg", "reference")
    assert found.method == "map classes"
    assert found.classes[2].points_mapped == 1
    assert found.classes[2].users.standard_error == 0


def test_shapes_that_are_no_points_are_refused(tmp_path, filled):
    path, _, _ = filled
    ring = [[0, 0], [1000, 0], [1000, 900], [0, 0]]
    info = rasters.info(path)
    ring = [list(info.to_coordinates(x / 10, y / 10)) for x, y in ring]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"t": 1},
    }
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    points = tmp_path / "p.geojson"
    points.write_text(
        json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature] * 3})
    )
    with pytest.raises(DataError, match="a Polygon"):
        assess(path, points, "t", design="simple")
    with pytest.raises(DataError, match="SEG-D083"):
        assess(path, tmp_path / "p.csv", "t", design="simple")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_without_a_place_is_assessed_in_pixels(tmp_path):
    labels_HW, truth_HW = map_and_truth()
    path = write_map(tmp_path / "m.tif", labels_HW, (None, Affine.identity()))
    sample(path, tmp_path / "p.gpkg", Design(160, min_per_class=30))
    fill(tmp_path / "p.gpkg", reading(path, truth_HW))
    found, _ = assess(path, tmp_path / "p.gpkg", "reference")
    assert found.unit == "pixels"
    assert found.classes[0].mapped == (labels_HW == 0).sum()


def test_styles_of_qgis_beside_the_points(filled):
    path, points, _ = filled
    pyogrio.raw.write(
        str(points), geometry=None, field_data=[np.array(["x"], dtype=object)], fields=["qml"],
        crs=None, geometry_type=None, driver="GPKG", layer="layer_styles", append=True,
    )  # fmt: skip
    assert len(pyogrio.list_layers(points)) == 2
    assert assess(path, points, "reference")[0].sample == "160 reference points"


def test_what_is_there_is_not_replaced(filled):
    path, points, _ = filled
    _, paths = assess(path, points, "reference")
    assert [each.name for each in paths] == list(FILES)
    before = [each.read_bytes() for each in paths]
    paths[1].write_text("mine\n")
    with pytest.raises(CheckpointError, match="SEG-C002"):
        assess(path, points, "reference")
    assert paths[1].read_text() == "mine\n"
    assess(path, points, "reference", overwrite=True)
    assert [each.read_bytes() for each in paths] == before


def write_scored_run(folder, counts_NKK, names, label_map, data_format="geotiff"):
    write_run(folder, error=0.2, label_map=label_map, extra=False)
    config = (folder / "config.toml").read_text()
    options = "\n[data.options]\nblock = 2\nscenes = []" if data_format == "geotiff" else ""
    config = config.replace('format = "camvid"', f'format = "{data_format}"')
    (folder / "config.toml").write_text(config + options)
    scored = Evaluation("test", 40, names, counts_NKK, np.zeros(len(names), np.int64), ())
    for path in (folder / "evaluation").iterdir():
        if path.is_file():
            path.unlink()
    result.write(scored, label_map, folder / "evaluation")
    return folder


def scored_chips(seed=0):
    """Return counts of 64 chips whose errors are alike within blocks of 2×2 chips, and names."""
    rng = np.random.default_rng(seed)
    counts_NKK, names = [], []
    for row in range(8):
        for column in range(8):
            block = np.random.default_rng([row // 2, column // 2])
            error = block.uniform(0.05, 0.5)
            truth = rng.multinomial(1000, [0.5, 0.3, 0.2])
            right = rng.binomial(truth, 1 - error)
            counts_KK = np.diag(right)
            counts_KK[np.arange(3), (np.arange(3) + 1) % 3] += truth - right
            counts_NKK.append(counts_KK)
            names.append(f"north/r{row:04d}_c{column:04d}")
    return np.array(counts_NKK), tuple(names)


def test_the_same_from_spatial_test_blocks(tmp_path):
    classes = LabelMap("map", tuple(LabelClass(n, "#102030", (k,)) for k, n in enumerate(NAMES)))
    counts_NKK, names = scored_chips()
    run = write_scored_run(tmp_path / "run", counts_NKK, names, classes)
    labels_HW, _ = map_and_truth()
    path = write_map(tmp_path / "m.tif", labels_HW)
    found, (_, _, page) = assess(path, None, run=run)
    assert found.sample == "16 blocks of test, 64,000 pixels"
    assert "reference points answer for this map" in page.read_text("utf-8").lower()
    mapped = np.array([each.mapped for each in found.classes])
    pixels_KK = counts_NKK.sum(axis=0)
    really_K = (pixels_KK / pixels_KK.sum(axis=0)) @ mapped
    for each, really in zip(found.classes, really_K, strict=True):
        assert each.estimated.value == pytest.approx(really)
    assert found.estimates.overall.value == pytest.approx(
        np.diagonal(pixels_KK / pixels_KK.sum(axis=0)) @ mapped / mapped.sum()
    )
    # Chips of one block err alike: taken for independent they would promise too much.
    by_chip = estimate_by_blocks(counts_NKK, mapped, resamples=2000)
    assert found.estimates.overall.standard_error > 1.5 * by_chip.overall.standard_error
    # With equal shares of classes, the deviation of the mean over blocks is known.
    right_B = np.trace(counts_NKK, axis1=1, axis2=2).reshape(4, 2, 4, 2).mean(axis=(1, 3)) / 1000
    assert found.estimates.overall.standard_error == pytest.approx(
        right_B.std(ddof=1) / 4, rel=0.15
    )


def test_runs_that_cannot_answer_are_refused(tmp_path):
    classes = LabelMap("map", tuple(LabelClass(n, "#102030", (k,)) for k, n in enumerate(NAMES)))
    counts_NKK, names = scored_chips()
    path = write_map(tmp_path / "m.tif", map_and_truth()[0])
    with pytest.raises(ConfigError, match="SEG-X096"):
        assess(path, None)
    run = write_scored_run(tmp_path / "images", counts_NKK, names, classes, "camvid")
    with pytest.raises(ConfigError, match="no spatial test blocks"):
        assess(path, None, run=run)
    with pytest.raises(ConfigError, match="points and a run"):
        assess(path, run / "labels.toml", run=run)
    with pytest.raises(CheckpointError, match="SEG-C040"):
        assess(path, None, run=run, split="val")
    others = write_map(tmp_path / "o.tif", map_and_truth()[0], names=("a", "b", "c"))
    with pytest.raises(DataError, match="SEG-D083"):
        assess(others, None, run=write_scored_run(tmp_path / "r", counts_NKK, names, classes))
    counts_NKK[:, :, 2] = 0
    never = write_scored_run(tmp_path / "never", counts_NKK, names, classes)
    with pytest.raises(DataError, match="SEG-D080"):
        assess(path, None, run=never)
    assert not (tmp_path / "m_assessment").exists()
