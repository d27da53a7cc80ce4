"""The runs of a study on the machines of a Ray cluster, as many at a time as there is room for.

Each is a command in a process of its own, started and watched by an actor. The study's folder and
the data lie on a file system that every machine sees under the same path.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from terrazzo.base import ray_cluster
from terrazzo.base.errors import ResourceError, TerrazzoError
from terrazzo.base.processes import STOP_SIGNALS
from terrazzo.base.ray_cluster import Cluster
from terrazzo.workflows.study import child_process
from terrazzo.workflows.study.plan import Plan, PlannedRun
from terrazzo.workflows.study.steps import Step, mark, next_step

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_SAVE = 60.0
_CHARACTERS_SAID = 2000


def run_side_by_side(
    plan: Plan, address: str, workers: int | None, say: Callable[[str], None]
) -> None:
    """Do what is not done of a study; a run waits for the one whose weights it begins with.

    A signal that asks to stop is handed to every process, which saves its state; so it is where a
    run fails, and its error is raised then.

    Raises:
        ConfigError: as `ray_cluster.joined` and `Cluster.workers`.
        TerrazzoError: as `child_process.require_success`; SEG-R061, a machine was lost.
    """
    with ray_cluster.joined(address, workers) as cluster:
        count = min(cluster.workers(workers), len(plan.runs))
        say(f"Ray {cluster.ray.__version__}: {count} runs at a time, each with a {cluster.kind}")
        received: list[int] = []
        before = {
            number: signal.signal(number, lambda number, _: received.append(number))
            for number in STOP_SIGNALS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        runs = _Runs(plan, cluster, count, say)
        try:
            while runs.start_what_can():
                runs.look()
                if received:
                    runs.stop()
                    child_process.require_success(0, plan.study.name, stopped=True)
        except TerrazzoError:
            runs.stop()
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Runs:
    """What is done, what is at work, and who is free."""

    def __init__(
        self, plan: Plan, cluster: Cluster, count: int, say: Callable[[str], None]
    ) -> None:
        self._plan, self._ray, self._say = plan, cluster.ray, say
        actor = self._ray.remote(_Runner).options(
            num_cpus=1, num_gpus=min(cluster.gpus, 1), max_concurrency=2
        )
        self._free = [actor.remote() for _ in range(count)]
        self._at_work: dict[Any, tuple[Any, PlannedRun, Step]] = {}
        self._left = []
        for planned in plan.chosen:
            if next_step(plan, planned) is None:
                say(f"{self._title(planned)}: done")
            else:
                self._left.append(planned)

    def start_what_can(self) -> bool:
        """Start runs that wait for nothing; tell whether any is at work."""
        unfinished = {p.name for p in self._left} | {p.name for _, p, _ in self._at_work.values()}
        for planned in list(self._left):
            if self._free and planned.begins_with not in unfinished:
                self._left.remove(planned)
                self._start(self._free.pop(), planned)
        return bool(self._at_work)

    def _start(self, actor: Any, planned: PlannedRun) -> None:
        step = next_step(self._plan, planned)
        assert step is not None
        self._say(f"{self._title(planned)}: {step.what}")
        answer = actor.work.remote(step.words, str(Path.cwd()))
        self._at_work[answer] = actor, planned, step

    def look(self) -> None:
        """Wait a moment for what is at work; go on with what has ended.

        Raises:
            TerrazzoError: as `child_process.require_success`.
            ResourceError: SEG-R061, a machine of the cluster was lost.
        """
        ended, _ = self._ray.wait(list(self._at_work), timeout=_SECONDS_BETWEEN_LOOKS)
        for answer in ended:
            actor, planned, step = self._at_work.pop(answer)
            try:
                code, said = self._ray.get(answer)
            except self._ray.exceptions.RayError as error:
                raise ResourceError(
                    "SEG-R061",
                    f"the machine that did the run {planned.name!r} was lost",
                    observed=type(error).__name__,
                    next_step="the same command with --resume goes on from its last checkpoint",
                ) from error
            child_process.require_success(code, planned.name, said=said)
            mark(step.marker)
            if next_step(self._plan, planned) is None:
                self._free.append(actor)
            else:
                self._start(actor, planned)

    def stop(self) -> None:
        """Ask every process to save its state, and wait until they have."""
        for actor, _, _ in self._at_work.values():
            actor.stop.remote()
        if self._at_work:
            answers = list(self._at_work)
            self._ray.wait(answers, num_returns=len(answers), timeout=_SECONDS_TO_SAVE)
        self._at_work.clear()

    def _title(self, planned: PlannedRun) -> str:
        number = self._plan.runs.index(planned) + 1
        return f"[{number}/{len(self._plan.runs)}] {planned.name}"


class _Runner:
    """An actor: one command at a time, and a second thread that can stop it."""

    def __init__(self) -> None:
        self._process: Any = None
        self._stopping = False

    def work(self, words: list[str], folder: str) -> tuple[int, str]:
        """Run a command to its end; return its exit code and the last it said."""
        where = folder if Path(folder).is_dir() else None
        with tempfile.TemporaryFile() as said:
            self._process = child_process.start(words, folder=where, stderr=said)
            if self._stopping:  # asked for before there was anything to stop
                self._process.terminate()
            code = self._process.wait()
            self._process = None
            said.seek(0)
            text = said.read().decode(errors="replace").strip()
        return code, text[-_CHARACTERS_SAID:]

    def stop(self) -> None:
        """Ask the process to save its state and end."""
        self._stopping = True
        if (process := self._process) is not None:
            process.terminate()
