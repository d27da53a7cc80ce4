"""`terrazzo init`: from a folder to a recipe that trains, or to one clear question."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from PIL import Image
from roifile import ROI_TYPE, ImagejRoi

from terrazzo.base.errors import ConfigError, DataError, TerrazzoError
from terrazzo.base.recipe import DataConfig, load_recipe
from terrazzo.data import datasets
from terrazzo.data.labels import load_label_map
from terrazzo.io import rasters
from terrazzo.testing.annotation_trees import CLASSES, WRITERS
from terrazzo.testing.scenes import UTM, make_scene
from terrazzo.workflows.init import Wishes, init, measure_step, yolo_names
from terrazzo.workflows.init.folder_words import base_of, role_of
from terrazzo.workflows.train import train

DATA = Path(os.environ.get("TERRAZZO_DATA", "nowhere"))
REFERENCE = Wishes(backend="reference")


def picture(number: int, size: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright square, and its mask of 0 and 1."""
    rng = np.random.default_rng(number)
    image_HWC = rng.integers(60, 120, (*size, 3)).astype(np.uint8)
    mask_HW = np.zeros(size, np.uint8)
    row, column = rng.integers(0, 20, 2)
    mask_HW[row : row + 16, column : column + 16] = 1
    image_HWC[mask_HW == 1] += 100
    return image_HWC, mask_HW


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make(root: Path, image: str, mask: str, number: int = 10, times: int = 255) -> Path:
    """Write pairs; ``{n}`` in the paths is the number, ``{p}`` one of three patients."""
    for n in range(number):
        image_HWC, mask_HW = picture(n)
        save(root / image.format(n=f"{n:03d}", p=f"p{n % 3}"), image_HWC)
        save(root / mask.format(n=f"{n:03d}", p=f"p{n % 3}"), mask_HW * np.uint8(times))
    return root


@pytest.fixture
def no_steps(monkeypatch):
    """Leave the process out that measures a step; one test makes it."""
    measured = measure_step.Measured(2, 0.01, 10**8, 10**10, "cpu", "as the test says")
    monkeypatch.setattr(measure_step, "measure", lambda *_: (measured, ""))


def sizes_of(recipe: Path) -> dict[str, int]:
    data = load_recipe(recipe).data
    return {name: len(datasets.open_split(data, name)) for name in datasets.SPLITS}


LAYOUTS = {
    "plain": ("images/{n}.png", "masks/{n}.png"),
    "suffix": ("img/{n}.png", "labels/{n}_mask.png"),
    "both suffixes": ("sat/{n}_sat.png", "gt/{n}_gt.png"),
    "one folder": ("{n}.png", "{n}_L.png"),
    "patients outside": ("{p}/images/{n}.png", "{p}/masks/{n}.png"),
    "patients inside": ("images/{p}/{n}.png", "masks/{p}/{n}.png"),
    "voc": ("JPEGImages/{n}.png", "SegmentationClass/{n}.png"),
    "deeper masks": ("images/{n}.png", "annotations/trimaps/{n}.png"),
    "archive in a folder": ("mine-main/images/{n}.png", "mine-main/masks/{n}.png"),
    "unknown words": ("scenes/{n}.png", "drawn/{n}.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_recognised(layout, tmp_path, no_steps):
    make(tmp_path, *LAYOUTS[layout])
    proposal = init(tmp_path, None, REFERENCE)
    assert sum(sizes_of(proposal.recipe).values()) == 10
    data = load_recipe(proposal.recipe).data
    names = [n for s in datasets.SPLITS for n in datasets.open_split(data, s).names]
    assert len(set(names)) == 10
    if "patients" in layout:
        patients = [
            {name.split("/")[0] for name in datasets.open_split(data, split).names}
            for split in datasets.SPLITS
        ]
        assert sorted(map(len, patients)) == [1, 1, 1]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{s}/images/{n}.png", "{s}/masks/{n}.png"),
        ("images/{s}/{n}.png", "masks/{s}/{n}.png"),
        ("{s}/{n}.png", "{s}annot/{n}.png"),
        ("{s}_images/{n}.png", "{s}_masks/{n}.png"),
    ],
)
def test_splits_that_the_folders_name_are_kept(image, mask, tmp_path, no_steps):
    for split, number in (("train", 5), ("val", 3), ("test", 2)):
        lead = {"s": split, "n": "{n}"}
        make(tmp_path, image.format(**lead), mask.format(**lead), number)
    assert sizes_of(init(tmp_path, None, REFERENCE).recipe) == {"train": 5, "val": 3, "test": 2}


@pytest.mark.parametrize("place", ["images/{s}|masks/{s}", "{s}/images|{s}/masks"])
@pytest.mark.parametrize("named", ["val", "test"])
def test_a_split_that_is_missing_is_drawn_from_train_and_the_named_one_is_kept(
    place, named, tmp_path, no_steps
):
    for split, number in (("train", 20), (named, 4)):
        image, mask = place.format(s=split).split("|")
        make(tmp_path, f"{image}/{split}{{n}}.png", f"{mask}/{split}{{n}}.png", number)
    proposal = init(tmp_path, None, REFERENCE)
    other = "test" if named == "val" else "val"
    assert sizes_of(proposal.recipe) == {"train": 18, named: 4, other: 2}
    kept = datasets.open_split(load_recipe(proposal.recipe).data, named).names
    assert all(named in name for name in kept)
    assert any(f"is there a {other} split elsewhere?" in line for line in proposal.unsure)


def test_lists_of_names_make_the_splits_and_images_without_a_mask_are_left(tmp_path, no_steps):
    make(tmp_path, "JPEGImages/{n}.png", "SegmentationClass/{n}.png", 10)
    save(tmp_path / "JPEGImages/unlabelled.png", picture(99)[0])
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(f"{n:03d}" for n in range(7)))
    (lists / "val.txt").write_text("\n".join(f"{n:03d}" for n in range(7, 10)))
    assert sizes_of(init(tmp_path, None, REFERENCE).recipe) == {"train": 6, "val": 3, "test": 1}


