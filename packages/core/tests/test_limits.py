"""Which images a limit takes: a draw by groups, or the first names where a run is older."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from terrazzo import check
from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo.base.recipe import DataConfig, load_recipe
from terrazzo.data import datasets
from terrazzo.data.limits import limited
from terrazzo.runs.folder import RunFolder, reopen_run
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

PETS = [
    f"{breed}_{n}" for breed, most in (("cat", 60), ("dog", 30), ("emu", 10)) for n in range(most)
]


def data(**settings):
    return DataConfig(format="folder", root=".", **settings)


def chosen(limit, **settings):
    return [PETS[index] for index in limited(PETS, limit, data(**settings))]


@pytest.mark.parametrize("limit", [5, 10, 25, 50, 99])
@pytest.mark.parametrize("seed", range(4))
def test_each_group_has_its_share(limit, seed):
    breeds = Counter(name.partition("_")[0] for name in chosen(limit, limit_seed=seed))
    for breed, share in (("cat", 0.6), ("dog", 0.3), ("emu", 0.1)):
        assert abs(breeds[breed] - limit * share) <= 1


def test_a_larger_limit_adds_images_and_another_seed_draws_others():
    assert set(chosen(25)) < set(chosen(50)) < set(chosen(99))
    assert chosen(25) == chosen(25)
    assert chosen(25) != chosen(25, limit_seed=1)
    assert chosen(3, limit_draw="first") == ["cat_0", "cat_1", "cat_2"]


def test_another_seed_leaves_what_is_scored(tmp_path):
    """A curve over sizes draws other training images for each seed; its test has to be one."""
    image = Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    for split in datasets.SPLITS:
        for kind in ("images", "masks"):
            (tmp_path / split / kind).mkdir(parents=True)
            for number in range(12):
                image.convert("RGB" if kind == "images" else "L").save(
                    tmp_path / split / kind / f"{number}.png"
                )
    options = {kind: f"{{split}}/{kind}" for kind in ("images", "masks")}
    limit = dict.fromkeys(datasets.SPLITS, 4)
    both = [
        DataConfig(
            format="folder",
            root=str(tmp_path),
            labels="oxford_pet_2",
            options=options,
            limit=limit,
            limit_seed=seed,
        )
        for seed in (0, 5)
    ]
    names = {
        split: [datasets.open_split(each, split).names for each in both]
        for split in datasets.SPLITS
    }
    assert names["train"][0] != names["train"][1]
    assert names["val"][0] == names["val"][1]
    assert names["test"][0] == names["test"][1]


def test_groups_are_those_of_the_expression():
    assert chosen(10, limit_group="^(.)") == chosen(10)
    several = range(5)
    one = [chosen(25, limit_group="(_)", limit_seed=seed) for seed in several]
    assert one != [chosen(25, limit_seed=seed) for seed in several]
    with pytest.raises(ConfigError, match=r"SEG-X182(.|\n)*cat_"):
        chosen(10, limit_group="(dog)")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for number in range(40):
        mask = draw.integers(0, 2, (8, 8)).astype(np.uint8)
        image = np.repeat(mask[..., None] * 99, 3, axis=2).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{number:02}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number:02}.png")
    classes = [{"name": name, "colour": c, "raw": [k]} for k, (name, c) in enumerate(COLOURS)]
    text = "name = 'c'\nclasses = [" + ", ".join(map(_inline, classes)) + "]"
    (tmp_path / "labels.toml").write_text(text)
    return load_recipe(
        {
            "backend": "reference",
            "model": {"name": "pixel_softmax"},
            "training": {"epochs": 1, "batch_size": 4},
            "data": {
                "format": "folder",
                "root": ".",
                "labels": "labels.toml",
                "limit": {"train": 6, "val": 2, "test": 3},
            },
        }
    )


COLOURS = (("red", "#FF0000"), ("green", "#00FF00"))


def _inline(each):
    return f"{{ name = '{each['name']}', colour = '{each['colour']}', raw = {each['raw']} }}"


def test_a_limited_split_is_a_split_of_the_chosen_images(recipe):
    whole = datasets.open_split(recipe.data.model_copy(update={"limit": {}}), "train")
    some = datasets.open_split(recipe.data, "train")
    indices = [whole.names.index(name) for name in some.names]
    assert indices != list(range(6))
    assert indices == sorted(indices)
    assert (len(some), len(some.source.names)) == (6, 6)
    for position, index in enumerate(indices):
        assert some.source.files(position) == whole.source.files(index)
        np.testing.assert_array_equal(some.read(position).image_HWC, whole.read(index).image_HWC)
    assert some.source.band_names == whole.source.band_names
    splits = {name: datasets.open_split(recipe.data, name) for name in datasets.SPLITS}
    check.check_before_training(splits, 1, recipe.data)


def test_a_run_of_an_earlier_version_keeps_the_first_names(recipe, tmp_path):
    finished = train(recipe, "run")
    assert len(finished.evaluation.names) == 3
    config = RunFolder(tmp_path / "run").config
    text = config.read_text()
    assert 'limit_draw = "random"' in text
    assert evaluate("run").evaluation.names == finished.evaluation.names
    # As version 0.1 wrote it.
    earlier = "".join(line for line in text.splitlines(True) if "limit_draw" not in line)
    config.write_text(earlier)
    whole = datasets.open_split(recipe.data.model_copy(update={"limit": {}}), "test")
    assert evaluate("run").evaluation.names == whole.names[:3] != finished.evaluation.names
    with pytest.raises(CheckpointError, match="SEG-C015"):  # the names are in its record
        train(recipe, "run", resume=True)
    explicit = recipe.data.model_copy(update={"limit_draw": "random"})
    with pytest.raises(CheckpointError, match=r"SEG-C011(.|\n)*limit_draw: first → random"):
        reopen_run(tmp_path / "run", recipe.model_copy(update={"data": explicit}))
