"""Joining a Ray cluster, and saying in our own words what stands in the way.

Nothing here imports Ray before it is asked for.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terrazzo.base.errors import ConfigError
from terrazzo.base.processes import STOP_SIGNALS

_SECONDS_TO_ANSWER = 10.0
LOCAL = "local"
"""The address of a cluster that is made for this command and ends with it."""


@dataclass(frozen=True)
class Cluster:
    """A cluster this process has joined.

    Attributes:
        ray: the package.
        address: as asked for.
        cpus: processors of all nodes.
        gpus: GPUs of all nodes.
    """

    ray: Any
    address: str
    cpus: int
    gpus: int

    @property
    def kind(self) -> str:
        """What one worker takes: a GPU where there is any, else a processor."""
        return "GPU" if self.gpus else "CPU"

    @property
    def room(self) -> int:
        """How many workers have room at once."""
        return self.gpus or self.cpus

    def workers(self, wanted: int | None) -> int:
        """Return how many workers to start: as many as wanted, or as have room.

        Raises:
            ConfigError: SEG-X072, more are wanted than have room; Ray would wait for ever.
        """
        if wanted is not None and wanted > self.room:
            raise ConfigError(
                "SEG-X072",
                "--workers: the cluster has no room for so many at once",
                observed=f"{wanted} workers, each with a {self.kind}",
                allowed=f"up to {self.room}: {self.cpus} CPUs and {self.gpus} GPUs in all",
                next_step=f"ask for --workers {self.room}, or add nodes to the cluster",
            )
        return wanted or self.room


@contextmanager
def joined(address: str, workers: int | None = None) -> Iterator[Cluster]:
    """Join a cluster; leave it at the end, where it was made here.

    Args:
        address: ``HOST:6379``, ``ray://HOST:10001``, ``auto``, or `LOCAL`.
        workers: how many are wanted; a local cluster has at least so many processors.

    Raises:
        ConfigError: SEG-X003 Ray is not installed; SEG-X033 no cluster answers, or it asks for a
            token; SEG-X073 it runs another version of Ray or Python.
    """
    ray = _import_ray()
    options: dict[str, Any] = {}
    if address == LOCAL:
        options = {"num_cpus": max(workers or 1, os.cpu_count() or 1), "include_dashboard": False}
    try:
        _knock(address)
        with _own_signal_handlers():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise _not_joined(address, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("ray", "grpc"):
            raise
        raise _not_joined(address, error) from error
    try:
        resources = ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        yield Cluster(ray, address, cpus, gpus)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise an OSError where nobody listens: Ray 2.60 would try again for ever, without a word."""
    if address == "auto":
        # Where Ray itself looks; what it finds there may be of a cluster that has ended.
        noted = (
            Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray/ray_current_cluster"
        )
        address = os.environ.get("RAY_ADDRESS") or (noted.read_text() if noted.is_file() else "")
    host, _, port = address.strip().removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_ANSWER):
            pass


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep the handlers of this program: Ray 2.60 puts its own there, which abort at SIGTERM."""
    mine = {}
    if threading.current_thread() is threading.main_thread():
        mine = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in mine.items():
        if callable(handler) and handler is not signal.default_int_handler:
            signal.signal(number, handler)


def _not_joined(address: str, error: Exception) -> ConfigError:
    text = str(error).strip()
    if "version mismatch" in text.lower():
        return ConfigError(
            "SEG-X073",
            "--ray: the cluster runs another version of Ray or Python",
            observed=" ".join(text.split()),
            allowed="the same Ray and the same Python, to the patch version, on every machine",
            next_step="install the cluster's versions here, or start it with those of this machine",
        )
    needs_token = "token" in text.lower() or "unauthenticated" in text.lower()
    return ConfigError(
        "SEG-X033",
        "--ray: the cluster asks for a token" if needs_token else "--ray: no cluster answers",
        observed=f"{address}: {text.splitlines()[0] if text else type(error).__name__}",
        allowed="HOST:6379 or auto on a machine of the cluster, ray://HOST:10001 from elsewhere, "
        "or local",
        next_step="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the "
        "cluster's token; Ray keeps one in .ray/auth_token of the home folder"
        if needs_token
        else "start one with `ray start --head`, or use --workers N on this machine alone",
    )


def _import_ray() -> Any:
    # Without it, Ray sends a report of its use over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "SEG-X003",
            "--ray needs Ray, which is not installed",
            next_step="pip install 'terrazzo[ray]', or use --workers N on this machine",
        ) from error
    return ray
