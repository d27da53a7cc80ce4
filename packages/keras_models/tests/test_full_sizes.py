"""The published sizes build, take one step and predict on a CPU.

Minutes for the largest where a graph is traced first; seconds with ``KERAS_BACKEND=torch``.
"""

import numpy as np
import pytest

from terrazzo.base.recipe import ModelConfig
from terrazzo.models import catalog
from terrazzo.testing.trainer_checks import ADAMW, TWO_COLOURS
from terrazzo_keras.backend import backend

VARIANTS = [
    (model, variant)
    for model in backend.models()
    if model != "keras_hub"  # of any size, by its own config
    for variant in catalog.read("keras", model).variants
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "variant"), VARIANTS)
def test_one_step_and_a_prediction(model, variant):
    facts = catalog.read("keras", model)
    options = {facts.option: variant} if facts.option else {}
    bands, labels = TWO_COLOURS.bands, TWO_COLOURS.labels
    trainer = backend.build(ModelConfig(name=model, options=options), ADAMW, labels, bands, 0)
    batch = TWO_COLOURS.batch(48, 70, count=2)
    before = trainer.predict(batch.images_BHWC)
    assert 0 < trainer.train_step(batch, 1e-3).loss < 100
    after = trainer.predict(batch.images_BHWC)
    assert after.shape == (2, 48, 70, 2)
    assert np.isfinite(after).all()
    assert not np.array_equal(before, after)
