"""Shapes that a tool has drawn in one plane of a stack: they label that plane alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from terrazzo.data.datasets._paired_files import PlaneChoice
from terrazzo.io.raster_formats import is_raster

_AXES = ("z", "t")
"""That tools of microscopy draw along."""


@dataclass(frozen=True, slots=True)
class ReadPlane:
    """The plane that is read of an image.

    Attributes:
        chosen: positions from 0 on the axes of `_AXES` that were named.
    """

    chosen: Mapping[str, int]

    @staticmethod
    def of(image: Path, plane: PlaneChoice) -> ReadPlane:
        """Return the plane of an image; ordinary images have one."""
        if not is_raster(image):
            return ReadPlane({})
        return ReadPlane({axis: at for axis, at in plane.items() if axis in _AXES})

    def at(self, axis: str) -> int:
        """Return the position on an axis, from 0."""
        return self.chosen.get(axis, 0)

    def other_axis(self, drawn: Mapping[str, int | float]) -> str | None:
        """Return the first axis on which a shape lies elsewhere; None: it lies in this plane.

        Args:
            drawn: positions from 0 by axis; an axis that is left out is of all of its planes.
        """
        return next((axis for axis, at in drawn.items() if at != self.at(axis)), None)

    @property
    def told(self) -> str:
        """The plane in words."""
        if not any(self.chosen.values()):
            return "the first plane"
        chosen = ", ".join(f"{axis} = {at}" for axis, at in self.chosen.items())
        return f"the plane {chosen} of data.options"
