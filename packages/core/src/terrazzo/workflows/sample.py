"""`terrazzo sample`: reference points drawn from a map, as a GeoPackage to fill in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import make_folder, refuse_folder
from terrazzo.base.config_parsing import StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.output_paths import refuse_existing, refuse_inputs
from terrazzo.data import class_map, point_sampling
from terrazzo.data.point_sampling import Design, DrawnPoints
from terrazzo.io import rasters
from terrazzo.io.rasters import vector_layer

SUFFIX = ".gpkg"
LAYER = "reference_points"
REFERENCE = "reference"
"""The field that people fill in: a class by its name or its id."""


def sample(
    map_path: StrPath, out: StrPath, design: Design, *, overwrite: bool = False
) -> DrawnPoints:
    """Draw reference points from a map and write them.

    Each point lies at the centre of a pixel. Its fields: ``point_id``; ``map_class`` and
    ``map_name``, what the map says; ``stratum``, with its area ``stratum_ha`` in hectares (pixels
    where the map does not say where it lies) and its pixels ``stratum_px``; ``design``; ``weight``,
    the hectares (or pixels) that the point stands for; and ``reference``, which is empty.

    Args:
        map_path: a GeoTIFF of classes, of Terrazzo or of others.
        out: a path ending in ``.gpkg``.
        design: how points are drawn.
        overwrite: replace what is there.

    Raises:
        ConfigError: SEG-X095, no points can be drawn so; SEG-X032, `out` is no GeoPackage or is the
            map; SEG-X003, pyogrio or shapely is not installed.
        DataError: as `point_sampling.draw`.
        CheckpointError: SEG-C002, the file exists.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    path, map_path = Path(out), Path(map_path)
    point_sampling.refuse_impossible(design)
    if path.suffix.lower() != SUFFIX:
        raise ConfigError(
            "SEG-X032",
            "--out names no GeoPackage",
            observed=path,
            allowed=f"a name that ends in {SUFFIX}",
        )
    refuse_inputs([path], [map_path])
    if not overwrite:
        refuse_existing([path])
    refuse_folder(path)
    vector_layer.import_vector_package("pyogrio")
    source = class_map.open_map(map_path)
    drawn = point_sampling.draw(source, design)
    make_folder(path.parent)
    centres = (drawn.columns_N.astype(np.float64) + 0.5, drawn.rows_N.astype(np.float64) + 0.5)
    x_N, y_N = source.info.to_coordinates(*centres)
    strata = {each.id: each for each in drawn.strata}
    of_point = [strata[id_] for id_ in drawn.strata_N.tolist()]
    count = len(x_N)
    fields = {
        "point_id": np.arange(1, count + 1, dtype=np.int32),
        "map_class": drawn.class_ids_N.astype(np.int32),
        "map_name": _texts(source.name_of(id_) for id_ in drawn.class_ids_N.tolist()),
        "stratum": drawn.strata_N.astype(np.int32),
        "stratum_ha": np.array([each.size for each in of_point]),
        "stratum_px": np.array([each.pixels for each in of_point], np.int64),
        "design": _texts([design.kind] * count),
        "weight": np.array([each.size / each.points for each in of_point]),
        REFERENCE: _texts([None] * count),
    }
    rasters.write_points(path, x_N, y_N, source.info.crs, fields, LAYER)
    return drawn


def _texts(values: Iterable[str | None]) -> NDArray[np.object_]:
    return np.array(list(values), dtype=object)
