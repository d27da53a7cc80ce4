"""Keras and PyTorch do the same with the same weights; each works in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from terrazzo.convert import portable

BACKENDS = ("torch", "keras")
OPTIONS = {up: {"width": 8, "depth": 3, "up": up} for up in ("transpose", "bilinear")}
STEPS = {
    f"{optimizer}, {term}": (optimizer, term)
    for optimizer in ("sgd", "adamw")
    for term in ("cross_entropy", "dice")
}

WORK = """
import json, sys
import numpy as np
from terrazzo import backends
from terrazzo.config import ModelConfig, TrainingConfig
from terrazzo.testing.trainer_checks import Task

task = Task(num_classes=3)
for job in json.loads(sys.argv[2]):
    trainer = backends.load(sys.argv[1]).build(
        ModelConfig(name="unet", options=job["options"]),
        TrainingConfig.model_validate({"steps": 1, "precision": "float32", **job["training"]}),
        task.labels,
        task.bands,
        seed=0,
    )
    if job["weights"]:
        trainer.load_state(dict(np.load(job["weights"])))
    for step in range(job["steps"]):
        batch = task.batch(37, 50, seed=step)
        batch.labels_BHW[0, :5] = task.labels.ignore_index
        trainer.train_step(batch, 1e-3)
    images_BHWC = task.batch(37, 50, seed=9).images_BHWC
    np.savez(job["out"], probabilities=trainer.predict(images_BHWC), **trainer.state())
"""


def work(backend, jobs):
    """Let one process build, load, train and predict for each job."""
    subprocess.run([sys.executable, "-c", WORK, backend, json.dumps(jobs)], check=True)


def job(out, up, *, weights=None, steps=0, training=None):
    return {
        "out": str(out),
        "options": OPTIONS[up],
        "weights": weights and str(weights),
        "steps": steps,
        "training": training or {},
    }


def common(backend, arrays):
    """Return the weights of a state in the common form."""
    bare = {n.removeprefix("weights/"): a for n, a in arrays.items() if n.startswith("weights/")}
    return portable(backend, "unet").to_common("unet", bare)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each backend makes of weights that PyTorch has trained a little.

    By (name of the job, backend); ``start`` holds the common weights by the way of doubling.
    """
    folder = tmp_path_factory.mktemp("parity")
    work("torch", [job(folder / f"{up}.npz", up, steps=3) for up in OPTIONS])
    start = {up: common("torch", np.load(folder / f"{up}.npz")) for up in OPTIONS}
    found = {"start": start}
    for backend in BACKENDS:
        jobs, files = [], {}
        for up, arrays in start.items():
            files[up] = folder / f"{up}_{backend}_start.npz"
            own = portable(backend, "unet").from_common("unet", arrays)
            np.savez(files[up], **{f"weights/{name}": array for name, array in own.items()})
            jobs.append(job(folder / f"{up}_{backend}.npz", up, weights=files[up]))
        for name, (optimizer, term) in STEPS.items():
            # AdamW divides by |gradient|, so the noise of a gradient that is all but zero would be
            # blown up to a whole step; this epsilon leaves the rule as it is, and noise small.
            training = {
                "optimizer": {"name": optimizer, "epsilon": 1e-3},
                "loss": {"cross_entropy": 0, term: 1},
            }
            out, weights = folder / f"{name}_{backend}.npz", files["transpose"]
            jobs.append(job(out, "transpose", weights=weights, steps=1, training=training))
        work(backend, jobs)
        for each, name in zip(jobs, [*OPTIONS, *STEPS], strict=True):
            found[name, backend] = dict(np.load(each["out"]))
    return found


@pytest.mark.parametrize("up", OPTIONS)
def test_forward_pass_is_the_same(results, up):
    torch, keras = (results[up, backend] for backend in BACKENDS)
    for name, array in common("torch", torch).items():
        np.testing.assert_array_equal(common("keras", keras)[name], array, err_msg=name)
    first_BHWK, second_BHWK = torch["probabilities"], keras["probabilities"]
    np.testing.assert_allclose(first_BHWK, second_BHWK, atol=1e-5)
    assert (first_BHWK.argmax(-1) == second_BHWK.argmax(-1)).mean() >= 0.9999


@pytest.mark.parametrize("name", STEPS)
def test_one_step_gives_the_same_weights(results, name):
    """Batch-norm statistics included."""
    torch, keras = (common(backend, results[name, backend]) for backend in BACKENDS)
    assert torch.keys() == keras.keys()
    start = results["start"]["transpose"]
    assert max(float(np.abs(torch[array] - start[array]).max()) for array in torch) > 1e-4
    for array in torch:
        np.testing.assert_allclose(keras[array], torch[array], atol=1e-5, err_msg=array)
