"""The command line as a user meets it: real processes, real files, the NumPy reference backend."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import terrazzo as terrazzo_package
from terrazzo.runs import provenance

RECIPE = """
backend = "reference"
name = "colours"
seed = 3

[data]
format = "folder"
root = "{root}"
labels = "{labels}"
options = {{ split = {{ train = 0.6, val = 0.2, test = 0.2 }} }}

[augment]
flip_horizontal = 0.5
brightness = 0.2

[model]
name = "pixel_softmax"

[training]
epochs = 3
batch_size = 2
schedule = {{ learning_rate = 0.05, warmup_steps = 2 }}

[checkpoint]
every_steps = 2

[log]
every_steps = 1
"""

LABELS = """
name = "colours"
ignored = [9]
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""
STEPS = 9
"""3 epochs of 6 training images in batches of 2."""


@pytest.fixture
def data(tmp_path):
    """Ten images whose colour tells the class."""
    draw = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for number in range(10):
        mask = draw.integers(0, 2, (16, 12)).astype(np.uint8)
        image = np.zeros((16, 12, 3), np.uint8)
        image[..., :2] = np.eye(2)[mask] * 150 + draw.integers(0, 100, (16, 12, 2))
        mask[0] = 9
        Image.fromarray(image).save(tmp_path / "data" / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{number}.png")
    (tmp_path / "labels.toml").write_text(LABELS)
    recipe = RECIPE.format(root=tmp_path / "data", labels=tmp_path / "labels.toml")
    (tmp_path / "colours.toml").write_text(recipe)
    return tmp_path


def terrazzo(folder, *words, kill_at=None, code=None):
    program = ["-c", "from terrazzo.cli.app import main; main()"]
    if kill_at is not None:
        program = ["-m", "terrazzo.testing.kill", kill_at]
    command = [sys.executable, *program, *map(str, words)]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if code is not None:
        assert answer.returncode == code, answer.stderr
        assert "Traceback" not in answer.stderr
    return answer


def run(folder, *words, **arguments):
    return terrazzo(folder, "run", "--config", "colours.toml", *words, **arguments)


def test_run_then_evaluate(data):
    answer = run(data, code=0)
    assert "mean of 2 classes" in answer.stdout
    folder = data / "runs" / "colours"
    assert str(folder.relative_to(data) / "report.html") in answer.stdout
    assert (folder / "report.html").stat().st_size > 10_000
    result = json.loads((folder / "evaluation" / "test.json").read_text())
    assert result["scores"]["mean_iou"] > 0.9
    assert result["images"] == 2
    assert result["pixels_counted"] == 2 * 15 * 12
    assert result["pixels_ignored"] == 2 * 12
    record = json.loads((folder / "run.json").read_text())
    assert record["data"]["splits"]["train"]["images"] == 6
    assert record["backend"] == "reference"
    # Of the code that ran, not of the folder it was started in.
    source = provenance.source_state(Path(terrazzo_package.__file__).parent)
    assert {key: record[key] for key in source} == source

    terrazzo(data, "evaluate", folder, "--split", "val", code=0)
    assert json.loads((folder / "evaluation" / "val.json").read_text())["split"] == "val"
    again = terrazzo(data, "evaluate", folder, code=0)
    assert "mean of 2 classes" in again.stdout
    assert json.loads((folder / "evaluation" / "test.json").read_text()) == result


def test_a_resume_finishes_the_deletions_of_a_process_that_was_killed(data):
    run(data, code=0)
    checkpoints = data / "runs" / "colours" / "checkpoints"
    kept = sorted(path.name for path in checkpoints.iterdir())
    half_deleted = checkpoints / "step-000001"
    half_deleted.mkdir()
    (half_deleted / "record.json").write_text("{}")
    run(data, "--resume", code=0)
    assert sorted(path.name for path in checkpoints.iterdir()) == kept


def test_more_is_counted_by_recipe_or_when_asked_for(data):
    run(data, "--set", "evaluation.boundary=true", "--set", "training.epochs=1", code=0)
    folder = data / "runs" / "colours"
    path = folder / "evaluation" / "test.json"
    first = json.loads(path.read_text())
    assert 0 < first["boundary"]["mean_boundary_iou"] <= 1
    assert "calibration" not in first
    assert "Boundaries, test split" in (folder / "report.html").read_text()
    timing = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    assert 10 << 20 < timing[-1]["peak_memory_bytes"] < 10 << 30

    answer = terrazzo(data, "evaluate", folder, "--calibration", "--no-boundary", code=0)
    assert "calibration error 0." in answer.stdout
    second = json.loads(path.read_text())
    assert "boundary" not in second
    assert 0 <= second["calibration"]["expected_calibration_error"] < 1
    assert second["scores"] == first["scores"]
    counts = load_file(folder / "evaluation" / "test.safetensors")
    assert counts["calibration_pixels"][:, 0].sum() == second["pixels_counted"]


def canonical(folder):
    """The bytes a run must end with, however often it was killed."""
    state = load_file(folder / "checkpoints" / f"step-{STEPS:06d}" / "weights.safetensors")
    slots = load_file(folder / "checkpoints" / f"step-{STEPS:06d}" / "optimizer.safetensors")
    arrays = {name: array.tobytes() for name, array in (state | slots).items()}
    names = ("log.jsonl", "model/weights.safetensors", "model/model.toml", "evaluation/test.json")
    return arrays, [(folder / name).read_bytes() for name in names]


def test_killed_before_every_step_and_inside_saves_the_run_ends_with_the_same_bits(data):
    run(data, "--out", "whole", code=0)
    points = ("step:1", "step:2", "sync:1", "sync:2", "step:4", "sync:3", "sync:4", "rename:1")
    points += ("renamed:1", "sync:5", "step:6", "sync:6", "sync:7", "sync:8", "step:9")
    killed = 0
    # One chain: killed, resumed, killed elsewhere, resumed … until it gets through.
    for number, point in enumerate(points):
        resume = () if number == 0 else ("--resume",)
        answer = run(data, "--out", "parts", *resume, kill_at=point)
        killed += answer.returncode == -signal.SIGKILL
    run(data, "--out", "parts", "--resume", code=0)
    assert killed >= 10
    assert canonical(data / "parts") == canonical(data / "whole")


def test_sigterm_saves_and_exits_75_and_resume_ends_with_the_same_bits(data):
    changes = ("training.epochs=60", "checkpoint.every_steps=100", "validation.every_epochs=50")
    words = (
        "run",
        "--config",
        "colours.toml",
        *(w for c in changes for w in ("--set", c)),
        "--out",
    )
    program = [sys.executable, "-c", "from terrazzo.cli.app import main; main()", *words]
    process = subprocess.Popen([*program, "parts"], cwd=data, stderr=subprocess.PIPE, text=True)
    log = data / "parts" / "log.jsonl"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and not (log.exists() and log.stat().st_size > 500):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 75, stderr
    assert "SEG-R013" in stderr
    assert "--resume" in stderr
    subprocess.run([*program, "parts", "--resume"], cwd=data, check=True, capture_output=True)
    subprocess.run([*program, "whole"], cwd=data, check=True, capture_output=True)
    assert log.read_bytes() == (data / "whole" / "log.jsonl").read_bytes()


def test_an_existing_run_is_not_overwritten_unasked(data):
    run(data, "--set", "training.epochs=1", code=0)
    before = (data / "runs" / "colours" / "log.jsonl").read_bytes()
    answer = run(data, "--set", "training.epochs=1", code=4)
    assert "SEG-C002" in answer.stderr
    assert (data / "runs" / "colours" / "log.jsonl").read_bytes() == before
    run(data, "--set", "training.epochs=2", "--overwrite", code=0)


def test_a_run_keeps_its_draw_when_images_are_added(data):
    """A new draw over the grown folder would move test images into training."""
    settings = ("--set", "training.epochs=1")
    run(data, *settings, "--set", "checkpoint.every_steps=1", code=0)
    folder = data / "runs" / "colours"
    kept = json.loads((folder / "splits.json").read_text())
    assert sorted(map(len, kept.values())) == [2, 2, 6]
    before = (folder / "evaluation" / "test.json").read_text()
    for number in range(10, 40):
        for kind in ("images", "masks"):
            source = data / "data" / kind / f"{number % 10}.png"
            (data / "data" / kind / f"{number}.png").write_bytes(source.read_bytes())
    terrazzo(data, "evaluate", folder, code=0)
    assert (folder / "evaluation" / "test.json").read_text() == before
    options = json.dumps(str(folder / "splits.json"))
    again = ("--set", f"data.options.split_file={options}", *settings)
    run(data, *again, "--out", "again", code=0)
    assert json.loads((data / "again" / "splits.json").read_text()) == kept
    for kind in ("images", "masks"):
        (data / "data" / kind / f"{kept['test'][0]}.png").unlink()
    answer = terrazzo(data, "evaluate", folder, code=3)
    assert "images of the earlier draw are gone" in answer.stderr
    assert kept["test"][0] in answer.stderr


def test_a_killed_run_is_resumed_with_its_own_draw(data):
    run(data, "--out", "whole", code=0)
    answer = run(data, "--out", "parts", kill_at="step:5")
    assert answer.returncode == -signal.SIGKILL
    for number in range(10, 30):
        for kind in ("images", "masks"):
            source = data / "data" / kind / f"{number % 10}.png"
            (data / "data" / kind / f"{number}.png").write_bytes(source.read_bytes())
    run(data, "--out", "parts", "--resume", code=0)
    assert canonical(data / "parts") == canonical(data / "whole")


def damage(data, number, values):
    path = data / "data" / "masks" / f"{number}.png"
    mask = np.array(Image.open(path))
    Image.fromarray(values(mask)).save(path)
    return path


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (("--set", "training.epoch=3"), 2, ("SEG-X001", "did you mean 'epochs'")),
        (("--set", "training.epochs=three"), 2, ("SEG-X002", "'three'", "colours.toml")),
        (("--set", "model.name=unett"), 2, ("SEG-X004", "unett", "pixel_softmax")),
        (("--set", "model.options.width=3"), 2, ("SEG-X001", "width", "features")),
        (("--set", "data.format=camvidd"), 2, ("SEG-X004", "did you mean 'camvid'")),
        (("--set", "data.labels=camvidd"), 2, ("SEG-X004", "did you mean 'camvid'")),
        (("--set", "data.options.mask=x"), 2, ("SEG-X001", "did you mean 'masks'")),
        (("--set", "training.loss.class_weights=[1,2,3]"), 2, ("SEG-X012", "red, green")),
        (("--set", "data.root=nowhere"), 3, ("nowhere",)),
        (("--backend", "torhc"), 2, ("SEG-X004", "did you mean 'torch'")),
        (("--resume",), 4, ("SEG-C001", "runs/colours")),
        (("--set", "data.options.split={train=1.0,val=0.0,test=0.0}"), None, ()),
    ],
)
def test_a_mistake_in_the_recipe_gets_one_message_and_leaves_nothing(data, words, code, expected):
    answer = run(data, *words)
    assert answer.returncode in ((code,) if code else (2, 3)), answer.stderr
    assert "Traceback" not in answer.stderr
    for text in expected:
        assert text in answer.stderr
    assert not (data / "runs").exists()