def test_the_recipe_trains_in_two_commands_and_nothing_is_written_over(tmp_path):
    make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png", 12)
    command = [sys.executable, "-m", "terrazzo"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    first = run("init", "mine", "--backend", "reference", "--classes", "ground,cell")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "next: terrazzo run --config mine/recipe.toml"
    recipe = (tmp_path / "mine/recipe.toml").read_text()
    keys = [line for line in recipe.splitlines() if " = " in line and not line.startswith("#")]
    before = dict(zip(recipe.splitlines()[1:], recipe.splitlines(), strict=False))
    assert all("  # " in key or before[key].startswith("# ") for key in keys), "a reason a line"
    assert "measured: a step took" in recipe
    again = run("init", "mine", "--backend", "reference")
    assert (again.returncode, "SEG-X126" in again.stderr) == (2, True)
    assert (tmp_path / "mine/recipe.toml").read_text() == recipe
    second = run("run", "mine", "--set", "training.epochs=1")
    assert second.returncode == 0, second.stderr
    assert "by the recipe that is there" in second.stdout
    assert json.loads((tmp_path / "runs/mine/evaluation/test.json").read_text())
    classes = datasets.load_labels(load_recipe(tmp_path / "mine/recipe.toml").data)
    assert classes.names == ("ground", "cell")
    assert "#000000" not in [each.colour for each in classes.classes]


def square(mask_HW: np.ndarray) -> list[list[int]]:
    """Return the corners of the square that is 1."""
    rows, columns = (np.flatnonzero(mask_HW.any(axis)) for axis in (1, 0))
    top, below, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    corners = [[left, top], [right, top], [right, below], [left, below]]
    return [[int(each) for each in corner] for corner in corners]


def labelme_folder(root: Path, number: int = 12, **more: object) -> Path:
    for n in range(number):
        image_HWC, mask_HW = picture(n)
        save(root / f"{n:03d}.png", image_HWC)
        shape = {"label": "cell", "points": square(mask_HW), "shape_type": "polygon", **more}
        file = {"imagePath": f"{n:03d}.png", "imageHeight": 40, "imageWidth": 48}
        (root / f"{n:03d}.json").write_text(json.dumps({"shapes": [shape], **file}))
    return root


def coco_file(root: Path, name: str, images: str, number: int = 12) -> Path:
    told = []
    for n in range(number):
        image_HWC, mask_HW = picture(n)
        save(root / images / f"{n:03d}.png", image_HWC)
        ring = np.ravel(square(mask_HW)).tolist()
        told.append({"id": n, "image_id": n, "category_id": 4, "segmentation": [ring]})
    listed = [
        {"id": n, "file_name": f"{n:03d}.png", "height": 40, "width": 48} for n in range(number)
    ]
    # Some services write a category that nothing is of before the others.
    classes = [{"id": 0, "name": "all"}, {"id": 4, "name": "cell"}]
    file = {"images": listed, "annotations": told, "categories": classes}
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(file))
    return root


