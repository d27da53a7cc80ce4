"""Faults planted in copies of real samples: the data check names file, value and advice for each.

Every copy also has a second fault, an image that was cut short, which must be found as well: one
bad file does not keep the others from being looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
import tomli_w
from affine import Affine
from PIL import Image
from typer.testing import CliRunner

from terrazzo.cli import app
from terrazzo.data import labels
from terrazzo.io import rasters

DATA = Path(os.environ.get("TERRAZZO_DATA", "nowhere"))
CAMVID = DATA / "camvid"
PETS = DATA / "oxford_pet" / "oxford-iiit-pet"
SPERM = DATA / "sperm_parts"
DUBAI = DATA / "dubai_aerial" / "Semantic segmentation dataset"
CITY = DATA / "layout_samples" / "pseudo_cityscapes_dataset"
LANDSAT = DATA / "nc_landsat7"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="TERRAZZO_DATA is not set")


@dataclass
class Copy:
    """A small copy of a real data set, and how it is opened."""

    root: Path
    format: str
    labels: str | None = None
    options: list[str] = field(default_factory=list)

    def files(self, pattern: str) -> list[Path]:
        found = sorted(self.root.glob(pattern))
        assert found, pattern
        return found

    def arguments(self) -> list[str]:
        named = [] if self.labels is None else ["--labels", self.labels]
        settings = [word for each in self.options for word in ("--set", f"data.options.{each}")]
        return ["check", str(self.root), "--format", self.format, *named, *settings]


def diagnosed(copy: Copy) -> tuple[int, dict]:
    """Run the command line; return the exit code and the JSON it prints."""
    answer = CliRunner().invoke(app.app, [*copy.arguments(), "--json"])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer.exit_code, json.loads(answer.stdout)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


# Copies of real samples


def camvid(root: Path) -> Copy:
    """Eight pairs: four to train, two each for val and test."""
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        masks = sorted((CAMVID / f"{split}annot").iterdir())
        # Spread over the film: neighbours would look alike across splits.
        for mask in masks[:: len(masks) // count][:count]:
            take(mask, root / f"{split}annot")
            take(CAMVID / split / f"{mask.stem}.jpg", root / split)
    return Copy(root, "camvid")


def camvid_with_all_classes(root: Path) -> Copy:
    """As `camvid`, with masks to train on that hold the rarest classes as well."""
    copy = camvid(root)
    for mask in sorted((CAMVID / "trainannot").iterdir())[::5]:
        if {2, 7, 10} <= set(np.unique(values(mask)).tolist()):
            take(mask, root / "trainannot")
            take(CAMVID / "train" / f"{mask.stem}.jpg", root / "train")
            return copy
    raise AssertionError("no mask holds them")


def camvid_with_grey_palettes(root: Path) -> Copy:
    """As `camvid_with_all_classes`; the palettes are ramps of grey, as some tools write them."""
    copy = camvid_with_all_classes(root)
    greys = np.minimum(np.arange(12) * 32, 255).astype(np.uint8)  # 4 is as grey as the class sky
    for mask in masks(copy):
        with_palette(mask, np.repeat(greys[:, None], 3, axis=1))
    return copy


def pets(root: Path) -> Copy:
    annotations = root / "annotations"
    for name, count in (("trainval", 6), ("test", 2)):
        lines = (PETS / "annotations" / f"{name}.txt").read_text().splitlines()
        lines = lines[:: len(lines) // count][:count]
        annotations.mkdir(parents=True, exist_ok=True)
        (annotations / f"{name}.txt").write_text("\n".join(lines) + "\n")
        for stem in (line.split()[0] for line in lines):
            take(PETS / "images" / f"{stem}.jpg", root / "images")
            take(PETS / "annotations" / "trimaps" / f"{stem}.png", annotations / "trimaps")
    return Copy(root, "oxford_pet")


def sperm(root: Path) -> Copy:
    for split, count in (("train", 4), ("test", 2)):
        scanned_images = sorted((SPERM / "images" / split).iterdir())
        for scanned in scanned_images[:: len(scanned_images) // count][:count]:
            take(scanned, root / "images" / split)
            for part in ("Head", "Midpiece", "Tail"):
                mask = SPERM / "mask" / f"{part}-Masks" / f"{scanned.stem}.png"
                take(mask, root / "mask" / f"{part}-Masks")
    return Copy(root, "part_masks")


def dubai(root: Path) -> Copy:
    """A corner of the first image of each tile."""
    for tile in (1, 2, 3, 4, 5):
        stem, folder = "image_part_001", f"Tile {tile}"
        corner = (0, 0, 200, 200)
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            target = root / folder / kind / f"{stem}.{suffix}"
            target.parent.mkdir(parents=True)
            with Image.open(DUBAI / folder / kind / f"{stem}.{suffix}") as scanned:
                scanned.convert("RGB").crop(corner).save(target, quality=95)
    return Copy(root, "colour_tiles", options=["split={train=0.6,val=0.2,test=0.2}"])


def city_quarters(root: Path) -> Copy:
    """The one Cityscapes pair in eight pieces, with labelIds."""
    scanned = next(CITY.rglob("*_leftImg8bit.png"))
    mask = next(CITY.rglob("*_labelIds.png"))
    for number in range(8):
        row, column = divmod(number, 4)
        box = (64 * column, 64 * row, 64 * column + 64, 64 * row + 64)
        for source, folder in ((scanned, "images"), (mask, "masks")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            with Image.open(source) as whole:
                whole.crop(box).save(root / folder / f"{number}.png")
    options = ["split={train=0.5,val=0.25,test=0.25,seed=1}"]
    return Copy(root, "folder", "cityscapes_19", options)


def landsat(root: Path) -> Copy:
    """Eight windows of the scene as GeoTIFF, with the land classes under them."""
    for kind, name in (("images", "lsat7_2000_b12345.tif"), ("masks", "landclass96_strata.tif")):
        (root / kind).mkdir(parents=True)
        with rasterio.open(LANDSAT / name) as scene:
            for number in range(8):
                row, column = 120 + 60 * (number // 4), 120 + 60 * (number % 4)
                window = rasterio.windows.Window(column, row, 48, 48)
                rasters.write(
                    root / kind / f"{number}.tif",
                    np.moveaxis(scene.read(window=window), 0, 2),
                    crs="EPSG:32119",
                    transform=Affine(28.5, 0, 28.5 * column, 0, -28.5, -28.5 * row),
                )
    classes = [
        {"name": f"land {value}", "colour": f"#0000{20 * value:02X}", "raw": [value]}
        for value in range(1, 8)
    ]
    table = {"name": "land", "ignored": [0], "classes": classes}
    (root / "land.toml").write_text(tomli_w.dumps(table))
    options = ["split={train=0.5,val=0.25,test=0.25}"]
    return Copy(root, "folder", str(root / "land.toml"), options)


def landsat_floats(root: Path) -> Copy:
    """As `landsat`, the images as floats."""
    copy = landsat(root)
    for image in copy.files("images/*.tif"):
        with rasterio.open(image) as raster:
            pixels_CHW, place = raster.read().astype(np.float32), raster.transform
        rasters.write(image, np.moveaxis(pixels_CHW, 0, 2), crs="EPSG:32119", transform=place)
    return copy


def take(file: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, folder / file.name)


# Changes


def values(path: Path) -> np.ndarray:
    with Image.open(path) as mask:
        return np.array(mask)


def save(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path, format="PNG")


def change(paths: list[Path], function: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in paths:
        save(path, function(values(path)).astype(values(path).dtype))


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def classes_toml(copy: Copy, raws: list[int], ignored: list[int]) -> None:
    """Name a label map of the test's own."""
    classes = [
        {"name": f"class {k}", "colour": f"#00{k:02X}00", "raw": [raw]}
        for k, raw in enumerate(raws)
    ]
    file = copy.root / "own.toml"
    file.write_text(tomli_w.dumps({"name": "own", "ignored": ignored, "classes": classes}))
    copy.labels = str(file)


