from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from terrazzo.base.errors import NonFiniteLossError, ResourceError, Stopped
from terrazzo.base.json_files import append_json_line
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import AugmentConfig, Config, DataConfig, LoaderConfig
from terrazzo.data import loader
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import IGNORE, Bands
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.io import images
from terrazzo.models.probabilities import cross_entropy_at_size, labels_at_size, planes_at_size
from terrazzo.runs import checkpoint, timing
from terrazzo.runs.folder import RunFolder, create_run
from terrazzo.testing.memory import MemorySplit
from terrazzo.testing.reference.backend import backend
from terrazzo.testing.thread_world import in_world_of
from terrazzo.training import loop as training_loop
from terrazzo.training.state import EventSchedule, TrainingState

LABELS = LabelMap(
    "three",
    tuple(LabelClass(name, "#000000", (k,)) for k, name in enumerate(("a", "b", "c"))),
)
BANDS = Bands(("red", "green", "blue"), "uint8", (127.0,) * 3, (60.0,) * 3)


def split(name, num_samples, *, size=(12, 10), seed=0):
    """Images whose colour tells the class, with noise and some ignored pixels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, (num_samples, *size)).astype(np.uint8)
    images = np.eye(3)[labels] * 120 + draw.integers(0, 130, (num_samples, *size, 3))
    labels[:, 0] = IGNORE
    return MemorySplit(name, tuple(images.astype(np.uint8)), tuple(labels), LABELS)


def recipe(**changes):
    values = {
        "backend": "reference",
        "name": "test",
        "data": {"format": "memory", "root": ""},
        "augment": {"flip_horizontal": 0.5, "brightness": 0.2},
        "loader": {"threads": 0},
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 3, "batch_size": 4, "schedule": {"learning_rate": 0.01}},
        "log": {"every_steps": 2},
        **changes,
    }
    return Config.model_validate(values)


def make_trainer(config):
    return backend.build(config.model, config.training, LABELS, BANDS, config.seed)


def train(folder, config, **arguments):
    """Train in `folder`; returns the position and the trainer."""
    trainer = make_trainer(config)
    if not folder.exists():
        create_run(folder, config, LABELS, overwrite=False)
    position = training_loop.train(
        RunFolder(folder),
        trainer,
        config,
        arguments.pop("train_split", split("train", 10)),
        arguments.pop("val_split", split("val", 3, seed=1)),
        progress=Silent(),
        **arguments,
    )
    return position, trainer


def lines(folder, kind):
    log = (folder / "log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, log) if line["kind"] == kind]


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], strict=True)


def test_a_run_learns_logs_validates_and_keeps_best_and_last(tmp_path):
    position, _ = train(tmp_path / "run", recipe())
    losses = [line["loss"] for line in lines(tmp_path / "run", "train")]
    assert [line["step"] for line in lines(tmp_path / "run", "train")] == [2, 4, 6, 8, 9]
    assert losses[-1] < losses[0]
    validations = lines(tmp_path / "run", "validation")
    assert [(line["step"], line["epoch"]) for line in validations] == [(3, 1), (6, 2), (9, 3)]
    assert position.step == 9
    best = max(validations, key=lambda line: line["mean_iou"])
    assert position.best_step == best["step"]
    kept = checkpoint.found(tmp_path / "run" / "checkpoints")
    assert kept[-2:] == [6, 9]
    assert position.best_step in kept


def test_the_first_batch_is_kept_as_the_model_saw_it(tmp_path):
    config = recipe()
    colours = ("#FF0000", "#00FF00", "#0000FF")
    classes = tuple(
        dataclasses.replace(each, colour=colour)
        for each, colour in zip(LABELS.classes, colours, strict=True)
    )
    label_map = dataclasses.replace(LABELS, classes=classes)
    plain = split("train", 10)
    data = MemorySplit("train", plain.images, plain.labels, label_map)
    train(tmp_path / "run", config, train_split=data)
    order = loader.TrainingOrder(len(data), config.training.batch_size, config.seed)
    parts = (data, config.data, config.augment, config.loader, order)
    seen = next(loader.training_batches(*parts, start_step=0, stop_step=1, bands=BANDS))
    folder = tmp_path / "run" / "first_batch"
    assert list(json.loads((folder / "names.json").read_text()).values()) == list(seen.names)
    for number, label_HW in enumerate(seen.labels_BHW):
        stored_HWC = images.read_image(folder / f"{number:02d}_image.png")
        np.testing.assert_array_equal(stored_HWC, images.as_rgb(seen.images_BHWC[number]))
        stored_HWC = images.read_image(folder / f"{number:02d}_labels.png")
        np.testing.assert_array_equal(stored_HWC, label_map.colourise(label_HW))
    assert not (folder / f"{len(seen):02d}_image.png").exists()
    before = (folder / "names.json").stat().st_mtime_ns
    train(tmp_path / "run", config, train_split=data)  # at its end: nothing is written again
    assert (folder / "names.json").stat().st_mtime_ns == before


def test_logged_loss_is_the_mean_since_the_last_line(tmp_path):
    train(tmp_path / "every", recipe(log={"every_steps": 1}))
    train(tmp_path / "second", recipe(log={"every_steps": 2}))
    each = [line["loss"] for line in lines(tmp_path / "every", "train")]
    pairs = [line["loss"] for line in lines(tmp_path / "second", "train")]
    assert pairs[:4] == pytest.approx([np.mean(each[i : i + 2]) for i in (0, 2, 4, 6)], abs=0)


def test_a_validation_tells_the_loss_there_and_on_training_images(tmp_path):
    config = recipe(validation={"every_steps": 9, "train_images": 4})
    _, trainer = train(tmp_path / "run", config)
    (line,) = lines(tmp_path / "run", "validation")
    val, whole = split("val", 3, seed=1), split("train", 10)
    spread = [whole.read(index) for index in (0, 2, 5, 7)]
    for key, samples in (
        ("cross_entropy", [val.read(0), val.read(1), val.read(2)]),
        ("train_cross_entropy", spread),
    ):
        labels_BHW = np.stack([sample.label_HW for sample in samples])
        p_BHWK = trainer.predict(np.stack([sample.image_HWC for sample in samples]))
        valid_BHW = labels_BHW != IGNORE
        right = np.take_along_axis(p_BHWK, np.where(valid_BHW, labels_BHW, 0)[..., None], -1)
        assert line[key] == pytest.approx(-np.log(right[..., 0][valid_BHW]).mean(), rel=1e-4)
    assert line["train_images"] == 4
    assert 0 < line["train_mean_iou"] <= 1
    train(tmp_path / "without", recipe(validation={"every_steps": 9, "train_images": 0}))
    (without,) = lines(tmp_path / "without", "validation")
    assert without == {key: line[key] for key in line if not key.startswith("train_")}


def test_the_norm_of_the_gradient_is_logged_and_changes_no_step(tmp_path):
    _, every = train(tmp_path / "every", recipe(log={"every_steps": 1}))
    _, seldom = train(tmp_path / "seldom", recipe(log={"every_steps": 3}))
    norms = [line["gradient_norm"] for line in lines(tmp_path / "every", "train")]
    assert all(norm > 0 for norm in norms)
    assert [e["gradient_norm"] for e in lines(tmp_path / "seldom", "train")] == norms[2::3]
    assert_same_state(every.state(), seldom.state())


@pytest.mark.parametrize("size", [(4, 6), (5, 9)], ids=["same size", "resampled"])
def test_cross_entropy_is_of_the_pixels_that_count(size):
    draw = np.random.default_rng(0)
    p_HWK = draw.dirichlet([1, 1, 1], (4, 6)).astype(np.float32)
    label_HW = draw.integers(0, 3, size).astype(np.uint8)
    label_HW[0] = 255
    planes = list(planes_at_size(p_HWK, size))
    wanted = -sum(np.log(planes[k][label_HW == k]).sum() for k in range(3))
    assert cross_entropy_at_size(p_HWK, label_HW, 255) == pytest.approx(wanted, rel=1e-5)


def partly_ignored():
    """Ten images of 12 rows, of which 1 to 10 are ignored."""
    whole = split("train", 10)
    labels = [label.copy() for label in whole.labels]
    for number, label in enumerate(labels):
        label[: number + 1] = IGNORE
    return MemorySplit("train", whole.images, tuple(labels), LABELS)


def test_the_share_of_ignored_pixels_is_of_all_since_the_last_line(tmp_path):
    config = recipe(log={"every_steps": 3})
    train(tmp_path / "run", config, train_split=partly_ignored())
    shares = [line["ignored_share"] for line in lines(tmp_path / "run", "train")]
    # Batches of 4, 4 and 2 images of 12 rows: an epoch a line, whatever its order.
    assert shares == pytest.approx([55 / 120] * 3, abs=0)
    train(tmp_path / "pairs", recipe(), train_split=partly_ignored())
    shares = [line["ignored_share"] for line in lines(tmp_path / "pairs", "train")]
    order = loader.TrainingOrder(10, 4, config.seed)
    batches = [order.batch(step)[2] + 1 for step in range(9)]
    pairs = [np.concatenate(batches[start : start + 2]) for start in range(0, 9, 2)]
    assert shares == pytest.approx([pair.sum() / (12 * len(pair)) for pair in pairs], abs=0)


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_the_share_of_ignored_pixels_survives_a_stop(tmp_path, stop_after):
    config = recipe(log={"every_steps": 4})
    train(tmp_path / "whole", config, train_split=partly_ignored())
    asked = iter(range(1, 100))
    with pytest.raises(Stopped):
        train(
            tmp_path / "parts",
            config,
            train_split=partly_ignored(),
            stop_requested=lambda: next(asked) == stop_after,
        )
    train(tmp_path / "parts", config, train_split=partly_ignored())
    logs = [(tmp_path / run / "log.jsonl").read_bytes() for run in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_ignored_pixels_are_those_of_all_processes():
    """Three images for two processes: the second one goes without a share of the last batch."""

    class Two:
        def __init__(self, counts):
            self.counts = counts

        def sum(self, counts):
            return counts + self.counts

    ignored, whole = 0, 0
    for rank in (0, 1):
        order = loader.TrainingOrder(3, 2, 0, rank, 2)
        count = training_loop._PixelCount(IGNORE)
        mine = loader.training_batches(
            partly_ignored(), DataConfig(format="memory", root=""), AugmentConfig(),
            LoaderConfig(threads=0), order, start_step=0, stop_step=2,
        )  # fmt: skip
        for step, batch in enumerate(mine):
            count.add(batch, order, step)
        assert count.whole == (240, 120)[rank]
        ignored, whole = ignored + count.ignored, whole + count.whole
    assert (ignored, whole) == (10 * (1 + 2 + 3), 360)
    others = np.array([ignored - count.ignored, whole - count.whole])
    assert count.take_ignored_share(Two(others)) == 60 / 360
    assert (count.ignored, count.whole) == (0, 0)


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_stop_at_any_step_and_resume_equals_the_uninterrupted_run(tmp_path, stop_after):
    config = recipe()
    _, whole = train(tmp_path / "whole", config)
    asked = iter(range(1, 100))
    with pytest.raises(Stopped, match="SEG-R013") as caught:
        train(tmp_path / "parts", config, stop_requested=lambda: next(asked) == stop_after)
    assert caught.value.exit_code == 75
    _, parts = train(tmp_path / "parts", config)
    assert_same_state(whole.state(), parts.state())
    log = "log.jsonl"
    assert (tmp_path / "parts" / log).read_bytes() == (tmp_path / "whole" / log).read_bytes()


def test_lines_after_the_last_checkpoint_are_cut_off_on_resume(tmp_path):
    """As a kill between two checkpoints leaves them."""
    config = recipe()
    train(tmp_path / "run", config)
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    checkpoints = RunFolder(tmp_path / "run").checkpoints
    checkpoint.sweep(checkpoints, keep=2, also=None)
    (checkpoints / "step-000009").rename(tmp_path / "gone")
    append_json_line(tmp_path / "run" / "log.jsonl", {"kind": "train", "step": 999})
    train(tmp_path / "run", config)
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log


def test_a_finished_run_is_not_trained_again(tmp_path):
    config = recipe()
    _, first = train(tmp_path / "run", config)
    position, second = train(tmp_path / "run", config)
    assert position.step == 9
    assert_same_state(first.state(), second.state())


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path):
    config = recipe()
    _, whole = train(tmp_path / "run", config)
    newest = tmp_path / "run" / "checkpoints" / "step-000009" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    position, again = train(tmp_path / "run", config)
    assert position.step == 9
    assert_same_state(whole.state(), again.state())


def test_a_batch_with_infinity_stops_before_the_update_and_names_step_and_files(tmp_path):
    good = split("train", 10)
    images = [image.astype(np.float32) for image in good.images]
    images[3][5, 5, 0] = np.inf
    bad = MemorySplit("train", tuple(images), good.labels, LABELS)
    config = recipe(
        augment={}, training={"epochs": 1, "batch_size": 1}, checkpoint={"every_steps": 1}
    )
    with pytest.raises(NonFiniteLossError, match="SEG-R008") as caught:
        train(tmp_path / "run", config, train_split=bad)
    message = str(caught.value)
    assert "train0003.png" in message
    assert "nan" in message
    assert caught.value.exit_code == 6
    newest, _ = checkpoint.latest(tmp_path / "run" / "checkpoints")
    assert f"at step {newest.step + 1};" in message
    assert all(np.isfinite(array).all() for array in newest.state().values())


def test_a_full_disk_while_saving_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    config = recipe()
    asked = iter(range(1, 100))
    with pytest.raises(Stopped):
        train(tmp_path / "run", config, stop_requested=lambda: next(asked) == 4)
    kept = checkpoint.found(tmp_path / "run" / "checkpoints")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", no_space)
    with pytest.raises(ResourceError, match="No space left on device"):
        train(tmp_path / "run", config)
    monkeypatch.undo()
    assert checkpoint.found(tmp_path / "run" / "checkpoints") == kept
    _, whole = train(tmp_path / "whole", config)
    _, resumed = train(tmp_path / "run", config)
    assert_same_state(whole.state(), resumed.state())


def test_early_stopping_waits_for_patience(tmp_path):
    config = recipe(
        validation={"every_steps": 1, "patience": 2},
        training={"steps": 40, "batch_size": 4, "schedule": {"learning_rate": 1e-9}},
    )
    position, _ = train(tmp_path / "run", config)
    scores = [score for _, score in position.scores]
    assert position.step == len(scores) < 40
    assert max(scores[-2:]) <= scores[-3]
    again, _ = train(tmp_path / "run", config)
    assert again.step == position.step


def test_all_ignored_labels_train_with_loss_zero(tmp_path):
    good = split("train", 4)
    nothing = MemorySplit(
        "train", good.images, tuple(np.full_like(label, IGNORE) for label in good.labels), LABELS
    )
    train(tmp_path / "run", recipe(), train_split=nothing)
    assert [line["loss"] for line in lines(tmp_path / "run", "train")] == [0.0, 0.0]


def evaluate(trainer, of, config, **changes):
    return evaluation_loop.evaluate(
        trainer, of, config.data, config.loader, step=0, progress=Silent(), batch_size=2, **changes
    )


def test_every_pixel_of_every_label_counts_once_at_its_own_size(tmp_path):
    """Images of several sizes, scored with a model that sees them at another size."""
    parts = [split("val", 2, size=size, seed=7) for size in ((12, 10), (9, 31), (20, 20))]
    mixed = MemorySplit(
        "val",
        tuple(image for part in parts for image in part.images),
        tuple(label for part in parts for label in part.labels),
        LABELS,
    )
    config = recipe(data={"format": "memory", "root": "", "image_size": [8, 8]})
    outcome = evaluate(make_trainer(config), mixed, config)
    for label, counts, ignored in zip(
        mixed.labels, outcome.counts_NKK, outcome.ignored_N, strict=True
    ):
        assert counts.sum() + ignored == label.size
        assert ignored == label.shape[1]
        np.testing.assert_array_equal(
            counts.sum(axis=1), np.bincount(label[label < 3], minlength=3)
        )


def test_scores_do_not_depend_on_the_batch_size_or_the_threads(tmp_path):
    config = recipe()
    _, trainer = train(tmp_path / "run", config)
    val = split("val", 7, seed=2)
    first = evaluate(trainer, val, config)
    threads = recipe(loader={"threads": 3})
    other = evaluation_loop.evaluate(
        trainer, val, threads.data, threads.loader, step=0, progress=Silent(), batch_size=5
    )
    np.testing.assert_array_equal(first.counts_NKK, other.counts_NKK)


def test_processes_score_each_image_once_and_keep_the_same_examples(tmp_path):
    config = recipe()
    _, trainer = train(tmp_path / "run", config)
    val = split("val", 7, seed=2)
    whole = evaluate(trainer, val, config)

    def one(world):
        mine = copy.copy(trainer)
        mine.world = world
        return evaluate(mine, val, config)

    for part in in_world_of(3, one):
        np.testing.assert_array_equal(part.counts_NKK, whole.counts_NKK)
        assert [e.name for e in part.examples] == [e.name for e in whole.examples]
        for example, expected in zip(part.examples, whole.examples, strict=True):
            np.testing.assert_array_equal(example.image_HWC, expected.image_HWC)
            np.testing.assert_array_equal(example.prediction_HW, expected.prediction_HW)


def test_examples_are_kept_with_their_predictions(tmp_path):
    config = recipe()
    _, trainer = train(tmp_path / "run", config)
    val = split("val", 20, seed=2)
    outcome = evaluate(trainer, val, config, num_examples=3)
    assert [example.name for example in outcome.examples] == ["val0000", "val0009", "val0019"]
    np.testing.assert_array_equal(
        outcome.examples[1].prediction_HW, trainer.predict_labels(val.images[9][None])[0]
    )


def test_resampling_takes_classes_after_interpolation():
    """Between a 0 and a 2 lies no 1: what goes wrong where labels are interpolated."""
    probabilities = np.zeros((1, 2, 3), np.float32)
    probabilities[0, 0, 0] = probabilities[0, 1, 2] = 1
    labels = labels_at_size(probabilities, (1, 8))
    np.testing.assert_array_equal(labels, [[0, 0, 0, 0, 2, 2, 2, 2]])
    assert labels.dtype == np.uint8


def test_resampling_to_the_same_size_is_argmax():
    probabilities = np.random.default_rng(0).random((7, 5, 300)).astype(np.float32)
    labels = labels_at_size(probabilities, (7, 5))
    np.testing.assert_array_equal(labels, probabilities.argmax(axis=-1))
    assert labels.dtype == np.uint16


@pytest.mark.parametrize("size", [(3, 4), (7, 9)], ids=["same size", "resampled"])
@pytest.mark.parametrize("num_classes", [4, 300])
def test_of_equal_probabilities_the_lower_id_wins(size, num_classes):
    probabilities = np.full((3, 4, num_classes), 0.1, np.float32)
    probabilities[:, :2, 1] = probabilities[:, :2, 3] = 0.4
    probabilities[:, 2:, 2] = probabilities[:, 2:, 3] = 0.4
    labels = labels_at_size(probabilities, size)
    assert (labels[:, 0] == 1).all()
    assert (labels[:, -1] == 2).all()
    assert (labels_at_size(np.zeros((2, 2, 3), np.float32), (5, 5)) == 0).all()


class SlowTrainer:
    """A trainer each of whose steps takes 30 ms longer; remembers how long they took."""

    def __init__(self, trainer):
        self._trainer = trainer
        self.seconds = 0.0

    def __getattr__(self, name):
        return getattr(self._trainer, name)

    def train_step(self, batch, rate):
        began = time.perf_counter()
        time.sleep(0.03)
        result = self._trainer.train_step(batch, rate)
        self.seconds += time.perf_counter() - began
        return result


@pytest.mark.parametrize("every_steps", [1, 2, 4, 100])
def test_seconds_of_a_run_with_validations_and_a_resume_add_up(tmp_path, every_steps):
    config = recipe(log={"every_steps": every_steps})
    asked = iter(range(1, 100))
    spent, began = 0.0, time.perf_counter()
    create_run(tmp_path / "run", config, LABELS, overwrite=False)
    for stop in (lambda: next(asked) == 5, lambda: False):
        trainer = SlowTrainer(make_trainer(config))
        with contextlib.suppress(Stopped):
            training_loop.train(
                RunFolder(tmp_path / "run"),
                trainer,
                config,
                split("train", 10),
                split("val", 3, seed=1),
                progress=Silent(),
                stop_requested=stop,
            )
        spent += trainer.seconds
    whole = time.perf_counter() - began
    lines_of_time = (tmp_path / "run" / "timing.jsonl").read_text().splitlines()
    found = timing.training_seconds([json.loads(line) for line in lines_of_time])
    assert 9 * 0.03 < spent <= found < whole


def test_agenda_is_what_the_recipe_says():
    schedule = EventSchedule(recipe(training={"steps": 25}, validation={"every_epochs": 2}), 5)
    assert [step for step in range(1, 26) if schedule.validates(step)] == [10, 20, 25]
    schedule = EventSchedule(recipe(validation={"every_steps": 4}), 3)
    assert [step for step in range(1, 10) if schedule.validates(step)] == [4, 8, 9]
    schedule = EventSchedule(recipe(checkpoint={"every_steps": 2}), 3)
    assert [step for step in range(1, 10) if schedule.saves(step)] == [2, 3, 4, 6, 8, 9]


def test_the_best_is_the_first_of_equals():
    position = TrainingState(scores=[(1, 0.2), (2, 0.5), (3, 0.5), (4, 0.1)])
    assert position.best_step == 2
    assert position.validations_since_best == 2
    assert math.isclose(position.scores[1][1], 0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count otherwise")
def test_peak_memory_is_not_that_of_the_process_that_started_this_one():
    large = np.ones(100 << 20, np.uint64)  # 800 MiB, every page of it in use
    program = (
        "from terrazzo.training.loop import peak_memory; print(peak_memory()['peak_memory_bytes'])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert 10 << 20 < int(answer.stdout) < large.nbytes
