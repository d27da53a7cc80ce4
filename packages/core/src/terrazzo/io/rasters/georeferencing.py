"""Georeferencing of other kinds than a CRS and a transform inside the file: found, and not used."""

from __future__ import annotations

from pathlib import Path

from terrazzo.io.rasters.handles import handle
from terrazzo.io.remote_paths import RemotePath

_WORLD_FILES = (".tfw", ".TFW", ".tifw", ".tiffw", ".wld", ".WLD")
_RPC_ENDINGS = ("_RPC.TXT", "_rpc.txt", "_RPC.txt", ".RPB", ".rpb")
_PLACING_TAGS = ("<SRS", "<GeoTransform", "<GCPList")


def unused_georeferencing(path: Path) -> str | None:
    """Say what places a raster on the ground that is not used here, and how to make it used.

    None where the file itself holds a CRS and a transform, or nothing else was found.

    Raises:
        DataError: as `handles.info`.
    """
    dataset = handle(path).dataset
    if dataset.crs is not None and not dataset.transform.is_identity:
        return None
    found = _ground_control_points(path) or _rational_polynomials(path) or _beside(path)
    if found is None:
        return None
    what, command = found
    return (
        f"{path}: {what} is not used, so the raster has no place on the ground; to use it: "
        f"`{command}`"
    )


def _warped(path: Path) -> str:
    return f"{path} {path.with_name(f'{path.stem}_warped.tif')}"


def _ground_control_points(path: Path) -> tuple[str, str] | None:
    points, crs = handle(path).dataset.gcps
    if not points:
        return None
    target = "-s_srs EPSG:CODE" if crs is None else f"-t_srs {crs.to_string()}"
    return f"georeferencing by {len(points)} GCPs", f"gdalwarp {target} {_warped(path)}"


def _rational_polynomials(path: Path) -> tuple[str, str] | None:
    inside = handle(path).dataset.rpcs is not None
    beside = [] if inside else _siblings(path, [path.stem + ending for ending in _RPC_ENDINGS])
    if not inside and not beside:
        return None
    where = "" if inside else f" in {beside[0]}"
    return (
        f"georeferencing by RPC{where}",
        f"gdalwarp -rpc -to RPC_DEM=DEM.tif -t_srs EPSG:CODE {_warped(path)}",
    )


def _beside(path: Path) -> tuple[str, str] | None:
    """Return the world file or side-car that places the raster.

    What they say is exact, so it is copied into the file and no pixel is resampled.
    """
    world = _siblings(path, [path.stem + ending for ending in _WORLD_FILES])
    side_cars = [
        name for name in _siblings(path, [f"{path.name}.aux.xml"]) if _places(path.with_name(name))
    ]
    names = [*world, *side_cars]
    if not names:
        return None
    crs = handle(path).dataset.crs
    code = "-s_srs EPSG:CODE " if crs is None and not side_cars else ""
    resampling = "-r near "
    return (
        f"georeferencing by {' and '.join(names)}",
        f"gdalwarp {code}{resampling}{_warped(path)}",
    )


def _siblings(path: Path, names: list[str]) -> list[str]:
    if isinstance(path, RemotePath):
        return []
    found = [name for name in names if path.with_name(name).is_file()]
    # Where capitals do not matter, one file has several of the names.
    return list({name.lower(): name for name in found}.values())


def _places(side_car: Path) -> bool:
    try:
        text = side_car.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(tag in text for tag in _PLACING_TAGS)
