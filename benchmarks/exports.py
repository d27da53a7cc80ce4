"""Every model in every format and precision that is offered: verified, sizes, scores, speed.

    python benchmarks/exports.py                                 each model in a process of its own
    python benchmarks/exports.py --backend torch --model unet lraspp --format onnx openvino
    python benchmarks/exports.py --backend keras --keep exports  leaves the exported folders there

Each model is trained for a few steps on 8 images of CamVid (``TERRAZZO_DATA``) resized to
180×240, exported by `terrazzo.workflows.export.export` and scored on 3 images of ``val``. Rows of
Markdown are printed as they come:

    files     size of the model's files, and as a share of the run's ``model/``
    error     largest difference of logits on any input of the verification, in percent of their
              range
    labels    share of labels that change on real images
    mean IoU  of the exported model on ``val``, and of the framework's
    ratio     seconds of the framework ÷ seconds of the runtime, labels of one image of 360×480;
              medians of 3 in turn; none where a format is not predicted with here
    seconds   to write and to verify
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

import terrazzo
from terrazzo.base.errors import TerrazzoError
from terrazzo.base.json_files import read_json
from terrazzo.base.recipe import Config
from terrazzo.data import datasets
from terrazzo.models.exporter import exporter
from terrazzo.workflows.export import formats
from terrazzo.workflows.export.export import export

MODELS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "torch": {
        "unet": ("unet", {"width": 32}),
        "lraspp": ("lraspp", {}),
        "segformer": ("segformer", {"size": "b0"}),
        "vit": ("vit", {"encoder": "vit_tiny_patch16_224"}),
        "unet_resnet50": ("unet", {"encoder": "resnet50", "depth": 5, "width": 16}),
        "deeplabv3": ("deeplabv3", {"encoder": "resnet50"}),
        "fcn": ("fcn", {"encoder": "resnet50"}),
    },
    "keras": {
        "unet": ("unet", {"width": 32}),
        "segformer": ("segformer", {"size": "b0"}),
        "deeplabv3plus": ("deeplabv3plus", {"encoder": "resnet50"}),
        "inception_resnet_v2_unet": ("inception_resnet_v2_unet", {}),
    },
}
TIMED = ("onnx", "openvino")
"""Runtimes that may share a process with a framework."""
COLUMNS = (
    *("backend", "model", "format", "precision", "outcome", "files", "error", "labels"),
    *("mean IoU", "ratio", "seconds"),
)
OF_THE_FOLDER = {"README.md", "MANIFEST.json", "export.json", "model.toml"}


def recipe_of(backend: str, model: str, options: dict[str, Any], steps: int) -> Config:
    return Config.model_validate(
        {
            "backend": backend,
            "name": f"{backend}_{model}",
            "data": {
                "format": "camvid",
                "root": "$TERRAZZO_DATA/camvid",
                "image_size": [180, 240],
                "limit": {"train": 8, "val": 3, "test": 1},
            },
            "augment": {"crop": [128, 160], "flip_horizontal": 0.5},
            "loader": {"threads": 0},
            "model": {"name": model, "options": options},
            "training": {
                "batch_size": 4,
                "steps": steps,
                "schedule": {"name": "constant", "learning_rate": 1e-3},
            },
            "validation": {"every_steps": steps, "batch_size": 1},
        }
    )


def measure_model(
    backend: str, model: str, steps: int, wanted: list[str], keep: Path | None
) -> None:
    name, options = MODELS[backend][model]
    with tempfile.TemporaryDirectory(prefix="terrazzo_exports_") as scratch:
        run = Path(scratch) / "run"
        recipe = recipe_of(backend, name, options, steps)
        terrazzo.train(recipe, run)
        own = terrazzo.load_model(run).trainer
        images_BHWC = datasets.open_split(recipe.data, "val").read(0).image_HWC[None]
        for to, precision in _pairs(backend, wanted):
            out = (keep or Path(scratch)) / f"{backend}_{model}_{to}_{precision}"
            start = time.perf_counter()
            try:
                export(run, to, out, precision=precision, overwrite=True)
                elapsed = time.perf_counter() - start
                row = _facts(run, out)
                row.append(_ratio(own, out, images_BHWC) if to in TIMED else "–")
            except TerrazzoError as error:
                elapsed = time.perf_counter() - start
                row = [f"{error.code}: {error.observed}", *5 * ["–"]]
            except Exception as error:  # a fault: the row names it, the others go on
                elapsed = time.perf_counter() - start
                row = [f"{type(error).__name__}: {str(error).splitlines()[0]}", *5 * ["–"]]
            cells = [backend, model, to, precision, *row, f"{elapsed:.0f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def _pairs(backend: str, wanted: list[str]) -> Iterator[tuple[str, Any]]:
    for to, precisions in formats.PRECISIONS.items():
        if to in exporter(backend).FORMATS and (not wanted or to in wanted):
            yield from ((to, precision) for precision in precisions)


def _facts(run: Path, out: Path) -> list[str]:
    """Return outcome, size, error, labels and mean IoU as the folder's own record says them."""
    verified = read_json(out / "export.json")["verified"]
    size = _bytes(out)
    scores = [verified["val"][each]["mean_iou"] for each in ("exported", "framework")]
    return [
        "verified",
        f"{size / 1e6:.1f} MB, {size / _bytes(run / 'model'):.2f}",
        f"{100 * verified['largest_error']:.2g} %",
        f"{100 * verified['labels_changed_on_real_images']:.2g} %",
        f"{scores[0]:.4f}, {scores[1]:.4f}",
    ]


def _bytes(folder: Path) -> int:
    files = (each for each in folder.rglob("*") if each.is_file())
    return sum(each.stat().st_size for each in files if each.name not in OF_THE_FOLDER)


def _ratio(own: Any, out: Path, images_BHWC: np.ndarray) -> str:
    """Return how many times as fast the runtime predicts; both in turn."""
    ways = (own, terrazzo.load_model(out).trainer)
    for way in ways:
        way.predict_labels(images_BHWC)  # also compiles
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way.predict_labels(images_BHWC)
            taken.append(time.perf_counter() - start)
    framework, runtime = map(statistics.median, seconds)
    return f"{framework / runtime:.2f} ×"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--model", nargs="*", default=[])
    parser.add_argument("--format", nargs="*", default=[], choices=[*formats.PRECISIONS])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the exports there")
    asked = parser.parse_args()
    backends = list(MODELS) if asked.backend == "all" else [asked.backend]
    chosen = [(b, m) for b in backends for m in MODELS[b] if not asked.model or m in asked.model]
    if len(chosen) == 1:
        measure_model(*chosen[0], asked.steps, asked.format, asked.keep)
        return
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for backend, model in chosen:  # one framework a process
        arguments = ["--backend", backend, "--model", model, "--steps", str(asked.steps)]
        arguments += ["--format", *asked.format] if asked.format else []
        arguments += ["--keep", str(asked.keep)] if asked.keep else []
        subprocess.run([sys.executable, __file__, *arguments], check=False)


if __name__ == "__main__":
    main()
