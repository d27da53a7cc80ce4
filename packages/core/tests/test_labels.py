"""Label maps: one look-up, nothing guessed, every contradiction named."""

import csv
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.cli import label_table
from terrazzo.data import labels


def class_table(name, raw, colour="#102030"):
    return {"name": name, "colour": colour, "raw": raw}


def make(classes, **rest):
    return labels.from_toml({"name": "m", "classes": classes, **rest}, where="m.toml")


@pytest.fixture
def ground():
    classes = [class_table("land", [7, 8], "#00FF00"), class_table("sea", [3], "#0000FF")]
    return make(classes, ignored=[0, 255])


@pytest.fixture
def painted():
    classes = [class_table("land", ["#00FF00"]), class_table("sea", ["#0000FF", "#0000fe"])]
    return make(classes, ignored=["#000000"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_remap_of_indices(ground, dtype):
    raw = np.array([[7, 8, 3], [0, 3, 7]], dtype)
    train_ids = ground.remap(raw, file="a.png")
    np.testing.assert_array_equal(train_ids, [[0, 0, 1], [255, 1, 0]])
    assert train_ids.dtype == np.uint8
    assert train_ids.flags.writeable
    assert not np.shares_memory(train_ids, raw)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
@pytest.mark.parametrize("first", [[], [300]])
def test_labels_where_there_is_no_data_need_no_raw_value_to_stand_in(dtype, first):
    several = make([class_table("a", first), class_table("b", [5, 6])], ignored=[9])
    raw = np.array([[5, 77, 9], [6, 0, 77]], dtype)
    valid_HW = np.array([[True, False, True], [True, False, False]])
    train_ids = several.remap(raw, file="a.png", valid_HW=valid_HW)
    np.testing.assert_array_equal(train_ids, [[1, 255, 255], [1, 255, 255]])


def test_strays_are_looked_for_where_there_are_data(ground, painted):
    raw = np.array([[77, 7], [77, 3]], np.uint8)
    valid_HW = np.array([[False, True], [True, True]])
    with pytest.raises(DataError, match=r"77 \(1 px\); 77 first at row 1, column 0"):
        ground.remap(raw, file="a.png", valid_HW=valid_HW)
    colours = np.array([[[9, 9, 9], [0, 255, 0]]], np.uint8)
    train_ids = painted.remap(colours, file="a.png", valid_HW=np.array([[False, True]]))
    np.testing.assert_array_equal(train_ids, [[255, 0]])


def test_a_map_of_every_16_bit_value_is_made_in_a_moment():
    began = time.perf_counter()
    most = make([class_table("a", list(range(65_535))), class_table("b", [65_535])])
    assert len(most.classes[0].raw) == 65_535
    assert time.perf_counter() - began < 3  # comparing each with each takes five times as long


def test_remap_of_read_only_and_of_strided_masks(ground):
    raw = np.array([[7, 8, 3], [0, 3, 7]], np.uint8)
    raw.flags.writeable = False
    np.testing.assert_array_equal(ground.remap(raw.T, file="a.png"), [[0, 255], [0, 1], [1, 0]])


def test_every_8_bit_value_is_mapped_or_refused(ground):
    """No value may slip to another class; 254 lies beside IGNORE and is the usual victim."""
    known = {7: 0, 8: 0, 3: 1, 0: 255, 255: 255}
    for value in range(256):
        raw = np.full((2, 2), value, np.uint8)
        if value in known:
            assert (ground.remap(raw, file="a.png") == known[value]).all()
        else:
            with pytest.raises(DataError, match=rf"{value} \(4 px\)"):
                ground.remap(raw, file="a.png")


def test_remap_of_colours(painted):
    raw = np.array([[[0, 255, 0], [0, 0, 255]], [[0, 0, 0], [0, 0, 254]]], np.uint8)
    np.testing.assert_array_equal(painted.remap(raw, file="a.png"), [[0, 1], [255, 1]])


def test_stray_value_is_described(ground):
    raw = np.full((4, 5), 7, np.uint8)
    raw[2, 3:] = 250
    raw[3, 0] = 9
    with pytest.raises(DataError) as caught:
        ground.remap(raw, file="masks/a.png")
    error = caught.value
    assert error.code == "SEG-D001"
    assert error.file == "masks/a.png"
    assert "250 (2 px)" in str(error)
    assert "9 (1 px)" in str(error)
    assert "250 first at row 2, column 3" in str(error)
    assert error.allowed == "0, 3, 7, 8, 255"


@pytest.mark.parametrize("value", [-1, -3, 65536, 2**40])
def test_value_outside_the_table_is_stray_not_wrapped(ground, value):
    raw = np.array([[7, value]], np.int64)
    with pytest.raises(DataError, match=rf"{value} \(1 px\).*row 0, column 1") as caught:
        ground.remap(raw, file="a.png")
    assert caught.value.code == "SEG-D001"


def test_stray_colour_is_named_as_colour(painted):
    raw = np.zeros((3, 3, 3), np.uint8)
    raw[1, 2] = (18, 52, 86)
    with pytest.raises(DataError) as caught:
        painted.remap(raw, file="a.png")
    assert "#123456 (1 px)" in str(caught.value)
    assert "row 1, column 2" in str(caught.value)
    assert "#00FF00" in str(caught.value)


def test_mask_of_the_other_kind_is_refused(ground, painted):
    indices, colours = np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)
    for label_map, raw in ((ground, colours), (painted, indices), (ground, np.zeros((2, 2)))):
        with pytest.raises(DataError) as caught:
            label_map.remap(raw, file="a.png")
        assert caught.value.code == "SEG-D007"
        assert str(raw.shape) in str(caught.value)
        assert "a.png" in str(caught.value)


def test_many_classes_need_16_bits():
    most = make([class_table(f"c{n}", [n]) for n in range(254)], ignored=[254])
    raw = np.arange(255, dtype=np.uint8)[None]
    np.testing.assert_array_equal(most.remap(raw, file="a"), [[*range(254), 255]])
    more = make([class_table(f"c{n}", [n]) for n in range(300)], ignored=[300])
    assert more.dtype == np.uint16
    assert more.ignore_index == 65535
    raw = np.arange(301, dtype=np.uint16)[None]
    np.testing.assert_array_equal(more.remap(raw, file="a"), [[*range(300), 65535]])
    with pytest.raises(DataError):
        more.remap(np.full((1, 1), 301, np.uint16), file="a")


def test_colourise(ground):
    image = ground.colourise(np.array([[0, 1, 255]], np.uint8))
    np.testing.assert_array_equal(image, [[[0, 255, 0], [0, 0, 255], [0, 0, 0]]])
    assert image.dtype == np.uint8


@pytest.mark.parametrize(
    ("classes", "rest", "words"),
    [
        ([], {}, "no classes"),
        ([class_table("a", [1]), class_table("b", [1])], {}, "mapped twice"),
        ([class_table("a", [1])], {"ignored": [1]}, "mapped twice"),
        ([class_table("a", ["#ff0000"]), class_table("b", ["#FF0000"])], {}, "mapped twice"),
        ([class_table("a", [1]), class_table("b", ["#FF0000"])], {}, "mixed"),
        ([class_table("a", [1]), class_table("a", [2])], {}, "one name"),
        ([class_table("a", [1], "red")], {}, "not a colour"),
        ([class_table("a", ["red"])], {}, "not a colour"),
        ([class_table("a", [70000])], {}, "0…65535"),
        ([class_table("a", [-1])], {}, "0…65535"),
    ],
)
def test_contradicting_map_is_refused(classes, rest, words):
    with pytest.raises(ConfigError, match=words) as caught:
        make(classes, **rest)
    assert caught.value.code == "SEG-X010"
    assert caught.value.file == "m.toml"


def test_unknown_key_is_refused():
    with pytest.raises(ConfigError, match=r"unknown key 'classes\.0\.color'"):
        make([{"name": "a", "color": "#000000", "raw": [1]}])


def test_map_survives_its_own_toml(ground, painted):
    for label_map in (ground, painted):
        assert labels.from_toml(label_map.as_toml(), where="again") == label_map


def test_shipped_maps_load_and_have_distinct_colours():
    assert {"camvid", "demo"} <= set(labels.names())
    for name in labels.names():
        label_map = labels.load_label_map(name)
        assert label_map.name == name
        assert label_map.source
        assert len(np.unique(label_map.colours, axis=0)) == len(label_map)


RAW_VALUES = {
    # How many raw values a map must know: no more, so that a stray one is an error, and no fewer.
    "cityscapes_19": range(34),
    "cityscapes_8": range(34),
    "cityscapes_34": range(34),
    "cityscapes_19_trainids": [*range(19), 255],
    "gta5_19": range(35),
    "mapillary_v1_66": range(66),
    "mapillary_v1_19": range(66),
    "mapillary_v2_19": range(124),
    "oxford_pet_2": [1, 2, 3],
    "oxford_pet_3": [1, 2, 3],
    "sperm_parts_4": range(4),
    "sperm_parts_6": range(6),
    "loveda_7": range(8),
    "nc_landcover_7": range(8),
    "isprs_6": range(7),
}
STREET = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip


@pytest.mark.parametrize("name", RAW_VALUES)
def test_shipped_index_map_knows_its_values_and_no_other(name):
    label_map = labels.load_label_map(name)
    known = [code for c in label_map.classes for code in c.raw] + list(label_map.ignored)
    assert sorted(known) == list(RAW_VALUES[name])
    for value in set(range(256)) - set(known):
        with pytest.raises(DataError, match="SEG-D001"):
            label_map.remap(np.full((1, 1), value, np.uint8), file="a")


def test_all_maps_to_the_19_have_the_same_classes_and_colours():
    maps = [labels.load_label_map(name) for name in labels.names() if "_19" in name]
    assert len(maps) == 6
    for label_map in maps:
        assert label_map.names == STREET
        np.testing.assert_array_equal(label_map.colours, maps[0].colours)


FACTS = Path(os.environ.get("TERRAZZO_DATA", "nowhere")).parent / "label_facts"
needs_facts = pytest.mark.skipif(not FACTS.is_dir(), reason="no tables of facts beside the data")


def facts(name):
    with (FACTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


@needs_facts
def test_street_maps_equal_the_tables_of_facts():
    cityscapes = [row for row in facts("cityscapes.csv") if int(row["id"]) >= 0]
    to_19, groups, everything, gta5 = (
        labels.load_label_map(name)
        for name in ("cityscapes_19", "cityscapes_8", "cityscapes_34", "gta5_19")
    )
    for row in cityscapes:
        raw = np.full((1, 1), int(row["id"]), np.uint8)
        assert to_19.remap(raw, file="a") == int(row["train_id"])
        assert gta5.remap(raw, file="a") == int(row["train_id"])
        assert groups.names[groups.remap(raw, file="a").item()] == row["group"]
        assert everything.names[everything.remap(raw, file="a").item()] == row["name"]
    mapillary = labels.load_label_map("mapillary_v1_19")
    for row in facts("mapillary_v1_to_cityscapes19.csv"):
        raw = np.full((1, 1), int(row["mapillary_id"]), np.uint8)
        assert mapillary.remap(raw, file="a") == int(row["train_id"])
    vistas = labels.load_label_map("mapillary_v1_66")
    for row, each in zip(facts("mapillary_vistas_v1.csv"), vistas.classes, strict=True):
        assert each.name == row["readable"]
        assert each.colour == "#{:02X}{:02X}{:02X}".format(*(int(row[c]) for c in "rgb"))


@needs_facts
def test_gta5_colours_and_indices_end_in_the_same_class():
    by_index, by_colour = labels.load_label_map("gta5_19"), labels.load_label_map("gta5_19_colours")
    for row in facts("gta5_playing_for_data.csv"):
        if row["name"] == "polegroup":
            continue  # has the colour of pole, and does not occur
        index = by_index.remap(np.full((1, 1), int(row["id"]), np.uint8), file="a")
        colour = np.array([[[int(row[c]) for c in "rgb"]]], np.uint8)
        assert by_colour.remap(colour, file="a") == index, row["name"]


def test_class_table_is_a_label_map(tmp_path):
    path = tmp_path / "class_dict.csv"
    path.write_text("name;r;g;b\nbuilding;255;255;0\nroad; 255;0;0\n\nunlabeled;0;0;0\n")
    table = labels.load_label_map(str(path))
    assert table.name == "class_dict"
    assert table.names == ("building", "road", "unlabeled")
    raw = np.array([[[0, 0, 0], [255, 255, 0], [255, 0, 0]]], np.uint8)
    np.testing.assert_array_equal(table.remap(raw, file="a"), [[2, 0, 1]])
    path.write_text("\ufeffName,R,G,B\r\na,1,2,3\r\n", encoding="utf-8")
    assert labels.load_label_map(str(path)).classes[0].colour == "#010203"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: 1 columns"),
        ("r;g;b;name\n", "line 1: 4 columns, or others"),
        ("name;r;g;b\nroad;1;2\n", "line 2: 3 cells, numbers among them: 1, 2"),
        ("name;r;g;b\nroad;1;2;256\n", "line 2"),
        ("name;r;g;b\na;1;2;3\nroad;1;2;-3\n", "line 3"),
        ("name;r;g;b\n;1;2;3\n", "line 2"),
        ("name;r;g;b\na;1;2;3\nb;1;2;3\n", "mapped twice"),
        ("name;r;g;b\na;1;2;3\na;4;5;6\n", "one name"),
        ("name;r;g;b\n", "no classes"),
    ],
)
def test_wrong_class_table_is_refused(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        labels.load_label_map(str(path))
    assert caught.value.code == "SEG-X010"
    assert caught.value.file == str(path)


def test_absent_class_table_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.csv"):
        labels.load_label_map(str(tmp_path / "gone.csv"))


def shown(label_map, **console):
    text = io.StringIO()
    Console(file=text, highlight=False, width=40, **console).print(
        label_table.table(label_map), soft_wrap=True
    )
    return text.getvalue()


def test_swatches_are_colours_on_a_terminal_and_plain_text_elsewhere():
    label_map = labels.load_label_map("dubai_5")
    plain = shown(label_map)
    assert "\x1b" not in plain
    lines = plain.splitlines()
    assert lines[0] == "dubai_5: 5 classes, from colour masks"
    assert "#3C1098 building" in lines[2]
    assert lines[-2].split() == ["255", "(ignored)", "raw", "#9B9B9B,", "#000000"]
    coloured = shown(label_map, force_terminal=True, color_system="truecolor")
    assert coloured.count("\x1b[48;2;60;16;152m    \x1b[0m") == 1


def test_brackets_in_a_name_are_no_markup():
    assert "[red]x[/]" in shown(make([class_table("[red]x[/]", [1])]))


def test_camvid_map():
    camvid = labels.load_label_map("camvid")
    assert camvid.names == (
        "sky", "building", "pole", "road", "pavement", "tree",
        "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    raw = np.arange(12, dtype=np.uint8)[None]
    np.testing.assert_array_equal(camvid.remap(raw, file="a"), [[*range(11), 255]])


def test_map_from_a_file_and_unknown_names(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[[classes]]\nname = "a"\ncolour = "#010203"\nraw = [1]\n')
    assert labels.load_label_map(str(path)).names == ("a",)
    with pytest.raises(ConfigError, match="did you mean 'camvid'"):
        labels.load_label_map("camvit")
    with pytest.raises(ConfigError, match="no such file"):
        labels.load_label_map(str(tmp_path / "other.toml"))
