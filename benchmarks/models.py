"""Every model inside Terrazzo's train loop against a hand-written loop of its library's network.

    python benchmarks/models.py                             all models of PyTorch, 256², batch 4
    python benchmarks/models.py --backend keras --model unet
    python benchmarks/models.py --size 512 --batch 8 --steps 60         for a GPU
    python benchmarks/models.py --kernels                   share of our step outside kernels

The hand-written loop trains torchvision's, transformers' or our own network, where no library has
one. On a CPU it makes a step before each step of ours, in one process, so that both meet the same
minute of a shared machine; shown are the median seconds of each and the median of the ratios of the
pairs. Then the peak memory of each loop, taken in processes of their own.

On a GPU, where both loops use bfloat16, channels last and a fused optimiser, a step goes on while
the next is prepared, so the loops run one after the other. Memory is then that of the GPU.

`--kernels` watches our loop with PyTorch's profiler: of the time between two steps, how much no
operation of PyTorch was computing, on the GPU where there is one. The profiler's own work counts.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import engine

from terrazzo.base.progress import Silent
from terrazzo.data.sample import Batch
from terrazzo.models import backends
from terrazzo.runs.folder import create_run
from terrazzo.training import loop as train_loop

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

FIRST = 2
"""Steps that are not counted."""


def library_network(name: str):
    """Return the network of torchvision or transformers, answering as ours do; None: ours."""
    from torch import nn
    from torch.nn import functional
    from torchvision.models import segmentation
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    class Segformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = SegformerConfig(num_labels=engine.CLASSES)
            self.network = SegformerForSemanticSegmentation(sizes)

        def forward(self, images):
            logits = self.network(images).logits
            return functional.interpolate(logits, images.shape[2:], mode="bilinear")

    class Torchvision(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images):
            output = tuple(self.network(images).values())
            return output if len(output) > 1 else output[0]

    own = {"weights": None, "weights_backbone": None, "num_classes": engine.CLASSES}
    makers: dict[str, Callable[[], nn.Module]] = {
        "segformer": Segformer,
        "deeplabv3": lambda: Torchvision(segmentation.deeplabv3_resnet50(aux_loss=True, **own)),
        "fcn": lambda: Torchvision(segmentation.fcn_resnet50(aux_loss=True, **own)),
        "lraspp": lambda: Torchvision(segmentation.lraspp_mobilenet_v3_large(**own)),
    }
    return makers[name]().train() if name in makers else None


def bare_loop(backend: str, name: str, size: int, batch: int) -> Callable[[int], None]:
    """Return the hand-written loop of a model."""
    batches = engine.shuffled(engine.memory_split(4 * batch, size), batch)
    options = OPTIONS[backend][name]
    if backend == "torch":
        return engine.torch_loop(name, options, batches, library_network(name))
    return engine.keras_loop(name, options, batches)


def train(arguments: argparse.Namespace, name: str, steps: int, before: Callable[[], None]) -> None:
    """Train a model `steps` steps with all that a run does; `before` is called before each."""
    options = OPTIONS[arguments.backend][name]
    config = engine.recipe(arguments.backend, name, options, arguments.batch, steps)
    trainer = backends.load(config.backend).build(
        config.model, config.training, engine.LABELS, engine.BANDS, config.seed
    )
    real_step = trainer.train_step

    def step(batch: Batch, rate: float):
        before()
        return real_step(batch, rate)

    trainer.train_step = step
    place = Path(tempfile.mkdtemp())
    run = create_run(place / "run", config, engine.LABELS, overwrite=False)
    split = engine.memory_split(4 * arguments.batch, arguments.size)
    train_loop.train(run, trainer, config, split, engine.memory_split(1, 32), progress=Silent())
    shutil.rmtree(place)


def pairs(arguments: argparse.Namespace, name: str, bare: Callable[[int], None]):
    """Train with a step of `bare` before each; return seconds of both, without the first steps."""
    starts: list[float] = []
    ends: list[float] = []

    def before() -> None:
        ends.append(time.perf_counter())
        bare(1)
        starts.append(time.perf_counter())

    train(arguments, name, arguments.steps, before)
    seconds_bare = [start - end for end, start in zip(ends, starts, strict=True)]
    seconds_ours = [end - start for start, end in zip(starts, ends[1:], strict=False)]
    # The first steps make the optimiser's slots and compile; the last of ours has no end.
    return seconds_bare[FIRST:-1], seconds_ours[FIRST:]


def in_turn(arguments: argparse.Namespace, name: str, bare: Callable[[int], None]):
    """Run one loop after the other; return seconds a step of both, without the first steps."""
    bare(FIRST)
    started = time.perf_counter()
    bare(arguments.steps)
    seconds_bare = (time.perf_counter() - started) / arguments.steps
    starts: list[float] = []
    train(arguments, name, arguments.steps, lambda: starts.append(time.perf_counter()))
    return [seconds_bare], [(starts[-1] - starts[FIRST]) / (len(starts) - 1 - FIRST)]


def outside_kernels(arguments: argparse.Namespace, name: str) -> float:
    """Return the share of our step in which PyTorch computes nothing."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    profiler = profile(activities=activities[: 1 + on_gpu])
    starts: list[float] = []

    def before() -> None:
        if on_gpu and len(starts) in (FIRST, arguments.steps - 1):
            torch.cuda.synchronize()
        starts.append(time.perf_counter())
        if len(starts) == FIRST + 1:
            profiler.start()
            starts[-1] = time.perf_counter()
        elif len(starts) == arguments.steps:
            profiler.stop()

    train(arguments, name, arguments.steps, before)
    microseconds = sum(
        event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
    )
    return 1 - microseconds / 1e6 / (starts[-1] - starts[FIRST])


