"""Files that say which pixels of a scene count: quality bands, scene classifications, side files.

    mask = { file = "LC08_…_QA_PIXEL.TIF", bits = [0, 1, 3, 4] }
    mask = { file = "T33UUP_…_SCL_20m.tif", kind = "sentinel2_scl" }
    mask = [{ file = "scene.tif.msk" }, { file = "scene_udm2.tif", band = "cloud", values = [1] }]

The same words are used in recipes and wherever else a scene is described.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pydantic
from pydantic import Field

from terrazzo.base import config_parsing
from terrazzo.base.config_parsing import Count, Frozen
from terrazzo.base.errors import ConfigError, DataError, did_you_mean
from terrazzo.data.scene_stack import Placing, onto_grid
from terrazzo.io import rasters, sentinel2
from terrazzo.io.raster_formats import permit_scene
from terrazzo.io.rasters import MaskPart, MaskRule, RasterInfo
from terrazzo.io.remote_paths import RemotePath

Kind = Literal["landsat_qa_pixel", "sentinel2_scl", "planet_udm2", "gdal_mask"]
Numbers = Annotated[tuple[int, ...], Field(min_length=1)]
Bit = Annotated[int, Field(ge=0, lt=64)]


class Product(NamedTuple):
    """A mask that a known product comes with.

    Attributes:
        rule: what takes pixels away.
        band: its number, from 1.
        bands: of the file, at least.
        dtypes: NumPy dtype names that its numbers may have.
        source: where the numbers are explained.
    """

    rule: MaskRule
    band: int
    bands: int
    dtypes: tuple[str, ...]
    source: str


PRODUCTS: dict[str, Product] = {
    # 0 fill, 1 dilated cloud, 2 cirrus (Landsat 8 and 9), 3 cloud, 4 cloud shadow; 5 is snow,
    # 6 clear, 7 water, and from 8 on come pairs of bits of confidence.
    "landsat_qa_pixel": Product(
        MaskRule(bits=(0, 1, 2, 3, 4)),
        1,
        1,
        ("uint16",),
        "USGS LSDS-1619, Landsat 8-9 Collection 2 Level 2 Science Product Guide; LSDS-1618 for "
        "Landsat 4-7",
    ),
    # 0 no data, 1 saturated or defective, 3 cloud shadow, 8 and 9 cloud of medium and high
    # probability, 10 thin cirrus; 2 is topographic shadow, 11 snow or ice.
    "sentinel2_scl": Product(
        MaskRule(values=(0, 1, 3, 8, 9, 10)),
        1,
        1,
        ("uint8",),
        "ESA, Sentinel-2 Level-2A Algorithm Theoretical Basis Document, S2-PDGS-MPC-ATBD-L2A",
    ),
    # Band 1 is 1 where a pixel is clear: no snow, shadow, haze or cloud, and not outside.
    "planet_udm2": Product(
        MaskRule(keep=(1,)), 1, 8, ("uint8",), "Planet, Usable Data Mask 2 (UDM2), asset ortho_udm2"
    ),
    # What GDAL writes as FILE.msk: 0 where there is no data, 255 elsewhere.
    "gdal_mask": Product(
        MaskRule(values=(0,)), 1, 1, ("uint8", "uint16"), "GDAL RFC 15, band masks"
    ),
}
_SIDE_FILE = ".msk"


class MaskFile(Frozen):
    """A file that says which pixels of a scene count, and how its numbers are meant.

    One of ``kind``, ``bits``, ``values`` and ``keep`` is given; none for a ``.msk`` file of GDAL.
    """

    file: str
    kind: Kind | None = None
    """A known product; see `PRODUCTS`."""
    bits: Annotated[tuple[Bit, ...], Field(min_length=1)] | None = None
    """Bits, from 0; where any is set the pixel is without data."""
    values: Numbers | None = None
    """Numbers that mean a pixel without data."""
    keep: Numbers | None = None
    """The only numbers that mean a pixel with data."""
    band: Count | str | None = None
    """Name of the band, or its number from 1; None: the only one, or that of the product."""

    @pydantic.model_validator(mode="after")
    def _one_rule(self) -> MaskFile:
        ways = ("kind", "bits", "values", "keep")
        given = [way for way in ways if getattr(self, way) is not None]
        if len(given) > 1 or not (given or self.file.lower().endswith(_SIDE_FILE)):
            msg = (
                f"a mask has one of {', '.join(ways)}, which say what its numbers mean; this has "
                f"{' and '.join(given) or 'none, and is no .msk file'}"
            )
            raise ValueError(msg)
        if self.kind is not None and self.band is not None:
            msg = f"the kind {self.kind!r} knows its band; leave `band` out, or give values or keep"
            raise ValueError(msg)
        return self

    @property
    def product(self) -> Product | None:
        """The product it is said to be of; None: the rule is the user's own."""
        if self.rule_given is not None:
            return None
        return PRODUCTS[self.kind or "gdal_mask"]

    @property
    def rule_given(self) -> MaskRule | None:
        """The user's own rule."""
        own = (self.bits, self.values, self.keep)
        return None if own == (None, None, None) else MaskRule(*own)


