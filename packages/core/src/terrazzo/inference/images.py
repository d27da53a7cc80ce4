"""Maps of ordinary images: PNG files, each with an overlay on its image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from terrazzo.base.atomic_write import flush_file
from terrazzo.base.disk_errors import writing
from terrazzo.base.progress import Progress
from terrazzo.data.labels import LabelMap
from terrazzo.data.normalization import moments
from terrazzo.evaluation.prediction_method import METHOD_TAG, PLAIN, PredictionMethod
from terrazzo.inference import legends, polygonize, unfinished_map
from terrazzo.inference.labelling.confidence import Confidence
from terrazzo.inference.model import Model
from terrazzo.inference.outputs import Settings, Work
from terrazzo.inference.uncertainty import Measure, measure_pixels
from terrazzo.io import images
from terrazzo.io.images import as_rgb
from terrazzo.io.pixels import ImagePixels
from terrazzo.models import radiometry

FULL = 65535
"""What stands for probability 1 in the PNG of a class."""

_Rows = Iterator[tuple[NDArray[np.integer], NDArray[np.float32] | None]]


def predict_image(
    model: Model,
    work: Work,
    settings: Settings,
    progress: Progress,
    method: PredictionMethod = PLAIN,
) -> None:
    """Write the map of one ordinary image as PNG, and what else is asked for beside it.

    All its files are written in a folder of their own and then put in their places, the map last.
    While that folder is there, the image counts as not finished.

    Raises:
        DataError: as `images.read_image`, and as `Model.predict`.
        CheckpointError: SEG-C002, as `Work.put_in_place`.
        ResourceError: SEG-R004, the disk is full or refuses; SEG-C009, another process makes this
            map.
    """
    with unfinished_map.emptied(work.map) as folder:
        unfinished = work.inside(folder)
        with ExitStack() as named:
            for temporary, final in zip(unfinished.files, work.files, strict=True):
                named.enter_context(writing(final, unfinished=temporary))
            _write_files(model, unfinished, settings, progress, method)
            for temporary in unfinished.files:
                flush_file(temporary)
        work.put_in_place(unfinished.files)


def _write_files(
    model: Model, work: Work, settings: Settings, progress: Progress, method: PredictionMethod
) -> None:
    image_HWC = images.read_image(work.source)
    bands = model.card.bands
    labels_HW = np.empty(image_HWC.shape[:2], model.card.label_map.dtype)
    confidence = None if work.confidence is None else Confidence(len(model.card.label_map))
    doubt_HW = None if work.uncertainty is None else np.empty(labels_HW.shape, np.uint8)
    pieces = predicted_rows(
        model,
        image_HWC,
        settings,
        file=work.source,
        probabilities=bool(work.class_probabilities)
        or any(each is not None for each in (confidence, doubt_HW)),
        say=progress.say,
    )
    kept = _keeping(pieces, labels_HW, confidence)
    if doubt_HW is not None and settings.uncertainty is not None:
        kept = _measuring(kept, doubt_HW, settings.uncertainty)
    if work.class_probabilities:
        _write_probabilities(model, work, kept, labels_HW.shape)
    for _ in kept:
        pass
    warning = radiometry.unlike_training(bands, *moments([ImagePixels(image_HWC)], len(bands)))
    if warning is not None:
        progress.say(f"warning {radiometry.CODE}: {work.source}: {warning}")
    sieved_HW, label_map = labels_HW, model.card.label_map
    if settings.min_area is not None:
        groups = settings.min_area.sieved(
            lambda: [labels_HW], _grid(labels_HW.shape, "uint8"), label_map.ignore_index
        )
        (sieved_HW,) = groups()
    if work.polygons is not None:
        size = _grid(labels_HW.shape, "uint8")
        polygonize.write(
            work.polygons, [sieved_HW], size, label_map, layer_per_class=settings.layer_per_class
        )
    map_HW = sieved_HW if settings.sieve_map else labels_HW
    if confidence is not None and work.confidence is not None:
        confidence.write(work.confidence, model.card.label_map.names)
    if work.uncertainty is not None and doubt_HW is not None:
        images.write_png(work.uncertainty, doubt_HW)
    assert work.overlay is not None
    overlay_HWC = legends.overlay(as_rgb(image_HWC), map_HW, label_map, contours=settings.contours)
    images.write_png(work.overlay, overlay_HWC)
    notes = {} if method == PLAIN else {METHOD_TAG: method.as_json()}
    write_map(work.map, map_HW, label_map, raw_values=settings.raw_values, notes=notes)


def write_map(
    path: Path,
    map_HW: NDArray[np.integer],
    label_map: LabelMap,
    *,
    raw_values: bool = False,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write train ids or raw values, shown in the colours of the classes where PNG can.

    Args:
        path: where to, ending in ``.png``.
        map_HW: train ids.
        label_map: K classes.
        raw_values: write the raw values of the label map instead.
        notes: texts by keyword, in the file.

    Raises:
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    values = label_map.raw_values(map_HW) if raw_values else map_HW
    palette_P3 = None
    if values.ndim == 2 and values.dtype == np.uint8:
        ids = [each.raw[0] for each in label_map.classes] if raw_values else range(len(label_map))
        palette_P3 = np.zeros((256, 3), np.uint8)
        palette_P3[list(ids)] = label_map.colours
    images.write_png(path, values, palette_P3, notes)


def predicted_rows(
    model: Model,
    image_HWC: NDArray[Any],
    settings: Settings,
    *,
    file: Path,
    probabilities: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> _Rows:
    """Predict an image at once, or by windows where it is large.

    Args:
        model: what to predict with.
        image_HWC: as for `Model.predict`.
        settings: from what size on by windows, and which.
        file: where the image came from, for messages.
        probabilities: whether they are wanted, too.
        say: as for `Model.predict_by_tiles`.

    Returns:
        Train ids R×W, some rows at a time, with the probabilities R×W×K.

    Raises:
        DataError: as `Model.predict`.
    """
    rows, columns = image_HWC.shape[:2]
    if model.card.image_size is None and rows * columns > settings.whole_images_up_to:
        return model.predict_by_tiles(
            image_HWC,
            settings.tiling,
            file=file,
            probabilities=probabilities,
            say=say,
        )
    if probabilities:
        return iter([model.predict_both(image_HWC, file=file)])
    return iter([(model.predict(image_HWC, file=file), None)])


def _keeping(
    pieces: _Rows, labels_HW: NDArray[np.integer], confidence: Confidence | None
) -> Iterator[NDArray[np.float32] | None]:
    """Yield the probabilities of each piece, and put its labels into their place."""
    row = 0
    for labels_RW, probabilities_RWK in pieces:
        labels_HW[row : row + len(labels_RW)] = labels_RW
        row += len(labels_RW)
        if confidence is not None:
            assert probabilities_RWK is not None
            confidence.add(labels_RW, probabilities_RWK)
        yield probabilities_RWK


def _measuring(
    pieces: Iterator[NDArray[np.float32] | None], doubt_HW: NDArray[np.uint8], by: Measure
) -> Iterator[NDArray[np.float32] | None]:
    """Yield the probabilities of each piece, and put its uncertainty into its place."""
    row = 0
    for probabilities_RWK in pieces:
        assert probabilities_RWK is not None
        doubt_HW[row : row + len(probabilities_RWK)] = measure_pixels(probabilities_RWK, by)
        row += len(probabilities_RWK)
        yield probabilities_RWK


def _write_probabilities(
    model: Model,
    work: Work,
    pieces: Iterator[NDArray[np.float32] | None],
    shape: tuple[int, ...],
) -> None:
    """Write a 16-bit PNG a class; memory holds one of them, disk all of them uncompressed."""
    names = model.card.label_map.names
    raws = [path.with_suffix(".raw") for path in work.class_probabilities]
    for raw in raws:
        raw.write_bytes(b"")
    for piece_RWK in pieces:
        assert piece_RWK is not None
        for k, raw in enumerate(raws):
            with raw.open("ab") as file:
                file.write(
                    np.rint(piece_RWK[..., k] * np.float32(FULL)).astype(np.uint16).tobytes()
                )
    for k, (raw, path) in enumerate(zip(raws, work.class_probabilities, strict=True)):
        plane_HW = np.fromfile(raw, np.uint16).reshape(shape)
        raw.unlink()
        notes = {"class": names[k], "train_id": str(k), "scale": f"probability = value / {FULL}"}
        images.write_png(path, plane_HW, None, notes)


def _grid(shape: tuple[int, ...], dtype: str) -> Any:
    """Return the grid of an image without a place: coordinates are pixels."""
    from terrazzo.io import rasters  # GDAL is loaded by those who need it

    rows, columns = shape[:2]
    return rasters.RasterInfo(rows, columns, (), dtype, None, None, Affine.identity(), dtype)
