"""A tiny valid tree of files for each data-set format: what its reader must be able to open.

`WRITERS` names them after their formats. Images are PNG, so that they can be compared bit for
bit; labels hold every raw value their map knows. `dataset_checks` runs over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.base.recipe import DataConfig
from terrazzo.data import labels
from terrazzo.data.labels import LabelMap

SIZE = (12, 10)
"""Rows and columns of the images."""


@dataclass(frozen=True, slots=True)
class Written:
    """One image as it was written.

    Attributes:
        image: its file.
        masks: its mask files.
        image_HWC: its pixels.
        raw_label: its raw label: H×W indices, or H×W×3 colours.
    """

    image: Path
    masks: tuple[Path, ...]
    image_HWC: NDArray[np.uint8]
    raw_label: NDArray[np.uint8]


@dataclass(frozen=True)
class Tree:
    """A data set on disk and what is in it.

    Attributes:
        data: settings that open it.
        label_map: its label map.
        images: by name, over all splits.
        drawn: whether its splits, or some of them, come from a draw.
    """

    data: DataConfig
    label_map: LabelMap
    written_images: Mapping[str, Written]
    drawn: bool


@dataclass
class _Writer:
    """Writes images with masks and remembers them."""

    root: Path
    label_map: LabelMap
    written_images: dict[str, Written] = field(default_factory=dict)
    bands: int = 3

    def pair(self, name: str, image: str, mask: str, *, palette: bool = False) -> None:
        """Write one image and its mask; both paths are relative to the root."""
        raw_label = self.raw_label()
        written = self.root / mask
        save(written, raw_label, palette=palette)
        self.written_image(name, image, (written,), raw_label)

    def written_image(
        self, name: str, image: str, masks: tuple[Path, ...], raw_label: NDArray[np.uint8]
    ) -> None:
        """Write one image whose masks are already there."""
        image_HWC = self._rng(2).integers(0, 256, (*SIZE, self.bands), np.uint8)
        save(self.root / image, image_HWC)
        self.written_images[name] = Written(self.root / image, masks, image_HWC, raw_label)

    def raw_label(self) -> NDArray[np.uint8]:
        """Draw a label of the map's raw values, each at least once where they fit."""
        known = [code for c in self.label_map.classes for code in c.raw]
        known += self.label_map.ignored
        count = SIZE[0] * SIZE[1]
        codes = np.resize(self._rng(1).permutation(known), count)
        codes_HW = self._rng(3).permutation(codes).reshape(SIZE)
        if not self.label_map.colour_coded:
            return codes_HW.astype(np.uint8)
        return np.stack([codes_HW >> 16, codes_HW >> 8 & 255, codes_HW & 255], 2).astype(np.uint8)

    def tree(
        self, name: str, *, drawn: bool, labels_name: str | None = None, **options: Any
    ) -> Tree:
        """Return what was written."""
        data = DataConfig(
            format=name,
            root=str(self.root),
            labels=labels_name or self.label_map.name,
            options=options,
        )
        return Tree(data, self.label_map, self.written_images, drawn)

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng((purpose, len(self.written_images)))