@pytest.mark.parametrize("tool", ["labelme", "coco"])
def test_files_of_a_labelling_tool_train_in_two_commands(tool, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from terrazzo.cli.app import app

    monkeypatch.chdir(tmp_path)
    root = tmp_path / "mine"
    if tool == "labelme":
        labelme_folder(root)
    else:
        coco_file(root, "labels/instances_default.json", "pictures")
    answer = CliRunner().invoke(app, ["init", "mine", "--backend", "reference"])
    assert answer.exit_code == 0, (answer.output, answer.exception)
    data = load_recipe(root / "recipe.toml").data
    assert data.format == tool
    assert sizes_of(root / "recipe.toml") == {"train": 7, "val": 3, "test": 2}
    classes = datasets.load_labels(data)
    assert classes.names == ("background", "cell")
    assert len({each.colour for each in classes.classes} - {"#000000"}) == 2
    split = datasets.open_split(data, "train")
    for index in range(len(split)):
        read = split.read(index)
        np.testing.assert_array_equal(read.label_HW, picture(int(read.name))[1])
    if tool == "coco":
        assert list(data.options["classes"]) == ["all", "cell"]
        assert "should all be learned?" in answer.output.replace("\n", " ")
    answer = CliRunner().invoke(app, ["run", "mine", "--set", "training.epochs=1"])
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert json.loads((tmp_path / "runs/mine/evaluation/test.json").read_text())


@pytest.mark.parametrize("tool", WRITERS)
def test_each_format_of_shapes_is_recognised(tool, tmp_path, no_steps):
    tree = WRITERS[tool](tmp_path)
    (tmp_path / "shapes.toml").unlink()
    if tool == "yolo":
        (tmp_path / "data.yaml").write_text("path: .\nnames:\n  0: road\n  1: 'car'\n  2: sky\n")
    proposal = init(tmp_path, None, REFERENCE)
    data = load_recipe(proposal.recipe).data
    assert data.format == tool
    assert sum(sizes_of(proposal.recipe).values()) == len(tree.written_images)
    classes = datasets.load_labels(data)
    assert sorted(classes.names) == ["background", "car", "road", "sky"]
    numbers = [0, *(classes.names.index(name) for name in CLASSES)]
    for split in datasets.SPLITS:
        opened = datasets.open_split(data, split)
        for index in range(len(opened)):
            read = opened.read(index)
            written = next(
                each for each in tree.written_images.values() if str(each.image) == read.image_file
            )
            if tool != "cityscapes_polygons":  # drawn with its borders by default
                expected = np.array(numbers)[written.raw_label]
                np.testing.assert_array_equal(read.label_HW, expected)


def test_what_a_tool_leaves_open_is_asked(tmp_path):
    lines = labelme_folder(tmp_path / "lines", shape_type="linestrip")
    asked = question(lines)
    assert asked.code == "SEG-D116"
    assert "line_width" in str(asked)
    two = coco_file(coco_file(tmp_path / "two", "a.json", "images"), "b.json", "images")
    asked = question(two)
    assert asked.code == "SEG-D121"
    assert "a.json, b.json" in str(asked)
    tracks = labelme_folder(tmp_path / "tracks")
    (tracks / "003.json").unlink()
    asked = question(tracks)
    assert asked.code == "SEG-D014"
    assert "unannotated" in str(asked.next_step)
    several = tmp_path / "several"
    for part in ("first", "second"):
        WRITERS["supervisely"](several / part)
    asked = question(several)
    assert asked.code == "SEG-D121"
    assert "first/ann" in str(asked.observed)
    assert "second/ann" in str(asked.observed)
    for path in (two / "images").iterdir():
        path.unlink()
    assert "files of coco, and no images" in str(question(two))
    annotators = tmp_path / "annotators"
    WRITERS["label_studio"](annotators)
    tasks = json.loads((annotators / "project.json").read_text())
    tasks[0]["annotations"].append({**tasks[0]["annotations"][0], "completed_by": 2})
    (annotators / "project.json").write_text(json.dumps(tasks))
    assert question(annotators).code == "SEG-D117"


def test_what_was_asked_about_a_tool_is_answered_by_set(tmp_path, no_steps):
    lines = labelme_folder(tmp_path / "lines", shape_type="linestrip")
    proposal = init(lines, None, Wishes("reference", None, (), ("data.options.line_width=3",)))
    assert load_recipe(proposal.recipe).data.options["line_width"] == 3
    two = coco_file(coco_file(tmp_path / "two", "a.json", "images"), "b.json", "images")
    chosen = ("data.format=coco", "data.options.annotations=b.json")
    proposal = init(two, None, Wishes("reference", None, ("ground", "thing"), chosen))
    assert sum(sizes_of(proposal.recipe).values()) == 12


def test_files_of_shapes_of_each_split_are_the_splits(tmp_path, no_steps):
    for number, split in ((6, "train"), (3, "val"), (2, "test")):
        coco_file(tmp_path, f"annotations/instances_{split}.json", f"images/{split}", number)
    assert sizes_of(init(tmp_path, None, REFERENCE).recipe) == {"train": 6, "val": 3, "test": 2}


@pytest.mark.parametrize(
    ("file", "images", "words"),
    [
        ("{s}/_annotations.coco.json", "{s}", ("train", "valid")),
        ("{s}/_annotations.coco.json", "{s}", ("train", "valid", "test")),
        ("annotations/instances_{s}.json", "images/{s}", ("train", "val")),
        ("annotations/instances_{s}2017.json", "{s}2017", ("train", "val")),
    ],
)
def test_files_of_coco_of_some_splits_or_under_other_words(file, images, words, tmp_path, no_steps):
    for number, word in zip((10, 4, 3), words, strict=False):
        coco_file(tmp_path, file.format(s=word), images.format(s=word), number)
    proposal = init(tmp_path, None, REFERENCE)
    expected = {"train": 10, "val": 4, "test": 3}
    if len(words) == 2:
        expected = {"train": 9, "val": 4, "test": 1}
        assert any("is there a test split elsewhere?" in line for line in proposal.unsure)
        told = "val is as it is named (share 0), test is drawn from train"
        assert any(told in line for line in proposal.decided)
    assert sizes_of(proposal.recipe) == expected
    data = load_recipe(proposal.recipe).data
    for split in datasets.SPLITS:
        opened = datasets.open_split(data, split)
        for index in range(len(opened)):
            read = opened.read(index)
            number = int(read.name.rpartition("/")[2])
            np.testing.assert_array_equal(read.label_HW, picture(number)[1])
    # What a run keeps of its draw leads back to the same images.
    kept = tmp_path / "splits.json"
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    if datasets.draws(data):
        datasets.keep_draw(splits, kept)
        again = datasets.with_kept_draw(data, kept)
        for name, opened in splits.items():
            assert datasets.open_split(again, name).names == opened.names


@pytest.mark.parametrize("place", ["{s}/{kind}", "{kind}/{s}"])
def test_folders_of_yolo_of_train_and_valid(place, tmp_path, no_steps):
    for number, word in ((10, "train"), (4, "valid")):
        folders = [tmp_path / place.format(s=word, kind=kind) for kind in ("images", "labels")]
        folders[1].mkdir(parents=True)
        for n in range(number):
            image_HWC, mask_HW = picture(n)
            save(folders[0] / f"{word}{n}.png", image_HWC)
            shares = np.ravel(np.array(square(mask_HW)) / [48, 40]).tolist()
            (folders[1] / f"{word}{n}.txt").write_text(" ".join(map(str, (0, *shares))))
    (tmp_path / "data.yaml").write_text("names: ['cell']\n")
    proposal = init(tmp_path, None, REFERENCE)
    assert sizes_of(proposal.recipe) == {"train": 9, "val": 4, "test": 1}


def test_words_of_splits_that_do_not_fit_the_paths_are_refused(tmp_path):
    for options, told in (
        ({"split_words": {"train": "a"}}, "no path holds it"),
        ({"images": "{split}", "split_words": {"val": "a"}}, "name no train split"),
        ({"images": "{split}", "split_words": {"train": "a"}}, "fewer than three splits"),
    ):
        data = {"format": "coco", "root": str(tmp_path), "options": options}
        with pytest.raises(ConfigError, match=told):
            datasets.open_source(DataConfig(**data), "train")


def test_a_split_without_a_folder_is_drawn_and_the_named_one_is_kept(tmp_path, no_steps):
    for split, number in (("train", 10), ("val", 3)):
        labelme_folder(tmp_path / split, number)
    proposal = init(tmp_path, None, REFERENCE)
    data = load_recipe(proposal.recipe).data
    assert sizes_of(proposal.recipe) == {"train": 9, "val": 3, "test": 1}
    assert {name[:4] for name in datasets.open_split(data, "val").names} == {"val/"}
    assert any("is there a test split elsewhere?" in line for line in proposal.unsure)


def test_tiles_with_a_place_whose_labels_a_tool_has_drawn(tmp_path, no_steps):
    coco_file(tmp_path, "coco.json", "tiles")
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 392_000, 0, -1, 5_820_000)}
    for path in (tmp_path / "tiles").glob("*.png"):
        rasters.write(path.with_suffix(".tif"), np.asarray(Image.open(path)), **place)
        path.unlink()
    file = (tmp_path / "coco.json").read_text().replace(".png", ".tif")
    (tmp_path / "coco.json").write_text(file)
    recipe = init(tmp_path, None, REFERENCE).recipe
    assert load_recipe(recipe).data.format == "coco"
    assert sum(sizes_of(recipe).values()) == 12


