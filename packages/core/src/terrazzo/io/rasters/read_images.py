"""Pixels of images, and which of them count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from terrazzo.base.errors import DataError
from terrazzo.io import sentinel2
from terrazzo.io.derived_bands import LARGEST, derive
from terrazzo.io.pixels import AS_STORED, ImagePixels, ReadingRules, any_band, marks_whole_pixels
from terrazzo.io.rasters import tiff_kinds
from terrazzo.io.rasters.grids import require_crs, same_crs
from terrazzo.io.rasters.handles import Handle, handle, no_memory_to_read
from terrazzo.io.rasters.header import IMAGE_DTYPES, RasterInfo
from terrazzo.io.rasters.mask_bands import MaskPart
from terrazzo.io.rasters.products import info, onto_grid, product_info, resolution_of
from terrazzo.io.remote_paths import RemotePath
from terrazzo.io.sentinel2 import Declared

BYTE_LIMIT = 1 << 31
"""Largest array `read` makes; a larger scene is read by window."""

ResamplingName = Literal["nearest", "bilinear", "cubic", "average", "mode"]
"""How pixels of one grid become those of another: ``nearest`` and ``mode`` for classes and masks,
``average`` where the other grid is coarser. GDAL's names."""

_STRIP = 256  # rows looked at together
_BLOCK_BY_BLOCK = {"GDAL_VRT_WARP_USE_DATASET_RASTERIO": "NO"}
"""GDAL warps a large window at once, and rounds otherwise than block by block: without this a pixel
of a raster with a nodata value may differ by 1 with the window that it is read in."""


class Part(NamedTuple):
    """A raster that holds some bands of an image.

    Attributes:
        path: a GeoTIFF file.
        bands: positions in `RasterInfo.band_names`, from 0. None: all of them.
        onto: a grid that the raster is brought onto. None: its own.
        resampling: how. None: bilinear, palette indices by nearest neighbour.
        declared: what a product says of the raster in its place; see `sentinel2.Declared`.
    """

    path: Path
    bands: tuple[int, ...] | None = None
    onto: RasterInfo | None = None
    resampling: ResamplingName | None = None
    declared: Declared | None = None


def read(path: Path, rules: ReadingRules = AS_STORED) -> ImagePixels:
    """Read a whole GeoTIFF; see `read_window`.

    Raises:
        DataError: as `read_window`; SEG-D031 it would take more than `BYTE_LIMIT` bytes.
    """
    size = info(path, alpha=rules.alpha)
    bands = tuple(n for n in range(size.bands) if n not in size.by_name_only)
    needed = size.rows * size.columns * size.bands * np.dtype(size.dtype).itemsize
    if needed > BYTE_LIMIT:
        raise DataError(
            "SEG-D031",
            "the raster is too large to be read at once",
            file=path,
            observed=f"{size.rows} rows × {size.columns} columns × {size.bands} bands of "
            f"{size.dtype}: {needed} bytes",
            allowed=f"{BYTE_LIMIT} bytes",
            next_step="cut it into tiles",
        )
    return read_window(
        path, 0, 0, size.rows, size.columns, bands if size.by_name_only else None, rules=rules
    )


def read_window(
    path: Path,
    row: int,
    column: int,
    rows: int,
    columns: int,
    bands: tuple[int, ...] | None = None,
    *,
    onto: RasterInfo | None = None,
    refuse_nan: bool = False,
    rules: ReadingRules = AS_STORED,
    masks: Sequence[MaskPart] = (),
) -> ImagePixels:
    """Read a part of a GeoTIFF that lies inside it; see `read_stack`."""
    return read_stack(
        [Part(path, bands, onto)],
        (row, column, rows, columns),
        refuse_nan=refuse_nan,
        rules=rules,
        masks=masks,
    )


