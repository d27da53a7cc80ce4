"""Memory that runs out: torch's own errors, told from others, and what core makes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from terrazzo.base.errors import ResourceError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig, LoaderConfig
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.models.contract import Trainer
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder, create_run
from terrazzo.testing.memory import MemorySplit
from terrazzo.testing.trainer_checks import Task
from terrazzo.training import loop as training_loop
from terrazzo_torch.backend import backend

TASK = Task()
Full = Callable[[], None]


def device_full() -> None:
    """Do as the allocator of a GPU does."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def host_full() -> None:
    """Ask the allocator of the CPU for more than any machine has."""
    torch.empty(1 << 50)


def recipe(**training: object) -> Config:
    return Config.model_validate(
        {
            "backend": "torch",
            "name": "test",
            "data": {"format": "memory", "root": ""},
            "model": {"name": "unet", "options": {"width": 4, "depth": 1}},
            "training": {"steps": 3, "batch_size": 4, **training},
            "validation": {"every_steps": 100},
            "checkpoint": {"every_steps": 1},
        }
    )


def trainer() -> Trainer:
    config = recipe()
    return backend.build(config.model, config.training, TASK.labels, TASK.bands, 0)


def split(count: int) -> MemorySplit:
    batch = TASK.batch(16, 16)
    images_BHWC = np.concatenate([batch.images_BHWC] * count)[:count]
    labels_BHW = np.concatenate([batch.labels_BHW] * count)[:count]
    return MemorySplit("val", tuple(images_BHWC), tuple(labels_BHW), TASK.labels)


def fill(monkeypatch: pytest.MonkeyPatch, full: Full, *, above: int) -> list[int]:
    """Let convolutions of more images than that run out of memory; return the batches seen."""
    convolution, seen = torch.nn.functional.conv2d, []

    def limited(images: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        seen.append(len(images))
        if len(images) > above:
            full()
        return convolution(images, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(torch.nn.functional, "conv2d", limited)
    return seen


def score(model: Trainer, batch_size: int) -> evaluation_loop.Evaluation:
    return evaluation_loop.evaluate(
        model,
        split(5),
        DataConfig(format="memory", root=""),
        LoaderConfig(),
        batch_size=batch_size,
        step=1,
        progress=Silent(),
    )


@pytest.mark.parametrize("full", [device_full, host_full])
def test_scoring_halves_its_batch_with_the_same_scores(
    monkeypatch: pytest.MonkeyPatch, full: Full
) -> None:
    model = trainer()
    expected = score(model, 4)
    seen = fill(monkeypatch, full, above=2)
    np.testing.assert_array_equal(score(model, 4).counts_NKK, expected.counts_NKK)
    assert {4, 2, 1} == set(seen)


@pytest.mark.parametrize("full", [device_full, host_full])
def test_a_training_step_that_does_not_fit_says_what_to_lower(
    monkeypatch: pytest.MonkeyPatch, full: Full, tmp_path: Path
) -> None:
    config, run = recipe(), RunFolder(tmp_path / "run")
    create_run(run.path, config, TASK.labels, overwrite=False)

    def train() -> Trainer:
        model = trainer()
        training_loop.train(run, model, config, split(4), split(2), progress=Silent())
        return model

    def fill_after_one_step() -> bool:
        fill(monkeypatch, full, above=0)
        return False

    with pytest.raises(ResourceError, match=r"SEG-R006.*making training step 2 on cpu") as caught:
        training_loop.train(
            run,
            trainer(),
            config,
            split(4),
            split(2),
            progress=Silent(),
            stop_requested=fill_after_one_step,
        )
    assert "batch 4×16×16×3" in str(caught.value)
    assert "training.batch_size" in str(caught.value)
    newest, damaged = checkpoint.latest(run.checkpoints)
    assert newest is not None
    assert (newest.step, damaged) == (1, [])
    monkeypatch.undo()
    train()
    assert checkpoint.found(run.checkpoints)[-1] == 3


def test_other_errors_are_not_taken_for_memory() -> None:
    model = trainer()
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("x")):
        assert not model.out_of_memory(error)


@pytest.mark.parametrize("full", [device_full, host_full])
def test_a_model_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch, full: Full) -> None:
    monkeypatch.setattr(torch.nn.Module, "to", lambda *_, **__: full())
    with pytest.raises(ResourceError, match="SEG-R006: out of memory while building model unet"):
        trainer()
