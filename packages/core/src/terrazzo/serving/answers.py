"""What a request may ask for, and the bytes of each answer."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from terrazzo.base.errors import ConfigError, DataError, unknown_name
from terrazzo.data.labels import LabelMap
from terrazzo.inference import map_writer, polygonize
from terrazzo.io import images, rasters
from terrazzo.io.rasters import RasterInfo
from terrazzo.models.card import ModelCard
from terrazzo.serving.prediction import Predicted
from terrazzo.serving.settings import ServeSettings

FORMATS = {
    "png": "image/png",
    "geotiff": "image/tiff",
    "geojson": "application/geo+json",
    "json": "application/json",
    "probabilities": "image/png",
    "preview": "image/png",
}
"""Media type of each answer by its name in ``?format=``."""

_MOST_SIDES = 1_000_000  # each makes up to 150 bytes of GeoJSON
_BY_ACCEPT = ("png", "geotiff", "geojson", "json")  # the others are asked for by name alone


@dataclass(frozen=True, slots=True)
class Answer:
    """One response.

    Attributes:
        status: of HTTP.
        body: its bytes.
        media_type: of the body.
        headers: further ones.
    """

    status: int
    body: bytes
    media_type: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for.

    Attributes:
        format: one of `FORMATS`.
        train_id: of the class whose probability is wanted; None: of none.
        with_mask: whether the mask comes along in the JSON.
    """

    format: str
    train_id: int | None = None
    with_mask: bool = False


def wanted(query: Mapping[str, str], accept: str, label_map: LabelMap) -> Wanted:
    """Read what a request asks for.

    Args:
        query: the parameters of its URL.
        accept: its ``Accept`` header; empty: anything.
        label_map: K classes.

    Raises:
        ConfigError: SEG-X086, an unknown parameter or value, or no format that would be accepted;
            SEG-X004, an unknown class.
    """
    unknown = query.keys() - {"format", "class", "mask"}
    if unknown:
        raise _not_known("unknown parameter", min(unknown), "format, class, mask")
    name = query.get("format") or _accepted(accept)
    if name not in FORMATS:
        raise _not_known("unknown format", name, ", ".join(FORMATS))
    if name == "probabilities":
        return Wanted(name, _train_id(query.get("class", ""), label_map))
    return Wanted(name, None, query.get("mask") == "1")


def _not_known(problem: str, observed: str, allowed: str) -> ConfigError:
    return ConfigError("SEG-X086", problem, observed=observed, allowed=allowed)


def _train_id(word: str, label_map: LabelMap) -> int:
    """Return the class that is meant: its name first, for a name may be a number."""
    if word in label_map.names:
        return label_map.names.index(word)
    if word.isascii() and word.isdigit() and len(word) < 6 and int(word) < len(label_map):
        return int(word)
    raise unknown_name("class", word, label_map.names)


def _accepted(accept: str) -> str:
    """Return the format of the media type that is liked best."""
    ranges = []
    for position, part in enumerate(accept.split(",")):
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            liked = float(quality)
        except ValueError:
            liked = 0.0
        if liked > 0:
            ranges.append((-liked, position, media_type))
    for _, _, media_type in sorted(ranges):
        for name in _BY_ACCEPT:
            if media_type in ("", "*/*", FORMATS[name], f"{FORMATS[name].partition('/')[0]}/*"):
                return name
    raise _not_known(
        "no format of an answer is accepted by the request",
        accept,
        ", ".join(FORMATS[name] for name in _BY_ACCEPT),
    )


def answer(found: Predicted, what: Wanted, card: ModelCard) -> Answer:
    """Return a map in the form that was asked for.

    Raises:
        ConfigError: SEG-X086, a GeoTIFF of an image that is none; SEG-X003, the extra for polygons
            is not installed.
        DataError: SEG-D079, there are too many polygons.
    """
    make = _MAKERS[what.format]
    return Answer(200, make(found, what, card.label_map), FORMATS[what.format])


def image_answer(image_HWC: NDArray[np.uint8]) -> Answer:
    """Return an image as PNG."""
    return Answer(200, _png(Image.fromarray(image_HWC)), "image/png")


def json_answer(values: object, status: int = 200) -> Answer:
    """Return JSON."""
    return Answer(status, _json(values), "application/json")


