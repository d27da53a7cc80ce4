"""The log of a run, sent to MLflow or TensorBoard as well; docs/tracking.md.

``log.jsonl`` is the record. A follower thread reads the file and sends what is new: the file is the
queue, so that training waits for nothing, nothing has to be dropped when a tracker is slow, and
what a dead one has missed arrives when it is back or when the run is resumed.

``run_summary`` and ``results`` say what is sent, `log_follower` when, ``mlflow`` and
``tensorboard`` how. Neither of the two packages is imported unless it is asked for.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from terrazzo.base import config_parsing
from terrazzo.base.errors import ConfigError, Stopped, unknown_name
from terrazzo.base.progress import Progress
from terrazzo.base.recipe import Config, TrackingConfig
from terrazzo.runs.folder import RunFolder

if TYPE_CHECKING:
    from terrazzo.tracking.log_follower import Follower, Tracker

KINDS = ("mlflow", "tensorboard")
_SECONDS_WHEN_CUT_SHORT = 5.0
"""A run that was told to stop, or that failed, waits no longer than this for trackers."""


def also(recipe: Config, kinds: Sequence[str]) -> Config:
    """Return the recipe with more trackers.

    Raises:
        ConfigError: SEG-X004, unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown_name("tracker", kind, KINDS)
    if not kinds:
        return recipe
    table = (recipe.tracking or TrackingConfig()).model_dump()
    table["kind"] = tuple(dict.fromkeys((*table["kind"], *kinds)))
    tracking = config_parsing.parse(TrackingConfig, table, where="--track")
    return recipe.model_copy(update={"tracking": tracking})


def trackers(settings: TrackingConfig | None, folder: RunFolder) -> dict[str, Tracker]:
    """Make the trackers of a recipe, which imports their packages; connects to nothing.

    Raises:
        ConfigError: SEG-X050, a package is not installed, with the pip line; SEG-X051, MLflow
            cannot be reached by such a URI.
    """
    made: dict[str, Tracker] = {}
    for kind in settings.kind if settings else ():
        try:
            module = importlib.import_module(f"terrazzo.tracking.{kind}")
            made[kind] = module.make(settings, folder)
        except ImportError as error:
            raise ConfigError(
                "SEG-X050",
                f"what --track {kind} needs is not installed",
                observed=error,
                next_step=f"pip install 'terrazzo[{kind}]'   "
                f"(in a checkout: pip install -e 'packages/core[{kind}]')",
            ) from None
    return made


@contextmanager
def follow(
    made: dict[str, Tracker], settings: TrackingConfig | None, folder: RunFolder, progress: Progress
) -> Iterator[Callable[[], None]]:
    """Send the log of the run in `folder` to trackers for as long as the context lasts.

    Nothing that a tracker does or fails to do raises, or takes longer than `settings.deadline`
    when the context ends.

    Yields:
        What to call whenever the log has grown; returns at once.
    """
    from terrazzo.tracking.log_follower import Follower

    followers = [Follower(name, each, folder, progress.say) for name, each in made.items()]

    def logged() -> None:
        for follower in followers:
            follower.wake()

    status, seconds = "failed", _SECONDS_WHEN_CUT_SHORT
    try:
        yield logged
        status, seconds = "finished", settings.deadline if settings else 0.0
    except Stopped:
        status = "stopped"
        raise
    finally:
        _close(followers, status, seconds)


def _close(followers: Sequence[Follower], status: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    for follower in followers:
        follower.ask_to_finish(status)
    for follower in followers:
        follower.wait(end - time.monotonic())