def test_every_one_of_many_folders_is_looked_at(tmp_path, no_steps):
    for folder in ("a", "b"):
        for patient in range(12):
            labelme_folder(tmp_path / folder / str(patient), 8)
    proposal = init(tmp_path, None, REFERENCE)
    assert sum(sizes_of(proposal.recipe).values()) == 192


def test_masks_beside_the_files_of_a_tool_are_taken_and_asked_about(tmp_path, no_steps):
    make(tmp_path, "images/{n}.png", "masks/{n}.png")
    coco_file(tmp_path, "coco.json", "images", 10)
    proposal = init(tmp_path, None, REFERENCE)
    assert load_recipe(proposal.recipe).data.format == "folder"
    assert any("--set data.format=coco" in line for line in proposal.unsure)


def test_names_of_shapes_that_are_no_class(tmp_path, no_steps):
    labelme_folder(tmp_path)
    for path, name in zip(
        sorted(tmp_path.glob("*.json")), ("__ignore__", "_background_"), strict=False
    ):
        file = json.loads(path.read_text())
        corner = {"label": name, "points": [[0, 0], [9, 0], [9, 9]], "shape_type": "polygon"}
        file["shapes"].insert(0, corner)
        path.write_text(json.dumps(file))
    proposal = init(tmp_path, None, REFERENCE)
    classes = datasets.load_labels(load_recipe(proposal.recipe).data)
    assert [(each.name, each.raw) for each in classes.classes] == [
        ("background", (0, 3)),
        ("cell", (2,)),
    ]
    assert set(classes.ignored) == {1, 255}


def test_run_with_a_folder_and_a_recipe_is_refused(tmp_path):
    from typer.testing import CliRunner

    from terrazzo.cli.app import app

    answer = CliRunner().invoke(app, ["run", str(tmp_path), "--config", "a.toml"])
    assert isinstance(answer.exception, ConfigError)
    assert answer.exception.code == "SEG-X013"


def test_files_elsewhere_leave_the_data_alone(tmp_path, no_steps):
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    before = sorted(root.rglob("*"))
    proposal = init(root, tmp_path / "recipes" / "mine", REFERENCE)
    assert sorted(root.rglob("*")) == before
    assert sum(sizes_of(proposal.recipe).values()) == 10
    assert sorted(p.name for p in proposal.recipe.parent.iterdir()) == [
        "labels.toml",
        "recipe.toml",
    ]


def test_a_recipe_elsewhere_names_the_data_from_its_folder(tmp_path, no_steps):
    root = make(tmp_path / "there" / "mine", "images/{n}.png", "masks/{n}.png")
    text = init(root, tmp_path / "recipes" / "mine", REFERENCE).recipe.read_text()
    told = 'root = "../../there/mine"  # from the folder of this recipe'
    assert told in text
    (tmp_path / "moved").mkdir()
    (tmp_path / "there").rename(tmp_path / "moved" / "there")
    (tmp_path / "recipes").rename(tmp_path / "moved" / "recipes")
    assert sum(sizes_of(tmp_path / "moved/recipes/mine/recipe.toml").values()) == 10


@pytest.mark.parametrize(
    ("name", "text", "expected", "asked"),
    [
        ("classes.txt", "ground\ncell\n", {"ground", "cell"}, "does classes.txt begin with"),
        ("labels.txt", "0: ground\n1: cell\n", {"ground", "cell"}, ""),
        ("classes.json", '{"0": "ground", "1": "cell"}', {"ground", "cell"}, ""),
        ("classes.json", '{"ground": 0, "cell": 1}', {"ground", "cell"}, ""),
        (
            "classes.json",
            '{"classes": [{"value": 0, "name": "ground"}, {"value": 1, "name": "cell"}]}',
            {"ground", "cell"},
            "",
        ),
        ("classes.txt", "images/000.png\nimages/001.png\n", {"background", "foreground"}, ""),
        ("classes.json", "not JSON", {"background", "foreground"}, ""),
    ],
)
def test_names_of_classes_in_a_file_beside(name, text, expected, asked, tmp_path, no_steps):
    make(tmp_path, "images/{n}.png", "masks/{n}.png", times=1)
    (tmp_path / name).write_text(text)
    proposal = init(tmp_path, None, REFERENCE)
    assert proposal.labels is not None
    assert set(load_label_map(proposal.labels).names) == expected
    assert any(line.startswith(asked) for line in proposal.unsure) if asked else True
    unnamed = any("what are the classes called?" in line for line in proposal.unsure)
    assert unnamed == ("foreground" in expected)


