"""Every format opens real samples, and its pixel counts equal a count made another way.

The other way is Pillow and NumPy alone: nothing of ours decodes, maps or counts there, and the
class of a raw value is written out below once more, after the data sets' own pages.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets

DATA = Path(os.environ.get("TERRAZZO_DATA", "nowhere"))
LAYOUTS = DATA / "layout_samples"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="TERRAZZO_DATA is not set")

VOID = 255


def counted(name, root, *, labels=None, limit=None, splits=datasets.SPLITS, **options):
    """Return pixels by train id over the splits, and names by split, as our readers have them."""
    data = DataConfig(format=name, root=str(root), labels=labels, options=options)
    pixels, names = np.zeros(256, np.int64), {}
    for split in splits:
        opened = datasets.open_split(data, split)
        names[split] = opened.names
        for index in range(len(opened.names))[:limit]:
            sample = opened.read(index)
            assert sample.image_HWC.shape[:2] == sample.label_HW.shape
            pixels += np.bincount(sample.label_HW.ravel(), minlength=256)
    return {k: int(n) for k, n in enumerate(pixels) if n}, names


def of_indices(paths, train_id):
    """Count by Pillow's histogram of the stored values."""
    pixels = {}
    for path in paths:
        with Image.open(path) as mask:
            assert mask.mode in ("L", "P")
            for value, count in enumerate(mask.histogram()):
                if count:
                    pixels[train_id[value]] = pixels.get(train_id[value], 0) + count
    return pixels


def of_colours(paths, train_id):
    """Count by Pillow's list of colours."""
    pixels = {}
    for path in paths:
        with Image.open(path) as mask:
            for count, colour in mask.convert("RGB").getcolors(1 << 24):
                known = train_id["#{:02X}{:02X}{:02X}".format(*colour)]
                pixels[known] = pixels.get(known, 0) + count
    return pixels


def flat(names):
    return sorted(name for several in names.values() for name in several)


def test_camvid():
    pixels, names = counted("camvid", DATA / "camvid", limit=40)
    masks = [
        DATA / "camvid" / f"{split}annot" / f"{name}.png"
        for split, several in names.items()
        for name in several[:40]
    ]
    assert len(masks) == 120
    assert pixels == of_indices(masks, [*range(11), VOID])
    assert {split: len(several) for split, several in names.items()} == {
        "train": 367,
        "val": 101,
        "test": 233,
    }


@pytest.mark.parametrize(
    ("labels", "train_id"), [(None, {1: 0, 2: 1, 3: VOID}), ("oxford_pet_3", {1: 0, 2: 1, 3: 2})]
)
def test_oxford_pet(labels, train_id):
    root = DATA / "oxford_pet" / "oxford-iiit-pet"
    pixels, names = counted("oxford_pet", root, labels=labels)
    trimaps = [root / "annotations" / "trimaps" / f"{name}.png" for name in flat(names)]
    assert pixels == of_indices(trimaps, train_id)
    lists = {
        part: {
            line.split()[0] for line in (root / f"annotations/{part}.txt").read_text().splitlines()
        }
        for part in ("trainval", "test")
    }
    assert set(names["test"]) == lists["test"]
    assert {*names["train"], *names["val"]} == lists["trainval"]
    assert len(names["val"]) == 30  # a tenth of 300


DUBAI = {"#3C1098": 0, "#8429F6": 1, "#6EC1E4": 2, "#FEDD3A": 3, "#E2A929": 4, "#000000": VOID}


@pytest.mark.parametrize(("labels", "unlabeled"), [("dubai_6", 5), ("dubai_5", VOID)])
def test_dubai_aerial(labels, unlabeled):
    root = DATA / "dubai_aerial" / "Semantic segmentation dataset"
    pixels, names = counted("colour_tiles", root, labels=labels)
    masks = sorted(root.glob("*/masks/*.png"))
    assert len(masks) == len(flat(names)) == 45
    assert pixels == of_colours(masks, {**DUBAI, "#9B9B9B": unlabeled})
    tiles = [{name.partition("/")[0] for name in several} for several in names.values()]
    assert sorted(tile for several in tiles for tile in several) == [
        f"Tile {n}" for n in range(1, 6)
    ]


def test_dubai_by_a_class_table(tmp_path):
    table = tmp_path / "classes.csv"
    names = ["building", "land", "road", "vegetation", "water", "stray", "unlabeled"]
    lines = [
        f"{name};{int(c[1:3], 16)};{int(c[3:5], 16)};{int(c[5:], 16)}"
        for name, c in zip(names, [*DUBAI, "#9B9B9B"], strict=True)
    ]
    table.write_text("\n".join(["name;r;g;b", *lines]) + "\n")
    root = DATA / "dubai_aerial" / "Semantic segmentation dataset"
    pixels, _ = counted("colour_tiles", root, labels=str(table))
    masks = sorted(root.glob("*/masks/*.png"))
    assert pixels == of_colours(masks, {**DUBAI, "#000000": 5, "#9B9B9B": 6})


def test_sperm_parts():
    root = DATA / "sperm_parts"
    pixels, names = counted("part_masks", root)
    assert len(names["test"]) == 64
    assert len(names["train"]) + len(names["val"]) == 192
    expected = np.zeros(4, np.int64)
    for name in flat(names):
        parts = [
            np.asarray(Image.open(root / f"mask/{part}-Masks/{name}.png")) == 255
            for part in ("Head", "Midpiece", "Tail")
        ]
        free = np.ones(parts[0].shape, bool)
        for number, part in enumerate(parts, start=1):
            expected[number] += np.count_nonzero(part & free)
            free &= ~part
        expected[0] += np.count_nonzero(free)
    assert pixels == dict(enumerate(expected.tolist()))
    shares = expected / expected.sum()
    assert np.abs(shares - (0.949, 0.020, 0.005, 0.026)).max() < 0.001  # as its page has them


