"""A model that sees ordinary images by tiles, blended as those of scenes are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from terrazzo.data.labels import LabelMap
from terrazzo.inference.blending import Blender
from terrazzo.inference.tiled_prediction import Tiling, tile_passes
from terrazzo.models.contract import Predictor
from terrazzo.models.derived import Derived


def by_tiles(
    predictor: Predictor,
    tiling: Tiling,
    label_map: LabelMap,
    say: Callable[[str], None] = lambda _: None,
) -> Predictor:
    """Return a model that is shown images by tiles.

    Args:
        predictor: is shown the tiles.
        tiling: tiles and their blending.
        label_map: of the model.
        say: told where fewer tiles a forward pass have to do.
    """
    return Derived((predictor,), partial(_blended, predictor, tiling, label_map, say))


def _blended(
    predictor: Predictor,
    tiling: Tiling,
    label_map: LabelMap,
    say: Callable[[str], None],
    images_BHWC: NDArray[np.generic],
) -> NDArray[np.float32]:
    found = []
    for image_HWC in images_BHWC:
        rows = tiled_rows(predictor, image_HWC, tiling, label_map, probabilities=True, say=say)
        found.append(np.concatenate([p for _, p in rows if p is not None]))
    return np.stack(found)


def tiled_rows(
    predictor: Predictor,
    image_HWC: NDArray[np.generic],
    tiling: Tiling,
    label_map: LabelMap,
    *,
    probabilities: bool,
    say: Callable[[str], None],
) -> Iterator[tuple[NDArray[np.integer], NDArray[np.float32] | None]]:
    """Yield train ids R×W of an image, some rows at a time, by tiles that are blended.

    Args:
        predictor: is shown the tiles.
        image_HWC: as the model takes it.
        tiling: tiles and their blending.
        label_map: of the model.
        probabilities: also yield the probabilities R×W×K.
        say: told where fewer tiles a forward pass have to do.
    """
    rows, columns = (tiling.shares(side) for side in image_HWC.shape[:2])
    alone = len(rows) == len(columns) == 1 or tiling.blend == "none"
    passes = tile_passes(predictor, say)
    forward = passes.predict_labels if alone and not probabilities else passes.predict
    blender = Blender(
        rows, columns, len(label_map), label_map.dtype, keep_probabilities=probabilities
    )
    batch_size = tiling.tiles_a_pass(predictor.device)
    for number, row in enumerate(rows):
        strip_HWC = image_HWC[row.start : row.stop]
        for first in range(0, len(columns), batch_size):
            batch = columns[first : first + batch_size]
            images_BHWC = np.stack([strip_HWC[:, c.start : c.stop] for c in batch])
            for at, output in enumerate(forward(images_BHWC), first):
                blender.add(number, at, output)
        finished = blender.finish(number)
        yield finished.labels_RW, finished.probabilities_RWK
