from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terrazzo.base.recipe import ScheduleConfig
from terrazzo.training.learning_rate import learning_rate

NAMES = ("constant", "poly", "exponential", "cosine", "plateau")


def rate(step, scores=(), **settings):
    return learning_rate(
        ScheduleConfig(learning_rate=0.1, **settings),
        step=step,
        total_steps=100,
        steps_per_epoch=10,
        scores=scores,
    )


@pytest.mark.parametrize("name", NAMES)
def test_warm_up_rises_linearly_to_the_peak(name):
    warm = [rate(step, name=name, warmup_steps=4) for step in range(4)]
    assert warm == pytest.approx([0.025, 0.05, 0.075, 0.1])
    if name != "exponential":  # which counts epochs, warm-up included
        assert rate(4, name=name, warmup_steps=4) == pytest.approx(0.1)


def test_each_schedule_against_its_formula():
    assert rate(50, name="constant") == 0.1
    assert rate(50, name="poly", power=0.9) == pytest.approx(0.1 * 0.5**0.9)
    assert rate(50, name="cosine") == pytest.approx(0.05)
    assert rate(25, name="cosine") == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)) / 2)
    assert rate(39, name="exponential", gamma=0.5) == pytest.approx(0.1 * 0.5**3)


def test_plateau_falls_after_patience_and_starts_counting_again():
    settings = {"name": "plateau", "gamma": 0.1, "patience": 1}
    assert rate(0, (0.5, 0.4), **settings) == 0.1
    assert rate(0, (0.5, 0.4, 0.5), **settings) == pytest.approx(0.01)
    assert rate(0, (0.5, 0.4, 0.5, 0.4), **settings) == pytest.approx(0.01)
    assert rate(0, (0.5, 0.4, 0.5, 0.4, 0.3), **settings) == pytest.approx(0.001)
    assert rate(0, (0.1, 0.2, 0.3, 0.4, 0.5), **settings) == 0.1


@given(st.sampled_from(NAMES), st.integers(0, 200), st.floats(0, 0.1))
def test_never_above_the_peak_nor_below_the_floor(name, step, floor):
    assert floor <= rate(step, name=name, floor=floor) <= 0.1
