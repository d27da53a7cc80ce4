"""What an image costs beyond its confusion counts: 2048×1024, 19 classes, uint8, one thread.

    TERRAZZO_DATA=… python benchmarks/accumulate.py [--rounds 30]

Bare is `ConfusionMatrix.update` alone. With it are timed: a matrix of its own for the image, its
counts kept, the matrix of the split brought up to date and all scores worked out of it, as for a
table that is shown after every image. Borders and calibration, which are asked for by name, are
timed beside. Ways take turns within each round; printed are medians of processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from terrazzo.metrics import ConfusionMatrix, boundary, calibration

HEIGHT, WIDTH, NUM_CLASSES, IGNORE = 1024, 2048, 19, 255
Labels = NDArray[np.uint8]


def image() -> tuple[Labels, Labels]:
    """CamVid's annotation of one street, enlarged, and the same shifted; blocks without CamVid."""
    random = np.random.default_rng(0)
    label_HW: Labels = random.integers(0, NUM_CLASSES, (16, 32), dtype=np.uint8)
    if "TERRAZZO_DATA" in os.environ:
        folder = Path(os.environ["TERRAZZO_DATA"]) / "camvid" / "testannot"
        label_HW = cv2.imread(str(sorted(folder.glob("*.png"))[0]), cv2.IMREAD_UNCHANGED)
        label_HW[label_HW == 11] = IGNORE
    label_HW = cv2.resize(label_HW, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    prediction_HW = np.roll(label_HW, (5, 7), (0, 1))
    prediction_HW[prediction_HW == IGNORE] = 0
    return label_HW, prediction_HW


def median_ms(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            times[name].append(1000 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    label_HW, prediction_HW = image()
    counts_NKK = np.zeros((500, NUM_CLASSES, NUM_CLASSES), np.int64)
    whole = ConfusionMatrix(NUM_CLASSES, IGNORE)
    only = ConfusionMatrix(NUM_CLASSES, IGNORE)

    def bare() -> None:
        only.update(label_HW, prediction_HW)

    def with_scores() -> float:
        matrix = ConfusionMatrix(NUM_CLASSES, IGNORE)
        matrix.update(label_HW, prediction_HW)
        assert matrix.counts.sum() + matrix.ignored == label_HW.size
        counts_NKK[0] = matrix.counts
        whole.merge(matrix)
        scores = whole.scores()
        return scores.mean_iou + scores.mean_precision + scores.mean_recall + scores.mean_f1

    table = Table("what", "median ms", "× bare", title=f"one image, {WIDTH}×{HEIGHT}")
    ways: dict[str, Callable[[], object]] = {"bare update": bare, "with all scores": with_scores}
    found = median_ms(ways, rounds)
    probabilities_HWK = np.random.default_rng(0).random((HEIGHT, WIDTH, NUM_CLASSES), np.float32)
    probabilities_HWK /= probabilities_HWK.sum(axis=2, keepdims=True)
    planes = np.ascontiguousarray(np.moveaxis(probabilities_HWK, 2, 0))
    width = boundary.band_width(HEIGHT, WIDTH)
    found |= median_ms(
        {
            "Boundary IoU": lambda: boundary.boundary_pixels(
                label_HW, prediction_HW, NUM_CLASSES, width=width
            ),
            "trimap IoU": lambda: boundary.trimap_pixels(
                label_HW, prediction_HW, NUM_CLASSES, width=width
            ),
            "calibration": lambda: calibration.count(label_HW, prediction_HW, planes, NUM_CLASSES),
        },
        max(3, rounds // 10),
    )
    for name, each in found.items():
        table.add_row(name, f"{each:.2f}", f"{each / found['bare update']:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
