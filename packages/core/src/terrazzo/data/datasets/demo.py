"""A generated city as GeoTIFF, drawn on first use: 1024×1024 pixels of half a metre.

Four bands of uint16 (reflectance × 10000) with a corner of no data, five classes. The scene is cut
into blocks that do not overlap; a block belongs to one split. The same on every machine with the
same NumPy and OpenCV. Scores on it say that the machinery works, and nothing about real cities.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import replace_text
from terrazzo.base.config_parsing import Frozen
from terrazzo.base.disk_errors import writing
from terrazzo.data.datasets import _generate_city
from terrazzo.data.sample import RawSample
from terrazzo.data.scene_placement import PlacedScene, placed_scene
from terrazzo.io import rasters
from terrazzo.io.pixels import ImagePixels
from terrazzo.io.rasters import Part

LABELS = "demo"

BAND_NAMES = ("red", "green", "blue", "near-infrared")
NODATA = 0
SCALE = 10_000  # of reflectance, as Sentinel-2 products have it

_IMAGE, _LABEL, _MARKER = "city.tif", "labels.tif", "city.json"
_GENERATOR = {"generator": 1, "seed": 2026}  # raise the first when the drawing changes
_NODATA_LEG = 200  # pixels along both edges of the empty corner
_ELSEWHERE = "data.root takes another folder"
_SPLIT_SEED = 27  # chosen so that every split has each class about as often as the scene has
_SHARES = {"val": 0.1, "test": 0.2}


class Options(Frozen):
    """How the scene is cut."""

    block: Literal[128, 256] = 128
    """Rows and columns of a block."""


@dataclass(frozen=True)
class Blocks:
    """A `Source` over blocks of the scene.

    Attributes:
        root: folder of the GeoTIFF files.
        positions: row and column of each block, counted in blocks; sorted.
        block: rows and columns of a block in pixels.
    """

    root: Path
    positions: tuple[tuple[int, int], ...]
    block: int

    @property
    def names(self) -> tuple[str, ...]:
        """N names such as ``r03_c05``."""
        return tuple(_name(position) for position in self.positions)

    @property
    def band_names(self) -> tuple[str, ...]:
        """Red, green, blue, near-infrared."""
        return BAND_NAMES

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is left out."""
        return ()

    @property
    def scenes(self) -> tuple[PlacedScene, ...]:
        """Return the one scene, for the map of what is scored."""
        path = self.root / _IMAGE
        shown = Part(path, tuple(range(len(BAND_NAMES))))
        return (placed_scene("city", rasters.info(path), shown),)

    def place(self, index: int) -> tuple[int, int, int]:
        """Return the scene, the first row and the first column of a block."""
        row, column = self.positions[index]
        return 0, row * self.block, column * self.block

    def files(self, index: int) -> tuple[Path, Path]:  # noqa: ARG002 - one scene holds all blocks
        """Return the image and label rasters, the same for every block."""
        return self.root / _IMAGE, self.root / _LABEL

    def read(self, index: int) -> RawSample:
        """Read one block.

        Raises:
            DataError: see `rasters.read_window`.
        """
        image_file, label_file = self.files(index)
        image_HWC, valid_HW, present_HWC = self.read_image(index)
        label_HW = self.read_label(index)
        name = _name(self.positions[index])
        return RawSample(
            name,
            image_HWC,
            label_HW,
            valid_HW,
            str(image_file),
            str(label_file),
            present_HWC,
            corner=self.place(index)[1:],
        )

    @property
    def is_cut_from_scenes(self) -> bool:
        """Blocks of one scene."""
        return True

    def read_image(
        self,
        index: int,
        *,
        coarse: bool = False,  # noqa: ARG002
    ) -> ImagePixels:
        """Read the image of one block alone."""
        row, column = (self.block * position for position in self.positions[index])
        return rasters.read_window(self.root / _IMAGE, row, column, self.block, self.block)

    def read_label(self, index: int) -> NDArray[Any]:
        """Read the label of one block alone."""
        row, column = (self.block * position for position in self.positions[index])
        return rasters.read_label_window(self.root / _LABEL, row, column, self.block, self.block)


def open_split(root: Path, split: str, options: Options) -> Blocks:
    """Draw the city below `root` if it is not there yet, and return the blocks of one split.

    Raises:
        ResourceError: SEG-R004, the files cannot be written.
    """
    if not _is_complete(root):
        _write(root)
    return Blocks(root, _positions(split, options.block), options.block)


def _name(position: tuple[int, int]) -> str:
    return f"r{position[0]:02d}_c{position[1]:02d}"


def _positions(split: str, block: int) -> tuple[tuple[int, int], ...]:
    side = _generate_city.SIZE // block
    order = np.random.Generator(np.random.Philox(_SPLIT_SEED)).permutation(side * side)
    num_val, num_test = (round(share * side * side) for share in _SHARES.values())
    parts = {
        "val": order[:num_val],
        "test": order[num_val : num_val + num_test],
        "train": order[num_val + num_test :],
    }
    return tuple(divmod(int(number), side) for number in np.sort(parts[split]))


def _is_complete(root: Path) -> bool:
    try:
        marker = json.loads((root / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(marker == _GENERATOR) and all((root / f).exists() for f in (_IMAGE, _LABEL))


def _write(root: Path) -> None:
    """Write image, label and, last, the marker. Two processes at once write the same bytes."""
    from affine import Affine  # comes with rasterio

    reflectance_HWC, label_HW = _generate_city.draw(_GENERATOR["seed"])
    image_HWC = np.round(reflectance_HWC * SCALE).astype(np.uint16)
    rows, columns = np.indices(label_HW.shape)
    image_HWC[rows + (_generate_city.SIZE - 1 - columns) < _NODATA_LEG] = NODATA
    crs, transform = "EPSG:32633", Affine(0.5, 0, 392_000, 0, -0.5, 5_820_000)
    with writing(root, problem="cannot make the folder of the demo data set", then=_ELSEWHERE):
        root.mkdir(parents=True, exist_ok=True)
    rasters.write(
        root / _IMAGE,
        image_HWC,
        crs=crs,
        transform=transform,
        nodata=NODATA,
        band_names=BAND_NAMES,
    )
    rasters.write(root / _LABEL, label_HW[..., None], crs=crs, transform=transform)
    replace_text(root / _MARKER, json.dumps(_GENERATOR) + "\n")
