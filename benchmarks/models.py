"""Every model inside Terrazzo's train loop against a hand-written loop of the same network.

    python benchmarks/models.py                             all models of PyTorch, 256², batch 4
    python benchmarks/models.py --backend keras --model unet
    python benchmarks/models.py --size 512 --batch 8        on a GPU: bfloat16, channels last

Steps a second of both, in turn in one process, and their ratio; then the peak memory of each loop,
taken in processes of their own. See `engine.py` for what either loop does.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

import engine

from terrazzo import backends

OPTIONS = {
    "torch": {
        "unet": {"width": 64, "depth": 4},
        "segformer": {"size": "b0"},
        "deeplabv3": {"encoder": "resnet50"},
        "fcn": {"encoder": "resnet50"},
        "lraspp": {},
        "vit": {"encoder": "vit_base_patch16_384"},
    },
    "keras": {
        "unet": {"width": 64, "depth": 4},
        "segformer": {"size": "b0"},
        "deeplabv3plus": {},
        "inception_resnet_v2_unet": {},
    },
}
"""ViT-B stands for ViT-L, which takes most of a minute a step on two cores."""


def bare_loop(backend: str, name: str, size: int, batch: int):
    """Return the hand-written loop of a model."""
    split = engine.pictures(4 * batch, size)
    make = engine.torch_loop if backend == "torch" else engine.keras_loop
    return make(name, OPTIONS[backend][name], engine.shuffled(split, batch)), split


def peak(arguments: argparse.Namespace, name: str, which: str) -> float:
    """Return the peak memory, in GiB, of a process that makes three steps of one loop."""
    command = [
        *(sys.executable, __file__, "--backend", arguments.backend, "--model", name),
        *("--size", str(arguments.size), "--batch", str(arguments.batch), "--only", which),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.split()[-1])


def only(arguments: argparse.Namespace, name: str) -> None:
    """Make three steps of one loop and print the peak memory."""
    backends.load(arguments.backend).build(*_task(arguments.backend, "unet", {"depth": 1}, 1))
    if arguments.only == "bare":
        loop, _ = bare_loop(arguments.backend, name, arguments.size, arguments.batch)
        loop(3)
    else:
        split = engine.pictures(4 * arguments.batch, arguments.size)
        options = OPTIONS[arguments.backend][name]
        recipe = engine.recipe(arguments.backend, name, options, arguments.batch, 3)
        engine.seconds_of_ours(recipe, split)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def _task(backend: str, name: str, options: dict, batch: int) -> tuple:
    recipe = engine.recipe(backend, name, options, batch, 1)
    return recipe.model, recipe.training, engine.LABELS, engine.BANDS, 0


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=sorted(OPTIONS), default="torch")
    parser.add_argument("--model", action="append")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the bare loop a round")
    parser.add_argument("--only", choices=("bare", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in arguments.model or OPTIONS[arguments.backend]:
        if arguments.only:
            only(arguments, name)
            continue
        # The small model brings in the framework with the settings a run has.
        backends.load(arguments.backend).build(*_task(arguments.backend, "unet", {"depth": 1}, 1))
        loop, split = bare_loop(arguments.backend, name, arguments.size, arguments.batch)
        loop(2)
        started = time.perf_counter()
        loop(1)
        steps = max(4, round(arguments.seconds / (time.perf_counter() - started)))
        options = OPTIONS[arguments.backend][name]
        recipe = engine.recipe(arguments.backend, name, options, arguments.batch, steps)
        bare, ours = [], []
        for _ in range(arguments.rounds):
            started = time.perf_counter()
            loop(steps)
            bare.append((time.perf_counter() - started) / steps)
            ours.append(engine.seconds_of_ours(recipe, split))
        ratio = statistics.median(b / o for b, o in zip(bare, ours, strict=True))
        print(
            f"{name:<26} bare {1 / statistics.median(bare):7.3f} steps/s   "
            f"ours {1 / statistics.median(ours):7.3f}   ratio {ratio:.3f}   "
            f"peak GiB: bare {peak(arguments, name, 'bare'):.2f}, "
            f"ours {peak(arguments, name, 'ours'):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
