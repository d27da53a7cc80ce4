from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from terrazzo.base.atomic_write import append_json_line, truncate_file
from terrazzo.base.errors import CheckpointError, ResourceError
from terrazzo.base.recipe import Config
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.runs import provenance
from terrazzo.runs.folder import create_run, locked, reopen_run

LABELS = LabelMap("two", (LabelClass("a", "#000000", (0,)), LabelClass("b", "#FFFFFF", (1,))))


def recipe(**changes):
    values = {
        "backend": "torch",
        "name": "x",
        "data": {"format": "folder", "root": "d"},
        "model": {"name": "unet"},
        "training": {"steps": 3},
    }
    return Config.model_validate({**values, **changes})


def test_a_new_run_folder_holds_recipe_and_labels(tmp_path):
    folder = create_run(tmp_path / "run", recipe(), LABELS, overwrite=False)
    assert folder.read_config() == recipe()
    assert "colour" in folder.labels.read_text()


def test_an_existing_run_is_refused_then_overwritten(tmp_path):
    path = tmp_path / "run"
    create_run(path, recipe(), LABELS, overwrite=False)
    (path / "log.jsonl").write_text("old")
    with pytest.raises(CheckpointError, match="SEG-C002") as caught:
        create_run(path, recipe(), LABELS, overwrite=False)
    assert "--resume" in str(caught.value)
    assert (path / "log.jsonl").read_text() == "old"
    create_run(path, recipe(), LABELS, overwrite=True)
    assert not (path / "log.jsonl").exists()


def test_overwrite_deletes_run_folders_only(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="SEG-C003"):
        create_run(tmp_path, recipe(), LABELS, overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"SEG-R005.*\n.*file"):
        create_run(tmp_path / "file" / "run", recipe(), LABELS, overwrite=False)


def test_resume_refuses_another_recipe_and_lists_the_differences(tmp_path):
    path = tmp_path / "run"
    create_run(path, recipe(), LABELS, overwrite=False)
    changed = recipe(seed=5, training={"steps": 4})
    with pytest.raises(CheckpointError, match="SEG-C011") as caught:
        reopen_run(path, changed)
    assert "seed: 0 → 5" in str(caught.value)
    assert "training.steps: 3 → 4" in str(caught.value)


def test_resume_allows_other_threads(tmp_path):
    path = tmp_path / "run"
    create_run(path, recipe(), LABELS, overwrite=False)
    assert reopen_run(path, recipe(loader={"threads": 5})).path == path


def test_no_run_folder_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="SEG-C001"):
        reopen_run(tmp_path / "nothing", recipe())


def test_a_second_process_is_told_who_holds_the_run(tmp_path):
    folder = create_run(tmp_path / "run", recipe(), LABELS, overwrite=False)
    program = (
        "import sys; from pathlib import Path; from terrazzo.base.file_lock import locked\n"
        "with locked(Path(sys.argv[1])): pass"
    )
    command = [sys.executable, "-c", program, str(folder.path)]
    with locked(folder.path):
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "SEG-C009" in answer.stderr
    assert f"process {__import__('os').getpid()} " in answer.stderr
    assert subprocess.run(command, check=False).returncode == 0


def test_truncate_cuts_back_or_makes_the_log(tmp_path):
    path = tmp_path / "log.jsonl"
    truncate_file(path, 0)
    append_json_line(path, {"step": 1})
    length = path.stat().st_size
    append_json_line(path, {"step": 2})
    truncate_file(path, length)
    assert path.read_text() == '{"step": 1}\n'


def git(folder, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder):
    """Make a git repository with a package in it; returns the package."""
    package = folder / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return package


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_recorded_commit_is_that_of_the_code_and_not_of_the_working_directory(
    tmp_path, monkeypatch
):
    package = repository(tmp_path / "code")
    repository(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "notes.txt").write_text("one more file, so another commit")
    git(tmp_path / "elsewhere", "add", ".")
    git(tmp_path / "elsewhere", "commit", "-qm", "two")
    monkeypatch.chdir(tmp_path / "elsewhere")

    commit = git(tmp_path / "code", "rev-parse", "HEAD")
    assert commit != git(tmp_path / "elsewhere", "rev-parse", "HEAD")
    assert provenance.source_state(package) == {"git_commit": commit, "git_dirty": False}
    (tmp_path / "code" / "data.csv").write_text("no part of the code")
    assert provenance.source_state(package)["git_dirty"] is False
    (package / "new_model.py").write_text("")
    assert provenance.source_state(package) == {"git_commit": commit, "git_dirty": True}
    (package / "new_model.py").unlink()
    (package / "__init__.py").write_text("changed = True\n")
    assert provenance.source_state(package) == {"git_commit": commit, "git_dirty": True}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_an_ordinary_install_in_somebodys_repository_has_no_commit(tmp_path):
    repository(tmp_path)
    (tmp_path / ".gitignore").write_text(".venv\n")
    installed = tmp_path / ".venv" / "site-packages" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert provenance.source_state(installed) == {"git_commit": None, "git_dirty": None}
    assert provenance.source_state(Path(tmp_path.anchor)) == {"git_commit": None, "git_dirty": None}
