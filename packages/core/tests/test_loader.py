"""What a step sees depends on the seed and its number alone."""

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terrazzo.base.errors import DataError
from terrazzo.base.ordered_map import THREAD_NAME, ordered_map
from terrazzo.base.processes import SingleProcess
from terrazzo.base.recipe import AugmentConfig, DataConfig, LoaderConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.loader import TrainingOrder, digest, evaluation_samples, training_batches
from terrazzo.data.sample import IGNORE, Batch
from terrazzo.testing.memory import MemorySplit

LABELS = LabelMap("two", (LabelClass("a", "#000000", (0,)), LabelClass("b", "#FFFFFF", (1,))))
DATA = DataConfig(format="none", root=".")
PLAIN = AugmentConfig()
EVERYTHING = AugmentConfig(
    crop=(20, 24),
    scale=(0.5, 2.0),
    rotate=20,
    turns=True,
    flip_horizontal=0.5,
    flip_vertical=0.5,
    brightness=0.2,
    contrast=0.2,
    colour=0.1,
    noise=0.05,
    blur=1.0,
)


def make_split(count=10, size=(24, 32)):
    rng = np.random.default_rng(0)
    return MemorySplit(
        "train",
        tuple(rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count)),
        tuple(rng.integers(0, 2, size, dtype=np.uint8) for _ in range(count)),
        LABELS,
    )


def batches(split, order, start, stop, *, augment=PLAIN, data=DATA, threads=0, prefetch=32):
    loader = LoaderConfig(threads=threads, prefetch=prefetch)
    return training_batches(split, data, augment, loader, order, start_step=start, stop_step=stop)


class Broken(MemorySplit):
    """Cannot read its fourth image."""

    def read(self, index):
        if index == 3:
            raise DataError("SEG-D002", "truncated", file="train0003.png")
        return super().read(index)


orders = st.builds(
    TrainingOrder,
    num_samples=st.integers(1, 50),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 2**31 - 1),
)


@settings(deadline=None)
@given(order=orders, epoch=st.integers(0, 10**6))
def test_an_epoch_takes_each_sample_once(order, epoch):
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    found = [order.batch(step) for step in steps]
    assert {e for e, _, _ in found} == {epoch}
    assert np.concatenate([p for _, p, _ in found]).tolist() == list(range(order.num_samples))
    assert sorted(np.concatenate([i for _, _, i in found])) == list(range(order.num_samples))
    assert all(len(indices) == order.batch_size for _, _, indices in found[:-1])


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(TrainingOrder(20, 20, seed).batch(epoch)[2])
        for seed in range(5)
        for epoch in range(5)
    }
    assert len(orders) == 25


@settings(deadline=None)
@given(order=orders, world_size=st.integers(1, 6), step=st.integers(0, 100))
def test_processes_share_a_batch_without_gap_or_overlap(order, world_size, step):
    shares = [
        replace(order, rank=rank, world_size=world_size).batch(step) for rank in range(world_size)
    ]
    epoch, positions, indices = order.batch(step)
    assert all(share[0] == epoch for share in shares)
    assert sorted(np.concatenate([share[1] for share in shares])) == positions.tolist()
    assert sorted(np.concatenate([share[2] for share in shares])) == sorted(indices)
    assert max(len(s[1]) for s in shares) - min(len(s[1]) for s in shares) <= 1


