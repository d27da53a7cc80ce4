"""`terrazzo.metrics` against a brute-force oracle, by property, and at its edges."""

import math
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.metrics import ConfusionMatrix, pair_histogram

IGNORE = 255
FCN = [[4033812, 123525, 336828], [144007, 8285907, 260710], [398114, 470591, 974730]]
SEGFORMER = [[3943681, 227061, 323423], [288316, 8064810, 337498], [403755, 411349, 1028331]]

# No deadline: the machine may be busy, and the first call compiles.
by_property = settings(deadline=None, max_examples=30)


@st.composite
def scored_images(draw, shape=None):
    """Return K, labels in 0…K-1 or IGNORE, predictions in 0…K-1, in runs as real maps have them."""
    num_classes = draw(st.integers(1, 5))
    if shape is None:
        shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))
    labels = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, num_classes)))
    labels = np.where(labels == num_classes, IGNORE, labels).astype(np.uint8)
    predictions = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, num_classes - 1)))
    run = draw(st.sampled_from([1, 3, 8, 11]))
    return num_classes, np.repeat(labels, run, axis=-1), np.repeat(predictions, run, axis=-1)


def matrix_of(num_classes, labels, predictions, ignore_index=IGNORE):
    matrix = ConfusionMatrix(num_classes, ignore_index)
    matrix.update(labels, predictions)
    return matrix


def oracle(num_classes, labels, predictions):
    """Count, then score each class from sets of pixels, as slowly and plainly as can be."""
    pairs = [
        (int(t), int(p)) for t, p in zip(labels.flat, predictions.flat, strict=True) if t != IGNORE
    ]
    tally = Counter(pairs)
    counts = [[tally[t, p] for p in range(num_classes)] for t in range(num_classes)]
    per_class = {"iou": [], "precision": [], "recall": [], "f1": [], "dice": []}
    for k in range(num_classes):
        truth = {i for i, (t, _) in enumerate(pairs) if t == k}
        predicted = {i for i, (_, p) in enumerate(pairs) if p == k}
        both, either = len(truth & predicted), len(truth | predicted)
        absent = not either
        dice = math.nan if absent else 2 * both / (len(truth) + len(predicted))
        per_class["iou"].append(math.nan if absent else both / either)
        per_class["precision"].append(math.nan if absent else both / max(len(predicted), 1))
        per_class["recall"].append(both / len(truth) if truth else math.nan)
        per_class["f1"].append(dice)
        per_class["dice"].append(dice)
    return counts, per_class


@by_property
@given(scored_images())
def test_counts_and_scores_equal_the_oracle(images):
    matrix = matrix_of(*images)
    counts, per_class = oracle(*images)
    assert matrix.counts.tolist() == counts
    assert matrix.counts.dtype == np.int64
    scores = matrix.scores()
    for name, wanted in per_class.items():
        got = getattr(scores, name)
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, wanted, rtol=1e-14, err_msg=name)
        defined = [value for value in wanted if not math.isnan(value)]
        mean = sum(defined) / len(defined) if defined else math.nan
        assert getattr(scores, f"mean_{name}") == pytest.approx(mean, nan_ok=True)


@by_property
@given(scored_images())
def test_every_pixel_is_counted_or_ignored(images):
    _, labels, _ = images
    matrix = matrix_of(*images)
    assert matrix.counts.sum() + matrix.ignored == labels.size
    assert matrix.ignored == np.count_nonzero(labels == IGNORE)


@by_property
@given(scored_images(), st.randoms(use_true_random=False))
def test_order_of_pixels_is_irrelevant(images, random):
    num_classes, labels, predictions = images
    order = list(range(labels.size))
    random.shuffle(order)
    shuffled = matrix_of(num_classes, labels.ravel()[order], predictions.ravel()[order])
    assert (shuffled.counts == matrix_of(*images).counts).all()


@by_property
@given(scored_images(), st.integers(0, 300))
def test_batches_and_merge_equal_one_pass(images, cut):
    num_classes, labels, predictions = images
    labels, predictions = labels.ravel(), predictions.ravel()
    whole = matrix_of(num_classes, labels, predictions)
    batches = matrix_of(num_classes, labels[cut:], predictions[cut:])
    batches.update(labels[:cut], predictions[:cut])
    merged = matrix_of(num_classes, labels[:cut], predictions[:cut])
    merged.merge(matrix_of(num_classes, labels[cut:], predictions[cut:]))
    for matrix in (batches, merged):
        assert (matrix.counts == whole.counts).all()
        assert matrix.ignored == whole.ignored


