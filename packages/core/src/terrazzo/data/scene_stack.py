"""An image whose bands lie in several rasters: which bands there are, and how they join.

Training and prediction both ask here, so that the same files become the same pixels. The first
file gives the grid; the others must lie on it or are brought onto it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pydantic
from pydantic import Field

from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import ConfigError, DataError
from terrazzo.io import rasters
from terrazzo.io.pixels import Scaling
from terrazzo.io.rasters import Part, RasterInfo, ResamplingName

Align = Literal["exact", "reproject"]
"""Whether files on another grid are refused or brought onto that of the first one."""

_OF_GRIDS = ("SEG-D009", "SEG-D025", "SEG-D026")


class ImageFile(Frozen):
    """A raster of a scene as recipes and lists of scenes name it: ``"dem.tif"``, or a table."""

    file: str
    resampling: ResamplingName | None = None
    """How it is brought onto the grid of the first file. Not set: bilinear, and palette indices by
    nearest neighbour."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        if isinstance(value, str):
            return {"file": value}
        if not isinstance(value, dict | ImageFile):
            msg = 'a file name, or a table such as { file = "dem.tif", resampling = "bilinear" }'
            raise ValueError(msg)  # noqa: TRY004 - pydantic explains these alone
        return value


class Raster(NamedTuple):
    """A file that may give bands.

    Attributes:
        path: of the raster.
        info: what its header says. Of a Sentinel-2 folder that comes first, the grid that all bands
            are brought onto; see `rasters.grid_for`.
        resampling: see `ImageFile`.
    """

    path: Path
    info: RasterInfo
    resampling: ResamplingName | None = None


class Band(NamedTuple):
    """A band of a scene.

    Attributes:
        name: unique in the scene where people are to choose it.
        file: number of its raster.
        position: in the raster.
    """

    name: str
    file: int
    position: int


class Placing(Frozen):
    """How files come onto one grid."""

    align: Align = "exact"
    crs_tolerance: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Pixels by which points may move from one CRS to the other where these differ."""


ON_ONE_GRID = Placing()


@dataclass(frozen=True)
class Stack:
    """Bands of several rasters as one image.

    Attributes:
        parts: what `rasters.read_stack` reads, in the order of the bands.
        band_names: C names.
        dtype: of the pixels read; float32 where the rasters differ.
        scaling: scale and offset that the files declare for each band.
    """

    parts: tuple[Part, ...]
    band_names: tuple[str, ...]
    dtype: str
    scaling: Scaling


def all_bands(rasters_F: Sequence[Raster], names: Sequence[str] = ()) -> list[Band]:
    """Return every band of a scene; nameless ones are numbered file by file.

    Args:
        rasters_F: its files.
        names: of all bands, file by file, in place of those in the files.

    Raises:
        ConfigError: SEG-X011, another number of names than of bands.
    """
    places = [(at, band) for at, each in enumerate(rasters_F) for band in range(each.info.bands)]
    if not names:
        told = [rasters_F[at].info.band_names[band] for at, band in places]
        names = tuple(
            f"band {number}" if name == f"band {band + 1}" else name
            for number, (name, (_, band)) in enumerate(zip(told, places, strict=True), 1)
        )
    if len(names) != len(places):
        raise ConfigError(
            "SEG-X011",
            "band_names does not name every band",
            file=rasters_F[0].path,
            observed=f"{len(names)} names for {len(places)} bands",
            allowed="a name for each band of each image raster of a scene, file by file",
            next_step="name them all, and choose among them with bands",
        )
    return [Band(name, *place) for name, place in zip(names, places, strict=True)]


def bands_unless_named(rasters_F: Sequence[Raster], known: Sequence[Band]) -> list[Band]:
    """Return the bands that are read where none is asked for: all but those read by name only."""
    return [band for band in known if band.position not in rasters_F[band.file].info.by_name_only]


def join(
    rasters_F: Sequence[Raster], chosen: Sequence[Band], placing: Placing, *, apply_scale: bool
) -> Stack:
    """Join bands of rasters to one image on the grid of the first raster.

    Args:
        rasters_F: the files; all of them must fit, also those without a chosen band.
        chosen: the bands, in the order of the image.
        placing: whether files may lie on other grids.
        apply_scale: see `ReadingRules`.

    Raises:
        ConfigError: SEG-X103, palette indices cannot be mixed.
        DataError: as `rasters.require_same_grid`, where files must lie on one grid.
    """
    first = rasters_F[0]
    own = rasters.grid_to_reach(first.path, rasters.info(first.path), first.info)
    ontos = [own, *(_onto(first, each, placing) for each in rasters_F[1:])]
    parts = tuple(
        Part(rasters_F[file].path, positions, ontos[file], rasters_F[file].resampling)
        for file, positions in _file_by_file(chosen)
    )
    dtypes = {"float32" if apply_scale else rasters_F[band.file].info.dtype for band in chosen}
    return Stack(
        parts,
        tuple(band.name for band in chosen),
        dtypes.pop() if len(dtypes) == 1 else "float32",
        tuple(rasters_F[band.file].info.scaling[band.position] for band in chosen),
    )


def _file_by_file(chosen: Sequence[Band]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield each file, as often as another comes between its bands, with their positions."""
    for file, group in groupby(chosen, key=lambda band: band.file):
        yield file, tuple(band.position for band in group)


def onto_grid(
    image: Path, grid: RasterInfo, path: Path, found: RasterInfo, placing: Placing
) -> RasterInfo | None:
    """Return the grid a raster must be brought onto, or None where it lies on it.

    Args:
        image: the file that gives the grid.
        grid: its header.
        path: the raster.
        found: its header.
        placing: whether it may lie on another grid.

    Raises:
        DataError: as `rasters.require_same_grid`.
    """
    nearest = rasters.info_near(path, found, grid)
    try:
        rasters.require_same_grid(image, grid, path, nearest, tolerance=placing.crs_tolerance)
    except DataError as error:
        if placing.align == "exact" or error.code not in _OF_GRIDS:
            raise
        return grid
    return rasters.grid_to_reach(path, found, grid)


def _onto(first: Raster, raster: Raster, placing: Placing) -> RasterInfo | None:
    onto = onto_grid(first.path, first.info, raster.path, raster.info, placing)
    if onto is not None and raster.resampling not in (None, "nearest", "mode"):
        _refuse_mixed_palette(raster)
    return onto


def _refuse_mixed_palette(raster: Raster) -> None:
    if rasters.has_palette(raster.path):
        raise ConfigError(
            "SEG-X103",
            "palette indices cannot be mixed",
            file=raster.path,
            observed=f"resampling = {raster.resampling!r}, and the numbers of the file stand for "
            "the colours of its palette",
            allowed="nearest, mode",
            next_step="leave resampling out, or expand the palette first, e.g. `gdal_translate "
            "-expand rgb`",
        )
