"""Folders of images as people have them: splits, links, hidden folders, files of other kinds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.inference.outputs import Settings, plan_outputs

LABELS = (
    'name = "two"\nignored = [255]\n'
    '[[classes]]\nname = "a"\ncolour = "#000001"\nraw = [0]\n'
    '[[classes]]\nname = "b"\ncolour = "#000002"\nraw = [1]\n'
)


def put(path, *size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(size or (6, 8), np.uint8)).save(path)


def put_pairs(root, *names):
    for name in names:
        put(root / "images" / f"{name}.png", 6, 8, 3)
        put(root / "masks" / f"{name}.png")


@pytest.fixture
def label_file(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(LABELS)
    return str(path)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def open_splits(root, label_file, **options):
    data = DataConfig(format="folder", root=str(root), labels=label_file, options=options)
    return {split: datasets.open_split(data, split) for split in datasets.SPLITS}


def names_of(splits):
    return {name: split.names for name, split in splits.items()}


def notes_of(splits):
    return " | ".join(note for split in splits.values() for note in split.source.notes)


# Sub-folders named after the splits


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "validation", "testing")])
def test_sub_folders_named_after_splits_are_the_splits(root, label_file, words):
    names = [f"{word}/{number}" for word in words for number in range(4)]
    put_pairs(root, *names)
    splits = open_splits(root, label_file)
    assert names_of(splits) == {
        split: tuple(f"{word}/{number}" for number in range(4))
        for split, word in zip(datasets.SPLITS, words, strict=True)
    }
    assert f"{words[0]} (4 images)" in notes_of(splits)


def test_a_resumed_run_goes_back_to_the_splits_of_the_folders(root, label_file, tmp_path):
    put_pairs(root, *(f"{split}/{n}" for split in datasets.SPLITS for n in range(3)))
    before = open_splits(root, label_file)
    datasets.keep_draw(before, tmp_path / "splits.json")
    put_pairs(root, "train/more")
    again = open_splits(root, label_file, split_file=str(tmp_path / "splits.json"))
    assert names_of(again) == names_of(before)


def test_a_draw_that_was_asked_for_pools_the_folders_and_says_so(root, label_file):
    put_pairs(root, *(f"{split}/{n}" for split in datasets.SPLITS for n in range(4)))
    splits = open_splits(root, label_file, split={"train": 0.5, "val": 0.25, "test": 0.25})
    assert [len(split) for split in splits.values()] == [6, 3, 3]
    assert "named after splits and are drawn anew" in notes_of(splits)


def test_images_beside_the_folders_of_splits_are_refused(root, label_file):
    put_pairs(root, "train/a", "val/b", "test/c", "more/d")
    with pytest.raises(DataError, match=r"SEG-D014.*\n.*\n.*more/d"):
        open_splits(root, label_file)


def test_a_folder_of_splits_that_lacks_one_leaves_that_one_empty(root, label_file):
    put_pairs(root, "train/a", "train/b", "test/c")
    with pytest.raises(DataError, match="SEG-D016: the split 'val' is empty"):
        open_splits(root, label_file)


def test_folders_of_patients_get_the_expression_that_keeps_them_together(root, label_file):
    names = [f"patient{number % 5}/{number}" for number in range(20)]
    put_pairs(root, *names)
    notes = notes_of(open_splits(root, label_file))
    assert "5 sub-folders (patient0, patient1, patient2, …)" in notes
    assert "split.group = '^(.+)/'" in notes
    rule = {"train": 0.6, "val": 0.2, "test": 0.2, "group": "^(.+)/"}
    splits = open_splits(root, label_file, split=rule)
    owners = [{name.split("/")[0] for name in split.names} for split in splits.values()]
    assert sum(map(len, owners)) == 5
    assert "drawn by itself" not in notes_of(splits)


def test_a_flat_folder_gets_no_note(root, label_file):
    put_pairs(root, *map(str, range(10)))
    assert notes_of(open_splits(root, label_file)) == ""


# Links, hidden folders, other files


def link_both(root, name, target):
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / kind / name).symlink_to(target / kind, target_is_directory=True)


def test_links_inside_the_root_are_followed_and_counted(root, label_file):
    put_pairs(root, *map(str, range(4)))
    put_pairs(root / "store", *map(str, range(6)))
    link_both(root, "p1", root / "store")
    splits = open_splits(root, label_file)
    assert sum(map(len, splits.values())) == 10
    assert f"{root / 'images'}: 1 symbolic links to folders are followed, p1" in notes_of(splits)


def test_links_out_of_the_root_are_refused(root, label_file, tmp_path):
    put_pairs(root, *map(str, range(4)))
    put_pairs(tmp_path / "elsewhere", *map(str, range(6)))
    link_both(root, "p1", tmp_path / "elsewhere")
    with pytest.raises(DataError, match="SEG-D042: a symbolic link leads out of the data set"):
        open_splits(root, label_file)


def test_links_that_go_round_are_refused(root, label_file):
    put_pairs(root, *map(str, range(4)))
    (root / "images" / "again").symlink_to(root, target_is_directory=True)
    with pytest.raises(DataError, match=r"SEG-D042.*without an end"):
        open_splits(root, label_file)


def test_a_root_and_files_that_are_links_are_read(root, label_file, tmp_path):
    put_pairs(tmp_path / "elsewhere", *map(str, range(10)))
    root.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "images" / "0.png").unlink()
    put(tmp_path / "0.png", 6, 8, 3)
    (root / "images" / "0.png").symlink_to(tmp_path / "0.png")
    assert sum(map(len, open_splits(root, label_file).values())) == 10


def test_hidden_folders_and_files_are_never_data(root, label_file):
    put_pairs(root, *map(str, range(10)), ".ipynb_checkpoints/0", "p/.cache/q/0", "._0")
    splits = open_splits(root, label_file)
    assert sorted(name for split in splits.values() for name in split.names) == list("0123456789")


def test_files_that_are_passed_over_are_counted(root, label_file):
    put_pairs(root, *map(str, range(10)))
    for number in range(3):
        (root / "images" / f"{number}.npy").write_bytes(b"x")
    (root / "images" / "notes").write_text("x")
    notes = notes_of(open_splits(root, label_file))
    assert f"{root / 'images'}: 4 files are passed over: 3 .npy, 1 no suffix" in notes


@pytest.mark.parametrize(
    ("place", "missing"),
    [("images", "10 masks without an image"), ("masks", "10 images without a mask")],
)
@pytest.mark.parametrize("kind", [".npy", ".tga"])
def test_files_of_a_kind_that_is_not_read_are_named(root, label_file, place, missing, kind):
    put_pairs(root, *map(str, range(10)))
    for path in (root / place).iterdir():
        path.rename(path.with_suffix(kind))
    with pytest.raises(DataError, match=missing) as caught:
        open_splits(root, label_file)
    assert f"in {root / place} 10 files are passed over: 10 {kind}" in caught.value.observed
    assert caught.value.next_step == (
        f"add, rename or remove the files named; {kind} files are not read: save the arrays or "
        "images in them as PNG or TIFF"
    )


def test_the_option_for_endings_of_names_is_named(root, label_file):
    put_pairs(root, *(f"{number:03d}" for number in range(10)))
    for path in sorted((root / "masks").iterdir()):
        path.rename(path.with_stem(f"{path.stem}_mask"))
    with pytest.raises(DataError, match="SEG-D014") as caught:
        open_splits(root, label_file)
    assert caught.value.next_step == (
        "add, rename or remove the files named; "
        'data.options.mask_suffix = "_mask" pairs 000 with 000_mask'
    )
    assert len(open_splits(root, label_file, mask_suffix="_mask")["train"]) == 8


def test_images_and_masks_in_one_folder_need_an_ending(root, label_file):
    put_pairs(root, *(f"{number:03d}" for number in range(10)))
    for path in sorted((root / "masks").iterdir()):
        path.rename(root / "images" / f"{path.stem}_mask{path.suffix}")
    here = {"images": "images", "masks": "images"}
    with pytest.raises(DataError, match="SEG-D142") as caught:
        open_splits(root, label_file, **here)
    assert caught.value.next_step == 'data.options.mask_suffix = "_mask" pairs 000 with 000_mask'
    assert len(open_splits(root, label_file, mask_suffix="_mask", **here)["train"]) == 8


def test_predict_takes_of_a_folder_what_run_would(tmp_path):
    for name in ("a.png", "sub/b.jpg", ".ipynb_checkpoints/a.png", "._a.png"):
        put(tmp_path / "in" / name)
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "in" / "sub", target_is_directory=True)
    works = plan_outputs([tmp_path / "in"], tmp_path / "out", Settings())
    assert [work.map.relative_to(tmp_path / "out") for work in works] == [
        Path("a.png"),
        Path("linked/b.png"),
        Path("sub/b.png"),
    ]


def test_tiff_that_calls_0_white_is_told_of(root, label_file):
    from terrazzo.io.rasters.handles import open_quietly

    put_pairs(root, *map(str, range(3)))
    for kind in ("images", "masks"):
        for number in range(3):
            (root / kind / f"{number}.png").unlink()
            size = {"height": 6, "width": 8, "count": 1, "dtype": "uint8"}
            path = root / kind / f"{number}.tif"
            with open_quietly(path, "w", photometric="MINISWHITE", **size) as dataset:
                dataset.write(np.zeros((1, 6, 8), np.uint8))
    splits = open_splits(root, label_file)
    assert "TIFF images call 0 white (MinIsWhite): their samples are inverted" in notes_of(splits)
    assert "TIFF masks call 0 white" in notes_of(splits)
    sample = splits["train"].read(0)
    assert (sample.image_HWC == 255).all()
    assert (sample.label_HW == 0).all()
