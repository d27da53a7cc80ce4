"""Several processes that train one model, as ``torchrun`` or Ray Train starts them."""

from __future__ import annotations

import atexit
import datetime
import os
import platform
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, distributed

from terrazzo.base.errors import ResourceError
from terrazzo.base.processes import IntegerArray, SingleProcess, restarts

_PATIENCE = datetime.timedelta(hours=6)
"""How long the others wait while rank 0 reads all labels or writes a page. A process that dies
is noticed at once, by its closed connection."""
_ROLL_CALL_SECONDS = 3.0
_group_is_ours: list[bool] = []
_ended_by_error: list[str] = []


@dataclass(frozen=True, slots=True)
class TorchWorld:
    """The processes of torch's default process group.

    Counts and agreements travel by Gloo over the host, whatever carries the gradients, so that they
    never wait for the device.

    Attributes:
        rank: number of this process, 0…size-1.
        size: number of processes.
    """

    rank: int
    size: int
    _control: Any = field(repr=False)

    def sum(self, counts: IntegerArray) -> IntegerArray:
        """Return the exact sum of an int64 array over all processes, to all processes.

        Raises:
            ResourceError: SEG-R060, another process has ended.
        """
        total = torch.tensor(counts, dtype=torch.int64)
        _all_reduce(total, self._control)
        return cast("IntegerArray", total.numpy())

    def leave(self, reason: str) -> None:
        """Leave word for the others why this process ends before the work is done."""
        _write(f"left/{self.rank}", reason)


@cache
def _joined() -> TorchWorld:
    control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    rank, size = distributed.get_rank(), distributed.get_world_size()
    _write(f"name/{rank}", f"process {os.getpid()} on {platform.node()}")
    return TorchWorld(rank, size, control)


def current() -> SingleProcess | TorchWorld:
    """Return the world this process is in, joining the others where ``torchrun`` started it."""
    if not distributed.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return SingleProcess()
        where = device()
        if where.type == "cuda":
            torch.cuda.set_device(where)
        distributed.init_process_group(
            "nccl" if where.type == "cuda" else "gloo",
            device_id=where if where.type == "cuda" else None,
            **_meeting_place(),
        )
        _group_is_ours.append(True)
        # The group made here ends here; a launcher that has made its own ends it itself.
        atexit.register(_end)
    return _joined() if distributed.get_world_size() > 1 else SingleProcess()


def _meeting_place() -> dict[str, Any]:
    """Return where the processes find each other, if not where torch would look.

    Started again by ``torchrun --max-restarts``, they would find the addresses of those before
    them: without ``--standalone`` or ``--rdzv-backend c10d``, torch 2.15 keeps one store for all.
    """
    if not restarts():
        return {}
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = distributed.TCPStore(host, port, is_master=False)  # type: ignore[attr-defined]
    name = f"terrazzo/restart_{restarts()}"
    return {
        "store": distributed.PrefixStore(name, store),  # type: ignore[attr-defined]
        "rank": int(os.environ["RANK"]),
        "world_size": int(os.environ["WORLD_SIZE"]),
    }


def _end() -> None:
    if distributed.is_initialized() and not _ended_by_error:
        distributed.destroy_process_group()


def device() -> torch.device:
    """Return the accelerator of this process, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if distributed.is_initialized() and not _group_is_ours:
        # Whoever made the group has chosen: Ray Train shows each process the GPUs of its machine.
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def sum_over(part: Tensor) -> Tensor:
    """Return the sum over all processes; its gradient flows into this process's part alone.

    So the sum of all processes' gradients is the gradient of the whole.
    """
    total = part.detach().clone()
    _all_reduce(total)
    return part + (total - part.detach())


def sum_in_place(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in one message."""
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    _all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(tensors, [p.view(t.shape) for p, t in zip(parts, tensors, strict=True)])


class SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes, which all of them go on with.

    Every process's result depends on every process's part, so the gradients are summed as well.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:  # noqa: ARG004
        """Sum over the processes."""
        total = part.clone()
        _all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        """Sum the gradients over the processes."""
        total = gradient.contiguous().clone()
        _all_reduce(total)
        return total


def _all_reduce(tensor: Tensor, group: Any = None) -> None:
    try:
        distributed.all_reduce(tensor, group=group)
    except RuntimeError as error:
        _ended_by_error.append(str(error))
        raise _another_ended(error) from error


def _another_ended(cause: RuntimeError) -> ResourceError:
    """Say which process has ended, and why if it left word; others may be waiting like this one."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    others = [other for other in range(size) if other != rank]
    _write(f"waiting/{rank}", "yes")
    end = time.monotonic() + _ROLL_CALL_SECONDS
    while time.monotonic() < end:
        silent = [r for r in others if _read(f"waiting/{r}") is None]
        if not silent or any(_read(f"left/{r}") for r in silent):
            break
        time.sleep(0.1)
    told = [told for other in others if (told := _told_of(other))]
    return ResourceError(
        "SEG-R060",
        "another process of this training has ended",
        observed="; ".join(told) or str(cause).splitlines()[0],
        allowed=f"all {size} processes at work until the end",
        next_step="see its own message; a process that ended without a word was killed, by lack of "
        "memory for one. The same command with --resume goes on from the last checkpoint",
    )


def _told_of(rank: int) -> str | None:
    """Return why another process ended; None where it waits as this one does."""
    name = f"rank {rank} ({_read(f'name/{rank}')})"
    if (reason := _read(f"left/{rank}")) is not None:
        return f"{name}: {reason}"
    return None if _read(f"waiting/{rank}") else f"{name} ended without a word"


def _store() -> Any:
    return distributed.distributed_c10d._get_default_store()


def _write(key: str, text: str) -> None:
    try:
        _store().set(f"terrazzo/{key}", text)
    except RuntimeError:  # whoever kept it has gone
        return


def _read(key: str) -> str | None:
    try:
        store = _store()
        if not store.check([f"terrazzo/{key}"]):
            return None
        return str(store.get(f"terrazzo/{key}").decode())
    except RuntimeError:
        return None
