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
total = here.sum(np.array([2**53 + 1, here.rank]))
np.savez(
    f"{sys.argv[1]}/{here.size}-{here.rank}.npz", loss=loss, total=total, **trainer.state()
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
            np.testing.assert_allclose(first[name], alone[name], atol=1e-6, err_msg=name)