def save(path: Path, array: NDArray[np.uint8], *, palette: bool = False) -> None:
    """Write a PNG, and the folders above it.

    Args:
        path: where to.
        array: H×W, H×W×1 or H×W×3.
        palette: write H×W×3 as palette PNG with an order of its own, and H×W with a palette.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    written_image = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
    if palette and written_image.mode == "L":
        written_image.putpalette([(37 * value) % 256 for value in range(768)])
    elif palette:
        written_image = written_image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    written_image.save(path, format="PNG")


def camvid(root: Path) -> Tree:
    """Three images in each official split."""
    writer = _Writer(root, labels.load_label_map("camvid"))
    for split in ("train", "val", "test"):
        for number in range(3):
            name = f"{split}_{number}"
            writer.pair(name, f"{split}/{name}.png", f"{split}annot/{name}.png")
    return writer.tree("camvid", drawn=False)


def cityscapes(root: Path) -> Tree:
    """Four cities of two images to train on, one of three in the official val part."""
    writer = _Writer(root, labels.load_label_map("cityscapes_19"))
    cities = {"aachen": 2, "bochum": 2, "bremen": 2, "cologne": 2, "frankfurt": 3}
    for city, count in cities.items():
        part = "val" if city == "frankfurt" else "train"
        for number in range(count):
            name = f"{city}/{city}_{number:06d}_000019"
            image = f"leftImg8bit/{part}/{name}_leftImg8bit.png"
            writer.pair(name, image, f"gtFine/{part}/{name}_gtFine_labelIds.png")
            # Beside the ids lie colours and instances, which are no labels.
            save(root / f"gtFine/{part}/{name}_gtFine_color.png", np.zeros((*SIZE, 3), np.uint8))
    return writer.tree("cityscapes", drawn=True)


def colour_tiles(root: Path) -> Tree:
    """Four tiles of two images; every other tile has palette masks."""
    writer = _Writer(root, labels.load_label_map("dubai_6"))
    for tile in range(1, 5):
        for number in range(1, 3):
            stem = f"image_part_{number:03d}"
            image, mask = (f"Tile {tile}/{kind}/{stem}.png" for kind in ("images", "masks"))
            writer.pair(f"Tile {tile}/{stem}", image, mask, palette=tile % 2 == 0)
    return writer.tree("colour_tiles", drawn=True)


def folder(root: Path) -> Tree:
    """Ten images of one label map, some in a sub-folder."""
    writer = _Writer(root, labels.load_label_map("loveda_7"))
    for number in range(10):
        name = f"{'deep/' if number % 2 else ''}image_{number}"
        writer.pair(name, f"images/{name}.png", f"masks/{name}.png")
    return writer.tree("folder", drawn=True)


def gta5(root: Path) -> Tree:
    """Frames of five different hundreds, with palette labels."""
    writer = _Writer(root, labels.load_label_map("gta5_19"))
    for number in (1, 2, 101, 102, 233, 399, 20800):
        name = f"{number:05d}"
        writer.pair(name, f"images/{name}.png", f"labels/{name}.png", palette=True)
    return writer.tree("gta5", drawn=True)


def loveda(root: Path) -> Tree:
    """Three images a scene to train on, one a scene in the official val part."""
    writer = _Writer(root, labels.load_label_map("loveda_7"))
    for part, count in (("Train", 3), ("Val", 1)):
        for scene in ("Rural", "Urban"):
            for number in range(count):
                stem = f"{part}{number}"  # in the real set numbers are unique over all folders
                image, mask = (f"{part}/{scene}/{k}_png/{stem}.png" for k in ("images", "masks"))
                writer.pair(f"{scene}/{stem}", image, mask)
    return writer.tree("loveda", drawn=True)


def mapillary(root: Path) -> Tree:
    """Six images to train on, two in the official validation part; labels v1.2."""
    writer = _Writer(root, labels.load_label_map("mapillary_v1_19"))
    for part, count in (("training", 6), ("validation", 2)):
        for number in range(count):
            name = f"{part[0]}{number}_-x"
            mask = f"{part}/v1.2/labels/{name}.png"
            writer.pair(name, f"{part}/images/{name}.png", mask, palette=True)
    return writer.tree("mapillary", drawn=True)


def oxford_pet(root: Path) -> Tree:
    """Six images to train on and two in the official test list."""
    writer = _Writer(root, labels.load_label_map("oxford_pet_2"))
    lists = {"trainval": [f"Abyssinian_{n}" for n in range(6)], "test": ["beagle_1", "pug_2"]}
    for name in (name for names in lists.values() for name in names):
        writer.pair(name, f"images/{name}.png", f"annotations/trimaps/{name}.png")
    for part, names in lists.items():
        lines = "".join(f"{name} 1 1 1\n" for name in names)
        (root / f"annotations/{part}.txt").write_text("# Image CLASS-ID SPECIES BREED\n" + lines)
    return writer.tree("oxford_pet", drawn=True)


def part_masks(root: Path) -> Tree:
    """Six grey images to train on and two to test; the masks of parts overlap."""
    writer = _Writer(root, labels.load_label_map("sperm_parts_4"), bands=1)
    parts = ("Head", "Midpiece", "Tail")
    for part, count in (("train", 6), ("test", 2)):
        for number in range(count):
            name = f"{part}_{number}"
            raw_label = writer.raw_label()
            masks = tuple(root / f"mask/{kind}-Masks/{name}.png" for kind in parts)
            for code, mask in enumerate(masks, start=1):
                # Those that come first win, so a later part may lie under an earlier one.
                covered = (raw_label == code) | ((raw_label < code) & (raw_label > 0))
                save(mask, np.where(covered, 255, 0).astype(np.uint8))
            writer.written_image(name, f"images/{part}/{name}.png", masks, raw_label)
    return writer.tree("part_masks", drawn=True)


WRITERS: Mapping[str, Callable[[Path], Tree]] = {
    "camvid": camvid,
    "cityscapes": cityscapes,
    "colour_tiles": colour_tiles,
    "folder": folder,
    "gta5": gta5,
    "loveda": loveda,
    "mapillary": mapillary,
    "oxford_pet": oxford_pet,
    "part_masks": part_masks,
}
"""By the name of the format. The demo draws its own tree, see `terrazzo.data.datasets.demo`."""


def all_names(splits: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names of all splits, sorted, with repetitions."""
    return sorted(name for names in splits.values() for name in names)
