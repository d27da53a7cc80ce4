"""What the headers of an image's files tell: cheap enough to ask before every run."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.errors import DataError
from terrazzo.data.datasets._paired_files import NamedBy, is_raster, refuse_other_order
from terrazzo.io import images


def fault(
    files: tuple[Path, ...], band_names: tuple[str, ...], first_raster: NamedBy | None = None
) -> DataError | None:
    """Return what is wrong with one image, as far as headers tell.

    Args:
        files: the image file and the label file or files.
        band_names: of the data set.
        first_raster: the GeoTIFF whose bands all others must have in the same order; None: none.
    """
    try:
        if first_raster is not None and is_raster(files[0]):
            refuse_other_order(files[0], first_raster)
        alpha = None if first_raster is None else first_raster.alpha
        (rows, columns, bands), *labels = _shape(files[0], alpha), *map(_shape, files[1:])
    except DataError as error:
        return error
    if bands != len(band_names):
        return DataError(
            "SEG-D020",
            "the image has another number of bands than the data set",
            file=files[0],
            observed=f"{bands} bands",
            allowed=f"{len(band_names)} ({', '.join(band_names)})",
            next_step="convert the image, or move it out of the folder",
        )
    for file, size in zip(files[1:], labels, strict=True):
        if size[:2] != (rows, columns):
            return DataError(
                "SEG-D009",
                "image and mask differ in size",
                file=file,
                observed=f"mask {size[0]}×{size[1]} (rows×columns), image {rows}×{columns} in "
                f"{files[0]}",
                allowed="the same rows and columns",
                next_step="export the mask again at the size of its image",
            )
    return None


def _shape(path: Path, alpha: str | None = None) -> tuple[int, int, int]:
    """Return rows, columns and bands."""
    if is_raster(path):
        from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

        info = rasters.info(path, alpha=alpha)
        return info.rows, info.columns, info.bands
    header = images.image_info(path)
    return header.rows, header.columns, header.bands
