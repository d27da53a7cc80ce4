"""Sentences beside the scores, and the mean over the foreground."""

from __future__ import annotations

import math

import numpy as np
import pytest

from terrazzo.evaluation.remarks import foreground_mean, remarks, training_remarks

NAMES = ("sky", "road", "car", "pole")


def test_scores_that_want_no_care():
    assert remarks("test", np.full((4, 4), 9), NAMES, 10) == []


def test_what_wants_care_is_said():
    counts_KK = np.zeros((4, 4), np.int64)
    counts_KK[:3, 0] = 5
    assert remarks("val", counts_KK, NAMES, 4) == [
        "2 of 4 classes were never predicted: road, car",
        "1 of 4 classes is not in the labels of val: pole",
        "val is 4 images: one image more or less would change every score",
    ]
    assert remarks("test", np.diag([1, 1, 1, 1]), NAMES, 1) == [
        "test is 1 image: one image more or less would change every score"
    ]
    counts_KK = np.ones((4, 4), np.int64)
    counts_KK[:, 1] = 0
    assert remarks("val", counts_KK, NAMES, 40) == ["1 of 4 classes was never predicted: road"]


def test_many_names_are_counted():
    names = [f"c{k}" for k in range(20)]
    counts_KK = np.zeros((20, 20), np.int64)
    counts_KK[:, 0] = 1
    (line,) = remarks("test", counts_KK, names, 50)
    assert line == (
        "19 of 20 classes were never predicted: c1, c2, c3, c4, c5, c6, c7, c8 and 11 more"
    )


def test_a_split_without_labels_is_not_told_class_by_class():
    assert remarks("test", np.zeros((4, 4)), NAMES, 40) == []


@pytest.mark.parametrize("name", ["background", "Background", "bg"])
def test_the_mean_over_the_foreground(name):
    assert foreground_mean([0.9, 0.5, 0.1, math.nan], (name, "a", "b", "c")) == pytest.approx(0.3)
    assert math.isnan(foreground_mean([0.9, math.nan], (name, "a")))


def test_without_a_background_there_is_one_mean():
    assert foreground_mean([0.9, 0.5], ("sky", "road")) is None


def validations(entropies, scores):
    return [
        {"kind": "validation", "step": 100 * (n + 1), "cross_entropy": loss, "mean_iou": score}
        for n, (loss, score) in enumerate(zip(entropies, scores, strict=True))
    ]


def test_a_loss_that_rises_while_the_score_stalls_is_told():
    (line,) = training_remarks(validations([0.9, 0.5, 0.7, 0.8, 0.9], [0.3, 0.5, 0.505, 0.5, 0.5]))
    assert "rose from 0.5 at step 200 to 0.9 at step 500 while mean IoU gained less" in line
    # It rises, and the score too; it rises by little; it falls; it has only just risen.
    assert not training_remarks(validations([0.5, 0.7, 0.8, 0.9], [0.3, 0.4, 0.5, 0.6]))
    assert not training_remarks(validations([0.5, 0.52, 0.53, 0.55], [0.5] * 4))
    assert not training_remarks(validations([0.9, 0.8, 0.7, 0.6], [0.5] * 4))
    assert not training_remarks(validations([0.9, 0.5, 0.8, 0.9], [0.5] * 4))


def test_what_explodes_is_told():
    (line,) = training_remarks(validations([0.9, 0.5, 0.7, 3, 9], [0.3, 0.5, 0.6, 0.7, 0.1]))
    assert "exploded, from 0.5 at step 200 to 9 at step 500" in line
    norms = [1.0, 2.0, 1.0, 500.0, 1.0]
    log = [{"kind": "train", "step": n, "gradient_norm": norm} for n, norm in enumerate(norms)]
    (line,) = training_remarks(log)
    assert "the gradient exploded at step 3: its norm was 500, 1 in the median" in line


def test_the_log_of_an_older_version_says_nothing():
    log = [{"kind": "validation", "step": 9, "mean_iou": 0.5}] * 9
    assert training_remarks([*log, *[{"kind": "train", "step": 9, "loss": 0.5}] * 9]) == []