def masks(copy: Copy) -> list[Path]:
    return copy.files("*annot/*.png")


def one_pixel(copy):
    mask = copy.files("trainannot/*.png")[1]
    array = values(mask)
    array[7, 9] = 250
    save(mask, array)
    return mask, r"250 (1 px); 250 first at row 7, column 9"


def shifted_up(copy):
    change(masks(copy), lambda mask: mask + 1)
    return masks(copy)[0], "12 ("


def shifted_down(copy):
    # Ids 1…11 and void 12 were meant, and the files begin at 0: the last class is never seen.
    classes_toml(copy, list(range(1, 11)), [12, 255])
    change(masks(copy), lambda mask: np.where(mask >= 9, 8, mask))
    return masks(copy)[0], "0 ("


def wrapped(copy):
    classes_toml(copy, list(range(11)), [255])
    change(masks(copy), lambda mask: np.where(mask == 11, 255, mask))
    mask = masks(copy)[0]
    change([mask], lambda array: np.where(array == 255, 254, array))
    return mask, "254 ("


def binary_ignored(copy):
    classes_toml(copy, [0, 1], [255])
    change(masks(copy), lambda mask: np.where(mask == 3, 255, 0))
    return copy.files("trainannot/*.png")[0], "0 pixels in 8 of 8 masks"


