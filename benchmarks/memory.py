"""Memory of a long run and of a long prediction: does it grow with the steps and the images?

    python benchmarks/memory.py --backend torch
    python benchmarks/memory.py --backend keras
    python benchmarks/memory.py --backend reference

Trains a tiny network for 3,000 steps with validations and checkpoints, then predicts 3,000 small
images with it. What this process has in memory is read after a tenth of the work, when all that is
made once is made, and at the end. Linux alone tells it without a package.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from terrazzo import predict
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands
from terrazzo.io import images
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.runs.folder import RunFolder, create_run
from terrazzo.testing.memory import MemorySplit, bytes_in_use
from terrazzo.training import loop as training_loop

LABELS = LabelMap("three", tuple(LabelClass(name, "#000000", (k,)) for k, name in enumerate("abc")))
BANDS = Bands(("red", "green", "blue"), "uint8", (127.0,) * 3, (60.0,) * 3)
MODELS = {
    "torch": {"name": "unet", "options": {"width": 4, "depth": 1}},
    "keras": {"name": "unet", "options": {"width": 4, "depth": 1}},
    "reference": {"name": "pixel_softmax"},
}


class Growth(Silent):
    """Reads the memory in use after a tenth of the work and at its end.

    Args:
        total: pieces of work.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.early = self.late = 0

    def one_more(self) -> None:
        """Count a piece of work."""
        self.done += 1
        if self.done == self.total // 10:
            self.early = bytes_in_use()
        if self.done == self.total:
            self.late = bytes_in_use()

    def say(self, text: str) -> None:
        """Count the images whose map is written."""
        if "→" in text:
            self.one_more()

    @property
    def megabytes(self) -> float:
        """How much more is in use at the end."""
        return (self.late - self.early) / 1e6


def split_of_noise(name: str, count: int) -> MemorySplit:
    """Return images of 32×32 noise with random labels."""
    draw = np.random.default_rng(0)
    images_NHWC = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels_NHW = draw.integers(0, len(LABELS), (count, 32, 32), dtype=np.uint8)
    return MemorySplit(name, tuple(images_NHWC), tuple(labels_NHW), LABELS)


def train(backend: str, folder: Path, steps: int) -> Growth:
    """Train for so many steps; leave the model in ``folder/model``."""
    config = Config.model_validate(
        {
            "backend": backend,
            "name": "memory",
            "data": {"format": "memory", "root": ""},
            "augment": {"flip_horizontal": 0.5},
            "model": MODELS[backend],
            "training": {"steps": steps, "batch_size": 2},
            "validation": {"every_steps": max(steps // 20, 1)},
        }
    )
    trainer = backends.load(backend).build(config.model, config.training, LABELS, BANDS, 0)
    create_run(folder, config, LABELS, overwrite=False)
    growth = Growth(steps)

    def ask() -> bool:
        growth.one_more()
        return False

    training_loop.train(
        RunFolder(folder),
        trainer,
        config,
        split_of_noise("train", 20),
        split_of_noise("val", 4),
        progress=Silent(),
        stop_requested=ask,
    )
    card = ModelCard(backend, config.model, LABELS, BANDS, None, steps)
    weights = {n: a for n, a in trainer.state().items() if n.startswith("weights/")}
    saved_model.write(RunFolder(folder).model, card, weights)
    return growth


def predict_images(folder: Path, count: int) -> Growth:
    """Predict so many images of three sizes."""
    draw, pictures = np.random.default_rng(1), folder / "pictures"
    pictures.mkdir()
    for number in range(count):
        size = (32, 32 + 16 * (number % 3), 3)
        images.write_png(pictures / f"{number}.png", draw.integers(0, 256, size, dtype=np.uint8))
    growth = Growth(count)
    predict(folder, pictures, folder / "maps", progress=growth)
    return growth


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", choices=sorted(MODELS), required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--images", type=int, default=3000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        trained = train(arguments.backend, folder, arguments.steps)
        predicted = predict_images(folder, arguments.images)
    print(f"{'work':<24}{'early MB':>10}{'end MB':>10}{'growth MB':>11}")
    for what, growth in (
        (f"{arguments.steps} steps", trained),
        (f"{arguments.images} images", predicted),
    ):
        early, late = growth.early / 1e6, growth.late / 1e6
        print(f"{what:<24}{early:>10.1f}{late:>10.1f}{growth.megabytes:>11.1f}")


if __name__ == "__main__":
    main()
