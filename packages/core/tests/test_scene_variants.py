"""One scene as the world would store it: each variant works, its numbers checked, or has a code.

`VARIANTS` is the table of docs/scene_variants.md, which is written by
``python packages/core/tests/test_scene_variants.py``. Files are written by GDAL itself, not by the
product. What must come out is known before anything is read: pixels, valid pixels, labels of
chips, and the map, which NumPy works out from the same weights.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import struct
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.warp import transform_geom

from terrazzo.base.errors import TerrazzoError
from terrazzo.base.progress import Silent
from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.datasets import Split, geotiff
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.normalization import bands_of
from terrazzo.data.sample import Bands
from terrazzo.inference.outputs import Settings
from terrazzo.inference.predict import predict
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.io import rasters
from terrazzo.io.pixels import ReadingRules
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.runs import saved_model

TABLE = Path(__file__).parents[3] / "docs" / "scene_variants.md"
GDAL = tuple(int(number) for number in rasterio.__gdal_version__.split(".")[:2])

SHAPE = (64, 80)
PLACE: dict[str, Any] = {"crs": "EPSG:32633", "transform": Affine(2, 0, 392_000, 0, -2, 5_820_000)}
IMAGE_HWC = np.random.default_rng(5).integers(1, 121, (*SHAPE, 3)).astype(np.uint8)
"""Within 1 … 120, which every type of number holds."""
ROWS_HW, COLUMNS_HW = np.indices(SHAPE)
LABEL_HW = ((ROWS_HW // 8 + COLUMNS_HW // 8) % 3).astype(np.uint8)
HOLE_HW = (ROWS_HW > 20) & (ROWS_HW < 41) & (COLUMNS_HW > 25) & (COLUMNS_HW < 47)
"""Pixels without data, across tiles, blocks and chips."""
EVERYWHERE_HW = np.ones(SHAPE, bool)

SOUTH_UP = Affine(2, 0, 392_000, 0, 2, 5_820_000)
TURNED = Affine.translation(392_000, 5_820_000) @ Affine.rotation(30) @ Affine.scale(2, -2)

CLASSES = LabelMap(
    "variants",
    tuple(LabelClass(name, f"#{k * 60:02X}6040", (k,)) for k, name in enumerate("abcd")),
)
MEAN, STD = 60.0, 25.0
WORKS = "works"


class Scene(NamedTuple):
    """What a variant has written into a folder, and what must come of it.

    Attributes:
        pixels_HWC: the numbers that must be read.
        valid_HW: where there are data.
        label_HW: raw labels.
        labelled_HW: where there are labels.
        options: of the data set and, where they bear its name, of prediction.
        image: name of the scene.
        label: name of the labels.
    """

    pixels_HWC: Any = IMAGE_HWC
    valid_HW: Any = EVERYWHERE_HW
    label_HW: Any = LABEL_HW
    labelled_HW: Any = EVERYWHERE_HW
    options: Mapping[str, Any] = MappingProxyType({})
    image: str = "image.tif"
    label: str = "label.tif"


class Variant(NamedTuple):
    """A row of the table.

    Attributes:
        name: unique.
        how: how the files are built.
        build: writes them.
        training: ``works``, or the code that refuses them; empty: not tried.
        prediction: the same.
        says: what a note of both must contain.
        needs: the earliest GDAL that can write them.
    """

    name: str
    how: str
    build: Callable[[Path], Scene]
    training: str = WORKS
    prediction: str = WORKS
    says: str = ""
    needs: tuple[int, int] = (3, 0)


# Writing


def write(
    path: Path, values_HWC: Any, *, names: Any = (), colours: Any = (), **profile: Any
) -> Path:
    """Write a GeoTIFF by GDAL."""
    rows, columns, bands = values_HWC.shape
    size = {"height": rows, "width": columns, "count": bands, "dtype": values_HWC.dtype.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **{**size, **PLACE, **profile}) as dataset:
            if colours:
                dataset.colorinterp = colours
            if names:
                dataset.descriptions = names
            dataset.write(np.moveaxis(values_HWC, 2, 0))
    return path


_PLACING = ("crs", "transform", "gcps", "rpcs")


def scene(folder: Path, values_HWC: Any = IMAGE_HWC, **profile: Any) -> Scene:
    """Write an image and its labels on the same grid."""
    write(folder / "image.tif", values_HWC, **profile)
    place = {key: profile[key] for key in _PLACING if key in profile}
    write(folder / "label.tif", LABEL_HW[..., None], **place)
    return Scene(values_HWC)


def stored(values_HWC: Any = IMAGE_HWC, **profile: Any) -> Callable[[Path], Scene]:
    """Return what writes an image in one way, with plain labels."""
    return lambda folder: scene(folder, values_HWC, **profile)


def of_type(dtype: str, **profile: Any) -> Callable[[Path], Scene]:
    return stored(IMAGE_HWC.astype(dtype), **profile)


def labels(values_HW: Any = LABEL_HW, **profile: Any) -> Callable[[Path], Scene]:
    """Return what writes labels in one way, with a plain image."""

    def build(folder: Path) -> Scene:
        scene(folder)
        write(folder / "label.tif", values_HW[..., None], **profile)
        return Scene(label_HW=values_HW)

    return build


def with_hole(value: float, dtype: str, **profile: Any) -> Callable[[Path], Scene]:
    """Return what writes an image with a hole that a number marks."""
    values_HWC = IMAGE_HWC.astype(dtype)
    values_HWC[HOLE_HW] = value
    profile.setdefault("nodata", value)
    return lambda folder: scene(folder, values_HWC, **profile)._replace(valid_HW=~HOLE_HW)


def put(path: Path, tag: int, told: str, stands: str) -> None:
    """Replace the text of a TIFF tag, in place, by one that is no longer."""
    data, end = path.read_bytes(), b"\0"
    old = stands.encode() + end
    before = struct.pack("<HHI", tag, 2, len(old))
    assert before + old in data
    path.write_bytes(data.replace(before + old, before + told.encode().ljust(len(old), end)))


# Layout


def cloud_optimised(folder: Path) -> Scene:
    tall_HWC = np.tile(IMAGE_HWC, (4, 4, 1))
    write(folder / "plain.tif", tall_HWC)
    rasterio.shutil.copy(
        folder / "plain.tif", folder / "image.tif", driver="COG", BLOCKSIZE="128", OVERVIEW_COUNT=1
    )
    write(folder / "label.tif", np.tile(LABEL_HW, (4, 4))[..., None])
    everywhere_HW = np.ones(tall_HWC.shape[:2], bool)
    with rasterio.open(folder / "image.tif") as dataset:
        assert dataset.overviews(1)
    return Scene(tall_HWC, everywhere_HW, np.tile(LABEL_HW, (4, 4)), everywhere_HW)


def cloud_optimised_jpeg(folder: Path) -> Scene:
    hole_HW = np.tile(HOLE_HW, (4, 4))
    write(folder / "plain.tif", np.tile(IMAGE_HWC, (4, 4, 1)))
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(folder / "plain.tif", "r+") as dataset,
    ):
        dataset.write_mask(~hole_HW)
    rasterio.shutil.copy(
        folder / "plain.tif", folder / "image.tif", driver="COG", BLOCKSIZE="128", COMPRESS="JPEG"
    )
    label_HW = np.tile(LABEL_HW, (4, 4))
    write(folder / "label.tif", label_HW[..., None])
    with rasterio.open(folder / "image.tif") as dataset:
        decoded_HWC = np.moveaxis(dataset.read(), 0, 2)
    return Scene(decoded_HWC, ~hole_HW, label_HW, np.ones(label_HW.shape, bool))


def of_size(rows: int, columns: int) -> Callable[[Path], Scene]:
    """Return what writes a corner of the scene alone."""
    corner = (slice(0, rows), slice(0, columns))

    def build(folder: Path) -> Scene:
        write(folder / "image.tif", IMAGE_HWC[corner])
        write(folder / "label.tif", LABEL_HW[corner][..., None])
        everywhere_HW = EVERYWHERE_HW[corner]
        return Scene(IMAGE_HWC[corner], everywhere_HW, LABEL_HW[corner], everywhere_HW)

    return build


def overviews_inside(folder: Path) -> Scene:
    found = scene(folder, tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(folder / "image.tif", "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    return found


def overviews_beside(folder: Path) -> Scene:
    found = scene(folder)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(folder / "image.tif", "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    assert (folder / "image.tif.ovr").exists()
    return found


def several_pages(folder: Path) -> Scene:
    found = scene(folder)
    write(folder / "image.tif", IMAGE_HWC, APPEND_SUBDATASET="YES")
    return found


def never_written(folder: Path) -> Scene:
    found = scene(folder)
    size = {"height": SHAPE[0], "width": SHAPE[1], "count": 3, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True}
    with rasterio.open(folder / "image.tif", "w", driver="GTiff", **size, **PLACE, **blocks) as d:
        d.write(np.moveaxis(IMAGE_HWC[:32], 2, 0), window=((0, 32), (0, 80)))
    return found


def placed(transform: Affine, crs: Any = "EPSG:32633", **more: Any) -> Callable[[Path], Scene]:
    return stored(crs=crs, transform=transform, **more)


def control_points(folder: Path) -> Scene:
    corners = [(row, column) for row in (0, SHAPE[0]) for column in (0, SHAPE[1])]
    points = [
        GroundControlPoint(row=row, col=column, x=392_000 + 2 * column, y=5_820_000 - 2 * row)
        for row, column in corners
    ]
    return scene(folder, gcps=points, transform=None)


def rational_polynomials(folder: Path) -> Scene:
    one = [1.0, *[0.0] * 19]
    model = RPC(
        height_off=0, height_scale=100, lat_off=52.5, lat_scale=0.1, long_off=13.4, long_scale=0.1,
        line_off=32, line_scale=32, samp_off=40, samp_scale=40,
        line_num_coeff=[0, 0, 1.0, *[0.0] * 17], line_den_coeff=one,
        samp_num_coeff=[0, 1.0, *[0.0] * 18], samp_den_coeff=one, err_bias=0, err_rand=0,
    )  # fmt: skip
    return scene(folder, rpcs=model, crs=None, transform=None)


def pixel_is_point(folder: Path) -> Scene:
    found = scene(folder)
    for name in ("image.tif", "label.tif"):
        with rasterio.open(folder / name, "r+") as dataset:
            dataset.update_tags(AREA_OR_POINT="Point")
    return found


LAYOUT = [
    Variant("strips", "strips of 7 rows", stored(blockysize=7)),
    Variant("one strip", "all rows in one strip", stored(blockysize=SHAPE[0])),
    Variant("tiles", "tiles of 16×16", stored(tiled=True, blockxsize=16, blockysize=16)),
    Variant(
        "uneven tiles",
        "tiles of 48 rows and 32 columns, which divide neither side",
        stored(tiled=True, blockxsize=32, blockysize=48, compress="deflate"),
    ),
    Variant("tiles larger than the file", "256×256", stored(tiled=True)),
    Variant("by band", "INTERLEAVE=BAND", stored(interleave="band")),
    Variant(
        "by band, tiled",
        "INTERLEAVE=BAND, tiles of 32×32",
        stored(interleave="band", tiled=True, blockxsize=32, blockysize=32),
    ),
    Variant("by pixel", "INTERLEAVE=PIXEL", stored(interleave="pixel")),
    Variant("BigTIFF", "BIGTIFF=YES", stored(BIGTIFF="YES")),
    Variant("big endian", "ENDIANNESS=BIG", stored(ENDIANNESS="BIG")),
    Variant("COG", "driver COG, blocks of 128, an overview", cloud_optimised),
    Variant("COG in JPEG", "driver COG, YCbCr, a mask inside", cloud_optimised_jpeg),
    Variant("one pixel", "1×1", of_size(1, 1)),
    Variant("one row", "1×80", of_size(1, 80)),
    Variant("one column", "64×1", of_size(64, 1)),
    Variant("overviews inside", "gdaladdo by average", overviews_inside),
    Variant("overviews beside", "an .ovr file", overviews_beside),
    Variant("several pages", "APPEND_SUBDATASET=YES", several_pages, "SEG-D041", "SEG-D041"),
    Variant(
        "blocks never written",
        "SPARSE_OK=TRUE, half of the rows written",
        never_written,
        "SEG-D029",
        "SEG-D029",
    ),
    Variant(
        "first row in the south",
        "a positive height of pixels",
        placed(SOUTH_UP),
    ),
    Variant(
        "first column in the east",
        "a negative width of pixels",
        placed(Affine(-2, 0, 392_000, 0, -2, 5_820_000)),
    ),
    Variant(
        "turned",
        "a transform turned by 30 degrees",
        placed(TURNED),
    ),
    Variant(
        "sheared, oblong pixels",
        "a transform with a shear, pixels of 2 × 3 m",
        placed(Affine(2, 0.3, 392_000, 0.1, -3, 5_820_000)),
    ),
    Variant(
        "pixels without height",
        "a transform that puts all rows onto one line",
        placed(Affine(2, 0, 392_000, 0, 0, 5_820_000)),
        "SEG-D108",
        "SEG-D108",
    ),
    Variant(
        "a transform that is no number",
        "NaN",
        placed(Affine(np.nan, 0, 392_000, 0, -2, 5_820_000)),
        "SEG-D108",
        "SEG-D108",
    ),
    Variant("GCPs", "four ground control points, no transform", control_points, says="4 GCPs"),
    Variant("RPC", "rational polynomials, no transform", rational_polynomials, says="RPC"),
    Variant("pixel is point", "AREA_OR_POINT=Point", pixel_is_point),
]

# Compression


def jpeg(**profile: Any) -> Callable[[Path], Scene]:
    """Return what writes an image with losses: what GDAL decodes is what must be read."""

    def build(folder: Path) -> Scene:
        found = scene(folder, compress="jpeg", **profile)
        with rasterio.open(folder / "image.tif") as dataset:
            decoded_HWC = np.moveaxis(dataset.read(), 0, 2)
        assert (decoded_HWC != IMAGE_HWC).any()
        return found._replace(pixels_HWC=decoded_HWC)

    return build


COMPRESSION = [
    Variant("none", "COMPRESS=NONE", stored(compress="none")),
    Variant("deflate", "COMPRESS=DEFLATE", stored(compress="deflate")),
    Variant(
        "deflate, predictor 2, 16 bits",
        "differences of neighbours",
        of_type("uint16", compress="deflate", predictor=2),
    ),
    Variant("LZW, predictor 2", "differences of neighbours", stored(compress="lzw", predictor=2)),
    Variant(
        "LZW, predictor 3",
        "differences of floating-point bytes",
        of_type("float32", compress="lzw", predictor=3),
    ),
    Variant("ZSTD", "COMPRESS=ZSTD", stored(compress="zstd")),
    Variant(
        "ZSTD, predictor 3, 64 bits",
        "differences of floating-point bytes",
        of_type("float64", compress="zstd", predictor=3),
    ),
    Variant("LERC", "MAX_Z_ERROR=0", stored(compress="lerc", MAX_Z_ERROR=0)),
    Variant(
        "LERC and deflate, floats",
        "MAX_Z_ERROR=0",
        of_type("float32", compress="lerc_deflate", MAX_Z_ERROR=0),
    ),
    Variant("LERC and ZSTD", "MAX_Z_ERROR=0", of_type("uint16", compress="lerc_zstd")),
    Variant("LZMA", "COMPRESS=LZMA", stored(compress="lzma")),
    Variant("PackBits", "COMPRESS=PACKBITS", stored(compress="packbits")),
    Variant("JPEG, YCbCr", "PHOTOMETRIC=YCBCR", jpeg(photometric="ycbcr", interleave="pixel")),
    Variant("JPEG, RGB", "PHOTOMETRIC=RGB", jpeg(photometric="rgb", interleave="pixel")),
    Variant("JPEG by band", "INTERLEAVE=BAND", jpeg(interleave="band")),
    Variant(
        "WebP without losses",
        "WEBP_LOSSLESS=YES",
        stored(compress="webp", WEBP_LOSSLESS="YES", interleave="pixel"),
    ),
    Variant("labels in JPEG", "8 bits", labels(compress="jpeg"), "SEG-D008", ""),
    Variant(
        "labels in LERC with a tolerance",
        "MAX_Z_ERROR=1",
        labels(compress="lerc", MAX_Z_ERROR=1),
        "SEG-D008",
        "",
    ),
    Variant("labels in LERC", "MAX_Z_ERROR=0", labels(compress="lerc"), prediction=""),
    Variant(
        "labels in ZSTD, tiled",
        "predictor 2, blocks of 16",
        labels(compress="zstd", predictor=2, tiled=True, blockxsize=16, blockysize=16),
        prediction="",
    ),
]

# Types of numbers


def bits(folder: Path, **profile: Any) -> Scene:
    return scene(folder, (IMAGE_HWC > 60).astype(np.uint8), nbits=1, **profile)


def fewer_bits(number: int, dtype: str) -> Callable[[Path], Scene]:
    return of_type(dtype, nbits=number)


TYPES = (
    [
        Variant(name, f"bands of {name}", of_type(name))
        for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    ]
    + [
        Variant("float32", "bands of float32", of_type("float32")),
        Variant("float64", "bands of float64", of_type("float64")),
        Variant("float16", "bands of float16", of_type("float16"), needs=(3, 11)),
        Variant("16 of 32 bits", "NBITS=16 in float32", fewer_bits(16, "float32")),
        Variant("1 bit", "NBITS=1", bits),
        Variant(
            "1 bit, fax",
            "NBITS=1, CCITTFAX4",
            lambda folder: bits(folder, compress="ccittfax4", interleave="band"),
        ),
        Variant("4 of 8 bits", "NBITS=4", stored(IMAGE_HWC % 16, nbits=4)),
        Variant("7 of 8 bits", "NBITS=7", fewer_bits(7, "uint8")),
        Variant("12 of 16 bits", "NBITS=12", fewer_bits(12, "uint16")),
        Variant("complex", "complex64", of_type("complex64"), "SEG-D019", "SEG-D019"),
        Variant("complex, 128 bits", "complex128", of_type("complex128"), "SEG-D019", "SEG-D019"),
    ]
    + [
        Variant(
            f"labels of {name}", f"one band of {name}", labels(LABEL_HW.astype(name)), prediction=""
        )
        for name in ("int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
    ]
    + [
        Variant("labels of 2 bits", "NBITS=2", labels(nbits=2), prediction=""),
        Variant(
            "labels of float32",
            "one band of float32",
            labels(LABEL_HW.astype("float32")),
            "SEG-D007",
            "",
        ),
    ]
)

# Place

SITE = CRS.from_wkt(
    'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],'
    'LENGTHUNIT["metre",1]]'
)
OWN = CRS.from_proj4("+proj=laea +lat_0=47 +lon_0=11 +ellps=bessel +units=m +no_defs")


def world_file(folder: Path) -> Scene:
    found = scene(folder, crs=None, transform=None)
    for name in ("image.tfw", "label.tfw"):
        (folder / name).write_text("2\n0\n0\n-2\n392001\n5819999\n")
    return found


def projection_file(folder: Path) -> Scene:
    found = scene(folder, crs=None, transform=None)
    (folder / "image.prj").write_text(CRS.from_epsg(32633).to_wkt())
    return found


def side_car(folder: Path) -> Scene:
    found = scene(folder, crs=None, transform=None)
    for name in ("image.tif.aux.xml", "label.tif.aux.xml"):
        (folder / name).write_text(
            "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>392000, 2, 0, 5820000, 0, -2"
            "</GeoTransform></PAMDataset>"
        )
    return found


def degrees(west: float, north: float, step: float = 1e-5) -> Affine:
    return Affine(step, 0, west, 0, -step, north)


PLACES = [
    Variant("EPSG:32633", "UTM", stored()),
    Variant("EPSG:4326", "degrees", placed(degrees(13.4, 52.5), "EPSG:4326")),
    Variant("EPSG:3857", "Web Mercator", placed(Affine(1, 0, 1e6, 0, -1, 8.4e6), "EPSG:3857")),
    Variant(
        "EPSG:3006",
        "SWEREF 99, whose first axis is north",
        placed(Affine(2, 0, 674_000, 0, -2, 6_580_000), "EPSG:3006"),
    ),
    Variant(
        "EPSG:2193",
        "New Zealand, whose first axis is north",
        placed(Affine(2, 0, 1_748_000, 0, -2, 5_428_000), "EPSG:2193"),
    ),
    Variant(
        "EPSG:2263",
        "US survey feet",
        placed(Affine(3, 0, 980_000, 0, -3, 200_000), "EPSG:2263"),
    ),
    Variant(
        "EPSG:25832+5783",
        "with heights",
        placed(Affine(2, 0, 500_000, 0, -2, 5_400_000), "EPSG:25832+5783"),
    ),
    Variant(
        "across 180°", "degrees 179.9996 to 180.0004", placed(degrees(179.9996, -17), "EPSG:4326")
    ),
    Variant(
        "degrees from 0 to 360",
        "degrees beyond 180",
        placed(degrees(200, 20), "EPSG:4326"),
    ),
    Variant(
        "EPSG:3031", "about the South Pole", placed(Affine(9, 0, -360, 0, -9, 288), "EPSG:3031")
    ),
    Variant(
        "EPSG:3413", "about the North Pole", placed(Affine(9, 0, -360, 0, -9, 288), "EPSG:3413")
    ),
    Variant("a CRS of its own", "Bessel ellipsoid, no code", placed(PLACE["transform"], OWN)),
    Variant("building site", "an engineering CRS", placed(Affine(0.1, 0, 50, 0, -0.1, 90), SITE)),
    Variant("no CRS", "a transform alone", stored(crs=None)),
    Variant("no transform", "a CRS alone", stored(transform=None)),
    Variant("no place", "neither", stored(crs=None, transform=None)),
    Variant("world file alone", "a .tfw beside it", world_file, says="image.tfw is not used"),
    Variant(".prj alone", "a .prj beside it", projection_file, says="image.prj is not used"),
    Variant(
        "side-car alone", "an .aux.xml beside it", side_car, says="image.tif.aux.xml is not used"
    ),
    Variant(
        "labels of another place",
        "moved by half a pixel",
        labels(transform=Affine(2, 0, 392_001, 0, -2, 5_820_000)),
        "SEG-D026",
        "",
    ),
    Variant(
        "labels of another CRS",
        "EPSG:32632 on the same numbers",
        labels(crs="EPSG:32632"),
        "SEG-D025",
        "",
    ),
]

# Pixels without data


def impossible_nodata(folder: Path) -> Scene:
    found = scene(folder, nodata=255)
    put(folder / "image.tif", 42113, "-9", "255")
    return found


def nodata_beside(folder: Path) -> Scene:
    found = scene(folder)
    (folder / "image.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand>'
        "</PAMDataset>"
    )
    return found


def one_band_hole(value: float, dtype: str) -> Callable[[Path], Scene]:
    values_HWC = IMAGE_HWC.astype(dtype)
    values_HWC[HOLE_HW, 1] = value
    return lambda folder: scene(folder, values_HWC, nodata=value)._replace(valid_HW=~HOLE_HW)


def masked(inside: bool) -> Callable[[Path], Scene]:
    def build(folder: Path) -> Scene:
        found = scene(folder)
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
            rasterio.open(folder / "image.tif", "r+") as dataset,
        ):
            dataset.write_mask(~HOLE_HW)
        assert (folder / "image.tif.msk").exists() != inside
        return found._replace(valid_HW=~HOLE_HW if inside else EVERYWHERE_HW)

    return build


def masked_and_nodata(folder: Path) -> Scene:
    found = with_hole(255, "uint8")(folder)
    other_HW = ROWS_HW < 9
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(folder / "image.tif", "r+") as dataset,
    ):
        dataset.write_mask(~other_HW)
    return found._replace(valid_HW=~HOLE_HW & ~other_HW)


def with_alpha(dtype: str = "uint8", *, names: Any = (), **profile: Any) -> Callable[[Path], Scene]:
    def build(folder: Path) -> Scene:
        opaque_HWC = np.where(HOLE_HW, 0, 255)[..., None]
        values_HWC = np.concatenate([IMAGE_HWC, opaque_HWC], 2).astype(dtype)
        kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        scene(folder, values_HWC, colours=kinds, names=names, photometric="rgb", **profile)
        return Scene(IMAGE_HWC.astype(dtype), ~HOLE_HW, options={"alpha": "band 4"})

    return build


def nothing_valid(folder: Path) -> Scene:
    empty_HWC = np.zeros((*SHAPE, 3), np.uint8)
    return scene(folder, empty_HWC, nodata=0)._replace(valid_HW=np.zeros(SHAPE, bool))


def label_nodata(value: int, dtype: str) -> Callable[[Path], Scene]:
    values_HW = np.where(HOLE_HW, np.array(value, dtype), LABEL_HW.astype(dtype))
    build = labels(values_HW, nodata=value)
    return lambda folder: build(folder)._replace(labelled_HW=~HOLE_HW)


def masked_labels(folder: Path) -> Scene:
    found = scene(folder)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(folder / "label.tif", "r+") as dataset,
    ):
        dataset.write_mask(~HOLE_HW)
    return found._replace(labelled_HW=~HOLE_HW)


def mask_beside_labels(folder: Path) -> Scene:
    found = scene(folder)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(folder / "label.tif", "r+") as dataset,
    ):
        dataset.write_mask(~HOLE_HW)
    assert (folder / "label.tif.msk").exists()
    return found


MASKS = [
    Variant("nodata 0", "uint8", with_hole(0, "uint8")),
    Variant("nodata 255", "uint8", with_hole(255, "uint8")),
    Variant("nodata 65535", "uint16", with_hole(65535, "uint16")),
    Variant("nodata −9999", "int16", with_hole(-9999, "int16")),
    Variant("nodata −9999, floats", "float32", with_hole(-9999, "float32")),
    Variant("nodata −3.4028235e38", "float32", with_hole(np.finfo("float32").min, "float32")),
    Variant("nodata −1.8e308", "float64", with_hole(np.finfo("float64").min, "float64")),
    Variant("nodata NaN", "float32", with_hole(np.nan, "float32")),
    Variant("NaN, not declared", "float32, no nodata", with_hole(np.nan, "float32", nodata=None)),
    Variant(
        "NaN beside nodata −9999",
        "float32, NaN in the hole",
        with_hole(np.nan, "float32", nodata=-9999),
    ),
    Variant("nodata infinite", "float32", with_hole(np.inf, "float32")),
    Variant(
        "infinite, not declared",
        "float32, no nodata",
        with_hole(np.inf, "float32", nodata=None),
        "SEG-D022",
        "SEG-D022",
    ),
    Variant("nodata −2⁵³", "int64", with_hole(-(2**53), "int64")),
    Variant(
        "nodata −2⁶³",
        "int64, which rasterio writes with an exponent",
        with_hole(-(2**63), "int64"),
        "SEG-D024",
        "SEG-D024",
    ),
    Variant("nodata 4095, 12 bits", "NBITS=12", with_hole(4095, "uint16", nbits=12)),
    Variant(
        "nodata 65535, 12 bits",
        "NBITS=12, which stores 4095",
        with_hole(65535, "uint16", nbits=12),
        "SEG-D024",
        "SEG-D024",
    ),
    Variant("nodata −1, 16 of 32 bits", "NBITS=16", with_hole(-1, "float32", nbits=16)),
    Variant("nodata NaN, 16 of 32 bits", "NBITS=16", with_hole(np.nan, "float32", nbits=16)),
    Variant(
        "nodata −9999, 16 of 32 bits",
        "NBITS=16, which stores −9992 or −10000",
        with_hole(-9999, "float32", nbits=16),
        "SEG-D024",
        "SEG-D024",
    ),
    Variant("nodata in one band", "−9999 in int16", one_band_hole(-9999, "int16")),
    Variant(
        "a nodata value no pixel can have",
        "−9 in uint8",
        impossible_nodata,
        "SEG-D024",
        "SEG-D024",
    ),
    Variant("mask inside", "GDAL_TIFF_INTERNAL_MASK=YES", masked(inside=True)),
    Variant("mask inside and nodata", "two regions", masked_and_nodata),
    Variant("mask beside", "an .msk file", masked(inside=False), says="image.tif.msk is not used"),
    Variant(
        "nodata beside",
        "a value in an .aux.xml",
        nodata_beside,
        says="image.tif.aux.xml is not used",
    ),
    Variant("alpha", "a fourth band, 0 or 255", with_alpha(), says="band 4 is read as alpha"),
    Variant("alpha, 16 bits", "uint16", with_alpha("uint16"), says="band 4 is read as alpha"),
    Variant(
        "alpha, premultiplied",
        "ALPHA=PREMULTIPLIED",
        with_alpha(alpha="premultiplied"),
        says="band 4 is read as alpha",
    ),
    Variant("all nodata", "0 everywhere", nothing_valid, "SEG-D023", says="holds no data"),
    Variant("labels with nodata 255", "uint8", label_nodata(255, "uint8"), prediction=""),
    Variant("labels with nodata −1", "int16", label_nodata(-1, "int16"), prediction=""),
    Variant("labels with a mask", "inside the file", masked_labels, prediction=""),
    Variant(
        "labels with a mask beside",
        "an .msk file",
        mask_beside_labels,
        prediction="",
        says="label.tif.msk is not used",
    ),
]

# Bands


def grey(folder: Path, *, alpha: bool) -> Scene:
    values_HWC = IMAGE_HWC[..., :1]
    if not alpha:
        return scene(folder, values_HWC, photometric="minisblack")
    both_HWC = np.concatenate([values_HWC, np.where(HOLE_HW, 0, 255)[..., None]], 2)
    scene(folder, both_HWC.astype(np.uint8), colours=(ColorInterp.gray, ColorInterp.alpha))
    return Scene(values_HWC, ~HOLE_HW, options={"alpha": "band 2"})


def white_is_zero(folder: Path) -> Scene:
    scene(folder, IMAGE_HWC[..., :1], photometric="miniswhite")
    return Scene(255 - IMAGE_HWC[..., :1])


def palette(folder: Path) -> Scene:
    indices_HW = (ROWS_HW + COLUMNS_HW) % 5
    colours_PC = np.array([[10, 20, 30], [90, 5, 60], [40, 80, 7], [110, 100, 1], [3, 70, 99]])
    scene(folder, indices_HW.astype(np.uint8)[..., None])
    with rasterio.open(folder / "image.tif", "r+") as dataset:
        dataset.write_colormap(1, {k: (*map(int, rgb), 255) for k, rgb in enumerate(colours_PC)})
    return Scene(colours_PC[indices_HW].astype(np.uint8))


def palette_labels(folder: Path) -> Scene:
    found = scene(folder)
    with rasterio.open(folder / "label.tif", "r+") as dataset:
        dataset.write_colormap(1, {k: (k * 60, 96, 64, 255) for k in range(3)})
    return found


def labels_with_alpha(folder: Path) -> Scene:
    found = scene(folder)
    both_HWC = np.stack([LABEL_HW, np.where(HOLE_HW, 0, 255).astype(np.uint8)], 2)
    write(folder / "label.tif", both_HWC, colours=(ColorInterp.gray, ColorInterp.alpha))
    return found._replace(labelled_HW=~HOLE_HW)


def scaled(
    apply: bool, scales: Any = (0.5,) * 3, offsets: Any = (-4.0,) * 3
) -> Callable[[Path], Scene]:
    def build(folder: Path) -> Scene:
        found = scene(folder, IMAGE_HWC.astype(np.uint16))
        with rasterio.open(folder / "image.tif", "r+") as dataset:
            dataset.scales, dataset.offsets = scales, offsets
            dataset.units = ("metre",) * 3
        if not apply:
            return found
        values_HWC = (IMAGE_HWC * np.array(scales) + np.array(offsets)).astype(np.float32)
        return found._replace(pixels_HWC=values_HWC, options={"apply_scale": True})

    return build


def other_colours(values_HWC: Any, photometric: str) -> Callable[[Path], Scene]:
    """Return what writes colours of another kind, which GDAL hands out as red, green and blue."""

    def build(folder: Path) -> Scene:
        scene(folder, values_HWC, photometric=photometric)
        with rasterio.open(folder / "image.tif") as dataset:
            return Scene(np.moveaxis(dataset.read((1, 2, 3)), 0, 2))

    return build


RGB = ("red", "green", "blue")
BLUE_FIRST = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
FIVE_HWC = np.concatenate([IMAGE_HWC, IMAGE_HWC[..., :2]], 2)

BANDS = [
    Variant("nameless", "MINISBLACK, no names", stored(photometric="minisblack")),
    Variant("colours", "PHOTOMETRIC=RGB", stored(photometric="rgb")),
    Variant(
        "colours in another order",
        "blue, green, red by colour interpretation",
        stored(photometric="minisblack", colours=BLUE_FIRST),
        prediction="SEG-D020",
    ),
    Variant("names", "red, green, blue by description", stored(names=RGB)),
    Variant(
        "names in another order",
        "blue, green, red by description",
        stored(names=RGB[::-1]),
        prediction="SEG-D020",
    ),
    Variant(
        "names in another order, chosen",
        "blue, green, red, with `bands = red, green, blue`",
        lambda folder: scene(folder, names=RGB[::-1])._replace(
            pixels_HWC=IMAGE_HWC[..., ::-1], options={"bands": RGB}
        ),
    ),
    Variant(
        "one name twice",
        "red, red, blue by description",
        stored(names=("red", "red", "blue")),
        prediction="SEG-D020",
    ),
    Variant(
        "one name twice, chosen",
        "red, red, green, blue, with `bands = red, green, blue`",
        lambda folder: scene(folder, FIVE_HWC[..., :4], names=("red", *RGB))._replace(
            options={"bands": RGB}
        ),
        "SEG-X011",
        "SEG-X031",
    ),
    Variant("more bands", "five of them", stored(FIVE_HWC), prediction="SEG-D020"),
    Variant(
        "more bands, chosen",
        "five of them, three by name",
        lambda folder: scene(folder, FIVE_HWC, names=(*RGB, "nir", "swir"))._replace(
            pixels_HWC=IMAGE_HWC, options={"bands": RGB}
        ),
    ),
    Variant(
        "a fourth band called nir",
        "which GDAL takes for alpha",
        with_alpha(names=(*RGB, "nir")),
        prediction="SEG-D020",
    ),
    Variant("grey", "one band", lambda folder: grey(folder, alpha=False)),
    Variant(
        "grey and alpha",
        "two bands",
        lambda folder: grey(folder, alpha=True),
        says="band 2 is read as alpha",
    ),
    Variant("0 is white", "PHOTOMETRIC=MINISWHITE", white_is_zero),
    Variant("palette", "one band of five colours", palette),
    Variant(
        "CMYK",
        "PHOTOMETRIC=CMYK, read as RGB",
        other_colours(np.concatenate([IMAGE_HWC, IMAGE_HWC[..., :1]], 2), "cmyk"),
        says="band 4 is read as alpha",
    ),
    Variant(
        "CIE L*a*b*",
        "PHOTOMETRIC=CIELAB, read as RGB",
        other_colours(IMAGE_HWC, "cielab"),
        says="band 4 is read as alpha",
    ),
    Variant(
        "labels with alpha",
        "grey and alpha",
        labels_with_alpha,
        prediction="",
    ),
    Variant("labels with a palette", "one band of three colours", palette_labels, prediction=""),
    Variant("scale, offset and unit", "taken as stored", scaled(apply=False)),
    Variant("scale and offset applied", "`apply_scale = true`", scaled(apply=True)),
    Variant(
        "scales of each band applied",
        "1, 2, 0.5, `apply_scale = true`",
        scaled(True, (1.0, 2.0, 0.5), (0.0, 1.0, 2.0)),
    ),
    Variant(
        "a scale of 0, applied",
        "`apply_scale = true`",
        scaled(True, (1.0, 0.0, 1.0)),
        "SEG-D109",
        "SEG-D109",
    ),
    Variant(
        "a scale that is no number, applied",
        "NaN, `apply_scale = true`",
        scaled(True, (np.nan,) * 3),
        "SEG-D109",
        "SEG-D109",
    ),
    Variant(
        "a scale that is no number",
        "NaN, taken as stored",
        scaled(False, (np.nan,) * 3),
    ),
    Variant(
        "labels of three bands",
        "colours for indices",
        lambda folder: _labels_of_colours(folder),
        "SEG-D007",
        "",
    ),
]


def _labels_of_colours(folder: Path) -> Scene:
    found = scene(folder)
    write(folder / "label.tif", IMAGE_HWC)
    return found


# Shapes

WORDS = {"field": 1, "lake": 2}
BOXES = {"field": (4, 6, 30, 38), "lake": (36, 44, 60, 76)}
"""First row, first column, end row, end column."""
DRAWN_HW = np.zeros(SHAPE, np.uint8)
for _kind, (_top, _left, _bottom, _right) in BOXES.items():
    DRAWN_HW[_top:_bottom, _left:_right] = WORDS[_kind]
BURN = {"burn_property": "kind", "burn_values": WORDS}


def ring(top: int, left: int, bottom: int, right: int, *more: float) -> list[list[float]]:
    corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return [[392_000.0 + 2 * x, 5_820_000.0 - 2 * y, *more] for x, y in corners]


def polygons(*more: float) -> list[dict[str, Any]]:
    return [{"type": "Polygon", "coordinates": [ring(*box, *more)]} for box in BOXES.values()]


def shapes(
    name: str,
    geometries: list[Any] | None = None,
    *,
    crs: str | None = "EPSG:32633",
    kinds: Any = tuple(BOXES),
    drawn: Any = DRAWN_HW,
    options: dict[str, Any] | None = None,
    **how: Any,
) -> Callable[[Path], Scene]:
    """Return what writes shapes for labels, and says what must be drawn."""

    def build(folder: Path) -> Scene:
        scene(folder)
        known = polygons() if geometries is None else geometries
        if crs is not None and crs.startswith("EPSG:") and crs != "EPSG:32633":
            known = transform_geom("EPSG:32633", crs, known)
        if name.endswith(".geojson"):
            _write_geojson(folder / name, known, kinds, crs)
        else:
            _write_with_pyogrio(folder / name, known, kinds, crs, **how)
        return Scene(label=name, label_HW=drawn, options=BURN if options is None else options)

    return build


def _write_geojson(path: Path, geometries: list[Any], kinds: Any, crs: str | None) -> None:
    features = [
        {"type": "Feature", "geometry": shape, "properties": {"kind": kind}}
        for shape, kind in zip(geometries, kinds, strict=True)
    ]
    document: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs is not None and crs != "EPSG:4326":  # RFC 7946
        document["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(document))


def _write_with_pyogrio(
    path: Path, geometries: list[Any], kinds: Any, crs: str | None, **how: Any
) -> None:
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    wkb = [
        each
        if each is None or isinstance(each, bytes)
        else shapely.to_wkb(shapely.from_geojson(json.dumps(each)), output_dimension=3)
        for each in geometries
    ]
    drivers = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf", ".kml": "KML"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.raw.write(
            path,
            np.array(wkb, object),
            [np.array(kinds, object)],
            ["kind"],
            driver=drivers[path.suffix],
            crs=crs,
            **{"geometry_type": "Polygon", **how},
        )


def degrees_of(name: str, *, reproject: bool) -> Callable[[Path], Scene]:
    options = {**BURN, "align": "reproject"} if reproject else BURN
    return shapes(name, crs="EPSG:4326", options=options)


HOLED_HW = DRAWN_HW.copy()
HOLED_HW[10:20, 12:30] = 0
HOLED_HW[40:50, 2:20] = 1
HOLED = {
    "type": "MultiPolygon",
    "coordinates": [
        [ring(*BOXES["field"]), ring(10, 12, 20, 30)[::-1]],
        [ring(40, 2, 50, 20)],
    ],
}


def on_scene(build: Callable[[Path], Scene], transform: Affine) -> Callable[[Path], Scene]:
    """Return what moves a scene and its shapes by the same way."""

    def moved(folder: Path) -> Scene:
        found = build(folder)
        write(folder / "image.tif", IMAGE_HWC, transform=transform)
        document = json.loads((folder / found.label).read_text())
        for feature in document["features"]:
            for ring_of in feature["geometry"]["coordinates"]:
                for point in ring_of:
                    column, row = (point[0] - 392_000) / 2, (5_820_000 - point[1]) / 2
                    point[0] = transform.a * column + transform.b * row + transform.c
                    point[1] = transform.d * column + transform.e * row + transform.f
        (folder / found.label).write_text(json.dumps(document))
        return found

    return moved


def with_hole_in(name: str, **how: Any) -> Callable[[Path], Scene]:
    return shapes(name, [HOLED, polygons()[1]], drawn=HOLED_HW, **how)


def umlauts(encoding: str) -> Callable[[Path], Scene]:
    """Return what writes words in an encoding that a .cpg file names."""
    kinds = ("Gehölz", "Wasserfläche")
    values = dict(zip(kinds, WORDS.values(), strict=True))
    build = shapes(
        "shapes.shp",
        kinds=kinds,
        options={"burn_property": "kind", "burn_values": values},
        encoding=encoding,
    )

    def checked(folder: Path) -> Scene:
        found = build(folder)
        assert (folder / "shapes.cpg").exists()
        return found

    return checked


def arcs(folder: Path) -> Scene:
    """Write a circle as two arcs, which GeoPackage holds and pyogrio does not write."""
    x, y, radius = 392_000 + 2 * 40, 5_820_000 - 2 * 32, 2 * 20
    points = [(x - radius, y), (x, y + radius), (x + radius, y), (x, y - radius), (x - radius, y)]
    ring_wkb = struct.pack("<BII", 1, 8, len(points)) + b"".join(
        struct.pack("<dd", *each) for each in points
    )
    wkb = struct.pack("<BII", 1, 10, 1) + ring_wkb
    inside_HW = np.hypot(ROWS_HW + 0.5 - 32, COLUMNS_HW + 0.5 - 40) < 20
    drawn_HW = np.where(inside_HW, 2, 0).astype(np.uint8)
    found = shapes(
        "shapes.gpkg",
        polygons()[:1],
        kinds=("lake",),
        drawn=drawn_HW,
        geometry_type="Unknown",
        SPATIAL_INDEX="NO",
    )(folder)
    put_geometry(folder / "shapes.gpkg", wkb)
    return found


def triangle(folder: Path) -> Scene:
    """Write a triangle as a shape of that kind, which is no polygon."""
    corners = ring(*BOXES["lake"])
    points = b"".join(struct.pack("<dd", *corners[at]) for at in (0, 1, 2, 0))
    found = shapes("shapes.gpkg", geometry_type="Unknown", SPATIAL_INDEX="NO")(folder)
    put_geometry(folder / "shapes.gpkg", struct.pack("<BIII", 1, 17, 1, 4) + points)
    return found


def put_geometry(path: Path, wkb: bytes) -> None:
    """Replace the first shape of a GeoPackage without an index."""
    with closing(sqlite3.connect(path)) as base:
        number, blob = base.execute("SELECT fid, geom FROM shapes").fetchone()
        head = blob[:3] + b"\x01" + blob[4:8]  # little endian, no box
        base.execute("UPDATE shapes SET geom = ? WHERE fid = ?", (head + wkb, number))
        base.commit()


def with_corner(*numbers: Any) -> Callable[[Path], Scene]:
    """Return what writes GeoJSON with other things for the numbers of one corner."""
    geometries = polygons()
    geometries[0]["coordinates"][0][1] = list(numbers)
    return shapes("shapes.geojson", geometries)


def of_other_crs(name: str, crs: str, west: float, north: float) -> Callable[[Path], Scene]:
    """Return what writes a scene of another CRS, and its shapes in the same one."""
    transform = Affine(2, 0, west, 0, -2, north)

    known = [
        {
            "type": "Polygon",
            "coordinates": [[[x + west - 392_000, y + north - 5_820_000] for x, y in ring(*box)]],
        }
        for box in BOXES.values()
    ]

    def build(folder: Path) -> Scene:
        scene(folder, crs=crs, transform=transform)
        _write_with_pyogrio(folder / name, known, tuple(BOXES), crs)
        return Scene(label=name, label_HW=DRAWN_HW, options=BURN)

    return build


def cut_off(name: str, share: float, part: str = "") -> Callable[[Path], Scene]:
    """Return what writes shapes and keeps a part of the file."""

    def build(folder: Path) -> Scene:
        found = shapes(name)(folder)
        path = folder / (part or name)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        return found

    return build


def two_layers(folder: Path) -> Scene:
    found = shapes("shapes.gpkg", layer="one")(folder)
    _write_with_pyogrio(folder / "shapes.gpkg", polygons(), tuple(BOXES), "EPSG:32633", layer="two")
    return found


def without(*suffixes: str) -> Callable[[Path], Scene]:
    def build(folder: Path) -> Scene:
        found = shapes("shapes.shp")(folder)
        for suffix in suffixes:
            (folder / f"shapes{suffix}").unlink()
        return found

    return build


def text(name: str, content: str) -> Callable[[Path], Scene]:
    def build(folder: Path) -> Scene:
        scene(folder)
        (folder / name).write_text(content)
        return Scene(label=name, options=BURN)

    return build


LINE = {"type": "LineString", "coordinates": ring(4, 6, 30, 38)[:3]}
NOTHING_HW = np.zeros(SHAPE, np.uint8)
ONE_FEATURE = json.dumps(
    {"type": "Feature", "properties": {"kind": "lake"}, "geometry": polygons()[0]}
)
TOPOLOGY = json.dumps({"type": "Topology", "objects": {}, "arcs": []})


def on_shapes(
    name: str, how: str, build: Callable[[Path], Scene], training: str = WORKS
) -> Variant:
    return Variant(name, how, build, training, prediction="")


SHAPES = [
    on_shapes("GeoJSON", "in the CRS of the scene", shapes("shapes.geojson")),
    on_shapes("GeoJSON without a CRS", "in metres", shapes("shapes.geojson", crs=None)),
    on_shapes(
        "GeoJSON in degrees",
        'RFC 7946, `align = "reproject"`',
        degrees_of("shapes.geojson", reproject=True),
    ),
    on_shapes(
        "GeoJSON in degrees, exact",
        "RFC 7946, no option",
        degrees_of("shapes.geojson", reproject=False),
        "SEG-D028",
    ),
    on_shapes(
        "first row in the south",
        "GeoJSON, a positive height of pixels",
        on_scene(shapes("shapes.geojson"), SOUTH_UP),
    ),
    on_shapes(
        "on a turned scene", "GeoJSON, 30 degrees", on_scene(shapes("shapes.geojson"), TURNED)
    ),
    on_shapes("GeoPackage", "one layer", shapes("shapes.gpkg")),
    on_shapes("GeoPackage without a CRS", "one layer", shapes("shapes.gpkg", crs=None)),
    on_shapes("Shapefile", "with .dbf, .shx, .prj, .cpg", shapes("shapes.shp")),
    on_shapes("FlatGeobuf", "with its index", shapes("shapes.fgb")),
    on_shapes(
        "another CRS",
        'GeoPackage in EPSG:3035, `align = "reproject"`',
        shapes("shapes.gpkg", crs="EPSG:3035", options={**BURN, "align": "reproject"}),
    ),
    on_shapes(
        "FlatGeobuf in another CRS",
        'EPSG:4326, `align = "reproject"`',
        degrees_of("shapes.fgb", reproject=True),
    ),
    on_shapes(
        "another CRS, exact",
        "GeoPackage in EPSG:3035, no option",
        shapes("shapes.gpkg", crs="EPSG:3035"),
        "SEG-D025",
    ),
    on_shapes("words in ISO 8859-1", "Shapefile, .cpg", umlauts("ISO-8859-1")),
    on_shapes("words in UTF-8", "Shapefile, .cpg", umlauts("UTF-8")),
    on_shapes("parts and holes", "multipolygon in GeoJSON", with_hole_in("shapes.geojson")),
    on_shapes(
        "parts and holes, GeoPackage",
        "multipolygon",
        with_hole_in("shapes.gpkg", geometry_type="Unknown"),
    ),
    on_shapes("parts and holes, Shapefile", "several rings", with_hole_in("shapes.shp")),
    on_shapes(
        "parts and holes, FlatGeobuf",
        "multipolygon",
        with_hole_in("shapes.fgb", geometry_type="Unknown"),
    ),
    on_shapes("heights, GeoJSON", "three coordinates", shapes("shapes.geojson", polygons(50.0))),
    on_shapes(
        "heights, GeoPackage",
        "Polygon Z",
        shapes("shapes.gpkg", polygons(50.0), geometry_type="Polygon Z"),
    ),
    on_shapes(
        "heights, Shapefile",
        "PolygonZ",
        shapes("shapes.shp", polygons(50.0), geometry_type="Polygon Z"),
    ),
    on_shapes("arcs", "CurvePolygon in GeoPackage", arcs),
    on_shapes("a triangle", "Triangle in GeoPackage", triangle, "SEG-D012"),
    *(
        on_shapes(
            f"Shapefile in {crs}", f"{told}, .prj of ESRI", of_other_crs("shapes.shp", crs, *at)
        )
        for crs, told, at in (
            ("EPSG:3006", "SWEREF 99", (674_000, 6_580_000)),
            ("EPSG:2056", "Swiss oblique Mercator", (2_600_000, 1_200_000)),
            ("EPSG:5514", "Krovak", (-700_000, -1_000_000)),
            ("EPSG:2193", "New Zealand", (1_748_000, 5_428_000)),
            ("EPSG:3857", "Web Mercator", (1_000_000, 8_400_000)),
        )
    ),
    on_shapes(
        "GeoPackage in EPSG:3006",
        "whose first axis is north",
        of_other_crs("shapes.gpkg", "EPSG:3006", 674_000, 6_580_000),
    ),
    on_shapes(
        "a CRS by its URN",
        "urn:ogc:def:crs:EPSG::32633 in GeoJSON",
        shapes("shapes.geojson", crs="urn:ogc:def:crs:EPSG::32633"),
    ),
    on_shapes(
        "words for a CRS", "GeoJSON", shapes("shapes.geojson", polygons(), crs="UTM 33"), "SEG-D012"
    ),
    on_shapes("numbers as text", "GeoJSON", with_corner("392060", "5819992"), "SEG-D012"),
    on_shapes("null for numbers", "GeoJSON", with_corner(None, None), "SEG-D012"),
    on_shapes("NaN for numbers", "GeoJSON", with_corner(np.nan, 5_819_992.0), "SEG-D012"),
    on_shapes("infinite numbers", "GeoJSON", with_corner(392_060.0, np.inf), "SEG-D012"),
    on_shapes("two layers", "GeoPackage, none named", two_layers, "SEG-X011"),
    on_shapes(
        "a collection in a shape",
        "GeometryCollection in GeoJSON",
        shapes(
            "shapes.geojson",
            [{"type": "GeometryCollection", "geometries": polygons()[:1]}, polygons()[1]],
        ),
    ),
    on_shapes(
        "no shape",
        "an empty layer in GeoPackage",
        shapes("shapes.gpkg", [], kinds=(), drawn=NOTHING_HW),
    ),
    on_shapes(
        "no shape, GeoJSON",
        "an empty collection",
        shapes("shapes.geojson", [], kinds=(), drawn=NOTHING_HW),
    ),
    on_shapes(
        "a shape without a geometry",
        "null, GeoPackage",
        shapes("shapes.gpkg", [None, *polygons()], kinds=("lake", *BOXES)),
    ),
    on_shapes(
        "a shape without a geometry, Shapefile",
        "null",
        shapes("shapes.shp", [None, *polygons()], kinds=("lake", *BOXES)),
    ),
    on_shapes(
        "a shape without a word",
        "NULL for its attribute",
        shapes("shapes.gpkg", kinds=("field", None)),
        "SEG-D012",
    ),
    on_shapes(
        "lines", "no burn_width", shapes("shapes.geojson", [LINE], kinds=("lake",)), "SEG-D012"
    ),
    on_shapes("no attribute chosen", "words", shapes("shapes.gpkg", options={}), "SEG-D012"),
    on_shapes("Shapefile without .prj", "the others", without(".prj")),
    on_shapes("Shapefile without .dbf", "the others", without(".dbf"), "SEG-D012"),
    on_shapes("Shapefile without .shx", "the others", without(".shx"), "SEG-D011"),
    on_shapes("Shapefile, cut off", "half of the .shp", cut_off("shapes.shp", 0.5), "SEG-D011"),
    on_shapes(
        "Shapefile, .dbf cut off",
        "nine tenths of the .dbf",
        cut_off("shapes.shp", 0.9, "shapes.dbf"),
        "SEG-D011",
    ),
    on_shapes("FlatGeobuf, cut off", "half of it", cut_off("shapes.fgb", 0.5), "SEG-D012"),
    on_shapes("FlatGeobuf, cut off later", "nine tenths", cut_off("shapes.fgb", 0.9), "SEG-D011"),
    on_shapes("GeoPackage, cut off", "nine tenths", cut_off("shapes.gpkg", 0.9), "SEG-D011"),
    on_shapes("GeoJSON, cut off", "half of it", cut_off("shapes.geojson", 0.5), "SEG-D012"),
    on_shapes(
        "KML", "which is no format of labels", shapes("shapes.kml", crs="EPSG:4326"), "SEG-D012"
    ),
    on_shapes(
        "one feature", "GeoJSON, no collection", text("shapes.geojson", ONE_FEATURE), "SEG-D012"
    ),
    on_shapes(
        "GeoJSON by lines",
        "two features",
        text("shapes.geojson", f"{ONE_FEATURE}\n" * 2),
        "SEG-D012",
    ),
    on_shapes("TopoJSON", "named .json", text("shapes.json", TOPOLOGY), "SEG-D012"),
]

VARIANTS = {
    "Layout": LAYOUT,
    "Compression": COMPRESSION,
    "Types of numbers": TYPES,
    "Place": PLACES,
    "Pixels without data": MASKS,
    "Bands": BANDS,
    "Shapes as labels": SHAPES,
}
ALL = [
    pytest.param(variant, id=f"{group}: {variant.name}")
    for group, variants in VARIANTS.items()
    for variant in variants
]


# The model, and what it must see

KERNEL_CK = np.random.default_rng(3).normal(0, 1, (3, len(CLASSES))).astype(np.float32)


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return what gives the folder of the same model for each number of bands and type."""

    @cache
    def make(bands: int, dtype: str, apply_scale: bool) -> Path:
        known = Bands(
            RGB[:bands] if bands > 1 else ("band 1",), dtype, (MEAN,) * bands, (STD,) * bands
        )
        config = ModelConfig(name="pixel_softmax", options={"features": "colour"})
        trainer = backends.load("reference").build(
            config, TrainingConfig(steps=1), CLASSES, known, 5
        )
        weights = {k: v for k, v in trainer.state().items() if k.startswith("weights/")}
        weights["weights/kernel"] = KERNEL_CK[:bands]
        folder = tmp_path_factory.mktemp("model")
        rules = ReadingRules(apply_scale=apply_scale)
        saved_model.write(
            folder, ModelCard("reference", config, CLASSES, known, None, 1, rules=rules), weights
        )
        return folder

    return make


