"""Lists of scenes as TOML, in the words of a recipe, and as CSV, a scene a row.

    align = "reproject"
    scenes = [{ name = "north", images = ["B02.tif", { file = "dem.tif", resampling = "cubic" }] }]

    name,image_1,image_2        name,B02,B03
    north,a/B02.tif,a/B03.tif   north,a/B02.tif,a/B03.tif

Paths are relative to the list.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from terrazzo.base import config_parsing
from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import ConfigError
from terrazzo.data.mask_files import Masks, parse_mask
from terrazzo.data.scene_stack import ImageFile, Placing
from terrazzo.inference.scene_files import BandFile, SceneFiles
from terrazzo.inference.scene_lists.paths import located, map_name, name_of_file, text_of

_IMAGE = re.compile(r"images?([_ ]?\d+)?")
_MASK = re.compile(r"masks?([_ ]?\d+)?")
_NOT_USED = ("label", "area", "layer")


class Entry(Frozen):
    """One scene; what a recipe says of its labels may stay, and is not used."""

    images: Annotated[tuple[ImageFile, ...], Field(min_length=1)]
    name: str | None = None
    """What its map is called, without an ending. Not set: as its first file."""
    label: str | None = None
    area: str | None = None
    layer: str | None = None
    mask: Masks = ()
    """Files that say which pixels are without data."""


class SceneList(Placing):
    """A list of scenes."""

    scenes: Annotated[tuple[Entry, ...], Field(min_length=1)]
    band_names: tuple[str, ...] = ()
    """Names of all bands of a scene, file by file. Empty: as the files have them."""


def scenes_of_toml(path: Path, *, allow_remote: bool) -> list[SceneFiles]:
    """Read a list in the words of a recipe.

    Raises:
        ConfigError: as `paths.text_of`, `config_parsing.parse_toml` and `config_parsing.parse`;
            SEG-X101 a name or a path that cannot be.
        DataError: as `paths.located`.
    """
    values = config_parsing.parse_toml(text_of(path).encode(), where=path)
    listed = config_parsing.parse(SceneList, values, where=path)
    placing = Placing(align=listed.align, crs_tolerance=listed.crs_tolerance)
    found = []
    for entry in listed.scenes:
        files = tuple(
            BandFile(located(image.file, path, allow_remote=allow_remote), image.resampling)
            for image in entry.images
        )
        name = map_name(entry.name or name_of_file(entry.images[0].file), path)
        notes = () if entry.area is None else (f"{path}: the area of {name} is not used",)
        masks = tuple(
            (located(mask.file, path, allow_remote=allow_remote), mask) for mask in entry.mask
        )
        found.append(SceneFiles(name, files, path, listed.band_names, placing, notes, masks))
    return found


def scenes_of_csv(path: Path, *, allow_remote: bool) -> list[SceneFiles]:
    """Read a list with a scene a row.

    The column ``name`` may be left out. Files are in columns ``image_1``, ``image_2`` …, or in
    columns that are called as the one band of each file. Columns ``mask`` or ``mask_1`` … hold
    masks, each as `mask_files.parse_mask` reads it; an empty cell is none.

    Raises:
        ConfigError: as `paths.text_of`; SEG-X101 a header or a row that cannot be; SEG-X109 a mask
            that does not say what its numbers mean.
        DataError: as `paths.located`.
    """
    rows = _rows(path)
    columns = rows[0] if rows else []
    by_band = _are_bands(path, columns)
    found = []
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) != len(columns):
            raise _refused(path, f"line {number} has {len(row)} cells, the header {len(columns)}")
        cells = dict(zip(columns, row, strict=True))
        images = {column: cell for column, cell in cells.items() if cell and _is_of_file(column)}
        if not images:
            raise _refused(path, f"line {number} names no image")
        files = tuple(
            BandFile(
                located(cell, path, allow_remote=allow_remote),
                names=((column,),) if by_band else (),
            )
            for column, cell in images.items()
        )
        name = cells.get("name") or name_of_file(next(iter(images.values())))
        told = [cell for column, cell in cells.items() if cell and _MASK.fullmatch(column)]
        masks = tuple(
            (located(mask.file, path, allow_remote=allow_remote), mask)
            for mask in (parse_mask(cell, where=f"{path}, line {number}") for cell in told)
        )
        found.append(SceneFiles(map_name(name, path), files, path, masks=masks))
    if not found:
        raise _refused(path, "no scene")
    return found


def _rows(path: Path) -> list[list[str]]:
    """Return the cells; comma, semicolon or tab divides them, whichever the header has most."""
    text = text_of(path)
    separator = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise _refused(path, str(error)) from None
    return [[cell.strip() for cell in row] for row in rows]


def _is_of_file(column: str) -> bool:
    return column != "name" and column not in _NOT_USED and not _MASK.fullmatch(column)


def _are_bands(path: Path, columns: list[str]) -> bool:
    """Tell whether the columns of files are called as bands."""
    of_files = [column for column in columns if _is_of_file(column)]
    numbered = [_IMAGE.fullmatch(column) is not None for column in of_files]
    if not of_files or "" in columns or len(set(columns)) < len(columns):
        raise _refused(path, f"the header {', '.join(columns) or '(none)'}")
    if any(numbered) and not all(numbered):
        raise _refused(path, f"columns of both kinds: {', '.join(of_files)}")
    return not numbered[0]


def _refused(path: Path, observed: str) -> ConfigError:
    return ConfigError(
        "SEG-X101",
        "the table does not list scenes",
        file=path,
        observed=observed,
        allowed="a header with name,image_1,image_2,… or with name and the names of the bands, "
        "each once, and a line for each scene",
        next_step="correct the table",
    )