@by_property
@given(scored_images(), st.randoms(use_true_random=False))
def test_permuting_classes_permutes_the_scores(images, random):
    num_classes, labels, predictions = images
    new_ids = list(range(num_classes))
    random.shuffle(new_ids)
    table = np.arange(256, dtype=np.uint8)
    table[:num_classes] = new_ids
    before = matrix_of(*images).scores()
    after = matrix_of(num_classes, table[labels], table[predictions]).scores()
    np.testing.assert_array_equal(after.iou[new_ids], before.iou)
    np.testing.assert_array_equal(after.recall[new_ids], before.recall)
    assert after.mean_iou == pytest.approx(before.mean_iou, nan_ok=True)
    assert after.micro_iou == pytest.approx(before.micro_iou, nan_ok=True)


@by_property
@given(scored_images())
def test_ignoring_removes_exactly_those_pixels(images):
    num_classes, labels, predictions = images
    kept = labels != IGNORE
    without = matrix_of(num_classes, labels[kept], predictions[kept], ignore_index=None)
    assert (matrix_of(*images).counts == without.counts).all()
    assert without.ignored == 0


@by_property
@given(scored_images())
def test_swapping_truth_and_prediction_transposes(images):
    num_classes, labels, predictions = images
    kept = labels != IGNORE
    there = matrix_of(num_classes, labels[kept], predictions[kept])
    back = matrix_of(num_classes, predictions[kept], labels[kept])
    assert (back.counts == there.counts.T).all()
    np.testing.assert_array_equal(back.scores().iou, there.scores().iou)


DTYPES = ["uint8", "int8", "uint16", ">u2", "int32", "uint32", "int64", "uint64"]


@by_property
@given(scored_images(), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_every_integer_type_counts_alike(images, label_type, prediction_type):
    num_classes, labels, predictions = images
    ignore_index = 100 if label_type == "int8" else IGNORE
    typed = np.where(labels == IGNORE, ignore_index, labels).astype(label_type)
    matrix = matrix_of(num_classes, typed, predictions.astype(prediction_type), ignore_index)
    assert (matrix.counts == matrix_of(*images).counts).all()
    assert matrix.ignored == np.count_nonzero(labels == IGNORE)


@pytest.mark.parametrize("ignore_index", [-1, -100, 1000, 65535])
@pytest.mark.parametrize("num_classes", [3, 300])
def test_ids_and_ignore_beyond_a_byte(num_classes, ignore_index):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, 5000)
    predictions = rng.integers(0, num_classes, 5000)
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (labels[100:], predictions[100:]), 1)
    labels[:100] = ignore_index
    predictions[:100] = -7  # not looked at under an ignored label
    matrix = matrix_of(num_classes, labels, predictions, ignore_index)
    assert (matrix.counts == counts).all()
    assert matrix.ignored == 100


def test_ids_within_a_byte_of_more_than_256_classes():
    labels = np.array([254, 255, 7], dtype=np.uint8)
    assert matrix_of(300, labels, labels, None).counts[[254, 255, 7], [254, 255, 7]].sum() == 3


@pytest.mark.parametrize(("num_classes", "ignore_index"), [(3, 0), (3, 2), (256, 255), (1, 0)])
def test_a_class_cannot_be_the_ignored_value(num_classes, ignore_index):
    with pytest.raises(ConfigError, match="SEG-M017") as caught:
        ConfusionMatrix(num_classes, ignore_index)
    assert f"outside 0…{num_classes - 1}" in caught.value.allowed
    assert f"np.where(labels == {ignore_index}, -1, labels)" in caught.value.next_step


def test_a_background_that_is_not_scored_as_the_error_says():
    # Class 0 is neither scored nor, as a prediction, taken from the other classes' truth.
    labels, predictions = np.array([0, 0, 1, 2]), np.array([2, 0, 0, 2])
    matrix = matrix_of(3, np.where(labels == 0, -1, labels), predictions, ignore_index=-1)
    assert matrix.counts.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert matrix.ignored == 2


@pytest.mark.parametrize("num_classes", [255, 256, 300])
def test_counts_of_many_classes(num_classes):
    counts = np.eye(num_classes, dtype=np.int64)
    assert (ConfusionMatrix.from_counts(counts).counts == counts).all()


