"""All rows of the table of faults, with the reference backend; see `terrazzo.testing.faults`."""

from __future__ import annotations

import pytest

from terrazzo.testing.faults import ROWS
from terrazzo.testing.faults.recording import parameters, recorded


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize("row", parameters("reference"))
def test_fault(row, tmp_path, shared, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    recorded(ROWS[row], tmp_path / "place", shared, "reference")
