"""Memory that runs out: TensorFlow's own errors, told from others, and what core makes of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from terrazzo.base.errors import ResourceError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig, LoaderConfig
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder, create_run
from terrazzo.testing.memory import MemorySplit
from terrazzo.testing.trainer_checks import Task
from terrazzo.training import loop as training_loop
from terrazzo_keras.backend import backend

TASK = Task()
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="these are TensorFlow's errors"
)


def device_full():
    """Do as the allocator of a GPU does."""
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[4]")


def host_full():
    """Ask the allocator of the CPU for more than any machine has."""
    tf.zeros((1 << 46,), tf.float64) + 1


def recipe():
    return Config.model_validate(
        {
            "backend": "keras",
            "name": "test",
            "data": {"format": "memory", "root": ""},
            "model": {"name": "unet", "options": {"width": 4, "depth": 1}},
            "training": {"steps": 3, "batch_size": 4},
            "validation": {"every_steps": 100},
            "checkpoint": {"every_steps": 1},
        }
    )


def build():
    config = recipe()
    return backend.build(config.model, config.training, TASK.labels, TASK.bands, 0)


def split(count):
    batch = TASK.batch(16, 16)
    images_BHWC = np.concatenate([batch.images_BHWC] * count)[:count]
    labels_BHW = np.concatenate([batch.labels_BHW] * count)[:count]
    return MemorySplit("val", tuple(images_BHWC), tuple(labels_BHW), TASK.labels)


def fill(monkeypatch, trainer, full, *, above):
    """Let compiled functions run out of memory for more images; return the batches seen."""
    compiled, seen = type(trainer)._function, []

    def limited(self, function, *arrays, **options):
        call = compiled(self, function, *arrays, **options)

        def guarded(*arguments):
            seen.append(len(arrays[0]))
            if len(arrays[0]) > above:
                full()
            return call(*arguments)

        return guarded

    monkeypatch.setattr(type(trainer), "_function", limited)
    return seen


def score(trainer):
    data = DataConfig(format="memory", root="")
    return evaluation_loop.evaluate(
        trainer, split(5), data, LoaderConfig(), batch_size=4, step=1, progress=Silent()
    )


@pytest.mark.parametrize("full", [device_full, host_full])
def test_scoring_halves_its_batch_with_the_same_scores(monkeypatch, full):
    trainer = build()
    expected = score(trainer)
    seen = fill(monkeypatch, trainer, full, above=2)
    np.testing.assert_array_equal(score(trainer).counts_NKK, expected.counts_NKK)
    assert seen == [4, 2, 2, 1]


@pytest.mark.parametrize("full", [device_full, host_full])
def test_a_training_step_that_does_not_fit_says_what_to_lower(monkeypatch, tmp_path, full):
    config, run = recipe(), RunFolder(tmp_path / "run")
    create_run(run.path, config, TASK.labels, overwrite=False)
    trainer = build()

    def fill_after_one_step():
        fill(monkeypatch, trainer, full, above=0)
        return False

    with pytest.raises(ResourceError, match=r"SEG-R006.*making training step 2 on cpu") as caught:
        training_loop.train(
            run,
            trainer,
            config,
            split(4),
            split(2),
            progress=Silent(),
            stop_requested=fill_after_one_step,
        )
    assert "batch 4×16×16×3" in str(caught.value)
    assert "training.batch_size" in str(caught.value)
    newest, damaged = checkpoint.latest(run.checkpoints)
    assert (newest.step, damaged) == (1, [])
    monkeypatch.undo()
    training_loop.train(run, build(), config, split(4), split(2), progress=Silent())
    assert checkpoint.found(run.checkpoints)[-1] == 3


def test_other_errors_are_not_taken_for_memory():
    trainer = build()
    others = (tf.errors.InvalidArgumentError(None, None, "shapes differ"), ValueError("x"))
    assert not any(map(trainer.out_of_memory, others))


@pytest.mark.parametrize("full", [device_full, host_full])
def test_a_model_that_does_not_fit_is_named(monkeypatch, full):
    monkeypatch.setattr(keras.layers.Conv2D, "build", lambda *_: full())
    with pytest.raises(ResourceError, match="SEG-R006: out of memory while building model unet"):
        build()