@pytest.mark.parametrize("ignore_index", [IGNORE, None])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_masked_pixels_of_either_array_are_ignored(dtype, ignore_index):
    labels = np.ma.array([[0, 1, 1], [250, 0, 1]], mask=[[0, 1, 0], [1, 0, 0]], dtype=dtype)
    predictions = np.ma.array([[0, 1, 250], [7, 1, 1]], mask=[[0, 0, 1], [1, 0, 0]], dtype=dtype)
    matrix = matrix_of(2, labels, predictions, ignore_index)
    assert matrix.counts.tolist() == [[1, 1], [0, 1]]
    assert matrix.ignored == 3
    # One masked array beside a plain one; a mask that hides nothing; a mask that hides all.
    assert matrix_of(2, labels, predictions.data & 1, ignore_index).ignored == 2
    assert matrix_of(2, labels.data & 1, predictions, ignore_index).ignored == 2
    assert matrix_of(2, np.ma.array([0, 1]), np.array([0, 1]), ignore_index).ignored == 0
    assert matrix_of(2, np.ma.masked_all(5, dtype), np.zeros(5, int), ignore_index).ignored == 5


def test_a_stray_label_beside_masked_ones_is_found_at_its_own_place():
    labels = np.ma.array([[9, 1], [0, 8]], mask=[[1, 0], [0, 0]])
    error = refused(ConfusionMatrix(2), labels, np.zeros((2, 2), int))
    assert error.code == "SEG-M003"
    assert error.observed == "8 (1 px, first at index (1, 1))"


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:, ::2],
        lambda a: a[::-1, ::-1],
        lambda a: a.T,
        lambda a: np.asfortranarray(a),
        lambda a: a.ravel()[3:],  # starts within a word
        lambda a: a.ravel()[::3],
        lambda a: np.broadcast_to(a[0], (5, a.shape[1])),
    ],
)
def test_layout_in_memory_is_irrelevant(view):
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, (2, 33, 47), dtype=np.uint8)
    strided = matrix_of(4, view(labels), view(predictions))
    copied = matrix_of(4, view(labels).tolist(), view(predictions).tolist())
    assert (strided.counts == copied.counts).all()


@pytest.mark.parametrize("size", [16, 1 << 20], ids=["NumPy", "numba where installed"])
def test_arrays_may_be_read_only(size):
    zeros = np.zeros(size, dtype=np.uint8)
    zeros.setflags(write=False)
    assert matrix_of(1, zeros, zeros).counts.tolist() == [[size]]