def expected_map(found: Scene) -> Any:
    """Work out the classes of pixels from the weights, 255 where there are no data."""
    with np.errstate(over="ignore"):  # of a marker of no data
        values_HWC = found.pixels_HWC.astype(np.float32)
    normal_HWC = (values_HWC - np.float32(MEAN)) / np.float32(STD)
    scores_HWK = np.zeros((*found.valid_HW.shape, len(CLASSES)), np.float32)
    for band in range(normal_HWC.shape[2]):
        scores_HWK += (
            np.where(found.valid_HW, normal_HWC[..., band], 0)[..., None] * KERNEL_CK[band]
        )
    return np.where(found.valid_HW, scores_HWK.argmax(axis=2), 255).astype(np.uint8)


def require_named(error: TerrazzoError, code: str) -> None:
    """Check that a refusal has its code, its file, what was found and what to do, in our words."""
    assert error.code == code, error
    assert error.file is not None
    assert error.observed
    assert error.next_step
    assert not re.search(r"Traceback|CPLE|rasterio\.|pyogrio\.|shapely\.", str(error))


def chips_of(folder: Path, found: Scene) -> Any:
    options = {
        "scenes": ({"images": (found.image,), "label": found.label},),
        "chip": 32,
        "block": 1,
        "split": {"train": 1, "val": 0, "test": 0},
        **found.options,
    }
    return geotiff.open_split(folder, "train", geotiff.Options(**options))


