"""Names and colours that a class raster brings along become the proposed label map."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
import rasterio
from affine import Affine

from terrazzo.base.recipe import DataConfig
from terrazzo.check import check_data
from terrazzo.data import labels
from terrazzo.io import rasters

PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 392_000, 0, -10, 5_820_000)}
COVER = {10: ("Tree cover", 0x006400), 40: ("Cropland", 0xF096FF), 80: ("Water", 0x0064C8)}


@pytest.fixture
def label(tmp_path, monkeypatch):
    """Write a scene of 64×64 pixels with the values of COVER, 80 in three pixels alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    image_HWC = random.integers(1, 255, (64, 64, 1), np.uint8)
    rasters.write(tmp_path / "image.tif", image_HWC, **PLACE)
    values_HW = np.kron(random.integers(0, 2, (8, 8)), np.ones((8, 8), np.int64)) * 30 + 10
    values_HW[5, 5:8] = 80
    path = tmp_path / "label.tif"
    rasters.write(path, values_HW.astype(np.uint8)[..., None], **PLACE)
    return path


def checked(label, labels=None):
    data = DataConfig(
        format="geotiff",
        root=str(label.parent),
        labels=None if labels is None else str(labels),
        options={
            "scenes": [{"images": ["image.tif"], "label": label.name}],
            "chip": 16,
            "block": 1,
            "buffer": 0,
        },
    )
    return check_data(data)


def proposed(label, own=None):
    text = checked(label, own).proposal
    assert text is not None
    return labels.from_toml(tomllib.loads(text), where="proposal")


def table(rows, *columns):
    """Return a raster attribute table as GDAL writes one."""
    fields = "".join(
        f'<FieldDefn index="{n}"><Name>{name}</Name><Type>{kind}</Type><Usage>{use}</Usage>'
        "</FieldDefn>"
        for n, (name, kind, use) in enumerate(columns)
    )
    cells = "".join(
        f'<Row index="{n}">{"".join(f"<F>{cell}</F>" for cell in row)}</Row>'
        for n, row in enumerate(rows)
    )
    return (
        '<GDALRasterAttributeTable Row0Min="0" BinSize="1" tableType="thematic">'
        f"{fields}{cells}</GDALRasterAttributeTable>"
    )


def write_aux(label, *inside):
    text = "".join(inside)
    label.with_name(f"{label.name}.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1">{text}</PAMRasterBand></PAMDataset>'
    )


BY_USE = (("Wert", 0, 5), ("Klasse", 2, 2), ("R", 0, 6), ("G", 0, 7), ("B", 0, 8))
BY_NAME = (("VALUE", 0, 0), ("COUNT", 0, 1), ("Label3", 2, 0), *(("Red", 1, 0), ("Green", 1, 0)))


def rows(share=False):
    for value, (name, colour) in COVER.items():
        levels = [colour >> 16, colour >> 8 & 255, colour & 255]
        yield value, name, *(f"{level / 255:.6f}" if share else level for level in levels)


def expect_cover(label_map):
    assert label_map.names == tuple(name for name, _ in COVER.values())
    assert [each.raw for each in label_map.classes] == [(value,) for value in COVER]
    assert [each.colour for each in label_map.classes] == [f"#{c:06X}" for _, c in COVER.values()]
    assert "label.tif" in label_map.source


def test_without_a_table_values_get_numbers_for_names(label):
    own = proposed(label)
    assert own.names == ("value_10", "value_40")
    assert own.ignored == (80,)
    assert own.source == ""


def test_an_attribute_table_beside_the_raster(label):
    write_aux(label, table(rows(), *BY_USE))
    expect_cover(proposed(label))  # 80 too: it has a name, so that it is no noise


def test_an_attribute_table_of_another_program(label):
    """Without uses, with counts and colours from 0 to 1, as ERDAS and ArcGIS write them."""
    told = [(value, 99, name, *levels) for value, name, *levels in rows(share=True)]
    write_aux(label, table(told, *BY_NAME, ("Blue", 1, 0)))
    expect_cover(proposed(label))


def test_rows_without_a_column_of_values_stand_for_their_number(label):
    told = [(COVER[n][0] if n in COVER else "Unclassified",) for n in range(81)]
    write_aux(label, table(told, ("Class_Names", 2, 2)))
    assert proposed(label).names == tuple(name for name, _ in COVER.values())


