"""GeoTIFF scenes with a label raster or polygons each, cut into chips.

    [data.options]
    scenes = [{ images = ["north.tif"], label = "north_classes.tif", area = "north.geojson" },
              { images = ["rgb.tif", "nir.tif"], label = "south.gpkg" }]
    chip = 256

Paths are below `data.root`. The files of a scene must lie on one grid: CRS, transform and size;
``align = "reproject"`` brings them onto that of the first image instead. Several image rasters are
stacked, band after band. Pixels without data in the image (nodata, alpha, inner mask, NaN) or in
the label raster, and those outside the area, are ignored; 0 is an ordinary value unless declared.

Splits are drawn by blocks of ``block``×``block`` chips of the grid; see `_blocks`. Val and test are
cut on the grid, so that every pixel is scored once; training may draw its chips, see `_windows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base.config_parsing import Count, resolve_path
from terrazzo.base.errors import DataError
from terrazzo.data.band_names import contradict, is_name
from terrazzo.data.datasets import (
    CountedLabel,
    _chip_sampling,
    _split_draw,
    _tile_histogram,
)
from terrazzo.data.datasets._chip_sampling import Place
from terrazzo.data.datasets._geotiff_scene import OpenScene, Reading, Scene, open_scene
from terrazzo.data.datasets._spatial_blocks import Block, Blocks
from terrazzo.data.datasets._split_draw import Draw
from terrazzo.data.datasets._vector_labels import RawValue
from terrazzo.data.sample import RawSample
from terrazzo.data.scene_placement import PlacedScene, placed_scene
from terrazzo.io import rasters
from terrazzo.io.derived_bands import Derivation
from terrazzo.io.pixels import ImagePixels
from terrazzo.io.rasters import Part, RasterInfo

LABELS = None
_COLOURS = ("red", "green", "blue")


class Options(Reading):
    """Which scenes, how they are cut, and how they are divided."""

    scenes: Annotated[tuple[Scene, ...], Field(min_length=1)]
    chip: Count = 256
    """Rows and columns of a chip. The last ones are filled up with ignored pixels."""
    chips: Literal["grid", "random", "balanced"] = "grid"
    """Chips of training: side by side, drawn at random, or drawn so that each class is asked for
    equally often. Val and test are always side by side."""
    count: Count | None = None
    """Chips that are drawn: an epoch. With steps × batch_size of them none comes twice. None: as
    many as the grid has."""
    balance: tuple[RawValue, ...] = ()
    """Raw values that balanced chips ask for. Empty: all that occur."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the draw of chips."""
    block: Count = 2
    """Chips along the side of a block, which belongs to one split."""
    buffer: Annotated[int, Field(ge=0)] = 32
    """Pixels."""
    split: Draw = Draw(train=0.6, val=0.2, test=0.2)
    """Shares of the blocks."""
    split_file: str | None = None
    """``splits.json`` of a run: its draw takes the place of a new one."""


