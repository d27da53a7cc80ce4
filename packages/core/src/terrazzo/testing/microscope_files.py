"""Small files as microscopes and scanners write them: OME-Zarr, and a whole slide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KINDS = {"c": {"type": "channel"}, "t": {"type": "time"}}
_SPACE = {"type": "space", "unit": "micrometer"}


def write_ome_zarr(
    path: Path,
    version: str,
    image: NDArray[Any],
    axes: str = "cyx",
    *,
    channels: tuple[str, ...] = ("DAPI", "GFP"),
    **settings: Any,
) -> Path:
    """Write a level of full size and one of half, of pixels 0.5 µm wide and 0.25 µm high.

    Args:
        path: of the folder.
        version: 0.4 or 0.5.
        image: of the axes.
        axes: a letter each; the last two are ``yx``.
        channels: their names.
        settings: of the arrays, such as ``shards``.
    """
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    levels = []
    for level, step in enumerate((1, 2)):
        data = image[..., ::step, ::step]
        chunks = tuple(1 if axis in "tcz" else 16 for axis in axes)
        array = group.create_array(
            str(level), shape=data.shape, dtype=data.dtype, chunks=chunks, **settings
        )
        array[...] = data
        scale = [{"y": 0.25, "x": 0.5}.get(axis, 1 / step) * step for axis in axes]
        levels.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    named = [{"name": axis, **_KINDS.get(axis, _SPACE)} for axis in axes]
    multiscale: dict[str, Any] = {"axes": named, "datasets": levels}
    told: dict[str, Any] = {
        "multiscales": [multiscale],
        "omero": {"channels": [{"label": name} for name in channels]},
    }
    if version == "0.4":
        multiscale["version"] = version
        group.attrs.update(told)
    else:
        group.attrs.update({"ome": {"version": version, **told}})
    return path


def write_slide(path: Path, slide_HWC: NDArray[np.uint8]) -> Path:
    """Write red, green and blue as Aperio's slides are, of two levels and pixels of 0.5 µm."""
    import tifffile

    rows, columns, _ = slide_HWC.shape
    words = f"Aperio Image Library v11\r\n{columns}x{rows} (256x256)|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as writer:
        tiles = {"tile": (256, 256), "photometric": "rgb", "metadata": None, "description": words}
        writer.write(slide_HWC, **tiles)
        writer.write(slide_HWC[::2, ::2], subfiletype=1, **tiles)
    return path
