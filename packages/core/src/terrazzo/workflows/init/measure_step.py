"""The process that makes real training steps with larger and larger batches, to see what fits.

A process of its own: one that the system ends for want of memory takes nothing with it, and nothing
of the framework stays in the program that asked.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terrazzo.base.child_module import ChildModuleError, answer, run_module
from terrazzo.base.memory import available_bytes
from terrazzo.base.recipe import Config, load_recipe
from terrazzo.data import datasets
from terrazzo.data.datasets import Split
from terrazzo.data.loader import TrainingOrder, training_batches
from terrazzo.data.sample import Bands
from terrazzo.models import backends
from terrazzo.models.contract import Trainer
from terrazzo.models.memory import ran_out
from terrazzo.training.loop import peak_memory

_LONGEST = 300.0  # seconds
_SLOW = 6.0  # seconds of a step beyond which a larger batch is not tried
_SHARE = 0.6  # of the memory that is free: others need some as well, and validation is not a step
_STEPS = 3  # the first compiles, the second has the slots of the optimiser


@dataclass(frozen=True)
class Measured:
    """A batch that fits.

    Attributes:
        batch_size: images.
        seconds: of one step.
        peak_bytes: the most memory that the process had; 0 where it is not told.
        free_bytes: that there were before; 0 where it is not told.
        device: as the trainer calls it.
        limit: why it is not larger.
    """

    batch_size: int
    seconds: float
    peak_bytes: int
    free_bytes: int
    device: str
    limit: str


def measure(recipe: Path, most: int, scratch: Path) -> tuple[Measured | None, str]:
    """Return the largest batch that fits, and what ended the attempts.

    Args:
        recipe: a recipe file.
        most: largest batch that is tried.
        scratch: an empty folder to write to.
    """
    lines = scratch / "steps.jsonl"
    said = ""
    try:
        run_module(__name__, [recipe, str(most), lines], longest=_LONGEST)
    except ChildModuleError as error:
        said = str(error)
    found: list[dict[str, Any]] = []
    if lines.is_file():
        found = [
            json.loads(line) for line in lines.read_text("utf-8").splitlines() if line[-1:] == "}"
        ]
    fitting = [each for each in found if "batch_size" in each]
    if not fitting:
        return None, said or next((each["limit"] for each in found), "no step was made")
    limit = next((each["limit"] for each in reversed(found) if "limit" in each), said)
    return Measured(**fitting[-1], limit=limit), said


def _measure(recipe_file: Path, most: int, lines: Path) -> None:
    free = available_bytes() or 0
    recipe = load_recipe(recipe_file)
    loss = recipe.training.loss.model_copy(update={"class_weights": None})
    training = recipe.training.model_copy(update={"loss": loss})
    train = datasets.open_split(recipe.data, "train")
    sample = train.read(0)
    num_bands = sample.image_HWC.shape[2]
    bands = Bands(
        train.source.band_names,
        sample.image_HWC.dtype.name,
        (0.0,) * num_bands,
        (255.0,) * num_bands,
    )
    trainer = backends.load(recipe.backend).build(
        recipe.model, training, train.label_map, bands, recipe.seed
    )
    before = peak_memory().get("peak_memory_bytes", 0)
    batch_size, limit = 1, ""
    while not limit:
        try:
            seconds = _steps(trainer, recipe, train, bands, batch_size)
        except Exception as error:
            if not ran_out(trainer, error) and getattr(error, "code", "") != "SEG-R006":
                raise
            limit = f"{batch_size} images do not fit into the memory"
            break
        peak = peak_memory().get("peak_memory_bytes", 0)
        _tell(
            lines,
            batch_size=batch_size,
            seconds=seconds,
            peak_bytes=peak,
            free_bytes=free,
            device=trainer.device,
        )
        doubled = before + 2 * (peak - before)
        if 2 * batch_size > most:
            limit = "larger ones make fewer steps of an epoch"
        elif free and doubled > _SHARE * free:
            limit = f"twice as many would take more than {_SHARE:.0%} of the free memory"
        elif 2 * seconds > _SLOW:
            limit = f"twice as many would take more than {_SLOW:.0f} s a step"
        batch_size *= 2
    _tell(lines, limit=limit)


def _steps(trainer: Trainer, recipe: Config, train: Split, bands: Bands, batch_size: int) -> float:
    """Make some steps; return the seconds of the last."""
    order = TrainingOrder(len(train), batch_size, recipe.seed, 0, 1)
    steps = min(_STEPS, order.steps_per_epoch)
    seconds = 0.0
    for batch in training_batches(
        train,
        recipe.data,
        recipe.augment,
        recipe.loader,
        order,
        start_step=0,
        stop_step=steps,
        bands=bands,
    ):
        began, used = time.perf_counter(), time.process_time()
        _ = trainer.train_step(batch, 0.0).loss  # reading it waits for the device
        seconds = time.perf_counter() - began
        if trainer.device.startswith("cpu"):  # what other programs take meanwhile does not count
            seconds = min(seconds, (time.process_time() - used) / max(trainer.threads, 1))
    return seconds


def _tell(lines: Path, **facts: Any) -> None:
    with lines.open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")


def main(arguments: list[str]) -> int:
    """Measure in a process of its own; say in one line what went wrong."""
    recipe, most, lines = arguments
    return answer(lambda: _measure(Path(recipe), int(most), Path(lines)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