CITYSCAPES = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11}
CITYSCAPES |= {25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
IDS_19 = [CITYSCAPES.get(value, VOID) for value in range(34)]
GROUPS = [0] * 7 + [1] * 4 + [2] * 6 + [3] * 4 + [4] * 2 + [5] + [6] * 2 + [7] * 8
FRANKFURT = "frankfurt/frankfurt_000000_000294"


@pytest.mark.parametrize(
    ("labels", "masks", "train_id"),
    [
        (None, "labelIds", IDS_19),
        ("cityscapes_8", "labelIds", GROUPS),
        ("cityscapes_34", "labelIds", range(34)),
        ("cityscapes_19_trainids", "labelTrainIds", range(256)),
    ],
)
def test_cityscapes(labels, masks, train_id):
    root = LAYOUTS / "pseudo_cityscapes_dataset"
    pixels, names = counted("cityscapes", root, labels=labels, splits=["test"], masks=masks)
    assert names == {"test": (FRANKFURT,)}
    mask = root / f"gtFine/val/{FRANKFURT}_gtFine_{masks}.png"
    assert pixels == of_indices([mask], train_id)


def test_cityscapes_ids_and_train_ids_agree():
    """The data set's own conversion judges our map.

    The two masks of the sample were reduced in size one by one, so 77 pixels along edges differ.
    """
    root = LAYOUTS / "pseudo_cityscapes_dataset"
    by_ids, by_train_ids = (
        datasets.open_split(
            DataConfig(
                format="cityscapes", root=str(root), labels=labels, options={"masks": masks}
            ),
            "test",
        )
        .read(0)
        .label_HW
        for masks, labels in (
            ("labelIds", None),
            ("labelTrainIds", "cityscapes_19_trainids"),
        )
    )
    assert np.count_nonzero(by_ids != by_train_ids) == 77
    for train_id in np.unique(by_ids):
        assert np.bincount(by_train_ids[by_ids == train_id]).argmax() == train_id


def test_masks_of_the_other_kind_are_refused_not_misread():
    root = LAYOUTS / "pseudo_cityscapes_dataset"
    for masks, labels in (("labelTrainIds", None), ("labelIds", "cityscapes_19_trainids")):
        with pytest.raises(ValueError, match="SEG-D001"):
            counted("cityscapes", root, labels=labels, splits=["test"], masks=masks)


@pytest.mark.parametrize(
    ("version", "labels", "train_id"),
    [
        ("v1.2", "mapillary_v1_66", range(66)),
        ("v1.2", "mapillary_v1_19", {17: 2, 44: VOID, 45: 5}),
        ("v2.0", "mapillary_v2_19", {27: 2, 84: VOID, 85: 5}),
    ],
)
def test_mapillary(tmp_path, version, labels, train_id):
    """The sample lies flat; it is put into the folders of the real package."""
    sample = LAYOUTS / "pseudo_mapillary_dataset"
    name = "__CRyFzoDOXn6unQ6a3DnQ"
    folders = {
        f"validation/{version}/labels": sample / version / f"{name}.png",
        "validation/images": sample / "images" / f"{name}.jpg",
    }
    for folder, file in folders.items():
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(file, tmp_path / folder)
    options = {"version": version, "splits": ["test"]}
    pixels, names = counted("mapillary", tmp_path, labels=labels, **options)
    assert names == {"test": (name,)}
    assert pixels == of_indices([sample / version / f"{name}.png"], train_id)


def test_mapillary_versions_agree_on_the_19():
    """The same pixels, labelled twice by the data set's makers, end in the same classes."""
    sample = LAYOUTS / "pseudo_mapillary_dataset"
    from terrazzo.data import labels

    maps = {"v1.2": "mapillary_v1_19", "v2.0": "mapillary_v2_19"}
    train_ids = [
        labels.load_label_map(name).remap(
            np.asarray(Image.open(sample / version / "__CRyFzoDOXn6unQ6a3DnQ.png")), file=version
        )
        for version, name in maps.items()
    ]
    np.testing.assert_array_equal(*train_ids)


def test_loveda(tmp_path):
    """The sample lies flat; it is put into the folders of the real package."""
    sample = LAYOUTS / "pseudo_loveda_dataset"
    parts = {"0": "Train/Urban", "1": "Train/Rural", "2": "Val/Urban"}
    for stem, part in parts.items():
        for kind, source in (("images_png", "img_dir"), ("masks_png", "ann_dir")):
            (tmp_path / part / kind).mkdir(parents=True)
            shutil.copy(sample / source / f"{stem}.png", tmp_path / part / kind)
    for kind in ("images_png", "masks_png"):
        (tmp_path / "Val" / "Rural" / kind).mkdir(parents=True)
    pixels, names = counted("loveda", tmp_path)
    assert names["test"] == ("Urban/2",)
    assert flat(names) == ["Rural/1", "Urban/0", "Urban/2"]
    assert pixels == of_indices(sorted((sample / "ann_dir").iterdir()), [VOID, *range(7)])


@pytest.mark.parametrize("name", ["potsdam", "vaihingen"])
def test_isprs(name):
    root = LAYOUTS / f"pseudo_{name}_dataset"
    all_in_train = {"train": 1, "val": 0, "test": 0}
    options = {"images": "img_dir", "masks": "ann_dir", "split": all_in_train}
    pixels, names = counted("folder", root, labels="isprs_6", splits=["train"], **options)
    assert len(names["train"]) == 1
    assert pixels == of_indices(sorted((root / "ann_dir").iterdir()), [VOID, *range(6)])