@dataclass(frozen=True)
class Chips:
    """A `Source` over chips of one split.

    Attributes:
        open_scenes: all of them.
        places: of the chips, in the order of their names.
        names: N names such as ``north/r0003_c0012``.
        drawn: names of the tiles that the draw gave this split.
        tiles: their places.
        options: as given.
        blocks: where other splits are.
    """

    open_scenes: tuple[OpenScene, ...]
    places: tuple[Place, ...]
    names: tuple[str, ...]
    drawn: tuple[str, ...]
    tiles: tuple[Place, ...]
    options: Options
    blocks: Blocks

    @property
    def band_names(self) -> tuple[str, ...]:
        """C names."""
        return self.open_scenes[0].band_names

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what was taken for granted of any scene, and what its files hold and is not used."""
        return tuple(dict.fromkeys(note for scene in self.open_scenes for note in scene.notes))

    @property
    def is_cut_from_scenes(self) -> bool:
        """Chips of scenes, whose files were compared on opening."""
        return True

    @property
    def scenes(self) -> tuple[PlacedScene, ...]:
        """Return the scenes, for maps of what is scored."""
        return tuple(
            placed_scene(scene.name, scene.grid, scene.shown) for scene in self.open_scenes
        )

    def grid(self, index: int) -> RasterInfo:
        """Return the grid of the scene of a chip."""
        return self.open_scenes[self.places[index][0]].grid

    def parts(self, index: int) -> tuple[Part, ...]:
        """Return the rasters that hold the bands of a chip."""
        return self.open_scenes[self.places[index][0]].images

    @property
    def derivation(self) -> Derivation | None:
        """What is computed of the bands of the files."""
        return self.open_scenes[0].rules.derivation

    def place(self, index: int) -> Place:
        """Return the scene, the first row and the first column of a chip."""
        return self.places[index]

    def files(self, index: int) -> tuple[Path, ...]:
        """Return the image rasters, the masks and the label file behind a chip."""
        scene = self.open_scenes[self.places[index][0]]
        images = [
            file
            for image in scene.images
            for file in rasters.band_files(image.path, image.bands or (), scene.grid)
        ]
        masks = [mask.path for mask in scene.masks]
        return (*dict.fromkeys(images), *dict.fromkeys(masks), scene.label)

    def other_files(self, index: int) -> tuple[Path, ...]:
        """Return the files that a chip depends on, besides `files`: metadata, sources of VRT."""
        return self.open_scenes[self.places[index][0]].other_files

    def read(self, index: int) -> RawSample:
        """Read one chip.

        Raises:
            DataError: see `OpenScene.read`.
        """
        number, size = self.places[index][0], self.options.chip
        scene = self.open_scenes[number]
        window = self._window(index)
        (image_HWC, _, present_HWC), label_HW, valid_HW = scene.read(window)
        far_HW = self.blocks.far(number, *window)
        if far_HW is not None:
            valid_HW &= far_HW
        if window[2:] != (size, size):
            fill = ((0, size - window[2]), (0, size - window[3]))
            image_HWC = np.pad(image_HWC, (*fill, (0, 0)))
            label_HW, valid_HW = np.pad(label_HW, fill), np.pad(valid_HW, fill)
            if present_HWC is None:
                present_HWC = np.ones((*window[2:], image_HWC.shape[2]), bool)
            present_HWC = np.pad(present_HWC, (*fill, (0, 0)))
        return RawSample(
            self.names[index],
            image_HWC,
            label_HW,
            valid_HW,
            str(scene.images[0].path),
            str(scene.label),
            present_HWC,
            corner=window[:2],
        )

    def read_image(
        self,
        index: int,
        *,
        coarse: bool = False,  # noqa: ARG002
    ) -> ImagePixels:
        """Read the image of one chip, and where it teaches: its label has a say in that."""
        raw = self.read(index)
        return ImagePixels(raw.image_HWC, raw.valid_HW, raw.present_HWC)

    def read_label(self, index: int) -> NDArray[Any]:
        """Read the label of one chip alone."""
        window, size = self._window(index), self.options.chip
        label_HW, _ = self.open_scenes[self.places[index][0]].read_label(window)
        return np.pad(label_HW, ((0, size - window[2]), (0, size - window[3])))

    def unlabelled(self, index: int) -> int:
        """Return how many pixels of one chip have no label: nodata, masked, outside the area."""
        number, window = self.places[index][0], self._window(index)
        labelled_HW = self.open_scenes[number].labelled(window)
        return _unlabelled(labelled_HW, self.blocks.far(number, *window))

    def read_counted_label(self, index: int) -> CountedLabel:
        """Read the label of one chip, and where it counts; see `OpenScene.read_counted_label`."""
        number, window, size = self.places[index][0], self._window(index), self.options.chip
        label_HW, counts_HW, labelled_HW = self.open_scenes[number].read_counted_label(window)
        far_HW = self.blocks.far(number, *window)
        unlabelled = _unlabelled(labelled_HW, far_HW)
        if far_HW is not None:
            counts_HW = counts_HW & far_HW
        fill = ((0, size - window[2]), (0, size - window[3]))
        return CountedLabel(np.pad(label_HW, fill), np.pad(counts_HW, fill), unlabelled)

    def on_grid(self) -> Chips:
        """Return the chips of the grid that belong to this split, wherever its own are cut."""
        return replace(self, places=self.tiles, names=self.drawn)

    def _window(self, index: int) -> tuple[int, int, int, int]:
        number, row, column = self.places[index]
        grid, size = self.open_scenes[number].grid, self.options.chip
        return row, column, min(size, grid.rows - row), min(size, grid.columns - column)


def open_split(root: Path, split: str, options: Options) -> Chips:
    """Look at all scenes below `root` and return the chips of one split.

    Raises:
        ConfigError: as `open_scene`.
        DataError: as `open_scene`; SEG-D014 the earlier draw was of other scenes or chips; SEG-D020
            scenes differ in their bands; SEG-D023 no tile holds a pixel to balance by.
    """
    names = _scene_names(options.scenes)
    scenes = tuple(
        open_scene(root, scene, name, options)
        for scene, name in zip(options.scenes, names, strict=True)
    )
    _refuse_unlike(scenes)
    tiles = {_name(scenes, tile, options): tile for tile in _tiles(scenes, options)}
    grids = tuple(scene.grid for scene in scenes)
    owner = _divide(scenes, tiles, options)
    blocks = Blocks(grids, options.chip * options.block, options.buffer, split, owner)
    own = sorted(name for name, tile in tiles.items() if owner[_block(tile, options)] == split)
    places = tuple(tiles[name] for name in own)
    chips = Chips(scenes, places, tuple(own), tuple(own), places, options, blocks)
    if split == "train" and options.chips != "grid" and places:
        return _drawn(chips)
    return chips


def _unlabelled(labelled_HW: NDArray[np.bool_], far_HW: NDArray[np.bool_] | None) -> int:
    """Count pixels without a label; what lies near another split is no fault of the labels."""
    unlabelled_HW = ~labelled_HW if far_HW is None else ~labelled_HW & far_HW
    return int(np.count_nonzero(unlabelled_HW))


def _drawn(tiles: Chips) -> Chips:
    """Return random chips about tiles."""
    options = tiles.options
    places = _chip_sampling.draw(
        tiles.places,
        _chip_sampling.weights(_histogram_of(tiles)) if options.chips == "balanced" else None,
        tiles.blocks,
        chip=options.chip,
        count=options.count or len(tiles.places),
        seed=options.seed,
    )
    named = {
        f"{tiles.open_scenes[scene].name}/y{row:06d}_x{column:06d}_{number:07d}": (
            scene,
            row,
            column,
        )
        for number, (scene, row, column) in enumerate(places)
    }
    names = tuple(sorted(named))
    return replace(tiles, places=tuple(named[name] for name in names), names=names)


def _histogram_of(tiles: Chips) -> NDArray[np.int64]:
    options = tiles.options

    def read(index: int) -> NDArray[Any]:
        raw = tiles.read(index)
        values: NDArray[Any] = raw.raw_label[raw.valid_HW]
        return values

    files = {file for index in range(len(tiles.names)) for file in tiles.files(index)}
    files |= {file.with_suffix(".dbf") for file in files if file.with_suffix(".dbf").exists()}
    found = _tile_histogram.count(
        read,
        len(tiles.names),
        files=files,
        settings=[
            options.model_dump(mode="json", exclude={"chips", "count", "balance", "seed"}),
            tiles.names,
        ],
    )
    counts_NV = found.of(options.balance)
    if not counts_NV.any():
        raise DataError(
            "SEG-D023",
            "no training tile holds a pixel to balance by",
            file=tiles.open_scenes[0].label,
            observed=f"raw values {', '.join(map(str, found.values_V)) or 'none'} in "
            f"{len(tiles.names)} tiles",
            allowed=f"some of {', '.join(map(str, options.balance))}"
            if options.balance
            else "labelled pixels with data",
            next_step="check nodata, area and labels, or balance by other values",
        )
    return counts_NV


def _refuse_unlike(scenes: Sequence[OpenScene]) -> None:
    # The first with names: all others are compared with it.
    first = next((s for s in scenes if all(map(is_name, s.band_names))), scenes[0])
    for scene in scenes:
        unlike = _names_differ(scene.band_names, first.band_names)
        unlike = unlike or _read_otherwise(scene, first)
        if unlike or scene.dtype != first.dtype:
            raise DataError(
                "SEG-D020",
                "the scenes differ in their bands",
                file=scene.images[0].path,
                observed=_bands_text(scene),
                allowed=f"{_bands_text(first)}, as in {first.images[0].path}",
                next_step="choose the bands by name with data.options.bands",
            )


def _read_otherwise(scene: OpenScene, first: OpenScene) -> bool:
    """Tell whether derived bands are computed of other bands, or of another type."""
    one, other = scene.rules.derivation, first.rules.derivation
    if one is None or other is None:
        return one is not other
    return one.source_dtype != other.source_dtype or _names_differ(
        one.source_names, other.source_names
    )


def _bands_text(scene: OpenScene) -> str:
    derivation = scene.rules.derivation
    if derivation is None:
        return f"{', '.join(scene.band_names)} of {scene.dtype}"
    names = ", ".join(derivation.source_names)
    return f"{names} of {derivation.source_dtype}, and {derivation.text}"


def _names_differ(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether bands have other names.

    That one file alone says which bands are its colours is none: GDAL writes that by itself.
    """
    one_plain, other_plain = (
        ["" if name in _COLOURS or not is_name(name) else name for name in names]
        for names in (one, other)
    )
    return contradict(one, other) or one_plain != other_plain