def test_names_in_order_of_values_with_gaps_and_of_colours(tmp_path, no_steps):
    root = make(tmp_path / "gaps", "images/{n}.png", "masks/{n}.png")
    (root / "classes.txt").write_text("ground\ncell\n")
    proposal = init(root, None, REFERENCE)
    assert proposal.unsure[1] == (
        "are the names in classes.txt in the order of the values? They are read so: "
        "0 = ground, 255 = cell"
    )
    three = make(tmp_path / "three", "images/{n}.png", "masks/{n}.png")
    (three / "classes.txt").write_text("ground\ncell\nsky\n")
    proposal = init(three, None, REFERENCE)
    assert proposal.unsure[1] == (
        "which names of classes.txt go with which values? It holds 3, the masks hold 2 values: "
        "name them by --classes NAME=VALUE,…"
    )
    for name, lines in (
        ("labelmap.txt", "# label:color_rgb:parts:actions\nsoil:0,0,0::\ntree:9,99,9::\n"),
        ("label_colors.txt", "0 0 0 soil\n9 99 9\ttree\n"),
    ):
        root = coloured(tmp_path / name[:-4], (0, 0, 0), (9, 99, 9))
        (root / name).write_text(lines)
        labels = init(root, None, REFERENCE).labels
        assert labels is not None
        assert load_label_map(labels).names == ("soil", "tree")


def test_images_that_are_left_out_are_named(tmp_path, no_steps):
    coco = coco_file(tmp_path / "coco", "coco.json", "images")
    save(coco / "images" / "extra.png", picture(0)[0])
    told = init(coco, None, REFERENCE).decided
    assert "left out  since the file does not name them: 1 images: extra.png" in told
    lists = make(tmp_path / "lists", "images/{n}.png", "masks/{n}.png")
    save(lists / "images" / "extra.png", picture(0)[0])
    (lists / "train.txt").write_text("\n".join(f"{n:03d}" for n in range(6)))
    (lists / "val.txt").write_text("\n".join(f"{n:03d}" for n in range(6, 9)))
    told = init(lists, None, REFERENCE).decided
    assert "left out  2 images that no list names: 009, extra" in told


def test_names_that_do_not_fit_shapes_are_refused_with_the_names_of_shapes(tmp_path, no_steps):
    coco = coco_file(tmp_path / "coco", "coco.json", "images")
    asked = question(coco, Wishes("reference", None, ("a", "b", "c")))
    assert asked.code == "SEG-X127"
    assert str(asked.observed).startswith("--classes a,b,c; the labels hold background (")
    assert ", cell (" in str(asked.observed)
    named = init(coco, None, Wishes("reference", None, ("thing=cell",)))
    assert named.labels is not None
    assert load_label_map(named.labels).names == ("background", "thing")


def test_a_warm_up_is_shorter_than_the_training_that_was_asked_for(tmp_path, no_steps):
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    proposal = init(root, None, Wishes("reference", None, (), ("training.epochs=2",)))
    assert load_recipe(proposal.recipe).training.schedule.warmup_steps == 0


def test_a_class_that_is_rare_gets_dice(tmp_path, no_steps):
    for n in range(10):
        image_HWC, mask_HW = picture(n, (96, 128))
        mask_HW[:] = 0
        mask_HW[:4, :4] = 7
        save(tmp_path / f"images/{n}.png", image_HWC)
        save(tmp_path / f"masks/{n}.png", mask_HW)
    recipe = load_recipe(init(tmp_path, None, REFERENCE).recipe)
    assert recipe.training.loss.dice == 0.5


def test_colours_keep_theirs_and_black_is_not_shown_black(tmp_path, no_steps):
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    for n in range(10):
        image_HWC, mask_HW = picture(n)
        mask_HW[-10:] = 2
        save(tmp_path / f"images/{n}.png", image_HWC)
        save(tmp_path / f"masks/{n}.png", colours[mask_HW])
    proposal = init(tmp_path, None, REFERENCE)
    classes = datasets.load_labels(load_recipe(proposal.recipe).data)
    shown = [each.colour for each in classes.classes]
    assert classes.colour_coded
    assert set(shown) > {"#FF0000", "#0000FF"}
    assert "#000000" not in shown
    assert len(set(shown)) == 3


def question(root: Path, wishes: Wishes = REFERENCE) -> TerrazzoError:
    with pytest.raises(TerrazzoError) as refused:
        init(root, None, wishes)
    assert not (root / "recipe.toml").exists()
    assert not (root / "labels.toml").exists()
    assert refused.value.next_step
    return refused.value


def test_each_odd_folder_ends_in_one_question(tmp_path):
    def code(name: str, *layout: str, **more: int) -> str:
        return question(make(tmp_path / name, *layout, **more)).code

    assert code("subflat", "images/{p}/{n}.png", "masks/{n}.png") == "SEG-D121"
    assert code("one value", "images/{n}.png", "masks/{n}.png", times=0) == "SEG-D124"
    lonely = make(tmp_path / "lonely", "images/{n}.png", "masks/{n}.png")
    (lonely / "masks/003.png").unlink()
    assert "1 images without a mask: 003" in str(question(lonely))
    (tmp_path / "empty").mkdir()
    assert question(tmp_path / "empty").code == "SEG-D120"
    unread = tmp_path / "unread"
    (unread / "masks").mkdir(parents=True)
    (unread / "masks/a.npy").write_bytes(b"")
    save(unread / "images/a.png", picture(0)[0])
    assert ".npy files are not read" in str(question(unread))
    for name, text, told in (
        ("a.json", '{"annotations": [{"bounding_box": {}, "polygon": {}}]}', "Darwin JSON"),
    ):
        tool = tmp_path / told
        save(tool / "a.png", picture(0)[0])
        (tool / name).write_text(text)
        asked = question(tool)
        assert asked.code == "SEG-D122"
        assert told in str(asked)


def test_numbered_objects_are_no_classes(tmp_path):
    for n in range(6):
        image_HWC, mask_HW = picture(n, (96, 96))
        mask_HW[:] = 0
        for number in range(1, n + 4):
            mask_HW[10 * number : 10 * number + 6, 8:20] = number
        save(tmp_path / f"images/{n}.png", image_HWC)
        save(tmp_path / f"masks/{n}.png", mask_HW)
    as_classes = Wishes("reference", assignments=("data.options.mask_kind=index",))
    asked = question(tmp_path, as_classes)
    assert asked.code == "SEG-D123"
    assert "Cellpose" in str(asked)