@pytest.mark.parametrize("shape", [(0,), (0, 4), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_no_pixels(shape, dtype):
    matrix = matrix_of(2, np.zeros(shape, dtype), np.zeros(shape, dtype))
    assert matrix.counts.tolist() == [[0, 0], [0, 0]]
    scores = matrix.scores()
    assert scores.classes_present == 0
    for name in ("mean_iou", "mean_precision", "mean_recall", "pixel_accuracy", "micro_iou"):
        assert math.isnan(getattr(scores, name))


def test_one_pixel_of_rank_zero():
    assert matrix_of(2, np.uint8(1), np.uint8(0)).counts.tolist() == [[0, 0], [1, 0]]


# Scores ------------------------------------------------------------------------------------------


def test_absent_missed_and_imagined_classes():
    # Class 0 is half right, 1 is missed, 2 is only imagined, 3 is absent.
    scores = ConfusionMatrix.from_counts(
        [[6, 0, 4, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    ).scores()
    nan = math.nan
    np.testing.assert_allclose(scores.iou, [6 / 12, 0, 0, nan])
    np.testing.assert_allclose(scores.precision, [6 / 8, 0, 0, nan])
    np.testing.assert_allclose(scores.recall, [6 / 10, 0, nan, nan])
    np.testing.assert_allclose(scores.f1, [12 / 18, 0, 0, nan])
    assert scores.classes_present == 3
    assert scores.mean_iou == pytest.approx(0.5 / 3)
    assert scores.mean_recall == pytest.approx(0.6 / 2)
    assert scores.pixel_accuracy == pytest.approx(6 / 12)
    assert scores.micro_iou == pytest.approx(6 / 18)


@pytest.mark.parametrize(
    ("counts", "mean_iou", "iou", "pixel_accuracy"),
    [
        (FCN, "0.6976", ["0.8009", "0.8924", "0.3993"], "0.8846"),
        (SEGFORMER, "0.6785", ["0.7604", "0.8645", "0.4106"], "0.8675"),
    ],
    ids=["fcn", "segformer"],
)
def test_published_confusion_matrices(counts, mean_iou, iou, pixel_accuracy):
    matrix = ConfusionMatrix.from_counts(counts)
    scores = matrix.scores()
    assert matrix.counts.sum() == 3669 * 64 * 64
    assert f"{scores.mean_iou:.4f}" == mean_iou
    assert [f"{value:.4f}" for value in scores.iou] == iou
    assert f"{scores.pixel_accuracy:.4f}" == pixel_accuracy


def test_scores_cannot_be_changed():
    scores = ConfusionMatrix.from_counts([[1]]).scores()
    with pytest.raises(AttributeError):
        scores.iou = None
    with pytest.raises(ValueError, match="read-only"):
        scores.iou[0] = 0


# Exactness ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count_pairs", [pair_histogram.count_pairs_numpy, pair_histogram.count_pairs_numba]
)
def test_one_update_beyond_the_integers_of_float32(count_pairs):
    if count_pairs is pair_histogram.count_pairs_numba:
        pytest.importorskip("numba")
    zeros = np.zeros((1 << 24) + 3, dtype=np.uint8)
    assert count_pairs(zeros, zeros)[0, 0] == 16_777_219


def test_one_update_beyond_32_bits():
    pytest.importorskip("numba", reason="several seconds by NumPy alone")
    # Zeros that are only read take no memory.
    zeros = np.zeros((1 << 31) + 9, dtype=np.uint8)
    matrix = matrix_of(2, zeros, zeros)
    assert matrix.counts.tolist() == [[2_147_483_657, 0], [0, 0]]


def test_sums_beyond_32_bits_are_exact():
    matrix = ConfusionMatrix.from_counts([[2**53, 1], [0, 2**31]], ignored=2**40)
    matrix.update(np.array([0, 0, 1, IGNORE]), np.array([0, 1, 1, 0]))
    matrix.merge(matrix)
    assert matrix.counts.tolist() == [[2 * (2**53 + 1), 4], [0, 2 * (2**31 + 1)]]
    assert matrix.ignored == 2 * (2**40 + 1)


# The two ways to count ----------------------------------------------------------------------------


@by_property
@given(
    hnp.arrays(np.uint8, st.integers(0, 40), elements=st.integers(0, 255)),
    hnp.arrays(np.uint8, st.integers(0, 40), elements=st.integers(0, 255)),
    st.sampled_from([1, 5, 8, 24]),
    st.integers(0, 9),
)
def test_numpy_and_numba_count_the_same_pairs(labels, predictions, run, start):
    pytest.importorskip("numba")
    size = min(labels.size, predictions.size)
    labels = np.repeat(labels[:size], run)[start:]
    predictions = np.repeat(predictions[:size], run)[start:]
    wanted = np.zeros((256, 256), dtype=np.int64)
    np.add.at(wanted, (labels, predictions), 1)
    assert (pair_histogram.count_pairs_numpy(labels, predictions) == wanted).all()
    assert (pair_histogram.count_pairs_numba(labels, predictions) == wanted).all()


@pytest.mark.parametrize("errors", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("run", [1, 8, 37, 600])
def test_both_ways_on_images_of_several_chunks(run, errors):
    pytest.importorskip("numba")
    rng = np.random.default_rng(run)
    labels = np.repeat(rng.integers(0, 256, 1_200_003 // run, dtype=np.uint8), run)
    predictions = np.where(rng.random(labels.size) < errors, 7, labels).astype(np.uint8)
    wanted = np.bincount(labels * np.int64(256) + predictions, minlength=1 << 16)
    for count_pairs in (pair_histogram.count_pairs_numpy, pair_histogram.count_pairs_numba):
        assert (count_pairs(labels, predictions).ravel() == wanted).all()


@by_property
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 7, 40, 511]) | st.integers(4000, 9000),
    st.sampled_from([1, 8, 100, 3000]),
    st.sampled_from([0.0, 0.003, 0.06, 0.9]),
    st.sampled_from([0.0, 0.15]),
    st.sampled_from([(4, None), (4, 255), (4, 200), (255, 255), (256, None)]),
)
def test_ignored_labels_scattered_over_runs(seed, size, run, ignored, errors, classes):
    pytest.importorskip("numba")
    num_classes, ignore_index = classes
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 6, size // run + 1, dtype=np.uint8), run)[:size]
    predictions = np.where(rng.random(size) < errors, rng.integers(0, 256, size), labels)
    predictions = predictions.astype(np.uint8)
    labels[rng.random(size) < ignored] = 255 if ignore_index is None else ignore_index
    wanted = np.zeros((256, 256), dtype=np.int64)
    np.add.at(wanted, (labels, predictions), 1)
    if ignore_index is not None:
        wanted = np.concatenate([wanted[:num_classes], wanted[ignore_index, None]])
    wanted = wanted[: num_classes + (ignore_index is not None)]
    for count_pairs in (pair_histogram.count_pairs_numpy, pair_histogram.count_pairs_numba):
        # Twice: the first leaves nothing behind, labels outside the classes included.
        for _ in range(2):
            counts = count_pairs(labels, predictions, num_classes, ignore_index)
            assert (counts == wanted).all()


@pytest.mark.parametrize("ignore_index", [255, 19, -1, None])
def test_an_image_with_scattered_ignored_pixels(ignore_index):
    rng = np.random.default_rng(0)
    truth = np.repeat(np.repeat(rng.integers(0, 19, (16, 16)), 64, axis=0), 80, axis=1)
    labels = truth.astype(np.int16)
    predictions = np.where(rng.random(truth.shape) < 0.15, rng.integers(0, 19, truth.shape), truth)
    if ignore_index is not None:
        labels[rng.random(truth.shape) < 0.06] = ignore_index
    matrix = ConfusionMatrix(19, ignore_index)
    matrix.update(labels, predictions.astype(np.uint8))
    scored = labels != ignore_index
    wanted = np.zeros((19, 19), dtype=np.int64)
    np.add.at(wanted, (labels[scored], predictions[scored]), 1)
    assert (matrix.counts == wanted).all()
    assert matrix.ignored == np.count_nonzero(~scored)


def test_a_image_of_several_chunks_of_wide_integers():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (1 << 22) + 11, dtype=np.int16)
    predictions = np.roll(labels, 1)
    predictions[-1] = 2
    wanted = np.bincount(labels * 3 + predictions, minlength=9).reshape(3, 3)
    assert (matrix_of(3, labels, predictions).counts == wanted).all()


# Errors ------------------------------------------------------------------------------------------


def refused(matrix, labels, predictions):
    """Return the error of an update, having made sure that nothing was counted."""
    before = matrix.counts
    with pytest.raises(DataError) as caught:
        matrix.update(labels, predictions)
    assert (matrix.counts == before).all()
    assert matrix.ignored == 0
    return caught.value


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_a_label_outside_the_classes(dtype):
    labels = np.zeros((2, 3, 4), dtype=dtype)
    labels[0, 2, 1] = labels[1, 0, 0] = 250
    labels[0, 0, 0] = 19
    labels[0, 0, 1] = IGNORE
    error = refused(ConfusionMatrix(19), labels, np.zeros_like(labels))
    assert error.code == "SEG-M003"
    assert error.observed == "250 (2 px, first at index (0, 2, 1)) and 1 other value in 19…250"
    assert error.allowed == "0…18, or 255 (ignored)"
    assert "label map" in error.next_step


def test_a_negative_label():
    labels = np.array([[0, 1], [0, -1]])
    error = refused(ConfusionMatrix(2), labels, np.zeros_like(labels))
    assert error.observed == "-1 (1 px, first at index (1, 1))"


@pytest.mark.parametrize("side", ["labels", "predictions"])
def test_a_wide_value_is_not_wrapped_to_a_byte(side):
    arrays = {"labels": np.array([0, 1], np.uint16), "predictions": np.array([0, 1], np.int64)}
    arrays[side][1] = 256
    error = refused(ConfusionMatrix(2), **arrays)
    assert error.observed == "256 (1 px, first at index (1,))"


def test_255_is_a_fault_where_nothing_is_ignored():
    labels = np.array([0, 255], dtype=np.uint8)
    error = refused(ConfusionMatrix(2, ignore_index=None), labels, np.zeros_like(labels))
    assert error.observed == "255 (1 px, first at index (1,))"
    assert error.allowed == "0…1"


@pytest.mark.parametrize(("stray", "dtype"), [(2, np.uint8), (255, np.uint8), (-1, np.int32)])
def test_a_prediction_outside_the_classes(stray, dtype):
    labels = np.array([[IGNORE, 0, 1, 1]], dtype=np.uint8)
    predictions = np.array([[stray, 0, stray, stray]], dtype=dtype)
    error = refused(ConfusionMatrix(2), labels, predictions)
    assert error.code == "SEG-M004"
    assert error.observed == f"{stray} (2 px, first at index (0, 2))"
    assert error.allowed == "0…1"


def test_predictions_are_not_looked_at_where_the_label_is_ignored():
    matrix = matrix_of(2, np.array([IGNORE, 1], np.uint8), np.array([IGNORE, 1], np.uint8))
    assert matrix.counts.tolist() == [[0, 0], [0, 1]]


def test_a_fault_in_the_last_chunk_leaves_nothing_counted():
    labels = np.zeros((1 << 22) + 5, dtype=np.uint8)
    labels[-1] = 9
    error = refused(ConfusionMatrix(2), labels, np.zeros_like(labels))
    assert error.observed == "9 (1 px, first at index (4194308,))"


def test_shapes_differ():
    error = refused(ConfusionMatrix(2), np.zeros((2, 3), int), np.zeros((3, 2), int))
    assert error.code == "SEG-M001"
    assert error.observed == "labels (2, 3), predictions (3, 2)"


@pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.complex64, object])
@pytest.mark.parametrize("side", ["labels", "predictions"])
def test_not_integers(side, dtype):
    arrays = {"labels": np.zeros(3, np.uint8), "predictions": np.zeros(3, np.uint8)}
    arrays[side] = arrays[side].astype(dtype)
    error = refused(ConfusionMatrix(2), **arrays)
    assert error.code == "SEG-M002"
    assert side in error.problem
    assert str(np.dtype(dtype)) in error.observed


