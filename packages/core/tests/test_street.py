"""The rendered streets: the same every time, complete, and not to be told by colour alone."""

import hashlib

import numpy as np
import pytest

from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets import _generate_street, street


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A root with few images, and the settings that name it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(street, "IMAGES", {"train": 12, "val": 2, "test": 3})
        root = tmp_path_factory.mktemp("street") / "made" / "on the way"
        data = DataConfig(format="street", root=str(root))
        yield root, {name: datasets.open_split(data, name) for name in datasets.SPLITS}


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def test_a_street_is_a_function_of_its_seed():
    first, again, other = (
        _generate_street.draw(5),
        _generate_street.draw(5),
        _generate_street.draw(6),
    )
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (first[1] != other[1]).mean() > 0.05


def test_splits_share_no_image(few):
    _, splits = few
    assert [len(splits[name]) for name in datasets.SPLITS] == [12, 2, 3]
    images = {split.read(i).image_HWC.tobytes() for split in splits.values() for i in range(2)}
    assert len(images) == 6


def test_every_class_is_there_under_its_own_name(few):
    split = few[1]["train"]
    samples = [split.read(index) for index in range(len(split))]
    counts = np.bincount(np.concatenate([s.label_HW.ravel() for s in samples]), minlength=11)
    assert len(counts) == len(_generate_street.Street) == 11  # and nothing ignored
    assert counts.min() > 0
    written = [name.split("_")[0] for name in split.label_map.names]
    assert written == [kind.name.lower() for kind in _generate_street.Street]


def test_drawn_once_and_again_where_it_was_interrupted(few):
    root, _ = few
    before = digest(root / "val")
    times = [path.stat().st_mtime_ns for path in sorted(root.rglob("*.png"))]
    datasets.open_split(DataConfig(format="street", root=str(root)), "val")
    assert [path.stat().st_mtime_ns for path in sorted(root.rglob("*.png"))] == times
    (root / "val" / "street.json").unlink()
    (root / "val" / "labels" / "0001.png").unlink()
    datasets.open_split(DataConfig(format="street", root=str(root)), "val")
    assert digest(root / "val") == before


def test_colour_alone_does_not_tell_the_classes(few):
    split = few[1]["train"]
    samples = [split.read(index) for index in range(len(split))]
    pixels = np.concatenate([s.image_HWC.reshape(-1, 3) for s in samples]).astype(np.float32)
    truth = np.concatenate([s.label_HW.ravel() for s in samples])
    means = np.stack([pixels[truth == k].mean(axis=0) for k in range(11)])
    guess = np.stack([((pixels - mean) ** 2).sum(axis=1) for mean in means]).argmin(axis=0)
    ious = [
        ((truth == k) & (guess == k)).sum() / ((truth == k) | (guess == k)).sum() for k in range(11)
    ]
    assert np.mean(ious) < 0.4
