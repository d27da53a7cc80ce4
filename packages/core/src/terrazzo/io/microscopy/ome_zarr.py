"""OME-Zarr 0.4 and 0.5: a folder of chunks, read by zarr at its finest level.

Its metadata is looked at before zarr is: an array may name codecs that run what they find, such as
pickle, and paths that leave the folder.

Source: OME-NGFF 0.4 and 0.5, multiscales and omero; Zarr 2 and 3 core specifications.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.io.microscopy import planes
from terrazzo.io.microscopy.extras import import_reader
from terrazzo.io.microscopy.image import (
    MicroscopeImage,
    Window,
    named,
    reading,
    refuse_large_block,
    refuse_many_bands,
)

_VERSIONS = ("0.4", "0.5")
_AXES = ("t", "c", "z", "y", "x")
_METRES = {
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1,
}
_CODECS_2 = (None, "blosc", "zlib", "gzip", "zstd", "lz4", "lzma", "bz2", "shuffle", "delta")
_CODECS_3 = ("bytes", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed")
_MOST_METADATA = 1 << 22


def open_zarr(path: Path) -> MicroscopeImage:
    """Open an OME-Zarr folder.

    Raises:
        ConfigError: SEG-X135 zarr is not installed.
        DataError: SEG-D131 no OME-Zarr of a version that is read, or codecs that are not; SEG-D041
            a plane that nobody chose; SEG-D129 the plane is not there; SEG-D011 damaged.
    """
    zarr = import_reader("zarr", path)
    folder = Path(str(path))
    with reading(path):
        told = _multiscales(path, folder)
        image = _only(path, told.get("multiscales"), "multiscales")
        axes = _axis_names(path, image)
        level = _only(path, image.get("datasets"), "datasets")
        place = _inside(path, level.get("path"))
        _refuse_codecs(path, folder / place)
        array = zarr.open_array(str(folder / place), mode="r")
        return _look_at(path, array, axes, told, image, level)
    raise AssertionError  # the context above swallows nothing


def _look_at(
    path: Path,
    array: Any,
    axes: Sequence[str],
    told: Mapping[str, Any],
    image: Mapping[str, Any],
    level: Mapping[str, Any],
) -> MicroscopeImage:
    if len(axes) != array.ndim or min(array.shape, default=0) < 1:
        raise _refused(path, f"{len(axes)} axes ({', '.join(axes)}) of shape {array.shape}")
    if array.dtype.kind not in "uifb":
        raise _refused(path, f"pixels of {array.dtype}")
    chunk = math.prod(array.chunks) * array.dtype.itemsize
    refuse_large_block(path, f"chunks of {'×'.join(map(str, array.chunks))}", chunk)
    sizes = dict(zip(axes, array.shape, strict=True))
    chosen = planes.choose(path, {axis: sizes[axis] for axis in axes if axis in "tz"})
    bands = sizes.get("c", 1)
    refuse_many_bands(path, bands)
    y, x = (array.chunks[axes.index(axis)] for axis in "yx")
    labels = _label_names(Path(str(path)))
    return MicroscopeImage(
        sizes["y"],
        sizes["x"],
        array.dtype.name,
        named(_channels(told), bands),
        _Pixels(path, array, axes, chosen).read,
        (y, x),
        _sides(image, level, axes),
        notes=(f"{path}: holds labels {', '.join(labels)}, which are not read",) if labels else (),
    )


@dataclass
class _Pixels:
    """An array of which windows are read.

    Attributes:
        path: the folder.
        array: of zarr.
        axes: one letter each.
        plane: positions on `t` and `z`.
    """

    path: Path
    array: Any
    axes: Sequence[str]
    plane: Mapping[str, int]

    def read(self, window: Window, bands: Sequence[int]) -> NDArray[Any]:
        """Return H×W×C of some bands."""
        row, column, rows, columns = window
        place: dict[str, Any] = dict(self.plane)
        place |= {"y": slice(row, row + rows), "x": slice(column, column + columns)}
        with reading(self.path):
            channels = [
                np.asarray(self.array[tuple({**place, "c": band}[axis] for axis in self.axes)])
                for band in bands
            ]
        if self.axes.index("x") < self.axes.index("y"):
            channels = [channel.T for channel in channels]
        stacked_HWC = np.stack(channels, axis=2)
        return np.ascontiguousarray(stacked_HWC, dtype=stacked_HWC.dtype.newbyteorder("="))


def _multiscales(path: Path, folder: Path) -> Mapping[str, Any]:
    """Return what OME says of an image, of one of the versions."""
    if (folder / "zarr.json").is_file():
        attributes = _json(path, folder / "zarr.json").get("attributes") or {}
        told = attributes.get("ome") if isinstance(attributes, dict) else None
        version = told.get("version") if isinstance(told, dict) else None
    else:
        told = _json(path, folder / ".zattrs")
        scales = told.get("multiscales")
        first = scales[0] if isinstance(scales, list) and scales else None
        # Optional in 0.4, whose axes have types, which those of earlier versions lack.
        is_later = isinstance(first, dict) and isinstance((first.get("axes") or [None])[0], dict)
        version = first.get("version", "0.4" if is_later else None) if first else None
    if not isinstance(told, dict) or version not in _VERSIONS:
        raise _refused(path, f"version {version}")
    if "multiscales" not in told:
        kinds = ", ".join(sorted(map(str, told)))[:200]
        raise _refused(path, f"no image, but {kinds}")
    return told


def _json(path: Path, file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_METADATA + 1)
    except OSError as error:
        raise _refused(path, f"{file.name}: {error.strerror}") from None
    if len(text) > _MOST_METADATA:
        raise _refused(path, f"{file.name} of more than {_MOST_METADATA} bytes")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"{file.name}: {error}") from None
    if not isinstance(told, dict):
        raise _refused(path, f"{file.name} is no object")
    return told


def _only(path: Path, found: object, name: str) -> Mapping[str, Any]:
    """Return the first of a list: the one image, or the finest level."""
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        raise _refused(path, f"no {name}")
    if name == "multiscales" and len(found) > 1:
        raise _refused(path, f"{len(found)} images (multiscales)")
    return found[0]


def _axis_names(path: Path, image: Mapping[str, Any]) -> list[str]:
    axes = image.get("axes")
    names = [str(axis.get("name") if isinstance(axis, dict) else axis) for axis in axes or []]
    fits = all(name in _AXES for name in names) and len(set(names)) == len(names)
    if not fits or not {"y", "x"} <= set(names):
        raise _refused(path, f"axes {', '.join(map(str, names))}")
    return names


def _inside(path: Path, name: object) -> str:
    """Return the path of a level, which must lie in the folder."""
    parts = PurePosixPath(name).parts if isinstance(name, str) and name else ("..",)
    if not all(part not in ("..", "/") and "\\" not in part and ":" not in part for part in parts):
        raise _refused(path, f"a level at {name!r}")
    target = Path(str(path), *parts).resolve()
    if not target.is_relative_to(Path(str(path)).resolve()):
        raise _refused(path, f"a level at {name!r}, which is {target}")
    return str(PurePosixPath(*parts))


def _refuse_codecs(path: Path, folder: Path) -> None:
    """Refuse an array whose pixels are no plain numbers, or coded by what is not on the list."""
    if (folder / "zarr.json").is_file():
        told = _json(path, folder / "zarr.json")
        codecs = [*_codecs_of(told.get("codecs"))]
        wrong = [name for name in codecs if name not in _CODECS_3]
        transformers = told.get("storage_transformers")
        if transformers:
            wrong.append("storage_transformers")
    else:
        told = _json(path, folder / ".zarray")
        named_ = [told.get("compressor"), *(told.get("filters") or [])]
        ids = [each.get("id") if isinstance(each, dict) else each for each in named_]
        wrong = [str(name) for name in ids if name not in _CODECS_2]
        if not isinstance(told.get("dtype"), str) or told["dtype"][1:2] not in "uifb":
            wrong.append(f"pixels of {told.get('dtype')}")
    if wrong:
        raise _refused(path, f"coded by {', '.join(map(str, wrong))}"[:300])


def _codecs_of(codecs: object) -> Iterator[str]:
    for codec in codecs if isinstance(codecs, list) else []:
        yield str(codec.get("name") if isinstance(codec, dict) else codec)
        settings = codec.get("configuration") if isinstance(codec, dict) else None
        if isinstance(settings, dict):  # of shards: chunks inside, and an index
            yield from _codecs_of(settings.get("codecs"))
            yield from _codecs_of(settings.get("index_codecs"))


def _channels(told: Mapping[str, Any]) -> list[str | None]:
    omero = told.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    labels = [
        each.get("label") if isinstance(each, dict) else None
        for each in (channels if isinstance(channels, list) else [])
    ]
    return [label if isinstance(label, str) else None for label in labels]


def _sides(
    image: Mapping[str, Any], level: Mapping[str, Any], axes: Sequence[str]
) -> tuple[float, float] | None:
    """Return width and height of a pixel in metres."""
    units = {
        str(axis["name"]): str(axis.get("unit"))
        for axis in image.get("axes") or []
        if isinstance(axis, dict)
    }
    sides = []
    for axis in "xy":
        metres = _METRES.get(units.get(axis, ""))
        if metres is None:
            return None
        side = float(metres)
        for each in (level, image):
            for transform in each.get("coordinateTransformations") or []:
                if transform.get("type") == "scale":
                    side *= float(transform["scale"][axes.index(axis)])
        sides.append(side)
    return (sides[0], sides[1]) if all(0 < side < math.inf for side in sides) else None


def _label_names(folder: Path) -> list[str]:
    """Return the names of label images in the folder."""
    for file, keys in (
        (folder / "labels" / "zarr.json", ("attributes", "ome", "labels")),
        (folder / "labels" / ".zattrs", ("labels",)),
    ):
        if file.is_file():
            told: Any = _json(folder, file)
            for key in keys:
                told = told.get(key) if isinstance(told, dict) else None
            return [str(name)[:64] for name in told or []][:20]
    return []


def _refused(path: Path, observed: str) -> DataError:
    return DataError(
        "SEG-D131",
        "the folder is no OME-Zarr image that is read",
        file=path,
        observed=observed,
        allowed=f"OME-Zarr {' and '.join(_VERSIONS)}: one multiscale image of the axes "
        f"{', '.join(_AXES)}, coded by {', '.join(filter(None, _CODECS_2))}",
        next_step="name the folder of the image itself (of a plate, of one field of a well); "
        "write older versions anew as one of these",
    )