def binary_unknown(copy):
    classes_toml(copy, [0, 1], [])
    change(masks(copy), lambda mask: np.where(mask == 3, 255, 0))
    return masks(copy)[0], "255 ("


def mapped_twice(copy):
    trimaps = copy.files("annotations/trimaps/*.png")
    change(trimaps, lambda mask: np.array([255, 0, 1, 255], np.uint8)[mask])
    return trimaps[0], "255 ("


def mapped_twice_silently(copy):
    table = np.zeros(256, np.uint8)
    for train_id, each in enumerate(labels.load_label_map("cityscapes_19").classes):
        table[list(each.raw)] = train_id
    change(copy.files("masks/*.png"), lambda mask: table[mask])
    return copy.files("masks/*.png")[0], "are train ids of 'cityscapes_19'"


def jpeg_mask(copy):
    mask = masks(copy)[2]
    Image.fromarray(values(mask)).save(mask, format="JPEG", quality=95)
    return mask, "content is JPEG"


def one_row_less(copy):
    mask = masks(copy)[2]
    save(mask, values(mask)[:-1])
    return mask, "mask 359×480 (rows×columns), image 360×480"


def one_column_more(copy):
    mask = masks(copy)[5]
    save(mask, np.pad(values(mask), ((0, 0), (0, 1))))
    return mask, "mask 360×481 (rows×columns), image 360×480"


def exif(copy):
    scanned = copy.files("train/*.jpg")[2]
    with Image.open(scanned) as image:
        tags = image.getexif()
        tags[0x0112] = 6
        image.save(scanned, exif=tags)
    return scanned, "= 6"


def cut_mask(copy):
    cut(masks(copy)[1], 0.5)
    return masks(copy)[1], "bytes"


def cut_image(copy):
    cut(copy.files("train/*.jpg")[1], 0.5)
    return copy.files("train/*.jpg")[1], "bytes"


def cut_at_the_end(copy):
    cut(copy.files("val/*.jpg")[1], 0.99)
    return copy.files("val/*.jpg")[1], "before its end mark"


