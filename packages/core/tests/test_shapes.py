"""Lines, points, tiny shapes, missing attributes: what must not become a wrong label silently."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets import geotiff
from terrazzo.io import rasters

LEFT, TOP = 392_000, 5_820_000
PLACE = {"crs": "EPSG:32633", "transform": Affine(2, 0, LEFT, 0, -2, TOP)}
SHAPE = (60, 80)
CRS = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}


def square(column, row, side, **properties):
    """Return a square of pixels, at its first column and row."""
    x, y, size = LEFT + 2 * column, TOP - 2 * row, 2 * side
    ring = [[x, y], [x + size, y], [x + size, y - size], [x, y - size], [x, y]]
    return feature({"type": "Polygon", "coordinates": [ring]}, **properties)


def feature(geometry, **properties):
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def line(row, **properties):
    """Return a line along the middle of a row of pixels, from column 10 to column 70."""
    y = TOP - 2 * row - 1
    points = [[LEFT + 20, y], [LEFT + 140, y]]
    return feature({"type": "LineString", "coordinates": points}, **properties)


def point(column, row, **properties):
    """Return the middle of a pixel."""
    return feature(
        {"type": "Point", "coordinates": [LEFT + 2 * column + 1, TOP - 2 * row - 1]}, **properties
    )


def write(root: Path, *features, name="a.geojson", crs=CRS, encoding="utf-8", **members):
    document = {"type": "FeatureCollection", "features": list(features), **members}
    if crs != "none":
        document["crs"] = crs
    (root / name).write_text(json.dumps(document), encoding=encoding)
    if not (root / "image.tif").exists():
        rasters.write(root / "image.tif", np.ones((*SHAPE, 1), np.uint16), **PLACE)


def opened(root, label="a.geojson", **changes):
    scene = {"images": ("image.tif",), "label": label, **changes.pop("scene", {})}
    everything = {"chip": 80, "block": 1, "split": {"train": 1, "val": 0, "test": 0}}
    options = geotiff.Options(scenes=(scene,), **everything, **changes)
    return geotiff.open_split(root, "train", options)


def drawn(root, **changes):
    return opened(root, **changes).open_scenes[0].label_HW


@pytest.mark.parametrize("shape", [line(20), point(40, 20)])
def test_lines_and_points_without_a_width_are_refused(tmp_path, shape):
    write(tmp_path, square(0, 0, 5), shape)
    with pytest.raises(DataError, match="burn_width") as caught:
        opened(tmp_path)
    assert caught.value.code == "SEG-D012"
    assert "1 of 2 shapes are" in caught.value.observed
    assert shape["geometry"]["type"] in caught.value.observed
    assert "shape 1" in caught.value.observed


def test_a_width_in_map_units_makes_lines_and_points_areas(tmp_path):
    write(tmp_path, line(20), point(40, 40))
    label_HW = drawn(tmp_path, burn_width=10.0)  # 5 pixels of 2 m
    assert label_HW[:, 40].nonzero()[0].tolist() == [*range(18, 23), *range(38, 43)]
    assert 64 <= (label_HW[20] > 0).sum() <= 66  # round ends
    disc_HW = label_HW[30:50]
    assert abs(disc_HW.sum() - np.pi * 2.5**2) < 4
    assert label_HW.max() == 1


def test_a_width_for_each_class(tmp_path):
    write(tmp_path, line(10, kind="road"), line(30, kind="path"), square(0, 50, 4, kind="house"))
    chosen = {"burn_property": "kind", "burn_values": {"road": 1, "path": 2, "house": 3}}
    label_HW = drawn(tmp_path, **chosen, burn_width={"road": 10.0, "path": 2.0})
    assert [int((label_HW[:, 40] == value).sum()) for value in (1, 2)] == [5, 1]
    assert (label_HW == 3).sum() == 16
    with pytest.raises(ConfigError, match="burn_width") as caught:
        opened(tmp_path, **chosen, burn_width={"road": 10.0})
    assert "'path' of shape 1" in caught.value.observed
    with pytest.raises(ValueError, match="burn_property"):
        opened(tmp_path, burn_width={"road": 10.0})


def test_an_area_of_lines_is_refused(tmp_path):
    write(tmp_path, square(0, 0, 5))
    write(tmp_path, line(20), name="area.geojson")
    with pytest.raises(DataError, match="area is given as polygons"):
        opened(tmp_path, scene={"area": "area.geojson"}, burn_width=6.0)


def tiny(column, row, **properties):
    """Return a square of a fifth of a pixel in a pixel's corner: no centre is in it."""
    return square(column + 0.1, row + 0.1, 0.2, **properties)


