"""What every data-set format must do, as plain functions that raise AssertionError.

`CHECKS` names them; a test runs ``CHECKS × WRITERS``, see ``packages/core/tests``.
`faulty_datasets.py` holds, for each check, readers that break just that promise and must be
caught.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import SPLITS, Source
from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import RawSample, Sample
from terrazzo.testing.dataset_trees import Tree, Written, all_names, save

_THREADS = 4


class Split(Protocol):
    """What the checks ask of an open split; `terrazzo.data.datasets.Split` has it."""

    source: Source
    label_map: LabelMap

    def read(self, index: int) -> Sample:
        """Decode one sample."""
        ...


Open = Callable[[DataConfig, str], Any]
"""Opens a split by settings and name, as `terrazzo.data.datasets.open_split` does."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A format under test.

    Attributes:
        write: writes a tiny tree below an empty folder.
        root: that folder.
        open_split: opens a split of it.
    """

    write: Callable[[Path], Tree]
    root: Path
    open_split: Open = datasets.open_split

    def splits(self, tree: Tree) -> dict[str, Any]:
        """Open all splits."""
        return {split: self.open_split(tree.data, split) for split in SPLITS}


def check_names_are_unique_and_sorted(subject: Subject) -> None:
    """Seeds refer to this order, so it must not depend on the file system."""
    for split in subject.splits(subject.write(subject.root)).values():
        names = split.source.names
        assert isinstance(names, tuple)
        assert list(names) == sorted(set(names))
        assert names


def check_every_image_is_in_one_split(subject: Subject) -> None:
    """No image is lost, and none is in two splits: a score on trained images says nothing."""
    tree = subject.write(subject.root)
    splits = {name: split.source.names for name, split in subject.splits(tree).items()}
    assert all_names(splits) == sorted(tree.written_images)


def check_reads_what_was_written(subject: Subject) -> None:
    """Pixels and raw labels come as the files hold them: not resized, not mapped, not clipped."""
    for split, index, written in _each(subject):
        raw = split.source.read(index)
        assert isinstance(raw, RawSample)
        assert raw.name == split.source.names[index]
        assert raw.image_HWC.dtype == np.uint8
        np.testing.assert_array_equal(raw.image_HWC, written.image_HWC)
        np.testing.assert_array_equal(raw.raw_label, written.raw_label)
        assert raw.image_HWC.shape[2] == len(split.source.band_names)


def check_labels_are_train_ids(subject: Subject) -> None:
    """A split's labels equal the map's, value by value, written out here once more."""
    tree = subject.write(subject.root)
    train_ids = {code: k for k, c in enumerate(tree.label_map.classes) for code in c.raw}
    train_ids |= dict.fromkeys(tree.label_map.ignored, tree.label_map.ignore_index)
    for split in subject.splits(tree).values():
        for index, name in enumerate(split.source.names):
            label_HW = split.read(index).label_HW
            raw_label = tree.written_images[name].raw_label
            expected = [train_ids[_code(value)] for value in raw_label.reshape(label_HW.size, -1)]
            assert label_HW.ravel().tolist() == expected


def check_files_are_those_read(subject: Subject) -> None:
    """`files` names the image and all of its masks, and the sample names its image."""
    for split, index, written in _each(subject):
        assert split.source.files(index) == (written.image, *written.masks)
        raw = split.source.read(index)
        assert raw.image_file == str(written.image)
        assert all(str(mask) in raw.label_file for mask in written.masks)


def check_reading_is_repeatable_in_threads(subject: Subject) -> None:
    """Several threads read what one reads, and what a reader is given is its own."""
    for split in subject.splits(subject.write(subject.root)).values():
        source = split.source
        expected = [source.read(index) for index in range(len(source.names))]
        copies = [(raw.image_HWC.copy(), raw.raw_label.copy()) for raw in expected]
        wrong: list[str] = []

        arguments = (source, copies, wrong)
        threads = [threading.Thread(target=_read_all, args=arguments) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        again = source.read(0)
        assert not np.shares_memory(again.image_HWC, expected[0].image_HWC)
        assert not np.shares_memory(again.raw_label, expected[0].raw_label)


def check_opening_twice_gives_the_same(subject: Subject) -> None:
    """The splits depend on no order and no age of the files."""
    tree = subject.write(subject.root)
    before = {name: split.source.names for name, split in subject.splits(tree).items()}
    for age, written in enumerate(reversed(list(tree.written_images.values()))):
        os.utime(written.image, (age, age))
        content = written.image.read_bytes()
        written.image.unlink()
        written.image.write_bytes(content)
    assert before == {name: split.source.names for name, split in subject.splits(tree).items()}


def check_a_kept_draw_outlives_new_images(subject: Subject) -> None:
    """With the draw of a run, images added later change no split; official ones draw nothing."""
    tree = subject.write(subject.root)
    assert datasets.draws(tree.data) == tree.drawn
    if not tree.drawn:
        return
    splits = subject.splits(tree)
    before = {name: split.source.names for name, split in splits.items()}
    file = subject.root / "splits.json"
    datasets.keep_draw(splits, file)
    kept = datasets.with_kept_draw(tree.data, file)
    for name in before["train"]:
        last = name.rpartition("/")[2]
        for path in (tree.written_images[name].image, *tree.written_images[name].masks):
            shutil.copy(path, path.with_name(path.name.replace(last, f"9{last}")))
    for name in ("train", "val"):
        assert subject.open_split(kept, name).source.names == before[name]
    gone = before["train"][0]
    for path in (tree.written_images[gone].image, *tree.written_images[gone].masks):
        path.unlink()
    error = _refusal(subject, kept, "train")
    assert error.code == "SEG-D014"
    assert gone in str(error)


def check_missing_files_are_all_listed(subject: Subject) -> None:
    """One message names every image without a mask and every mask without an image."""
    tree = subject.write(subject.root)
    names = subject.open_split(tree.data, "train").source.names
    # Reaching into train only: a part of its own is looked at when it is opened.
    without_mask, without_image = names[0], names[-1]
    for mask in tree.written_images[without_mask].masks:
        mask.unlink()
    tree.written_images[without_image].image.unlink()
    error = _refusal(subject, tree.data, "train")
    assert error.code == "SEG-D014"
    for name in (without_mask, without_image):
        assert name.rpartition("/")[2] in str(error), f"{name} is not named in: {error}"


def check_missing_root_is_named(subject: Subject) -> None:
    """A wrong data.root is a message with the folder in it, not an empty split."""
    tree = subject.write(subject.root)
    nowhere = subject.root / "nowhere"
    error = _refusal(subject, tree.data.model_copy(update={"root": str(nowhere)}), "train")
    assert error.code == "SEG-D013"
    assert str(nowhere) in str(error)


def check_unknown_options_are_refused(subject: Subject) -> None:
    """A misspelt setting is no setting."""
    tree = subject.write(subject.root)
    options = {**tree.data.options, "no_such_setting": 1}
    try:
        subject.open_split(tree.data.model_copy(update={"options": options}), "train")
    except ConfigError as error:
        message = str(error)
    else:
        message = "nothing was said"
    assert "no_such_setting" in message


def check_truncated_files_are_refused(subject: Subject) -> None:
    """Half an image and half a mask are errors that name the file, at reading."""
    for kind in ("image", "mask"):
        split, index, written = _first(subject, subject.root / kind)
        path = written.image if kind == "image" else written.masks[-1]
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        error = _refusal_to_read(split, index)
        assert error.code == "SEG-D011"
        assert str(path) in str(error)


def check_mask_of_another_size_is_refused(subject: Subject) -> None:
    """A mask that lacks a row is an error: it is not stretched over its image."""
    split, index, written = _first(subject, subject.root)
    for mask in written.masks:
        with Image.open(mask) as opened:
            opened.crop((0, 0, opened.width, opened.height - 1)).save(mask)
    error = _refusal_to_read(split, index)
    assert error.code == "SEG-D009"
    assert str(written.masks[0]) in str(error)


def check_unmapped_values_are_refused(subject: Subject) -> None:
    """A raw value the map does not know is an error, never class 0."""
    split, index, written = _first(subject, subject.root)
    if len(written.masks) > 1:
        return  # parts make their own values; there is none a mask could add
    stray = np.array(written.raw_label)
    stray[1, 2] = 253  # no map has this index or this grey
    save(written.masks[0], stray)
    error = _refusal_to_read(split, index)
    assert error.code == "SEG-D001"
    assert str(written.masks[0]) in str(error)
    assert "row 1, column 2" in str(error)


def _read_all(source: Source, expected: list[Any], wrong: list[str]) -> None:
    for _ in range(3):
        for index, (image_HWC, raw_label) in enumerate(expected):
            raw = source.read(index)
            same_image = np.array_equal(raw.image_HWC, image_HWC)
            if not (same_image and np.array_equal(raw.raw_label, raw_label)):
                wrong.append(raw.name)


def _each(subject: Subject) -> list[tuple[Any, int, Written]]:
    """Return split, index and what was written, for every image."""
    tree = subject.write(subject.root)
    found = [
        (split, index, tree.written_images[name])
        for split in subject.splits(tree).values()
        for index, name in enumerate(split.source.names)
    ]
    assert len(found) >= 3
    return found


def _first(subject: Subject, root: Path) -> tuple[Any, int, Written]:
    tree = subject.write(root)
    split = subject.open_split(tree.data, "train")
    return split, 0, tree.written_images[split.source.names[0]]


def _refusal(subject: Subject, data: DataConfig, split: str) -> DataError:
    try:
        subject.open_split(data, split)
    except DataError as error:
        return error
    raise AssertionError("the split was opened")


def _refusal_to_read(split: Split, index: int) -> DataError:
    try:
        split.read(index)
    except DataError as error:
        return error
    raise AssertionError("the image was read")


def _code(value: NDArray[np.uint8]) -> int:
    """Return an index, or the three bytes of a colour as one number."""
    return int.from_bytes(value.tobytes(), "big")


CHECKS: Mapping[str, Callable[[Subject], None]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_names_are_unique_and_sorted,
        check_every_image_is_in_one_split,
        check_reads_what_was_written,
        check_labels_are_train_ids,
        check_files_are_those_read,
        check_reading_is_repeatable_in_threads,
        check_opening_twice_gives_the_same,
        check_a_kept_draw_outlives_new_images,
        check_missing_files_are_all_listed,
        check_missing_root_is_named,
        check_unknown_options_are_refused,
        check_truncated_files_are_refused,
        check_mask_of_another_size_is_refused,
        check_unmapped_values_are_refused,
    )
}
