"""The data-set contract: every format passes it, and every check catches its saboteurs."""

from __future__ import annotations

import pytest

from terrazzo import datasets
from terrazzo.testing import dataset_checks, dataset_saboteurs
from terrazzo.testing.dataset_checks import CHECKS, Open, Subject
from terrazzo.testing.dataset_saboteurs import SABOTEURS
from terrazzo.testing.dataset_trees import WRITERS


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", WRITERS)
def test_format_passes(tmp_path, name: str, check: str) -> None:
    CHECKS[check](Subject(WRITERS[name], tmp_path))


@pytest.mark.parametrize(
    ("check", "saboteur"),
    [(check, saboteur) for check, several in SABOTEURS.items() for saboteur in several],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_saboteur_is_caught(tmp_path, check: str, saboteur: Open) -> None:
    with pytest.raises(AssertionError):
        CHECKS[check](Subject(WRITERS["gta5"], tmp_path, saboteur))


def test_every_format_of_pictures_has_a_tree() -> None:
    # demo and geotiff cut scenes into chips: nothing there is one file a picture. street draws its
    # own pictures.
    assert set(WRITERS) == set(datasets.formats()) - {"demo", "geotiff", "street"}


def test_every_check_has_a_saboteur_and_is_run() -> None:
    written = {name for name in vars(dataset_checks) if name.startswith("check_")}
    assert len(written) >= 14
    assert written == {f"check_{name}" for name in CHECKS}
    assert {check for check, several in SABOTEURS.items() if several} == set(CHECKS)


def test_every_saboteur_in_the_module_is_used() -> None:
    written = {
        name
        for name, thing in vars(dataset_saboteurs).items()
        if getattr(thing, "__module__", "") == dataset_saboteurs.__name__ and name[0] != "_"
    }
    used = {saboteur.__name__ for several in SABOTEURS.values() for saboteur in several}
    assert used == written - {"reading", "splitting"}
