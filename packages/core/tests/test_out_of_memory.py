"""Memory that runs out: real limits of the system on real processes, and a stingy trainer."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import ResourceError
from terrazzo.base.memory import host_ran_out, memory_for
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import Config, DataConfig, LoaderConfig, ModelConfig, TrainingConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands
from terrazzo.evaluation import loop as evaluation_loop
from terrazzo.inference.model import Model
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.models.card import ModelCard
from terrazzo.runs import checkpoint
from terrazzo.runs.folder import RunFolder, create_run
from terrazzo.testing import scenes
from terrazzo.testing.memory import MemorySplit
from terrazzo.testing.reference.backend import backend
from terrazzo.testing.reference.trainer import ReferenceTrainer
from terrazzo.training import loop as training_loop

LABELS = LabelMap("three", tuple(LabelClass(name, "#000000", (k,)) for k, name in enumerate("abc")))
BANDS = Bands(("red", "green", "blue"), "uint8", (127.0,) * 3, (60.0,) * 3)
DATA = DataConfig(format="memory", root="")


class Stingy(ReferenceTrainer):
    """Has memory for a few images at a time, as a framework's device has; remembers the batches."""

    most = 2

    def _logits(self, features, weights):
        self.seen = [*getattr(self, "seen", []), len(features)]
        if len(features) > self.most:
            raise RuntimeError("DEVICE FULL: tried to take 12 GiB")
        return super()._logits(features, weights)

    def out_of_memory(self, error):
        return "DEVICE FULL" in str(error)


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def trainer(kind=Stingy):
    made = backend.build(
        ModelConfig(name="pixel_softmax"), TrainingConfig(steps=1), LABELS, BANDS, 0
    )
    made.__class__ = kind
    return made


def split(count=7, size=(12, 10)):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, (count, *size)).astype(np.uint8)
    pixels = np.eye(3)[labels] * 120 + draw.integers(0, 130, (count, *size, 3))
    return MemorySplit("val", tuple(pixels.astype(np.uint8)), tuple(labels), LABELS)


def evaluate(model, progress, **changes):
    arguments = {"batch_size": 7, "step": 1, "progress": progress, **changes}
    data = arguments.pop("data", DATA)
    return evaluation_loop.evaluate(model, split(), data, LoaderConfig(), **arguments)


@pytest.mark.parametrize("image_size", [None, (8, 8)])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_scoring_halves_its_batches_until_they_fit_and_the_scores_are_the_same(most, image_size):
    data = DataConfig(format="memory", root="", image_size=image_size)
    expected = evaluate(trainer(ReferenceTrainer), Silent(), data=data)
    model, said = trainer(), Lines()
    model.most = most
    found = evaluate(model, said, data=data)
    np.testing.assert_array_equal(found.counts_NKK, expected.counts_NKK)
    np.testing.assert_array_equal(found.ignored_N, expected.ignored_N)
    halvings = 1 if most == 3 else 2
    assert model.seen[: halvings + 1] == [7, 3, 1][: halvings + 1]
    assert len(said.lines) == halvings
    assert "out of memory while scoring val: batch 7×" in said.lines[0]
    assert "validation.batch_size" in said.lines[0]


def test_a_smaller_batch_is_remembered_for_the_rest_of_the_split():
    model = trainer()
    evaluate(model, Silent(), batch_size=4)
    assert [size for size in model.seen if size > 2] == [4]


def test_one_image_that_does_not_fit_is_an_error_with_its_size():
    model = trainer()
    model.most = 0
    with pytest.raises(ResourceError) as caught:
        evaluate(model, Silent(), batch_size=2)
    assert caught.value.code == "SEG-R006"
    assert "1×12×10×3 uint8" in str(caught.value)
    assert "12 GiB" in str(caught.value)
    assert "data.image_size" in str(caught.value)


def test_another_error_of_the_trainer_stays_what_it_is():
    class Broken(Stingy):
        def _logits(self, features, weights):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        evaluate(trainer(Broken), Silent())


def test_tiles_are_predicted_in_smaller_batches_with_the_same_map():
    image_HWC = np.random.default_rng(1).integers(0, 256, (30, 90, 3), dtype=np.uint8)
    tiling = Tiling(tile=16, overlap=4, batch_size=5)
    card = ModelCard("reference", ModelConfig(name="pixel_softmax"), LABELS, BANDS, None, 1)
    expected = list(Model(card, trainer(ReferenceTrainer)).predict_by_tiles(image_HWC, tiling))
    said = []
    found = list(Model(card, trainer()).predict_by_tiles(image_HWC, tiling, say=said.append))
    for (left, _), (right, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)
    assert len(said) == 1
    assert "predicting tiles" in said[0]


def recipe(**training):
    return Config.model_validate(
        {
            "backend": "reference",
            "name": "test",
            "data": {"format": "memory", "root": ""},
            "loader": {"threads": 1},
            "model": {"name": "pixel_softmax"},
            "training": {"steps": 6, "batch_size": 4, **training},
            "checkpoint": {"every_steps": 1},
            "log": {"every_steps": 1},
        }
    )


def train(folder, model):
    run = RunFolder(folder)
    if not folder.exists():
        create_run(folder, recipe(), LABELS, overwrite=False)
    training_loop.train(run, model, recipe(), split(8), split(3), progress=Silent())
    return model


