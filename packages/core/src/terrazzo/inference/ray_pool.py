"""Actors of a Ray cluster that share the rows of scenes, each with the model loaded.

Scene, model and map lie on a file system that every node sees under the same path: rows go into
the map's journal there, and only small tasks travel through Ray.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from terrazzo.base.errors import ConfigError, ResourceError
from terrazzo.inference import jobs
from terrazzo.inference.jobs import BandTask
from terrazzo.runs import saved_model


class RayPool:
    """A `jobs.Executor` of Ray actors; a context that starts and ends them.

    Args:
        address: of the cluster: ``auto``, ``ray://HOST:10001``, or ``local`` for one made here.
        model: folder of the model, which each loads.
        count: how many; None: one for each GPU of the cluster, or CPU where there is no GPU.
        row_done: called after every task, as often as it has rows of tiles.
    """

    def __init__(
        self, address: str, model: Path, count: int | None, row_done: Callable[[], None]
    ) -> None:
        self.address, self.model, self.row_done = address, model, row_done
        self.size = count or 0
        self._ray = _import_ray()
        self._actors: list[Any] = []
        self._answers: dict[Any, Any] = {}

    def __enter__(self) -> Self:
        try:
            local = {"num_cpus": self.size or None, "include_dashboard": False}
            options = local if self.address == "local" else {}
            self._ray.init(address=self.address, log_to_driver=False, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(
                "SEG-X033",
                "--ray: no cluster answers",
                observed=f"{self.address}: {error}",
                allowed="auto, ray://HOST:10001, HOST:6379, or local",
                next_step="start one with `ray start --head`, or use --workers N",
            ) from error
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        self.size = self.size or gpus or int(resources.get("CPU", 1))
        actor = self._ray.remote(_Actor).options(num_cpus=1, num_gpus=1 if gpus else 0)
        self._actors = [actor.remote(self.model.resolve()) for _ in range(self.size)]
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

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

    def __init__(self, model: Path) -> None:
        self._load = functools.cache(lambda: saved_model.load(model)[1])

    def work(self, task: BandTask) -> int | Exception:
        """Do one job; return its rows of tiles, or the error, which Ray would wrap."""
        rows: list[None] = []
        return jobs.attempt(self._load, task, lambda: rows.append(None)) or len(rows)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "SEG-X003",
            "--ray needs Ray, which is not installed",
            next_step="pip install 'terrazzo[ray]', or use --workers N on this machine",
        ) from error
    return ray
