"""What ``terrazzo list models`` says is what the models are."""

import importlib
import math

import pytest

from terrazzo import model_facts
from terrazzo_keras.backend import backend


@pytest.mark.parametrize("model", backend.models())
def test_listed_number_is_that_of_the_network(model):
    facts = model_facts.read("keras", model)
    assert facts is not None
    (variant,) = facts.variants.values()
    file = importlib.import_module(f"terrazzo_keras.models.{model}")
    network = file.build(file.Options(), 3, 21)
    count = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    assert count == variant.parameters
