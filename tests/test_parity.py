"""Keras and PyTorch do the same with the same weights; each works in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from terrazzo.models.weight_conversion import portable

BACKENDS = ("torch", "keras")
STILL = {"drop_path": 0, "dropout": 0}  # nothing random, so that steps can be compared
NETWORKS = {
    "unet transpose": ("unet", {"width": 8, "depth": 3, "up": "transpose"}),
    "unet bilinear": ("unet", {"width": 8, "depth": 3, "up": "bilinear"}),
    "segformer tiny": ("segformer", {"size": "tiny", **STILL}),
    "segformer b0": ("segformer", {"size": "b0"}),
    "segformer fine": ("segformer", {"size": "tiny", "patch_strides": [2, 2, 2, 2]}),
    "segformer odd": ("segformer", {"size": "tiny", "patch_strides": [1, 2, 1, 3]}),
}
STEPS = {
    f"{network}, {optimizer}, {term}": (network, optimizer, term)
    for network in ("unet transpose", "segformer tiny")
    for optimizer in ("sgd", "adamw")
    for term in ("cross_entropy", "dice")
}
# At the default epsilon; the test says what holds then.
BARE_STEPS = {
    f"{network}, {optimizer}, default epsilon": (network, optimizer)
    for network in ("unet transpose", "segformer tiny")
    for optimizer in ("adam", "adamw")
}
LEARNING_RATE = 1e-3

WORK = """
import json, sys
import numpy as np
from terrazzo.models import backends
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.testing.trainer_checks import Task

task = Task(num_classes=3)
for job in json.loads(sys.argv[2]):
    trainer = backends.load(sys.argv[1]).build(
        ModelConfig(name=job["model"], options=job["options"]),
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
        trainer.train_step(batch, float(sys.argv[3]))
    images_BHWC = task.batch(37, 50, seed=9).images_BHWC
    np.savez(job["out"], probabilities=trainer.predict(images_BHWC), **trainer.state())
"""


def work(backend, jobs):
    """Let one process build, load, train and predict for each job."""
    words = (backend, json.dumps(jobs), str(LEARNING_RATE))
    subprocess.run([sys.executable, "-c", WORK, *words], check=True)


def job(out, network, *, weights=None, steps=0, training=None):
    model, options = NETWORKS[network]
    return {
        "out": str(out),
        "model": model,
        "options": options,
        "weights": weights and str(weights),
        "steps": steps,
        "training": training or {},
    }


def common(backend, network, arrays):
    """Return the weights of a state in the common form."""
    model, _ = NETWORKS[network]
    bare = {n.removeprefix("weights/"): a for n, a in arrays.items() if n.startswith("weights/")}
    return portable(backend, model).to_common(model, bare)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each backend makes of weights that PyTorch has trained a little.

    By (name of the job, backend); ``start`` holds the common weights by the network.
    """
    folder = tmp_path_factory.mktemp("parity")
    work("torch", [job(folder / f"{name}.npz", name, steps=3) for name in NETWORKS])
    start = {name: common("torch", name, np.load(folder / f"{name}.npz")) for name in NETWORKS}
    found = {"start": start}
    for backend in BACKENDS:
        jobs, files = [], {}
        for network, arrays in start.items():
            model, _ = NETWORKS[network]
            files[network] = folder / f"{network}_{backend}_start.npz"
            own = portable(backend, model).from_common(model, arrays)
            np.savez(files[network], **{f"weights/{name}": array for name, array in own.items()})
            out = folder / f"{network}_{backend}.npz"
            jobs.append(job(out, network, weights=files[network]))
        for name, (network, optimizer, term) in STEPS.items():
            # AdamW divides by |gradient|, so the noise of a gradient that is all but zero would be
            # blown up to a whole step; this epsilon leaves the rule as it is, and noise small.
            training = {
                "optimizer": {"name": optimizer, "epsilon": 1e-3},
                "loss": {"cross_entropy": 0, term: 1},
            }
            out = folder / f"{name}_{backend}.npz"
            jobs.append(job(out, network, weights=files[network], steps=1, training=training))
        for name, (network, optimizer) in BARE_STEPS.items():
            out = folder / f"{name}_{backend}.npz"
            training = {"optimizer": {"name": optimizer}}
            jobs.append(job(out, network, weights=files[network], steps=1, training=training))
        work(backend, jobs)
        for each, name in zip(jobs, [*NETWORKS, *STEPS, *BARE_STEPS], strict=True):
            found[name, backend] = dict(np.load(each["out"]))
    return found


@pytest.mark.parametrize("network", NETWORKS)
def test_forward_pass_is_the_same(results, network):
    torch, keras = (results[network, backend] for backend in BACKENDS)
    for name, array in common("torch", network, torch).items():
        np.testing.assert_array_equal(common("keras", network, keras)[name], array, err_msg=name)
    first_BHWK, second_BHWK = torch["probabilities"], keras["probabilities"]
    assert np.ptp(first_BHWK) > 1e-3, "the same everywhere: nothing to see"
    np.testing.assert_allclose(first_BHWK, second_BHWK, atol=1e-5)
    assert (first_BHWK.argmax(-1) == second_BHWK.argmax(-1)).mean() >= 0.9999


@pytest.mark.parametrize("name", STEPS)
def test_one_step_gives_the_same_weights(results, name):
    """Batch-norm statistics included."""
    network = STEPS[name][0]
    torch, keras = (common(backend, network, results[name, backend]) for backend in BACKENDS)
    assert torch.keys() == keras.keys()
    start = results["start"][network]
    assert max(float(np.abs(torch[array] - start[array]).max()) for array in torch) > 1e-4
    for array in torch:
        np.testing.assert_allclose(keras[array], torch[array], atol=1e-5, err_msg=array)


@pytest.mark.parametrize("name", BARE_STEPS)
def test_one_step_at_the_default_epsilon_differs_where_a_gradient_is_rounding(results, name):
    """Adam divides a gradient by its own size, and rounding too: a step in any direction.

    The gradient of a bias in front of a batch normalisation is 0 but for rounding, and what it adds
    makes no difference to a prediction.
    """
    network, _ = BARE_STEPS[name]
    torch, keras = (common(backend, network, results[name, backend]) for backend in BACKENDS)
    differences = np.concatenate([np.abs(keras[array] - torch[array]).ravel() for array in torch])
    assert differences.max() <= 2 * LEARNING_RATE + 1e-5
    assert (differences > 1e-5).mean() < 0.005
    first_BHWK, second_BHWK = (results[name, backend]["probabilities"] for backend in BACKENDS)
    np.testing.assert_allclose(first_BHWK, second_BHWK, atol=1e-4)
