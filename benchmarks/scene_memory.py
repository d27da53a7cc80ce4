"""Where the memory goes when a scene is predicted: what is added by each part, in MB.

    python benchmarks/scene_memory.py                        20,000 columns, 2,048 rows, torch
    python benchmarks/scene_memory.py --rows 20000           the whole 20,000²
    python benchmarks/scene_memory.py --batch-sizes 4 1 --polygons

Memory grows with the width of a scene and not with its height, so few rows tell it. 3 bands of
uint8, tiles of 512 that share 128, a UNet of torch with random weights, 6 classes. Each line is a
process of its own that does no more than it says: the largest resident set (what Linux calls
VmHWM), and, looked at every 10 ms, how much of it was memory of its own and how much were pages of
files: code of libraries, which other processes share, and what has been written.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from scene import BANDS, CLASSES, OVERLAP, TILE, CheapModel, card, write_scene

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.inference import predict
from terrazzo.inference.jobs import ThisProcess
from terrazzo.inference.map_writer import make_maps
from terrazzo.inference.outputs import Settings, Work
from terrazzo.inference.tiled_prediction import Scene, Tiling
from terrazzo.models import backends
from terrazzo.training.loop import peak_memory

NOTHING, LOADED, FORWARD, CHEAP, WHOLE = "nothing", "loaded", "forward", "cheap", "whole"
WORDS = {
    NOTHING: "Terrazzo imported, with NumPy and GDAL",
    LOADED: "torch imported and the network built",
    FORWARD: "the network alone, 8 forward passes",
    CHEAP: "the scene with a cheap NumPy model",
    WHOLE: "the scene with the network",
}


class Watch(threading.Thread):
    """Looks at this process's memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.files = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Remember the parts of the largest sum."""
        while not self.stopped.wait(0.01):
            status = Path("/proc/self/status").read_text()
            own, files = (
                int(status.split(f"{name}:")[1].split()[0]) // 1024
                for name in ("RssAnon", "RssFile")
            )
            if own + files > self.own + self.files:
                self.own, self.files = own, files


def network(width: int, depth: int):
    """Build a UNet of torch with random weights."""
    known = card()
    options = {"width": width, "depth": depth}
    model = ModelConfig(name="unet", options=options)
    training = TrainingConfig(steps=1)
    return backends.load("torch").build(model, training, known.label_map, known.bands, 0)


def do(part: str, arguments: argparse.Namespace) -> None:
    """Do one part and print seconds and megabytes."""
    watch = Watch()
    watch.start()
    if part not in (NOTHING, CHEAP):
        importlib.import_module("torch").set_num_threads(arguments.threads)
    trainer = (
        CheapModel() if part in (NOTHING, CHEAP) else network(arguments.width, arguments.depth)
    )
    begun = time.perf_counter()
    batch = arguments.batch_sizes[0]
    if part == FORWARD:
        images_BHWC = np.zeros((batch, TILE, TILE, BANDS), np.uint8)
        for _ in range(8):
            trainer.predict(images_BHWC)
    if part in (CHEAP, WHOLE):
        map_scene(trainer, batch, arguments)
    seconds = time.perf_counter() - begun
    watch.stopped.set()
    watch.join()
    print(seconds, peak_memory()["peak_memory_bytes"] / 2**20, watch.own, watch.files)


def map_scene(trainer, batch: int, arguments: argparse.Namespace) -> None:
    """Make the map of the scene, with polygons if they are asked for."""
    out = arguments.scene.with_name("map.tif")
    settings = Settings(tiling=Tiling(tile=TILE, overlap=OVERLAP, batch_size=batch))
    polygons = out.with_suffix(".gpkg") if arguments.polygons else None
    scene = Scene.of_file(arguments.scene, tuple(range(BANDS)))
    work = Work(arguments.scene, out, polygons)
    order = predict.order_for(scene, card(), work, settings, ("benchmark",))
    (_,) = make_maps([order], ThisProcess(trainer, lambda: None))


def measure(part: str, batch: int, scene: Path, words: list[str]) -> tuple[float, ...]:
    """Do a part in a process of its own."""
    command = [sys.executable, __file__, *words, "--part", part, "--scene", str(scene)]
    command += ["--batch-sizes", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    for left in scene.parent.glob("map*"):
        left.unlink()
    return tuple(map(float, done.stdout.split()))


def main() -> None:
    """Measure all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--width", type=int, default=16, help="of the UNet")
    parser.add_argument("--depth", type=int, default=3, help="of the UNet")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[4])
    parser.add_argument("--parts", nargs="*", choices=WORDS, default=list(WORDS))
    parser.add_argument("--polygons", action="store_true")
    parser.add_argument("--part", choices=WORDS)
    parser.add_argument("--scene", type=Path)
    arguments = parser.parse_args()
    if arguments.part:
        do(arguments.part, arguments)
        return
    words = [f"--{name}={getattr(arguments, name)}" for name in ("width", "depth", "threads")]
    words += ["--polygons"] if arguments.polygons else []
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.tif"
        write_scene(scene, arguments.columns, arguments.rows)
        pixels = arguments.rows * arguments.columns / 1e6
        print(f"{arguments.rows}×{arguments.columns}×{BANDS}, {CLASSES} classes, MB")
        print(f"{'peak':>6}{'own':>6}{'files':>7}")
        for part in arguments.parts:
            for batch in arguments.batch_sizes if part in (FORWARD, CHEAP, WHOLE) else [1]:
                seconds, peak, own, files = measure(part, batch, scene, words)
                text = WORDS[part]
                text += f", batch {batch}" if part in (FORWARD, CHEAP, WHOLE) else ""
                text += f", {pixels / seconds:.2f} Mpx/s" if part in (CHEAP, WHOLE) else ""
                print(f"{peak:6.0f}{own:6.0f}{files:7.0f}  {text}", flush=True)


if __name__ == "__main__":
    main()