def test_category_names(label):
    names = [COVER[n][0] if n in COVER else "" for n in range(81)]
    write_aux(
        label,
        f"<CategoryNames>{''.join(f'<Category>{n}</Category>' for n in names)}</CategoryNames>",
    )
    assert proposed(label).names == tuple(name for name, _ in COVER.values())


def test_a_table_in_dbase_form(label):
    pyogrio = pytest.importorskip("pyogrio")
    value, name, red, green, blue = map(list, zip(*rows(), strict=True))
    columns = [np.array(value), np.array([1.5] * 3), np.array(name, object)]
    columns += [np.array(each) for each in (red, green, blue)]
    pyogrio.raw.write(
        label.with_suffix(".dbf"),
        None,
        columns,
        ["Value", "Count", "Class_Name", "Red", "Green", "Blue"],
        driver="ESRI Shapefile",
        geometry_type=None,
    )
    label.with_suffix(".dbf").rename(label.with_name("label.tif.vat.dbf"))
    expect_cover(proposed(label))


def test_a_colour_table(label):
    with rasterio.open(label) as dataset:
        values_HW = dataset.read(1)
    profile = {"driver": "GTiff", "height": 64, "width": 64, "count": 1, "dtype": "uint8", **PLACE}
    with rasterio.open(label, "w", **profile) as dataset:
        dataset.write_colormap(
            1, {v: (c >> 16, c >> 8 & 255, c & 255) for v, (_, c) in COVER.items()}
        )
        dataset.write(values_HW, 1)
    own = proposed(label)
    assert own.names == ("value_10", "value_40")
    assert [each.colour for each in own.classes] == ["#006400", "#F096FF"]
    write_aux(label, table([row[:2] for row in rows()], *BY_USE[:2]))
    expect_cover(proposed(label))  # names beside it, colours inside


def test_a_table_inside_the_raster(label):
    """As our own maps hold one, and those of GDAL 3.12."""
    with rasterio.open(label) as dataset:
        values_HW = (dataset.read(1) // 30).astype(np.uint8)
    classes = rasters.ClassTable(
        ("forest & bush", "field", "water"),
        np.array([[0, 100, 0], [240, 150, 255], [0, 100, 200]], np.uint8),
    )
    rasters.write_rows(
        label,
        rasters.info(label),
        [values_HW[None]],
        dtype="uint8",
        band_names=("class",),
        nodata=None,
        classes=classes,
        tags={},
    )
    own = proposed(label)
    assert own.names == ("forest & bush", "field", "water")
    assert own.classes[1].colour == "#F096FF"


def test_names_of_no_class_are_ignored_and_equal_names_are_told_apart(label):
    told = [(10, "forest"), (40, "Unclassified"), (80, "forest")]
    write_aux(label, table(told, *BY_USE[:2]))
    own = proposed(label)
    assert own.names == ("forest (10)", "forest (80)")
    assert own.ignored == (40,)


def test_new_values_of_a_map_in_use_get_their_names(label, tmp_path):
    write_aux(label, table(rows(), *BY_USE))
    map_file = tmp_path / "m.toml"
    map_file.write_text(
        'name = "m"\nsource = "mine"\n[[classes]]\nname = "woods"\ncolour = "#010203"\nraw = [10]\n'
    )
    own = proposed(label, map_file)
    assert own.names == ("woods", "Cropland", "Water")
    assert own.source == "mine"


BOMB = '<!DOCTYPE a [<!ENTITY b "c">]><PAMDataset>&b;</PAMDataset>'


@pytest.mark.parametrize("xml", ["", "<PAMDataset>", BOMB, "<PAMDataset/>", "\x00\xff"])
def test_files_that_cannot_be_read_tell_nothing(label, xml):
    label.with_name("label.tif.aux.xml").write_text(xml)
    label.with_name("label.tif.vat.dbf").write_bytes(xml.encode())
    assert proposed(label).names == ("value_10", "value_40")


@pytest.mark.parametrize(
    "row", [("x", "forest"), (-3, "a"), (1e9, "b"), (10.5, "c"), (10,)], ids=str
)
def test_odd_rows_are_passed_over(label, row):
    write_aux(label, table([row], *BY_USE[:2]))
    assert rasters.stored_classes(label) == {}
