from __future__ import annotations

import json
import os
import random
import resource
import shutil

import numpy as np
import pytest

from terrazzo.base.errors import CheckpointError, ResourceError
from terrazzo.runs import checkpoint, manifest

STATE = {
    "weights/a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "weights/scalar": np.float32(3.5) * np.ones(()),
    "optimizer/step": np.array(7),
}


def save(folder, step):
    return checkpoint.write(folder, step, STATE, {"scores": [[1, 0.1 + 0.2]]})


def test_what_is_written_reads_back_bit_for_bit(tmp_path):
    save(tmp_path, 12)
    read = checkpoint.read(tmp_path, 12)
    assert read.record == {"scores": [[1, 0.1 + 0.2]]}
    assert read.state().keys() == STATE.keys()
    for name, array in read.state().items():
        np.testing.assert_array_equal(array, STATE[name], strict=True)
    assert read.weights().keys() == {"weights/a", "weights/scalar"}


def test_the_latest_is_the_highest_step_whatever_the_clock_says(tmp_path):
    for step in (9, 100, 20):
        save(tmp_path, step)
    os.utime(tmp_path / "step-000009", (2e9, 2e9))
    newest, passed_over = checkpoint.latest(tmp_path)
    assert newest.step == 100
    assert passed_over == []


def test_no_checkpoint_is_no_error(tmp_path):
    assert checkpoint.latest(tmp_path / "nothing") == (None, [])


def test_every_flipped_bit_is_found_and_the_older_checkpoint_is_used(tmp_path):
    save(tmp_path, 1)
    folder = save(tmp_path, 2).folder
    draw = random.Random(0)
    files = sorted(folder.iterdir())
    assert len(files) == 4
    for _ in range(200):
        path = draw.choice(files)
        good = path.read_bytes()
        bad = bytearray(good)
        place = draw.randrange(len(bad))
        bad[place] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        newest, passed_over = checkpoint.latest(tmp_path)
        assert newest.step == 1
        assert passed_over[0].code == "SEG-C006"
        assert str(folder) in str(passed_over[0])
        path.write_bytes(good)


def as_in_0_1(folder):
    """Give a folder the manifest that version 0.1 wrote; return its path and content."""
    path = folder / "MANIFEST.json"
    table = json.loads(path.read_text())
    del table["manifest_sha256"]
    path.write_text(json.dumps(table, indent=1) + "\n")
    return path, table


def test_a_manifest_without_a_sum_of_its_own_is_read(tmp_path):
    path, table = as_in_0_1(save(tmp_path, 2).folder)
    assert checkpoint.read(tmp_path, 2).step == 2
    table["files"]["weights.safetensors"]["sha256"] = "0" * 64
    path.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=r"SEG-C006.*\n.*weights.safetensors"):
        checkpoint.read(tmp_path, 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Expecting value"),
        ("[]", "a list where an object"),
        ("7", "a int where an object"),
        ('{"format": "1"}', "the keys format"),
        ('{"format": 1, "step": 2}', "the keys format, step"),
        ('{"step": 2, "files": {}}', "no key 'format'"),
        ('{"format": 1, "step": 2, "files": []}', "'list'"),
        ('{"format": 1, "step": 2, "files": {}, "files": {}}', "'files' stands there 2 times"),
        ("[" * 9999, "nested too deeply"),
    ],
)
def test_a_manifest_of_another_shape_is_damage(tmp_path, text, told):
    (save(tmp_path, 2).folder / "MANIFEST.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"SEG-C006.*\n.*MANIFEST.json") as caught:
        checkpoint.read(tmp_path, 2)
    assert told in str(caught.value)
    assert "Error:" not in str(caught.value)


def test_a_manifest_names_files_beside_it_only(tmp_path):
    path, table = as_in_0_1(save(tmp_path, 2).folder)
    table["files"]["../secret"] = table["files"]["record.json"]
    path.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=r"SEG-C006[^$]*\.\./secret"):
        checkpoint.read(tmp_path, 2)


@pytest.mark.parametrize("damage", ["truncate", "append", "delete"])
@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "record.json"])
def test_a_cut_longer_or_missing_file_is_found(tmp_path, damage, name):
    path = save(tmp_path, 2).folder / name
    match damage:
        case "truncate":
            path.write_bytes(path.read_bytes()[:-1])
        case "append":
            path.write_bytes(path.read_bytes() + b"\0")
        case "delete":
            path.unlink()
    with pytest.raises(CheckpointError, match="SEG-C006"):
        checkpoint.read(tmp_path, 2)


def test_a_newer_format_asks_for_an_upgrade(tmp_path):
    save(tmp_path, 1)
    path, table = as_in_0_1(save(tmp_path, 2).folder)
    path.write_text(json.dumps({**table, "format": 2}))
    with pytest.raises(CheckpointError, match="format 2") as caught:
        checkpoint.latest(tmp_path)
    assert "upgrade" in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        {"format": 2, "step": 2, "files": {}, "compression": "zstd"},
        {"format": 3, "chunks": {}},
    ],
)
def test_a_newer_format_with_other_things_in_it_is_no_damage(tmp_path, table):
    folder = save(tmp_path, 2).folder
    (folder / "MANIFEST.json").write_bytes(manifest._text(table))
    with pytest.raises(CheckpointError, match="SEG-C007"):
        checkpoint.read(tmp_path, 2)


def test_a_copied_checkpoint_is_still_valid(tmp_path):
    save(tmp_path / "here", 3)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    assert checkpoint.latest(tmp_path / "there")[0].step == 3


def test_sweep_keeps_the_newest_and_the_best_and_clears_leftovers(tmp_path):
    for step in range(1, 6):
        save(tmp_path, step)
    (tmp_path / "step-000006.tmp-77").mkdir()
    checkpoint.sweep(tmp_path, keep=2, also=1)
    assert checkpoint.found(tmp_path) == [1, 4, 5]
    assert not list(tmp_path.glob("*.tmp-*"))


def test_a_full_disk_leaves_the_older_checkpoint_and_no_rubbish(tmp_path):
    """A limit on the file size stands in for the disk: the kernel answers a write with an error."""
    save(tmp_path, 1)
    big = {"weights/big": np.zeros(1 << 20, np.float32)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(ResourceError, match="SEG-R004") as caught:
            checkpoint.write(tmp_path, 2, big, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    message = str(caught.value)
    assert "step-000002" in message
    assert "4.2 MB" in message
    assert "free on this disk" in message
    assert caught.value.exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert checkpoint.latest(tmp_path)[0].step == 1
