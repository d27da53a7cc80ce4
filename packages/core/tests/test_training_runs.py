"""`terrazzo run` as a function: what is scored, what is locked, what is kept of time and noise."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import terrazzo
from terrazzo.base.errors import ResourceError
from terrazzo.base.file_lock import locked
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config
from terrazzo.comparison import compare
from terrazzo.data import datasets
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.evaluation import result
from terrazzo.models import backends
from terrazzo.runs import checkpoint, saved_model
from terrazzo.runs.folder import RunFolder
from terrazzo.runs.provenance import source_state
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

LABELS = """
name = "brightness"
classes = [
    { name = "dark", colour = "#FF0000", raw = [0] },
    { name = "bright", colour = "#00FF00", raw = [1] },
]
"""


def write_images(root, dtype=np.uint8, factor=1):
    """Write twelve images whose brightness tells the class, and their label map."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        mask = draw.integers(0, 2, (16, 12)).astype(np.uint8)
        image = (mask * 120 + draw.integers(0, 90, mask.shape)) * factor
        Image.fromarray(image.astype(dtype)).save(root / "images" / f"{number:02d}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:02d}.png")
    (root / "labels.toml").write_text(LABELS)


def recipe(root, **changes):
    values = {
        "backend": "reference",
        "name": "brightness",
        "data": {
            "format": "folder",
            "root": str(root),
            "labels": str(root / "labels.toml"),
            "options": {"split": {"train": 0.5, "val": 0.25, "test": 0.25}},
        },
        "loader": {"threads": 0},
        "model": {"name": "pixel_softmax"},
        "training": {"epochs": 4, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
        "validation": {"every_steps": 1},
        **changes,
    }
    return Config.model_validate(values)


def counts_of(folder, config, step, split):
    """Score the weights of one checkpoint on a split."""
    trainer = saved_trainer(config)
    trainer.load_state(checkpoint.read(folder.checkpoints, step).weights())
    return evaluation_loop.evaluate(
        trainer, split, config.data, config.loader, batch_size=4, step=step, progress=Silent()
    ).counts_NKK


def saved_trainer(config):
    card = saved_model.read_card(Path(config.data.root).parent / "run" / "model")
    backend = backends.load("reference")
    return backend.build(config.model, config.training, card.label_map, card.bands, 0)


def test_the_test_split_is_scored_with_the_best_epoch_and_not_the_last(tmp_path):
    write_images(tmp_path / "data")
    config = recipe(tmp_path / "data")
    # The longer it trains, the worse it does on labels that are the wrong way round.
    for name in ("val", "test"):
        split = datasets.open_split(config.data, name)
        for index in range(len(split)):
            path = split.source.files(index)[1]
            Image.fromarray(1 - np.asarray(Image.open(path))).save(path)

    finished = train(config, tmp_path / "run")
    folder = finished.folder
    best = max(
        (line for line in map(json.loads, folder.log.read_text().splitlines()) if "best" in line),
        key=lambda line: line["mean_iou"],
    )["step"]
    last = checkpoint.found(folder.checkpoints)[-1]
    assert best < last == 12
    test = datasets.open_split(config.data, "test")
    of_best, of_last = (counts_of(folder, config, step, test) for step in (best, last))
    assert not np.array_equal(of_best, of_last)

    summary = json.loads((folder.evaluation / "test.json").read_text())
    assert summary["step"] == finished.evaluation.step == best
    np.testing.assert_array_equal(result.read_counts(folder.evaluation, "test")[0], of_best)
    np.testing.assert_array_equal(finished.evaluation.counts_NKK, of_best)
    # Scored again from the model folder, it is the same model.
    np.testing.assert_array_equal(evaluate(folder.path).evaluation.counts_NKK, of_best)


def _hold(folder, ready, done):
    with locked(folder):
        ready.set()
        done.wait(60)


def test_a_run_and_its_resume_are_refused_while_another_process_works_there(tmp_path):
    write_images(tmp_path / "data")
    config = recipe(tmp_path / "data")
    out = tmp_path / "run"
    train(config, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(out, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        for arguments in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(ResourceError, match="SEG-C009") as caught:
                train(config, out, **arguments)
            assert f"process {other.pid} " in str(caught.value)
    finally:
        done.set()
        other.join(60)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {
        path for path in before if path.name != ".lock" and before[path] != after[path]
    } == set()
    train(config, out, resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"log": {"every_steps": 1000}},
        # Stopped early before the first line of the log.
        {"log": {"every_steps": 1000}, "validation": {"every_steps": 1, "patience": 1},
         "training": {"steps": 12, "schedule": {"learning_rate": 1e-9}}},
        {"training": {"steps": 1}},
    ],
)  # fmt: skip
def test_a_finished_run_knows_its_seconds_of_training(tmp_path, changes):
    write_images(tmp_path / "data")
    for name in ("a", "b"):
        train(recipe(tmp_path / "data", **changes), tmp_path / name)
    found = compare.compare([tmp_path / "a", tmp_path / "b"], resamples=10)
    for run in found.competitors:
        assert run.training_seconds is not None
        assert run.training_seconds > 0


@pytest.mark.parametrize("bits", [12, 16])
def test_noise_in_wide_types_teaches_what_it_teaches_in_8_bits(tmp_path, bits):
    """With shares of the type's range, 12 bits in uint16 drowned in noise."""
    factor = 2 ** (bits - 8)
    write_images(tmp_path / "8")
    write_images(tmp_path / "wide", np.uint16, factor)
    for name in ("8", "wide"):
        train(
            recipe(tmp_path / name, augment={"noise": 0.05}, log={"every_steps": 1}),
            tmp_path / f"run_{name}",
        )
    losses = [
        [
            line["loss"]
            for line in map(json.loads, RunFolder(tmp_path / name).log.read_text().splitlines())
            if "loss" in line
        ]
        for name in ("run_8", "run_wide")
    ]
    np.testing.assert_allclose(losses[0], losses[1], atol=0.02)


def test_the_record_of_a_run_names_version_and_commit_of_the_package(tmp_path, monkeypatch):
    """Those of the code that ran, whatever repository one stands in."""
    write_images(tmp_path / "data")
    (tmp_path / "elsewhere" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    train(recipe(tmp_path / "data"), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["terrazzo"] == importlib.metadata.version("terrazzo")
    own = source_state(Path(terrazzo.__file__).parent)
    assert {key: record[key] for key in own} == own


def test_what_is_notable_about_the_data_is_said_before_training(tmp_path):
    """The notes of the data set: here folders of patients and a file of another kind."""
    write_images(tmp_path / "data")
    for kind in ("images", "masks"):
        folder = tmp_path / "data" / kind
        for patient, numbers in {"p1": range(4), "p2": range(4, 8), "p3": range(8, 12)}.items():
            (folder / patient).mkdir()
            for number in numbers:
                (folder / f"{number:02d}.png").rename(folder / patient / f"{number:02d}.png")
    (tmp_path / "data" / "images" / "readme.txt").write_text("mine")
    said = []
    progress = SimpleNamespace(say=said.append, advance=Silent().advance)
    train(recipe(tmp_path / "data"), tmp_path / "run", progress=progress)
    notes = datasets.open_split(recipe(tmp_path / "data").data, "train").source.notes
    assert len(notes) >= 2
    assert set(notes) <= {line.removeprefix("note: ") for line in said}
    assert any("group" in line for line in said)
