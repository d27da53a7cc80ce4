"""GeoTIFF files as arrays: the only package that imports rasterio."""

from terrazzo.rasters.areas import areas
from terrazzo.rasters.grids import boxes_on, neighbours, require_same_grid
from terrazzo.rasters.handles import info, small_cache
from terrazzo.rasters.header import IMAGE_DTYPES, RasterInfo
from terrazzo.rasters.label_reading import read_label, read_label_window, read_label_with_mask
from terrazzo.rasters.polygons import inside, rasterise
from terrazzo.rasters.reading import BYTE_LIMIT, read, read_window, undeclared_nan
from terrazzo.rasters.vectors import Features, is_vector, read_features
from terrazzo.rasters.writing import BLOCK, write, write_rows

__all__ = [
    "BLOCK",
    "BYTE_LIMIT",
    "IMAGE_DTYPES",
    "Features",
    "RasterInfo",
    "areas",
    "boxes_on",
    "info",
    "inside",
    "is_vector",
    "neighbours",
    "rasterise",
    "read",
    "read_features",
    "read_label",
    "read_label_window",
    "read_label_with_mask",
    "read_window",
    "require_same_grid",
    "small_cache",
    "undeclared_nan",
    "write",
    "write_rows",
]
