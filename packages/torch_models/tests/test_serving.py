"""Batches of `terrazzo serve` with torch: the other images of a batch change no label of one."""

import numpy as np
import pytest
import requests

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.sample import Bands
from terrazzo.inference.model import load_model
from terrazzo.inference.predict import predict
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model
from terrazzo.serving.app import create_app
from terrazzo.serving.batching import Batcher
from terrazzo.serving.settings import ServeSettings
from terrazzo.testing.scenes import LABELS, make_scene
from terrazzo.testing.trainer_checks import Task
from terrazzo.workflows.export.export import export
from terrazzo_torch.backend import backend

TASK = Task()
BANDS = Bands(("red", "green", "blue"), "uint8", (128.0,) * 3, (40.0,) * 3)
MODELS = {"unet": {"width": 8, "depth": 3}, "segformer": {"size": "b0"}}
BATCHES = ServeSettings(batch_milliseconds=1000, batch=5)


def trainer(name):
    config = ModelConfig(name=name, options=MODELS[name])
    return backend.build(config, TrainingConfig(steps=1), TASK.labels, TASK.bands, 0)


def images(count, rows=61, columns=97):
    dtype = np.dtype(TASK.bands.dtype)
    shape = (count, rows, columns, len(TASK.bands))
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_strangers_gives_the_labels_of_each_alone(name):
    trained = trainer(name)
    images_BHWC = images(5)
    batcher = Batcher(trained, BATCHES)
    try:
        waiting = [batcher.submit("predict", image_HWC) for image_HWC in images_BHWC]
        together_BHWK = np.stack([each.result(60) for each in waiting])
        assert batcher.batch_sizes == {5: 1}
    finally:
        batcher.close()
    alone_BHWK = np.concatenate([trained.predict(image_HWC[None]) for image_HWC in images_BHWC])
    # Sums of convolutions are grouped by the size of a batch: the last bits differ, and so may the
    # labels of pixels where two classes are as good as equal.
    np.testing.assert_allclose(together_BHWK, alone_BHWK, atol=1e-5)
    best_two = np.sort(alone_BHWK, axis=3)[..., -2:]
    certain = best_two[..., 1] - best_two[..., 0] > 2e-5
    assert certain.mean() > 0.999
    labels_BHW = alone_BHWK.argmax(axis=3)
    np.testing.assert_array_equal(together_BHWK.argmax(axis=3)[certain], labels_BHW[certain])


def test_an_exported_model_is_served_as_predict_applies_it(tmp_path):
    pytest.importorskip("openvino", reason="needs terrazzo[cpu]")
    pytest.importorskip("uvicorn", reason="needs terrazzo[serve]")
    from terrazzo.testing.serving import served

    config = ModelConfig(name="unet", options={"width": 4, "depth": 1})
    trained = backend.build(config, TrainingConfig(steps=1), LABELS, BANDS, 0)
    weights = {n: a for n, a in trained.state().items() if n.startswith("weights/")}
    card = ModelCard("torch", config, LABELS, BANDS, None, 1)
    saved_model.write(tmp_path / "model", card, weights)
    exported = export(tmp_path / "model", "openvino", tmp_path / "exported", score=False)
    scene = make_scene(tmp_path / "scene.tif", (90, 70, 3), nodata=0)
    predict(exported, scene, tmp_path / "map.tif")
    with served(create_app(load_model(exported))) as address:
        answer = requests.post(
            f"{address}/predict?format=geotiff",
            data=scene.read_bytes(),
            headers={"Content-Type": "image/tiff"},
            timeout=60,
        )
    assert answer.content == (tmp_path / "map.tif").read_bytes()
