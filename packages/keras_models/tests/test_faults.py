"""The table of faults with this backend; see `terrazzo.testing.faults`."""

from pathlib import Path

import pytest

from terrazzo.testing.faults import ROWS
from terrazzo.testing.faults.recording import parameters, recorded


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("row", parameters(pytest, "keras"))
def test_fault(row: str, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "cache"))
    recorded(ROWS[row], tmp_path / "place", shared, "keras")
