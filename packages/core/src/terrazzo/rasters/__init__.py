"""GeoTIFF files as arrays: the only package that imports rasterio."""

from terrazzo.rasters.areas import areas
from terrazzo.rasters.grids import require_same_grid
from terrazzo.rasters.handles import small_cache
from terrazzo.rasters.header import RasterInfo, info
from terrazzo.rasters.label_reading import read_label, read_label_window, read_label_with_mask
from terrazzo.rasters.polygons import rasterise
from terrazzo.rasters.reading import BYTE_LIMIT, IMAGE_DTYPES, read, read_window, undeclared_nan
from terrazzo.rasters.writing import BLOCK, write, write_rows

__all__ = [
    "BLOCK",
    "BYTE_LIMIT",
    "IMAGE_DTYPES",
    "RasterInfo",
    "areas",
    "info",
    "rasterise",
    "read",
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
