"""Steps a second of Terrazzo's whole train loop against a hand-written loop of the same model.

    python benchmarks/engine.py --backend torch            SegFormer-B0, 128², batch 4; a tiny UNet
    python benchmarks/engine.py --backend keras            UNet of width 16, 128², batch 4

Both loops see the same images, model and AdamW, and both shuffle, flip and stack. The bare loop
does nothing else; ours reads ahead in threads, schedules, logs, leaves out steps that are not
finite and repeats to the bit, as in any run. A third loop, in between, hands the bare loop's
batches to our trainer alone. They take turns in one process; medians over many short rounds are
shown, because a shared machine is faster in one minute than in the next.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands, Batch
from terrazzo.models import backends
from terrazzo.runs.folder import create_run
from terrazzo.testing.memory import MemorySplit
from terrazzo.training import loop as training_loop

CLASSES = 11
LABELS = LabelMap("bench", tuple(LabelClass(f"class {k}", "#000000", (k,)) for k in range(CLASSES)))
BANDS = Bands(("red", "green", "blue"), "uint8", (127.0,) * 3, (60.0,) * 3)
CASES = {
    "torch": {
        "SegFormer-B0 128² batch 4": ("segformer", {"size": "b0"}, 128, 4),
        "tiny UNet 32² batch 2": ("unet", {"width": 4, "depth": 1}, 32, 2),
    },
    "keras": {"UNet-16 128² batch 4": ("unet", {"width": 16, "depth": 4}, 128, 4)},
}


def recipe(backend: str, name: str, options: dict, batch: int, steps: int) -> Config:
    """Return a run of `steps` steps that validates only at its end."""
    return Config.model_validate(
        {
            "backend": backend,
            "name": "bench",
            "data": {"format": "memory", "root": ""},
            "augment": {"flip_horizontal": 0.5},
            "model": {"name": name, "options": options},
            "training": {"steps": steps, "batch_size": batch},
            "validation": {"every_steps": 10**9},
        }
    )


def memory_split(num: int, size: int) -> MemorySplit:
    """Return noise with random labels."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (num, size, size, 3), dtype=np.uint8)
    labels = draw.integers(0, CLASSES, (num, size, size), dtype=np.uint8)
    return MemorySplit("train", tuple(images), tuple(labels), LABELS)


def seconds_of_ours(config: Config, split: MemorySplit) -> float:
    """Return seconds a step, between the first and the last line of the log."""
    trainer = backends.load(config.backend).build(
        config.model, config.training, LABELS, BANDS, config.seed
    )
    place = Path(tempfile.mkdtemp())
    stamps: list[float] = []
    real_step = trainer.train_step

    def stamped(batch: Batch, rate: float):
        stamps.append(time.perf_counter())
        return real_step(batch, rate)

    trainer.train_step = stamped
    run = create_run(place / "run", config, LABELS, overwrite=False)
    training_loop.train(run, trainer, config, split, memory_split(1, 32), progress=Silent())
    shutil.rmtree(place)
    warm = len(stamps) // 4
    return (stamps[-1] - stamps[warm]) / (len(stamps) - 1 - warm)


def trainer_loop(config: Config, batches: Iterator) -> Callable[[int], None]:
    """Return a loop over our trainer alone: no reading ahead, no schedule, no log."""
    trainer = backends.load(config.backend).build(
        config.model, config.training, LABELS, BANDS, config.seed
    )

    def loop(steps: int) -> None:
        for _ in range(steps):
            images_BHWC, labels_BHW = next(batches)
            names = ("",) * len(images_BHWC)
            _ = trainer.train_step(Batch(images_BHWC, labels_BHW, names, names), 1e-3).loss

    return loop