def card_as_json(card: ModelCard, settings: ServeSettings) -> dict[str, Any]:
    """Return what a model is, and what may be sent to it."""
    return {
        "backend": card.backend,
        "model": card.model.name,
        "step": card.step,
        "label_map": card.label_map.name,
        "classes": [
            {
                "id": k,
                "name": each.name,
                "colour": each.colour,
                "raw": [card.label_map.raw_text(code) for code in each.raw],
            }
            for k, each in enumerate(card.label_map.classes)
        ],
        "ignore_index": card.label_map.ignore_index,
        "bands": list(card.bands.names),
        "dtype": card.bands.dtype,
        "image_size": None if card.image_size is None else list(card.image_size),
        "limits": {
            "max_bytes": settings.max_bytes,
            "max_pixels": settings.max_pixels,
            "timeout_seconds": settings.timeout,
            "queue": settings.queue,
        },
        "formats": list(FORMATS),
    }


def _mask_png(found: Predicted, _: Wanted, label_map: LabelMap) -> bytes:
    """Return train ids as a palette of class colours; ignored pixels are black."""
    palette_P3 = label_map.colours if found.labels_HW.dtype == np.uint8 else None
    return _png(images.as_png_image(found.labels_HW, palette_P3))


def _probabilities_png(found: Predicted, _: Wanted, __: LabelMap) -> bytes:
    """Return the probability of a class times 255, rounded; 0 where there is no data."""
    assert found.probability_HW is not None
    values_HW = np.rint(np.nan_to_num(found.probability_HW) * 255).astype(np.uint8)
    return _png(Image.fromarray(values_HW))


def _geotiff(found: Predicted, _: Wanted, label_map: LabelMap) -> bytes:
    """Return the file that `terrazzo predict` writes of the same scene."""
    info = found.info
    if info is None:
        raise ConfigError(
            "SEG-X086",
            "a GeoTIFF is made of a GeoTIFF alone",
            observed="another image",
            allowed="png, geojson, json",
            next_step="send the scene as GeoTIFF, or ask for ?format=png",
        )
    labels_HW = found.labels_HW
    return rasters.written_in_memory(
        lambda path: map_writer.write_map(path, info, [labels_HW], label_map)
    )


def _geojson(found: Predicted, _: Wanted, label_map: LabelMap) -> bytes:
    _refuse_many_corners(found.labels_HW)
    rows, columns = found.labels_HW.shape
    size = found.info
    if size is None:
        size = RasterInfo(rows, columns, (), "uint8", None, None, Affine.identity(), "uint8")
    return _json(polygonize.geojson(found.labels_HW, size, label_map))


def _refuse_many_corners(labels_HW: NDArray[np.integer]) -> None:
    """Refuse a noisy map, whose polygons would fill the memory."""
    sides = sum(
        int(np.count_nonzero(one != other))
        for one, other in (
            (labels_HW[1:], labels_HW[:-1]),
            (labels_HW[:, 1:], labels_HW[:, :-1]),
        )
    )
    if sides > _MOST_SIDES:
        raise DataError(
            "SEG-D079",
            "the map has too many and too small areas to be sent as polygons",
            observed=f"{sides} sides of pixels between two classes",
            allowed=f"{_MOST_SIDES}",
            next_step="ask for ?format=png or geotiff, or use `terrazzo predict --polygons`",
        )


def _shares(found: Predicted, what: Wanted, label_map: LabelMap) -> bytes:
    """Return pixels of each class, and its share of those that hold data."""
    counts = np.bincount(found.labels_HW.ravel(), minlength=label_map.ignore_index + 1)
    pixels_K = counts[: len(label_map)]
    valid = int(pixels_K.sum())
    values: dict[str, Any] = {
        "rows": found.labels_HW.shape[0],
        "columns": found.labels_HW.shape[1],
        "nodata": int(counts[label_map.ignore_index]),
        "classes": [
            {
                "id": k,
                "name": each.name,
                "colour": each.colour,
                "pixels": int(pixels_K[k]),
                "share": int(pixels_K[k]) / valid if valid else 0.0,
            }
            for k, each in enumerate(label_map.classes)
        ],
        "remarks": list(found.remarks),
    }
    if what.with_mask:
        values["mask_png"] = base64.b64encode(_mask_png(found, what, label_map)).decode("ascii")
    return _json(values)


_MAKERS: dict[str, Callable[[Predicted, Wanted, LabelMap], bytes]] = {
    "png": _mask_png,
    "geotiff": _geotiff,
    "geojson": _geojson,
    "json": _shares,
    "probabilities": _probabilities_png,
}


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=3)
    return file.getvalue()


def _json(values: object) -> bytes:
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
