"""A scene predicted by a torch UNet, killed at three places and resumed: the same bytes again.

    python benchmarks/scene_kills.py                 20,000² × 3, tiles of 512, 2 threads
    python benchmarks/scene_kills.py --size 3000

The scene is `scene.py`'s: deflated in blocks of 512; the UNet has width 16, depth 3 and random
weights, 6 classes. Everything is done by `terrazzo predict` in processes of its own: once
undisturbed; then again, sent SIGKILL when about 25, 50 and 75 % of the rows are in its journal, and
resumed after each. Without `--runtime torch`, which is given here, it would take OpenVINO where
that is installed. Printed are seconds, Mpx/s, the largest resident set (VmHWM), and the largest
part of it that was memory of its own, looked at every 50 ms; beside them torch alone on a tile
again and again. It ends with 1 where a byte of the map differs.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scene import BANDS, OVERLAP, TILE, card, write_scene
from scene_memory import network

from terrazzo.inference.tiles import starts
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model

KILLED_AT = (0.25, 0.5, 0.75)


class Seen(NamedTuple):
    """What one process took: seconds, and MB at their largest."""

    seconds: float
    peak: int
    own: int
    killed: bool


def write_model(folder: Path, width: int, depth: int) -> None:
    """Save the network with random weights as a trained model is saved."""
    trainer = network(width, depth)
    weights = {n: each for n, each in trainer.state().items() if n.startswith("weights/")}
    known = card()
    options = {"width": width, "depth": depth}
    model = known.model.model_copy(update={"name": "unet", "options": options})
    saved_model.write(
        folder, ModelCard("torch", model, known.label_map, known.bands, None, 1), weights
    )


def predict(folder: Path, out: Path, arguments: argparse.Namespace, kill_at: float | None) -> Seen:
    """Run `terrazzo predict` once, and kill it when so much of the rows is finished."""
    command = [sys.executable, "-m", "terrazzo", "predict", folder / "model", folder / "scene.tif"]
    command += ["--out", out, "--tile", str(TILE), "--overlap", str(OVERLAP), "--resume"]
    command += ["--runtime", arguments.runtime]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    log = (folder / "log.txt").open("ab")
    begun = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)
    peak = own = 0
    killed = False
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if "VmHWM" in status:  # not of one that has just ended
            peak = max(peak, megabytes(status, "VmHWM"))
            own = max(own, megabytes(status, "RssAnon"))
        if kill_at is not None and not killed and finished_rows(out) >= kill_at * arguments.size:
            process.send_signal(signal.SIGKILL)
            killed = True
        time.sleep(0.05)
    log.close()
    if process.returncode and not killed:
        sys.exit((folder / "log.txt").read_text())
    return Seen(time.perf_counter() - begun, peak, own, killed)


def megabytes(status: str, name: str) -> int:
    """Return a number of /proc/PID/status."""
    return int(status.split(f"{name}:")[1].split()[0]) // 1024


def finished_rows(out: Path) -> int:
    """Return the rows that the journal of a map holds."""
    lines = [
        line
        for path in out.parent.glob(f".{out.name}.partial/rows-*/rows.jsonl")
        for line in path.read_text().splitlines()[-2:]
    ]
    stops = []
    for line in lines:
        try:
            stops.append(json.loads(line)["stop"])
        except ValueError:
            continue  # it is being written
    return max(stops, default=0)


def model_alone(arguments: argparse.Namespace, tiles: int) -> float:
    """Return the seconds that the network would take for so many tiles, by those of 8."""
    code = (
        "import sys, time, numpy as np, torch; from scene_memory import network; "
        f"torch.set_num_threads({arguments.threads}); "
        f"trainer = network({arguments.width}, {arguments.depth}); "
        f"images = np.zeros((1, {TILE}, {TILE}, {BANDS}), np.uint8); trainer.predict(images); "
        "begun = time.perf_counter(); [trainer.predict(images) for _ in range(8)]; "
        "print((time.perf_counter() - begun) / 8)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    return float(done.stdout) * tiles


def told(what: str, seen: Seen, pixels: float) -> None:
    """Print a line about one process."""
    speed = "killed" if seen.killed else f"{pixels / seen.seconds / 1e6:6.3f} Mpx/s"
    print(
        f"{what:<28}{seen.seconds:9.1f} s  {speed:>14}  peak {seen.peak} MB, own {seen.own} MB",
        flush=True,
    )


def main() -> None:
    """Do everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=16, help="of the UNet")
    parser.add_argument("--depth", type=int, default=3, help="of the UNet")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--runtime", default="torch", help="or openvino, which predict prefers")
    arguments = parser.parse_args()
    pixels = arguments.size**2
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_scene(folder / "scene.tif", arguments.size)
        write_model(folder / "model", arguments.width, arguments.depth)
        tiles = len(starts(arguments.size, TILE, OVERLAP)) ** 2
        print(f"{arguments.size}² × {BANDS}, {tiles} tiles of {TILE}²", flush=True)
        before = model_alone(arguments, tiles)
        whole, resumed = folder / "whole" / "map.tif", folder / "resumed" / "map.tif"
        undisturbed = predict(folder, whole, arguments, None)
        told("undisturbed", undisturbed, pixels)
        after = model_alone(arguments, tiles)
        alone = float(np.mean([before, after]))
        share = alone / undisturbed.seconds
        print(
            f"{'the model alone':<28}{alone:9.1f} s  {pixels / alone / 1e6:8.3f} Mpx/s  "
            f"{share:.2f} of it reached ({before:.1f} s before, {after:.1f} s after)",
            flush=True,
        )
        for at in (*KILLED_AT, None):
            seen = predict(folder, resumed, arguments, at)
            told(f"{'to the end' if at is None else f'to {at:.0%}'}, resumed", seen, pixels)
        same = True
        for path in sorted(whole.parent.iterdir()):
            equal = filecmp.cmp(path, resumed.with_name(path.name), shallow=False)
            same &= equal
            print(f"{path.name}: {'the same bytes' if equal else 'OTHER BYTES'}", flush=True)
        shutil.rmtree(folder / "whole")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
