"""The contract of `terrazzo.testing.trainer_checks`, over every model of this backend."""

from itertools import product

import pytest

from terrazzo.testing.trainer_checks import CHECKS, Factory
from terrazzo_keras.backend import backend

KNOWN_GAPS: dict[tuple[str, str], str] = {}
"""Reason by (model, check): ours, upstream or never. A gap that is closed fails the suite."""


SLOW_MODELS = {"inception_resnet_v2_unet"}
"""TensorFlow takes one to two minutes for their first step, and most checks build several."""


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=[pytest.mark.slow] * (m in SLOW_MODELS)) for m in backend.models()],
)
def test_contract(model: str, check: str, request: pytest.FixtureRequest) -> None:
    if (model, check) in KNOWN_GAPS:
        request.applymarker(pytest.mark.xfail(reason=KNOWN_GAPS[model, check], strict=True))
    CHECKS[check](Factory.small(backend, model))


def test_suite_is_not_empty() -> None:
    assert {"unet"} <= set(backend.models())
    assert len(CHECKS) >= 20
    assert set(KNOWN_GAPS) <= set(product(backend.models(), CHECKS))
