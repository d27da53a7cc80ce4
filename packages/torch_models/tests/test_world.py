"""Two processes make the step that one process would make with all images."""

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import sys
import numpy as np
import torch
from torch import distributed, nn
from terrazzo.base.recipe import LossConfig
from terrazzo.base.recipe import OptimizerConfig
from terrazzo.base.recipe import TrainingConfig
from terrazzo.models.parameter_groups import Parts
from terrazzo.data.sample import Batch
from terrazzo.testing.trainer_checks import Task
from terrazzo_torch import world
from terrazzo_torch.batch_norm import BatchNorm2d
from terrazzo_torch.trainer import TorchTrainer

here = world.current()
training = TrainingConfig(
    steps=1,
    loss=LossConfig(dice=1, class_weights=(1, 3)),
    optimizer=OptimizerConfig(name="sgd"),
    clip_norm=0.1,
)
task = Task()
torch.manual_seed(0)
network = nn.Conv2d(3, 2, 3, padding=1)
trainer = TorchTrainer(network, Parts((), ()), training, task.labels, task.bands, 0, here)
for step in range(2):
    batch = task.batch(8, 8, seed=step)
    batch.labels_BHW[0, :5] = task.labels.ignore_index
    mine = slice(None) if here.size == 1 else (slice(0, 1), slice(1, 4))[here.rank]
    part = Batch(
        batch.images_BHWC[mine], batch.labels_BHW[mine], batch.names[mine], batch.files[mine]
    )
    loss = trainer.train_step(part, 0.1).loss
plain = trainer.state()


def normalised(sync, shares):
    # Two steps of a network with batch normalisation, its images shared as `shares` says.
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    settings = training.model_copy(update={"sync_batch_norm": sync, "clip_norm": None})
    trainer = TorchTrainer(network, Parts((), ()), settings, task.labels, task.bands, 0, here)
    for step in range(2):
        batch = task.batch(8, 8, seed=step)
        mine = slice(None) if here.size == 1 else shares[here.rank]
        idle = mine is None
        mine = slice(0, 1) if idle else mine
        labels = batch.labels_BHW[mine].copy()
        if idle:
            labels[:] = task.labels.ignore_index
        part = Batch(batch.images_BHWC[mine], labels, batch.names[mine], batch.files[mine], idle)
        trainer.train_step(part, 0.0 if sync is False else 0.1)
    return trainer


uneven, idle = (slice(0, 1), slice(1, 4)), (slice(None), None)
found = {}
for name, sync, shares in (
    ("own", False, uneven),
    ("own idle", False, idle),
    ("sync", True, uneven),
    ("sync idle", True, idle),
):
    trainer = normalised(sync, shares)
    found |= {f"{name}: {key}": value for key, value in trainer.state().items()}
    assert trainer.depends_on_share == (None if sync else "batch normalisation")
total = here.sum(np.array([2**53 + 1, here.rank]))
np.savez(
    f"{sys.argv[1]}/{here.size}-{here.rank}.npz", loss=loss, total=total, **plain, **found
)
if here.size > 1:
    distributed.destroy_process_group()
"""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_two_processes_equal_one_with_all_images(tmp_path: Path) -> None:
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    worlds = [{}] + [
        {**rendezvous, "WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
        for rank in range(2)
    ]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path], env=os.environ | extra)
            )
            for extra in worlds
        ]
        for run in runs:
            stack.callback(run.kill)
        assert [run.wait(timeout=300) for run in runs] == [0, 0, 0]
    alone, first, second = (np.load(tmp_path / f"{n}.npz") for n in ("1-0", "2-0", "2-1"))
    assert first["total"].tolist() == second["total"].tolist() == [2 * (2**53 + 1), 1]
    for name in alone.files:
        if name != "total":
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
            # With statistics of its own images each process takes another step, from which only the
            # running means, weighted by images, come together as in one process.
            if not name.startswith("own: ") or name.endswith("running_mean"):
                np.testing.assert_allclose(first[name], alone[name], atol=1e-6, err_msg=name)
