"""``--area``: polygons outside of which nothing of a scene is predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.datasets import _vector_labels
from terrazzo.data.datasets._vector_labels import VectorSettings
from terrazzo.io import rasters
from terrazzo.io.rasters import AreaRows, RasterInfo

_OTHER_ADVICE = {
    "SEG-D025": "give the scene the CRS of the area, or write the area in the coordinates of the "
    "scene into a file without a CRS",
    "SEG-D027": "give the area a CRS (`ogr2ogr -a_srs EPSG:CODE`), or save it as GeoJSON in "
    "longitude and latitude",
    "SEG-D028": "check the CRS of both, or leave the scene out",
}
"""What to do where the advice for training names settings of a recipe."""


def open_area(
    path: Path,
    scene: Path,
    grid: RasterInfo,
    say: Callable[[str], None],
    layer: str | None = None,
) -> AreaRows:
    """Bring an area onto the grid of a scene.

    Args:
        path: GeoJSON, GeoPackage or Shapefile in any CRS.
        scene: for messages.
        grid: of the scene.
        say: told what is taken for granted of its CRS.
        layer: of a GeoPackage with several.

    Raises:
        ConfigError: as `_vector_labels.area_shapes`; SEG-X130, the layer is not named, or not
            there.
        DataError: as `_vector_labels.area_shapes`; SEG-D106, it holds no pixel of the scene.
    """
    # Without a CRS of the scene, coordinates are taken as they are.
    align = VectorSettings(align="exact" if grid.crs is None else "reproject")
    try:
        shapes = _vector_labels.area_shapes(path, grid, align, edges=True, layer=layer)
    except rasters.NoLayerError as error:
        raise ConfigError(
            "SEG-X130",
            "which layer of the file is the area?",
            file=path,
            observed=error.observed,
            allowed=error.allowed,
            next_step="name one of them with --area-layer",
        ) from None
    except DataError as error:
        if error.code not in _OTHER_ADVICE:
            raise
        raise DataError(
            error.code,
            f"the area does not fit the scene {scene}: {error.problem}",
            file=error.file,
            observed=error.observed,
            allowed=error.allowed,
            next_step=_OTHER_ADVICE[error.code],
        ) from None
    for note in _vector_labels.crs_note(shapes):
        say(note)
    area = AreaRows.of(shapes, grid)
    if not area.filled_rows.any():
        raise DataError(
            "SEG-D106",
            f"no pixel of the scene {scene} has its centre inside the area",
            file=path,
            observed=f"{len(shapes.geometries)} shapes",
            allowed="an area that holds pixels of each scene",
            next_step=_OTHER_ADVICE["SEG-D028"],
        )
    return area


def refuse_image(source: Path) -> None:
    """Refuse an image that lies nowhere.

    Raises:
        ConfigError: SEG-X118.
    """
    raise ConfigError(
        "SEG-X118",
        "--area is for GeoTIFF scenes",
        file=source,
        observed="an image that is no GeoTIFF, whose place nobody knows",
        allowed="scenes that lie where the area does",
        next_step="leave the image out, or --area",
    )
