"""Small data sets, recipes, runs and scenes for the rows of faults."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from terrazzo.io import rasters
from terrazzo.testing.faults.table import Outcome, Place

MODELS: Mapping[str, dict[str, Any]] = {
    "reference": {"name": "pixel_softmax"},
    "torch": {"name": "unet", "options": {"width": 2, "depth": 1}},
    "keras": {"name": "unet", "options": {"width": 2, "depth": 1}},
}
"""By backend: the smallest there is."""

COUNTS = {"train": 6, "val": 2, "test": 2}
SIZE = (16, 12)
STEPS = 6
"""Two epochs of six images in batches of two; a checkpoint after each second step."""
SAVED_EVERY = 2

CLASSES = [
    {"name": "red", "colour": "#FF0000", "raw": [0]},
    {"name": "green", "colour": "#00FF00", "raw": [1]},
]
Array = NDArray[Any]


def save(path: Path, array: Array, **options: Any) -> None:
    """Write an image with Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def values(path: Path) -> Array:
    """Read an image with Pillow."""
    with Image.open(path) as image:
        return np.array(image)


def change(paths: list[Path], function: Callable[[Array], Array]) -> None:
    """Write masks anew with other values."""
    for path in paths:
        before = values(path)
        save(path, function(before).astype(before.dtype))


