from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from terrazzo.base.atomic_write import cut_file
from terrazzo.base.errors import CheckpointError, ResourceError
from terrazzo.base.json_files import append_json_line
from terrazzo.base.recipe import Config
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.runs import provenance, timing
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


@pytest.mark.parametrize(
    "changes",
    [
        {"validation": {"every_steps": 2}},
        {"validation": {"patience": 3}},
        {"validation": {"every_epochs": 2}},
        {"augment": {"noise": 0.1}},
        {"augment": {"flip_horizontal": 0.5}},
        {"augment": {"crop": [8, 8]}},
        {"data": {"format": "folder", "root": "elsewhere"}},
        {"training": {"steps": 3, "batch_size": 2}},
        {"model": {"name": "segformer"}},
        {"init": {"run": "another"}},
        {"seed": 1},
        {"backend": "keras"},
    ],
)
def test_resume_refuses_what_would_change_the_result(tmp_path, changes):
    path = tmp_path / "run"
    create_run(path, recipe(), LABELS, overwrite=False)
    with pytest.raises(CheckpointError, match="SEG-C011") as caught:
        reopen_run(path, recipe(**changes))
    assert next(iter(changes)) in caught.value.observed
    assert "--out DIR" in caught.value.next_step
    assert "[init]" not in caught.value.next_step


@pytest.mark.parametrize(
    "changes",
    [
        {"loader": {"threads": 5, "prefetch": 3}},
        {"validation": {"batch_size": 3}},
        {"log": {"every_steps": 3}},
        {"checkpoint": {"every_steps": 3, "keep": 5}},
        {"evaluation": {"boundary": True}},
        {"tracking": {"kind": ["tensorboard"]}},
        {"name": "another"},
    ],
)
def test_resume_allows_what_changes_no_result(tmp_path, changes):
    path = tmp_path / "run"
    create_run(path, recipe(), LABELS, overwrite=False)
    assert reopen_run(path, recipe(**changes)).path == path


@pytest.mark.parametrize("length", [{"steps": 4}, {"epochs": 4}])
def test_a_longer_run_is_a_new_one_that_begins_with_the_weights(tmp_path, length):
    path = tmp_path / "run"
    create_run(path, recipe(), LABELS, overwrite=False)
    with pytest.raises(CheckpointError, match="SEG-C011") as caught:
        reopen_run(path, recipe(training=length))
    assert f'[init] run = "{path}"' in caught.value.next_step
    # It is no advice where more has changed.
    with pytest.raises(CheckpointError) as caught:
        reopen_run(path, recipe(training=length, seed=5))
    assert "[init]" not in caught.value.next_step


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


def test_a_log_is_cut_back_or_made_and_never_lengthened(tmp_path):
    path = tmp_path / "log.jsonl"
    cut_file(path, 0)
    append_json_line(path, {"step": 1})
    length = path.stat().st_size
    append_json_line(path, {"step": 2})
    for most in (length, length + 100):
        cut_file(path, most)
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


def lines_of_time(start, *pairs):
    """Return lines as the train loop writes them: steps since `start`, seconds since."""
    return [
        {"step": start + steps, "seconds": seconds, "steps_per_second": steps / seconds}
        for steps, seconds in pairs
    ]


@pytest.mark.parametrize(
    ("entries", "seconds"),
    [
        ([], None),
        ([{"step": 1, "seconds_to_first_step": 3.0}], None),
        (lines_of_time(0, (10, 1.0), (20, 2.0)), 2.0),
        # Each section between validations is longer than the one before.
        (
            [
                *lines_of_time(0, (5, 1.0)),
                *lines_of_time(5, (5, 1.5)),
                *lines_of_time(10, (5, 2.0)),
            ],
            4.5,
        ),
        # A resume from the same step, and one before the first checkpoint.
        ([*lines_of_time(0, (5, 1.0)), *lines_of_time(0, (5, 0.9), (9, 2.0))], 3.0),
        (
            [
                *lines_of_time(0, (5, 1.0)),
                {"step": 1, "seconds_to_first_step": 1.1},
                *lines_of_time(0, (5, 1.5)),
            ],
            2.5,
        ),
        ([*lines_of_time(40, (3, 0.1), (7, 0.3)), {"tracker": "mlflow", "error": "x"}], 0.3),
    ],
)
def test_seconds_of_training_are_those_of_all_sections(entries, seconds):
    found = timing.training_seconds(entries)
    assert found == (None if seconds is None else pytest.approx(seconds))