def test_a_training_step_that_does_not_fit_says_what_to_lower_and_a_resume_is_exact(tmp_path):
    class ThenFull(Stingy):
        most = 4

        def train_step(self, batch, learning_rate):
            self.most = 3 if self._steps == 3 else 4
            return super().train_step(batch, learning_rate)

    with pytest.raises(ResourceError) as caught:
        train(tmp_path / "cut", trainer(ThenFull))
    assert caught.value.code == "SEG-R006"
    text = str(caught.value)
    assert "making training step 4 on cpu" in text
    assert "batch 4×12×10×3 uint8" in text
    assert "training.batch_size" in text
    assert checkpoint.latest(RunFolder(tmp_path / "cut").checkpoints)[0].step == 3
    resumed = train(tmp_path / "cut", trainer(ReferenceTrainer)).state()
    whole = train(tmp_path / "whole", trainer(ReferenceTrainer)).state()
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array)
    logs = [RunFolder(tmp_path / name).log.read_text() for name in ("cut", "whole")]
    assert logs[0] == logs[1]


LIMITED = """
import resource, sys
from terrazzo.cli import app
from terrazzo.io import images
{imports}
def limit(megabytes):
    status = open("/proc/self/status").read()
    used = 1024 * int(status.split("VmSize:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 1_000_000, resource.RLIM_INFINITY))
def work():
    {work}
app.app = work
app.main()
"""


def limited(work, imports="", *words):
    """Run a piece of work under a limit of memory, with the ends of the command line."""
    code = LIMITED.format(imports=imports, work=work)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
    )


needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is kept on Linux")


@needs_limits
@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "palette.png", "grey.png"])
def test_an_image_for_which_the_memory_does_not_suffice_is_named(tmp_path, name):
    """Decoded by OpenCV and by Pillow; the file itself is whole."""
    path, mode = tmp_path / name, {"palette.png": "P", "grey.png": "L"}.get(name, "RGB")
    Image.new(mode, (8000, 8000)).save(path)
    answer = limited(
        "limit(30); images.read_image(Path(sys.argv[1]))", "from pathlib import Path", path
    )
    assert answer.returncode == 5, answer.stderr
    assert "SEG-R006: out of memory while decoding an image" in answer.stderr
    assert str(path) in answer.stderr
    assert "8000×8000×" in answer.stderr
    assert "loader.threads" in answer.stderr
    assert "Traceback" not in answer.stderr


@needs_limits
def test_a_scene_for_which_the_memory_does_not_suffice_is_named(tmp_path):
    path = tmp_path / "scene.tif"
    rasters.write(path, np.zeros((6000, 6000, 3), np.uint8), **scenes.UTM)
    answer = limited(
        "limit(40); rasters.read(Path(sys.argv[1]))",
        "from pathlib import Path\nfrom terrazzo.io import rasters",
        path,
    )
    assert answer.returncode == 5, answer.stderr
    assert "SEG-R006: out of memory while reading a GeoTIFF" in answer.stderr
    assert str(path) in answer.stderr
    assert "Traceback" not in answer.stderr


@needs_limits
def test_memory_that_ends_elsewhere_is_no_traceback_either():
    answer = limited("limit(30); bytearray(10**9)")
    assert answer.returncode == 5, answer.stderr
    assert answer.stderr.startswith("error SEG-R006")
    assert "Traceback" not in answer.stderr


@needs_limits
@pytest.mark.parametrize(
    "work",
    [
        "limit(20); import rasterio",
        "limit(2); [threading.Thread(target=time.sleep, args=(9,), daemon=True).start() "
        "for _ in range(9)]",
        "limit(0); mmap.mmap(-1, 10**9)",
    ],
    ids=["library", "thread", "map"],
)
def test_libraries_threads_and_maps_that_do_not_fit_are_no_traceback(work):
    answer = limited(work, "import mmap, threading, time")
    assert answer.returncode == 5, answer.stderr
    assert answer.stderr.startswith("error SEG-R006")
    assert "Traceback" not in answer.stderr


def test_a_library_that_cannot_be_loaded_without_a_limit_is_no_want_of_memory():
    error = ImportError("a.so: failed to map segment from shared object")  # as on a noexec disk
    assert not host_ran_out(error)


def test_pixels_of_a_batch_that_do_not_fit_name_the_settings_of_the_loader():
    """NumPy's own error, for an array larger than any machine."""

    class Vast(MemorySplit):
        def read(self, index):
            sample = super().read(index)
            np.empty((1 << 30, 1 << 30), np.uint8)
            return sample

    vast = Vast("val", split().images, split().labels, LABELS)
    with pytest.raises(ResourceError, match=r"SEG-R006.*preparing image 1 of 7") as caught:
        evaluation_loop.evaluate(
            trainer(), vast, DATA, LoaderConfig(), batch_size=1, step=1, progress=Silent()
        )
    assert "Unable to allocate" in str(caught.value)
    assert "loader.prefetch" in str(caught.value)


def test_an_image_that_does_not_fit_is_named_by_the_loader_too():
    """Whoever is nearest to the memory says what was being made; those around it do not."""

    class Decoding(MemorySplit):
        def read(self, index):
            with memory_for("decoding an image", next_step=""):
                np.empty((1 << 30, 1 << 30), np.uint8)

    far = Decoding("val", split().images, split().labels, LABELS)
    with pytest.raises(ResourceError, match="while decoding an image"):
        evaluation_loop.evaluate(
            trainer(), far, DATA, LoaderConfig(), batch_size=1, step=1, progress=Silent()
        )
