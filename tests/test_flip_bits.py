"""Every damaged file of a checkpoint and of a model folder is found: the sweep, in short."""

import importlib.util
import json
from pathlib import Path

import pytest

from terrazzo.base.errors import CheckpointError

SCRIPT = Path(__file__).parents[1] / "tools/sweeps/flip_bits.py"


@pytest.fixture(scope="module")
def sweep():
    spec = importlib.util.spec_from_file_location("flip_bits", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["checkpoint", "model"])
def made(request, sweep, tmp_path):
    return sweep.KINDS[request.param](tmp_path / "made")


def test_drawn_points_are_found(sweep, made):
    folder, load = made
    for path, content in sweep.points(folder, 60, seed=1):
        good = path.read_bytes()
        assert sweep.is_found(path, content, load), (path.name, content)
        assert path.read_bytes() == good
    load()


def test_the_first_and_last_bits_of_every_file_are_found(sweep, made):
    folder, load = made
    files = sorted(folder.iterdir())
    assert {"MANIFEST.json", "weights.safetensors"} < {path.name for path in files}
    for path in files:
        content = path.read_bytes()
        for bit in (*range(8), *range(8 * len(content) - 8, 8 * len(content))):
            assert sweep.is_found(path, sweep.flipped(content, bit), load), (path.name, bit)
        for other in (b"", content[:-1], content + b"\n", content + b"\0"):
            assert sweep.is_found(path, other, load), (path.name, len(other))


def test_every_bit_of_the_manifest_is_found(sweep, made):
    folder, load = made
    path = folder / "MANIFEST.json"
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        assert sweep.is_found(path, sweep.flipped(content, bit), load), bit


def test_the_error_names_the_file_and_both_sums(sweep, made):
    folder, load = made
    path = folder / "weights.safetensors"
    listed = json.loads((folder / "MANIFEST.json").read_text())["files"][path.name]["sha256"]
    path.write_bytes(sweep.flipped(path.read_bytes(), 8 * path.stat().st_size - 2))
    with pytest.raises(CheckpointError, match="SEG-C006") as caught:
        load()
    assert str(path) in str(caught.value)
    assert listed in str(caught.value.allowed)
    assert listed not in str(caught.value.observed)


def test_the_sweep_ends_with_1_where_one_is_not_found(sweep, monkeypatch, capsys):
    arguments = ["flip_bits.py", "--kind", "model", "--points", "5"]
    monkeypatch.setattr("sys.argv", arguments)
    assert sweep.main() == 0
    assert "model: 5/5 found" in capsys.readouterr().out
    monkeypatch.setattr(sweep, "damaged", lambda content, *_: content)
    assert sweep.main() == 1
    assert "model: 0/5 found" in capsys.readouterr().out
