"""From the bytes of an image to its map, as `terrazzo predict` makes it of the same file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import DataError
from terrazzo.data.normalization import moments
from terrazzo.inference import images as image_prediction
from terrazzo.inference import predict, tiled_prediction
from terrazzo.inference.model import Model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.row_journal import Layer, RowBand
from terrazzo.inference.scene_opening import open_scene
from terrazzo.io import image_headers, images, rasters
from terrazzo.io.pixels import ImagePixels
from terrazzo.models import radiometry
from terrazzo.models.card import ModelCard
from terrazzo.serving.batching import Batcher, SharedPredictor
from terrazzo.serving.deadline import Deadline
from terrazzo.serving.settings import ServeSettings

if TYPE_CHECKING:
    from terrazzo.io.rasters import RasterInfo

BODY = Path("image")
"""What the image of a request is called in messages; nothing is read there."""
_KINDS = ("PNG", "JPEG", "TIFF")
_IN_MEMORY = re.compile(r"/vsimem/terrazzo-[0-9a-f]+/(image|map)\.tif")
_BLOCK_PIXELS = 1 << 22  # in a usual GeoTIFF; that many are decoded whatever the limit


@dataclass(frozen=True, eq=False)
class Predicted:
    """The map of an image.

    Attributes:
        labels_HW: train ids; `LabelMap.ignore_index` where the image holds no data.
        probability_HW: float32 of the class that was asked for, NaN without data; None: of none.
        info: of a GeoTIFF; None for other images.
        remarks: what `terrazzo predict` would say of it.
    """

    labels_HW: NDArray[np.integer]
    probability_HW: NDArray[np.float32] | None
    info: RasterInfo | None
    remarks: tuple[str, ...]


def predict_body(
    body: bytes,
    card: ModelCard,
    batcher: Batcher,
    settings: ServeSettings,
    deadline: Deadline,
    probability_of: int | None = None,
) -> Predicted:
    """Predict the image of a request.

    Args:
        body: a PNG, JPEG or GeoTIFF file; its content decides.
        card: what the model is.
        batcher: has the model.
        settings: limits.
        deadline: of the request.
        probability_of: train id of a class whose probability is wanted.

    Raises:
        DataError: as `terrazzo predict`; SEG-D012, the body is no image; SEG-D076, more pixels than
            `settings` allow.
        TooLate: nobody waits for it.
    """
    _refuse_other_files(body)
    model = Model(card, SharedPredictor(batcher, deadline))
    how = Settings(any_pixel_size=settings.any_pixel_size)
    said = _Said()
    if image_headers.content_name(body) == "TIFF":
        with rasters.in_memory(body) as path:
            return _predict_scene(path, model, how, settings, said, probability_of)
    _refuse_pixels(images.decoded_info(body, BODY), settings)
    deadline.require()
    return _predict_image(body, model, how, said, probability_of)


def as_told(text: str) -> str:
    """Return a text in which the image is not called by its name in memory."""
    return _IN_MEMORY.sub(str(BODY), text)


def preview(body: bytes, card: ModelCard, settings: ServeSettings) -> NDArray[np.uint8]:
    """Return an image as H×W×3 for people to look at.

    Raises:
        DataError: as `predict_body`.
    """
    _refuse_other_files(body)
    if image_headers.content_name(body) != "TIFF":
        _refuse_pixels(images.decoded_info(body, BODY), settings)
        return images.as_rgb(images.decode_image(body, BODY))
    how = Settings(any_pixel_size=settings.any_pixel_size)
    with rasters.in_memory(body) as path:
        info = _scene_info(path, settings)
        scene = open_scene(path, card, how, _Said())
        window = (0, 0, info.rows, info.columns)
        shown = scene.parts[0]
        image_HWC, valid_HW, _ = rasters.read_window(
            path, *window, (shown.bands or ())[:3], rules=scene.rules
        )
    assert valid_HW is not None
    if image_HWC.dtype.kind == "f" and valid_HW.any():
        image_HWC[~valid_HW] = np.nan  # the stretch is of what counts
    return images.as_rgb(image_HWC)


def _predict_image(
    body: bytes, model: Model, how: Settings, said: _Said, probability_of: int | None
) -> Predicted:
    image_HWC = images.decode_image(body, BODY)
    pieces = image_prediction.predicted_rows(
        model,
        image_HWC,
        how,
        file=BODY,
        probabilities=probability_of is not None,
        say=said.say,
    )
    labels, probability = [], []
    for labels_RW, probabilities_RWK in pieces:
        labels.append(labels_RW)
        if probability_of is not None:
            assert probabilities_RWK is not None
            probability.append(probabilities_RWK[..., probability_of].copy())
    bands = model.card.bands
    warning = radiometry.unlike_training(bands, *moments([ImagePixels(image_HWC)], len(bands)))
    said.warn(warning)
    return Predicted(
        np.concatenate(labels),
        np.concatenate(probability) if probability else None,
        None,
        tuple(said.lines),
    )


def _predict_scene(
    path: Path,
    model: Model,
    how: Settings,
    limits: ServeSettings,
    said: _Said,
    probability_of: int | None,
) -> Predicted:
    card = model.card
    _scene_info(path, limits)
    scene = open_scene(path, card, how, said)
    said.warn(predict.scene_unlike_training(scene, card))
    size = scene.info
    rows = _RowsInMemory(size, card, probability_of)
    tiled_prediction.predict_rows(
        model.trainer,
        scene,
        len(card.label_map),
        how.tiling,
        rows,
        nodata=card.label_map.ignore_index,
        row_done=lambda: None,
        say=said.say,
    )
    return Predicted(rows.labels_HW, rows.probability_HW, size, tuple(said.lines))


def _refuse_other_files(body: bytes) -> None:
    content = image_headers.content_name(body)
    if content not in _KINDS:
        raise DataError(
            "SEG-D012",
            "the body does not hold an image that can be read here",
            observed=f"content is {content}",
            allowed=", ".join(_KINDS),
            next_step="convert the image to one of these",
        )


def _scene_info(path: Path, limits: ServeSettings) -> RasterInfo:
    """Return what a GeoTIFF says of itself, once it is known not to fill the memory."""
    info = rasters.info(path)
    _refuse_pixels(info, limits)
    # A block is decoded whole, however little of it lies in the image.
    rows, columns = rasters.block_shape(path)
    if rows * columns > max(limits.max_pixels, _BLOCK_PIXELS):
        raise _too_many_pixels("blocks of ", rows, columns, limits)
    return info


def _refuse_pixels(info: images.ImageInfo | RasterInfo, limits: ServeSettings) -> None:
    if info.rows * info.columns > limits.max_pixels:
        raise _too_many_pixels("", info.rows, info.columns, limits)


def _too_many_pixels(what: str, rows: int, columns: int, limits: ServeSettings) -> DataError:
    return DataError(
        "SEG-D076",
        "the image has more pixels than this server takes",
        file=BODY,
        observed=f"{what}{rows} rows × {columns} columns",
        allowed=f"{limits.max_pixels} pixels",
        next_step="cut it into smaller images, or use `terrazzo predict`; --max-pixels sets the "
        "limit",
    )


@dataclass
class _Said:
    """Keeps what would be printed."""

    lines: list[str] = field(default_factory=list)

    def advance(self, done: int, total: int, text: str) -> None:
        """Keep nothing."""

    def say(self, text: str) -> None:
        self.lines.append(as_told(text))

    def warn(self, warning: str | None) -> None:
        if warning is not None:
            self.say(f"warning {radiometry.CODE}: {warning}")


class _RowsInMemory:
    """The rows of a scene: all labels, and the probability of one class."""

    def __init__(self, size: RasterInfo, card: ModelCard, probability_of: int | None) -> None:
        shape, label_map = (size.rows, size.columns), card.label_map
        self.labels_HW: NDArray[np.integer] = np.empty(shape, label_map.dtype)
        self._probability_of = probability_of
        self.probability_HW = None if probability_of is None else np.empty(shape, np.float32)
        self.band = RowBand(0, size.rows)
        self.next_row = 0
        self.layers: tuple[Layer, ...] = (Layer("labels", shape[1:], str(label_map.dtype)),)
        if probability_of is not None:
            row_shape = (size.columns, len(label_map))
            self.layers += (Layer("probabilities", row_shape, "float32"),)

    def append(self, arrays: Mapping[str, NDArray[Any]], note: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Add finished rows; what is counted in them is counted anew from the whole map."""
        first, last = self.next_row, self.next_row + len(arrays["labels"])
        self.labels_HW[first:last] = arrays["labels"]
        if self.probability_HW is not None:
            self.probability_HW[first:last] = arrays["probabilities"][..., self._probability_of]
        self.next_row = last
