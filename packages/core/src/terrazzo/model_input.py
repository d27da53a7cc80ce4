"""Whether a scene or a picture is what a model was trained on."""

from __future__ import annotations

import re
from pathlib import Path

from terrazzo import ground, rasters
from terrazzo.errors import ConfigError, DataError
from terrazzo.model_folder import ModelCard
from terrazzo.scene import Scene

_NAMELESS = re.compile(r"band \d+")


def scene_for(
    path: Path, card: ModelCard, chosen: tuple[str, ...], *, any_pixel_size: bool
) -> Scene:
    """Find the model's bands in a scene, and refuse one that the model does not know.

    Args:
        path: a GeoTIFF.
        card: what the model is.
        chosen: the scene's bands in the model's order, by name or number from 1; empty: all.
        any_pixel_size: take pixels of any size on the ground.

    Raises:
        ConfigError: SEG-X031, `chosen` names no band.
        DataError: as `rasters.info`; SEG-D019 another type of pixel; SEG-D020 other bands;
            SEG-D028 pixels of another size.
    """
    info = rasters.info(path)
    bands = tuple(_position(path, word, info.band_names) for word in chosen) or tuple(
        range(info.bands)
    )
    require_pixels(path, len(bands), info.dtype, card)
    names, wanted = tuple(info.band_names[band] for band in bands), card.bands.names
    named = not any(map(_NAMELESS.fullmatch, (*names, *wanted)))
    if not chosen and named and names != wanted:
        raise DataError(
            "SEG-D020",
            "the bands of the scene are not those of the model, or in another order",
            file=path,
            observed=", ".join(names),
            allowed=", ".join(wanted),
            next_step="name the scene's bands in the model's order: --bands " + ",".join(wanted),
        )
    if not any_pixel_size:
        ground.require_like_training(path, info, card.pixel_metres)
    return Scene(path, bands)


def _position(path: Path, word: str, names: tuple[str, ...]) -> int:
    if word in names:
        return names.index(word)
    if word.isdigit() and 1 <= int(word) <= len(names):
        return int(word) - 1
    raise ConfigError(
        "SEG-X031",
        f"--bands: no band {word!r} in the scene",
        file=path,
        observed=word,
        allowed=", ".join(names) + f", or numbers in 1…{len(names)}",
        next_step="name the scene's bands in the order of the model's",
    )


def require_pixels(path: Path, num_bands: int, dtype: str, card: ModelCard) -> None:
    """Refuse another number of bands or type of pixel than the model's.

    Raises:
        DataError: SEG-D019 or SEG-D020.
    """
    if num_bands != len(card.bands):
        raise DataError(
            "SEG-D020",
            "the picture has another number of bands than the model",
            file=path,
            observed=f"{num_bands} bands",
            allowed=f"{len(card.bands)} ({', '.join(card.bands.names)})",
            next_step="choose the bands of a GeoTIFF with --bands, e.g. --bands "
            + ",".join(map(str, range(1, len(card.bands) + 1))),
        )
    if dtype != card.bands.dtype:
        raise DataError(
            "SEG-D019",
            "the picture has another type of pixel than the model was trained on",
            file=path,
            observed=dtype,
            allowed=card.bands.dtype,
            next_step="convert it with the scale of the training pictures",
        )
