"""Confusion counts of one 2048×1024 image, 19 classes, uint8, one thread: ours against peers.

    pip install "terrazzo[fast]" torchmetrics scikit-learn rich
    TERRAZZO_DATA=… python benchmarks/confusion.py [--rounds 15]

The images: CamVid annotations tiled at their own size (many short runs) and one enlarged to
2048×1024 (long runs, as in Cityscapes), each with a prediction that errs near borders; random
noise; and cells of 64² and 8² pixels with scattered errors, without and with scattered ignored
pixels. Without TERRAZZO_DATA a drawn map stands for CamVid's. All ways take turns within
each round of one process; printed are medians over the rounds, of processor time, so that other
work on the machine counts less and a second thread would count double. Every way's counts are
checked before it is timed, which also compiles ours. torchmetrics and scikit-learn are left out
where they are not installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from terrazzo.metrics import ConfusionMatrix
from terrazzo.metrics.pair_histogram import count_pairs_numpy

HEIGHT, WIDTH, NUM_CLASSES, IGNORE = 1024, 2048, 19, 255
CAMVID_IGNORE = 11
Image = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Way = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.int64]]


def images() -> dict[str, Image]:
    rng = np.random.default_rng(0)
    found: dict[str, Image] = {}
    if "TERRAZZO_DATA" in os.environ:
        files = sorted((Path(os.environ["TERRAZZO_DATA"]) / "camvid" / "testannot").glob("*.png"))
        maps = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files[::16]]
        rows = [np.hstack([maps[(5 * row + column) % len(maps)] for column in range(5)])
                for row in range(3)]  # fmt: skip
        found["CamVid, tiled"] = with_border_errors(np.vstack(rows)[:HEIGHT, :WIDTH], 2.0, rng)
        found["CamVid, enlarged"] = with_border_errors(enlarged(maps[0]), 6.0, rng)
    else:
        coarse = rng.integers(0, NUM_CLASSES, (16, 32), dtype=np.uint8)
        found["drawn blocks"] = with_border_errors(enlarged(coarse), 6.0, rng)
    labels, predictions = rng.integers(0, NUM_CLASSES, (2, HEIGHT, WIDTH), dtype=np.uint8)
    found["random noise"] = labels, predictions
    for cell in (64, 8):
        labels = enlarged(
            rng.integers(0, NUM_CLASSES, (HEIGHT // cell, WIDTH // cell), dtype=np.uint8)
        )
        predictions = with_errors(labels, 0.15, rng)
        found[f"cells of {cell}², 15 % errors"] = labels, predictions
        labels = np.where(rng.random(labels.shape) < 0.06, IGNORE, labels).astype(np.uint8)
        found[f"cells of {cell}², 15 % errors, 6 % ignored"] = labels, predictions
    return found


def enlarged(labels_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.resize(labels_HW, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)


def with_errors(
    labels_HW: NDArray[np.uint8], share: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Predict any class at so many scattered pixels, else the truth."""
    others = rng.integers(0, NUM_CLASSES, labels_HW.shape, dtype=np.uint8)
    return np.where(rng.random(labels_HW.shape) < share, others, labels_HW)