@pytest.mark.parametrize(
    ("counts", "ignored", "observed"),
    [
        ([[1, 2]], 0, "shape (1, 2), int64"),
        ([1], 0, "shape (1,), int64"),
        (np.zeros((0, 0), int), 0, "shape (0, 0), int64"),
        ([[1.0]], 0, "shape (1, 1), float64"),
        ([[True]], 0, "shape (1, 1), bool"),
        ([[0, -1], [2, 3]], 0, "values from -1 to 3"),
        (np.array([[2**63]], np.uint64), 0, "values from 9223372036854775808 to"),
        ([[1]], -1, "ignored = -1"),
    ],
)
def test_counts_that_are_none(counts, ignored, observed):
    with pytest.raises(DataError) as caught:
        ConfusionMatrix.from_counts(counts, ignored=ignored)
    assert caught.value.code == "SEG-M005"
    assert caught.value.observed.startswith(observed)


def test_merge_of_different_classes():
    matrix = ConfusionMatrix.from_counts([[1, 0], [0, 1]])
    with pytest.raises(DataError, match="SEG-M006") as caught:
        matrix.merge(ConfusionMatrix(3))
    assert (caught.value.observed, caught.value.allowed) == ("3 classes", "2 classes")
    assert matrix.counts.sum() == 2