def check_reading(folder: Path, found: Scene) -> None:
    """A window across blocks has the numbers, and knows where there are data."""
    rows, columns = (
        slice(min(first, side - 1), min(last, side))
        for first, last, side in zip((5, 11), (60, 71), found.valid_HW.shape, strict=True)
    )
    rules = ReadingRules(
        apply_scale=found.options.get("apply_scale", False), alpha=found.options.get("alpha")
    )
    names = rasters.info(folder / found.image).band_names
    bands = tuple(names.index(name) for name in found.options.get("bands", names))
    bands = None if "bands" not in found.options else bands
    valid_HW = found.valid_HW[rows, columns]
    pixels = rasters.read_window(
        folder / found.image, rows.start, columns.start, *valid_HW.shape, bands, rules=rules
    )
    np.testing.assert_array_equal(
        valid_HW if pixels.valid_HW is None else pixels.valid_HW, valid_HW
    )
    assert pixels.image_HWC.dtype == rasters.info(folder / found.image).dtype or rules.apply_scale
    np.testing.assert_array_equal(
        pixels.image_HWC[valid_HW], found.pixels_HWC[rows, columns][valid_HW]
    )


def check_training(folder: Path, found: Scene) -> tuple[str, ...]:
    """Every chip has its pixels, its labels, and knows which count."""
    chips = chips_of(folder, found)
    rows, columns = found.valid_HW.shape
    assert len(chips.names) == -(-rows // 32) * -(-columns // 32)
    if not found.valid_HW.any():
        bands_of(Split("train", chips, CLASSES, len(chips.names)), "dataset")
    for index in range(len(chips.names)):
        raw = chips.read(index)
        row, column = raw.corner
        part = (slice(row, row + 32), slice(column, column + 32))
        inside = tuple(slice(0, side) for side in found.valid_HW[part].shape)
        counts_HW = (found.valid_HW & found.labelled_HW)[part]
        np.testing.assert_array_equal(raw.valid_HW[inside], counts_HW)
        assert raw.valid_HW.sum() == counts_HW.sum()
        np.testing.assert_array_equal(
            raw.raw_label[inside][counts_HW], found.label_HW[part][counts_HW]
        )
        np.testing.assert_array_equal(
            raw.image_HWC[inside][counts_HW], found.pixels_HWC[part][counts_HW]
        )
    return tuple(chips.notes)


def predicted(folder: Path, found: Scene, model: Any) -> list[str]:
    said = Said()
    apply_scale = found.options.get("apply_scale", False)
    dtype = found.pixels_HWC.dtype.name
    dtype = dtype if dtype in rasters.IMAGE_DTYPES else "float32"
    bands = found.pixels_HWC.shape[2]
    predict(
        model(min(bands, 3), dtype, apply_scale),
        [folder / found.image],
        folder / "map.tif",
        Settings(tiling=Tiling(tile=32, overlap=8), bands=tuple(found.options.get("bands", ()))),
        progress=said,
    )
    return said.lines


def check_map(folder: Path, found: Scene) -> None:
    """The map has the classes of these pixels, and lies where the scene lies."""
    with warnings.catch_warnings(), rasterio.Env(GDAL_GEOREF_SOURCES="INTERNAL"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(folder / "map.tif") as made, rasterio.open(folder / found.image) as was:
            np.testing.assert_array_equal(made.read(1), expected_map(found))
            assert made.crs == was.crs
            assert made.transform.almost_equals(was.transform, 1e-9)


@pytest.mark.parametrize("variant", ALL)
def test_variant(variant, tmp_path, model):
    if variant.needs > GDAL:
        pytest.skip(f"GDAL {variant.needs} writes it")
    found = variant.build(tmp_path)
    said = []
    if variant.training == WORKS:
        check_reading(tmp_path, found)
        said.append(check_training(tmp_path, found))
    elif variant.training:
        with pytest.raises(TerrazzoError) as caught:
            check_training(tmp_path, found)
        require_named(caught.value, variant.training)
    if variant.prediction == WORKS:
        said.append(predicted(tmp_path, found, model))
        check_map(tmp_path, found)
    elif variant.prediction:
        with pytest.raises(TerrazzoError) as caught:
            predicted(tmp_path, found, model)
        require_named(caught.value, variant.prediction)
        assert not (tmp_path / "map.tif").exists()
    for lines in said:
        assert variant.says in "\n".join(lines)


# The page


def table() -> str:
    """Return the rows of the page."""
    lines = []
    for group, variants in VARIANTS.items():
        lines += [f"## {group}", "", "| variant | built | training | prediction | said |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {each.name} | {each.how} | {each.training or '–'} | {each.prediction or '–'} | "
            f"{each.says or '–'} |"
            for each in variants
        ]
        lines += [""]
    return "\n".join(lines)


def test_the_page_has_this_table():
    assert TABLE.read_text(encoding="utf-8").endswith(table())


def test_each_variant_has_a_name_of_its_own():
    assert len({each.id for each in ALL}) == len(ALL) >= 60


if __name__ == "__main__":
    head = TABLE.read_text(encoding="utf-8").split("## ", 1)[0]
    TABLE.write_text(head + table(), encoding="utf-8")
    os.sys.stdout.write(f"{len(ALL)} variants\n")