def shuffled(split: MemorySplit, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images and labels for ever: what a careful person would write without a loader."""
    draw = np.random.default_rng(0)
    while True:
        order = draw.permutation(len(split))
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            turns = [slice(None, None, -1 if draw.random() < 0.5 else 1) for _ in chosen]
            yield (
                np.stack([split.images[i][:, t] for i, t in zip(chosen, turns, strict=True)]),
                np.stack([split.labels[i][:, t] for i, t in zip(chosen, turns, strict=True)]),
            )


def torch_loop(name: str, options: dict, batches: Iterator, network=None) -> Callable[[int], None]:
    """Return the loop that a careful person would write for PyTorch; `network`: instead of ours.

    On a GPU with bfloat16, channels last and batches that are copied while it computes.
    """
    import importlib

    import torch
    from torch.nn import functional

    if network is None:
        module = importlib.import_module(f"terrazzo_torch.models.{name}")
        network = module.build(module.Options(**options), 3, CLASSES).train()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    layout = torch.channels_last if on_gpu else torch.contiguous_format
    network.to(device, memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def moved(array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(device, non_blocking=True) if on_gpu else tensor

    def loop(steps: int) -> None:
        for _ in range(steps):
            images_BHWC, labels_BHW = next(batches)
            images = moved(images_BHWC).permute(0, 3, 1, 2).float()
            images = ((images - 127.0) / 60.0).contiguous(memory_format=layout)
            labels = moved(labels_BHW).long()
            with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
                output = network(images)
            heads = (
                zip(output, (1, 0.4), strict=True) if isinstance(output, tuple) else [(output, 1)]
            )
            loss = sum(
                weight * functional.cross_entropy(logits.float(), labels, ignore_index=255)
                for logits, weight in heads
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            loss.item()

    return loop


def keras_loop(name: str, options: dict, batches: Iterator) -> Callable[[int], None]:
    """Return the loop that a careful person would write with Keras."""
    import importlib

    import keras

    module = importlib.import_module(f"terrazzo_keras.models.{name}")
    network = module.build(module.Options(**options), 3, CLASSES)
    network.compile(
        optimizer=keras.optimizers.AdamW(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )

    def loop(steps: int) -> None:
        for _ in range(steps):
            images_BHWC, labels_BHW = next(batches)
            images = (images_BHWC.astype(np.float32) - 127.0) / 60.0
            network.train_on_batch(images, labels_BHW)

    return loop


def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=sorted(CASES), default="torch")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0, help="of the bare loop a round")
    arguments = parser.parse_args()
    for title, (name, options, size, batch) in CASES[arguments.backend].items():
        split = memory_split(8 * batch, size)
        batches = shuffled(split, batch)
        make_bare = torch_loop if arguments.backend == "torch" else keras_loop
        probe = make_bare(name, options, batches)
        probe(5)
        started = time.perf_counter()
        probe(5)
        steps = max(16, round(arguments.seconds * 5 / (time.perf_counter() - started)))
        config = recipe(arguments.backend, name, options, batch, steps)
        rounds = [
            (
                timed(make_bare(name, options, batches), steps),
                timed(trainer_loop(config, batches), steps),
                seconds_of_ours(config, split),
            )
            for _ in range(arguments.rounds)
        ]
        report(f"{title}, {len(rounds)} rounds of {steps} steps", rounds)


def timed(loop: Callable[[int], None], steps: int) -> float:
    """Return seconds a step of a new loop, as `seconds_of_ours`: without the first quarter."""
    warm = steps // 4
    loop(warm)
    started = time.perf_counter()
    loop(steps - warm)
    return (time.perf_counter() - started) / (steps - warm)


def report(title: str, rounds: list[tuple[float, float, float]]) -> None:
    """Print the medians of seconds a step: of the bare loop, our trainer alone, our whole loop."""
    bare = statistics.median(first for first, _, _ in rounds)
    print(f"{title}: bare {bare * 1e3:.2f} ms a step", flush=True)
    for column, name in ((1, "trainer alone"), (2, "whole run")):
        ratio = statistics.median(r[0] / r[column] for r in rounds)
        more = statistics.median(r[column] - r[0] for r in rounds)
        print(f"    {name}: {more * 1e3:+.2f} ms a step, {ratio:.3f} of the steps/s", flush=True)


if __name__ == "__main__":
    main()