def test_names_that_do_not_fit_the_values_are_refused_with_the_values(tmp_path):
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    asked = question(root, Wishes("reference", None, ("a", "b", "c")))
    assert asked.code == "SEG-X127"
    assert "255 (" in str(asked)


def test_a_model_that_is_not_there_is_refused_before_the_work(tmp_path):
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    assert question(root, Wishes("reference", "unett")).code == "SEG-X004"


def test_jpeg_masks_of_two_values_are_read_above_the_middle(tmp_path, no_steps):
    make(tmp_path, "images/{n}.png", "masks/{n}.jpg")
    proposal = init(tmp_path, None, REFERENCE)
    assert load_recipe(proposal.recipe).data.format == "part_masks"
    assert any("exported again" in line for line in proposal.unsure)


def test_a_folder_a_class(tmp_path, no_steps):
    for n in range(10):
        image_HWC, mask_HW = picture(n)
        save(tmp_path / f"images/{n}.png", image_HWC)
        save(tmp_path / f"masks/cell/{n}.png", mask_HW * 255)
        save(tmp_path / f"masks/bg/{n}.png", (1 - mask_HW) * 255)
    recipe = load_recipe(init(tmp_path, None, REFERENCE).recipe)
    assert datasets.load_labels(recipe.data).names == ("background", "cell")


def scene(folder: Path) -> Path:
    folder.mkdir()
    image_HWC = np.random.default_rng(0).integers(0, 200, (256, 256, 3)).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 392_000, 0, -1, 5_820_000)}
    rasters.write(folder / "scene.tif", image_HWC, **place)
    return folder


def test_a_scene_with_shapes(tmp_path, no_steps):
    folder = scene(tmp_path / "scene")
    squares = [
        (kind, 392_000 + 40 * k, 5_820_000 - 40 * row)
        for row in range(6)
        for k, kind in enumerate(("house", "road", "house", "field", "road", "field"))
    ]
    features = [
        {
            "type": "Feature",
            "properties": {"class": kind},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x, y], [x + 20, y], [x + 20, y - 20], [x, y - 20], [x, y]]],
            },
        }
        for kind, x, y in squares
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    (folder / "labels.geojson").write_text(text)
    recipe = load_recipe(init(folder, None, REFERENCE).recipe)
    assert recipe.data.format == "geotiff"
    assert datasets.load_labels(recipe.data).names == ("background", "field", "house", "road")
    train(recipe, tmp_path / "run")


def test_a_scene_with_a_raster_of_classes(tmp_path, no_steps):
    folder = scene(tmp_path / "scene")
    classes_HW = np.tile(np.repeat(np.arange(1, 5, dtype=np.uint8), 4), (256, 16))
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 392_000, 0, -1, 5_820_000)}
    rasters.write(folder / "scene_classes.tif", classes_HW[..., None], **place)
    recipe = load_recipe(init(folder, None, REFERENCE).recipe)
    assert recipe.data.format == "geotiff"
    assert len(datasets.load_labels(recipe.data)) == 4


def squares_file(path: Path, left: float) -> None:
    """Write 36 squares of three classes below and right of a corner."""
    features = []
    for row in range(6):
        for k, kind in enumerate(("house", "road", "house", "field", "road", "field")):
            x, y = left + 40 * k, 5_820_000 - 40 * row
            ring = [[x, y], [x + 20, y], [x + 20, y - 20], [x, y - 20], [x, y]]
            geometry = {"type": "Polygon", "coordinates": [ring]}
            told = {"type": "Feature", "properties": {"class": kind}, "geometry": geometry}
            features.append(told)
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": features})
    path.write_text(text)


def two_scenes(folder: Path) -> Path:
    """Write two scenes side by side with shapes called after them."""
    folder.mkdir()
    for name, left in (("north", 392_000), ("north_2", 393_000)):
        image_HWC = np.random.default_rng(0).integers(0, 200, (256, 256, 3)).astype(np.uint8)
        place = {"crs": "EPSG:32633", "transform": Affine(1, 0, left, 0, -1, 5_820_000)}
        rasters.write(folder / f"{name}.tif", image_HWC, **place)
        squares_file(folder / f"{name}_labels.geojson", left)
    return folder


def test_several_scenes_with_shapes_called_after_them(tmp_path, no_steps):
    recipe = load_recipe(init(two_scenes(tmp_path / "scenes"), None, REFERENCE).recipe)
    scenes = recipe.data.options["scenes"]
    assert [(scene["images"], scene["label"]) for scene in scenes] == [
        (("north.tif",), "north_labels.geojson"),
        (("north_2.tif",), "north_2_labels.geojson"),
    ]
    assert datasets.load_labels(recipe.data).names == ("background", "field", "house", "road")


def test_scenes_that_are_named_with_set_are_completed(tmp_path, no_steps):
    folder = scene(tmp_path / "scene")
    squares_file(folder / "a.geojson", 392_000)
    squares_file(folder / "b.geojson", 392_000)
    asked = question(folder)
    assert asked.code == "SEG-D121"
    advice = str(asked.next_step)
    assert "--set data.format=geotiff --set 'data.options.scenes=" in advice
    scenes = 'data.options.scenes=[{ images = ["scene.tif"], label = "b.geojson" }]'
    wishes = Wishes("reference", None, (), ("data.format=geotiff", scenes))
    recipe = load_recipe(init(folder, None, wishes).recipe)
    assert recipe.data.options["chip"] == 32
    assert datasets.load_labels(recipe.data).names == ("background", "field", "house", "road")
    without = Wishes("reference", None, (), (scenes, "data.options.chip=64"))
    recipe = load_recipe(init(folder, tmp_path / "again", without).recipe)
    assert recipe.data.options["chip"] == 64
    assert recipe.augment.crop == (64, 64)