def flipped_bit(copy):
    mask = masks(copy)[3]
    data = bytearray(mask.read_bytes())
    data[len(data) // 2] ^= 4
    mask.write_bytes(data)
    return mask, "checksum of the PNG chunk"


def empty_file(copy):
    mask = masks(copy)[0]
    mask.write_bytes(b"")
    return mask, "0 bytes"


def folder_for_a_file(copy):
    mask = masks(copy)[0]
    mask.unlink()
    mask.mkdir()
    return mask, "Is a directory"


def dangling_link(copy):
    scanned = copy.files("train/*.jpg")[0]
    scanned.unlink()
    scanned.symlink_to(copy.root / "gone.jpg")
    return scanned, "No such file"


def lfs_pointer(copy):
    scanned = copy.files("train/*.jpg")[0]
    scanned.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return scanned, "Git LFS pointer"


def missing_mask(copy):
    mask = copy.files("trainannot/*.png")[1]
    mask.unlink()
    return copy.root / "train", f"1 images without a mask: {mask.stem}"


def orphan_mask(copy):
    scanned = copy.files("val/*.jpg")[0]
    scanned.unlink()
    return copy.root / "val", f"1 masks without an image: {scanned.stem}"


def two_of_a_stem(copy):
    scanned = copy.files("train/*.jpg")[1]
    with Image.open(scanned) as image:
        image.save(scanned.with_suffix(".png"))
    return copy.root / "train", f"{scanned.name} and {scanned.stem}.png"


def other_case(copy):
    mask = copy.files("trainannot/*.png")[1]
    mask.rename(mask.with_name(mask.name.lower()))
    return copy.root / "train", mask.stem.lower()


def palette_of_others(copy):
    """Wear the colours of the next class."""
    colours = labels.load_label_map("camvid").colours
    for mask in masks(copy):
        with_palette(mask, np.roll(colours, 1, axis=0))
    return masks(copy)[0], "1 is 'building' in the map and has the colour of 'sky', #808080"


def palettes_in_two_orders(copy):
    colours = np.random.default_rng(0).integers(0, 256, (11, 3), np.uint8)
    for mask in masks(copy):
        with_palette(mask, colours)
    with_palette(masks(copy)[-3], colours[::-1])
    return masks(copy)[-3], "in most masks"


def with_palette(mask: Path, colours_KC: np.ndarray) -> None:
    scanned = Image.fromarray(values(mask)).convert("P")
    scanned.putdata(values(mask).ravel().tolist())
    scanned.putpalette(colours_KC.ravel().tolist())
    scanned.save(mask)


def antialiased(copy):
    mask = copy.files("Tile 1/masks/*.png")[0]
    save(mask, cv2.GaussianBlur(values(mask), (0, 0), 1.0))
    return mask, "more values"


def undeclared_colour(copy):
    mask = copy.files("Tile 3/masks/*.png")[0]
    array = values(mask)
    array[20:30, 50:60] = (0x12, 0xAB, 0x34)
    save(mask, array)
    return mask, "#12AB34 (100 px); #12AB34 first at row 20, column 50"


def sixteen_bits_among_eight(copy):
    scanned = copy.files("train/*.jpg")[1]
    cv2.imwrite(str(scanned.with_suffix(".png")), cv2.imread(str(scanned)).astype(np.uint16) * 257)
    scanned.unlink()
    return scanned.with_suffix(".png"), "uint16"


def clipped_image(copy):
    scanned = copy.files("train/*.jpg")[1]
    wide = cv2.imread(str(scanned)).astype(np.uint16) * 257
    cv2.imwrite(str(scanned.with_suffix(".png")), np.minimum(wide, 255).astype(np.uint8))
    scanned.unlink()
    return scanned.with_suffix(".png"), "of the values are 255"


def clipped_mask(copy):
    classes_toml(copy, [100 * k for k in range(11)], [1100])
    for mask in masks(copy):
        save(mask, values(mask).astype(np.uint16) * 100)
    mask = masks(copy)[3]
    wide = np.array(Image.open(mask)).astype(np.uint16)
    save(mask, np.minimum(wide, 255).astype(np.uint8))
    return mask, "255 ("


def same_image(copy):
    scanned, mask = copy.files("train/*.jpg")[0], copy.files("trainannot/*.png")[0]
    with Image.open(scanned) as image:
        image.save(copy.root / "val" / "another_name.png")  # other bytes, equal pixels
    shutil.copyfile(mask, copy.root / "valannot" / "another_name.png")
    return copy.root / "val" / "another_name.png", scanned.name


def mirrored_copy(copy):
    scanned, mask = copy.files("train/*.jpg")[0], copy.files("trainannot/*.png")[0]
    with Image.open(scanned) as image:
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        mirrored.save(copy.root / "val" / "mirrored.jpg", quality=60)
    save(copy.root / "valannot" / "mirrored.png", values(mask)[:, ::-1])
    return copy.root / "val" / "mirrored.jpg", scanned.name


def saved_again(copy):
    """Another exposure and cut of the image, saved in poor quality."""
    scanned, mask = copy.files("train/*.jpg")[1], copy.files("trainannot/*.png")[1]
    with Image.open(scanned) as image:
        cut_out = image.crop((3, 2, 478, 358)).resize(image.size).point(lambda v: 0.8 * v + 9)
        cut_out.save(copy.root / "val" / "again.jpg", quality=40)
    shutil.copyfile(mask, copy.root / "valannot" / "again.png")
    return copy.root / "val" / "again.jpg", scanned.name


def turned_copy(copy):
    scanned, mask = copy.files("train/*.jpg")[0], copy.files("trainannot/*.png")[0]
    with Image.open(scanned) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(copy.root / "val" / "turned.png")
    save(copy.root / "valannot" / "turned.png", np.rot90(values(mask)))
    return copy.root / "val" / "turned.png", scanned.name


def twice_in_one_split(copy):
    scanned, mask = copy.files("train/*.jpg")[0], copy.files("trainannot/*.png")[0]
    shutil.copyfile(scanned, copy.root / "train" / "zz.jpg")
    shutil.copyfile(mask, copy.root / "trainannot" / "zz.png")
    return copy.root / "train" / "zz.jpg", scanned.name


def empty_split(copy):
    for file in [*copy.files("val/*.jpg"), *copy.files("valannot/*.png")]:
        file.unlink()
    return copy.root, "0 images"


def all_ignored_everywhere(copy):
    change(masks(copy), lambda mask: np.full_like(mask, 11))
    return masks(copy)[3], "values 11"


def class_nowhere(copy):
    change(masks(copy), lambda mask: np.where(mask == 5, 11, mask))
    return copy.root, "0 pixels in train, val, test: tree"


def all_ignored(copy):
    change(masks(copy)[2:3], lambda mask: np.full_like(mask, 11))
    return masks(copy)[2], "values 11"


def class_not_in_train(copy):
    change(copy.files("trainannot/*.png"), lambda mask: np.where(mask == 5, 11, mask))
    return copy.root, "0 pixels in train: tree"


def grey_image(copy):
    scanned = copy.files("train/*.jpg")[3]
    with Image.open(scanned) as image:
        image.convert("L").save(scanned)
    return scanned, "1 bands"


def transparent(copy):
    scanned = copy.files("train/*.jpg")[3]
    with Image.open(scanned) as image:
        see_through = image.convert("RGBA")
    see_through.putpixel((5, 4), (0, 0, 0, 0))
    see_through.save(scanned.with_suffix(".png"))
    scanned.unlink()
    return scanned.with_suffix(".png"), "1 px of a RGBA image, first at row 4, column 5"


def cmyk(copy):
    scanned = copy.files("train/*.jpg")[3]
    with Image.open(scanned) as image:
        image.convert("CMYK").save(scanned)
    return scanned, "8-bit CMYK JPEG"


def indices_for_colours(copy):
    copy.labels = "dubai_6"
    return masks(copy)[0], "class indices"


def colours_for_indices(copy):
    mask = masks(copy)[4]
    save(mask, labels.load_label_map("camvid").colours[np.minimum(values(mask), 10)])
    return mask, "RGB PNG"


def other_scale(copy):
    scanned = copy.files("train/*.jpg")[0]
    with Image.open(scanned) as image:
        save(scanned.with_suffix(".png"), (np.array(image) // 86).astype(np.uint8))
    scanned.unlink()
    return scanned.with_suffix(".png"), "largest values 2, 2, 2"


def larger_scale(copy):
    for scanned in copy.files("*/*.jpg")[2:]:  # the second is to be cut short
        with Image.open(scanned) as image:
            save(scanned.with_suffix(".png"), (np.array(image) // 86).astype(np.uint8))
        scanned.unlink()
    return copy.files("*/*.jpg")[0], "largest values 2"


def blank_image(copy):
    scanned = copy.files("val/*.jpg")[0]
    Image.new("RGB", (480, 360), (7, 7, 7)).save(scanned)
    return scanned, "every band has one value: 7, 7, 7"


def bomb(copy):
    scanned = copy.files("train/*.jpg")[0]
    Image.new("1", (60_000, 60_000)).save(scanned, format="PNG")
    return scanned, "60000 rows × 60000 columns"


def part_missing(copy):
    mask = copy.files("mask/Tail-Masks/*.png")[0]
    mask.unlink()
    return copy.root, f"1 images without a Tail mask: {mask.stem}"


def part_of_another_size(copy):
    mask = copy.files("mask/Tail-Masks/*.png")[1]
    save(mask, values(mask)[:, :-2])
    return mask, "512×63"


def part_too_dark(copy):
    mask = copy.files("mask/Midpiece-Masks/*.png")[2]
    change([mask], lambda array: np.where(array > 16, 1, 0))
    return mask, "values 0 and 1"


def listed_twice(copy):
    lists = copy.root / "annotations"
    name = (lists / "trainval.txt").read_text().split()[0]
    with (lists / "test.txt").open("a") as file:
        file.write(f"{name} 1 1 1\n")
    return lists, f"{name} (train and test)"


def shifted_grid(copy):
    mask = copy.files("masks/*.tif")[3]
    with rasterio.open(mask, "r+") as raster:
        a, b, c, d, e, f = raster.transform[:6]
        raster.transform = Affine(a, b, c + a / 2, d, e, f)
    return mask, "up to 0.50 pixels apart"


def other_crs(copy):
    mask = copy.files("masks/*.tif")[3]
    with rasterio.open(mask, "r+") as raster:
        raster.crs = "EPSG:32617"
    return mask, "EPSG:32617"


def nan_pixels(copy):
    image = copy.files("images/*.tif")[2]
    with rasterio.open(image, "r+") as raster:
        band_HW = raster.read(3)
        band_HW[11, 7:9] = np.nan
        raster.write(band_HW, 3)
    return image, "2 values are NaN, first in band 3, row 11, column 7"


def infinite_pixel(copy):
    image = copy.files("images/*.tif")[1]
    with rasterio.open(image, "r+") as raster:
        band_HW = raster.read(2)
        band_HW[5, 6] = -np.inf
        raster.write(band_HW, 2)
    return image, "1 px, first in band 2 at row 5, column 6"


def unwritten_block(copy):
    mask = copy.files("masks/*.tif")[1]
    with rasterio.open(mask) as raster:
        profile = raster.profile
    mask.unlink()
    with rasterio.open(mask, "w", sparse_ok=True, **profile):
        pass
    return mask, "row 0, column 0"


def disguised_vrt(copy):
    mask = copy.files("masks/*.tif")[2]
    mask.write_text("<VRTDataset rasterXSize='48' rasterYSize='48'></VRTDataset>")
    return mask, "content is VRT"


def cut_raster(copy):
    cut(copy.files("images/*.tif")[2], 0.6)
    return copy.files("images/*.tif")[2], "bytes"


@dataclass(frozen=True)
class Case:
    """A fault, the sample it is planted in, and what must be said of it."""

    sample: Callable[[Path], Copy]
    plant: Callable[[Copy], tuple[Path, str]]
    code: str
    problem: str
    advice: str
    level: str = "error"


CASES = [
    Case(camvid, one_pixel, "SEG-D001", "not in the label map", "add the value to a class"),
    Case(camvid, shifted_up, "SEG-D001", "one too high", "begins one higher"),
    Case(camvid, shifted_down, "SEG-D001", "one too low", "begins one lower"),
    Case(camvid, wrapped, "SEG-D001", "subtracted 1", "without arithmetic"),
    Case(camvid, binary_ignored, "SEG-D002", "255 is ignored", "raw = [255]"),
    Case(camvid, binary_unknown, "SEG-D001", "binary, 0 and 255", "raw = [255]"),
    Case(pets, mapped_twice, "SEG-D001", "mapped twice", "raw = train id"),
    Case(city_quarters, mapped_twice_silently, "SEG-D004", "mapped twice", "raw = train id"),
    Case(camvid, jpeg_mask, "SEG-D008", "lossy label format", "as PNG"),
    Case(camvid, one_row_less, "SEG-D009", "differ in size", "at the size of its image"),
    Case(camvid, one_column_more, "SEG-D009", "differ in size", "at the size of its image"),
    Case(camvid, exif, "SEG-D010", "turned on display", "auto-orient"),
    Case(camvid, cut_mask, "SEG-D011", "truncated", "export the file again"),
    Case(camvid, cut_image, "SEG-D011", "truncated", "export the file again"),
    Case(camvid, cut_at_the_end, "SEG-D011", "truncated", "export the file again"),
    Case(camvid, flipped_bit, "SEG-D011", "damaged", "export the file again"),
    Case(camvid, empty_file, "SEG-D013", "empty", "export the file again"),
    Case(camvid, folder_for_a_file, "SEG-D013", "cannot read", "check that the file is there"),
    Case(camvid, dangling_link, "SEG-D013", "cannot read", "check that the file is there"),
    Case(camvid, lfs_pointer, "SEG-D012", "does not hold an image", "convert the file"),
    Case(camvid, missing_mask, "SEG-D014", "do not pair up", "add, rename or remove"),
    Case(camvid, orphan_mask, "SEG-D014", "do not pair up", "add, rename or remove"),
    Case(camvid, two_of_a_stem, "SEG-D014", "do not pair up", "add, rename or remove"),
    Case(camvid, other_case, "SEG-D014", "do not pair up", "upper and lower case only"),
    Case(camvid, palette_of_others, "SEG-D006", "palette shows other", "read the colours"),
    Case(camvid, palettes_in_two_orders, "SEG-D006", "order of palettes", "read the colours"),
    Case(dubai, antialiased, "SEG-D001", "antialiasing", "without antialiasing"),
    Case(dubai, undeclared_colour, "SEG-D001", "not in the label map", "add the value"),
    Case(camvid, sixteen_bits_among_eight, "SEG-D021", "different types", "convert the image"),
    Case(camvid, clipped_image, "SEG-D019", "clipped from 16", "keep 16 bits", "warning"),
    Case(camvid, clipped_mask, "SEG-D001", "clipped to 8 bits", "with 16 bits"),
    Case(camvid, same_image, "SEG-D015", "in two splits", "remove it from one"),
    Case(camvid, mirrored_copy, "SEG-D039", "nearly the same", "one split", "warning"),
    Case(camvid, saved_again, "SEG-D039", "nearly the same", "one split", "warning"),
    Case(camvid, turned_copy, "SEG-D039", "nearly the same", "one split", "warning"),
    Case(camvid, twice_in_one_split, "SEG-D015", "twice in one split", "remove one", "note"),
    Case(camvid, empty_split, "SEG-D016", "'val' is empty", "check data.root"),
    Case(camvid, all_ignored_everywhere, "SEG-D017", "every pixel", "leave the image out"),
    Case(camvid, class_nowhere, "SEG-D037", "in no mask", "draw the splits", "note"),
    Case(camvid, all_ignored, "SEG-D017", "every pixel", "leave the image out", "warning"),
    Case(camvid, class_not_in_train, "SEG-D037", "absent", "draw the splits", "warning"),
    Case(camvid, grey_image, "SEG-D020", "number of bands", "convert the image"),
    Case(camvid, transparent, "SEG-D019", "transparent pixels", "flatten"),
    Case(camvid, cmyk, "SEG-D019", "kind of pixel", "to RGB"),
    Case(camvid, indices_for_colours, "SEG-D007", "hold class indices", "of the other kind"),
    Case(camvid, colours_for_indices, "SEG-D007", "holds colours", 'mask_kind = "colour"'),
    Case(camvid, other_scale, "SEG-D021", "another scale", "0…1 to 0…255", "warning"),
    Case(camvid, larger_scale, "SEG-D021", "another scale", "0…1 to 0…255", "warning"),
    Case(camvid, blank_image, "SEG-D038", "holds nothing", "look at the file", "warning"),
    Case(camvid, bomb, "SEG-D031", "impossible number of pixels", "GeoTIFF"),
    Case(sperm, part_missing, "SEG-D014", "do not pair up", "add, rename or remove"),
    Case(sperm, part_of_another_size, "SEG-D009", "differ in size", "at the size"),
    Case(sperm, part_too_dark, "SEG-D002", "would be empty", "threshold below 1"),
    Case(pets, listed_twice, "SEG-D015", "in two splits", "remove the names"),
    Case(landsat, shifted_grid, "SEG-D026", "one grid", "gdalwarp"),
    Case(landsat, other_crs, "SEG-D025", "reference systems", "in a GIS", "warning"),
    Case(landsat, disguised_vrt, "SEG-D030", "not a GeoTIFF", "convert the file"),
    Case(landsat_floats, nan_pixels, "SEG-D022", "NaN pixels", "-a_nodata nan", "warning"),
    Case(landsat_floats, infinite_pixel, "SEG-D022", "infinite", "nodata value"),
    Case(landsat, unwritten_block, "SEG-D029", "never written", ""),
    Case(landsat, cut_raster, "SEG-D011", "truncated", "export the file again"),
]

_LAST = {
    camvid: "test/*.jpg",
    pets: "images/*.jpg",
    sperm: "images/test/*.jpg",
    dubai: "Tile 5/images/*.jpg",
    city_quarters: "images/*.png",
    landsat: "images/*.tif",
    landsat_floats: "images/*.tif",
}
"""The last of these images is cut short as well."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.plant.__name__)
def test_a_planted_fault_is_named_and_the_other_files_are_checked(tmp_path, case):
    copy = case.sample(tmp_path / "data")
    file, observed = case.plant(copy)
    other = copy.files(_LAST[case.sample])[-1]
    assert other != file
    cut(other, 0.6)

    code, report = diagnosed(copy)
    assert code == 3
    assert report["must_stop"]
    found = [
        f for f in report["findings"] if f["code"] == case.code and case.problem in f["problem"]
    ]
    found = [f for f in found if str(file) in f["file"] and observed in f["observed"]]
    assert len(found) == 1, report["findings"]
    assert found[0]["level"] == case.level
    assert case.advice in found[0]["next_step"]
    second = [f for f in report["findings"] if f["file"] == str(other)]
    assert [f["code"] for f in second] == ["SEG-D011"]


def test_a_palette_is_accused_once(tmp_path):
    copy = camvid(tmp_path / "data")
    colours_KC = labels.load_label_map("camvid").colours
    for mask in masks(copy):
        with_palette(mask, colours_KC)
    with_palette(masks(copy)[4], np.roll(colours_KC, 1, axis=0))
    _, report = diagnosed(copy)
    found = [(f["file"], f["problem"]) for f in report["findings"] if f["code"] == "SEG-D006"]
    assert found == [(str(masks(copy)[4]), "the palette shows other classes than the label map")]


def test_enough_faults_are_planted():
    assert len(CASES) >= 30
    assert len({case.plant for case in CASES}) == len(CASES)


CLEAN = [
    (camvid_with_all_classes, None),
    (camvid_with_grey_palettes, None),
    (pets, None),
    (pets, "oxford_pet_3"),
    (sperm, None),
    (sperm, "sperm_parts_4"),
    (dubai, None),
    (dubai, "dubai_5"),
    (city_quarters, "cityscapes_34"),
    (city_quarters, "cityscapes_8"),
    (landsat, None),
    (landsat_floats, None),
]


@pytest.mark.parametrize(("sample", "label_map"), CLEAN)
def test_a_clean_sample_raises_no_alarm(tmp_path, sample, label_map):
    copy = sample(tmp_path / "data")
    copy.labels = label_map or copy.labels
    code, report = diagnosed(copy)
    assert code == 0
    assert [f for f in report["findings"] if f["level"] != "note"] == []
    assert report["proposal"] is None
    assert sum(report["images"].values()) >= 5
    assert sum(row["pixel_share"] for row in report["classes"]) == pytest.approx(1)
