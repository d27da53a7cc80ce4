"""Scored chips put back in their place: a coarse map of each scene, for people to look at.

A map holds every n-th row and column of a scene, so that its longer side is at most `LONGEST_SIDE`;
nothing is averaged, because mixed classes are no class. Of the scene's pixels those that were
scored have truth and prediction, the others none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.atomic_write import replacing
from terrazzo.base.processes import World
from terrazzo.data.scene_placement import Placed, PlacedScene
from terrazzo.evaluation import array_file
from terrazzo.evaluation.array_file import ArrayFile
from terrazzo.io import named_arrays

if TYPE_CHECKING:
    pass
_MOST_PIXELS = 1 << 28  # a larger scene has no image under its map: it would be read whole
_STRIP = 256  # rows read at a time


@dataclass(frozen=True, eq=False)
class SceneOverview:
    """The map of one scene.

    Attributes:
        scene: what it shows.
        truth_HW: int32 train ids or the ignored one; -1 where the scene was not scored.
        prediction_HW: int32 train ids; -1 there.
        image_HWC: uint8 H×W×3; None where the scene is too large to be read for it.
    """

    scene: PlacedScene
    truth_HW: NDArray[np.int32]
    prediction_HW: NDArray[np.int32]
    image_HWC: NDArray[np.uint8] | None = None


class SceneOverviews:
    """Puts images in their places, in any order.

    Args:
        source: of the images.
    """

    def __init__(self, source: Placed) -> None:
        self._source, self._scenes = source, source.scenes
        # One more than the id, so that the sum over processes leaves what no process has at 0.
        self._layers = [
            np.zeros((2, len(scene.taken(scene.rows)), len(scene.taken(scene.columns))), np.int64)
            for scene in self._scenes
        ]

    def add(
        self, index: int, label_HW: NDArray[np.generic], prediction_HW: NDArray[np.generic]
    ) -> None:
        """Put one image in its place; what lies outside the scene is left out."""
        number, row, column = self._source.place(index)
        scene = self._scenes[number]
        inside = []
        for first, length, whole in zip(
            (row, column), label_HW.shape, (scene.rows, scene.columns), strict=True
        ):
            taken = scene.taken(whole)
            inside.append(np.flatnonzero((taken >= first) & (taken < first + length)))
        rows, columns = (
            scene.taken(whole)[each] - first
            for each, whole, first in zip(
                inside, (scene.rows, scene.columns), (row, column), strict=True
            )
        )
        for layer, ids_HW in enumerate((label_HW, prediction_HW)):
            ids: NDArray[Any] = ids_HW[np.ix_(rows, columns)]
            self._layers[number][layer][np.ix_(*inside)] = ids.astype(np.int64) + 1

    def maps(self, world: World) -> tuple[SceneOverview, ...]:
        """Return the maps of all scenes with a scored pixel, from all processes."""
        found = []
        for scene, layers in zip(self._scenes, self._layers, strict=True):
            truth_HW, prediction_HW = (world.sum(layers) - 1).astype(np.int32)
            if (truth_HW >= 0).any():
                image = _image(scene) if world.rank == 0 else None
                found.append(SceneOverview(scene, truth_HW, prediction_HW, image))
        return tuple(found)


def _image(scene: PlacedScene) -> NDArray[np.uint8] | None:
    """Read the pixels of the map, strip by strip; None where that would take long."""
    if not scene.image or scene.rows * scene.columns > _MOST_PIXELS:
        return None
    from terrazzo.io import rasters  # GDAL is loaded by those who read GeoTIFF
    from terrazzo.io.images import as_rgb

    path = Path(scene.image)
    onto = rasters.info_of_size(path, scene.rows, scene.columns)
    rows, columns = scene.taken(scene.rows), scene.taken(scene.columns)
    strips = []
    for first in range(0, scene.rows, _STRIP):
        height = min(_STRIP, scene.rows - first)
        window = (first, 0, height, scene.columns)
        strip_HWC = rasters.read_window(path, *window, scene.bands, onto=onto).image_HWC
        chosen = rows[(rows >= first) & (rows < first + height)] - first
        strips.append(strip_HWC[np.ix_(chosen, columns)])
    return as_rgb(np.concatenate(strips))


def write(maps: Sequence[SceneOverview], path: Path) -> None:
    """Write maps as one file of named arrays."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, each in enumerate(maps):
        arrays[f"{number}/truth"] = each.truth_HW
        arrays[f"{number}/prediction"] = each.prediction_HW
        if each.image_HWC is not None:
            arrays[f"{number}/image"] = each.image_HWC
    scenes = [asdict(each.scene) for each in maps]
    with replacing(path) as temporary:
        named_arrays.write(temporary, arrays, {"scenes": json.dumps(scenes)})


def read(path: Path) -> tuple[SceneOverview, ...]:
    """Read what `write` wrote; nothing where there is no such file.

    Raises:
        CheckpointError: SEG-C014, it is damaged.
        ResourceError: SEG-R030, it is there and cannot be read.
    """
    if not path.is_file():
        return ()
    stored = array_file.read(path)
    try:
        scenes = [
            PlacedScene(
                **{**scene, "transform": tuple(scene["transform"]), "bands": tuple(scene["bands"])}
            )
            for scene in stored.metadata["scenes"]
        ]
    except (KeyError, TypeError) as error:
        observed = f"metadata 'scenes': {error}"
        raise stored.refused(observed) from error
    return tuple(_read_one(stored, number, scene) for number, scene in enumerate(scenes))


def _read_one(stored: ArrayFile, number: int, scene: PlacedScene) -> SceneOverview:
    truth_HW = stored.array(f"{number}/truth", "i", (None, None))
    prediction_HW = stored.array(f"{number}/prediction", "i", truth_HW.shape)
    names = (f"{number}/image", f"{number}/picture")  # the second until 0.1
    name = next((name for name in names if name in stored.arrays), None)
    image_HWC = None if name is None else stored.array(name, "u", (*truth_HW.shape, 3))
    return SceneOverview(scene, truth_HW, prediction_HW, image_HWC)
