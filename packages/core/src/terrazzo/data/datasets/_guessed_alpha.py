"""A band without a name that is read as alpha: said, and refused where it takes labels away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from terrazzo.base.errors import DataError

if TYPE_CHECKING:
    from terrazzo.io.rasters import RasterInfo

Alpha = Annotated[str, Field(pattern=r"^(none|band [1-9]\d*)$")]
"""``none``, or the band that says which pixels count, such as ``band 4``."""

_MOST_LOST = 0.01
"""Share of the labelled pixels that a band may take away which is only guessed to be alpha."""


def alpha_notes(path: Path, info: RasterInfo) -> Iterator[str]:
    """Yield a line for each band that is read as alpha."""
    for band in info.alpha_bands:
        yield f"{path}: band {band} is read as alpha: pixels where it is 0 are left out"


def refuse_guessed_alpha(path: Path, lost: float) -> None:
    """Refuse a band that nobody has called alpha where it takes many labelled pixels away.

    Args:
        path: a raster with a band that is read as alpha.
        lost: share of the labelled pixels at which that band is 0.

    Raises:
        DataError: SEG-D046.
    """
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF

    if lost <= _MOST_LOST:
        return
    band = rasters.info(path).alpha_bands[0]
    raise DataError(
        "SEG-D046",
        f"band {band} has no name and is read as alpha, which takes labelled pixels away",
        file=path,
        observed=f"it is 0 at {lost:.1%} of the labelled pixels",
        allowed=f"{_MOST_LOST:.0%}, unless data.options.alpha says what the band is",
        next_step=f'set alpha = "none" if it is a band like the others (such as near infrared), or '
        f'alpha = "band {band}" if it is alpha',
    )