def read_stack(
    parts: Sequence[Part],
    window: tuple[int, int, int, int],
    *,
    dtype: str | None = None,
    refuse_nan: bool = False,
    rules: ReadingRules = AS_STORED,
    masks: Sequence[MaskPart] = (),
) -> ImagePixels:
    """Read a part of an image whose bands lie in one GeoTIFF or in several.

    Safe to call from several threads. How the bands are spread over files changes nothing. A pixel
    is without data where `rules` say so, where an alpha band, a mask inside a file or one of
    `masks` says so, and outside a raster that lies on another grid. NaN is a value that is
    missing, whatever the file declares. Derived bands are computed of what was read.

    Args:
        parts: the rasters, in the order of the bands.
        window: first row, first column, rows and columns, on the grid of `onto` where that is set.
        dtype: of the result; None: that of the first raster.
        refuse_nan: take NaN for a fault, not for missing values.
        rules: see `ReadingRules`.
        masks: rasters that say which pixels count.

    Returns:
        An image of one of `IMAGE_DTYPES`, float32 where the rasters differ; missing values are 0 in
        float32 and the file's own marker in integers. Palette indices come as their colours, and
        where a file calls 0 white its samples come inverted.

    Raises:
        DataError: as `info`; SEG-D011 truncated or damaged; SEG-D019 complex numbers; SEG-D022 an
            infinite pixel or one beyond `LARGEST`, or NaN that is refused; SEG-D027 no CRS to
            reproject by; SEG-D029 part of the window was never written; SEG-D109 a scale of 0, or
            one that is no number, is to be applied.
        ResourceError: SEG-R006, out of memory.
    """
    try:
        return _read_stack(parts, window, dtype, refuse_nan, rules, masks)
    except MemoryError as error:
        raise no_memory_to_read(parts[0].path, error) from error


def _read_stack(
    parts: Sequence[Part],
    window: tuple[int, int, int, int],
    dtype: str | None,
    refuse_nan: bool,
    rules: ReadingRules,
    masks: Sequence[MaskPart],
) -> ImagePixels:
    images: list[NDArray[Any]] = []
    presents: list[NDArray[np.bool_] | None] = []  # None: no value is missing
    counts_HW = np.ones(window[2:], bool)
    for part in (one for several in parts for one in _files_of(several)):
        image_HWC, present_HWC, unmasked_HW = _read_part(part, window, refuse_nan, rules)
        images.append(image_HWC)
        counts_HW &= unmasked_HW
        presents.append(present_HWC)
        if present_HWC is None:
            continue
        opened = handle(part.path, rules.alpha, part.declared)
        if marks_whole_pixels(rules.nodata_rule, opened.nodata, opened.dataset.dtypes[0]):
            counts_HW &= ~any_band(~present_HWC)
    for mask in masks:
        counts_HW &= _mask_counts(mask, window)
    if rules.derivation is not None:
        image_HWC, present_HWC = derive(
            np.concatenate(images, axis=2), _all_present(images, presents), rules.derivation
        )
        images, presents = [image_HWC], [present_HWC]
        if marks_whole_pixels(rules.nodata_rule, None, "float32"):
            counts_HW &= ~any_band(~present_HWC[..., rules.derivation.kept :])
    image_HWC = images[0] if len(images) == 1 else np.concatenate(images, axis=2, dtype=dtype)
    if counts_HW.all() and all(each is None or each.all() for each in presents):
        return ImagePixels(image_HWC, counts_HW)
    present_HWC = _all_present(images, presents)
    valid_HW = counts_HW & any_band(present_HWC)
    present_HWC &= valid_HW[..., None]
    if image_HWC.dtype.kind == "f":
        image_HWC[~present_HWC] = 0
    return ImagePixels(image_HWC, valid_HW, present_HWC)


def _all_present(
    images: list[NDArray[Any]], presents: list[NDArray[np.bool_] | None]
) -> NDArray[np.bool_]:
    """Return where each value of all bands is there, H×W×C."""
    return np.concatenate(
        [
            np.broadcast_to(True, image_HWC.shape) if present_HWC is None else present_HWC
            for image_HWC, present_HWC in zip(images, presents, strict=True)
        ],
        axis=2,
    )