def test_pixels_that_a_label_raster_takes_out_are_asked_about(tmp_path, no_steps):
    folder = scene(tmp_path / "scene")
    classes_HW = np.tile(np.repeat(np.arange(4, dtype=np.uint8), 4), (256, 16))
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 392_000, 0, -1, 5_820_000)}
    rasters.write(folder / "scene_classes.tif", classes_HW[..., None], nodata=0, **place)
    proposal = init(folder, None, REFERENCE)
    assert proposal.unsure[-1] == (
        "does 0 mean 'no label'? scene_classes.tif declares it as nodata, and such pixels, 24.7%, "
        "are left out; where it is a class: gdal_edit.py -unsetnodata FILE"
    )


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, no_steps, monkeypatch):
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    from terrazzo.workflows.init import proposal

    def refuse(*_: object) -> None:
        raise DataError("SEG-D013", "gone", next_step="…")

    monkeypatch.setattr(proposal, "load_label_map", refuse)
    with pytest.raises(DataError):
        init(root, None, REFERENCE)
    assert sorted(p.name for p in root.iterdir()) == ["images", "masks"]


def test_words_of_folders():
    assert role_of("SegmentationClass") == role_of("trainannot") == role_of("ann_dir") == "masks"
    assert role_of("JPEGImages") == role_of("train_images") == role_of("img_dir") == "images"
    assert role_of("patient1") is None
    assert base_of("mask/Head-Masks") == ("masks", "mask")
    assert base_of("Semantic segmentation dataset/Tile 1/images") == (
        "images",
        "Semantic segmentation dataset/Tile 1/images",
    )


@pytest.mark.skipif(not DATA.is_dir(), reason="TERRAZZO_DATA is not set")
@pytest.mark.parametrize("name", ["oxford_pet", "dubai_aerial", "camvid", "sperm_parts"])
def test_real_sets(name, tmp_path, no_steps):
    proposal = init(DATA / name, tmp_path, REFERENCE)
    expected = {"oxford_pet": 598, "dubai_aerial": 45, "camvid": 701, "sperm_parts": 256}
    assert sum(sizes_of(proposal.recipe).values()) == expected[name]
    if name == "dubai_aerial":
        names = datasets.load_labels(load_recipe(proposal.recipe).data).names
        assert "vegetation" in names


def test_a_kept_draw_is_gone_back_to_where_folders_name_a_split(tmp_path, no_steps):
    for split, number in (("train", 20), ("val", 4)):
        make(
            tmp_path, f"{split}/images/{split}{{n}}.png", f"{split}/masks/{split}{{n}}.png", number
        )
    data = load_recipe(init(tmp_path, None, REFERENCE).recipe).data
    splits = {name: datasets.open_split(data, name) for name in datasets.SPLITS}
    datasets.keep_draw(splits, tmp_path / "splits.json")
    kept = datasets.with_kept_draw(data, tmp_path / "splits.json")
    for name, split in splits.items():
        assert datasets.open_split(kept, name).names == split.names


@pytest.mark.parametrize(
    "options",
    [
        {"images": "{folder}/images"},
        {"images": "{folder}s/images", "masks": "{folder}/masks"},
        {"images": "{folder}/{split}", "masks": "{folder}/masks"},
        {"lists": {"train": "t"}, "split": {"train": 0.8, "val": 0.1, "test": 0.1}},
    ],
)
def test_folders_and_draws_that_do_not_go_together_are_refused(options, tmp_path):
    data = {"format": "folder", "root": str(tmp_path), "options": options}
    with pytest.raises(ConfigError) as refused:
        datasets.open_source(DataConfig(**data), "train")
    assert refused.value.code == "SEG-X002"


def measured_with(monkeypatch, tmp_path: Path, most: int = 8) -> measure_step.Measured | None:
    """Measure in this process, whose memory the caller has made small."""
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    with monkeypatch.context() as patch:
        steps = measure_step.Measured(2, 0.01, 0, 0, "cpu", "")
        patch.setattr(measure_step, "measure", lambda *_: (steps, ""))
        recipe = init(root, None, REFERENCE).recipe
    program = measure_step.main
    monkeypatch.setattr(measure_step, "run_module", lambda _, a, **__: program(list(map(str, a))))
    return measure_step.measure(recipe, most, tmp_path)[0]


def test_a_batch_stops_where_twice_as_many_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_step, "available_bytes", lambda: 1000)
    found = measured_with(monkeypatch, tmp_path)
    assert found is not None
    assert found.batch_size == 1
    assert "60%" in found.limit


def test_a_batch_that_does_not_fit_is_halved(tmp_path, monkeypatch):
    make_steps = measure_step._steps

    def steps(*arguments: object) -> float:
        if arguments[-1] == 4:
            raise MemoryError
        return make_steps(*arguments)

    monkeypatch.setattr(measure_step, "available_bytes", lambda: None)
    monkeypatch.setattr(measure_step, "_steps", steps)
    found = measured_with(monkeypatch, tmp_path)
    assert found is not None
    assert (found.batch_size, found.limit) == (2, "4 images do not fit into the memory")


def test_where_no_step_can_be_made_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(measure_step, "measure", lambda *_: (None, "it was killed"))
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    asked = question(root)
    assert (asked.code, asked.observed) == ("SEG-X129", "it was killed")


def test_what_was_asked_for_is_written_and_what_depends_on_it_follows(tmp_path):
    make(tmp_path, "images/{n}.png", "masks/{n}.png")
    asked = ("data.image_size=[32,32]", "training.steps=3", "training.batch_size=1")
    proposal = init(tmp_path, None, Wishes("reference", None, (), asked))
    recipe = load_recipe(proposal.recipe)
    assert recipe.augment.crop == recipe.data.image_size == (32, 32)
    assert (recipe.training.steps, recipe.training.epochs) == (3, None)
    assert recipe.training.batch_size == 1
    assert proposal.recipe.read_text().count("asked for with --set") == 3
    assert not any("may it take longer" in line for line in proposal.unsure)


