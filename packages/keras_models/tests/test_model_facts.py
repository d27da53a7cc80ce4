"""What ``terrazzo list models`` says is what the models are."""

import importlib
import math

import pytest

from terrazzo.models import catalog
from terrazzo_keras.backend import backend

VARIANTS = [
    (model, variant)
    for model in backend.models()
    if model != "keras_hub"  # of any size, by its own config
    for variant in catalog.read("keras", model).variants
]


@pytest.mark.parametrize(("model", "variant"), VARIANTS)
def test_listed_number_is_that_of_the_network(model, variant):
    facts = catalog.read("keras", model)
    file = importlib.import_module(f"terrazzo_keras.models.{model}")
    options = file.Options(**({facts.option: variant} if facts.option else {}))
    network = file.build(options, 3, 21)
    count = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    assert count == facts.variants[variant].parameters
