"""Which plane of a stack is meant: chosen by a person, never guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.io.raster_formats import PLANE_AXES, PermittedPath, Plane


def plane_of(path: Path) -> dict[str, int]:
    """Return the plane that a path was given; see `raster_formats.at_plane`."""
    return dict(path.plane) if isinstance(path, PermittedPath) else {}


def choose(path: Path, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the position on each axis of a file, from 0.

    Args:
        path: with the plane it was given.
        sizes: of the axes that are neither rows, columns nor bands; of `PLANE_AXES`.

    Raises:
        DataError: SEG-D041 an axis of several planes, of which none was chosen; SEG-D129 the plane
            is not there.
    """
    chosen = plane_of(path)
    missing = [axis for axis, size in sizes.items() if size > 1 and axis not in chosen]
    told = ", ".join(f"{axis}: {size}" for axis, size in sizes.items() if size > 1)
    if missing:
        example = ", ".join(f"{axis} = 0" for axis in missing)
        words = ",".join(f"{axis}=0" for axis in missing)
        settings = " ".join(f"--set data.options.plane.{axis}=0" for axis in missing)
        raise DataError(
            "SEG-D041",
            "the file holds several planes, and which of them is meant is not known",
            file=path,
            observed=f"planes along {told}",
            allowed="one plane, with its channels as bands",
            next_step=f"choose one, counted from 0: plane = {{ {example} }} in data.options, "
            f"{settings} for init, --plane {words} for predict; or write planes to files of their "
            "own",
        )
    for axis, position in chosen.items():
        if not 0 <= position < sizes.get(axis, 1):
            raise DataError(
                "SEG-D129",
                "the chosen plane is not in the file",
                file=path,
                observed=f"{axis} = {position}; the file has {told or 'one plane'}",
                allowed=f"{axis} from 0 to {sizes.get(axis, 1) - 1}",
                next_step="correct `plane` in data.options, or --plane",
            )
    return {axis: chosen.get(axis, 0) for axis in sizes}


def parse_plane(text: str) -> Plane:
    """Return the plane of a text such as ``z=3,t=0``; empty: none.

    Raises:
        ConfigError: SEG-X136.
    """
    found: dict[str, int] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        match = re.fullmatch(r"(\w+)\s*=\s*(\d{1,9})", word)
        if match is None or match[1] not in PLANE_AXES or match[1] in found:
            raise ConfigError(
                "SEG-X136",
                "--plane does not name a plane",
                observed=word,
                allowed=f"axes among {', '.join(PLANE_AXES)}, each with a number from 0",
                next_step="write it as in --plane z=3,t=0",
            )
        found[match[1]] = int(match[2])
    return tuple(sorted(found.items()))
