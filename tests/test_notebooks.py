"""The notebooks of docs/ run from the first cell to the last, in a folder of their own."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
where = {"metadata": {"path": "."}}
NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
"""


def execute(notebook, folder):
    """Run all cells in a kernel; Jupyter's own files go into `folder` as well."""
    return subprocess.run(
        [sys.executable, "-c", EXECUTE, str(notebook)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def test_there_are_two():
    assert [path.stem for path in NOTEBOOKS] == ["metrics_and_comparison", "own_images"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path):
    answer = execute(notebook, tmp_path)
    assert answer.returncode == 0, answer.stderr[-3000:]
    assert (tmp_path / "runs").is_dir()


def test_a_cell_that_fails_is_seen(tmp_path):
    broken = json.loads(NOTEBOOKS[0].read_text("utf-8"))
    cell = next(cell for cell in broken["cells"] if cell["cell_type"] == "code")
    cell["source"] = ["import terrazzo\n", "terrazzo.trian\n"]
    (tmp_path / "broken.ipynb").write_text(json.dumps(broken), "utf-8")
    answer = execute(tmp_path / "broken.ipynb", tmp_path)
    assert answer.returncode != 0
    assert "no attribute 'trian'" in answer.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_outputs_but_nothing_of_the_machine(notebook):
    text = notebook.read_text("utf-8")
    cells = json.loads(text)["cells"]
    assert any(cell.get("outputs") for cell in cells)
    assert not re.search(r"/(home|tmp|work|root|usr|Users)/|site-packages|\.venv", text)
    assert not any(output.get("name") == "stderr" for c in cells for output in c.get("outputs", ()))
    assert "execution" not in {key for cell in cells for key in cell["metadata"]}


def test_from_a_first_image_to_a_prediction_in_twelve_lines():
    cells = json.loads((FOLDER / "own_images.ipynb").read_text("utf-8"))["cells"]
    (cell,) = [c for c in cells if "first image to prediction" in c["metadata"].get("tags", ())]
    source = "".join(cell["source"])
    assert len([line for line in source.splitlines() if line.strip()]) <= 12
    called = {n.func.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)}
    assert {"open_dataset", "train", "load_model", "predict"} <= called
