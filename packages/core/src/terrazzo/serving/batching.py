"""Forward passes shared by requests: one thread has the model, and takes images by the batch.

Frameworks are not asked to serve several threads. Each image is predicted by itself in every
batch, so what it is batched with changes nothing of its labels; see docs/serving.md for bits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as WaitedTooLong
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.processes import World
from terrazzo.data.sample import Bands
from terrazzo.models.contract import Predictor
from terrazzo.models.memory import ForwardPasses
from terrazzo.serving.deadline import Deadline, TooLate
from terrazzo.serving.settings import ServeSettings

_Kind = Literal["predict", "predict_labels"]


@dataclass(frozen=True, eq=False)
class _Job:
    """One image that waits for its forward pass."""

    kind: _Kind
    image_HWC: NDArray[np.generic]
    output: Future[NDArray[Any]] = field(default_factory=Future)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for images that go into one batch."""
        return self.kind, self.image_HWC.shape, self.image_HWC.dtype.str


class Batcher:
    """The thread that has the model.

    Args:
        trainer: the model; used by that thread alone until `close`.
        settings: size and wait of batches.
        say: told of batches that do not fit into memory.
    """

    def __init__(
        self,
        trainer: Predictor,
        settings: ServeSettings,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.trainer, self._settings = trainer, settings
        self.batch_sizes: dict[int, int] = {}
        self._passes = ForwardPasses(
            trainer,
            "predicting for requests",
            setting="--batch",
            smaller="send a smaller image",
            say=say,
        )
        self._waiting: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="terrazzo-model", daemon=True)
        self._thread.start()

    def submit(self, kind: _Kind, image_HWC: NDArray[np.generic]) -> Future[NDArray[Any]]:
        """Have one image predicted; cancel the future where nobody waits any more."""
        job = _Job(kind, image_HWC)
        with self._changed:
            if self._closed:
                raise TooLate
            self._waiting.append(job)
            self._changed.notify_all()
        return job.output

    def close(self) -> None:
        """End the thread; images that wait are given up."""
        with self._changed:
            self._closed = True
            for job in self._waiting:
                job.output.cancel()
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            self.batch_sizes[len(batch)] = self.batch_sizes.get(len(batch), 0) + 1
            try:
                forward = getattr(self._passes, batch[0].kind)
                outputs = forward(np.stack([job.image_HWC for job in batch]))
            except BaseException as error:
                for job in batch:
                    job.output.set_exception(error)
            else:
                for job, output in zip(batch, outputs, strict=True):
                    job.output.set_result(output)

    def _next_batch(self) -> list[_Job]:
        """Wait for images, and take those that fit to the one that has waited longest."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return []
                first = self._waiting[0]
                most = self._most(first)
                end = time.monotonic() + self._settings.batch_milliseconds / 1000
                self._changed.wait_for(
                    lambda key=first.key, most=most: self._closed or len(self._like(key)) >= most,  # type: ignore[misc]
                    max(0.0, end - time.monotonic()),
                )
                chosen = self._like(first.key)[:most]
                self._waiting = [job for job in self._waiting if job not in chosen]
                batch = [job for job in chosen if job.output.set_running_or_notify_cancel()]
                if batch:
                    return batch

    def _like(self, key: tuple[object, ...]) -> list[_Job]:
        return [job for job in self._waiting if job.key == key]

    def _most(self, job: _Job) -> int:
        rows, columns = job.image_HWC.shape[:2]
        fitting = self._settings.batch_pixels // max(1, rows * columns)
        most: int = min(self._settings.batch, fitting)
        return max(1, most)


class SharedPredictor:
    """A `Predictor` for one request.

    Args:
        batcher: has the model.
        deadline: of the request.
    """

    def __init__(self, batcher: Batcher, deadline: Deadline) -> None:
        self._batcher, self._deadline = batcher, deadline

    @property
    def world(self) -> World:
        """The processes of the model."""
        return self._batcher.trainer.world

    @property
    def device(self) -> str:
        """Where the model runs."""
        return self._batcher.trainer.device

    @property
    def threads(self) -> int:
        """Threads of the framework."""
        return self._batcher.trainer.threads

    @property
    def bands(self) -> Bands:
        """The bands it was built for."""
        return self._batcher.trainer.bands

    def out_of_memory(self, error: Exception) -> bool:
        """Tell whether the framework says by this error that no memory is left."""
        return self._batcher.trainer.out_of_memory(error)

    def predict(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return probabilities B×H×W×K.

        Raises:
            TooLate: nobody waits for them.
        """
        return self._all("predict", images_BHWC)

    def predict_labels(self, images_BHWC: NDArray[np.generic]) -> NDArray[np.integer]:
        """Return train ids B×H×W.

        Raises:
            TooLate: nobody waits for them.
        """
        return self._all("predict_labels", images_BHWC)

    def _all(self, kind: _Kind, images_BHWC: NDArray[np.generic]) -> NDArray[Any]:
        self._deadline.require()
        outputs = [self._batcher.submit(kind, image_HWC) for image_HWC in images_BHWC]
        try:
            return np.stack([self._wait_for(output) for output in outputs])
        finally:
            for output in outputs:
                output.cancel()  # nothing where it is there

    def _wait_for(self, output: Future[NDArray[Any]]) -> NDArray[Any]:
        while True:
            self._deadline.require()
            try:
                # Short waits, for the deadline may be called off meanwhile.
                return output.result(min(self._deadline.seconds_left, 0.25))
            except WaitedTooLong:
                if output.done():  # the framework's own
                    raise
            except CancelledError:
                raise TooLate from None
