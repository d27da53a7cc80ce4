"""What lies beside a raster, or places it otherwise than by CRS and transform: found, not used."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from terrazzo.io.rasters.handles import handle
from terrazzo.io.rasters.microscopes import MicroscopeDataset
from terrazzo.io.remote_paths import RemotePath

_WORLD_FILES = (".tfw", ".TFW", ".tifw", ".tiffw", ".wld", ".WLD")
_RPC_ENDINGS = ("_RPC.TXT", "_rpc.txt", "_RPC.txt", ".RPB", ".rpb")
_PLACING_TAGS = ("<SRS", "<GeoTransform", "<GCPList")
_NODATA_TAG = "<NoDataValue"
_MEANING_TAGS = {
    _NODATA_TAG: "a nodata value",
    "<Scale>": "a scale",
    "<Offset>": "an offset",
    "<Description>": "names of bands",
    "<ColorInterp>": "colours of bands",
    "<ColorTable>": "a palette",
}
"""What a side-car may say of pixels; statistics, histograms and notes change nothing."""


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


def unused_side_files(
    path: Path, *, of_labels: bool = False, used: Collection[Path] = ()
) -> list[str]:
    """Say which files beside a raster tell what its pixels mean and are not used here.

    Args:
        path: a GeoTIFF file.
        of_labels: its pixels are class indices, which have no scale, names or colours.
        used: files that somebody has named, so that they are used.
    """
    dataset = handle(path).dataset
    inside = dataset.image.notes if isinstance(dataset, MicroscopeDataset) else ()
    return [*inside, *_mask_beside(path, used), *_meaning_beside(path, of_labels)]


def _mask_beside(path: Path, used: Collection[Path]) -> Iterator[str]:
    named = {each.resolve() for each in used if not isinstance(each, RemotePath)}
    for name in _siblings(path, [f"{path.name}.msk"]):
        if path.with_name(name).resolve() in named:
            continue
        yield (
            f"{path}: {name} is not used, so the pixels that it masks count; to use it: "
            f"`gdal_translate --config GDAL_TIFF_INTERNAL_MASK YES {path} "
            f"{path.with_name(f'{path.stem}_masked.tif')}`"
        )


def _meaning_beside(path: Path, of_labels: bool) -> Iterator[str]:
    for name in _siblings(path, [f"{path.name}.aux.xml"]):
        text = _text_of(path.with_name(name))
        tags = _MEANING_TAGS if not of_labels else {_NODATA_TAG: _MEANING_TAGS[_NODATA_TAG]}
        told = [words for tag, words in tags.items() if tag in text]
        if told:
            yield (
                f"{path}: {name} is not used, which holds {', '.join(told)}; to use it: "
                f"`gdal_translate {path} {path.with_name(f'{path.stem}_whole.tif')}`"
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
    crs = handle(path).dataset.crs
    needs_crs = crs is None and not side_cars
    projections = _siblings(path, [path.stem + ".prj", path.stem + ".PRJ"]) if needs_crs else []
    names = [*world, *side_cars, *projections]
    if not names:
        return None
    if names == projections:
        return (
            f"the CRS in {names[0]}",
            f"gdal_edit.py -a_srs ESRI::{path.with_name(names[0])} {path}",
        )
    code = ""
    if needs_crs:
        told = f"ESRI::{path.with_name(projections[0])}" if projections else "EPSG:CODE"
        code = f"-s_srs {told} "
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
    text = _text_of(side_car)
    return any(tag in text for tag in _PLACING_TAGS)


def _text_of(side_car: Path) -> str:
    try:
        return side_car.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