def as_masks(value: Any) -> Any:
    """Take one table for a list of one, for a validator of a field of masks."""
    return (value,) if isinstance(value, dict | MaskFile) else value


Masks = Annotated[tuple[MaskFile, ...], pydantic.BeforeValidator(as_masks)]
"""The masks of a scene; one may stand without a list."""

LocatedMasks = tuple[tuple[Path, MaskFile], ...]
"""Masks of a scene, each with the place where it lies."""


def absolute_masks(masks: LocatedMasks) -> LocatedMasks:
    """Return them with paths that mean the same in any folder."""
    return tuple(
        (path if isinstance(path, RemotePath) else path.absolute(), mask) for path, mask in masks
    )


def permitting_masks(
    masks: LocatedMasks, formats: Collection[str], *, allow_vrt: bool
) -> LocatedMasks:
    """Return them with files that may also be of other formats; see `permit_scene`."""
    return tuple(
        (
            path
            if isinstance(path, RemotePath)
            else permit_scene(path, formats, allow_vrt=allow_vrt),
            mask,
        )
        for path, mask in masks
    )


_TYPED = re.compile(
    r"(?:(?P<kind>[a-z0-9_]+)|(?P<way>bits|values|keep):(?P<numbers>\d+(?:,\d+)*)"
    r"(?:@(?P<band>[^=]+))?)=(?P<file>.+)",
    re.DOTALL,
)


def parse_mask(text: str, where: str = "--mask") -> MaskFile:
    """Read a mask as it is given on the command line, ``RULE=FILE``.

    Args:
        text: ``sentinel2_scl=FILE``, ``bits:0,1,3,4=FILE``, ``values:1@cloud=FILE`` with the name
            or number of the band, ``keep:1=FILE``; or the path of a ``.msk`` file.
        where: it is given, for messages.

    Raises:
        ConfigError: SEG-X109, it is none of these.
    """
    found = _TYPED.fullmatch(text)
    values: dict[str, Any] | None = None
    if found is not None and found["kind"] in PRODUCTS:
        values = {"file": found["file"], "kind": found["kind"]}
    elif found is not None and found["way"] is not None:
        numbers = tuple(map(int, found["numbers"].split(",")))
        values = {"file": found["file"], found["way"]: numbers}
        if (band := found["band"]) is not None:
            values["band"] = int(band) if band.isdecimal() else band
    elif text.lower().endswith(_SIDE_FILE):
        values = {"file": text}
    if values is not None:
        return config_parsing.parse(MaskFile, values, where=where)
    hint = "" if found is None else did_you_mean(found["kind"], PRODUCTS)
    raise ConfigError(
        "SEG-X109",
        f"{where} does not say what the numbers of the file mean",
        observed=text,
        allowed=", ".join(f"{kind}=FILE" for kind in PRODUCTS)
        + ", bits:1,3,4=FILE, values:1,2=FILE, keep:1@BAND=FILE, or a .msk file",
        next_step=f"{hint}write the rule before the file",
    )


def open_mask(
    path: Path,
    mask: MaskFile,
    image: Path,
    grid: RasterInfo,
    placing: Placing,
) -> MaskPart:
    """Look at a mask, and refuse one that its rule does not fit.

    Args:
        path: where it lies.
        mask: how it is meant.
        image: the raster that gives the grid.
        grid: its header.
        placing: whether it may lie on another grid; it is brought over by nearest neighbour.

    Raises:
        ConfigError: SEG-X105, the band is not there, or several are and none is named.
        DataError: as `rasters.info`; SEG-D009, SEG-D025 or SEG-D026 it lies on another grid;
            SEG-D095 its numbers are none that the rule can be asked of; SEG-D096 it declares a
            number as nodata that the rule leaves.
    """
    if not isinstance(path, RemotePath) and sentinel2.is_product(path):
        raise DataError(
            "SEG-D095",
            "a mask is one file, not the folder of a Sentinel-2 product",
            file=path,
            observed="a folder",
            allowed="its scene classification, GRANULE/…/IMG_DATA/R20m/…_SCL_20m.jp2",
            next_step="name that file",
        )
    info = rasters.info(path, alpha="none")
    rule, band = _rule_and_band(path, mask, info)
    _refuse_unfit_numbers(path, rule, info)
    _refuse_contradiction(path, rule, info)
    if _is_side_file_of(info, grid) and rule == PRODUCTS["gdal_mask"].rule:
        return MaskPart(path, band, rule)
    return MaskPart(path, band, rule, onto_grid(image, grid, path, info, placing))


