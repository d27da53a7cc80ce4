"""Batches of one small image, whose coarsest map is one pixel: both frameworks learn the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

# 16 × 16 pixels and 4 halvings leave one value a channel to normalise.
TRAIN = """
import sys
import numpy as np
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.sample import Batch
from terrazzo.metrics import ConfusionMatrix
from terrazzo.models import backends
from terrazzo.testing.trainer_checks import TWO_COLOURS

def discs(count, seed):
    rng = np.random.default_rng(seed)
    rows_HW, columns_HW = np.indices((16, 16))
    middles_B2, radii_B = rng.uniform(4, 12, (count, 2)), rng.uniform(3, 6, count)
    distances_BHW = np.hypot(
        rows_HW - middles_B2[:, :1, None], columns_HW - middles_B2[:, 1:, None]
    )
    labels_BHW = (distances_BHW < radii_B[:, None, None]).astype(np.uint8)
    colours_KC = np.array([[90, 120, 150], [150, 120, 90]])
    images_BHWC = colours_KC[labels_BHW] + rng.normal(0, 15, (count, 16, 16, 3))
    names = ("",) * count
    return Batch(images_BHWC.clip(0, 255).astype(np.uint8), labels_BHW, names, names)

model = ModelConfig(name="unet", options={"width": 8, "depth": 4})
training = TrainingConfig(steps=1, precision="float32")
trainer = backends.load(sys.argv[1]).build(
    model, training, TWO_COLOURS.labels, TWO_COLOURS.bands, 0
)
for step in range(200):
    trainer.train_step(discs(1, step), 3e-3)
test = discs(100, 1000)
matrix = ConfusionMatrix(num_classes=2, ignore_index=255)
matrix.update(test.labels_BHW, trainer.predict_labels(test.images_BHWC))
print("IOU", matrix.scores().mean_iou)
"""


def mean_iou(backend):
    answer = subprocess.run(
        [sys.executable, "-c", TRAIN, backend], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return float(answer.stdout.rpartition("IOU")[2])


def test_both_frameworks_learn_the_same():
    torch, keras = mean_iou("torch"), mean_iou("keras")
    assert torch > 0.9
    assert keras == pytest.approx(torch, abs=0.03)