@pytest.mark.parametrize("augment", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_threads_change_nothing(augment):
    split, order = make_split(), TrainingOrder(10, 4, 7)
    found = {
        digest(batches(split, order, 0, 8, augment=augment, threads=threads, prefetch=prefetch))
        for threads, prefetch in [(0, 32), (1, 1), (1, 32), (4, 2), (4, 64)]
    }
    assert len(found) == 1
    other = digest(batches(split, replace(order, seed=8), 0, 8, augment=augment))
    assert other not in found


@pytest.mark.parametrize("start", [1, 3, 5])
def test_a_resume_needs_only_the_step(start):
    split, order = make_split(), TrainingOrder(10, 4, 7)
    whole = list(batches(split, order, 0, 8, augment=EVERYTHING))
    rest = batches(split, order, start, 8, augment=EVERYTHING, threads=2)
    assert digest(whole[start:]) == digest(rest)


def test_a_sample_differs_from_epoch_to_epoch():
    split, order = make_split(count=1), TrainingOrder(1, 1, 0)
    seen = {
        batch.images_BHWC.tobytes() for batch in batches(split, order, 0, 20, augment=EVERYTHING)
    }
    assert len(seen) == 20


def test_the_images_of_one_batch_are_changed_each_in_its_own_way():
    one = make_split(count=1)
    split = replace(one, images=one.images * 6, labels=one.labels * 6)
    (batch,) = batches(split, TrainingOrder(6, 6, 0), 0, 1, augment=EVERYTHING)
    assert len({image_HWC.tobytes() for image_HWC in batch.images_BHWC}) == 6


def test_the_digest_sees_every_part_of_a_batch():
    batch = Batch(
        np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2), np.uint8), ("a",), ("a.png",)
    )
    image, label = batch.images_BHWC.copy(), batch.labels_BHW.copy()
    image[0, 1, 1, 0] = label[0, 0, 1] = 1
    others = [
        replace(batch, images_BHWC=image),
        replace(batch, labels_BHW=label),
        replace(batch, names=("b",)),
        replace(batch, labels_BHW=batch.labels_BHW.reshape(1, 4, 1)),
    ]
    assert len({digest([b]) for b in [batch, *others]} | {digest([batch, batch])}) == 6


def test_processes_read_what_one_process_reads():
    split, order = make_split(), TrainingOrder(10, 4, 7)
    whole = list(batches(split, order, 0, 6, augment=EVERYTHING))
    shares = [
        list(batches(split, replace(order, rank=r, world_size=2), 0, 6, augment=EVERYTHING))
        for r in range(2)
    ]
    for step, batch in enumerate(whole):
        for rank in range(2):
            np.testing.assert_array_equal(
                shares[rank][step].images_BHWC, batch.images_BHWC[rank::2]
            )
            assert shares[rank][step].names == batch.names[rank::2]


def test_a_process_without_a_share_gets_a_image_that_teaches_nothing():
    split = make_split(count=5)
    order = TrainingOrder(5, 4, 7, rank=2, world_size=3)
    assert len(order.batch(1)[1]) == 0
    full, idle = batches(split, order, 0, 2, augment=EVERYTHING)
    assert (full.labels_BHW != IGNORE).any()
    assert idle.images_BHWC.shape == (1, 20, 24, 3)
    assert (idle.labels_BHW == IGNORE).all()
    assert all((labels_HW <= 1).all() for labels_HW in split.labels)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_keeps_its_type_and_text(threads):
    good = make_split()
    broken = Broken(good.name, good.images, good.labels, good.label_map)
    with pytest.raises(DataError, match=r"SEG-D002: truncated\n.*train0003\.png") as caught:
        list(batches(broken, TrainingOrder(10, 4, 7), 0, 3, threads=threads))
    with pytest.raises(DataError, match="SEG-D002"):
        list(evaluation_samples(broken, DATA, LoaderConfig(threads=threads), world=SingleProcess()))
    # The traceback holds the frames of the loader, so nothing has been tidied up by chance.
    assert caught.tb is not None
    assert_no_threads()


def test_closing_early_leaves_no_threads():
    stream = batches(make_split(), TrainingOrder(10, 4, 7), 0, 10**6, threads=4)
    with contextlib.closing(stream):
        next(stream)
        assert reading_threads()
    assert_no_threads()


def reading_threads():
    return [t for t in threading.enumerate() if t.name.startswith(THREAD_NAME)]


def assert_no_threads():
    assert reading_threads() == []


def test_images_of_different_sizes_need_a_common_one():
    small, large = make_split(2), make_split(2, size=(30, 32))
    mixed = MemorySplit("train", small.images + large.images, small.labels + large.labels, LABELS)
    order = TrainingOrder(4, 4, 0)
    with pytest.raises(DataError, match="SEG-D018") as caught:
        list(batches(mixed, order, 0, 1))
    for words in ("24×32×3 uint8", "30×32×3 uint8", ".png", "augment.crop", "data.image_size"):
        assert words in str(caught.value)
    (cropped,) = batches(mixed, order, 0, 1, augment=AugmentConfig(crop=(16, 16)))
    assert cropped.images_BHWC.shape == (4, 16, 16, 3)
    sized = DataConfig(format="none", root=".", image_size=(20, 10))
    (resized,) = batches(mixed, order, 0, 1, data=sized)
    assert resized.images_BHWC.shape == (4, 20, 10, 3)


