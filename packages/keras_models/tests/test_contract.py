"""The contract of `terrazzo.testing.trainer_checks`, over every model of this backend."""

from itertools import product

import pytest

from terrazzo.testing.trainer_checks import CHECKS, Factory
from terrazzo_keras.backend import backend

KNOWN_GAPS: dict[tuple[str, str], str] = {}
"""Reason by (model, check): ours, upstream or never. A gap that is closed fails the suite."""

# Their encoders have one published size or a least width, and each check traces them at least once.
SLOW = {"deeplabv3plus", "inception_resnet_v2_unet", "keras_hub"}

CASES = [
    pytest.param(model, check, marks=[pytest.mark.slow] if model in SLOW else [])
    for model, check in product(backend.models(), CHECKS)
]


@pytest.mark.parametrize(("model", "check"), CASES)
def test_contract(model: str, check: str, request: pytest.FixtureRequest) -> None:
    if (model, check) in KNOWN_GAPS:
        request.applymarker(pytest.mark.xfail(reason=KNOWN_GAPS[model, check], strict=True))
    CHECKS[check](Factory.small(backend, model))


def test_suite_is_not_empty() -> None:
    assert {"unet", "segformer", "deeplabv3plus", "inception_resnet_v2_unet"} <= set(
        backend.models()
    )
    assert len(CHECKS) >= 19
    assert set(KNOWN_GAPS) <= set(product(backend.models(), CHECKS))
