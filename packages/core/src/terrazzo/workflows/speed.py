"""How long a trained model takes for an image on this machine, and how much work that is."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.base.json_files import replace_json
from terrazzo.inference.model import Model, load_model
from terrazzo.runs.folder import RunFolder
from terrazzo.training.loop import peak_memory

_WARM_UP = 2
_FALLBACK_SIZE = (512, 512)


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured.

    Attributes:
        rows: of the images.
        columns: of the images.
        batch_size: images a call.
        milliseconds: a call took, median of `repeats`: copied there, predicted, labels copied back.
        fastest: milliseconds of the fastest call.
        slowest: milliseconds of the slowest call.
        repeats: calls, after two that were not counted.
        multiply_adds: of one image, convolutions and matrix products alone; None: not counted.
        parameters: of the network; None: not known of an exported file.
        peak_memory_bytes: of this process at its highest, framework and loading included.
        device: where it ran, and by what.
        threads: on the processor.
        machine: its processor, as the system calls it.
    """

    rows: int
    columns: int
    batch_size: int
    milliseconds: float
    fastest: float
    slowest: float
    repeats: int
    multiply_adds: int | None
    parameters: int | None
    peak_memory_bytes: int | None
    device: str
    threads: int
    machine: str


def measure(
    run: Path,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
    repeats: int = 20,
    runtime: str | None = "framework",
) -> Speed:
    """Time a finished run's model on random images, and keep the result in its folder.

    Args:
        run: a run folder.
        size: rows and columns; None: those the model was trained to see, 512×512 where it sees
            images as they are.
        batch_size: images a call.
        repeats: calls that count.
        runtime: what predicts, as in `load_model`.

    Raises:
        ConfigError: SEG-X200, sizes or numbers below 1.
        TerrazzoError: as `load_model`.
        ResourceError: SEG-R004, the result cannot be written; SEG-R006, memory runs out.
    """
    if min(*(size or (1, 1)), batch_size, repeats) < 1:
        raise ConfigError(
            "SEG-X200",
            "sizes and numbers of calls are 1 or more",
            observed=f"size {size}, batch size {batch_size}, repeats {repeats}",
            allowed="1 or more",
            next_step="terrazzo speed RUN --size 512 512 --batch-size 1 --repeats 20",
        )
    model = load_model(run, runtime=runtime)
    rows, columns = size or model.card.image_size or _FALLBACK_SIZE
    images_BHWC = _random_images(model, (batch_size, rows, columns))
    seconds = _timed(lambda: model.trainer.predict_labels(images_BHWC), repeats)
    count: Callable[[int, int], int | None] | None = getattr(model.trainer, "multiply_adds", None)
    found = Speed(
        rows=rows,
        columns=columns,
        batch_size=batch_size,
        milliseconds=1000 * median(seconds),
        fastest=1000 * min(seconds),
        slowest=1000 * max(seconds),
        repeats=repeats,
        multiply_adds=None if count is None else count(rows, columns),
        parameters=getattr(model.trainer, "num_parameters", None),
        peak_memory_bytes=peak_memory().get("peak_memory_bytes"),
        device=model.trainer.device,
        threads=model.trainer.threads,
        machine=platform.processor() or platform.machine(),
    )
    replace_json(RunFolder(run).speed, asdict(found))
    return found


def _random_images(model: Model, shape: tuple[int, int, int]) -> NDArray[np.generic]:
    bands = model.card.bands
    values = np.random.default_rng(0).normal(bands.mean, bands.std, (*shape, len(bands)))
    dtype = np.dtype(bands.seen_dtype)
    if dtype.kind == "u":
        values = values.clip(0, np.iinfo(dtype).max)
    images_BHWC: NDArray[np.generic] = values.astype(dtype)
    return images_BHWC


def _timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of each call, after some in which a framework prepares itself."""
    for _ in range(_WARM_UP):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds
