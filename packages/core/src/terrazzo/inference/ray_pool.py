"""Actors of a Ray cluster that share the rows of scenes, each with the model loaded.

Scene, model and map lie on a file system that every node sees under the same path: rows go into
the map's journal there, and only small tasks travel through Ray.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Self

from terrazzo.base import ray_cluster
from terrazzo.base.errors import ResourceError
from terrazzo.inference import jobs
from terrazzo.inference.jobs import BandTask
from terrazzo.runs.model_source import ModelSource


class RayPool:
    """A `jobs.Executor` of Ray actors; a context that starts and ends them.

    Args:
        address: of the cluster; see `terrazzo.base.ray_cluster.joined`.
        model: that each loads.
        count: how many; None: one for each GPU of the cluster, or CPU where there is no GPU.
        row_done: called after every task, as often as it has rows of tiles.
    """

    def __init__(
        self, address: str, model: ModelSource, count: int | None, row_done: Callable[[], None]
    ) -> None:
        self.model, self.row_done = model, row_done
        self._joined = ray_cluster.joined(address, count)
        self._count = count
        self._actors: list[Any] = []
        self._answers: dict[Any, Any] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            cluster = stack.enter_context(self._joined)
            self._ray = cluster.ray
            self.size = cluster.workers(self._count)
            actor = self._ray.remote(_Actor).options(num_cpus=1, num_gpus=min(cluster.gpus, 1))
            model = self.model.absolute()
            self._actors = [actor.remote(model) for _ in range(self.size)]
            self._leave = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.close()

    def do(self, tasks: Iterable[BandTask]) -> Iterator[BandTask]:
        """Hand tasks to whoever is free; yield them as they are finished.

        Raises:
            TerrazzoError: that an actor met; ResourceError SEG-R001, one of them died.
        """
        return jobs.share_out(tasks, self._actors, self._start, self._wait)

    def _start(self, actor: Any, task: BandTask) -> None:
        self._answers[actor.work.remote(task)] = actor

    def _wait(self, busy: Mapping[Any, BandTask]) -> list[Any]:
        ready, _ = self._ray.wait(list(self._answers), num_returns=1)
        actor = self._answers.pop(ready[0])
        self._finish(ready[0], busy[actor])
        return [actor]

    def _finish(self, answer: Any, task: BandTask) -> None:
        try:
            rows_done = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            raise ResourceError(
                "SEG-R001",
                "an actor of the cluster died",
                file=task.scene.path,
                observed=f"{type(error).__name__} at rows {task.band.first}…{task.band.last - 1}",
                next_step="go on with --resume",
            ) from error
        if isinstance(rows_done, Exception):
            raise rows_done
        for _ in range(rows_done):
            self.row_done()


class _Actor:
    """Lives in a process of the cluster."""

    def __init__(self, model: ModelSource) -> None:
        self._load = functools.cache(lambda: model.load()[1])

    def work(self, task: BandTask) -> int | Exception:
        """Do one job; return its rows of tiles, or the error, which Ray would wrap."""
        rows: list[None] = []
        return jobs.attempt(self._load, task, lambda: rows.append(None)) or len(rows)
