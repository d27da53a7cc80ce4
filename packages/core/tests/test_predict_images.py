"""Ordinary images in, maps out: whole or by windows, with all that may be asked for beside them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from terrazzo.inference import predict
from terrazzo.inference.images import FULL
from terrazzo.inference.model import load_model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import images
from terrazzo.testing.scenes import make_model, make_scene

WINDOWS = Tiling(tile=32, overlap=12, batch_size=3)
needs_vector = pytest.mark.skipif(
    importlib.util.find_spec("pyogrio") is None, reason="needs terrazzo[vector]"
)


class Told:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def advance(self, done, total, text):
        """Keep nothing."""

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


def make_image(path, shape=(97, 101), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(path)
    return path


def run(model, source, out, **settings):
    told = Told()
    predict.predict(model, [source], out, Settings(**settings), progress=told)
    return told.lines


def labels_of(path):
    return images.read_label(path, "index")


@pytest.mark.parametrize("blend", ["linear", "cosine", "none"])
@pytest.mark.parametrize("shape", [(97, 101), (20, 200), (33, 32), (1, 1)])
def test_windows_give_the_labels_of_the_whole_image(tmp_path, model, shape, blend):
    """The model sees 3×3 pixels, so windows that overlap by twelve hide nothing from it."""
    tiling = Tiling(tile=32, overlap=12, batch_size=3, blend=blend)
    source = make_image(tmp_path / "a.png", shape)
    run(model, source, tmp_path / "whole")
    run(model, source, tmp_path / "windows", tiling=tiling, whole_images_up_to=0)
    whole_HW = labels_of(tmp_path / "whole" / "a.png")
    np.testing.assert_array_equal(labels_of(tmp_path / "windows" / "a.png"), whole_HW)
    np.testing.assert_array_equal(whole_HW, load_model(model).predict(images.read_image(source)))


def test_images_up_to_the_limit_are_predicted_whole(tmp_path, model, monkeypatch):
    """Seen by the sizes of what the network gets."""
    seen = []
    loaded = load_model(model)
    forward = type(loaded.trainer).predict_labels
    monkeypatch.setattr(
        type(loaded.trainer),
        "predict_labels",
        lambda self, images_BHWC: (seen.append(images_BHWC.shape), forward(self, images_BHWC))[1],
    )
    source = make_image(tmp_path / "a.png", (40, 50))
    run(model, source, tmp_path / "whole", tiling=WINDOWS, whole_images_up_to=2000)
    assert seen == [(1, 40, 50, 3)]
    windows = Tiling(tile=32, overlap=12, blend="none")
    run(model, source, tmp_path / "windows", tiling=windows, whole_images_up_to=1999)
    assert {shape[1:] for shape in seen[1:]} == {(32, 32, 3)}


@pytest.mark.parametrize("whole", [0, 1 << 22])
def test_probabilities_of_an_image_are_pngs_beside_its_map(tmp_path, model, whole):
    source = make_image(tmp_path / "in" / "a.png", (300, 290))
    out = tmp_path / "out"
    settings = {"tiling": WINDOWS, "whole_images_up_to": whole, "probabilities": True}
    run(model, source, out, **settings)
    planes = [labels_of(out / f"a_probability_{k:02d}_class_{k}.png") for k in range(6)]
    assert {plane_HW.dtype.name for plane_HW in planes} == {"uint16"}
    expected_HWK = load_model(model).predict_probabilities(images.read_image(source))
    np.testing.assert_allclose(np.stack(planes, axis=2) / FULL, expected_HWK, atol=0.52 / FULL)
    np.testing.assert_array_equal(labels_of(out / "a.png"), expected_HWK.argmax(axis=2))


@needs_vector
def test_polygons_of_an_image_lie_in_its_pixels(tmp_path, model):
    import pyogrio

    source = make_image(tmp_path / "in" / "a.png")
    run(model, source, tmp_path / "out", polygons=tmp_path / "polygons")
    _, _, shapes, fields = pyogrio.raw.read(tmp_path / "polygons" / "a.gpkg", layer="classes")
    counts_K = np.bincount(labels_of(tmp_path / "out" / "a.png").ravel(), minlength=6)
    pixels_K = np.bincount(fields[0], fields[2], minlength=6)
    np.testing.assert_array_equal(pixels_K, counts_K)
    assert len(shapes) == len(fields[0]) > 0


def test_options_that_do_nothing_for_images_say_so(tmp_path, model):
    source = make_image(tmp_path / "in" / "a.png")
    idle = {"cloud_optimised": True, "workers": 2, "bands": ("1", "2", "3"), "plane": (("z", 1),)}
    (line, _) = run(model, source, tmp_path / "out", **idle)
    assert line.startswith("--cog and --workers and --bands and --plane do nothing for images")
    lines = run(model, source, tmp_path / "plain")
    assert not any("do nothing" in line for line in lines)


def test_tiles_of_a_model_of_one_image_size_are_at_the_scale_of_the_image_and_it_says_so(tmp_path):
    model = make_model(tmp_path / "model", image_size=(48, 48))
    source = make_image(tmp_path / "in" / "a.png")
    (line, _) = run(model, source, tmp_path / "tiles", tiling=WINDOWS, whole_images_up_to=0)
    assert "tiles are taken at the images' own scale" in line
    lines = run(model, source, tmp_path / "whole")
    assert not any("own scale" in line for line in lines)
    whole_HW = labels_of(tmp_path / "whole" / "a.png")
    tiles_HW = labels_of(tmp_path / "tiles" / "a.png")
    assert (tiles_HW != whole_HW).any()
    trainer = load_model(model).trainer
    image_HWC = images.read_image(source)
    np.testing.assert_array_equal(tiles_HW, trainer.predict_labels(image_HWC[None])[0])


def test_tiles_are_used_without_a_word_where_the_model_takes_any_size(tmp_path, model):
    source = make_image(tmp_path / "in" / "a.png")
    lines = run(model, source, tmp_path / "out", tiling=WINDOWS, whole_images_up_to=0)
    assert not any("own scale" in line for line in lines)


def command(*words):
    """Run ``terrazzo predict``; return what it says beside its results."""
    program = [sys.executable, "-c", "from terrazzo.cli.app import main; main()", "predict"]
    done = subprocess.run([*program, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_the_command_takes_tiles_for_a_png_and_gives_the_same_labels(tmp_path, model):
    source = make_image(tmp_path / "in" / "a.png")
    command(model, source, "--out", tmp_path / "whole")
    said = command(model, source, "--out", tmp_path / "tiles", "--tile", "32", "--overlap", "12")
    assert "own scale" not in said
    whole_HW = labels_of(tmp_path / "whole" / "a.png")
    assert len(np.unique(whole_HW)) > 1
    np.testing.assert_array_equal(labels_of(tmp_path / "tiles" / "a.png"), whole_HW)


def test_the_command_says_at_what_scale_a_model_of_one_image_size_sees_tiles(tmp_path):
    model = make_model(tmp_path / "model", image_size=(48, 48))
    source = make_image(tmp_path / "in" / "a.png")
    said = command(model, source, "--out", tmp_path / "out", "--tile", "32", "--overlap", "12")
    assert "tiles are taken at the images' own scale" in said


# Values unlike those of training; the model saw a mean of 127.5 with a deviation of 31.9


def make_grey(path, low, high):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(low, high, (40, 50, 3), np.uint8)).save(path)
    return path


def test_images_unlike_those_of_training_are_warned_of(tmp_path, model):
    """As 12 bits among 16 are: mean and deviation are both more than eight times smaller."""
    source = make_grey(tmp_path / "a.png", 0, 8)
    (warning, _) = run(model, source, tmp_path / "out")
    assert warning.startswith(
        f"warning SEG-D054: {source}: the values of band 1 are not like those of"
    )
    assert "mean 3." in warning
    assert "the model was trained on mean 127.5, deviation 31.88" in warning
    assert (tmp_path / "out" / "a.png").exists()


@pytest.mark.parametrize("values", [(72, 183), (30, 90), (120, 126)])
def test_like_and_merely_dark_or_flat_images_pass_without_a_word(tmp_path, model, values):
    lines = run(model, make_grey(tmp_path / "a.png", *values), tmp_path / "out")
    assert not any("warning" in line for line in lines)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_resume_makes_what_is_asked_for_beside_a_finished_map(tmp_path, model, name):
    source = tmp_path / "in" / name
    if name == "a.tif":
        source.parent.mkdir()
        make_scene(source, (40, 40, 3))
    else:
        make_image(source)
    out = tmp_path / "out"
    run(model, source, out, tiling=WINDOWS)
    before = (out / name).read_bytes()
    (line,) = run(model, source, out, tiling=WINDOWS, resume=True)
    assert "was finished before" in line
    lines = run(model, source, out, tiling=WINDOWS, resume=True, probabilities=True)
    asked = "a_probabilities.tif" if name == "a.tif" else "a_probability_00_class_0.png"
    assert f"was finished before, without {asked}" in lines[0]
    assert ": it is made again" in lines[0]
    assert (out / asked).exists()
    assert (out / name).read_bytes() == before
    (line,) = run(model, source, out, tiling=WINDOWS, resume=True, probabilities=True)
    assert line.endswith("was finished before")


LARGE = """
import sys
from terrazzo.inference import predict
from terrazzo.inference.outputs import Settings
from terrazzo.training.loop import peak_memory
model, source, out, whole = sys.argv[1:]
predict.predict(model, source, out, Settings(whole_images_up_to=int(whole)))
print(peak_memory()["peak_memory_bytes"])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bound was measured there")
def test_a_large_image_takes_a_few_times_its_own_memory(tmp_path, model):
    rows, columns = 3000, 4000
    ramp_HW = np.add.outer(np.arange(rows), np.arange(columns)).astype(np.uint8)
    Image.fromarray(np.stack([ramp_HW] * 3, axis=2)).save(tmp_path / "a.png", compress_level=1)
    command = [
        sys.executable,
        "-c",
        LARGE,
        model,
        tmp_path / "a.png",
        tmp_path / "out",
        str(1 << 22),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    gigabytes = int(answer.stdout.split()[-1]) / 1e9
    assert gigabytes < 0.9  # at once, it takes 2
