"""What is to be exported for a program, and what its user says of it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.models.card import ModelCard
from terrazzo.models.exporter import Exporter

DEFAULT_TILE = 512
_SMALLEST_TILE, _LARGEST_TILE = 16, 8192
_SQUARE = 1.01
"""How many times wider or smaller pixels may be among themselves to be told by one number."""


@dataclass(frozen=True)
class ClientOptions:
    """What a user says of an export for a program; None or empty: nothing.

    Attributes:
        tile_size: rows and columns of the tiles that the program cuts.
        cm_per_pixel: size of a pixel on the ground, in centimetres.
        authors: names of people.
        license: an identifier of SPDX, such as ``CC-BY-4.0``.
        cite: text of the work to cite.
        doi: its DOI, or its address.
    """

    tile_size: int | None = None
    cm_per_pixel: float | None = None
    authors: tuple[str, ...] = ()
    license: str | None = None
    cite: str | None = None
    doi: str | None = None


OPTION_NAMES = {
    "tile_size": "--tile-size",
    "cm_per_pixel": "--cm-per-pixel",
    "authors": "--author",
    "license": "--license",
    "cite": "--cite",
    "doi": "--doi",
}
"""How the command line calls the fields of `ClientOptions`."""


@dataclass(frozen=True, eq=False)
class ClientOrder:
    """What is to be exported.

    Attributes:
        card: what the model is.
        trainer: the model, of the card's backend.
        exporter: of the card's backend.
        options: what the user says.
        images: real images B×H×W×C of the run's validation split, to verify with.
        run: name of the run's folder.
        digest: SHA-256 of the weights.
        on_map: width and height of pixels in the metres of the maps that the run's images are;
            None: not known.
    """

    card: ModelCard
    trainer: Any
    exporter: Exporter
    options: ClientOptions
    images: tuple[NDArray[np.generic], ...]
    run: str
    digest: str
    on_map: PixelSizes | None = None

    @property
    def name(self) -> str:
        """The run's name in letters, digits and underscores, a letter first."""
        return identifier(self.run, "model")

    @property
    def tile_size(self) -> int:
        """Rows and columns of tiles.

        Raises:
            ConfigError: SEG-X090, out of range.
        """
        size = self.options.tile_size
        if size is None:
            return DEFAULT_TILE
        if not _SMALLEST_TILE <= size <= _LARGEST_TILE:
            raise ConfigError(
                "SEG-X090",
                "no such size of tiles",
                observed=f"--tile-size {size}",
                allowed=f"{_SMALLEST_TILE} to {_LARGEST_TILE} pixels",
                next_step=f"leave --tile-size away for {DEFAULT_TILE}",
            )
        return size

    @property
    def cm_per_pixel(self) -> float:
        """Size of a pixel in centimetres: the user's word, else on the map, else on the ground.

        Raises:
            ConfigError: SEG-X090, it is not known, or no size.
        """
        given = self.options.cm_per_pixel
        if given is None:
            return self._trained_cm_per_pixel()
        if not (math.isfinite(given) and given > 0):
            raise ConfigError(
                "SEG-X090",
                "no size of a pixel",
                observed=f"--cm-per-pixel {given}",
                allowed="centimetres, above 0",
                next_step="give the size of a pixel on the ground",
            )
        return given

    def _trained_cm_per_pixel(self) -> float:
        sizes = self.on_map or self.card.pixel_metres
        sides = () if sizes is None else (*sizes.width, *sizes.height)
        if sides and max(sides) <= _SQUARE * min(sides):
            return float(f"{100 * sum(sides) / len(sides):.12g}")
        raise ConfigError(
            "SEG-X090",
            "the size of a pixel is not known",
            observed="the images of training tell none"
            if sizes is None
            else f"pixels of training: {sizes}",
            allowed="one size, in centimetres of the map",
            next_step="give it: --cm-per-pixel 25",
        )

    def with_images(self, *images_BHWC: NDArray[np.generic]) -> ClientOrder:
        """Return the order with other images to verify with."""
        return replace(self, images=images_BHWC)


def require_meaningful(client: str, options: ClientOptions, known: frozenset[str]) -> None:
    """Refuse an option that a program has no use for.

    Raises:
        ConfigError: SEG-X090.
    """
    for field in fields(ClientOptions):
        if getattr(options, field.name) in (None, ()) or field.name in known:
            continue
        word = OPTION_NAMES[field.name]
        raise ConfigError(
            "SEG-X090",
            f"{word} means nothing to an export for {client}",
            observed=f"{word} {getattr(options, field.name)}",
            allowed=", ".join(OPTION_NAMES[name] for name in OPTION_NAMES if name in known)
            or "no such option",
            next_step=f"leave {word} away",
        )


def require_option(client: str, options: ClientOptions, name: str, example: str) -> Any:
    """Return what the user says, which a program asks for.

    Raises:
        ConfigError: SEG-X090, nothing is said.
    """
    value = getattr(options, name)
    if value not in (None, (), "") and value != ("",):
        return value
    raise ConfigError(
        "SEG-X090",
        f"an export for {client} needs {OPTION_NAMES[name]}",
        observed="it is not given",
        allowed=f"such as {OPTION_NAMES[name]} {example}",
        next_step="add the option",
    )


def require_own_size(client: str, card: ModelCard) -> None:
    """Refuse a model that sees every image at one size, where a program cuts tiles.

    Raises:
        ConfigError: SEG-X091.
    """
    if card.image_size is None:
        return
    rows, columns = card.image_size
    raise ConfigError(
        "SEG-X091",
        f"{client} shows a model tiles at their own size, and this model sees every image at one",
        observed=f"trained on whole images resized to {rows}×{columns}",
        allowed="models trained on images at their own size, or on crops of them",
        next_step="train with data.image_size left away, or export with --to onnx",
    )


def identifier(text: str, otherwise: str) -> str:
    """Return a text as letters, digits and underscores, a letter first."""
    word = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")
    if not word:
        return otherwise
    return word if word[0].isalpha() else f"{otherwise}_{word}"


def identifiers(texts: tuple[str, ...], otherwise: str) -> list[str]:
    """Return texts as words that are different from each other, see `identifier`."""
    words: list[str] = []
    for number, text in enumerate(texts):
        word = identifier(text, otherwise)
        words.append(word if word not in words else f"{word}_{number}")
    return words
