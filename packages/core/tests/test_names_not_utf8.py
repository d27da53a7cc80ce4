"""Files and folders whose names are no UTF-8: they work, or the message names them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.base.recipe import load_recipe
from terrazzo.inference import predict
from terrazzo.inference.outputs import Settings
from terrazzo.testing.scenes import make_model, make_scene

if sys.platform == "darwin":  # its disks take UTF-8 alone
    pytest.skip("no such names here", allow_module_level=True)

BAD = os.fsdecode(b"caf\xe9")
RECIPE = {
    "backend": "reference",
    "data": {
        "format": "folder",
        "labels": "labels.toml",
        "options": {"split": {"train": 0.6, "val": 0.2, "test": 0.2}},
    },
    "model": {"name": "pixel_softmax"},
    "training": {"epochs": 1, "batch_size": 2, "schedule": {"learning_rate": 0.05}},
}
TOML = """
backend = "reference"
data.format = "folder"
data.root = "data"
data.labels = "labels.toml"
data.options.split = { train = 0.6, val = 0.2, test = 0.2 }
model.name = "pixel_softmax"
training = { epochs = 1, batch_size = 2, schedule = { learning_rate = 0.05 } }
"""
LABELS = """
name = "colours"
classes = [
    { name = "red", colour = "#FF0000", raw = [0] },
    { name = "green", colour = "#00FF00", raw = [1] },
]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("names")
    draw = np.random.default_rng(0)
    for number in range(10):
        mask_HW = draw.integers(0, 2, (16, 12)).astype(np.uint8)
        image_HWC = np.eye(3)[mask_HW] * 150 + draw.integers(0, 100, (16, 12, 3))
        for folder, array in (("images", image_HWC.astype(np.uint8)), ("masks", mask_HW)):
            (place / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(place / "data" / folder / f"{BAD}{number}.png")
    (place / "labels.toml").write_text(LABELS)
    (place / "colours.toml").write_text(TOML)
    for name, seed in (("plain", 0), (BAD, 1)):
        terrazzo(place, *RUN, "--out", name, "--set", f"seed={seed}")
    return place


RUN = ("run", "--config", "colours.toml")


def terrazzo(place, *words):
    done = subprocess.run(
        [sys.executable, "-m", "terrazzo", *map(str, words)],
        cwd=place,
        # Where a terminal is in UTF-8, Python's own rule is to fail at such names.
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict", "XDG_CACHE_HOME": str(place / "c")},
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()  # of UTF-8


def test_a_run_keeps_such_names_and_goes_on_with_them(place):
    drawn = json.loads((place / "plain" / "splits.json").read_text())
    assert sum(names.count(f"{BAD}3") for names in drawn.values()) == 1
    terrazzo(place, *RUN, "--out", "plain", "--resume")
    terrazzo(place, "evaluate", "plain", "--split", "train")
    examples = place / "plain" / "evaluation" / "test_examples" / "names.json"
    assert all(name.startswith(BAD) for name in json.loads(examples.read_text()).values())
    for page in (place / "plain" / "report.html", place / BAD / "report.html"):
        assert r"caf\udce9" in page.read_text(encoding="utf-8")


def test_a_comparison_of_such_names_is_written(place):
    words = ("--out", "c.html", "--csv", f"{BAD}.csv", "--tables", "t", "--figures", "f")
    out = terrazzo(place, "compare", "plain", BAD, *words)
    assert r"caf\udce9.csv" in out
    for path in (place / "c.html", place / f"{BAD}.csv", *(place / "t").iterdir()):
        path.read_text(encoding="utf-8")
    assert len(list((place / "f").glob("*.svg"))) > 3


def test_a_check_prints_such_names(place, tmp_path):
    (place / "data" / "masks" / f"{BAD}10.png").write_bytes(b"none")
    (place / "data" / "images" / f"{BAD}10.png").write_bytes(b"none")
    command = [sys.executable, "-m", "terrazzo", "check", "--config", "colours.toml", "--json"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, check=False)
    for folder in ("masks", "images"):
        (place / "data" / folder / f"{BAD}10.png").unlink()
    assert done.returncode == 3, done.stderr.decode()
    assert f"{BAD}10.png" in json.dumps(json.loads(done.stdout), ensure_ascii=False)


def test_maps_of_images_of_such_names_are_written(place):
    settings = Settings(probabilities=True)
    photo = place / "data" / "images" / f"{BAD}1.png"
    (written,) = predict.predict(place / "plain", photo, place / "maps", settings)
    assert written.path.name == f"{BAD}1.png"
    made = {path.name.replace(BAD, "") for path in (place / "maps").iterdir()}
    shared = {"1.png", "1_overlay.png", "classes.json", "legend.png"}
    assert {name for name in made if "_probability_" not in name} == shared
    assert len(made) > len(shared)


def test_scenes_of_such_names_are_refused_before_the_work(tmp_path):
    model = make_model(tmp_path / "model")
    scene = make_scene(tmp_path / "scene.tif", (20, 20, 3))
    with pytest.raises(DataError, match=r"SEG-D033(.*\n)+.*0xe9"):
        predict.predict(model, scene, tmp_path / f"{BAD}.tif", Settings())
    scene.rename(tmp_path / f"{BAD}_scene.tif")
    with pytest.raises(DataError, match="SEG-D033"):
        predict.predict(model, tmp_path / f"{BAD}_scene.tif", tmp_path / "map.tif", Settings())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{BAD}_scene.tif", "model"]


def test_a_recipe_that_its_run_could_not_keep_is_refused():
    with pytest.raises(ConfigError, match=r"SEG-X034.*data\.root"):
        load_recipe(RECIPE, assignments=(f"data.root=/nowhere/{BAD}",))
