"""Each backend, in a fresh process: which framework it loads, and that a second one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

BUILD = """
import sys
from terrazzo.base.errors import ConfigError
from terrazzo.base.recipe import ModelConfig
from terrazzo.models import backends
from terrazzo.testing.trainer_checks import Factory, Task

name, *other = sys.argv[1:]
if other:
    backends.claim_process(*other)  # as if that backend had built a model here
factory = Factory(backends.load(name), ModelConfig(name="unet", options={"width": 4, "depth": 1}))
try:
    trainer = factory.build(Task())
    trainer.train_step(Task().batch(8, 8), 1e-3).loss
    trainer.predict(Task().batch(8, 8).images_BHWC)
except ConfigError as error:
    print(error)
print("LOADED", *{"torch", "tensorflow", "jax", "keras"} & set(sys.modules))
"""


def build(*words, **environment):
    """Return what a process printed and the frameworks it loaded."""
    answer = subprocess.run(
        [sys.executable, "-c", BUILD, *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    printed, _, loaded = answer.stdout.rpartition("LOADED")
    return printed, set(loaded.split())


def test_keras_on_the_engine_torch_loads_no_tensorflow():
    _, loaded = build("keras", KERAS_BACKEND="torch")
    assert loaded == {"keras", "torch"}


@pytest.mark.parametrize(
    ("second", "first"),
    [("keras", ("torch", "torch")), ("torch", ("keras", "tensorflow"))],
)
def test_the_second_backend_is_refused_before_it_loads_its_framework(second, first):
    printed, loaded = build(second, *first, KERAS_BACKEND="tensorflow")
    assert "SEG-X070" in printed
    assert not loaded


STEPS = """
import json, sys
import numpy as np
from terrazzo.models import backends
from terrazzo.testing.trainer_checks import Factory, Task

task = Task()
trainer = Factory.small(backends.load("keras"), "unet").build(task)
losses = [trainer.train_step(task.batch(16, 16, seed=n), 1e-3).loss for n in range(2)]
sums = [float(np.abs(array).sum()) for _, array in sorted(trainer.state().items())]
print("NUMBERS", json.dumps([losses, sums]))
"""


def numbers(home, settings):
    """Return the losses and sums of weights of a run under a ``keras.json``."""
    home.mkdir()
    (home / "keras.json").write_text(json.dumps(settings))
    answer = subprocess.run(
        [sys.executable, "-c", STEPS],
        env=os.environ | {"KERAS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    return json.loads(answer.stdout.partition("NUMBERS")[2])


def test_keras_json_does_not_change_a_number(tmp_path):
    plain = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
    other = {"floatx": "float16", "epsilon": 1e-2, "image_data_format": "channels_first"}
    assert numbers(tmp_path / "plain", plain) == numbers(tmp_path / "other", other)
