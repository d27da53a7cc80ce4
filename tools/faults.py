"""Run the table of faults with each backend and write docs/faults.md (`make faults`).

    python tools/faults.py               all rows, one process for each backend
    python tools/faults.py --from DIR    write the page from the results of an earlier run in DIR

Results are lines of JSON, one for each row, as `terrazzo.testing.faults.recording` writes them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from terrazzo.testing.faults import KEPT, ROWS, Row
from terrazzo.testing.faults.recording import VARIABLE, in_order

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "faults.md"
TESTS = {
    "reference": "packages/core/tests/test_faults.py",
    "torch": "packages/torch_models/tests/test_faults.py",
    "keras": "packages/keras_models/tests/test_faults.py",
}
_LONGEST = 160
"""Characters of a message."""

Results = dict[str, dict[str, dict[str, Any]]]
"""By backend and row."""


def main() -> None:
    """Run what is asked for and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--from", dest="folder", type=Path, help="results of an earlier run")
    given = parser.parse_args()
    if given.folder is not None:
        PAGE.write_text(page(read(given.folder)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as name:
        for backend in TESTS:
            run(backend, Path(name))
        PAGE.write_text(page(read(Path(name))), encoding="utf-8")


def run(backend: str, folder: Path) -> None:
    """Check all rows with one backend, slow ones too."""
    command = [sys.executable, "-m", "pytest", "-q", TESTS[backend]]
    environment = {**os.environ, VARIABLE: str(folder / f"{backend}.jsonl")}
    subprocess.run(command, cwd=ROOT, env=environment, check=False)  # noqa: S603


def read(folder: Path) -> Results:
    """Return the last result of each row."""
    found: Results = {}
    for backend in TESTS:
        path = folder / f"{backend}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found[backend] = {each["id"]: each for each in map(json.loads, lines)}
    return found


def page(results: Results) -> str:
    """Return the page."""
    rows = [ROWS[id_] for id_ in sorted(ROWS, key=in_order)]
    passed = {
        backend: sum(bool(result.get("passed")) for result in found.values())
        for backend, found in results.items()
    }
    totals = ", ".join(f"{backend} {count} of {len(rows)}" for backend, count in passed.items())
    lines = [
        "# Faults: what the user sees and what is kept",
        "",
        "Each row plants a fault for real, runs the commands, and passes if the exit code, the",
        "code, the path and the observed value in the message are right, what must be kept is",
        "there, the error comes in time, and there is no traceback. `make faults` writes this;",
        "the rows are in `packages/core/src/terrazzo/testing/faults/`.",
        "",
        f"Rows that pass: {totals}.",
        "",
        "What is kept: " + "; ".join(f"**{key}** {text}" for key, text in KEPT.items()) + ".",
        "",
        f"| | fault | what the user sees | kept | {' | '.join(results)} |",
        f"|---|---|---|---|{'---|' * len(results)}",
        *(_line(row, results) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def fault_text(row: Row) -> str:
    """Return what stands in the column of the fault."""
    return _cell(row.fault + (f" ({row.note})" if row.note else ""))


def _line(row: Row, results: Results) -> str:
    shown: list[str] = next(
        (found[row.id]["shown"] for found in results.values() if row.id in found), []
    )
    seen = "<br>".join(_cell(line[:_LONGEST]) for line in shown) or "it works"
    answers = [_answer(row, backend, found) for backend, found in results.items()]
    return f"| {row.id} | {fault_text(row)} | {seen} | {row.kept} | {' | '.join(answers)} |"


def _answer(row: Row, backend: str, found: dict[str, dict[str, Any]]) -> str:
    if backend in row.failing:
        return f"fails: {_cell(row.failing[backend])}"
    result = found.get(row.id)
    return "not run" if result is None else "passed" if result["passed"] else "**failed**"


def _cell(text: str) -> str:
    for sign in ("\\", "|", "<", ">", "*", "_", "[", "]", "`", "$"):
        text = text.replace(sign, {"|": "&#124;", "<": "&lt;", ">": "&gt;"}.get(sign, f"\\{sign}"))
    return text


if __name__ == "__main__":
    main()