def _scene_names(scenes: Sequence[Scene]) -> list[str]:
    names = [Path(scene.image_files[0]).with_suffix("").as_posix() for scene in scenes]
    return [
        name if names.count(name) == 1 else f"{number:03d}_{name}"
        for number, name in enumerate(names)
    ]


def _tiles(scenes: Sequence[OpenScene], options: Options) -> list[Place]:
    size = options.chip
    return [
        (number, row, column)
        for number, scene in enumerate(scenes)
        for row in range(0, scene.grid.rows, size)
        for column in range(0, scene.grid.columns, size)
    ]


def _divide(
    scenes: Sequence[OpenScene], tiles: Mapping[str, Place], options: Options
) -> dict[Block, str]:
    """Return the split of every block; scenes on one grid, such as seasons, share theirs."""
    if options.split_file is not None:
        return _kept(tiles, options)
    places = [_place(number, scene) for number, scene in enumerate(scenes)]
    first_on = [places.index(place) for place in places]
    blocks = {_block(tile, options) for tile in tiles.values()}
    size = options.chip * options.block
    names = {
        _name(scenes, (scene, row * size, column * size), options): (scene, row, column)
        for scene, row, column in blocks
        if first_on[scene] == scene
    }
    drawn = _split_draw.draw(names, options.split)
    owner = {names[name]: split for split, several in drawn.items() for name in several}
    return {block: owner[first_on[block[0]], block[1], block[2]] for block in blocks}


