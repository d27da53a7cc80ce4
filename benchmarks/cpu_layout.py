"""PyTorch on a CPU: the plain memory layout, as Terrazzo uses it there, against channels last.

    python benchmarks/cpu_layout.py --model unet --model segformer [--size 256] [--rounds 6]

For each model, from the same weights: a forward pass in inference mode with image and weights in
either layout, and with the image alone in channels last; a forward and backward pass; and whether
the logits are equal to the bit. All take turns; shown are medians of processor time, in ms.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import engine
import models
import numpy as np
import torch
from torch import Tensor, nn

from terrazzo.models import backends
from terrazzo_torch.auxiliary import TrainingLogits

LAST = torch.channels_last


def network(name: str) -> nn.Module:
    config = engine.recipe("torch", name, models.OPTIONS["torch"][name], 2, 1)
    trainer = backends.load("torch").build(
        config.model, config.training, engine.LABELS, engine.BANDS, config.seed
    )
    return trainer._network


def predict(of: nn.Module, images: Tensor) -> Tensor:
    of.eval()
    with torch.inference_mode():
        return of(images)


def differentiate(of: nn.Module, images: Tensor) -> None:
    of.train()
    output = of(images)
    logits = output.logits if isinstance(output, TrainingLogits) else output
    logits.square().mean().backward()


def compare(name: str, size: int, rounds: int) -> None:
    plain, last = network(name), network(name)
    last.load_state_dict(plain.state_dict())
    last.to(memory_format=LAST)
    pixels = np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32)
    images = torch.from_numpy(pixels)
    images_last = images.contiguous(memory_format=LAST)
    equal = torch.equal(predict(plain, images), predict(last, images_last))
    ways: dict[str, Callable[[], object]] = {
        "predict": lambda: predict(plain, images),
        "image last": lambda: predict(plain, images_last),
        "all last": lambda: predict(last, images_last),
        "step": lambda: differentiate(plain, images),
        "step, all last": lambda: differentiate(last, images_last),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):  # the first is not counted
        for way, function in ways.items():
            start = time.process_time()
            function()
            times[way].append(time.process_time() - start)
    medians = {way: 1e3 * statistics.median(values[1:]) for way, values in times.items()}
    shown = "   ".join(f"{way} {median:.1f}" for way, median in medians.items())
    print(f"{name:<10} {shown}   bits equal: {equal}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory layouts of PyTorch on a CPU.")
    parser.add_argument("--model", action="append", choices=sorted(models.OPTIONS["torch"]))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.model or models.OPTIONS["torch"]:
        compare(name, arguments.size, arguments.rounds)


if __name__ == "__main__":
    main()
