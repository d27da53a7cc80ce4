"""Folders as people bring them: `init` writes a recipe that trains, or asks one clear question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from terrazzo.base.errors import TerrazzoError
from terrazzo.base.recipe import load_recipe
from terrazzo.cli.app import app
from terrazzo.workflows.init import Wishes, init, measure_step
from terrazzo.workflows.train import train

SHORT = Wishes("reference", assignments=("training.steps=2",))
Writer = Callable[[Path, str, np.ndarray, np.ndarray, int], None]


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def both(image: np.ndarray, mask: np.ndarray, root: Path, name: str) -> None:
    save(image, root / "images" / f"{name}.png")
    save(mask, root / "masks" / f"{name}.png")


def transparent(root, name, image, mask, number):
    colours = np.zeros((*mask.shape, 4), np.uint8)
    colours[mask == 1] = (255, 0, 0, 255)
    both(image, colours, root, name)


def jpeg_masks(root, name, image, mask, number):
    save(image, root / "images" / f"{name}.png")
    save(mask * 255, root / "masks" / f"{name}.jpg")


def upper_case(root, name, image, mask, number):
    both(image, mask * 255, root, name)
    save(image, root / "images" / f"{name}.JPG")
    (root / "images" / f"{name}.png").unlink()


def one_bit(root, name, image, mask, number):
    both(image, mask * 255, root, name)
    Image.fromarray(mask * 255).convert("1").save(root / "masks" / f"{name}.png")


def sixteen_bits(root, name, image, mask, number):
    both(image[..., 0].astype(np.uint16) * 200, mask * 255, root, name)


def junk(root, name, image, mask, number):
    both(image, mask * 255, root, name)
    for kind in ("images", "masks"):
        (root / kind / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (root / kind / "Thumbs.db").write_bytes(b"\xd0\xcf")
        (root / kind / "._000.png").write_bytes(b"\0\5\x16\7")
        (root / kind / "notes.txt").write_text("hello")


def sizes(root, name, image, mask, number):
    cut = np.s_[: 30 + number, : 48 - number]
    both(image[cut], mask[cut] * 255, root, name)


def cyrillic(root, name, image, mask, number):
    both(image, mask * 255, root, f"снимок {number}")


def of_patients(root, name, image, mask, number):
    save(image, root / f"p{number % 3}" / "images" / f"{name}.png")
    save(mask * 255, root / f"p{number % 3}" / "masks" / f"{name}.png")


def grey_in_rgb(root, name, image, mask, number):
    both(image, np.repeat(mask[..., None] * 255, 3, 2), root, name)


def palettes(root, name, image, mask, number):
    both(image, mask, root, name)
    picture = Image.fromarray(mask, "P")
    picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.save(root / "masks" / f"{name}.png")


TRAINS: tuple[Writer, ...] = (
    *(jpeg_masks, upper_case, one_bit, sixteen_bits, junk, sizes, cyrillic),
    *(of_patients, grey_in_rgb, palettes),
)


def mixed(root, name, image, mask, number):
    both(image if number % 2 else image[..., 0].copy(), mask * 255, root, name)


def one_of_16_bits(root, name, image, mask, number):
    grey = image[..., 0].copy()
    both(grey.astype(np.uint16) * 257 if number == 7 else grey, mask * 255, root, name)


def small_masks(root, name, image, mask, number):
    both(image, mask[::2, ::2] * 255, root, name)


def cmyk(root, name, image, mask, number):
    both(image, mask * 255, root, name)
    (root / "images" / f"{name}.png").unlink()
    Image.fromarray(image).convert("CMYK").save(root / "images" / f"{name}.jpg")


def flat_masks(root, name, image, mask, number):
    save(image, root / "images" / f"p{number % 3}" / f"{name}.png")
    save(mask * 255, root / "masks" / f"{name}.png")


ASKS: dict[Writer, str] = {
    transparent: "SEG-D019",
    mixed: "SEG-D020",
    one_of_16_bits: "SEG-D021",
    small_masks: "SEG-D009",
    cmyk: "SEG-D019",
    flat_masks: "SEG-D121",
}


def folder_of(writer: Writer, root: Path) -> Path:
    for number in range(8):
        rng = np.random.default_rng(number)
        image_HWC = rng.integers(60, 120, (40, 48, 3)).astype(np.uint8)
        mask_HW = np.zeros((40, 48), np.uint8)
        row, column = rng.integers(0, 12, 2)
        mask_HW[row : row + 14, column : column + 14] = 1
        image_HWC[mask_HW == 1] += 100
        writer(root, f"{number:03d}", image_HWC, mask_HW, number)
    return root


@pytest.fixture
def no_measuring(monkeypatch):
    """Leave the process out that measures a step; `test_init` has a test that makes it."""
    measured = measure_step.Measured(2, 0.01, 10**8, 10**10, "cpu", "as the test says")
    monkeypatch.setattr(measure_step, "measure", lambda *_: (measured, ""))


@pytest.mark.parametrize("writer", TRAINS, ids=lambda each: each.__name__)
def test_a_folder_gets_a_recipe_that_trains(writer, tmp_path, no_measuring):
    proposal = init(folder_of(writer, tmp_path / "mine"), None, SHORT)
    train(load_recipe(proposal.recipe), tmp_path / "run")
    assert (tmp_path / "run" / "evaluation" / "test.json").is_file()


@pytest.mark.parametrize("writer", ASKS, ids=lambda each: each.__name__)
def test_a_folder_ends_in_one_message_with_what_to_do(writer, tmp_path, no_measuring):
    root = folder_of(writer, tmp_path / "mine")
    with pytest.raises(TerrazzoError) as refused:
        init(root, None, SHORT)
    assert refused.value.code == ASKS[writer]
    assert refused.value.next_step
    assert refused.value.observed
    assert not (root / "recipe.toml").exists()


def test_a_check_without_a_recipe_says_what_writes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(upper_case, tmp_path / "mine")
    answer = CliRunner().invoke(app, ["check", "mine"])
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.splitlines()[-1] == (
        "next: terrazzo init mine writes a recipe and a label map; it looks for other names of "
        "folders, endings such as _mask and files of labelling tools"
    )
    assert "\n\n\n" not in answer.stdout
    (tmp_path / "mine" / "recipe.toml").write_text("")
    answer = CliRunner().invoke(app, ["check", "mine"])
    assert answer.stdout.splitlines()[-1] == (
        "next: terrazzo run mine trains by the recipe that is there"
    )
    for path in (tmp_path / "mine" / "masks").iterdir():
        path.rename(path.with_stem(f"{path.stem}_drawn"))
    answer = CliRunner().invoke(app, ["check", "mine"])
    assert answer.exit_code == 3
    assert "SEG-D014" in answer.stdout
    assert "SEG-D016" not in answer.stdout, "splits are empty because nothing pairs up"


def test_what_a_plain_folder_leaves_open_is_asked_in_these_words(tmp_path, no_measuring):
    proposal = init(folder_of(upper_case, tmp_path / "mine"), None, SHORT)
    assert proposal.unsure == (
        "are there more labelled images? val is 2 images and test is 1 image: scores on so few say "
        "little",
        "what are the classes called? Nothing in the folder says it: 0 = background, 255 = "
        "foreground. Name them by --classes A,B, in the order of the values, or in labels.toml",
    )
    assert proposal.decided[:2] == (
        "data      folder: 8 images with a mask of the same name",
        "splits    train 5, val 2, test 1: nothing says how to divide: drawn, the same on every "
        "machine",
    )


def test_images_and_masks_that_do_not_pair_up_are_shown_with_their_folders(tmp_path):
    with pytest.raises(TerrazzoError) as refused:
        init(folder_of(flat_masks, tmp_path / "mine"), None, SHORT)
    assert refused.value.observed == (
        "in images: p0/000.png, p0/003.png, p0/006.png, p1/001.png, p1/004.png, p1/007.png, "
        "p2/002.png, p2/005.png; in masks: 000.png, 001.png, 002.png"
    )