def cut(path: Path, share: float) -> None:
    """Leave only the first bytes of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def write_labels(place: Place, classes: list[dict[str, Any]], ignored: list[Any]) -> None:
    """Write ``labels.toml``."""
    table = {"name": "colours", "ignored": ignored, "classes": classes}
    (place.folder / "labels.toml").write_text(tomli_w.dumps(table), encoding="utf-8")


def write_recipe(place: Place, data: Mapping[str, Any], name: str = "recipe.toml") -> Path:
    """Write a recipe for the data."""
    recipe = {
        "backend": place.backend,
        "name": "faulty",
        "seed": 3,
        "data": dict(data),
        "augment": {"flip_horizontal": 0.5},
        "loader": {"threads": 2},
        "model": MODELS[place.backend],
        "training": {
            "steps": STEPS,
            "batch_size": 2,
            "schedule": {"learning_rate": 0.05},
        },
        "validation": {"every_steps": 3},
        "checkpoint": {"every_steps": SAVED_EVERY, "keep": 3},
        "log": {"every_steps": 1},
    }
    path = place.folder / name
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path


def make_images(place: Place) -> Path:
    """Write ten images whose colour tells the class, their masks, label map and recipe.

    Returns:
        The folder ``data`` with ``images/train/0.png`` and so on.
    """
    root = place.folder / "data"
    draw = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for number in range(count):
            mask_HW = draw.integers(0, 2, SIZE).astype(np.uint8)
            image_HWC = np.zeros((*SIZE, 3), np.uint8)
            image_HWC[..., :2] = np.eye(2)[mask_HW] * 150 + draw.integers(0, 100, (*SIZE, 2))
            image_HWC[..., 2] = draw.integers(0, 100, SIZE)
            mask_HW[0] = 9
            save(root / "images" / split / f"{number}.png", image_HWC)
            save(root / "masks" / split / f"{number}.png", mask_HW)
    write_labels(place, CLASSES, [9])
    labels = str(place.folder / "labels.toml")
    write_recipe(place, {"format": "folder", "root": str(root), "labels": labels})
    return root


def masks(place: Place, split: str = "*") -> list[Path]:
    """Return the masks of `make_images`."""
    return sorted((place.folder / "data" / "masks").glob(f"{split}/*.png"))


def images(place: Place, split: str = "*") -> list[Path]:
    """Return the images of `make_images`."""
    return sorted((place.folder / "data" / "images").glob(f"{split}/*.*"))


UTM: dict[str, Any] = {"crs": "EPSG:32633", "transform": Affine(2, 0, 392_000, 0, -2, 5_820_000)}
SCENE = (96, 128)
CHIP = 32


def make_scene(
    place: Place,
    *,
    dtype: str = "uint8",
    nodata: float | None = None,
    label_nodata: float | None = None,
    plant: Callable[[Array, Array], None] = lambda *_: None,
    image_at: Mapping[str, Any] = UTM,
    label_at: Mapping[str, Any] = UTM,
    **options: Any,
) -> tuple[Path, Path]:
    """Write a scene with labels 0 and 1 in patches, its label map and a recipe of chips.

    Args:
        place: where.
        dtype: of the image.
        nodata: declared by the image.
        label_nodata: declared by the label.
        plant: changes image H×W×3 and label H×W in place.
        image_at: CRS and transform of the image.
        label_at: of the label.
        options: of the data set.

    Returns:
        Image and label.
    """
    root = place.folder / "data"
    root.mkdir(exist_ok=True)
    draw = np.random.default_rng(1)
    label_HW = draw.integers(0, 2, (SCENE[0] // 8, SCENE[1] // 8)).repeat(8, 0).repeat(8, 1)
    label_HW = label_HW.astype(np.uint8)
    image_HWC = (label_HW[..., None] * 90 + draw.integers(20, 90, (*SCENE, 3))).astype(dtype)
    plant(image_HWC, label_HW)
    image, label = root / "scene.tif", root / "label.tif"
    rasters.write(image, image_HWC, nodata=nodata, **image_at)
    rasters.write(label, label_HW[..., None], nodata=label_nodata, **label_at)
    write_labels(place, CLASSES, [9])
    scenes = [{"images": [image.name], "label": label.name}]
    chosen = {"scenes": scenes, "chip": CHIP, "block": 1, "buffer": 0, **options}
    write_recipe(
        place,
        {
            "format": "geotiff",
            "root": str(root),
            "labels": str(place.folder / "labels.toml"),
            "options": chosen,
        },
    )
    return image, label


# Commands


def check(place: Place, *words: object) -> Outcome:
    """``terrazzo check --json`` of the recipe."""
    return place.terrazzo("check", "--config", "recipe.toml", "--json", *words)


def train(place: Place, *words: object, out: str = "run") -> Outcome:
    """``terrazzo run`` of the recipe."""
    return place.terrazzo(*run_words(*words, out=out))


def run_words(*words: object, out: str = "run") -> tuple[object, ...]:
    """Return the words of ``terrazzo run`` of the recipe."""
    return ("run", "--config", "recipe.toml", "--out", out, *words)


def sets(*assignments: str) -> list[str]:
    """Return ``--set`` before each."""
    return [word for each in assignments for word in ("--set", each)]


def refused(
    place: Place, code: str, path: object, observed: object, *, run_code: str | None = None
) -> None:
    """Check that data are refused by the check and by a run, and that nothing is written."""
    with place.nothing_written():
        place.expect_finding(check(place), code, path=path, observed=observed)
        parts = () if run_code else observed
        place.expect(train(place), run_code or code, exit=3, path=path, observed=parts)


def warned(place: Place, code: str, path: object, observed: object, level: str = "warning") -> None:
    """Check that the check tells of data that a run takes, and that it writes nothing."""
    with place.nothing_written():
        place.expect_finding(check(place), code, path=path, observed=observed, level=level)


# What several rows look at


def finished_run(place: Place) -> Path:
    """Return the folder ``run`` of a whole run, with its data; made once, to be read only."""
    home = place.shared / "finished"
    if not (home / "run" / "report.html").is_file():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        maker = Place(home, place.backend, place.row, place.shared)
        make_images(maker)
        outcome = train(maker)
        assert outcome.exit == 0, outcome
    return home / "run"


def copied_run(place: Place) -> Path:
    """Copy a whole run into the place, and its recipe; the data stay where they are."""
    run = finished_run(place)
    shutil.copytree(run, place.folder / "run")
    shutil.copyfile(run.parent / "recipe.toml", place.folder / "recipe.toml")
    return place.folder / "run"


def with_data_of_finished(place: Place) -> Path:
    """Take over the recipe, and with it the data, of the whole run; return that run."""
    run = finished_run(place)
    shutil.copyfile(run.parent / "recipe.toml", place.folder / "recipe.toml")
    return run


def write_photo(path: Path, rows: int = 16, columns: int = 12, seed: int = 0) -> Path:
    """Write an image such as the runs have seen."""
    draw = np.random.default_rng(seed)
    save(path, draw.integers(0, 200, (rows, columns, 3), np.uint8))
    return path


def write_scene(
    path: Path,
    rows: int,
    columns: int,
    *,
    nodata: float | None = None,
    plant: Callable[[Array], None] = lambda _: None,
    seed: int = 0,
) -> Path:
    """Write a scene for prediction, H×W×3 of uint8."""
    image_HWC = np.random.default_rng(seed).integers(1, 200, (rows, columns, 3)).astype(np.uint8)
    plant(image_HWC)
    rasters.write(path, image_HWC, nodata=nodata, **UTM)
    return path


def give_up_the_rights_of_root() -> None:
    """Make mode bits count for root too, in a process that is about to start; Linux only."""
    drop_of_bounding_set, override, read_and_search = 24, 1, 2
    control = ctypes.CDLL(None).prctl
    control(drop_of_bounding_set, override, 0, 0, 0)
    control(drop_of_bounding_set, read_and_search, 0, 0, 0)
