"""The contract suite: the reference passes it, and every check catches its faulty_backends."""

import pytest

from terrazzo.base.recipe import ModelConfig
from terrazzo.testing import trainer_checks
from terrazzo.testing.faulty_backends import FAULTY_BACKENDS, Building
from terrazzo.testing.reference.backend import ReferenceBackend, backend
from terrazzo.testing.reference.models import pixel_softmax
from terrazzo.testing.trainer_checks import CHECKS, Factory

FEATURES = ("colour", "neighbourhood")


def _factory(tested: ReferenceBackend, features: str = "neighbourhood") -> Factory:
    model = ModelConfig(name="pixel_softmax", options={"features": features})
    return Factory(tested, model, size=16)


def _name(faulty: ReferenceBackend) -> str:
    kind = faulty.trainer if isinstance(faulty, Building) else type(faulty)
    return kind.__name__


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("features", FEATURES)
def test_reference_passes(features: str, check: str) -> None:
    CHECKS[check](_factory(backend, features))


@pytest.mark.parametrize(
    ("check", "faulty"),
    [(check, faulty) for check, several in FAULTY_BACKENDS.items() for faulty in several],
    ids=lambda value: value if isinstance(value, str) else _name(value),
)
def test_faulty_is_caught(check: str, faulty: ReferenceBackend) -> None:
    with pytest.raises(AssertionError):
        CHECKS[check](_factory(faulty))


def test_every_check_has_a_faulty_one() -> None:
    caught_by = {check for check, several in FAULTY_BACKENDS.items() if several}
    assert caught_by == set(CHECKS)


def test_every_faulty_in_the_module_is_used() -> None:
    from terrazzo.testing import faulty_backends

    written = {
        name
        for name, kind in vars(faulty_backends).items()
        if isinstance(kind, type) and kind.__module__ == faulty_backends.__name__
    }
    used = {_name(faulty) for several in FAULTY_BACKENDS.values() for faulty in several}
    assert used == written - {"Building"}


def test_every_check_in_the_module_is_run() -> None:
    written = {name for name in vars(trainer_checks) if name.startswith("check_")}
    assert len(written) >= 20
    assert written == {f"check_{name}" for name in CHECKS}


def test_small_form_is_found_by_name() -> None:
    factory = Factory.small(backend, "pixel_softmax")
    assert factory.model.options == pixel_softmax.SMALL.model_dump()