def test_shapes_that_leave_no_pixel_are_counted_by_class(tmp_path):
    shapes = [tiny(2 * n, 20, kind="car") for n in range(30)]
    shapes += [square(6 * n, 40, 4, kind="house") for n in range(4)]
    shapes += [tiny(70, 50, kind="house"), square(500, 500, 4, kind="car")]
    shapes.append(feature(None, kind="car"))
    shapes.append(feature({"type": "Polygon", "coordinates": []}, kind="car"))
    write(tmp_path, *shapes)
    chosen = {"burn_property": "kind", "burn_values": {"car": 1, "house": 2}}
    (note,) = opened(tmp_path, **chosen).notes
    assert "33 of 37 shapes left no pixel" in note
    assert "30 of 30 with raw value 1 (car)" in note
    assert "1 of 5 with raw value 2 (house)" in note
    assert "2 without a geometry" in note
    assert "all_touched" in note
    touched = opened(tmp_path, **chosen, all_touched=True)
    assert (touched.open_scenes[0].label_HW == 1).sum() == 30
    assert "2 of 37 shapes left no pixel" in touched.notes[0]


def test_shapes_that_all_leave_pixels_need_no_word(tmp_path):
    write(tmp_path, square(0, 0, 5), square(500, 500, 4))
    assert opened(tmp_path).notes == ()


def test_shapes_under_later_ones_are_counted_across_strips(tmp_path, monkeypatch):
    monkeypatch.setattr("terrazzo.io.rasters.rasterize._STRIP", 80 * 7)
    write(tmp_path, square(10, 5, 4), square(10, 5, 4), square(30, 3, 40), square(0, 59, 1))
    assert "1 of 4 shapes left no pixel" in opened(tmp_path).notes[0]


def test_the_data_check_says_it(tmp_path, monkeypatch):
    from terrazzo.base.recipe import DataConfig
    from terrazzo.check import check_data

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path, square(0, 0, 30), tiny(40, 20))
    (tmp_path / "m.toml").write_text(
        'name = "m"\nclasses = [{ name = "a", colour = "#000000", raw = [0] }, '
        '{ name = "b", colour = "#FFFFFF", raw = [1] }]\n'
    )
    data = DataConfig(
        format="geotiff",
        root=str(tmp_path),
        labels=str(tmp_path / "m.toml"),
        options={
            "scenes": [{"images": ["image.tif"], "label": "a.geojson"}],
            "chip": 16,
            "block": 1,
        },
    )
    assert "1 of 2 shapes left no pixel" in check_data(data).as_text()


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_an_attribute_without_a_value_names_file_and_shape(tmp_path, suffix):
    write(tmp_path, square(5, 5, 4, kind=1), feature(None, kind=1), square(25, 5, 4, kind=None))
    if suffix == ".gpkg":
        pyogrio = pytest.importorskip("pyogrio")
        _, _, shapes, columns = pyogrio.raw.read(tmp_path / "a.geojson")
        pyogrio.raw.write(
            tmp_path / "a.gpkg",
            shapes,
            columns,
            ["kind"],
            driver="GPKG",
            geometry_type="Polygon",
            crs="EPSG:32633",
        )
    with pytest.raises(DataError) as caught:
        opened(tmp_path, f"a{suffix}", burn_property="kind")
    assert caught.value.code == "SEG-D012"
    assert "of shape 2" in caught.value.observed
    assert "NULL" in caught.value.observed
    assert f"a{suffix}" in str(caught.value.file)


def test_whole_numbers_beside_a_missing_one_are_named_as_they_are(tmp_path):
    """A column of integers with a NULL comes as floats: 3.0 is still the word 3."""
    write(tmp_path, square(5, 5, 4, kind=3.0), feature(None, kind=None))
    label_HW = drawn(tmp_path, burn_property="kind", burn_values={"3": 7})
    assert (label_HW == 7).sum() == 16


def test_text_without_burn_property_names_the_attributes(tmp_path):
    write(tmp_path, square(5, 5, 4, kind="road", id=1), square(25, 5, 4, kind="house", id=2))
    with pytest.raises(DataError, match="burn_property") as caught:
        opened(tmp_path)
    assert "kind, id" in caught.value.observed
    assert drawn(tmp_path, burn=1).sum() == 32
    repeated = [square(6 * n, 5, 4, code=n % 2) for n in range(4)]
    write(tmp_path, *repeated)
    with pytest.raises(DataError, match="code"):
        opened(tmp_path)
    write(tmp_path, *[square(6 * n, 5, 4, fid=n) for n in range(4)])
    assert drawn(tmp_path).sum() == 64  # numbers of shapes are no classes


def test_odd_geojson(tmp_path):
    """``crs`` and ``properties`` of null, and a byte-order mark: all are allowed or usual."""
    write(tmp_path, square(5, 5, 4), crs=None)
    assert drawn(tmp_path).sum() == 16
    write(tmp_path, {**square(5, 5, 4), "properties": None}, encoding="utf-8-sig")
    assert drawn(tmp_path).sum() == 16
    with pytest.raises(DataError, match="'kind' in shape 0") as caught:
        opened(tmp_path, burn_property="kind")
    assert caught.value.code == "SEG-D012"
    (tmp_path / "a.geojson").write_text("[1, 2]")
    with pytest.raises(DataError, match="a list where a FeatureCollection is wanted"):
        opened(tmp_path)


def test_shapes_without_a_crs_are_said_to_be_in_that_of_the_image(tmp_path):
    write(tmp_path, square(5, 5, 4), crs="none")
    (note,) = opened(tmp_path).notes
    assert "a.geojson names no CRS" in note
    assert "EPSG:32633" in note