def _is_side_file_of(info: RasterInfo, grid: RasterInfo) -> bool:
    # GDAL gives a .msk file no place of its own: it lies where its image does.
    has_no_place = info.crs is None and not info.has_place
    return has_no_place and (info.rows, info.columns) == (grid.rows, grid.columns)


def _rule_and_band(path: Path, mask: MaskFile, info: RasterInfo) -> tuple[MaskRule, int]:
    product = mask.product
    if product is None:
        assert mask.rule_given is not None
        return mask.rule_given, _band(path, mask.band)
    bands = len(rasters.mask_band_names(path))
    if info.stored_dtype not in product.dtypes or bands < product.bands:
        raise DataError(
            "SEG-D095",
            f"the mask is none of the kind {mask.kind or 'gdal_mask'!r}",
            file=path,
            observed=f"{bands} band(s) of {info.stored_dtype}",
            allowed=f"{product.bands} band(s) of {' or '.join(product.dtypes)}; see "
            f"{product.source}",
            next_step="say what its numbers mean by bits, values or keep",
        )
    band = product.band if mask.band is None else _band(path, mask.band)
    return product.rule, band


def _band(path: Path, wanted: int | str | None) -> int:
    names = rasters.mask_band_names(path)
    if wanted is None and len(names) == 1:
        return 1
    if isinstance(wanted, int) and wanted <= len(names):
        return wanted
    if isinstance(wanted, str) and names.count(wanted) == 1:
        return names.index(wanted) + 1
    raise ConfigError(
        "SEG-X105",
        "the mask has several bands, and none is named"
        if wanted is None
        else f"the mask has not one band {wanted!r}",
        file=path,
        observed=f"{len(names)} bands" if wanted is None else str(wanted),
        allowed=", ".join(names) + f", or a number in 1…{len(names)}",
        next_step='name the band, as in mask = { file = "…", band = 1, values = [1] }',
    )


def _refuse_unfit_numbers(path: Path, rule: MaskRule, info: RasterInfo) -> None:
    dtype = np.dtype(info.stored_dtype)
    if dtype.kind == "c":
        observed, allowed = str(dtype), "whole or real numbers"
    elif rule.bits is not None and dtype.kind not in "ui":
        observed, allowed = f"bits of numbers of {dtype}", "bits of whole numbers"
    elif rule.bits is not None and max(rule.bits) >= 8 * dtype.itemsize:
        observed = f"bit {max(rule.bits)} of numbers of {dtype}"
        allowed = f"bits 0 to {8 * dtype.itemsize - 1}"
    else:
        return
    raise DataError(
        "SEG-D095",
        "the numbers of the mask are none that its rule can be asked of",
        file=path,
        observed=observed,
        allowed=allowed,
        next_step="name the file as it was delivered, or say by values or keep what it means",
    )


def _refuse_contradiction(path: Path, rule: MaskRule, info: RasterInfo) -> None:
    """Refuse a nodata value that the rule means to leave: it would take these pixels away.

    Zero is such a value in a mask of flags: no flag is set. Any other is a pixel that the mask
    knows nothing of.
    """
    nodata = info.nodata
    if nodata is None or not float(nodata).is_integer():
        return
    leaves = bool(rule.counts(np.array([int(nodata)]))[0])
    named = rule.keep is not None or rule.values == (0,)
    if leaves and (named or nodata == 0):
        raise DataError(
            "SEG-D096",
            "the mask declares as nodata what its rule leaves",
            file=path,
            observed=f"nodata {nodata:g}",
            allowed="a nodata value that takes pixels away by the rule too, or none",
            next_step="take the declaration away (`gdal_edit.py -unsetnodata FILE`) if these "
            "pixels count, or let the rule take them",
        )
