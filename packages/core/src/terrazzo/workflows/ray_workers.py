"""`terrazzo run --ray` and `evaluate --ray`: the same engine in processes of a Ray cluster.

Ray Train starts one process a GPU, or CPU, and joins them as ``torchrun`` would; what they do is
`terrazzo.workflows.train.train`. Run folder and data lie on a file system that all of them see
under the same path. What they say, what they fail by and whether they shall stop travels through
one actor, since Ray merges lines of output that differ only in numbers.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from terrazzo.base import ray_cluster
from terrazzo.base.errors import ConfigError, ResourceError, TerrazzoError
from terrazzo.base.progress import Progress
from terrazzo.base.ray_cluster import Cluster

_OTHER_ENDED = "SEG-R020"
_SECONDS_BETWEEN_LOOKS = 0.5
StopRequested = Callable[[], bool]
Job = Callable[[int, Progress, StopRequested], None]
"""What one process does, given how many attempts have failed before; importable where it runs."""


def run_in_workers(
    address: str,
    workers: int | None,
    place: Path,
    job: Job,
    *,
    max_failures: int,
    progress: Progress,
    stop_requested: StopRequested,
) -> None:
    """Do a job in several processes of a cluster together; again where one of them is lost.

    Args:
        address: of the cluster; see `terrazzo.base.ray_cluster.joined`.
        workers: how many processes; None: one for each GPU, or CPU where there is none.
        place: run folder; Ray Train's own files lie beside it meanwhile.
        job: what each process does.
        max_failures: how often it is done again after a worker was lost.
        progress: told what rank 0 tells.
        stop_requested: asked twice a second; its yes reaches rank 0.

    Raises:
        ConfigError: as `joined` and `Cluster.workers`; SEG-X074, a client's address.
        ResourceError: SEG-R021, a worker was lost more often than `max_failures`.
        TerrazzoError: that the job met.
    """
    if address.startswith("ray://"):
        raise ConfigError(
            "SEG-X074",
            "--ray: Ray Train starts from a machine of the cluster, not through a client",
            observed=address,
            allowed="HOST:6379, auto, local",
            next_step="type the command on a machine of the cluster, or hand it in with "
            "`ray job submit -- terrazzo run … --ray auto`",
        )
    with ray_cluster.joined(address, workers) as cluster:
        count = cluster.workers(workers)
        progress.say(
            f"Ray {cluster.ray.__version__}: {count} processes, each with a {cluster.kind}, of "
            f"{cluster.cpus} CPUs and {cluster.gpus} GPUs in all"
        )
        mailbox = cluster.ray.remote(_Mailbox).options(num_cpus=0).remote()
        for attempt in range(max_failures + 1):
            attempted = _Attempt(cluster, count, place, job, attempt, mailbox)
            attempted.wait(progress, stop_requested)
            if attempted.error is None:
                return
            met = cluster.ray.get(mailbox.take_failures.remote())
            for answer in met:
                if answer["code"] != _OTHER_ENDED:
                    raise TerrazzoError.from_json(answer)
            if not attempted.lost_a_worker(met):
                raise attempted.error
            if attempt < max_failures:
                progress.say(f"a worker was lost; attempt {attempt + 2} of {max_failures + 1}")
        raise ResourceError(
            "SEG-R021",
            "a worker of the cluster was lost",
            file=place,
            observed="; ".join(str(answer["observed"]) for answer in met) or attempted.reason(),
            allowed=f"{max_failures} lost workers (--max-failures)",
            next_step="look whether its machine has gone or its memory was too small; the same "
            "command with --resume goes on from the last checkpoint",
        )


class _Mailbox:
    """An actor that hands on what the driver and the workers have to say."""

    def __init__(self) -> None:
        self.stopping = False
        self.latest: tuple[int, int, str] | None = None
        self.lines: list[str] = []
        self.failures: list[dict[str, str | None]] = []

    def stop(self) -> None:
        self.stopping = True

    def is_stopping(self) -> bool:
        return self.stopping

    def advance(self, done: int, total: int, text: str) -> None:
        self.latest = (done, total, text)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def fail(self, error: dict[str, str | None]) -> None:
        self.failures.append(error)

    def take_failures(self) -> list[dict[str, str | None]]:
        taken, self.failures = self.failures, []
        return taken

    def take_news(self) -> tuple[list[str], tuple[int, int, str] | None]:
        taken, self.lines = self.lines, []
        latest, self.latest = self.latest, None
        return taken, latest


@dataclass
class _Attempt:
    """One start of all processes."""

    cluster: Cluster
    count: int
    place: Path
    job: Job
    number: int
    mailbox: Any
    error: BaseException | None = field(default=None, init=False)

    def wait(self, progress: Progress, stop_requested: StopRequested) -> None:
        """Start the processes and hand news on until they end."""
        thread = threading.Thread(target=self._fit, daemon=True)
        thread.start()
        told = False
        while thread.is_alive():
            thread.join(_SECONDS_BETWEEN_LOOKS)
            self._tell(progress)
            if not told and stop_requested():
                self.mailbox.stop.remote()
                told = True
        self._tell(progress)

    def _tell(self, progress: Progress) -> None:
        lines, latest = self.cluster.ray.get(self.mailbox.take_news.remote())
        for line in lines:
            progress.say(line)
        if latest is not None:
            progress.advance(*latest)

    def _fit(self) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        files = self.place.parent / f".{self.place.name}.ray"
        try:
            TorchTrainer(
                _work,
                train_loop_config={
                    "job": self.job,
                    "attempt": self.number,
                    "mailbox": self.mailbox,
                    "folder": str(Path.cwd()),
                },
                scaling_config=ScalingConfig(num_workers=self.count, use_gpu=self.cluster.gpus > 0),
                run_config=RunConfig(
                    name=f"attempt_{self.number}",
                    storage_path=str(files.absolute()),
                    failure_config=FailureConfig(max_failures=0),
                ),
            ).fit()
        except BaseException as error:
            self.error = error
        finally:
            shutil.rmtree(files, ignore_errors=True)

    def lost_a_worker(self, met: list[dict[str, str | None]]) -> bool:
        """Tell whether a process was lost, rather than the code was wrong."""
        if met:
            return True
        causes = getattr(self.error, "worker_failures", {})
        own = (self.cluster.ray.exceptions.RayError,)
        return not causes or any(isinstance(cause, own) for cause in causes.values())

    def reason(self) -> str:
        """Return what Ray says, in one line."""
        return " ".join(str(self.error).split())[:300]


def _work(settings: dict[str, Any]) -> None:
    """Do the job in a process of the cluster; what it meets goes to the mailbox."""
    import ray

    mailbox = settings["mailbox"]
    if Path(settings["folder"]).is_dir():  # relative paths begin where the command was typed
        os.chdir(settings["folder"])
    first = os.environ.get("RANK", "0") == "0"
    stopping = _Stopping(ray, mailbox) if first else lambda: False
    try:
        settings["job"](settings["attempt"], _Mailed(mailbox), stopping)
    except TerrazzoError as error:
        if not error.told_elsewhere:
            ray.get(mailbox.fail.remote(error.as_json()))
        raise


@dataclass
class _Stopping:
    """Asks the mailbox now and then whether the driver wants to stop."""

    ray: Any
    mailbox: Any
    next_look: float = 0.0
    answer: bool = False

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.answer and now >= self.next_look:
            self.answer = bool(self.ray.get(self.mailbox.is_stopping.remote()))
            self.next_look = now + _SECONDS_BETWEEN_LOOKS
        return self.answer


@dataclass
class _Mailed:
    """Progress by mail; the engine gives it to rank 0 alone."""

    mailbox: Any
    next_news: float = 0.0

    def advance(self, done: int, total: int, text: str) -> None:
        """Send how far it is, now and then."""
        if time.monotonic() >= self.next_news:
            self.mailbox.advance.remote(done, total, text)
            self.next_news = time.monotonic() + _SECONDS_BETWEEN_LOOKS

    def say(self, text: str) -> None:
        """Send one line."""
        self.mailbox.say.remote(text)
