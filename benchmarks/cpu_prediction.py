"""Prediction on a processor: the framework, ONNX Runtime and OpenVINO in turn, in one process.

    python benchmarks/cpu_prediction.py                       PyTorch, then Keras in a process
    python benchmarks/cpu_prediction.py --backend torch --model unet segformer --rounds 7
    python benchmarks/cpu_prediction.py --scene 4096          a whole scene, whole processes

Two threads, 512² (ViT: 384²), batch 2, random weights, 8 classes, labels as `predict` asks for.
Each round takes every way once, so that all meet the same minute of a shared machine; shown are
medians of seconds and of the ratios to the framework of the same round, and the share of labels
that are equal to the framework's. bfloat16 is left out where the processor has none of its
instructions.

`--scene` predicts a generated GeoTIFF of so many rows and columns with unet-32, `terrazzo predict`
by the framework and by the default, and shows seconds and peak memory of the whole process, without
and with the conversion of the model, which is kept for the next time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import cv2
import numpy as np

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands
from terrazzo.models import backends, runtimes
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import exporter
from terrazzo.models.runtimes.predictor import SessionPredictor
from terrazzo.runs import conversion, saved_model

CLASSES = LabelMap("eight", tuple(LabelClass(str(k), "#000000", (k,)) for k in range(8)))
BANDS = Bands(("red", "green", "blue"), "uint8", (120.0, 115.0, 100.0), (55.0, 50.0, 48.0))
MODELS: dict[str, dict[str, tuple[dict[str, Any], int]]] = {
    "torch": {
        "unet": ({"width": 32, "depth": 4}, 512),
        "segformer": ({"size": "b0"}, 512),
        "deeplabv3": ({"encoder": "resnet50"}, 512),
        "vit": ({"encoder": "vit_base_patch16_384"}, 384),
    },
    "keras": {
        "unet": ({"width": 32, "depth": 4}, 512),
        "inception_resnet_v2_unet": ({}, 512),
    },
}
Way = Callable[[np.ndarray], np.ndarray]


def card_of(backend: str, model: str, options: dict[str, Any]) -> ModelCard:
    config = ModelConfig(name=model, options=options)
    return ModelCard(backend, config, CLASSES, BANDS, None, 1)


def build(card: ModelCard) -> Any:
    backend = backends.load(card.backend)
    trainer = backend.build(card.model, TrainingConfig(steps=1), CLASSES, BANDS, 0)
    _spread_statistics(trainer)
    return trainer


def _spread_statistics(trainer: Any) -> None:
    """Train a few steps on noise: batch norms that have seen nothing make every logit alike."""
    from terrazzo.data.sample import Batch

    images = photo_like(2, 128, seed=1)
    labels = np.random.default_rng(2).integers(0, 8, images.shape[:3]).astype(np.uint8)
    names = tuple(str(n) for n in range(len(images)))
    for _ in range(3):
        trainer.train_step(Batch(images, labels, names, names), 1e-3)


def photo_like(batch: int, side: int, seed: int = 0) -> np.ndarray:
    """Images whose neighbouring pixels are alike, of all scales."""
    rng = np.random.default_rng(seed)
    sums = np.zeros((batch, side, side, 3), np.float32)
    for cells in (4, 16, 64, side):
        noise = rng.normal(0, 1, (batch, cells, cells, 3)).astype(np.float32)
        for number in range(batch):
            sums[number] += cv2.resize(noise[number], (side, side), interpolation=cv2.INTER_CUBIC)
    return (sums * 30 + 115).clip(0, 255).astype(np.uint8)


def ways_of(card: ModelCard, side: int, folder: Path, with_onnx: bool) -> dict[str, Way]:
    trainer = build(card)
    own = exporter(card.backend)
    form = conversion.raw_form(card)
    ways: dict[str, Way] = {card.backend: trainer.predict_labels}
    precisions = {"onnxruntime": ("float32",), "openvino": ("float32", "bfloat16")}
    for runtime in ("onnxruntime", "openvino"):
        if runtime == "onnxruntime" and not with_onnx:
            continue
        place = folder / runtime
        place.mkdir()
        own.write(runtimes.RUNTIMES[runtime], trainer, card, form, place)
        for precision in precisions[runtime]:
            try:
                session = runtimes.open_session(
                    runtime, place, form, precision=precision, fixed_size=(side, side)
                )
            except Exception as error:
                print(f"  {runtime} {precision}: {str(error).splitlines()[0]}")
                continue
            predictor = SessionPredictor(session, card.bands, CLASSES.dtype)
            ways[f"{runtime} {precision}"] = predictor.predict_labels
    return ways


def measure(ways: dict[str, Way], images: np.ndarray, rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    labels = {name: way(images) for name, way in ways.items()}  # also compiles
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way(images)
            seconds[name].append(time.perf_counter() - start)
    first = next(iter(ways))
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds[first], times, strict=True))
        equal = (labels[name] == labels[first]).mean()
        print(f"  {name:22} {statistics.median(times):8.3f} s {ratio:6.2f} ×  {equal:10.5%} equal")


def measure_backend(backend: str, names: list[str], rounds: int, with_onnx: bool) -> None:
    for model, (options, side) in MODELS[backend].items():
        if names and model not in names:
            continue
        print(f"{backend} {model} {options or ''} {side}², batch 2", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            card = card_of(backend, model, options)
            measure(ways_of(card, side, Path(folder), with_onnx), photo_like(2, side), rounds)
        sys.stdout.flush()


def measure_scene(side: int, rounds: int) -> None:
    from affine import Affine

    from terrazzo.io import rasters

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = card_of("torch", "unet", {"width": 32, "depth": 4})
        state = build(card).state()
        weights = {key: array for key, array in state.items() if key.startswith("weights/")}
        saved_model.write(folder / "model", card, weights)
        place = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 392_000, 0, -0.5, 5_820_000)}
        rasters.write(folder / "scene.tif", photo_like(1, side)[0], **place)
        cache = {"XDG_CACHE_HOME": str(folder / "cache")}
        seconds: dict[str, list[float]] = {}
        for turn in range(rounds):
            for way, runtime in (
                ("torch", "torch"),
                ("default, converting" if turn == 0 else "default", "openvino"),
            ):
                command = [
                    *(sys.executable, "-m", "terrazzo", "predict", str(folder / "model")),
                    *(str(folder / "scene.tif"), "--out", str(folder / "map.tif")),
                    *("--runtime", runtime, "--overwrite"),
                ]
                elapsed, peak = _run(command, {**os.environ, **cache})
                seconds.setdefault(way, []).append(elapsed)
                print(f"  {way:22} {elapsed:8.1f} s   peak {peak:7.0f} MB", flush=True)
        ratio = statistics.median(seconds["torch"]) / statistics.median(seconds["default"])
        print(f"  torch ÷ default: {ratio:.2f}")


def _run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    start = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--model", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-onnx", action="store_true", help="its export takes a minute")
    parser.add_argument("--scene", type=int, metavar="SIDE")
    asked = parser.parse_args()
    if asked.scene:
        measure_scene(asked.scene, asked.rounds)
    elif asked.backend != "all":
        measure_backend(asked.backend, asked.model, asked.rounds, not asked.no_onnx)
    else:
        for backend in MODELS:  # one framework a process
            arguments = [*sys.argv[1:], "--backend", backend]
            subprocess.run([sys.executable, __file__, *arguments], check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"peak of the largest process: {peak:.0f} MB")


if __name__ == "__main__":
    main()