def test_no_classes():
    with pytest.raises(ConfigError, match=r"SEG-M007.*\n.*num_classes = 0"):
        ConfusionMatrix(0)


# What it shares and what it loads -----------------------------------------------------------------


def test_counts_are_shared_with_nobody():
    given_counts = np.array([[1, 0], [0, 1]])
    matrix = ConfusionMatrix.from_counts(given_counts)
    given_counts[0, 0] = 9
    matrix.counts[0, 1] = 9
    assert matrix.counts.tolist() == [[1, 0], [0, 1]]


def test_a_matrix_goes_to_another_process():
    matrix = ConfusionMatrix.from_counts([[1, 2], [3, 4]], ignored=5)
    copy = pickle.loads(pickle.dumps(matrix))
    assert copy.counts.tolist() == [[1, 2], [3, 4]]
    assert copy.ignored == 5


HEAVY = "torch keras tensorflow jax rasterio cv2 PIL numba pydantic scipy matplotlib safetensors"


def test_import_loads_numpy_and_little_else():
    code = (
        "import sys, terrazzo.metrics as m; import numpy as np;"
        "z = np.zeros((64, 64), np.uint8); c = m.ConfusionMatrix(2); c.update(z, z); c.scores();"
        f"print(*sorted(set({HEAVY.split()!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
