"""Maps of ordinary images that show themselves: palettes, legends, contours, raw values."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.data import labels
from terrazzo.inference import legends, predict
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.io import images
from terrazzo.testing.scenes import make_model, make_scene


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    Image.fromarray(rng.integers(0, 256, (40, 90, 3), np.uint8)).save(path)
    return path


def run(model, source, out, **settings):
    return predict.predict(model, [source], out, Settings(**settings))


def label_map(raws, ignored=()):
    return labels.from_toml(
        {
            "name": "m",
            "ignored": list(ignored),
            "classes": [
                {"name": f"c{k}", "colour": f"#0000{k + 1:02x}", "raw": [raw] if raw != "" else []}
                for k, raw in enumerate(raws)
            ],
        },
        where="test",
    )


def test_a_map_shows_the_colours_of_its_classes_and_keeps_its_numbers(tmp_path, model, photo):
    run(model, photo, tmp_path / "out")
    loaded = load_model(model)
    expected_HW = loaded.predict(images.read_image(photo))
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), expected_HW)
        shown_HWC = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(shown_HWC, loaded.card.label_map.colourise(expected_HW))
    np.testing.assert_array_equal(
        images.read_label(tmp_path / "out" / "a.png", "index"), expected_HW
    )


@pytest.mark.parametrize(
    ("raws", "ignored", "expected"),
    [
        ((7, 3), (), [[7, 3, 255]]),
        ((7, 3), (9,), [[7, 3, 9]]),
        ((7, 300), (), [[7, 300, 65535]]),
        (("#0a0B0c", "#FF0001"), (), [[[10, 11, 12], [255, 0, 1], [0, 0, 0]]]),
    ],
)
def test_raw_values_are_what_masks_of_the_map_hold(raws, ignored, expected):
    mapped = label_map(raws, ignored)
    ids_HW = np.array([[0, 1, 255]], np.uint8)
    raw = mapped.raw_values(ids_HW)
    assert raw.tolist() == expected
    assert raw.dtype == (np.uint16 if 300 in raws else np.uint8)
    np.testing.assert_array_equal(mapped.remap(raw[:, :2], file="f"), ids_HW[:, :2])


def test_a_class_without_a_raw_value_has_none_to_write():
    with pytest.raises(ConfigError) as caught:
        label_map((7, "")).raw_values(np.zeros((1, 1), np.uint8))
    assert (caught.value.code, caught.value.observed) == ("SEG-X010", "c1")


def test_maps_of_raw_values(tmp_path, photo):
    mapped = label_map((50, 40, 30, 20, 10, 60))
    model = make_model(tmp_path / "own", labels=mapped)
    run(model, photo, tmp_path / "ids")
    run(model, photo, tmp_path / "raw", raw_values=True)
    ids_HW = images.read_label(tmp_path / "ids" / "a.png", "index")
    raw_HW = images.read_label(tmp_path / "raw" / "a.png", "index")
    np.testing.assert_array_equal(mapped.remap(raw_HW, file="a"), ids_HW)
    assert raw_HW.tolist() != ids_HW.tolist()
    told = json.loads((tmp_path / "raw" / "classes.json").read_text())
    assert [each["value"] for each in told["classes"]] == [c.raw[0] for c in mapped.classes]
    with Image.open(tmp_path / "raw" / "a.png") as image:
        shown_HWC = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(shown_HWC, mapped.colourise(ids_HW))


def test_the_folder_says_what_the_numbers_and_colours_mean(tmp_path, model, photo):
    run(model, photo, tmp_path / "out")
    mapped = load_model(model).card.label_map
    told = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert told == {
        "label_map": mapped.name,
        "classes": [
            {
                "value": k,
                "name": each.name,
                "colour": each.colour,
                "raw": [mapped.raw_text(code) for code in each.raw],
            }
            for k, each in enumerate(mapped.classes)
        ],
    }
    legend_HWC = cv2.imread(str(tmp_path / "out" / "legend.png"))[..., ::-1]
    shown = {tuple(colour) for colour in legend_HWC.reshape(-1, 3).tolist()}
    assert shown >= {tuple(colour) for colour in mapped.colours.tolist()}


def test_one_folder_holds_maps_of_one_table_of_classes(tmp_path, model, photo):
    out = tmp_path / "out"
    run(model, photo, out)
    other = photo.with_name("b.png")
    other.write_bytes(photo.read_bytes())
    run(model, other, out)  # of the same classes
    unlike = make_model(tmp_path / "unlike", labels=label_map((5, 4, 3, 2, 1, 0)))
    third = photo.rename(photo.with_name("c.png"))
    with pytest.raises(CheckpointError) as caught:
        run(unlike, third, out)
    assert (caught.value.code, caught.value.file) == ("SEG-C002", str(out / "classes.json"))
    assert not (out / "c.png").exists()
    run(unlike, third, out, overwrite=True)
    assert json.loads((out / "classes.json").read_text())["label_map"] == "m"


def test_an_overlay_has_the_image_and_the_classes_that_occur_below_it():
    mapped = labels.load_label_map("camvid")
    image_HWC = np.full((50, 300, 3), 100, np.uint8)
    ids_HW = np.zeros((50, 300), np.uint8)
    ids_HW[:, 150:] = 3
    drawn_HWC = legends.overlay(image_HWC, ids_HW, mapped)
    for half, k in ((drawn_HWC[:50, :150], 0), (drawn_HWC[:50, 150:300], 3)):
        expected = np.rint((100 + mapped.colours[k].astype(float)) / 2)
        assert np.abs(half.astype(float) - expected).max() <= 1
    below = {tuple(colour) for colour in drawn_HWC[50:].reshape(-1, 3).tolist()}
    present = {tuple(colour) for colour in mapped.colours[[0, 3]].tolist()}
    absent = {tuple(colour) for colour in np.delete(mapped.colours, [0, 3], axis=0).tolist()}
    assert below >= present
    assert not below & (absent - present)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_contours_leave_the_image_to_be_seen(dtype):
    mapped = labels.load_label_map("camvid")
    image_HWC = np.full((64, 64, 3), 7, np.uint8)
    ids_HW = np.zeros((64, 64), dtype)
    ids_HW[16:48, 16:48] = 5
    drawn_HWC = legends.overlay(image_HWC, ids_HW, mapped, contours=True)
    assert drawn_HWC[32, 32].tolist() == drawn_HWC[2, 2].tolist() == [7, 7, 7]
    assert drawn_HWC[32, 16].tolist() == mapped.colours[5].tolist()
    assert drawn_HWC[32, 15].tolist() == mapped.colours[0].tolist()


def test_a_long_name_widens_the_legend():
    mapped = label_map((1, 2))
    named = labels.LabelMap("m", (labels.LabelClass("é" * 90, "#ff0000", (1,)), mapped.classes[1]))
    assert legends.panel(named, [0, 1], 60).shape[1] > 60
    assert legends.panel(named, [1], 160).shape[1] == 160
    assert legends.panel(named, [], 160).shape == (0, 160, 3)


@pytest.mark.parametrize("option", ["raw_values", "contours"])
def test_options_of_images_are_not_for_scenes(tmp_path, model, option):
    scene = make_scene(tmp_path / "s.tif", (40, 40, 3))
    with pytest.raises(ConfigError) as caught:
        run(model, scene, tmp_path / "map.tif", **{option: True})
    assert caught.value.code == "SEG-X094"


def test_labelling_programs_get_train_ids(tmp_path, model, photo):
    with pytest.raises(ConfigError) as caught:
        run(model, photo, tmp_path / "out", raw_values=True, labels_for="cvat")
    assert caught.value.code == "SEG-X094"


def test_the_classes_of_a_scene_are_in_its_map(tmp_path, model):
    (tmp_path / "in").mkdir()
    scene = make_scene(tmp_path / "in" / "s.tif", (40, 40, 3))
    run(model, scene, tmp_path / "out")
    assert not (tmp_path / "out" / "legend.png").exists()


def test_a_map_of_an_image_is_not_named_by_hand(tmp_path, model, photo):
    with pytest.raises(ConfigError, match="SEG-X032") as caught:
        run(model, photo, tmp_path / "one.png")
    assert str(tmp_path / "a.png") in caught.value.next_step
    assert not (tmp_path / "one.png").exists()
