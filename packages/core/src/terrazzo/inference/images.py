"""Maps of ordinary images: PNG files, each with an overlay on its image."""

from __future__ import annotations

import cv2

from terrazzo.inference.model import Model
from terrazzo.inference.outputs import Work
from terrazzo.io import images
from terrazzo.io.images import as_rgb

_OVERLAY = 0.5  # share of the class colours in an overlay


def predict_image(model: Model, work: Work) -> None:
    """Write the map of one ordinary image as PNG, and an overlay on the image beside it.

    Raises:
        DataError: as `images.read_image`, and as `Model.predict`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    assert work.overlay is not None
    image_HWC = images.read_image(work.source)
    labels_HW = model.predict(image_HWC, file=work.source)
    images.write_png(work.map, labels_HW)
    colours_HWC = model.card.label_map.colourise(labels_HW)
    overlay_HWC = cv2.addWeighted(as_rgb(image_HWC), 1 - _OVERLAY, colours_HWC, _OVERLAY, 0)
    images.write_png(work.overlay, overlay_HWC)
