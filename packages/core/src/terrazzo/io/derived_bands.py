"""Bands that are computed from those of the files while these are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, did_you_mean
from terrazzo.io import band_formula

LARGEST = 1e18
"""Magnitude of the largest pixel that is read: the squares of larger ones overflow float32. What
lies beyond is a marker of no data that the file does not declare, such as −3.4e38 or −1.8e308."""

_PIXELS_AT_ONCE = 1 << 20  # float64 copies of operands are made of no more than these


class Derivation(NamedTuple):
    """What becomes of the bands that are read from files: some stay, and others come of formulas.

    Attributes:
        source_names: names of the bands that are read, in their order.
        source_dtype: NumPy dtype name that they are read as.
        kept: so many of them, from the first on, are bands of the image.
        formulas: name and formula of each band that follows those.
    """

    source_names: tuple[str, ...]
    source_dtype: str
    kept: int
    formulas: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands of the image."""
        return (*self.source_names[: self.kept], *(name for name, _ in self.formulas))

    @property
    def text(self) -> str:
        """The formulas, for people."""
        return "; ".join(f"{name} = {formula}" for name, formula in self.formulas)

    def as_plan(self) -> list[Any]:
        """Return all of it as JSON holds it."""
        formulas = [list(pair) for pair in self.formulas]
        return [list(self.source_names), self.source_dtype, self.kept, formulas]

    def same_formulas(self, other: Derivation) -> bool:
        """Tell whether bands of one name are computed alike; spaces make no difference."""
        own = dict(self.formulas)
        return all(
            band_formula.parse(own[name]) == band_formula.parse(formula)
            for name, formula in other.formulas
            if name in own
        )


def operands(
    formulas: Mapping[str, str], among: Sequence[str], file: Path | None = None
) -> tuple[str, ...]:
    """Return the names of the bands that formulas need, each once, in the order of the formulas.

    Args:
        formulas: by the name of the band they give.
        among: names of all bands of the files.
        file: for messages.

    Raises:
        ConfigError: SEG-X106, one is no formula; SEG-X107, one names a band that is not there once,
            or gives a name that a band of the files has.
    """
    found: dict[str, None] = {}
    for name, formula in formulas.items():
        if name in among:
            raise ConfigError(
                "SEG-X107",
                f"the derived band {name!r} has the name of a band of the files",
                file=file,
                observed=name,
                allowed=f"another name than {', '.join(among)}",
                next_step="give the derived band another name",
            )
        for band in band_formula.parse(formula, name).bands:
            if among.count(band) != 1:
                raise ConfigError(
                    "SEG-X107",
                    f"the formula of the derived band {name!r} names a band that the files have "
                    + ("several times" if band in among else "not"),
                    file=file,
                    observed=band,
                    allowed=", ".join(among),
                    next_step=f"{did_you_mean(band, among)}use names that one band of the files "
                    "has; data.options.band_names names bands that have none",
                )
            found[band] = None
    return tuple(found)


def derive(
    image_HWC: NDArray[Any], present_HWC: NDArray[np.bool_], derivation: Derivation
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the bands of an image from those that were read, and where their values are there.

    A value is missing where one that it is computed from is, and where the formula has no finite
    result or one beyond `LARGEST`. All is computed in float64.

    Args:
        image_HWC: the bands of `Derivation.source_names`.
        present_HWC: False where a value is missing.
        derivation: what to make of them.
    """
    rows, columns, bands = image_HWC.shape
    assert bands == len(derivation.source_names)
    shape = (rows, columns, derivation.kept + len(derivation.formulas))
    derived_HWC = np.empty(shape, np.float32)
    there_HWC = np.empty(shape, bool)
    derived_HWC[..., : derivation.kept] = image_HWC[..., : derivation.kept]
    there_HWC[..., : derivation.kept] = present_HWC[..., : derivation.kept]
    step = max(1, _PIXELS_AT_ONCE // max(columns, 1))
    for first in range(0, rows, step):
        part = np.s_[first : first + step]
        for at, (name, text) in enumerate(derivation.formulas, derivation.kept):
            formula = band_formula.parse(text, name)
            places = {band: derivation.source_names.index(band) for band in formula.bands}
            result_HW = formula.compute(
                {band: image_HWC[part, :, c].astype(np.float64) for band, c in places.items()}
            )
            there_HW = np.abs(result_HW) <= LARGEST  # False of NaN
            for c in places.values():
                there_HW &= present_HWC[part, :, c]
            derived_HWC[part, :, at] = np.where(there_HW, result_HW, 0)
            there_HWC[part, :, at] = there_HW
    return derived_HWC, there_HWC
