"""Samples in a fixed order, read ahead by threads.

What a training step sees is a pure function of the seed and the number of the step, for any number
of threads; so a resume needs nothing but that number. Processes share each batch among them.

A unit of work is a whole batch, not a sample: handing a result from a thread to the main thread
costs about 0.1 ms, which small images would feel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.base.memory import memory_for
from terrazzo.base.ordered_map import ordered_map
from terrazzo.base.processes import World
from terrazzo.base.recipe import AugmentConfig, DataConfig, LoaderConfig
from terrazzo.data.augment import augment as augment_sample
from terrazzo.data.image_standardization import standardized
from terrazzo.data.labels import LabelMap
from terrazzo.data.model_input import as_seen, moments_as_seen
from terrazzo.data.sample import Bands, Batch, Sample
from terrazzo.io.pixels import ImagePixels
from terrazzo.io.resize import Size

_LOWER = (
    "lower loader.threads, loader.prefetch, training.batch_size, augment.crop or data.image_size"
)
_ORDER, _AUGMENTATION = 0, 1
"""Independent streams of random numbers of one seed."""


class Samples(Protocol):
    """What is read here; `terrazzo.data.datasets.Split` is one."""

    @property
    def label_map(self) -> LabelMap:
        """Names the label of ignored pixels."""
        ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Sample:
        """Decode one sample; safe to call from several threads."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """Which samples make up which step; arithmetic only.

    Every epoch takes each sample exactly once, in an order of its own. The last batch of an epoch
    holds what is left and may be short.

    Attributes:
        num_samples: N, at least 1.
        batch_size: samples of a step over all processes.
        seed: of the run.
        rank: number of this process.
        world_size: number of processes; process r takes samples r, r + world_size, … of each batch.
    """

    num_samples: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches that hold all samples once."""
        return -(-self.num_samples // self.batch_size)

    def batch(self, step: int) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
        """Return what this process reads for a step, counted from 0 over all epochs.

        Returns:
            The epoch, the positions within it, and the sample at each position. No positions where
            the batch is smaller than the number of processes and this one goes without.
        """
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        first = step_of_epoch * self.batch_size
        stop = min(first + self.batch_size, self.num_samples)
        positions = np.arange(first + self.rank, stop, self.world_size, dtype=np.int64)
        return epoch, positions, _permutation(self.num_samples, self.seed, epoch)[positions]

    def first_of_batch(self, step: int) -> int:
        """Return the first sample of a step, whichever process reads it."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        permutation = _permutation(self.num_samples, self.seed, epoch)
        return int(permutation[step_of_epoch * self.batch_size])


def _generator(seed: int, stream: int, epoch: int, position: int) -> np.random.Generator:
    # A counter-based generator: distinct counters never overlap, and starting anywhere is free.
    return np.random.Generator(
        np.random.Philox(key=(stream << 64) | seed, counter=(epoch << 192) | (position << 128))
    )


def _move_to(rng: np.random.Generator, epoch: int, position: int) -> np.random.Generator:
    """Set a generator of `_generator` to another counter: a third of the time of a new one."""
    state: Any = rng.bit_generator.state
    state["state"]["counter"][:] = 0, 0, position, epoch
    # Forget what was drawn ahead.
    state |= {"buffer_pos": len(state["buffer"]), "has_uint32": 0}
    rng.bit_generator.state = state
    return rng


# Two epochs meet where reading ahead crosses their border.
@lru_cache(maxsize=4)
def _permutation(num_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    permutation = _generator(seed, _ORDER, epoch, 0).permutation(num_samples)
    permutation.flags.writeable = False
    return permutation


def training_batches(
    split: Samples,
    data: DataConfig,
    augment: AugmentConfig,
    loader: LoaderConfig,
    order: TrainingOrder,
    *,
    start_step: int,
    stop_step: int,
    bands: Bands | None = None,
    deviations: tuple[float, ...] | None = None,
    abandoned: Callable[[], bool] = lambda: False,
) -> Generator[Batch, None, None]:
    """Yield the augmented batches of steps `start_step`…`stop_step` − 1 without a gap at epochs.

    Close the iterator to stop early; threads then end with the batch they are reading, and one that
    hangs is left behind. A process
    without a share of a short last batch gets one image whose label is all IGNORE, so that it can
    take part in the step and teach nothing.

    Args:
        split: where samples come from; `order.num_samples` of them.
        data: for `image_size`.
        augment: changes of each sample.
        loader: threads and samples to read ahead: at least one batch a thread and one more.
        order: which samples, and the seed.
        start_step: first step, counted from 0 over all epochs.
        stop_step: one past the last step.
        bands: their means stand in for missing values while pixels are mixed; needed where there
            are any, and where each image is normalised by itself. That is done last, by the mean
            and deviation of the image at `data.image_size` before any augmentation.
        deviations: one a band, which noise in other types than uint8 is a share of; see
            `terrazzo.data.normalization.noise_deviations`.
        abandoned: asked while a batch is late; yes ends the waiting.

    Raises:
        DataError: as `split.read`; SEG-D018 where the images of one batch do not stack.
        ResourceError: SEG-R002, a file takes longer than `loader.timeout`; SEG-R006, out of memory.
        Abandoned: `abandoned` said yes.
    """
    prepare = _Preparation(
        augment,
        data.image_size,
        split.label_map.ignore_index,
        bands,
        None if deviations is None else np.array(deviations),
    )

    def read(step: int) -> Batch:
        with memory_for(f"preparing the batch of step {step + 1}", next_step=_LOWER):
            return prepared(step)

    def prepared(step: int) -> Batch:
        epoch, positions, indices = order.batch(step)
        if len(positions) == 0:
            return _idle_batch(split, prepare, order, step)
        rng = _generator(order.seed, _AUGMENTATION, 0, 0)
        return _stack(
            [
                prepare(split.read(index), _move_to(rng, epoch, position))
                for position, index in zip(positions.tolist(), indices.tolist(), strict=True)
            ]
        )

    share = -(-order.batch_size // order.world_size)
    ahead = max(loader.threads + 1, -(-loader.prefetch // share))
    return _read_ahead(read, range(start_step, stop_step), loader, ahead, abandoned)


@dataclass(frozen=True, slots=True)
class _Preparation:
    """From a sample as its files hold it to what a model is trained on."""

    augment: AugmentConfig
    image_size: Size | None
    ignore_index: int
    bands: Bands | None
    deviation_C: NDArray[np.float64] | None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        bands = self.bands
        if bands is None or not bands.per_image:
            return self._augmented(sample, rng, None if bands is None else np.array(bands.mean))
        pixels = ImagePixels(sample.image_HWC, None, sample.present_HWC)
        moments, mean = moments_as_seen(pixels, self.image_size)
        changed = self._augmented(sample, rng, np.full(len(bands), mean))
        return replace(changed, image_HWC=standardized(changed.image_HWC, moments))

    def _augmented(
        self, sample: Sample, rng: np.random.Generator, mean_C: NDArray[np.float64] | None
    ) -> Sample:
        return augment_sample(
            sample,
            self.augment,
            self.image_size,
            rng,
            self.ignore_index,
            mean_C,
            deviation_C=self.deviation_C,
        )


def _idle_batch(split: Samples, prepare: _Preparation, order: TrainingOrder, step: int) -> Batch:
    sample = split.read(order.first_of_batch(step))
    batch = _stack([prepare(sample, _generator(order.seed, _AUGMENTATION, 0, 0))])
    batch.labels_BHW[...] = np.asarray(split.label_map.ignore_index, batch.labels_BHW.dtype)
    return replace(batch, idle=True)


def _stack(samples: list[Sample]) -> Batch:
    dtypes = {s.image_HWC.dtype for s in samples}
    if len(dtypes) == 2 and np.dtype(np.float32) in dtypes and _some_missing(samples):
        # Those with missing values are float32 already; whole numbers are the same in it.
        samples = [replace(s, image_HWC=s.image_HWC.astype(np.float32)) for s in samples]
    first = samples[0].image_HWC
    if any(s.image_HWC.shape != first.shape or s.image_HWC.dtype != first.dtype for s in samples):
        raise _unequal(samples)
    return Batch(
        np.stack([s.image_HWC for s in samples]),
        np.stack([s.label_HW for s in samples]),
        tuple(s.name for s in samples),
        tuple(s.image_file for s in samples),
    )


def _some_missing(samples: list[Sample]) -> bool:
    floats = [s.image_HWC for s in samples if s.image_HWC.dtype == np.float32]
    return all(np.isnan(image_HWC).any() for image_HWC in floats)


def _unequal(samples: list[Sample]) -> DataError:
    first: dict[str, Sample] = {}
    for sample in samples:
        kind = "×".join(map(str, sample.image_HWC.shape)) + f" {sample.image_HWC.dtype}"
        first.setdefault(kind, sample)
    sizes = {s.image_HWC.shape[:2] for s in samples}
    return DataError(
        "SEG-D018",
        "the images of one batch differ in " + ("size" if len(sizes) > 1 else "bands or type"),
        file=samples[0].image_file,
        observed="; ".join(f"{sample.image_file}: {kind}" for kind, sample in first.items()),
        allowed="one size (rows×columns), one number of bands and one type",
        next_step="set augment.crop or data.image_size"
        if len(sizes) > 1
        else "convert the images to one type with the same bands",
    )


def evaluation_samples(
    split: Samples,
    data: DataConfig,
    loader: LoaderConfig,
    *,
    world: World,
    bands: Bands | None = None,
    abandoned: Callable[[], bool] = lambda: False,
) -> Generator[tuple[int, NDArray[np.generic], Sample], None, None]:
    """Yield this process's share of all samples in order: rank r takes r, r + size, ….

    Yields:
        The index of the sample; its image H×W×C as `as_seen` shows it at `data.image_size` where
        that is set, float32 with NaN where values are missing; the sample as its files are, at the
        size scores are computed at.

    Raises:
        DataError: as `split.read`.
        ResourceError, Abandoned: as `training_batches`.
    """

    def read(index: int) -> tuple[int, NDArray[np.generic], Sample]:
        with memory_for(f"preparing image {index + 1} of {len(split)}", next_step=_LOWER):
            sample = split.read(index)
            image_HWC = as_seen(
                ImagePixels(sample.image_HWC, None, sample.present_HWC), data.image_size, bands
            )
        return index, image_HWC, sample

    indices = range(world.rank, len(split), world.size)
    ahead = max(loader.threads, loader.prefetch)
    return _read_ahead(read, indices, loader, ahead, abandoned)


def digest(batches: Iterable[Batch]) -> str:
    """Return the SHA-256 of pixels, labels and names of batches, in hexadecimal."""
    sha = hashlib.sha256()
    for batch in batches:
        for array in (batch.images_BHWC, batch.labels_BHW):
            sha.update(f"{array.shape} {array.dtype.str}".encode())
            sha.update(np.ascontiguousarray(array).data)
        sha.update("\0".join(batch.names).encode())
    return sha.hexdigest()


Result = TypeVar("Result")


def _read_ahead(
    read: Callable[[int], Result],
    items: range,
    loader: LoaderConfig,
    ahead: int,
    abandoned: Callable[[], bool] = lambda: False,
) -> Generator[Result, None, None]:
    """Yield ``read(item)`` in order, computed by threads up to `ahead` items early."""
    # Images are what is read in parallel here; OpenCV's own threads would get in the way.
    cv2.setNumThreads(1)
    if loader.threads == 0:
        yield from map(read, items)
    else:
        yield from ordered_map(
            read,
            items,
            threads=loader.threads,
            ahead=ahead,
            timeout=loader.timeout,
            abandoned=abandoned,
        )
