"""GeoTIFF scenes with a label raster or GeoJSON polygons each, cut into chips on a grid.

    [data.options]
    scenes = [{ images = ["north.tif"], label = "north_classes.tif" },
              { images = ["rgb.tif", "nir.tif"], label = "south.geojson" }]
    chip = 256

Paths are below `data.root`. The rasters of a scene must lie on one grid: CRS, transform and size;
``align = "reproject"`` brings a label raster onto the image's grid instead (nearest neighbour).
Several image rasters are stacked, band after band. Pixels without data in the image (nodata, alpha,
inner mask) or in the label raster (nodata) are ignored; 0 is an ordinary value unless declared.

Splits are drawn by blocks of ``block``×``block`` chips. Labels of training pixels nearer than
``buffer`` pixels to a block of val or test are ignored, and those of val near test: neighbouring
pixels are much alike, and scores would flatter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from terrazzo import config, rasters
from terrazzo.datasets import _draw
from terrazzo.datasets._draw import Draw
from terrazzo.errors import ConfigError, DataError
from terrazzo.rasters import RasterInfo
from terrazzo.sample import RawSample
from terrazzo.scene_map import MappedScene, map_of

LABELS = None

_GEOJSON = (".geojson", ".json")
_AVOIDED: Mapping[str, tuple[str, ...]] = {"train": ("val", "test"), "val": ("test",), "test": ()}
"""Splits whose blocks the pixels of a split keep their distance from."""


class Scene(config.Frozen):
    """One scene: its image rasters and where its labels are."""

    images: Annotated[tuple[str, ...], Field(min_length=1)]
    label: str
    """A GeoTIFF of class indices, or GeoJSON in the CRS of the image."""


class Options(config.Frozen):
    """Which scenes, how they are cut, and how they are divided."""

    scenes: Annotated[tuple[Scene, ...], Field(min_length=1)]
    bands: tuple[str, ...] = ()
    """Bands to use, by name, in this order. Empty: all."""
    chip: config.Count = 256
    """Rows and columns of a chip. The last ones are filled up with ignored pixels."""
    block: config.Count = 2
    """Chips along the side of a block, which belongs to one split."""
    buffer: Annotated[int, Field(ge=0)] = 32
    """Pixels."""
    align: Literal["exact", "reproject"] = "exact"
    crs_tolerance: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Pixels. A label raster with another CRS than the image is taken as it lies if no point of the
    scene moves by more than this from one CRS to the other: for files of one place whose CRS are
    written in two ways."""
    burn: Annotated[int, Field(ge=0, le=255)] = 1
    """GeoJSON: raw value of pixels whose centre is inside a polygon."""
    burn_property: str | None = None
    """GeoJSON: property of the polygons that holds their raw value; takes the place of `burn`."""
    background: Annotated[int, Field(ge=0, le=255)] = 0
    """GeoJSON: raw value of all other pixels."""
    split: Draw = Draw(train=0.6, val=0.2, test=0.2)
    """Shares of the blocks."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""


@dataclass(frozen=True)
class Raster:
    """A scene that has been looked at: its files, grid and bands.

    Attributes:
        name: unique within the data set.
        images: image rasters and the positions of the bands used in each.
        label: label file.
        grid: of the first image.
        label_HW: rasterised polygons; None for a label raster, which is read by window.
    """

    name: str
    images: tuple[tuple[Path, tuple[int, ...]], ...]
    label: Path
    grid: RasterInfo
    label_HW: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class Chip:
    """A square of a scene; row and column are counted in chips."""

    scene: int
    row: int
    column: int


@dataclass(frozen=True)
class Chips:
    """A `Source` over chips of one split.

    Attributes:
        rasters: all scenes.
        chips: of this split, in the order of their names.
        names: N names such as ``north/r0003_c0012``.
        band_names: C names.
        options: as given.
        avoided: blocks by scene, row and column that pixels keep their distance from.
    """

    rasters: tuple[Raster, ...]
    chips: tuple[Chip, ...]
    names: tuple[str, ...]
    band_names: tuple[str, ...]
    options: Options
    avoided: frozenset[tuple[int, int, int]]

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is left out."""
        return ()

    @property
    def scenes(self) -> tuple[MappedScene, ...]:
        """Return the scenes, for maps of what is scored."""
        return tuple(map_of(raster.name, raster.grid, *raster.images[0]) for raster in self.rasters)

    def place(self, index: int) -> tuple[int, int, int]:
        """Return the scene, the first row and the first column of a chip."""
        chip, size = self.chips[index], self.options.chip
        return chip.scene, chip.row * size, chip.column * size

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the image rasters and the label file behind a chip."""
        raster = self.rasters[self.chips[index].scene]
        return (*(path for path, _ in raster.images), raster.label)

    def read(self, index: int) -> RawSample:
        """Read one chip.

        Raises:
            DataError: see `rasters.read_window` and `rasters.read_label_window`.
        """
        chip = self.chips[index]
        raster, window = self.rasters[chip.scene], self._window(chip)
        _, _, rows, columns = window
        pieces = [rasters.read_window(path, *window, bands) for path, bands in raster.images]
        valid_HW = np.logical_and.reduce([valid for _, valid in pieces])
        valid_HW &= ~self._near_avoided(chip, rows, columns)
        label_HW, labelled_HW = self._label(raster, window)
        valid_HW &= labelled_HW
        fill = self._fill(window)
        return RawSample(
            self.names[index],
            np.pad(np.concatenate([image for image, _ in pieces], axis=2), (*fill, (0, 0))),
            np.pad(label_HW, fill),
            np.pad(valid_HW, fill),
            str(raster.images[0][0]),
            str(raster.label),
        )

    @property
    def is_cut_from_scenes(self) -> bool:
        """Chips of scenes."""
        return True

    def read_image(
        self,
        index: int,
        *,
        half: bool = False,  # noqa: ARG002
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Read the picture of one chip, and where it teaches: its label has a say in that."""
        raw = self.read(index)
        return raw.image_HWC, raw.valid_HW

    def read_label(self, index: int) -> NDArray[Any]:
        """Read the label of one chip alone."""
        chip = self.chips[index]
        window = self._window(chip)
        label_HW, _ = self._label(self.rasters[chip.scene], window)
        return np.pad(label_HW, self._fill(window))

    def _window(self, chip: Chip) -> tuple[int, int, int, int]:
        """Return first row, first column, rows and columns of a chip within its scene."""
        size, grid = self.options.chip, self.rasters[chip.scene].grid
        row, column = chip.row * size, chip.column * size
        return row, column, min(size, grid.rows - row), min(size, grid.columns - column)

    def _fill(self, window: tuple[int, int, int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return what a chip at the edge lacks below and to the right, for `np.pad`."""
        _, _, rows, columns = window
        return (0, self.options.chip - rows), (0, self.options.chip - columns)

    def _label(
        self, raster: Raster, window: tuple[int, int, int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        row, column, rows, columns = window
        if raster.label_HW is not None:
            label_HW = raster.label_HW[row : row + rows, column : column + columns]
            return label_HW, np.ones(label_HW.shape, bool)
        onto = raster.grid if self.options.align == "reproject" else None
        return rasters.read_label_with_mask(raster.label, *window, onto=onto)

    def _near_avoided(self, chip: Chip, rows: int, columns: int) -> NDArray[np.bool_]:
        """Return which pixels of a chip are nearer than the buffer to a block to keep away from."""
        near_HW = np.zeros((rows, columns), bool)
        side = self.options.chip * self.options.block
        reach = -(-self.options.buffer // side)
        row0, column0 = chip.row * self.options.chip, chip.column * self.options.chip
        block_row, block_column = row0 // side, column0 // side
        for other_row in range(block_row - reach, block_row + reach + 1):
            for other_column in range(block_column - reach, block_column + reach + 1):
                if (chip.scene, other_row, other_column) in self.avoided:
                    down = _distance(np.arange(row0, row0 + rows), other_row * side, side)
                    across = _distance(
                        np.arange(column0, column0 + columns), other_column * side, side
                    )
                    near_HW |= np.hypot(down[:, None], across[None]) < self.options.buffer
        return near_HW


def open_split(root: Path, split: str, options: Options) -> Chips:
    """Look at all scenes below `root` and return the chips of one split.

    Raises:
        ConfigError: SEG-X011, a band is not there.
        DataError: as `rasters.info`; SEG-D009, SEG-D025 or SEG-D026 the files of a scene differ in
            size, CRS or transform; SEG-D020 scenes differ in their bands.
    """
    opened = tuple(
        _look_at(root, scene, number, options) for number, scene in enumerate(options.scenes)
    )
    scenes = tuple(raster for raster, _ in opened)
    band_names = opened[0][1]
    for raster, names in opened:
        if names != band_names or raster.grid.dtype != scenes[0].grid.dtype:
            raise DataError(
                "SEG-D020",
                "the scenes differ in their bands",
                file=raster.images[0][0],
                observed=f"{', '.join(names)} of {raster.grid.dtype}",
                allowed=f"{', '.join(band_names)} of {scenes[0].grid.dtype}, as in "
                f"{scenes[0].images[0][0]}",
                next_step="choose the bands by name with data.options.bands",
            )
    chips = {_name(scenes, chip): chip for chip in _all_chips(scenes, options)}
    split_of = _divide(scenes, chips, options)
    names = tuple(sorted(name for name in chips if split_of[_block(chips[name], options)] == split))
    avoided = frozenset(block for block, owner in split_of.items() if owner in _AVOIDED[split])
    return Chips(scenes, tuple(chips[name] for name in names), names, band_names, options, avoided)


def _look_at(
    root: Path, scene: Scene, number: int, options: Options
) -> tuple[Raster, tuple[str, ...]]:
    """Check the grids of one scene; return it and the names of its bands."""
    paths = [root / image for image in scene.images]
    infos = [rasters.info(path) for path in paths]
    for path, other in zip(paths[1:], infos[1:], strict=True):
        rasters.require_same_grid(paths[0], infos[0], path, other)
        if other.dtype != infos[0].dtype:
            raise DataError(
                "SEG-D019",
                "the image rasters of a scene differ in their type of pixel",
                file=path,
                observed=other.dtype,
                allowed=f"{infos[0].dtype}, as in {paths[0]}",
                next_step="convert one of them",
            )
    label = root / scene.label
    label_HW = None
    if label.suffix.lower() in _GEOJSON:
        label_HW = rasters.rasterise(
            label,
            infos[0],
            value=options.burn,
            value_property=options.burn_property,
            background=options.background,
        )
    elif options.align == "exact":
        rasters.require_same_grid(
            paths[0], infos[0], label, rasters.info(label), tolerance=options.crs_tolerance
        )
    names = [
        (name, at, band) for at, i in enumerate(infos) for band, name in enumerate(i.band_names)
    ]
    chosen = [_find(paths[0], names, wanted) for wanted in options.bands] or names
    # Bands are read file by file, so their order is that of the files.
    ordered = sorted(chosen, key=lambda band: band[1])
    images = tuple(
        (path, tuple(band for _, file, band in ordered if file == at))
        for at, path in enumerate(paths)
        if any(file == at for _, file, _ in ordered)
    )
    name = Path(scene.images[0]).with_suffix("").as_posix()
    if [Path(s.images[0]).with_suffix("").as_posix() for s in options.scenes].count(name) > 1:
        name = f"{number:03d}_{name}"
    return Raster(name, images, label, infos[0], label_HW), tuple(n for n, _, _ in ordered)


def _find(path: Path, names: list[tuple[str, int, int]], wanted: str) -> tuple[str, int, int]:
    for each in names:
        if each[0] == wanted:
            return each
    raise ConfigError(
        "SEG-X011",
        f"data.options.bands: the scene has no band {wanted!r}",
        file=path,
        observed=wanted,
        allowed=", ".join(name for name, _, _ in names),
        next_step="use one of these names, or leave bands empty for all",
    )


def _all_chips(scenes: tuple[Raster, ...], options: Options) -> list[Chip]:
    size = options.chip
    return [
        Chip(number, row, column)
        for number, raster in enumerate(scenes)
        for row in range(-(-raster.grid.rows // size))
        for column in range(-(-raster.grid.columns // size))
    ]


def _divide(
    scenes: tuple[Raster, ...], chips: Mapping[str, Chip], options: Options
) -> dict[tuple[int, int, int], str]:
    """Return the split of every block."""
    if options.split_file is not None:
        kept = _draw.read(config.resolve_path(options.split_file, where="data.options.split_file"))
        split_of = {
            _block(chips[name], options): split
            for split, names in kept.items()
            for name in names
            if name in chips
        }
        missing = {_block(chip, options) for chip in chips.values()} - split_of.keys()
        gone = sorted(name for names in kept.values() for name in names if name not in chips)
        if missing or gone:
            raise DataError(
                "SEG-D014",
                "the chips are not those of the earlier draw",
                file=options.split_file,
                observed=f"{len(missing)} blocks without a split, {len(gone)} chips that are gone",
                next_step="use the scenes, chip and block of that run, or draw anew in a new run",
            )
        return split_of
    blocks = {
        _name(scenes, Chip(*block)): block
        for block in (_block(chip, options) for chip in chips.values())
    }
    drawn = _draw.draw(blocks, options.split)
    return {blocks[name]: split for split, names in drawn.items() for name in names}


def _block(chip: Chip, options: Options) -> tuple[int, int, int]:
    return chip.scene, chip.row // options.block, chip.column // options.block


def _name(scenes: tuple[Raster, ...], chip: Chip) -> str:
    return f"{scenes[chip.scene].name}/r{chip.row:04d}_c{chip.column:04d}"


def _distance(pixels: NDArray[np.int64], start: int, length: int) -> NDArray[np.int64]:
    """Return how far pixels are from `length` pixels beginning at `start`; 0 inside."""
    distance: NDArray[np.int64] = np.maximum(start - pixels, pixels - (start + length - 1))
    return np.maximum(distance, 0)
