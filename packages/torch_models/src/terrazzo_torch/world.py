"""Several processes that train one model, as ``torchrun`` starts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, distributed

from terrazzo.base.processes import IntegerArray, SingleProcess


@dataclass(frozen=True, slots=True)
class TorchWorld:
    """The processes of torch's default process group.

    Attributes:
        rank: number of this process, 0…size-1.
        size: number of processes.
    """

    rank: int
    size: int

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return the exact sum of an int64 array over all processes, to all processes."""
        total = torch.tensor(counts, dtype=torch.int64, device=device())
        distributed.all_reduce(total)
        return cast("IntegerArray", total.cpu().numpy())


def current() -> SingleProcess | TorchWorld:
    """Return the world this process is in, joining the others where ``torchrun`` started it."""
    if not distributed.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return SingleProcess()
        where = device()
        distributed.init_process_group(
            "nccl" if where.type == "cuda" else "gloo",
            device_id=where if where.type == "cuda" else None,
        )
    return TorchWorld(distributed.get_rank(), distributed.get_world_size())


def device() -> torch.device:
    """Return the accelerator of this process, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def sum_over(part: Tensor) -> Tensor:
    """Return the sum over all processes; its gradient flows into this process's part alone.

    So the sum of all processes' gradients is the gradient of the whole.
    """
    total = part.detach().clone()
    distributed.all_reduce(total)
    return part + (total - part.detach())


def sum_in_place(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in one message."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [p.view(t.shape) for p, t in zip(parts, tensors, strict=True)])