def test_images_of_different_types_are_not_converted():
    split = make_split(2)
    mixed = replace(split, images=(split.images[0], split.images[1].astype(np.uint16) * 257))
    with pytest.raises(DataError, match="bands or type"):
        list(batches(mixed, TrainingOrder(2, 2, 0), 0, 1))


@pytest.mark.parametrize("threads", [0, 3])
def test_evaluation_reads_in_order_and_keeps_the_native_label(threads):
    split = make_split(7)
    data = DataConfig(format="none", root=".", image_size=(12, 16))
    found = []
    for rank in range(3):
        share = evaluation_samples(
            split, data, LoaderConfig(threads=threads), world=SingleProcess(rank, 3)
        )
        indices = []
        for index, image_HWC, sample in share:
            assert image_HWC.shape == (12, 16, 3)
            np.testing.assert_array_equal(sample.label_HW, split.labels[index])
            np.testing.assert_array_equal(sample.image_HWC, split.images[index])
            indices.append(index)
        assert indices == list(range(rank, 7, 3))
        found += indices
    assert sorted(found) == list(range(7))


@given(st.integers(0, 12), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_an_ordered_map_keeps_the_order_whatever_takes_long(count, threads, ahead):
    def slow_at_first(item):
        time.sleep(0.002 * (item % 3 == 0))
        return item, threading.current_thread().name

    found = list(ordered_map(slow_at_first, range(count), threads=threads, ahead=ahead))
    assert [item for item, _ in found] == list(range(count))
    assert all(name.startswith(THREAD_NAME) for _, name in found)
    assert_no_threads()


def test_an_ordered_map_works_in_parallel_and_no_further_ahead_than_it_may():
    together = threading.Barrier(3)  # broken unless three calls run at once
    handed_out = []

    def items():
        for item in itertools.count():
            handed_out.append(item)
            yield item

    def wait_for_the_others(item):
        together.wait(timeout=30)
        return item

    taken = ordered_map(wait_for_the_others, items(), threads=3, ahead=6)
    assert not reading_threads()
    with contextlib.closing(taken):
        for number in range(3):
            assert next(taken) == number
            assert handed_out == list(range(number + 1 + 6))
        together.abort()  # those under way end with an error that nobody asks for
    assert_no_threads()


def test_an_ordered_map_that_is_closed_calls_nothing_that_waits():
    called, go_on = [], threading.Event()

    def wait(item):
        called.append(item)
        assert item == 0 or go_on.wait(timeout=30)
        return item

    taken = ordered_map(wait, range(100), threads=1, ahead=50)
    next(taken)
    threading.Timer(0.05, go_on.set).start()
    taken.close()
    assert called in ([0], [0, 1])
    assert_no_threads()


def test_an_ordered_map_raises_the_error_itself_where_its_result_would_have_come():
    error = DataError("SEG-D002", "truncated")

    def fail_at_three(item):
        if item == 3:
            raise error
        return item

    taken = ordered_map(fail_at_three, range(9), threads=2, ahead=4)
    assert [next(taken) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DataError) as caught:
        next(taken)
    assert caught.value is error
    assert list(taken) == []
    assert_no_threads()


def test_an_error_of_the_items_themselves_is_raised_and_ends_the_threads():
    def items():
        yield from range(4)
        raise DataError("SEG-D002", "no more")

    with pytest.raises(DataError, match="no more"):
        list(ordered_map(abs, items(), threads=2, ahead=2))
    assert_no_threads()


def test_loading_says_nothing_and_leaves_logging_alone():
    code = (
        "import logging, sys\n"
        "from terrazzo.base.recipe import LoaderConfig\n"
        "from terrazzo.data.loader import _read_ahead\n"
        "read = _read_ahead(abs, range(-3, 1), LoaderConfig(threads=2), 4)\n"
        "assert list(read) == [3, 2, 1, 0]\n"
        "assert not logging.root.handlers\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