def test_a_label_value_outside_the_map_is_named_before_training(data):
    for number in range(10):
        path = damage(data, number, lambda mask: np.where(mask == 1, 7, mask).astype(np.uint8))
    answer = run(data, code=3)
    assert "SEG-D001" in answer.stderr
    assert str(path.parent) in answer.stderr
    assert "7 (" in answer.stderr
    assert "row" in answer.stderr
    assert "0, 1, 9" in answer.stderr
    assert not (data / "runs").exists()


def test_one_bad_image_in_the_middle_of_training_is_named(data):
    """Found by a reader thread; the checkpoint before it stays."""
    image_files = sorted((data / "data" / "images").iterdir())
    for path in image_files:
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        answer = run(data, "--out", f"run{path.stem}", code=3)
        assert "SEG-D011" in answer.stderr
        assert str(path) in answer.stderr
        path.write_bytes(good)
        if (data / f"run{path.stem}" / "config.toml").exists():
            run(data, "--out", f"run{path.stem}", "--resume", "--allow-changed-data", code=0)
            break
    else:
        pytest.fail("no image was met in training only")


def test_one_bad_mask_is_named_before_training(data):
    for path in sorted((data / "data" / "masks").iterdir())[::3]:
        good = path.read_bytes()
        path.write_bytes(good[: len(good) // 2])
        answer = run(data, code=3)
        assert "SEG-D011" in answer.stderr
        assert str(path) in answer.stderr
        assert not (data / "runs").exists()
        path.write_bytes(good)


def test_crop_larger_than_the_image_trains(data):
    answer = run(data, "--set", "augment.crop=[40, 40]", code=0)
    assert "mean of 2 classes" in answer.stdout


def test_masks_that_are_ignored_altogether_stop_a_run(data):
    for number in range(10):
        damage(data, number, lambda mask: np.full_like(mask, 9))
    answer = run(data, code=3)
    assert "SEG-D017: every pixel of the mask is ignored" in answer.stderr
    assert not (data / "runs").exists()


def test_settings_that_cannot_do_what_was_meant_are_told_at_the_beginning(data):
    for number in range(10):
        damage(data, number, lambda mask: np.where(np.arange(16)[:, None] < 9, 9, mask))
    settings = ("training.schedule.warmup_steps=50", "training.schedule.floor=1")
    words = [word for setting in settings for word in ("--set", setting)]
    answer = run(data, *words, "--set", "augment.crop=[40, 40]", "--set", "training.epochs=1")
    assert answer.returncode == 0, answer.stderr
    for told in ("warmup_steps = 50", "floor = 1", "crop = 40×40", "56.2% of the training pixels"):
        assert told in answer.stderr
    answer = run(data, "--out", "plain", code=0)
    assert "crop" not in answer.stderr
    assert "floor" not in answer.stderr


def test_evaluate_without_a_model_says_what_to_do(data):
    answer = terrazzo(data, "evaluate", "nowhere", code=4)
    assert "SEG-C001" in answer.stderr


def test_evaluate_refuses_another_label_map(data):
    run(data, "--set", "training.epochs=1", code=0)
    swapped = LABELS.replace('"red"', '"blue"')
    (data / "labels.toml").write_text(swapped)
    answer = terrazzo(data, "evaluate", "runs/colours", code=4)
    assert "SEG-D036" in answer.stderr
    assert "'blue'" in answer.stderr
    assert "'red'" in answer.stderr


def test_without_recipe_or_backend_the_choices_are_named(tmp_path):
    answer = terrazzo(tmp_path, "run", code=2)
    assert "SEG-X013" in answer.stderr
    answer = terrazzo(tmp_path, "run", "--backend", "reference", code=2)
    assert "SEG-X005" in answer.stderr
    assert "--config" in answer.stderr


def test_list_shows_models_formats_and_labels(tmp_path):
    assert "pixel_softmax" in terrazzo(tmp_path, "list", "models", code=0).stdout
    formats = terrazzo(tmp_path, "list", "datasets", code=0).stdout
    assert "camvid  " in formats
    assert "cityscapes_polygons  " in formats
    assert "bicyclist" in terrazzo(tmp_path, "list", "labels", "camvid", code=0).stdout
    assert "camvid" in terrazzo(tmp_path, "list", "labels", code=0).stdout
    assert "SEG-X004" in terrazzo(tmp_path, "list", "unicorns", code=2).stderr


def test_output_into_a_closed_pipe_ends_quietly(tmp_path):
    program = "from terrazzo.cli.app import main; main()"
    command = [sys.executable, "-c", program, "list", "labels"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        process.stdout.close()
        stderr = process.stderr.read().decode()
    assert "Traceback" not in stderr


def test_help_needs_nothing_heavy():
    program = (
        "import sys; sys.argv = ['terrazzo', '--help']\n"
        "from terrazzo.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pydantic', 'rich', 'rasterio', 'cv2', 'torch', 'keras', 'tensorflow',"
        " 'matplotlib', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "evaluate" in answer.stdout
    assert answer.stderr.strip() == "[]"