def peak(arguments: argparse.Namespace, name: str, which: str) -> float:
    """Return the peak memory, in GiB, of a process that makes three steps of one loop."""
    command = [
        *(sys.executable, __file__, "--backend", arguments.backend, "--model", name),
        *("--size", str(arguments.size), "--batch", str(arguments.batch), "--only", which),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.split()[-1])


def start_framework(backend: str) -> None:
    """Bring in the framework with the settings that a run has, by way of a small model."""
    small = engine.recipe(backend, "unet", {"depth": 1}, 1, 1)
    backends.load(backend).build(small.model, small.training, engine.LABELS, engine.BANDS, 0)


def has_gpu(backend: str) -> bool:
    """Tell whether PyTorch computes on a GPU; Keras is measured as on a CPU."""
    if backend != "torch":
        return False
    import torch

    return torch.cuda.is_available()


def peak_now(on_gpu: bool) -> float:
    """Return the peak memory of this process so far, in GiB: the GPU's where there is one."""
    if on_gpu:
        import torch

        return torch.cuda.max_memory_allocated() / 2**30
    return train_loop.peak_memory()["peak_memory_bytes"] / 2**30


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=sorted(OPTIONS), default="torch")
    parser.add_argument("--model", action="append")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=15, help="of each loop")
    parser.add_argument("--kernels", action="store_true", help="PyTorch only")
    parser.add_argument("--only", choices=("bare", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    start_framework(arguments.backend)
    on_gpu = has_gpu(arguments.backend)
    for name in arguments.model or OPTIONS[arguments.backend]:
        if arguments.kernels:
            print(f"{name:<26} {outside_kernels(arguments, name):.3f} outside kernels", flush=True)
            continue
        if arguments.only == "ours":
            train(arguments, name, 3, lambda: None)
        else:
            bare = bare_loop(arguments.backend, name, arguments.size, arguments.batch)
            bare(3)
        if arguments.only:
            print(peak_now(on_gpu))
            continue
        seconds_bare, seconds_ours = (in_turn if on_gpu else pairs)(arguments, name, bare)
        ratios = [b / o for b, o in zip(seconds_bare, seconds_ours, strict=True)]
        ours = statistics.median(seconds_ours)
        print(
            f"{name:<26} bare {statistics.median(seconds_bare):7.3f} s a step   "
            f"ours {ours:7.3f}, {arguments.batch / ours:.2f} images/s   "
            f"steps/s {statistics.median(ratios):.3f} of bare   "
            f"peak GiB: bare {peak(arguments, name, 'bare'):.2f}, "
            f"ours {peak(arguments, name, 'ours'):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
