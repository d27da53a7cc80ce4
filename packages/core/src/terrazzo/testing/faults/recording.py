"""The rows as pytest wants them, and what came of each as a line of JSON for `docs/faults.md`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from terrazzo.testing.faults import ROWS
from terrazzo.testing.faults.table import Row, check_row

VARIABLE = "TERRAZZO_FAULTS"
"""Of the environment: a file to which a line is appended for each row, where it is set."""


def parameters(pytest: Any, backend: str) -> list[Any]:
    """Return the ids of all rows with the marks of `pytest`, which this package does not import.

    Rows are slow that take more than ten seconds and, with a framework, those in which its arrays
    and devices play no part: they go through the same code as with the reference.
    """
    found = []
    for id_ in sorted(ROWS, key=in_order):
        row = ROWS[id_]
        marks = []
        if row.slow or (backend != "reference" and not row.frameworks):
            marks.append(pytest.mark.slow)
        if backend in row.failing:
            marks.append(pytest.mark.xfail(reason=row.failing[backend], strict=True))
        found.append(pytest.param(id_, id=id_, marks=marks))
    return found


def in_order(id_: str) -> tuple[int, str]:
    """Return what ids are sorted by."""
    return "DXCRPS".index(id_[0]), id_


def recorded(row: Row, folder: Path, shared: Path, backend: str) -> None:
    """Check a row and note what came of it."""
    line: dict[str, Any] = {"id": row.id, "backend": backend, "passed": False, "shown": []}
    try:
        line["shown"] = check_row(row, folder, shared, backend)
        line["passed"] = True
    finally:
        if path := os.environ.get(VARIABLE):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