def _place(number: int, scene: OpenScene) -> tuple[Any, ...]:
    grid = scene.grid
    return (grid.crs, grid.transform, grid.rows, grid.columns) if grid.has_place else (number,)


def _kept(tiles: Mapping[str, Place], options: Options) -> dict[Block, str]:
    assert options.split_file is not None
    kept = _split_draw.read(resolve_path(options.split_file, where="data.options.split_file"))
    owner = {
        _block(tiles[name], options): split
        for split, names in kept.items()
        for name in names
        if name in tiles
    }
    missing = {_block(tile, options) for tile in tiles.values()} - owner.keys()
    gone = sorted(name for names in kept.values() for name in names if name not in tiles)
    if missing or gone:
        raise DataError(
            "SEG-D014",
            "the chips are not those of the earlier draw",
            file=options.split_file,
            observed=f"{len(missing)} blocks without a split, {len(gone)} chips that are gone",
            next_step="use the scenes, chip and block of that run, or draw anew in a new run",
        )
    return owner


def _block(tile: Place, options: Options) -> Block:
    size = options.chip * options.block
    return tile[0], tile[1] // size, tile[2] // size


def _name(scenes: Sequence[OpenScene], tile: Place, options: Options) -> str:
    size = options.chip
    return f"{scenes[tile[0]].name}/r{tile[1] // size:04d}_c{tile[2] // size:04d}"
