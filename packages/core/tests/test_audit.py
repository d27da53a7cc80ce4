"""Loading runs nothing, asks nobody and reads nothing else; SECURITY.md says so."""

import pickle
import shutil
import socket
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np

from terrazzo.evaluation import stored
from terrazzo.inference.model import load_model
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder
from terrazzo.testing import audit
from terrazzo.testing.scenes import make_model


def test_loading_a_model_does_nothing_else(tmp_path):
    folder = make_model(tmp_path / "model")
    with audit.refused(folder) as seen:
        model = load_model(folder)
        model.predict(np.zeros((8, 8, 3), np.uint8))
    assert seen == []


def test_reading_a_checkpoint_does_nothing_else(tmp_path):
    checkpoint.write(tmp_path, 3, {"weights/a": np.zeros(4), "optimizer/a": np.zeros(4)}, {})
    with audit.refused(tmp_path) as seen:
        newest, _ = checkpoint.latest(tmp_path)
        newest.state()
    assert seen == []


def test_reading_a_run_does_nothing_else(tmp_path):
    run = Path(__file__).parents[3] / "tests/stored_runs/reference"
    shutil.copytree(run, tmp_path / "run")
    with audit.refused(tmp_path / "run") as seen:
        record = stored.read(RunFolder(tmp_path / "run"))
    assert record.scored
    assert seen == []


def test_what_must_not_happen_is_seen(tmp_path):
    """Each thing that the tests above look for, done on purpose."""
    folder, other = tmp_path / "model", tmp_path / "other"
    folder.mkdir()
    other.write_text("secret")
    source = "harmless = 'a line of python'"
    (folder / "code.py").write_text(source)
    (folder / "data.pkl").write_bytes(pickle.dumps(OrderedDict(a=1)))
    with audit.refused(folder) as seen:
        pickle.loads((folder / "data.pkl").read_bytes())
        exec(compile(source, str(folder / "code.py"), "exec"), {})
        other.read_text()
        (folder / "new").write_text("written")
        with socket.socket() as client:
            client.settimeout(0.2)
            client.connect_ex(("127.0.0.1", 9))
        subprocess.run([sys.executable, "-c", ""], check=True)
    told = "\n".join(seen)
    for event in ("pickle.find_class", "compile", "exec ", "socket.connect", "subprocess.Popen"):
        assert event in told, event
    assert f"open {other}" in told
    assert f"open {folder / 'new'} to write" in told
    before = list(seen)
    other.read_text()
    assert seen == before  # it is over