def test_a_folder_that_is_read_only_is_left_alone_by_root_too(tmp_path, no_steps):
    root = make(tmp_path / "mine", "images/{n}.png", "masks/{n}.png")
    root.chmod(0o555)
    try:
        asked = question(root)
    finally:
        root.chmod(0o755)
    assert asked.code == "SEG-X128"
    assert "--out DIR" in str(asked.next_step)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("names: ['zebra', 'apple']\n", ["zebra", "apple"]),
        ("names: ['zebra', \"cat, dog's\"]\n", ["zebra", "cat, dog's"]),
        ("names: {0: zebra, 1: apple}\n", ["zebra", "apple"]),
        ("names:\n  1: apple\n  0: zebra\nnc: 2\n", ["zebra", "apple"]),
        (
            "names:\n  # animals\n  0: zebra # striped\n  1: apple\n\n# Get\ndownload: x\n",
            ["zebra", "apple"],
        ),
        (
            "names:\n- zebra\n- apple\nnc: 2\nroboflow:\n  license: CC BY 4.0\n",
            ["zebra", "apple"],
        ),
        ("names: # classes\r\n  0: zebra\r\n  1: apple\r\n", ["zebra", "apple"]),
        ("names:\n  0: zebra\n  2: apple\n", None),
        ("nc: 2\n", None),
        ("names:\n", None),
    ],
)
def test_names_of_a_yolo_file_go_by_their_numbers(text, expected):
    assert yolo_names.names_in(text) == expected


def coloured(folder, *colours):
    """Masks that hold some colours each, black most of them."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    palette = np.array(colours, np.uint8)
    for number in range(8):
        which_HW = np.where(rng.random((32, 40)) < 0.7, 0, rng.integers(0, len(colours), (32, 40)))
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(
            folder / "images" / f"{number}.png"
        )
        Image.fromarray(palette[which_HW]).save(folder / "masks" / f"{number}.png")
    return folder


def test_colours_that_everybody_takes_are_of_no_published_set(tmp_path):
    folder = coloured(tmp_path / "own", (0, 0, 0), (255, 0, 0), (255, 255, 255))
    found = init(folder, wishes=Wishes(backend="reference"))
    label_map = load_label_map(found.labels)
    assert len(label_map) == 3
    assert label_map.ignored == ()
    assert set(label_map.names) == {"value_000000", "value_FF0000", "value_FFFFFF"}


def test_a_label_raster_with_a_palette_is_one(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "own").mkdir()
    make_scene(tmp_path / "own" / "s.tif", (96, 96, 3))
    labels_HW = np.kron(rng.integers(0, 3, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    path = tmp_path / "own" / "s_label.tif"
    size = {"width": 96, "height": 96, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **size, **UTM) as dataset:
        dataset.write(labels_HW, 1)
        dataset.write_colormap(1, {0: (9, 9, 9), 1: (200, 0, 0), 2: (0, 200, 0)})
    found = init(tmp_path / "own", wishes=Wishes(backend="reference"))
    assert 'label = "s_label.tif"' in found.recipe.read_text()


@pytest.mark.parametrize("lossless", [True, False])
def test_webp_and_gif_are_read_and_masks_with_losses_are_named(tmp_path, no_steps, lossless):
    for n in range(10):
        image_HWC, mask_HW = picture(n)
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(image_HWC).save(tmp_path / f"images/{n}.webp", quality=80)
        mask = Image.fromarray(mask_HW * np.uint8(255))
        if lossless:
            mask.save(tmp_path / f"masks/{n}.gif")
        else:
            mask.save(tmp_path / f"masks/{n}.webp", quality=80)
    if lossless:
        proposal = init(tmp_path, wishes=REFERENCE)
        assert load_label_map(str(proposal.labels)).names == ("background", "foreground")
    else:
        assert question(tmp_path).code == "SEG-D008"


def test_masks_of_grey_with_alpha_are_numbers(tmp_path, no_steps):
    for n in range(10):
        image_HWC, mask_HW = picture(n)
        save(tmp_path / f"images/{n}.png", image_HWC)
        (tmp_path / "masks").mkdir(exist_ok=True)
        grey = Image.fromarray(mask_HW)
        Image.merge("LA", (grey, Image.new("L", grey.size, 255))).save(tmp_path / f"masks/{n}.png")
    proposal = init(tmp_path, wishes=REFERENCE)
    assert "mask_kind" not in load_recipe(proposal.recipe).data.options
    assert load_label_map(str(proposal.labels)).names == ("background", "foreground")


@pytest.mark.parametrize("ending", ["", "_RoiSet"])
def test_images_of_microscopes_go_with_files_of_shapes_without_their_ending(
    tmp_path, no_steps, ending
):
    """``1.ome.tif`` beside ``1.zip``: the name that the ROI Manager proposes has no ``.ome``."""
    for number in range(10):
        channels_CHW = np.full((2, 16, 20), number, np.uint16)
        tifffile.imwrite(tmp_path / f"{number}.ome.tif", channels_CHW, metadata={"axes": "CYX"})
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, left=2, top=2, right=9, bottom=9, name="cell")
        with zipfile.ZipFile(tmp_path / f"{number}{ending}.zip", "w") as archive:
            archive.writestr("cell.roi", roi.tobytes())
    init(tmp_path, wishes=REFERENCE)
    options = load_recipe(tmp_path / "recipe.toml").data.options
    assert options["image_suffix"] == ".ome"
    assert options.get("annotation_suffix", "") == ending
    assert options["classes"] == ("cell",)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64])
def test_masks_may_be_whole_numbers_of_any_width(tmp_path, no_steps, dtype):
    """``np.zeros(…, int)`` has 64 bits, and tifffile writes them."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for n in range(10):
        image_HWC, mask_HW = picture(n)
        tifffile.imwrite(tmp_path / f"images/{n}.tif", image_HWC[..., 0])
        tifffile.imwrite(tmp_path / f"masks/{n}.tif", mask_HW.astype(dtype))
    init(tmp_path, wishes=REFERENCE)
    data = load_recipe(tmp_path / "recipe.toml").data
    assert data.format == "folder"
    assert set(np.unique(datasets.open_source(data, "train").read_label(0))) == {0, 1}
