"""`terrazzo speed`: both frameworks count the same work, and compare shows it beside the score."""

from __future__ import annotations

import json
import subprocess
import sys

WORK = """
import json, sys
from terrazzo.models import backends
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.testing.trainer_checks import TWO_COLOURS

found = []
for name, options in json.loads(sys.argv[2]):
    trainer = backends.load(sys.argv[1]).build(
        ModelConfig(name=name, options=options), TrainingConfig(steps=1),
        TWO_COLOURS.labels, TWO_COLOURS.bands, seed=0,
    )
    before = trainer.predict(TWO_COLOURS.batch(64, 96, seed=0).images_BHWC).tobytes()
    found.append(trainer.multiply_adds(64, 96))
    assert trainer.predict(TWO_COLOURS.batch(64, 96, seed=0).images_BHWC).tobytes() == before
print("COUNTS", json.dumps(found))
"""
MODELS = [
    ("unet", {"width": 4, "depth": 2, "up": "transpose"}),
    ("unet", {"width": 4, "depth": 2, "up": "bilinear"}),
    ("segformer", {"size": "tiny"}),
]


def test_both_frameworks_count_the_same_multiply_adds():
    counted = [
        subprocess.run(
            [sys.executable, "-c", WORK, backend, json.dumps(MODELS)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.rpartition("COUNTS ")[2]
        for backend in ("torch", "keras")
    ]
    of_torch, of_keras = map(json.loads, counted)
    assert of_torch == of_keras
    # A UNet of width 4 and depth 2 by hand: pixels × kernel × channels in × channels out.
    pixels = 64 * 96
    level = [4, 8, 16]
    by_hand = pixels * 9 * (3 * 4 + 4 * 4)
    by_hand += pixels // 4 * 9 * (4 * 8 + 8 * 8)
    by_hand += pixels // 16 * 9 * (8 * 16 + 16 * 16)
    for fine, coarse, shrink in ((8, 16, 4), (4, 8, 1)):
        by_hand += (
            pixels // shrink // 4 * coarse * 4 * fine
        )  # transposed 2×2, from each coarse pixel
        by_hand += pixels // shrink * 9 * (2 * fine * fine + fine * fine)
    by_hand += pixels * level[0] * 2
    assert of_torch[0] == by_hand