def _files_of(part: Part) -> list[Part]:
    """Return the files of a product that hold the bands of a part; a file is itself."""
    if part.declared is not None or isinstance(part.path, RemotePath):
        return [part]
    if not sentinel2.is_product(part.path):
        return [part]
    product = sentinel2.product(part.path)
    names = product.band_names
    grid = part.onto or product_info(part.path)
    chosen = product.spectral if part.bands is None else [names[band] for band in part.bands]
    files = [product.at(name, resolution_of(grid)) for name in chosen]
    return [
        Part(
            file.path,
            None,
            onto_grid(file, grid),
            "nearest" if file.is_classes else part.resampling,
            file.declared,
        )
        for file in files
    ]


def _read_part(
    part: Part, place: tuple[int, int, int, int], refuse_nan: bool, rules: ReadingRules
) -> tuple[NDArray[Any], NDArray[np.bool_] | None, NDArray[np.bool_]]:
    """Return pixels H×W×C, where each value is there, and where masks let pixels count, H×W.

    None where no value is missing.
    """
    opened = handle(part.path, rules.alpha, part.declared)
    stored = opened.dataset.dtypes[0]
    if stored.startswith("complex"):
        raise DataError(
            "SEG-D019",
            "this kind of pixel is not read",
            file=part.path,
            observed=stored,
            allowed="whole or real numbers",
            next_step="convert the raster, e.g. `gdal_translate -ot Float32`",
        )
    row, column, rows, columns = place
    numbers = opened.image_bands
    of_colours = opened.palette_PC is not None  # then bands are chosen from the colours
    whole = part.bands is None or of_colours
    indexes = numbers if whole else tuple(numbers[band] for band in part.bands or ())
    window = Window(column, row, columns, rows)
    if part.onto is None:
        image_HWC = read_bands(opened, window, indexes)
        unmasked_HW = read_mask(opened, window)
    else:
        name = part.resampling or ("nearest" if of_colours else "bilinear")
        image_HWC, unmasked_HW = read_warped(opened, window, indexes, part.onto, Resampling[name])
        by_band = not marks_whole_pixels(rules.nodata_rule, opened.nodata, stored)
        if by_band and not opened.warps_with_alpha:
            # The marker counts for its band; what lies beside the file is no pixel at all.
            unmasked_HW = _read_place(opened, window, part.onto)
    present_HWC = None if opened.nodata is None else image_HWC != opened.nodata
    if image_HWC.dtype.kind == "f" and not (np.abs(image_HWC) <= LARGEST).all():
        usual_HWC = np.abs(image_HWC) <= LARGEST
        faulty_HWC = ~usual_HWC if refuse_nan else ~usual_HWC & ~np.isnan(image_HWC)
        if present_HWC is None:
            present_HWC = np.ones(image_HWC.shape, bool)
        counts_HW = unmasked_HW & any_band(present_HWC)
        _refuse_faulty(opened, image_HWC, faulty_HWC & counts_HW[..., None], (row, column), indexes)
        present_HWC &= usual_HWC
    if opened.palette_PC is not None:
        chosen = slice(None) if part.bands is None else list(part.bands)
        image_HWC = np.ascontiguousarray(opened.palette_PC[image_HWC[..., 0]][..., chosen])
        if present_HWC is not None:
            present_HWC = np.repeat(present_HWC, image_HWC.shape[2], axis=2)
        return image_HWC, present_HWC, unmasked_HW
    if opened.white_is_zero:
        image_HWC = tiff_kinds.inverted(part.path, opened.dataset, image_HWC)
    if stored == "float64":  # a declared marker such as −1.8e308 would overflow
        limits = np.finfo(np.float32)
        image_HWC = image_HWC.clip(limits.min, limits.max)
    if rules.apply_scale:
        scale_C, offset_C = (
            np.array([opened.scaling[number - 1][which] for number in indexes]) for which in (0, 1)
        )
        _refuse_faulty_scale(part.path, indexes, scale_C, offset_C)
        with np.errstate(over="ignore"):  # of a marker; it is missing in any case
            image_HWC = (image_HWC * scale_C + offset_C).astype(np.float32)
    elif stored not in IMAGE_DTYPES:
        image_HWC = image_HWC.astype(np.float32)
    return image_HWC, present_HWC, unmasked_HW


