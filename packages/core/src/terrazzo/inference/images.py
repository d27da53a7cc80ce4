"""Maps of ordinary images: PNG files, each with an overlay on its image."""

from __future__ import annotations

import cv2

from terrazzo.base.progress import Progress
from terrazzo.data.normalization import moments
from terrazzo.inference.model import Model
from terrazzo.inference.outputs import Work
from terrazzo.io import images
from terrazzo.io.images import as_rgb
from terrazzo.io.pixels import ImagePixels
from terrazzo.models.radiometry import unlike_training

_OVERLAY = 0.5  # share of the class colours in an overlay


def predict_image(model: Model, work: Work, progress: Progress) -> None:
    """Write the map of one ordinary image as PNG, and an overlay on the image beside it.

    Raises:
        DataError: as `images.read_image`, and as `Model.predict`.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    assert work.overlay is not None
    image_HWC = images.read_image(work.source)
    labels_HW = model.predict(image_HWC, file=work.source)
    bands = model.card.bands
    warning = unlike_training(bands, *moments([ImagePixels(image_HWC)], len(bands)))
    if warning is not None:
        progress.say(f"warning: {work.source}: {warning}")
    images.write_png(work.map, labels_HW)
    colours_HWC = model.card.label_map.colourise(labels_HW)
    overlay_HWC = cv2.addWeighted(as_rgb(image_HWC), 1 - _OVERLAY, colours_HWC, _OVERLAY, 0)
    images.write_png(work.overlay, overlay_HWC)
