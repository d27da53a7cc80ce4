"""The data-set contract: every format passes it, and every check catches its faulty_backends."""

from __future__ import annotations

import pytest

from terrazzo.data import datasets
from terrazzo.testing import annotation_trees, dataset_checks, faulty_datasets
from terrazzo.testing.dataset_checks import CHECKS, Open, Subject
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.testing.faulty_datasets import FAULTY_DATASETS


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", WRITERS)
def test_format_passes(tmp_path, name: str, check: str) -> None:
    CHECKS[check](Subject(WRITERS[name], tmp_path))


@pytest.mark.parametrize(
    ("check", "faulty"),
    [(check, faulty) for check, several in FAULTY_DATASETS.items() for faulty in several],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_faulty_is_caught(tmp_path, check: str, faulty: Open) -> None:
    with pytest.raises(AssertionError):
        CHECKS[check](Subject(WRITERS["gta5"], tmp_path, faulty))


def test_every_format_of_images_has_a_tree() -> None:
    # demo and geotiff cut scenes into chips: nothing there is one file an image. street draws its
    # own images. Formats of labelling tools have theirs in annotation_trees.
    assert set(WRITERS) | set(annotation_trees.WRITERS) == set(datasets.formats()) - {
        "demo",
        "geotiff",
        "street",
    }


def test_every_check_has_a_faulty_and_is_run() -> None:
    written = {name for name in vars(dataset_checks) if name.startswith("check_")}
    assert len(written) >= 14
    assert written == {f"check_{name}" for name in CHECKS}
    assert {check for check, several in FAULTY_DATASETS.items() if several} == set(CHECKS)


def test_every_faulty_in_the_module_is_used() -> None:
    written = {
        name
        for name, thing in vars(faulty_datasets).items()
        if getattr(thing, "__module__", "") == faulty_datasets.__name__ and name[0] != "_"
    }
    used = {faulty.__name__ for several in FAULTY_DATASETS.values() for faulty in several}
    assert used == written - {"reading", "splitting"}
