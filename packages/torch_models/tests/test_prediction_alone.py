"""Prediction loads and holds nothing that only training needs."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.sample import Bands
from terrazzo.models import backends
from terrazzo.testing.scenes import LABELS

bands = Bands(("a", "b", "c"), "uint8", (127.0,) * 3, (60.0,) * 3)
model = ModelConfig(name="unet", options={"width": 4, "depth": 2})
trainer, other = (
    backends.load("torch").build(model, TrainingConfig(steps=1), LABELS, bands, seed)
    for seed in (0, 1)
)
images_BHWC = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
expected_BHWK = trainer.predict(images_BHWC)
state = {name: tensor.cpu().numpy() for name, tensor in trainer._weights().items()}
other.load_state(state)
assert (other.predict(images_BHWC) == expected_BHWK).all()
print(*(name for name in ("torch._dynamo", "torchvision", "timm") if name in sys.modules))
print("_optimizer" in vars(trainer), "_optimizer" in vars(other))
# Once it is asked for, it is there, as it is at the beginning of training.
assert trainer.state()["optimizer/step"] == 0
"""


def test_neither_optimiser_nor_compiler_nor_timm_is_there():
    """They took 190 MB with torch 2, and the slots twice as much as the network."""
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == ["", "False False"]