def with_border_errors(
    labels_HW: NDArray[np.uint8], pixels: float, rng: np.random.Generator
) -> Image:
    """Predict the truth, bent smoothly by about so many pixels."""
    height, width = labels_HW.shape
    bend = rng.normal(0, pixels, (2, 64, 128)).astype(np.float32)
    across, down = (cv2.resize(b, (width, height), interpolation=cv2.INTER_CUBIC) for b in bend)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    predictions = cv2.remap(
        labels_HW, columns + across, rows + down, cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    predictions[predictions == CAMVID_IGNORE] = 0
    labels_HW = np.where(labels_HW == CAMVID_IGNORE, IGNORE, labels_HW).astype(np.uint8)
    padding = ((0, HEIGHT - height), (0, WIDTH - width))
    return np.pad(labels_HW, padding, mode="edge"), np.pad(predictions, padding, mode="edge")


def ours(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.int64]:
    matrix = ConfusionMatrix(NUM_CLASSES, IGNORE)
    matrix.update(labels, predictions)
    return matrix.counts


def ours_without_numba(
    labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
) -> NDArray[np.int64]:
    return count_pairs_numpy(labels.ravel(), predictions.ravel())[:NUM_CLASSES, :NUM_CLASSES]


def numpy_bincount(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.int64]:
    codes = labels.ravel().astype(np.uint16) << 8 | predictions.ravel()
    return np.bincount(codes, minlength=1 << 16).reshape(256, 256)[:NUM_CLASSES, :NUM_CLASSES]


class TorchBincount:
    """`torch.bincount(t*K+p)` of the scored pixels, which are picked out beforehand, untimed."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(
        self, labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        if id(labels) not in self.kept:
            scored = labels != IGNORE
            self.kept[id(labels)] = (
                torch.from_numpy(labels[scored]).long(),
                torch.from_numpy(predictions[scored]).long(),
            )
        truth, predicted = self.kept[id(labels)]
        codes = truth * NUM_CLASSES + predicted
        counts = torch.bincount(codes, minlength=NUM_CLASSES**2)
        return counts.reshape(NUM_CLASSES, NUM_CLASSES).numpy()


def opencv(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.int64]:
    # Counts in float32: wrong from 2^24 pixels a cell on.
    counts = cv2.calcHist([labels, predictions], [0, 1], None, [256, 256], [0, 256, 0, 256])
    return counts[:NUM_CLASSES, :NUM_CLASSES].astype(np.int64)


def sklearn(labels: NDArray[np.uint8], predictions: NDArray[np.uint8]) -> NDArray[np.int64]:
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels.ravel(), predictions.ravel(), labels=np.arange(NUM_CLASSES))


class Torchmetrics:
    def __init__(self) -> None:
        from torchmetrics.classification import MulticlassConfusionMatrix

        self.metric = MulticlassConfusionMatrix(
            NUM_CLASSES, ignore_index=IGNORE, validate_args=False
        )

    def __call__(
        self, labels: NDArray[np.uint8], predictions: NDArray[np.uint8]
    ) -> NDArray[np.int64]:
        self.metric.reset()
        self.metric.update(torch.from_numpy(predictions), torch.from_numpy(labels))
        return self.metric.compute().numpy()


WAYS: dict[str, Way] = {
    "terrazzo, numba": ours,
    "terrazzo, NumPy": ours_without_numba,
    "cv2.calcHist (float32)": opencv,
    "np.bincount of uint16": numpy_bincount,
    "torch.bincount, kept px": TorchBincount(),
}
if find_spec("torchmetrics"):
    WAYS["torchmetrics"] = Torchmetrics()
if find_spec("sklearn"):
    WAYS["scikit-learn"] = sklearn


def seconds(way: Way, image: Image) -> float:
    start = time.process_time()
    way(*image)
    return time.process_time() - start


def check(way: Way, image: Image) -> None:
    labels, predictions = image
    wanted = np.zeros((256, 256), dtype=np.int64)
    np.add.at(wanted, image, 1)
    got = way(labels, predictions)
    assert (got == wanted[:NUM_CLASSES, :NUM_CLASSES]).all(), way


def main() -> None:
    parser = argparse.ArgumentParser(description="Confusion counts against peers.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name, image in images().items():
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for way in WAYS.values():
            check(way, image)
        for _ in range(rounds):
            for way, function in WAYS.items():
                times[way].append(seconds(function, image))
        print_table(name, {way: statistics.median(values) for way, values in times.items()})


def print_table(name: str, medians: dict[str, float]) -> None:
    table = Table(title=f"{name}: {WIDTH}×{HEIGHT}, {NUM_CLASSES} classes, uint8, 1 thread")
    table.add_column("way")
    peers = [peer for peer in ("torch.bincount, kept px", "torchmetrics") if peer in medians]
    for title in ("median ms", "Mpx/s", *(f"× {peer}" for peer in peers)):
        table.add_column(title, justify="right")
    for way, median in medians.items():
        table.add_row(
            way,
            f"{median * 1e3:.2f}",
            f"{HEIGHT * WIDTH / median / 1e6:,.0f}",
            *(f"{medians[peer] / median:.1f}" for peer in peers),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
