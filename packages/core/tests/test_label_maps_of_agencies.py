"""Class rasters of agencies by their own codes: ESA, Google, USGS, EEA, OpenEarthMap."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from terrazzo.base.errors import DataError
from terrazzo.cli.app import app
from terrazzo.data import labels

WORLDCOVER = {
    10: "#006400", 20: "#FFBB22", 30: "#FFFF4C", 40: "#F096FF", 50: "#FA0000", 60: "#B4B4B4",
    70: "#F0F0F0", 80: "#0064C8", 90: "#0096A0", 95: "#00CF75", 100: "#FAE6A0",
}  # fmt: skip
NLCD = {
    11: "#466B9F", 12: "#D1DEF8", 21: "#DEC5C5", 22: "#D99282", 23: "#EB0000", 24: "#AB0000",
    31: "#B3AC9F", 41: "#68AB5F", 42: "#1C5F2C", 43: "#B5C58F", 51: "#AF963C", 52: "#CCB879",
    71: "#DFDFC2", 72: "#D1D182", 73: "#A3CC51", 74: "#82BA9E", 81: "#DCD939", 82: "#AB6C28",
    90: "#B8D9EB", 95: "#6C9FB8",
}  # fmt: skip
CORINE = {
    111: "#E6004D", 112: "#FF0000", 121: "#CC4DF2", 122: "#CC0000", 123: "#E6CCCC",
    124: "#E6CCE6", 131: "#A600CC", 132: "#A64D00", 133: "#FF4DFF", 141: "#FFA6FF",
    142: "#FFE6FF", 211: "#FFFFA8", 212: "#FFFF00", 213: "#E6E600", 221: "#E68000",
    222: "#F2A64D", 223: "#E6A600", 231: "#E6E64D", 241: "#FFE6A6", 242: "#FFE64D",
    243: "#E6CC4D", 244: "#F2CCA6", 311: "#80FF00", 312: "#00A600", 313: "#4DFF00",
    321: "#CCF24D", 322: "#A6FF80", 323: "#A6E64D", 324: "#A6F200", 331: "#E6E6E6",
    332: "#CCCCCC", 333: "#CCFFCC", 334: "#000000", 335: "#A6E6CC", 411: "#A6A6FF",
    412: "#4D4DFF", 421: "#CCCCFF", 422: "#E6E6FF", 423: "#A6A6E6", 511: "#00CCF2",
    512: "#80F2E6", 521: "#00FFA6", 522: "#A6FFE6", 523: "#E6F2FF",
}  # fmt: skip
DYNAMIC_WORLD = [
    "#419BDF", "#397D49", "#88B053", "#7A87C6", "#E49635", "#DFC35A", "#C4281B", "#A59B8F",
    "#B39FE1",
]  # fmt: skip
OPEN_EARTH_MAP = [
    "#800000", "#00FF24", "#949494", "#FFFFFF", "#226126", "#0045FF", "#4BB549", "#DE1F07",
]  # fmt: skip
"""From legends as programs publish them, hexadecimal; the maps were written from tables of RGB."""

BY_CODE = {
    "worldcover_11": WORLDCOVER,
    "nlcd_20": NLCD,
    "corine_44": CORINE,
    "dynamic_world_9": dict(enumerate(DYNAMIC_WORLD)),
    "openearthmap_8": dict(enumerate(OPEN_EARTH_MAP, 1)),
}


@pytest.mark.parametrize("name", BY_CODE)
def test_a_raster_of_its_codes_becomes_train_ids_with_its_colours(name):
    label_map, colours = labels.load_label_map(name), BY_CODE[name]
    assert len(label_map) == len(colours) == int(name.rsplit("_", 1)[1])
    codes = np.array([list(colours)], np.uint16)
    np.testing.assert_array_equal(label_map.remap(codes, file="a"), [range(len(colours))])
    assert [each.colour for each in label_map.classes] == list(colours.values())
    assert label_map.source


@pytest.mark.parametrize("name", BY_CODE)
def test_any_other_value_is_an_error(name):
    label_map = labels.load_label_map(name)
    known = {code for each in label_map.classes for code in each.raw} | set(label_map.ignored)
    for stray in set(range(1100)) - known:
        with pytest.raises(DataError, match="SEG-D001"):
            label_map.remap(np.full((1, 1), stray, np.uint16), file="a")


def test_both_codes_of_corine_mean_the_same_class():
    label_map = labels.load_label_map("corine_44")
    counted = np.array([range(1, 45)], np.uint8)
    np.testing.assert_array_equal(
        label_map.remap(counted, file="a"),
        label_map.remap(np.array([list(CORINE)], np.uint16), file="a"),
    )
    no_data = np.array([[48, 49, 50, 255, 990, 995, 999]], np.uint16)
    assert (label_map.remap(no_data, file="a") == 255).all()


def test_zero_is_water_in_dynamic_world_and_no_data_elsewhere():
    zero = np.zeros((1, 1), np.uint8)
    for name in BY_CODE:
        label_map = labels.load_label_map(name)
        if name == "dynamic_world_9":
            assert label_map.names[label_map.remap(zero, file="a")[0, 0]] == "water"
        elif name != "corine_44":
            assert label_map.remap(zero, file="a") == [[255]]


def test_they_are_listed():
    shown = CliRunner().invoke(app, ["list", "labels"])
    assert shown.exit_code == 0
    for name in BY_CODE:
        assert f"\n{name} " in "\n" + shown.stdout
    one = CliRunner().invoke(app, ["list", "labels", "corine_44"])
    assert "raw 8, 132" in one.stdout
    assert "European Environment Agency" in one.stdout
