"""Images, masks and label maps that are wrong."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import rasterio
import tomli_w
from PIL import Image

from terrazzo.base.errors import DataError
from terrazzo.base.recipe import load_recipe
from terrazzo.data import datasets
from terrazzo.data.loader import TrainingOrder
from terrazzo.io import rasters
from terrazzo.testing.faults import places
from terrazzo.testing.faults.interruptions import during_step
from terrazzo.testing.faults.places import change, check, images, masks, refused, train, values
from terrazzo.testing.faults.table import Place, row
from terrazzo.testing.memory import bytes_in_use


@row("D01", "a label value that is not in the map", "SEG-D001", kept="L0", frameworks=True)
def row_d01(place: Place) -> None:
    """One pixel of one mask is 250."""
    places.make_images(place)
    mask = masks(place, "train")[1]
    array_HW = values(mask)
    array_HW[7, 9] = 250
    places.save(mask, array_HW)
    refused(place, "SEG-D001", mask, ("250 (1 px)", "row 7, column 9"))
    answer = train(place)
    place.expect(answer, "SEG-D001", exit=3, observed=("0, 1, 9", "add the value to a class"))


@row("D02", "masks of 0 and 255 where 255 is ignored", "SEG-D002", kept="L0")
def row_d02(place: Place) -> None:
    """The second class has no pixel."""
    places.make_images(place)
    places.write_labels(place, places.CLASSES, [9, 255])
    change(masks(place), lambda mask: np.where(mask == 1, 255, 0))
    with place.nothing_written():
        answer = check(place)
        place.expect_finding(answer, "SEG-D002", observed=("0 pixels in 10 of 10 masks",))
        assert "raw = [255]" in answer.out
        answer = train(place)
        assert answer.exit == 3, answer
        assert "green" in answer.text


@row("D03", "class ids shifted by one (1…K)", "SEG-D001", kept="L0")
def row_d03(place: Place) -> None:
    """One is added to every mask."""
    places.make_images(place)
    places.write_labels(place, places.CLASSES, [9, 10])
    change(masks(place), lambda mask: mask + 1)
    with place.nothing_written():
        place.expect_finding(check(place), "SEG-D001", observed=("one too high", "2 ("))
        place.expect(
            train(place), "SEG-D001", exit=3, path=masks(place)[0].parents[1], observed="2 ("
        )


@row("D04", "labels mapped twice", "SEG-D001", kept="L0", note="there is one place to map in")
def row_d04(place: Place) -> None:
    """The masks hold train ids already, and the map is for raw values."""
    places.make_images(place)
    classes = [{**each, "raw": [7 + 4 * k]} for k, each in enumerate(places.CLASSES)]
    places.write_labels(place, classes, [0, 255])
    change(masks(place), lambda mask: np.where(mask == 9, 255, mask))
    with place.nothing_written():
        answer = check(place)
        place.expect_finding(answer, "SEG-D001", observed=("mapped twice", "1 ("))
        assert "raw = train id" in answer.out
        place.expect(train(place), "SEG-D001", exit=3, path=masks(place)[0].parents[1])


@row(
    "D05",
    "arithmetic on masks wraps (255 − 1 = 254)",
    "SEG-D001",
    kept="L0",
    note="mapping is a table: each of the 256 values is itself or refused",
)
def row_d05(place: Place) -> None:
    """A mask of ids that somebody subtracted 1 from; and all 256 values one by one."""
    places.make_images(place)
    places.write_labels(place, places.CLASSES, [9, 255])
    change(masks(place)[:1], lambda mask: np.where(mask == 9, 254, mask))
    refused(place, "SEG-D001", masks(place)[0], "254 (")
    label_map = datasets.open_split(
        load_recipe(place.folder / "recipe.toml").data, "train"
    ).label_map
    for value in range(256):
        raw_HW = np.full((2, 3), value, np.uint8)
        expected = {0: 0, 1: 1, 9: label_map.ignore_index, 255: label_map.ignore_index}
        try:
            mapped_HW = label_map.remap(raw_HW, file="mask.png")
        except DataError as error:
            told = str(error.observed)
            assert value not in expected
            assert f"{value} (" in told
        else:
            assert (mapped_HW == expected[value]).all()


@row("D06", "masks with a palette", "SEG-D006", kept="–")
def row_d06(place: Place) -> None:
    """They are read as indices; a palette in another order than the map is told of."""
    places.make_images(place)
    expected = [values(mask) for mask in masks(place)]
    for mask in masks(place):
        image = Image.fromarray(values(mask))
        image.putpalette([255, 0, 0, 0, 255, 0] + [9] * 750)
        image.save(mask)
    data = load_recipe(place.folder / "recipe.toml").data
    for split in ("test", "train", "val"):
        opened = datasets.open_split(data, split)
        for index in range(len(opened)):
            label_HW = opened.read(index).label_HW
            raw_HW = expected.pop(0)
            assert (label_HW[raw_HW != 9] == raw_HW[raw_HW != 9]).all()
            assert (label_HW[raw_HW == 9] == opened.label_map.ignore_index).all()
    assert check(place).exit == 0
    for mask in masks(place):
        image = Image.fromarray(values(mask))
        image.putpalette([0, 255, 0, 255, 0, 0] + [9] * 750)
        image.save(mask)
    place.expect_finding(check(place), "SEG-D006", path=masks(place)[0].parents[1], observed="red")


@row("D07", "a colour mask with colours of antialiasing", "SEG-D001", kept="L0")
def row_d07(place: Place) -> None:
    """One mask is blurred."""
    places.make_images(place)
    places.write_labels(place, [{**c, "raw": [c["colour"]]} for c in places.CLASSES], ["#000000"])
    colours = {0: (255, 0, 0), 1: (0, 255, 0), 9: (0, 0, 0)}
    for mask in masks(place):
        places.save(
            mask, np.array([colours.get(v, (0, 0, 0)) for v in range(10)], np.uint8)[values(mask)]
        )
    recipe = place.folder / "recipe.toml"
    recipe.write_text(recipe.read_text() + '\n[data.options]\nmask_kind = "colour"\n')
    assert check(place).exit == 0
    mask = masks(place)[2]
    places.save(mask, cv2.GaussianBlur(values(mask), (0, 0), 1.0))
    with place.nothing_written():
        place.expect_finding(check(place), "SEG-D001", path=mask, observed=("antialiasing", "#"))
        place.expect(train(place), "SEG-D001", exit=3, path=mask, observed=("#", " px)"))


@row("D08", "a mask saved as JPEG, whatever its name", "SEG-D008", kept="L0")
def row_d08(place: Place) -> None:
    """Its name still ends in .png."""
    places.make_images(place)
    mask = masks(place)[2]
    Image.fromarray(values(mask)).save(mask, format="JPEG", quality=95)
    refused(place, "SEG-D008", mask, "content is JPEG")


@row("D09", "mask and image of different size", "SEG-D009", kept="L0")
def row_d09(place: Place) -> None:
    """The mask lacks a row."""
    places.make_images(place)
    mask = masks(place)[2]
    places.save(mask, values(mask)[:-1])
    refused(place, "SEG-D009", mask, ("15×12", "16×12"))


@row("D10", "an image that is to be turned on display (EXIF 6)", "SEG-D010", kept="L0")
def row_d10(place: Place) -> None:
    """A camera held upright."""
    places.make_images(place)
    image = images(place)[2]
    with Image.open(image) as opened:
        tags = opened.getexif()
        tags[0x0112] = 6
        opened.save(image.with_suffix(".jpg"), exif=tags)
    image.unlink()
    refused(place, "SEG-D010", image.with_suffix(".jpg"), "= 6")


@row("D11", "files cut short at 10, 50 and 99 %", "SEG-D011", kept="L1")
def row_d11(place: Place) -> None:
    """PNG, JPEG and mask, before training; an image while training."""
    places.make_images(place)
    image, mask = images(place, "train")[1], masks(place, "train")[1]
    jpeg = image.with_suffix(".jpg")
    for path in (image, jpeg, mask):
        if path is jpeg:
            with Image.open(image) as opened:
                opened.save(jpeg, quality=90)
            image.rename(place.folder / "kept.png")
        whole = path.read_bytes()
        for share in (0.1, 0.5, 0.99):
            places.cut(path, share)
            with place.nothing_written():
                place.expect_finding(check(place), "SEG-D011", path=path, observed="bytes")
                place.expect(train(place), "SEG-D011", exit=3, path=path, observed="bytes")
            path.write_bytes(whole)
    jpeg.unlink()
    (place.folder / "kept.png").rename(image)

    def plant() -> None:
        for each in images(place, "train"):
            places.cut(each, 0.5)

    with during_step(4, plant):
        answer = train(place, *places.sets("loader.threads=0"))
    folder = images(place, "train")[0].parent
    place.expect(answer, "SEG-D011", exit=3, path=folder, observed="bytes")
    place.expect_checkpoint(place.folder / "run", 4)


@row("D12", "a bit that flips inside the pixels", "SEG-D011", "SEG-C015", kept="L0")
def row_d12(place: Place) -> None:
    """A PNG has sums of its own; of other files a run keeps a sum, which a resume compares."""
    places.make_images(place)
    mask = masks(place)[3]
    whole = bytearray(mask.read_bytes())
    whole[len(whole) // 2] ^= 4
    mask.write_bytes(whole)
    refused(place, "SEG-D011", mask, "checksum of the PNG chunk")
    own = place.folder / "own"
    own.mkdir()
    inner = Place(own, place.backend, place.row, place.shared)
    places.make_images(inner)
    jpeg = images(inner, "train")[0].with_suffix(".jpg")
    with Image.open(jpeg.with_suffix(".png")) as image:
        image.save(jpeg, quality=95)
    jpeg.with_suffix(".png").unlink()
    assert train(inner).exit == 0
    flipped = bytearray(jpeg.read_bytes())
    flipped[-30] ^= 4
    jpeg.write_bytes(flipped)
    with inner.nothing_written():
        answer = train(inner, "--resume")
    told = ("train: the contents of image files",)
    place.expect(answer, "SEG-C015", exit=4, path="run/run.json", observed=told)


@row(
    "D13",
    "an empty file, a folder, a dangling link, a file without rights",
    "SEG-D013",
    kept="L0",
)
def row_d13(place: Place) -> None:
    """Each in the place of an image or a mask."""
    places.make_images(place)
    image, mask = images(place, "train")[1], masks(place, "train")[1]
    plants: list[tuple[Path, Callable[[], object], str]] = [
        (mask, lambda: mask.write_bytes(b""), "0 bytes"),
        (mask, mask.mkdir, "Is a directory"),
        (image, lambda: image.symlink_to("gone.png"), "No such file"),
    ]
    for path, plant, observed in plants:
        kept = path.read_bytes()
        path.unlink()
        plant()
        refused(place, "SEG-D013", path, observed)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.write_bytes(kept)
    if sys.platform == "linux":
        image.chmod(0)
        for words in (("check", "--config", "recipe.toml"), places.run_words()):
            with place.nothing_written():
                image.chmod(0)
                answer = place.process(*words, preexec_fn=places.give_up_the_rights_of_root)
                image.chmod(0o644)
            place.expect(answer, "SEG-D013", exit=3, path=image, observed="Permission denied")


@row(
    "D14",
    "masks that lack, images that lack, two of one stem, names in other case",
    "SEG-D014",
    kept="L0",
)
def row_d14(place: Place) -> None:
    """All are listed, not the first alone."""
    root = places.make_images(place)
    first, second = masks(place, "train")[1:3]
    orphan, double, other_case = (
        images(place, "train")[3],
        images(place, "train")[4],
        masks(place, "train")[5],
    )
    first.unlink()
    second.unlink()
    orphan.unlink()
    refused(place, "SEG-D014", root, ("train/1", "train/2", "train/3"))
    shutil.rmtree(root)
    places.make_images(place)
    with Image.open(double) as image:
        image.save(double.with_suffix(".jpg"))
    refused(place, "SEG-D014", root, (double.name, double.with_suffix(".jpg").name))
    shutil.rmtree(root)
    places.make_images(place)
    images(place, "train")[5].rename(other_case.parents[2] / "images" / "train" / "Last.png")
    other_case.rename(other_case.with_name("lAST.png"))
    refused(place, "SEG-D014", root, ("Last", "lAST"))


@row("D15", "one image in train and in val under two names", "SEG-D015", kept="L0")
def row_d15(place: Place) -> None:
    """Other bytes, equal pixels."""
    places.make_images(place)
    image, mask = images(place, "train")[0], masks(place, "train")[0]
    copy = image.parents[1] / "val" / "other.png"
    with Image.open(image) as opened:
        opened.save(copy, compress_level=1)
    shutil.copyfile(mask, mask.parents[1] / "val" / "other.png")
    with place.nothing_written():
        answer = check(place)
        place.expect_finding(answer, "SEG-D015", path=copy, observed="train/0.png")


@row("D16", "an empty split; a split smaller than a batch", "SEG-D016", kept="L0")
def row_d16(place: Place) -> None:
    """An empty one is refused; of a small one every image is used, for no batch is dropped."""
    root = places.make_images(place)
    for kind in ("images", "masks"):
        (root / kind / "val").rename(place.folder / f"{kind}_val")
    refused(place, "SEG-D016", root, "0 images")
    for kind in ("images", "masks"):
        (place.folder / f"{kind}_val").rename(root / kind / "val")
        for number in range(1, 6):
            (root / kind / "train" / f"{number}.png").unlink()
    answer = train(place, *places.sets("training.batch_size=4", "training.steps=2"))
    assert answer.exit == 0, answer
    assert TrainingOrder(1, 4, 0).steps_per_epoch == 1


@row(
    "D17",
    "a mask, or a whole batch, in which every pixel is ignored",
    "SEG-D017",
    kept="–",
    frameworks=True,
)
def row_d17(place: Place) -> None:
    """The loss of such a batch is 0 and the log says what share was ignored."""
    places.make_images(place)
    mask = masks(place, "train")[2]
    change([mask], lambda array_HW: np.full_like(array_HW, 9))
    places.warned(place, "SEG-D017", mask, "values 9")
    answer = train(place, *places.sets("training.batch_size=1"))
    place.expect(answer, None, exit=0)
    lines = [json.loads(line) for line in (place.folder / "run/log.jsonl").read_text().splitlines()]
    ignored = [line for line in lines if line.get("ignored_share") == 1.0]
    assert [line["loss"] for line in ignored] == [0.0]
    assert all(np.isfinite(line["loss"]) for line in lines if line["kind"] == "train")


@row("D18", "a class that the test images lack", "SEG-D037", kept="–")
def row_d18(place: Place) -> None:
    """It has no score, and the mean is said to be over the others."""
    places.make_images(place)
    for split in ("val", "test"):
        change(masks(place, split), lambda mask: np.where(mask == 1, 9, mask))
    answer = check(place)
    place.expect_finding(answer, "SEG-D037", observed=("green", "val"), level="note")
    answer = train(place)
    summary = json.loads((place.folder / "run/evaluation/test.json").read_text())
    predicted = sum(line[1] for line in summary["counts"])
    if predicted == 0:
        assert summary["per_class"]["iou"][1] is None
    else:  # wrongly, which counts
        assert summary["per_class"]["iou"][1] == 0.0
    told = f"mean of {1 + (predicted > 0)} classes"
    place.expect(answer, None, exit=0, observed=told)
    present = [iou for iou in summary["per_class"]["iou"] if iou is not None]
    assert np.isclose(summary["scores"]["mean_iou"], np.mean(present))


def _in_16_bits(path: Path) -> None:
    cv2.imwrite(str(path), values(path)[..., ::-1].astype(np.uint16) * 257)


@row("D19", "images of 16 bits", "SEG-D021", kept="L0")
def row_d19(place: Place) -> None:
    """All 16 bits are read; among images of 8 bits one is refused."""
    places.make_images(place)
    _in_16_bits(images(place, "train")[1])
    refused(place, "SEG-D021", images(place, "train")[1], "uint16")
    for image in images(place):
        if image != images(place, "train")[1]:
            _in_16_bits(image)
    split = datasets.open_split(load_recipe(place.folder / "recipe.toml").data, "train")
    image_HWC = split.read(0).image_HWC
    assert image_HWC.dtype == np.uint16
    assert image_HWC.max() > 255
    assert len(np.unique(image_HWC % 257)) == 1


@row("D20", "one image with another number of bands", "SEG-D020", kept="L0")
def row_d20(place: Place) -> None:
    """A grey image among coloured ones."""
    places.make_images(place)
    image = images(place, "train")[3]
    places.save(image, values(image)[..., 0])
    refused(place, "SEG-D020", image, "1 band")


@row("D21", "images of mixed scales (0…1 among 0…255)", "SEG-D021", kept="L0")
def row_d21(place: Place) -> None:
    """Of one type, and of two."""
    places.make_images(place)
    image = images(place, "train")[0]
    whole = image.read_bytes()
    places.save(image, values(image) // 128)
    places.warned(place, "SEG-D021", image, "largest values 1")
    image.write_bytes(whole)
    rasters.write(
        image.with_suffix(".tif"), values(image).astype(np.float32) / 255, crs=None, transform=None
    )
    image.unlink()
    refused(place, "SEG-D021", image.with_suffix(".tif"), "float32")


def _in_floats(place: Place) -> None:
    for image in images(place):
        pixels = values(image).astype(np.float32)
        rasters.write(image.with_suffix(".tif"), pixels, crs=None, transform=None)
        image.unlink()


@row("D22", "NaN or infinity in an image", "SEG-D022", kept="L0", frameworks=True)
def row_d22(place: Place) -> None:
    """Infinity is refused; NaN is told of, and such pixels count as without data."""
    places.make_images(place)
    _in_floats(place)
    image = images(place, "train")[1]
    pixels_HWC = rasters.read(image).image_HWC
    for value, told in ((-np.inf, "1 px, first in band 2 at row 5, column 6"), (np.nan, "")):
        broken_HWC = pixels_HWC.copy()
        broken_HWC[5, 6, 1] = value
        rasters.write(image, broken_HWC, crs=None, transform=None)
        if told:
            with place.nothing_written():
                place.expect_finding(check(place), "SEG-D022", path=image, observed=told)
    told = "first in band 2, row 5, column 6"
    places.warned(place, "SEG-D022", image, told)
    answer = train(place)
    place.expect(answer, None, exit=0)
    lines = [json.loads(line) for line in (place.folder / "run/log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) for line in lines if line["kind"] == "train")


@row(
    "D33",
    "file names that are no text, with line breaks, quotes, emoji, 250 bytes",
    "SEG-D033",
    kept="–",
)
def row_d33(place: Place) -> None:
    """Images of such names are read; only GeoTIFF needs names in UTF-8 and says so."""
    root = place.folder / "data"
    places.make_images(place)
    names = ["a\nb", "c 'd\" e", "🌍", "n" * 250, "=1+1", "$\\foo$"]
    names.append(os.fsdecode(b"no\xfftext"))
    for old, new in zip(("0", "1", "2", "3", "4", "5"), names, strict=False):
        for kind in ("images", "masks"):
            (root / kind / "train" / f"{old}.png").rename(root / kind / "train" / f"{new}.png")
    for kind in ("images", "masks"):
        (root / kind / "test" / "0.png").rename(root / kind / "test" / f"{names[-1]}.png")
    assert check(place).exit == 0
    place.expect(train(place), None, exit=0)
    scene = root / os.fsdecode(b"sc\xffene.tif")
    places.write_scene(place.folder / "scene.tif", 20, 20).rename(scene)
    answer = place.terrazzo("predict", "run", scene, "--out", "map.tif")
    place.expect(answer, "SEG-D033", exit=3, observed="ene.tif")


@row(
    "D34",
    "lists of names with repetitions, CRLF, a BOM, unknown names, 300,000 lines",
    "SEG-D014",
    "SEG-X010",
    kept="L0",
    note="no manifests with columns: lists of names, and tables of classes as CSV",
)
def row_d34(place: Place) -> None:
    """What is harmless is read, what is not is named."""
    root = places.make_images(place)
    for kind in ("images", "masks"):
        for split in places.COUNTS:
            for path in (root / kind / split).iterdir():
                path.rename(root / kind / f"{split}{path.name}")
            (root / kind / split).rmdir()
    recipe = place.folder / "recipe.toml"
    listed = "".join(f'{split} = "{split}.txt"\n' for split in places.COUNTS)
    recipe.write_text(recipe.read_text() + f"\n[data.options.lists]\n{listed}")
    for split, count in places.COUNTS.items():
        lines = "\r\n".join(f"{split}{number}" for number in range(count))
        (root / f"{split}.txt").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    answer = check(place)
    assert answer.exit == 0, answer
    assert json.loads(answer.out)["images"] == places.COUNTS
    path = root / "train.txt"
    good = path.read_text(encoding="utf-8-sig")
    path.write_text(f"{good}\ntrain3\n")
    refused(place, "SEG-D014", path, "train3")
    path.write_text(f"{good}\nstrange\n")
    refused(place, "SEG-D014", root / "images", "strange")
    path.write_text("".join(f"n{number}\n" for number in range(300_000)))
    with place.nothing_written():
        answer = train(place)
        place.expect(answer, "SEG-D014", exit=3, path=root / "images", observed=("300000", "n0"))
        assert len(answer.text) < 5000
    path.write_text(good)
    (place.folder / "classes.csv").write_text("name,r,g,b\nred,255,0,0\ngreen,0,x,0\n")
    with place.nothing_written():
        labels = f'data.labels="{place.folder / "classes.csv"}"'
        answer = train(place, "--set", labels)
        place.expect(
            answer, "SEG-X010", exit=2, path=place.folder / "classes.csv", observed="line 3"
        )


@row("D35", "files that change after the check", "SEG-D001", "SEG-C015", kept="L1")
def row_d35(place: Place) -> None:
    """A mask is written anew during training; and between a run and its resume."""
    places.make_images(place)

    def plant() -> None:
        change(masks(place, "train"), lambda mask: np.where(mask == 1, 77, mask))

    with during_step(4, plant):
        answer = train(place, *places.sets("loader.threads=0"))
    folder = masks(place, "train")[0].parent
    place.expect(answer, "SEG-D001", exit=3, path=folder, observed=("77 (", "0, 1, 9"))
    place.expect_checkpoint(place.folder / "run", 4)
    change(masks(place, "train"), lambda mask: np.where(mask == 77, 0, mask))
    answer = train(place, "--resume")
    told = "train: the contents of label files"
    place.expect(answer, "SEG-C015", exit=4, path=place.folder / "run/run.json", observed=told)
    place.expect_checkpoint(place.folder / "run", 4)


@row("D36", "another label map than the model's", "SEG-D036", kept="L0")
def row_d36(place: Place) -> None:
    """Two names are swapped before the run is scored again."""
    run = places.finished_run(place)
    shutil.copytree(run, place.folder / "run")
    swapped = [
        {**each, "name": name} for each, name in zip(places.CLASSES, ("green", "red"), strict=True)
    ]
    table = {"name": "colours", "ignored": [9], "classes": swapped}
    (place.folder / "labels.toml").write_text(tomli_w.dumps(table))
    config = place.folder / "run" / "config.toml"
    labels = str(run.parent / "labels.toml")
    config.write_text(config.read_text().replace(labels, str(place.folder / "labels.toml")))
    with place.nothing_written():
        answer = place.terrazzo("evaluate", "run")
        place.expect(answer, "SEG-D036", exit=4, observed=("'green'", "'red'"))


@row("D31", "an image that declares more pixels than there can be", "SEG-D031", kept="L0")
def row_d31(place: Place) -> None:
    """A PNG of 60,000 × 60,000 pixels of one bit, and a sparse GeoTIFF of 240 GB as a label."""
    places.make_images(place)
    image = images(place, "train")[0]
    _write_bomb(image, 60_000)
    before = bytes_in_use() if sys.platform == "linux" else 0
    refused(place, "SEG-D031", image, "60000 rows × 60000 columns")
    image.unlink()
    big = image.with_suffix(".tif")
    profile = {"driver": "GTiff", "height": 280_000, "width": 280_000, "count": 3, **places.UTM}
    with rasterio.open(
        big,
        "w",
        dtype="uint8",
        tiled=True,
        sparse_ok=True,
        compress="deflate",
        blockxsize=4096,
        blockysize=4096,
        BIGTIFF="YES",
        **profile,
    ):
        pass
    with place.nothing_written():
        place.expect(train(place), "SEG-D031", exit=3, path=big, observed="280000")
    if sys.platform == "linux":
        assert bytes_in_use() - before < 10**9


def _write_bomb(path: Path, side: int) -> None:
    """Write a PNG whose header declares side × side pixels, with hardly any data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    content = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@row(
    "D32",
    "paths out of the data's folder, NUL, /vsizip/",
    "SEG-X026",
    "SEG-X002",
    "SEG-D030",
    "SEG-D014",
    kept="L0",
    note="in options and lists of names, for there are no manifests; data.allow_outside lifts it",
)
def row_d32(place: Place) -> None:
    """Every way out that a recipe has."""
    root = places.make_images(place)
    tries = {
        'data.options.images="../other"': ("SEG-X026", 2, "../other"),
        'data.options.masks="/etc"': ("SEG-X026", 2, "/etc"),
        'data.options.lists={train="../../passwd.txt"}': ("SEG-X026", 2, "passwd.txt"),
        'data.options.images="a\\u0000b"': ("SEG-X002", 2, "NUL"),
    }
    for assignment, (code, exit_code, observed) in tries.items():
        with place.nothing_written():
            answer = train(place, "--set", assignment)
            place.expect(answer, code, exit=exit_code, observed=(observed, "data.options"))
    (root / "train.txt").write_text("../../../etc/passwd\n")
    (root / "val.txt").write_text("val/0\n")
    (root / "test.txt").write_text("test/0\n")
    lists = 'data.options.lists={train="train.txt",val="val.txt",test="test.txt"}'
    with place.nothing_written():
        answer = train(place, "--set", lists)
        place.expect(answer, "SEG-D014", exit=3, path=root / "images", observed="etc/passwd")
    archive = "/vsizip/a.zip/scene.tif"
    with place.nothing_written():
        run = places.finished_run(place)
        answer = place.terrazzo("predict", run, archive, "--out", "map.tif")
        place.expect(answer, "SEG-D030", exit=3, path=archive)
