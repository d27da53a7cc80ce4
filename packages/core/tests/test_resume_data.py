"""A run goes on with the data it began with, or says what has changed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from terrazzo.base.errors import CheckpointError, Stopped
from terrazzo.base.recipe import Config
from terrazzo.io import images
from terrazzo.testing.reference.trainer import ReferenceTrainer
from terrazzo.workflows.evaluate import evaluate
from terrazzo.workflows.train import train

LABELS = 'name = "two"\n[[classes]]\nname = "{}"\ncolour = "#444444"\nraw = [{}]\n' + (
    '[[classes]]\nname = "cell"\ncolour = "#E69F00"\nraw = [{}]\n'
)


class Said(list):
    """Progress that remembers its lines."""

    def advance(self, done, total, text):
        pass

    def say(self, text):
        self.append(text)


def write_images(root, numbers, *, seed=0):
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng((seed, number))
        label = np.zeros((16, 16), np.uint8)
        label[4:12, rng.integers(1, 6) : 12] = 1
        noise = rng.integers(0, 40, (16, 16, 3))
        images.write_png(
            root / f"images/{number:02d}.png", (noise + 120 * label[..., None]).astype(np.uint8)
        )
        images.write_png(root / f"masks/{number:02d}.png", label)


def recipe(root):
    return Config.model_validate(
        {
            "backend": "reference",
            "name": "resumed",
            "data": {
                "format": "folder",
                "root": str(root),
                "labels": str(root / "two.toml"),
                "options": {"split": {"train": 0.5, "val": 0.25, "test": 0.25}},
            },
            "model": {"name": "pixel_softmax"},
            "training": {"batch_size": 2, "steps": 12, "schedule": {"learning_rate": 0.3}},
        }
    )


@pytest.fixture
def stopped(tmp_path):
    """A run that was stopped after four steps, and its data."""
    root = tmp_path / "data"
    write_images(root, range(12))
    (root / "two.toml").write_text(LABELS.format("ground", 0, 1))
    steps = []
    with pytest.raises(Stopped):
        train(
            recipe(root),
            tmp_path / "run",
            stop_requested=lambda: steps.append(1) or len(steps) == 4,
        )
    return root, tmp_path / "run"


def more_images(root):
    write_images(root, range(12, 42))


def other_contents(root):
    write_images(root, range(12), seed=1)


def inverted_masks(root):
    for path in (root / "masks").iterdir():
        images.write_png(path, 1 - images.read_label(path, "index"))


def swapped_raw_values(root):
    (root / "two.toml").write_text(LABELS.format("ground", 1, 0))


def renamed_class(root):
    (root / "two.toml").write_text(LABELS.format("soil", 0, 1))


CHANGES = {
    other_contents: "train: the contents of image files",
    inverted_masks: "train: the contents of label files",
    swapped_raw_values: "the raw values of its classes have changed",
    renamed_class: "classes: ground, cell → soil, cell",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_other_data_are_refused_by_name_or_noted(stopped, change):
    root, run = stopped
    change(root)
    with pytest.raises(CheckpointError, match="SEG-C015") as refused:
        train(recipe(root), run, resume=True)
    assert CHANGES[change] in str(refused.value)
    if change is renamed_class:  # its scores could not be put beside the earlier ones
        with pytest.raises(CheckpointError, match="SEG-C015"):
            train(recipe(root), run, resume=True, allow_changed_data=True)
        return
    said = Said()
    finished = train(recipe(root), run, resume=True, allow_changed_data=True, progress=said)
    assert any(CHANGES[change] in line for line in said)
    record = json.loads((run / "run.json").read_text())
    assert record["resumed"][0]["after_step"] == 4
    assert any(CHANGES[change] in line for line in record["resumed"][0]["changed"])
    assert finished.scores.classes_present == 2


def test_images_that_have_been_added_are_told_of_and_left_out(stopped):
    """A draw is kept, so images that are new belong to no split."""
    root, run = stopped
    more_images(root)
    words = f"30 images are in no split of the draw in {run / 'splits.json'} and left out"
    resumed, scored = Said(), Said()
    train(recipe(root), run, resume=True, progress=resumed)
    assert [line for line in resumed if line.startswith(f"{words} (12, 13, 14, …); start a new")]
    assert not any("changed" in line for line in resumed)
    finished = evaluate(run, progress=scored)
    assert len([line for line in scored if line.startswith(words)]) == 1
    assert len(finished.evaluation.names) == 3


def test_nothing_is_said_where_no_image_has_been_added(stopped):
    root, run = stopped
    resumed, scored = Said(), Said()
    train(recipe(root), run, resume=True, progress=resumed)
    evaluate(run, progress=scored)
    assert not any("left out" in line for line in [*resumed, *scored])


def test_the_same_data_in_another_place_go_on(stopped, tmp_path):
    root, run = stopped
    said = Said()
    train(recipe(root), run, resume=True, progress=said)
    assert not any("changed" in line for line in said)
    assert "resumed" not in json.loads((run / "run.json").read_text())


def test_more_images_in_a_listed_split_are_counted(tmp_path):
    root = tmp_path / "data"
    write_images(root, range(12))
    (root / "two.toml").write_text(LABELS.format("ground", 0, 1))

    def write_lists(training):
        for split, numbers in (("train", training), ("val", (6, 7)), ("test", (8, 9))):
            (root / f"{split}.txt").write_text("\n".join(f"{n:02d}" for n in numbers))

    write_lists(range(6))
    listed = recipe(root)
    lists = {split: f"{split}.txt" for split in ("train", "val", "test")}
    data = listed.data.model_copy(update={"options": {"lists": lists}})
    listed = listed.model_copy(update={"data": data})
    steps = []
    with pytest.raises(Stopped):
        train(listed, tmp_path / "run", stop_requested=lambda: steps.append(1) or len(steps) == 4)
    write_lists((*range(6), 10, 11))
    with pytest.raises(CheckpointError, match="train: 6 → 8 images"):
        train(listed, tmp_path / "run", resume=True)


def test_other_versions_are_noted(stopped):
    root, run = stopped
    record = json.loads((run / "run.json").read_text())
    record["versions"]["numpy"] = "1.0"
    (run / "run.json").write_text(json.dumps(record))
    said = Said()
    train(recipe(root), run, resume=True, progress=said)
    assert any("numpy: 1.0 → " in line for line in said)


def resume(root, run, **options):
    said = Said()
    train(recipe(root), run, resume=True, progress=said, **options)
    return said, json.loads((run / "run.json").read_text())


def test_another_number_of_threads_is_said_and_recorded(stopped, monkeypatch):
    root, run = stopped
    assert json.loads((run / "run.json").read_text())["threads"] == 1
    monkeypatch.setattr(ReferenceTrainer, "threads", 3)
    said, record = resume(root, run)
    assert any("threads of the framework: 1 → 3; the bits are no longer" in line for line in said)
    assert record["resumed"][0]["threads"] == 3
    said, _ = resume(root, run)
    assert not any("threads" in line for line in said)


@pytest.fixture
def of_two_processes(stopped):
    """The stopped run, as if two processes had begun it."""
    root, run = stopped
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "processes": 2}))
    return root, run


def test_another_number_of_processes_is_said_where_it_changes_rounding_alone(of_two_processes):
    said, record = resume(*of_two_processes)
    assert any("processes: 2 → 1, by the rounding of sums" in line for line in said)
    assert record["processes"] == 2
    assert record["resumed"][0]["processes"] == 1


@pytest.mark.parametrize("cause", ["batch normalisation", "dropout"])
def test_another_number_of_processes_is_refused_where_it_changes_more(
    of_two_processes, monkeypatch, cause
):
    monkeypatch.setattr(ReferenceTrainer, "depends_on_share", cause)
    before = (of_two_processes[1] / "log.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=rf"SEG-C020(.|\n)*{cause}(.|\n)*1 processes"):
        resume(*of_two_processes)
    assert (of_two_processes[1] / "log.jsonl").read_bytes() == before
    said, record = resume(*of_two_processes, allow_other_processes=True)
    assert any(f"processes: 2 → 1, by {cause}" in line for line in said)
    assert record["resumed"][0]["processes"] == 1
    resume(*of_two_processes)  # as last time
