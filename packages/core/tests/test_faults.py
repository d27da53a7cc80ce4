"""All rows of the table of faults, with the reference backend; see `terrazzo.testing.faults`."""

from __future__ import annotations

import pytest

from terrazzo.testing.faults import ROWS, Row, check_row
from terrazzo.testing.faults.recording import parameters, recorded


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize("row", parameters(pytest, "reference"))
def test_fault(row, tmp_path, shared, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    recorded(ROWS[row], tmp_path / "place", shared, "reference")


def nothing(place):
    pass


def says_nothing_of_files(place):
    place.expect(place.terrazzo("run", "--config", "gone.toml"), "SEG-X005", exit=2)


def says_another_code(place):
    with place.nothing_written():
        place.expect(place.terrazzo("run", "--config", "gone.toml"), "SEG-X006", exit=2)


def writes(place):
    with place.nothing_written():
        (place.folder / "litter").touch()


@pytest.mark.parametrize("check", [nothing, says_nothing_of_files, says_another_code, writes])
def test_a_row_that_does_not_look_at_all_of_it_does_not_pass(tmp_path, check):
    row = Row("Z01", "none", ("SEG-X005",), "L0", check)
    with pytest.raises(AssertionError):
        check_row(row, tmp_path, tmp_path, "reference")


def test_a_row_that_looks_at_all_of_it_passes(tmp_path):
    def whole(place):
        with place.nothing_written():
            says_nothing_of_files(place)

    row = Row("Z01", "none", ("SEG-X005",), "L0", whole)
    (told,) = check_row(row, tmp_path, tmp_path, "reference")
    assert told.startswith("SEG-X005: ")
