"""Splits and folds that have their share of every class: less spread, and no class lost."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.recipe import DataConfig
from terrazzo.data import datasets
from terrazzo.data.datasets._split_draw import SPLITS, Draw, draw, draw_stratified

NUM_CLASSES = 6
GROUP = r"^(\d+)_"


def images(seed, groups=40):
    """Pixels of each class by name: skewed, the last class in 4 of 40 groups."""
    random = np.random.default_rng(seed)
    pixels = {}
    for group in range(groups):
        liking_K = random.dirichlet([4, 2, 1, 0.4, 0.2, 0.1]) + 1e-6
        for number in range(int(random.integers(1, 4))):
            counts_K = random.multinomial(10_000, random.dirichlet(20 * liking_K))
            counts_K[-1] = random.integers(50, 400) if group % 10 == 0 else 0
            pixels[f"{group:02}_{number}"] = counts_K.astype(np.int64)
    return pixels


def shares(pixels, drawn, split):
    counts_K = sum((pixels[name] for name in drawn[split]), np.zeros(NUM_CLASSES))
    return counts_K / counts_K.sum()


def measured(draw_by, seeds=20):
    """Return the spread of class shares relative to the whole, and how many classes are missing."""
    ratios, missing = [], 0
    for seed in range(seeds):
        pixels = images(seed)
        drawn = draw_by(pixels, Draw(train=0.6, val=0.2, test=0.2, seed=seed, group=GROUP))
        whole_K = sum(pixels.values()) / sum(map(np.sum, pixels.values()))
        for split in SPLITS:
            share_K = shares(pixels, drawn, split)
            ratios.append(share_K / whole_K)
            missing += int((share_K == 0).sum())
    return float(np.std(ratios)), missing


def test_shares_of_classes_spread_less_and_none_is_missing():
    plain, stratified = measured(draw), measured(draw_stratified)
    assert stratified[0] < plain[0] / 3
    assert plain[1] > 5
    assert stratified[1] == 0


def test_groups_stay_together_and_the_numbers_are_those_of_a_draw():
    pixels = images(1)
    rule = Draw(train=0.6, val=0.2, test=0.2, seed=3, group=GROUP)
    drawn, plain = draw_stratified(pixels, rule), draw(pixels, rule)
    groups = {split: {name[:2] for name in names} for split, names in drawn.items()}
    assert sorted(name for names in drawn.values() for name in names) == sorted(pixels)
    assert {split: len(found) for split, found in groups.items()} == {
        split: len({name[:2] for name in names}) for split, names in plain.items()
    }
    assert sum(map(len, groups.values())) == 40
    assert draw_stratified(pixels, rule) == drawn
    assert draw_stratified(pixels, rule.model_copy(update={"seed": 4})) != drawn


def test_folds_are_stratified_too():
    pixels = images(2)
    tests = []
    for fold in range(4):
        rule = Draw(train=0.8, val=0.2, test=0, group=GROUP, folds=4, fold=fold)
        drawn = draw_stratified(pixels, rule)
        tests += drawn["test"]
        assert (shares(pixels, drawn, "test") > 0).all()  # four groups have the rarest class
        assert drawn["val"]
    assert sorted(tests) == sorted(pixels)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "data"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(30):
        mask = np.zeros((8, 8), np.uint8)
        mask[0, 0] = number in (3, 4, 5)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02}.png")
    (root / "labels.toml").write_text(
        "name = 'c'\nclasses = [{ name = 'red', colour = '#FF0000', raw = [0] }, "
        "{ name = 'green', colour = '#00FF00', raw = [1] }]"
    )
    split = {"train": 0.8, "val": 0.1, "test": 0.1, "stratify": True}
    return DataConfig(
        format="folder",
        root=str(root),
        labels=str(root / "labels.toml"),
        options={"images": "images", "split": split},
    )


def test_a_data_set_is_divided_by_its_labels(data, tmp_path):
    names = {split: datasets.open_split(data, split).names for split in datasets.SPLITS}
    assert {split: len(each) for split, each in names.items()} == {"train": 24, "val": 3, "test": 3}
    for each in names.values():
        assert len({"03", "04", "05"} & set(each)) == 1
    (kept,) = (tmp_path / "cache" / "terrazzo" / "draws").iterdir()
    before = kept.stat().st_mtime_ns
    assert datasets.open_split(data, "val").names == names["val"]
    assert kept.stat().st_mtime_ns == before  # labels are read once
