"""Rasters as arrays: the only package that imports rasterio."""

from terrazzo.io.rasters.area_rows import AreaRows
from terrazzo.io.rasters.class_table import ClassTable
from terrazzo.io.rasters.georeferencing import unused_georeferencing, unused_side_files
from terrazzo.io.rasters.grids import boxes_on, neighbours, require_same_grid
from terrazzo.io.rasters.handles import (
    block_shape,
    has_palette,
    names_channels,
    refuse_other_than_utf8,
    small_cache,
    tags,
)
from terrazzo.io.rasters.header import IMAGE_DTYPES, RasterInfo
from terrazzo.io.rasters.mask_bands import MaskPart, MaskRule, mask_band_names
from terrazzo.io.rasters.memory_files import in_memory, written_in_memory
from terrazzo.io.rasters.outlines import Outlines, outlines_of
from terrazzo.io.rasters.products import (
    band_files,
    blocks_kept,
    files_behind,
    grid_for,
    grid_to_reach,
    info,
    info_near,
    info_of_size,
    needs_permission,
    other_files,
)
from terrazzo.io.rasters.rasterize import (
    Burnt,
    attribute_text,
    in_order,
    inside,
    rasterize_shapes,
)
from terrazzo.io.rasters.read_images import (
    BYTE_LIMIT,
    Part,
    ResamplingName,
    may_lack_pixels,
    read,
    read_mask_window,
    read_stack,
    read_window,
    undeclared_nan,
)
from terrazzo.io.rasters.read_labels import read_label, read_label_window, read_label_with_mask
from terrazzo.io.rasters.read_vectors import (
    Features,
    attribute_values,
    attributes,
    is_vector,
    layer_of,
    read_features,
)
from terrazzo.io.rasters.sieve import Groups, sieved
from terrazzo.io.rasters.stored_classes import StoredClass, stored_classes
from terrazzo.io.rasters.validity import faults_of
from terrazzo.io.rasters.vector_layer import NO_CRS, NoLayerError
from terrazzo.io.rasters.vectorize import areas_of_equal_pixels
from terrazzo.io.rasters.widen import has_lines, refuse_lines, widen_shapes
from terrazzo.io.rasters.write_points import write_points
from terrazzo.io.rasters.write_rasters import BLOCK, write, write_rows

__all__ = [
    "BLOCK",
    "BYTE_LIMIT",
    "IMAGE_DTYPES",
    "NO_CRS",
    "AreaRows",
    "Burnt",
    "ClassTable",
    "Features",
    "Groups",
    "MaskPart",
    "MaskRule",
    "NoLayerError",
    "Outlines",
    "Part",
    "RasterInfo",
    "ResamplingName",
    "StoredClass",
    "areas_of_equal_pixels",
    "attribute_text",
    "attribute_values",
    "attributes",
    "band_files",
    "block_shape",
    "blocks_kept",
    "boxes_on",
    "faults_of",
    "files_behind",
    "grid_for",
    "grid_to_reach",
    "has_lines",
    "has_palette",
    "in_memory",
    "in_order",
    "info",
    "info_near",
    "info_of_size",
    "inside",
    "is_vector",
    "layer_of",
    "mask_band_names",
    "may_lack_pixels",
    "names_channels",
    "needs_permission",
    "neighbours",
    "other_files",
    "outlines_of",
    "rasterize_shapes",
    "read",
    "read_features",
    "read_label",
    "read_label_window",
    "read_label_with_mask",
    "read_mask_window",
    "read_stack",
    "read_window",
    "refuse_lines",
    "refuse_other_than_utf8",
    "require_same_grid",
    "sieved",
    "small_cache",
    "stored_classes",
    "tags",
    "undeclared_nan",
    "unused_georeferencing",
    "unused_side_files",
    "widen_shapes",
    "write",
    "write_points",
    "write_rows",
    "written_in_memory",
]
