r"""A trained model as a function that CVAT's command line annotates a task with.

    cvat-cli task auto-annotate 7 --function-module terrazzo.inference.cvat_function \
        -p run=str:runs/camvid_unet_quick

Images come from the server and masks go to it; nothing is written here. Needs the extra
``terrazzo[cvat]`` beside the backend of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.base.errors import ConfigError
from terrazzo.inference.images import predicted_rows
from terrazzo.inference.labelling import cvat
from terrazzo.inference.labelling.confidence import Confidence
from terrazzo.inference.labelling.polygons import outlines
from terrazzo.inference.model import Model, load_model
from terrazzo.inference.outputs import Settings
from terrazzo.inference.tiled_prediction import Tiling

_ONE_BAND = {"L": np.uint8, "LA": np.uint8, "1": np.uint8, "I;16": np.uint16, "I": np.uint16}
"""Pillow's kinds of grey images, and the type of their pixels in the file."""


def create(run: str, tile: int = 0, tolerance: float = 1.0) -> CvatFunction:
    """Return the function; CVAT's command line calls this with the values of its option ``-p``.

    Args:
        run: a run folder, its ``model/``, or an exported folder.
        tile: rows and columns of a tile; 0: images of up to 4 megapixels whole, larger ones by
            tiles of 512.
        tolerance: pixels by which a polygon may be off to have fewer corners, where polygons are
            asked for (``--conv-mask-to-poly``).

    Raises:
        ConfigError: SEG-X003, cvat-sdk is not installed; SEG-X087, CVAT cannot keep a class name.
        TerrazzoError: as `load_model`.
    """
    sdk, encode_mask = _libraries()
    model = load_model(run)
    cvat.refuse_names(model.card.label_map)
    tiled = Settings(Tiling(tile=tile), whole_images_up_to=0) if tile else Settings()
    return CvatFunction(model, tiled, tolerance, sdk, encode_mask)


class CvatFunction:
    """What `cvat_sdk.auto_annotation` calls a detection function: masks of classes on an image.

    Attributes:
        spec: the labels: one of type ``mask`` for each class, of its name and colour.
    """

    def __init__(
        self, model: Model, settings: Settings, tolerance: float, sdk: ModuleType, encode_mask: Any
    ) -> None:
        self._model, self._settings, self._tolerance = model, settings, tolerance
        self._sdk, self._encode_mask = sdk, encode_mask
        self.spec: Any = sdk.DetectionFunctionSpec(
            labels=[
                sdk.label_spec(each.name, k, type="mask", color=each.colour.lower())
                for k, each in enumerate(model.card.label_map.classes)
            ]
        )

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Return the areas of each class on an image: a mask a class, or polygons.

        Args:
            context: of CVAT: whether polygons are asked for, and the least mean probability that a
                class must have where the map shows it.
            image: as CVAT has it.

        Raises:
            DataError: as `Model.predict`.
        """
        label_map = self._model.card.label_map
        threshold = context.conf_threshold
        confidence = None if threshold is None else Confidence(len(label_map))
        rows = []
        for labels_RW, probabilities_RWK in predicted_rows(
            self._model,
            _pixels(image),
            self._settings,
            file=context.frame_name,
            probabilities=confidence is not None,
        ):
            rows.append(labels_RW)
            if confidence is not None and probabilities_RWK is not None:
                confidence.add(labels_RW, probabilities_RWK)
        labels_HW = np.concatenate(rows)
        if confidence is not None:
            for k in np.unique(labels_HW).tolist():
                if confidence.of_class(k) < threshold:
                    labels_HW[labels_HW == k] = label_map.ignore_index
        areas = self._polygons if context.conv_mask_to_poly else self._masks
        return list(areas(labels_HW, confidence))

    def _masks(self, labels_HW: NDArray[Any], confidence: Confidence | None) -> Iterator[Any]:
        # Of classes that are there: a mask without a pixel would come out as one pixel.
        for k in np.unique(labels_HW).tolist():
            if k != self._model.card.label_map.ignore_index:
                points = self._encode_mask(labels_HW == k)
                yield self._sdk.mask(k, points, **_score(confidence, k))

    def _polygons(self, labels_HW: NDArray[Any], confidence: Confidence | None) -> Iterator[Any]:
        ignored = self._model.card.label_map.ignore_index
        for outline in outlines(labels_HW, ignored, self._tolerance):
            points = [number for corner in outline.corners for number in corner]
            more = _score(confidence, outline.train_id)
            yield self._sdk.polygon(outline.train_id, points, z_order=outline.depth, **more)


def _score(confidence: Confidence | None, k: int) -> dict[str, float]:
    return {} if confidence is None else {"score": min(confidence.of_class(k), 1.0)}


def _pixels(image: Image.Image) -> NDArray[Any]:
    """Return H×W×C as `images.read_image` does of the file: one band for grey, three otherwise."""
    if image.mode not in _ONE_BAND:
        return np.asarray(image.convert("RGB"))
    grey = image.convert("L") if image.mode in ("LA", "1") else image
    return np.asarray(grey).astype(_ONE_BAND[image.mode])[..., None]


def _libraries() -> tuple[ModuleType, Any]:
    try:
        from cvat_sdk import auto_annotation
        from cvat_sdk.masks import encode_mask
    except ImportError as error:
        raise ConfigError(
            "SEG-X003",
            "the function for CVAT needs cvat-sdk, which is not installed",
            observed=error,
            next_step="pip install 'terrazzo[cvat]'",
        ) from error
    return auto_annotation, encode_mask
