"""Label maps: one look-up, nothing guessed, every contradiction named."""

import numpy as np
import pytest

from terrazzo import labels
from terrazzo.errors import ConfigError, DataError


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
    picture = ground.colourise(np.array([[0, 1, 255]], np.uint8))
    np.testing.assert_array_equal(picture, [[[0, 255, 0], [0, 0, 255], [0, 0, 0]]])
    assert picture.dtype == np.uint8


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
        label_map = labels.load(name)
        assert label_map.name == name
        assert label_map.source
        assert len(np.unique(label_map.colours, axis=0)) == len(label_map)


def test_camvid_map():
    camvid = labels.load("camvid")
    assert camvid.names == (
        "sky", "building", "pole", "road", "pavement", "tree",
        "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    raw = np.arange(12, dtype=np.uint8)[None]
    np.testing.assert_array_equal(camvid.remap(raw, file="a"), [[*range(11), 255]])


def test_map_from_a_file_and_unknown_names(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[[classes]]\nname = "a"\ncolour = "#010203"\nraw = [1]\n')
    assert labels.load(str(path)).names == ("a",)
    with pytest.raises(ConfigError, match="did you mean 'camvid'"):
        labels.load("camvit")
    with pytest.raises(ConfigError, match="no such file"):
        labels.load(str(tmp_path / "other.toml"))