def _mask_counts(mask: MaskPart, place: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """Return where a file that was named as a mask lets pixels count, H×W."""
    row, column, rows, columns = place
    opened, window = handle(mask.path, "none"), Window(column, row, columns, rows)
    tiff_kinds.refuse_lossy(mask.path, opened.dataset)
    if mask.onto is None:
        numbers_HW = read_bands(opened, window, (mask.band,))[..., 0]
        known_HW = read_mask(opened, window)
        if opened.nodata is not None:
            known_HW &= numbers_HW != opened.nodata
    else:
        numbers_HWC, known_HW = read_warped(
            opened, window, (mask.band,), mask.onto, Resampling.nearest
        )
        numbers_HW = numbers_HWC[..., 0]
    counts_HW: NDArray[np.bool_] = known_HW & mask.rule.counts(numbers_HW)
    return counts_HW


def _refuse_faulty_scale(
    path: Path, indexes: Sequence[int], scale_C: NDArray[np.float64], offset_C: NDArray[np.float64]
) -> None:
    """Refuse a scale or offset that leaves nothing of the values, where they are applied."""
    faulty_C = ~np.isfinite(scale_C) | ~np.isfinite(offset_C) | (scale_C == 0)
    if faulty_C.any():
        at = int(faulty_C.argmax())
        raise DataError(
            "SEG-D109",
            "the scale that the raster declares turns every value into the same one",
            file=path,
            observed=f"value × {scale_C[at]:g} + {offset_C[at]:g} in band {indexes[at]}",
            allowed="a finite scale other than 0 and a finite offset",
            next_step="correct it with `gdal_edit.py -scale SCALE -offset OFFSET`, or take the "
            "values as they are stored: data.options.apply_scale = false",
        )


def read_mask(opened: Handle, window: Window) -> NDArray[np.bool_]:
    """Return where an alpha band or an inner mask lets pixels count."""
    if opened.alpha_bands:
        return ~any_band(read_bands(opened, window, opened.alpha_bands) == 0)
    if opened.has_inner_mask:
        with opened.reading():
            inner_HW: NDArray[np.bool_] = opened.dataset.read_masks(1, window=window) > 0
        return inner_HW
    return np.ones((int(window.height), int(window.width)), dtype=bool)


def may_lack_pixels(path: Path, *, alpha: str | None = None) -> bool:
    """Tell by its header whether a raster may have pixels without data.

    Args:
        path: a GeoTIFF file.
        alpha: see `ReadingRules`.

    Raises:
        DataError: as `info`.
    """
    opened = handle(path, alpha)
    of_floats = np.dtype(opened.dataset.dtypes[0]).kind not in "iu"  # NaN is no data
    marked = opened.nodata is not None or bool(opened.alpha_bands) or opened.has_inner_mask
    return marked or of_floats


def read_mask_window(
    path: Path, row: int, column: int, rows: int, columns: int, *, onto: RasterInfo | None = None
) -> NDArray[np.bool_]:
    """Return H×W bool: where the alpha band or inner mask of a raster lets pixels count.

    Args as of `read_window`.

    Raises:
        DataError: as `read_window`.
    """
    opened, window = handle(path), Window(column, row, columns, rows)
    if onto is None:
        return read_mask(opened, window)
    return read_warped(opened, window, opened.image_bands[:1], onto, Resampling.nearest)[1]


def _refuse_faulty(
    opened: Handle,
    image_HWC: NDArray[Any],
    faulty_HWC: NDArray[np.bool_],
    corner: tuple[int, int],
    indexes: tuple[int, ...],
) -> None:
    nodata = opened.nodata
    if not faulty_HWC.any():
        return
    if nodata is not None:
        faulty_HWC &= ~np.isnan(image_HWC) if math.isnan(nodata) else image_HWC != nodata
    if faulty_HWC.any():
        y, x, band = (int(axis[0]) for axis in np.nonzero(faulty_HWC))
        raise DataError(
            "SEG-D022",
            _fault(float(image_HWC[y, x, band])),
            file=opened.path,
            observed=f"{int(faulty_HWC.sum())} px, first in band {indexes[band]} at row "
            f"{corner[0] + y}, column {corner[1] + x}: {image_HWC[y, x, band]:g}",
            allowed=f"numbers up to ±{LARGEST:g}, NaN or the nodata value for no data",
            next_step="declare the nodata value (`gdal_edit.py -a_nodata VALUE FILE`), or set "
            "these pixels to it",
        )


def _fault(value: float) -> str:
    if math.isnan(value):
        return "the raster has NaN that it does not declare"
    if math.isinf(value):
        return "the raster has infinite pixels"
    return "the raster has absurdly large values, as of a nodata value that it does not declare"


def undeclared_nan(path: Path) -> tuple[int, str] | None:
    """Look for NaN in a raster of floats whose nodata value is not NaN; reads strips of it.

    Returns:
        How many values are NaN, and where the first is, for a message; None: there is none, or the
        file says that NaN means no data.

    Raises:
        DataError: as `read_window`.
    """
    opened = handle(path)
    dataset = opened.dataset
    declared = opened.nodata is not None and math.isnan(opened.nodata)
    if declared or np.dtype(dataset.dtypes[0]).kind != "f":
        return None
    count, first = 0, ""
    for row in range(0, dataset.height, _STRIP):
        strip = Window(0, row, dataset.width, min(_STRIP, dataset.height - row))
        nan_HWC = np.isnan(read_bands(opened, strip, opened.image_bands))
        count += int(np.count_nonzero(nan_HWC))
        if count and not first:
            y, x, band = (int(axis[0]) for axis in np.nonzero(nan_HWC))
            first = f"band {opened.image_bands[band]}, row {row + y}, column {x}"
    return (count, first) if count else None


def read_bands(opened: Handle, window: Window, indexes: tuple[int, ...]) -> NDArray[Any]:
    """Return H×W×C of the bands `indexes`, from 1."""
    dataset = opened.dataset
    assert 0 <= window.row_off <= dataset.height - window.height
    assert 0 <= window.col_off <= dataset.width - window.width
    if opened.nodata is None:
        _refuse_unwritten(opened, window)
    # float16, of GDAL 3.11 on: as float32 its numbers can be told from any marker of no data.
    dtype = "float32" if dataset.dtypes[0] == "float16" else dataset.dtypes[0]
    values_HWC = np.empty((window.height, window.width, len(indexes)), dtype)
    with opened.reading():
        # GDAL puts the bands side by side, while other threads go on; NumPy would hold them up.
        dataset.read(list(indexes), window=window, out=values_HWC.transpose(2, 0, 1))
    return values_HWC


def read_warped(
    opened: Handle,
    window: Window,
    indexes: tuple[int, ...],
    onto: RasterInfo,
    resampling: Resampling,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return H×W×C on another grid, and where the raster has pixels there.

    Raises:
        DataError: SEG-D027 no CRS; SEG-D029 part of the raster was never written.
    """
    dataset = opened.dataset
    require_crs(opened.path, dataset.crs, onto.crs)
    if opened.nodata is None:
        _refuse_unwritten(opened, Window(0, 0, dataset.width, dataset.height))
    with_alpha = opened.warps_with_alpha
    with opened.reading(), rasterio.Env(**_BLOCK_BY_BLOCK):
        warped = opened.onto(onto, resampling)
        wanted = [*indexes, warped.count] if with_alpha else [*indexes]
        of_halves = dataset.dtypes[0] == "float16"
        values_CHW = warped.read(wanted, window=window, out_dtype="float32" if of_halves else None)
    if with_alpha:
        return np.ascontiguousarray(np.moveaxis(values_CHW[:-1], 0, 2)), values_CHW[-1] > 0
    values_HWC = np.ascontiguousarray(np.moveaxis(values_CHW, 0, 2))
    assert opened.nodata is not None
    told_HWC = ~np.isnan(values_HWC) if math.isnan(opened.nodata) else values_HWC != opened.nodata
    return values_HWC, any_band(told_HWC)


def _read_place(opened: Handle, window: Window, onto: RasterInfo) -> NDArray[np.bool_]:
    """Return where a raster lies on another grid, H×W, whatever its pixels hold."""
    if _covers(opened, window, onto):
        return np.ones((int(window.height), int(window.width)), bool)
    with opened.reading(), rasterio.Env(**_BLOCK_BY_BLOCK):
        placed = opened.place_on(onto)
        inside_HW: NDArray[np.bool_] = placed.read(placed.count, window=window) > 0
    return inside_HW


def _covers(opened: Handle, window: Window, onto: RasterInfo) -> bool:
    """Tell whether a window lies inside a raster of the same CRS, which four corners say."""
    dataset = opened.dataset
    if not same_crs(dataset.crs, onto.crs):
        return False
    columns = window.col_off + np.array([0.0, 0.0, 1.0, 1.0]) * window.width
    rows = window.row_off + np.array([0.0, 1.0, 0.0, 1.0]) * window.height
    x, y = onto.to_coordinates(columns, rows)
    t = ~dataset.transform
    x, y = x * t.a + y * t.b + t.c, x * t.d + y * t.e + t.f
    return bool(
        x.min() >= 0 and y.min() >= 0 and x.max() <= dataset.width and y.max() <= dataset.height
    )


def _refuse_unwritten(opened: Handle, window: Window) -> None:
    """Refuse blocks that are not in the file: GDAL reads them as 0, which may be a class."""
    if not opened.has_blocks_of_tiff:
        return
    height, width = opened.block
    last_row, last_column = window.row_off + window.height - 1, window.col_off + window.width - 1
    wanted = {
        (band, row, column)
        for band in opened.stored_bands
        for row in range(window.row_off // height, last_row // height + 1)
        for column in range(window.col_off // width, last_column // width + 1)
    }
    unwritten = sorted(
        (row * height, column * width)
        for band, row, column in wanted - opened.written
        if opened.dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band) is None
    )
    if unwritten and not _all_invalid(opened, unwritten):
        raise DataError(
            "SEG-D029",
            "part of the raster was never written, and it declares no nodata value",
            file=opened.path,
            observed=f"{len(unwritten)} blocks of {height}×{width} px, first at row "
            f"{unwritten[0][0]}, column {unwritten[0][1]}",
            next_step="write the file again, or give it a nodata value",
        )
    opened.written.update(wanted)


def _all_invalid(opened: Handle, corners: list[tuple[int, int]]) -> bool:
    """Tell whether an alpha band or an inner mask calls all of some blocks invalid."""
    if not (opened.alpha_bands or opened.has_inner_mask):
        return False
    dataset, (height, width) = opened.dataset, opened.block
    with opened.reading():
        for row, column in set(corners):
            rows, columns = min(height, dataset.height - row), min(width, dataset.width - column)
            block = Window(column, row, columns, rows)
            if opened.has_inner_mask:
                seen = dataset.read_masks(1, window=block)
            else:
                seen = dataset.read(list(opened.alpha_bands), window=block)
            if seen.any():
                return False
    return True
