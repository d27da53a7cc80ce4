"""docs/faults.md lists the rows of the table of faults as they are now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from terrazzo.testing.faults import ROWS
from terrazzo.testing.faults.recording import in_order

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "faults.md").read_text("utf-8")


def tool():
    spec = importlib.util.spec_from_file_location("faults", ROOT / "tools" / "faults.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines_of(page):
    rows = [line.strip("| ").split(" | ") for line in page.splitlines()]
    return {cells[0]: cells for cells in rows if re.fullmatch(r"[A-Z]\d\d", cells[0])}


def test_the_page_lists_the_rows_there_are():
    found = lines_of(PAGE)
    assert list(found) == sorted(ROWS, key=in_order)
    for id_, (_, fault, seen, kept, *answers) in found.items():
        row = ROWS[id_]
        assert fault == tool().fault_text(row), "run `make faults`"
        assert kept == row.kept
        assert [code for code in row.codes if code not in seen] == []
        assert len(answers) == 3


def test_there_are_71_rows_and_the_page_names_no_place_of_a_machine():
    kinds = {letter: sum(id_[0] == letter for id_ in ROWS) for letter in "DXCRPS"}
    assert kinds == {"D": 36, "X": 3, "C": 14, "R": 10, "P": 6, "S": 2}
    assert not re.search(r"/tmp|/home|/work|/root|pytest-of", PAGE)


def test_a_page_of_other_rows_is_seen_to_be_stale():
    name = next(iter(ROWS))
    results = {"reference": {name: {"id": name, "passed": False, "shown": ["a|b <c>"]}}}
    page = tool().page(results)
    assert "**failed**" in page
    assert "a&#124;b &lt;c&gt;" in page
    assert page.count("not run") == len(ROWS) - 1
