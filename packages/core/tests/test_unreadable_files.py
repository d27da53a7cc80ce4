"""Files follow the umask, and those that this user may not read are called that, not missing."""

import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import CheckpointError, ResourceError
from terrazzo.base.recipe import Config
from terrazzo.evaluation import stored
from terrazzo.inference.model import load_model
from terrazzo.io import named_arrays
from terrazzo.runs.folder import RunFolder
from terrazzo.testing.dataset_trees import WRITERS
from terrazzo.workflows import train as train_workflow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("unreadable")
    WRITERS["camvid"](place / "camvid")
    recipe = Config.model_validate(
        {
            "backend": "reference",
            "data": {"format": "camvid", "root": str(place / "camvid")},
            "model": {"name": "pixel_softmax"},
            "training": {"steps": 2},
        }
    )
    train_workflow.train(recipe, place / "run")
    return place / "run"


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_every_file_of_a_run_follows_the_umask(finished, tmp_path, umask):
    recipe = RunFolder(finished).read_config()
    before = os.umask(umask)
    try:
        train_workflow.train(recipe, tmp_path / "run")
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert sum(path.suffix == ".safetensors" for path in files) >= 4
    modes = {str(path): oct(stat.S_IMODE(path.stat().st_mode)) for path in files}
    assert set(modes.values()) == {oct(0o666 & ~umask)}, modes


def test_arrays_replace_a_file_of_other_rights_and_leave_nothing_beside_it(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    path.chmod(0o400)
    before = os.umask(0o022)
    try:
        named_arrays.write(path, {"a": np.arange(6).reshape(2, 3).T}, {"names": "[]"})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]
    np.testing.assert_array_equal(named_arrays.read(path)["a"], np.arange(6).reshape(2, 3).T)
    assert named_arrays.read_metadata(path) == {"names": "[]"}


CASES = (
    ("evaluate", "model/weights.safetensors"),
    ("evaluate", "model/model.toml"),
    ("evaluate", "model/MANIFEST.json"),
    ("evaluate", "config.toml"),
    ("evaluate", "."),
    ("evaluate", "../camvid/test"),
    ("evaluate", "../camvid/test/test_1.png"),
    ("predict", "model/weights.safetensors"),
    ("predict", "model"),
    ("predict", "."),
    ("predict", "image.png"),
    ("compare", "evaluation/test.safetensors"),
    ("compare", "evaluation/test.json"),
    ("compare", "run.json"),
    ("resume", "checkpoints/step-000002/weights.safetensors"),
    ("resume", "checkpoints/step-000002/MANIFEST.json"),
    ("resume", "run.json"),
)

CHILD = """
import contextlib, io, json, os, sys
from pathlib import Path
from terrazzo.cli.app import main

told = []
for command, words, file in json.loads(sys.argv[1]):
    mode = os.stat(file).st_mode
    os.chmod(file, 0)
    sys.argv = ["terrazzo", *words]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            main()
    except SystemExit as end:
        told.append((end.code, errors.getvalue()))
    except BaseException as error:
        told.append((1, f"Traceback: {error!r}"))
    finally:
        os.chmod(file, mode)
print(json.dumps(told))
"""


def _without_the_rights_of_root():
    """Make mode bits count for root too; does nothing for others, for whom they do anyway."""
    drop_of_bounding_set, override, read_and_search = 24, 1, 2
    prctl = ctypes.CDLL(None).prctl
    prctl(drop_of_bounding_set, override, 0, 0, 0)
    prctl(drop_of_bounding_set, read_and_search, 0, 0, 0)


@pytest.fixture(scope="module")
def answers(finished, tmp_path_factory):
    """What each command says where it may not read one file: code and errors."""
    place = tmp_path_factory.mktemp("answers")
    run = shutil.copytree(finished, place / "copy")
    shutil.copytree(finished.parent / "camvid", place / "camvid")
    config = (run / "config.toml").read_text()
    moved = config.replace(str(finished.parent / "camvid"), str(place / "camvid"))
    (run / "config.toml").write_text(moved)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(run / "image.png")
    words = {
        "evaluate": ("evaluate", run),
        "predict": ("predict", run, run / "image.png", "--out", place / "maps"),
        "compare": ("compare", run, finished, "--out", place / "page.html"),
        "resume": ("run", "--config", run / "config.toml", "--out", run, "--resume"),
    }
    cases = [(command, words[command], run / file) for command, file in CASES]
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(cases, default=str)],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_without_the_rights_of_root,
    )
    assert answer.returncode == 0, answer.stderr
    return dict(zip(CASES, json.loads(answer.stdout.splitlines()[-1]), strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="rights are taken from root by prctl")
@pytest.mark.parametrize("case", CASES)
def test_a_file_that_may_not_be_read_is_called_that(answers, case):
    code, told = answers[case]
    assert "Permission denied" in told or "is not readable" in told, told  # the latter is typer's
    assert "Traceback" not in told
    assert "o such file" not in told
    file = case[1]
    assert (Path(file).name or "copy") in told
    assert code in (2, 3, 5)


def test_a_folder_in_the_place_of_a_file_is_named(run):
    for name in ("weights.safetensors", "model.toml", "MANIFEST.json"):
        path = run / "model" / name
        path.rename(run / "kept")
        path.mkdir()
        with pytest.raises((CheckpointError, ResourceError), match="Is a directory") as caught:
            load_model(run)
        assert str(path) in str(caught.value)
        path.rmdir()
        (run / "kept").rename(path)
    load_model(run)
    path = run / "evaluation/test.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(ResourceError, match="Is a directory"):
        stored.read(RunFolder(run))
