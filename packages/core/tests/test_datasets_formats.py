"""What is special to one format; what all must do is in the contract."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import gta5
from terrazzo.testing import dataset_trees
from terrazzo.testing.dataset_trees import save

SIZE = dataset_trees.SIZE


def changed(tree, labels=None, **options):
    return tree.data.model_copy(
        update={"options": {**tree.data.options, **options}, "labels": labels or tree.data.labels}
    )


def names(data):
    return {split: datasets.open_split(data, split).names for split in datasets.SPLITS}


def cities(several):
    return {name.partition("/")[0] for name in several}


# Official parts


def test_cityscapes_tests_on_val_and_draws_whole_cities_for_val(tmp_path):
    tree = dataset_trees.cityscapes(tmp_path)
    divided = names(tree.data)
    assert cities(divided["test"]) == {"frankfurt"}
    assert len(cities(divided["val"])) == 1
    assert not cities(divided["val"]) & cities(divided["train"])


def test_a_share_for_test_pools_the_official_parts(tmp_path):
    """As the study did that divided Cityscapes anew."""
    tree = dataset_trees.cityscapes(tmp_path)
    shares = {"train": 0.6, "val": 0.2, "test": 0.2}
    divided = names(changed(tree, split=shares))
    assert [len(cities(several)) for several in divided.values()] == [3, 1, 1]
    each = names(changed(tree, split={**shares, "group": "(.*)"}))
    assert [len(several) for several in each.values()] == [7, 2, 2]
    other = names(changed(tree, split={**shares, "group": "(.*)", "seed": 5}))
    assert other != each


def test_pooled_parts_with_a_name_in_common_are_refused(tmp_path):
    dataset_trees.mapillary(tmp_path)
    for kind in ("images", "v1.2/labels"):
        source = tmp_path / "training" / kind / "t0_-x.png"
        (tmp_path / "validation" / kind / "t0_-x.png").write_bytes(source.read_bytes())
    shares = {"train": 0.6, "val": 0.2, "test": 0.2}
    data = DataConfig(
        format="mapillary", root=str(tmp_path), labels="mapillary_v1_19", options={"split": shares}
    )
    with pytest.raises(DataError, match="two images have one name") as caught:
        datasets.open_split(data, "train")
    assert "training/images/t0_-x.png and " in str(caught.value)


def test_test_split_opens_where_only_the_official_part_is_there(tmp_path):
    tree = dataset_trees.mapillary(tmp_path)
    (tmp_path / "training").rename(tmp_path / "elsewhere")
    assert len(datasets.open_split(tree.data, "test").names) == 2
    with pytest.raises(DataError, match="no such folder"):
        datasets.open_split(tree.data, "val")


# A kept draw


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "SEG-D013"),
        ('{"train": "a"}', "SEG-D013"),
        ('{"training": ["a"]}', "SEG-D013"),
        ('{"train": ["a"], "test": ["a"]}', "SEG-D015"),
        (None, "SEG-D013"),
    ],
)
def test_wrong_split_file(tmp_path, text, code):
    tree = dataset_trees.gta5(tmp_path / "data")
    file = tmp_path / "splits.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DataError) as caught:
        datasets.open_split(changed(tree, split_file=str(file)), "train")
    assert caught.value.code == code
    assert caught.value.file == str(file)


def test_kept_draw_has_all_names_whatever_the_limit(tmp_path):
    tree = dataset_trees.gta5(tmp_path / "data")
    data = tree.data.model_copy(update={"limit": {"train": 1}})
    splits = {split: datasets.open_split(data, split) for split in datasets.SPLITS}
    assert len(splits["train"]) == 1
    datasets.keep_draw(splits, tmp_path / "splits.json")
    kept = json.loads((tmp_path / "splits.json").read_text())
    assert sorted(name for several in kept.values() for name in several) == sorted(
        tree.written_images
    )


# gta5


def test_gta5_leaves_out_the_unusable_files_and_says_so(tmp_path):
    tree = dataset_trees.gta5(tmp_path)
    for name in ("15188", "20801"):
        save(tmp_path / "images" / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
        save(tmp_path / "labels" / f"{name}.png", np.zeros((3, 3), np.uint8))
    assert sorted(n for several in names(tree.data).values() for n in several) == sorted(
        tree.written_images
    )
    notes = datasets.open_split(tree.data, "train").source.notes
    assert notes == ("gta5: 2 images with unusable labels are left out (skip_unusable)",)
    everything = names(changed(tree, skip_unusable=False))
    assert (
        len([n for several in everything.values() for n in several]) == len(tree.written_images) + 2
    )


def test_gta5_knows_63_unusable_files():
    assert len(gta5.UNUSABLE) == 63
    assert {"15188", "15617", "17705", "20801", "20860"} <= gta5.UNUSABLE
    assert "20861" not in gta5.UNUSABLE


def test_gta5_keeps_a_hundred_frames_together(tmp_path):
    tree = dataset_trees.gta5(tmp_path)
    owner = {n: split for split, several in names(tree.data).items() for n in several}
    assert owner["00001"] == owner["00002"]
    assert owner["00101"] == owner["00102"]


def test_gta5_by_colour_and_not_by_the_wrong_map(tmp_path):
    tree = dataset_trees.gta5(tmp_path)
    for written in tree.written_images.values():
        road, sky = np.array([128, 64, 128]), np.array([70, 130, 180])
        raw = np.where(np.arange(SIZE[1])[None, :, None] < 4, road, sky).astype(np.uint8)
        save(written.masks[0], np.broadcast_to(raw, (*SIZE, 3)).copy())
    data = changed(tree, "gta5_19_colours", mask_kind="colour")
    label_HW = datasets.open_split(data, "train").read(0).label_HW
    assert np.unique(label_HW[:, :4]).tolist() == [0]
    assert np.unique(label_HW[:, 4:]).tolist() == [10]
    with pytest.raises(DataError, match="SEG-D007"):
        datasets.open_split(changed(tree, "gta5_19", mask_kind="colour"), "train").read(0)
    with pytest.raises(DataError, match="SEG-D007"):
        datasets.open_split(tree.data, "train").read(0)


# mapillary


def test_mapillary_asks_for_a_label_map_of_a_version(tmp_path):
    tree = dataset_trees.mapillary(tmp_path)
    with pytest.raises(ConfigError, match="needs a label map"):
        datasets.open_split(tree.data.model_copy(update={"labels": None}), "train")


def test_mapillary_first_package(tmp_path):
    tree = dataset_trees.mapillary(tmp_path)
    for part in ("training", "validation"):
        (tmp_path / part / "v1.2" / "labels").rename(tmp_path / part / "labels")
    divided = names(changed(tree, version="v1.1"))
    trained = sorted(name for name in tree.written_images if name.startswith("t"))
    assert sorted((*divided["train"], *divided["val"])) == trained
    assert len(divided["test"]) == 2
    with pytest.raises(DataError, match=r"v1\.2/labels"):
        datasets.open_split(tree.data, "train")


# oxford_pet


def test_oxford_pet_ignores_what_is_not_listed_and_skips_by_name(tmp_path):
    tree = dataset_trees.oxford_pet(tmp_path)
    save(tmp_path / "images" / "unlisted.png", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "annotations" / "trimaps" / "._pug_2.png").write_bytes(b"Finder was here")
    data = changed(tree, skip=["pug_2"])
    assert names(data)["test"] == ("beagle_1",)
    assert datasets.open_split(data, "test").source.notes == (
        "oxford_pet: left out by name: pug_2",
    )
    assert datasets.open_split(tree.data, "test").source.notes == ()


@pytest.mark.parametrize("alpha", [255, 254, 0])
def test_oxford_pet_reads_a_png_named_jpg_and_leaves_its_alpha_out(tmp_path, alpha):
    tree = dataset_trees.oxford_pet(tmp_path)
    plain = datasets.open_split(tree.data, "test").source
    file = plain.files(0)[0]
    colours_HWC = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    see_through_HWC = np.dstack([colours_HWC, np.full(SIZE, 255, np.uint8)])
    see_through_HWC[3, 4, 3] = alpha
    file.unlink()
    save(tmp_path / "drawn.png", see_through_HWC)
    (tmp_path / "drawn.png").rename(file.with_suffix(".jpg"))
    source = datasets.open_split(tree.data, "test").source
    np.testing.assert_array_equal(source.read_image(0).image_HWC, colours_HWC)
    assert source.notes == (
        f"oxford_pet: alpha is left out of 1 of {len(plain.names)} images: {plain.names[0]}",
    )


def test_oxford_pet_lists_that_share_a_image(tmp_path):
    tree = dataset_trees.oxford_pet(tmp_path)
    with (tmp_path / "annotations" / "test.txt").open("a") as file:
        file.write("Abyssinian_0 1 1 1\n")
    with pytest.raises(DataError, match=r"Abyssinian_0 \(train and test\)") as caught:
        datasets.open_split(tree.data, "train")
    assert caught.value.code == "SEG-D015"


# colour_tiles


def test_colour_tiles_without_tiles_are_drawn_one_by_one(tmp_path):
    for number in range(20):
        save(tmp_path / f"images/ufa_{number}.png", np.zeros((*SIZE, 3), np.uint8))
        save(tmp_path / f"masks/ufa_{number}.png", np.zeros((*SIZE, 3), np.uint8))
    data = DataConfig(format="colour_tiles", root=str(tmp_path), labels="aerial_cities_5")
    divided = names(data)
    assert [len(several) for several in divided.values()] == [17, 2, 1]
    assert divided["val"][0].startswith("ufa_")
    assert (datasets.open_split(data, "val").read(0).label_HW == 4).all()


def test_colour_tiles_keeps_tiles_together(tmp_path):
    divided = names(dataset_trees.colour_tiles(tmp_path).data)
    assert [len(several) for several in divided.values()] == [4, 2, 2]
    assert not cities(divided["train"]) & cities(divided["val"])


def test_antialiased_colour_is_named(tmp_path):
    tree = dataset_trees.colour_tiles(tmp_path)
    split = datasets.open_split(tree.data, "train")
    mask = tree.written_images[split.names[0]].masks[0]
    blurred = np.asarray(Image.open(mask).convert("RGB")).copy()
    blurred[3, 3] = 0x12, 0x34, 0x56
    save(mask, blurred)
    with pytest.raises(DataError, match=r"#123456 \(1 px\)"):
        split.read(0)


# loveda


def test_loveda_of_one_scene(tmp_path):
    tree = dataset_trees.loveda(tmp_path)
    divided = names(changed(tree, scenes=["Rural"]))
    assert divided["test"] == ("Rural/Val0",)
    assert cities(divided["train"]) == {"Rural"}
    with pytest.raises(ConfigError, match="scenes"):
        names(changed(tree, scenes=[]))


# part_masks


@pytest.fixture
def parts(tmp_path):
    """One image with head and tail masks that overlap and have soft edges."""
    head, tail = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    head[:, :5], head[:, 5], tail[:, 4:] = 255, 16, 255
    tail[0, 4:] = 17
    for split in ("train", "test"):
        save(tmp_path / f"images/{split}/{split}.png", np.zeros((*SIZE, 1), np.uint8))
        save(tmp_path / f"mask/Head-Masks/{split}.png", head)
        save(tmp_path / f"mask/Tail-Masks/{split}.png", tail)

    def read(**options):
        settings = {"parts": ["Head", "Tail"], **options}
        data = DataConfig(
            format="part_masks", root=str(tmp_path), labels="sperm_parts_4", options=settings
        )
        return datasets.open_split(data, "test").source.read(0).raw_label

    return read


def test_threshold_and_precedence(parts):
    expected = np.repeat([[1, 1, 1, 1, 1, 2, 2, 2, 2, 2]], SIZE[0], axis=0)
    np.testing.assert_array_equal(parts(), expected)
    expected[:, 4] = 2
    np.testing.assert_array_equal(parts(precedence=["Tail", "Head"]), expected)
    assert parts(threshold=15)[5, 5] == 1  # 16 is above 15
    assert parts(threshold=17)[0, 6] == 0  # 17 is not above 17


def test_masks_of_ones_under_a_threshold_are_not_an_empty_part(parts, tmp_path):
    save(tmp_path / "mask/Tail-Masks/test.png", np.ones(SIZE, np.uint8) * (np.eye(*SIZE) > 0))
    with pytest.raises(DataError, match="the part would be empty") as caught:
        parts()
    assert caught.value.code == "SEG-D002"
    assert "values 0 and 1" in str(caught.value)
    assert parts(threshold=0)[7, 7] == 2


def test_masks_of_two_sizes_name_both_files(parts, tmp_path):
    save(tmp_path / "mask/Tail-Masks/test.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(DataError, match="3×4") as caught:
        parts()
    assert "Head-Masks/test.png" in str(caught.value)
    assert caught.value.file.endswith("Tail-Masks/test.png")


def test_jpeg_masks_only_when_asked_for(parts, tmp_path):
    for part in ("Head", "Tail"):
        mask = tmp_path / f"mask/{part}-Masks/test.png"
        Image.open(mask).save(mask.with_suffix(".jpg"), quality=95)
        mask.unlink()
    with pytest.raises(DataError, match="SEG-D008"):
        parts()
    soft = parts(lossy_masks=True)
    assert (soft[2:, :3] == 1).all()
    assert (soft[2:, 8:] == 2).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"parts": ["Head", "Head"]}, "names a part twice"),
        ({"precedence": ["Head"]}, "precedence must order Head, Tail"),
        ({"threshold": 255}, "threshold"),
    ],
)
def test_wrong_part_options(parts, options, words):
    with pytest.raises(ConfigError, match=words):
        parts(**options)


def test_finer_parts_have_a_map_of_their_own(tmp_path):
    kinds = ["Acrosome", "Nucleus", "Vacuole", "Midpiece", "Tail"]
    save(tmp_path / "images/train/a.png", np.zeros((*SIZE, 1), np.uint8))
    save(tmp_path / "images/test/b.png", np.zeros((*SIZE, 1), np.uint8))
    for row, kind in enumerate(kinds):
        mask = np.zeros(SIZE, np.uint8)
        mask[row] = 255
        for name in "ab":
            save(tmp_path / f"mask/{kind}-Masks/{name}.png", mask)
    data = DataConfig(
        format="part_masks",
        root=str(tmp_path),
        labels="sperm_parts_6",
        options={"parts": kinds},
    )
    split = datasets.open_split(data, "test")
    assert split.label_map.names[1:] == ("acrosome", "nucleus", "vacuole", "midpiece", "tail")
    assert split.read(0).label_HW[:, 0].tolist() == [1, 2, 3, 4, 5] + [0] * 7
