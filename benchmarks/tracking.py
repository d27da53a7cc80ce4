"""What a tracker takes from the training: steps a second with each, and with none.

    python benchmarks/tracking.py [--steps 300] [--rounds 5]

A small PyTorch UNet on the generated city, where every step is logged: the worst case. The trackers
in turn, round by round: none, TensorBoard, MLflow with a SQLite file, MLflow at a closed port, and
one that takes a second for every call; those whose package is not installed are left out. Printed
are medians and the median of the ratios to none.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from pathlib import Path

from terrazzo import tracking
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import TrackingConfig, load_recipe
from terrazzo.models import backends
from terrazzo.workflows import train as train_workflow

RECIPE = backends.demo_recipe("torch")
PACKAGES = {
    "none": "numpy",
    "tensorboard": "tensorboardX",
    "mlflow": "mlflow",
    "closed port": "mlflow",
    "slow": "numpy",
}
KINDS = tuple(kind for kind, package in PACKAGES.items() if importlib.util.find_spec(package))


class Slow:
    """Takes its time."""

    def begin(self, *_):
        time.sleep(1)
        return {}

    def send(self, *_):
        time.sleep(1)

    def finish(self, *_):
        time.sleep(1)


def steps_per_second(kind: str, folder: Path, out: Path, steps: int) -> float:
    settings = [
        f'data.root="{folder / "city"}"',
        f"training={{steps={steps}, batch_size=4}}",
        "augment.crop=[64, 64]",
        "data.limit={val=1, test=1}",
        "model.options={width=8, depth=2}",
        f"validation.every_steps={steps}",
        "log.every_steps=1",
    ]
    if kind in {"tensorboard", "mlflow"}:
        settings += [f"tracking.kind={kind}", f'tracking.uri="sqlite:///{folder / "runs.db"}"']
    if kind == "closed port":
        settings += ["tracking.kind=mlflow", 'tracking.uri="http://127.0.0.1:9"']
    recipe = load_recipe(RECIPE, assignments=tuple(settings))
    make = tracking.trackers
    if kind == "slow":
        tracking.trackers = lambda *_: {"slow": Slow()}
        recipe = recipe.model_copy(update={"tracking": TrackingConfig(deadline=10)})
    try:
        train_workflow.train(recipe, out, progress=Silent())
    finally:
        tracking.trackers = make
    lines = map(json.loads, (out / "timing.jsonl").read_text().splitlines())
    return [line["steps_per_second"] for line in lines if "steps_per_second" in line][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rates = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in KINDS:  # the first makes the city, one of the others the data base
            steps_per_second(kind, folder, folder / f"first_{kind[:4]}", 20)
        for number in range(given.rounds):
            for kind in KINDS:
                out = folder / f"{number}_{kind.replace(' ', '_')}"
                rates[kind].append(steps_per_second(kind, folder, out, given.steps))
    for kind, found in rates.items():
        ratios = [ours / alone for ours, alone in zip(found, rates["none"], strict=True)]
        print(
            f"{kind:<12}{statistics.median(found):8.1f} steps/s  "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


if __name__ == "__main__":
    main()
