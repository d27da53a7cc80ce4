"""Processes of this machine that share the rows of scenes, each with the model loaded.

They are spawned, not forked: GDAL and the frameworks hold threads and handles. A worker dies with
its parent, however that died, and its parent hears at once if it dies.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Self

from terrazzo.base.errors import ResourceError
from terrazzo.inference import jobs
from terrazzo.inference.jobs import BandTask
from terrazzo.runs.model_source import ModelSource

_ROW, _TASK, _LINE = "row", "task", "line "
_LONGEST_END = 5.0  # seconds a worker may take to stop before it is killed


@dataclass(frozen=True, eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection


class ProcessPool:
    """A `jobs.Executor` of processes of this machine; a context that starts and ends them.

    Args:
        model: that each loads.
        count: how many.
        row_done: called after every row of tiles of any of them.
        say: told what they have to say.
    """

    def __init__(
        self,
        model: ModelSource,
        count: int,
        row_done: Callable[[], None],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model, self.size, self.row_done, self.say = model, count, row_done, say
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        for number in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(self.model, theirs), name=f"terrazzo-{number}", daemon=True
            )
            with _environment(_settings(number, self.size)):
                process.start()
            theirs.close()  # so that its end is seen when the worker dies
            self._workers.append(_Worker(process, ours))
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_LONGEST_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def do(self, tasks: Iterable[BandTask]) -> Iterator[BandTask]:
        """Hand tasks to whoever is free; yield them as they are finished.

        Raises:
            TerrazzoError: that a worker met; ResourceError SEG-R001, one of them died.
        """
        return jobs.share_out(tasks, self._workers, _send, self._wait)

    def _wait(self, busy: Mapping[_Worker, BandTask]) -> list[_Worker]:
        by_connection = {worker.connection: worker for worker in busy}
        finished = []
        for connection in wait(list(by_connection)):
            assert isinstance(connection, Connection)
            worker = by_connection[connection]
            message = _receive(worker, busy[worker])
            if message == _ROW:
                self.row_done()
            elif message.startswith(_LINE):
                self.say(message.removeprefix(_LINE))
            else:
                finished.append(worker)
        return finished


def _send(worker: _Worker, task: BandTask) -> None:
    try:
        worker.connection.send(task)
    except OSError as error:
        raise _died(worker, task) from error


def _receive(worker: _Worker, task: BandTask) -> str:
    try:
        message: Any = worker.connection.recv()
    except (EOFError, OSError) as error:
        raise _died(worker, task) from error
    if isinstance(message, Exception):
        raise message
    return str(message)


def _died(worker: _Worker, task: BandTask) -> ResourceError:
    worker.process.join(_LONGEST_END)
    code = worker.process.exitcode
    how = (
        f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"code {code}"
    )
    return ResourceError(
        "SEG-R001",
        "a worker died",
        file=task.scene.path,
        observed=f"process {worker.process.pid} ended with {how} at rows "
        f"{task.band.first}…{task.band.last - 1}",
        next_step="go on with --resume; fewer --workers or a smaller --tile need less memory",
    )


def _settings(number: int, count: int) -> Mapping[str, str]:
    """Share the cores among the workers, and the GPUs where several are named."""
    settings = {}
    if "OMP_NUM_THREADS" not in os.environ:
        settings["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // count))
    devices = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if len(devices) > 1:
        settings["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return settings


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables for as long as a process is being started, which takes them over."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(model: ModelSource, connection: Connection) -> None:
    """Do tasks until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    load = functools.cache(lambda: model.load()[1])
    with contextlib.suppress(EOFError):
        while True:
            task = connection.recv()
            error = jobs.attempt(
                load,
                task,
                lambda: connection.send(_ROW),
                lambda text: connection.send(f"{_LINE}{text}"),
            )
            connection.send(error or _TASK)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
