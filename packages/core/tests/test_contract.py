"""The contract suite: the reference passes it, and every check catches its saboteurs."""

import pytest

from terrazzo.config import ModelConfig
from terrazzo.testing import trainer_checks
from terrazzo.testing.reference.backend import ReferenceBackend, backend
from terrazzo.testing.reference.models import pixel_softmax
from terrazzo.testing.saboteurs import SABOTEURS, Building
from terrazzo.testing.trainer_checks import CHECKS, Factory

FEATURES = ("colour", "neighbourhood")


def _factory(tested: ReferenceBackend, features: str = "neighbourhood") -> Factory:
    model = ModelConfig(name="pixel_softmax", options={"features": features})
    return Factory(tested, model, size=16)


def _name(saboteur: ReferenceBackend) -> str:
    kind = saboteur.trainer if isinstance(saboteur, Building) else type(saboteur)
    return kind.__name__


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("features", FEATURES)
def test_reference_passes(features: str, check: str) -> None:
    CHECKS[check](_factory(backend, features))


@pytest.mark.parametrize(
    ("check", "saboteur"),
    [(check, saboteur) for check, several in SABOTEURS.items() for saboteur in several],
    ids=lambda value: value if isinstance(value, str) else _name(value),
)
def test_saboteur_is_caught(check: str, saboteur: ReferenceBackend) -> None:
    with pytest.raises(AssertionError):
        CHECKS[check](_factory(saboteur))


def test_every_check_has_a_saboteur() -> None:
    caught_by = {check for check, several in SABOTEURS.items() if several}
    assert caught_by == set(CHECKS)


def test_every_saboteur_in_the_module_is_used() -> None:
    from terrazzo.testing import saboteurs

    written = {
        name
        for name, kind in vars(saboteurs).items()
        if isinstance(kind, type) and kind.__module__ == saboteurs.__name__
    }
    used = {_name(saboteur) for several in SABOTEURS.values() for saboteur in several}
    assert used == written - {"Building"}


def test_every_check_in_the_module_is_run() -> None:
    written = {name for name in vars(trainer_checks) if name.startswith("check_")}
    assert len(written) >= 20
    assert written == {f"check_{name}" for name in CHECKS}


def test_small_form_is_found_by_name() -> None:
    factory = Factory.small(backend, "pixel_softmax")
    assert factory.model.options == pixel_softmax.SMALL.model_dump()
