"""Settings that cannot do what was meant: one line each, and none for settings that can."""

import pytest

from terrazzo.base.recipe import Config
from terrazzo.training.doubtful_settings import doubtful_settings


def lines(
    schedule=None,
    augment=None,
    *,
    steps=100,
    image_size=(64, 96),
    ignored=0.1,
    patience=None,
    limit=None,
):
    recipe = Config.model_validate(
        {
            "backend": "reference",
            "data": {"format": "folder", "root": "d", "limit": limit or {}},
            "model": {"name": "m"},
            "training": {"steps": steps, "schedule": schedule or {}},
            "augment": augment or {},
            "validation": {"patience": patience},
        }
    )
    told = doubtful_settings(
        recipe,
        total_steps=steps,
        training_images=20,
        of_rasters=False,
        image_size=image_size,
        ignored_share=ignored,
    )
    return list(told)


@pytest.mark.parametrize(
    ("schedule", "augment", "ignored", "words"),
    [
        ({"warmup_steps": 100}, {}, 0, "warmup_steps = 100 is not shorter than the run of 100"),
        ({"learning_rate": 1e-4, "floor": 1e-3}, {}, 0, "floor = 0.001 lies above"),
        ({}, {"crop": (64, 145)}, 0, "augment.crop = 64×145 is far larger than the images (64×96)"),
        ({}, {}, 0.676, "67.6% of the training pixels are ignored"),
    ],
)
def test_each_has_a_line(schedule, augment, ignored, words):
    (line,) = lines(schedule, augment, ignored=ignored)
    assert words in line
    assert line.startswith("warning: ")


def test_settings_that_can_do_what_was_meant_are_not_told_of():
    schedule = {"warmup_steps": 99, "learning_rate": 1e-3, "floor": 1e-3}
    assert lines(schedule, {"crop": (96, 144)}, ignored=0.5) == []
    assert lines(augment={"crop": (128, 128), "scale": (0.5, 2.0)}) == []


@pytest.mark.parametrize(
    ("reduces_after", "stops_after", "warned"), [(2, 2, 1), (2, 3, 1), (2, 4, 0)]
)
def test_a_plateau_that_the_run_ends_before(reduces_after, stops_after, warned):
    schedule = {"name": "plateau", "patience": reduces_after}
    told = lines(schedule, patience=stops_after)
    assert len(told) == warned
    assert all("never lowers the learning rate" in line for line in told)
    assert lines({"name": "poly", "patience": reduces_after}, patience=stops_after) == []


def test_a_limit_above_the_images_that_there_are():
    (line,) = lines(limit={"train": 500})
    assert "data.limit.train = 500 is more than there are: all 20 training images" in line
    assert lines(limit={"train": 20, "val": 500}) == []
