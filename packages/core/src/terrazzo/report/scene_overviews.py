"""Maps of scenes as layers: image, truth, predictions and errors, with where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.data.labels import LabelMap
from terrazzo.data.scene_placement import PlacedScene
from terrazzo.evaluation.scene_overview import SceneOverview
from terrazzo.report.example_images import IGNORED, WRONG, url
from terrazzo.report.example_layers import Layer

BUDGET = 2_500_000
"""Characters that all maps of a page may take together."""
MAX_SCENES = 4
_SIDES = (768, 512, 384, 256)
_NOT_SCORED = (222, 222, 222)
RIGHT = (86, 180, 233)
"""Sky blue of Okabe and Ito, told apart from `WRONG` with any colour vision."""


@dataclass(frozen=True)
class OverviewView:
    """One scene of the page.

    Attributes:
        name: of the scene.
        height: rows of the map.
        width: columns of the map.
        layers: image (where there is one), truth, then prediction and errors of each run.
        crs: of the coordinates; empty where not known.
        extent: lowest and highest x, lowest and highest y of the whole scene.
        turned: whether rows of the scene do not run from west to east.
        step: pixels of the scene a pixel of the map.
        pixel: height and width of a pixel of the map in units of the CRS.
        scored: share of the map that was scored.
    """

    name: str
    height: int
    width: int
    layers: tuple[Layer, ...]
    crs: str
    extent: tuple[float, float, float, float]
    turned: bool
    step: int
    pixel: tuple[float, float]
    scored: float


def encode(
    runs: Sequence[Sequence[SceneOverview]], run_names: Sequence[str], label_map: LabelMap
) -> tuple[OverviewView, ...]:
    """Encode the scenes that all runs have scored, all reduced alike until they keep `BUDGET`.

    Args:
        runs: maps of each run.
        run_names: R; a single run needs no name in its titles.
        label_map: for the colours.
    """
    by_name = [{each.scene.name: each for each in maps} for maps in runs]
    shared = [name for name in by_name[0] if all(name in maps for maps in by_name)]
    views: tuple[OverviewView, ...] = ()
    for side in _SIDES:
        views = tuple(
            _encode([maps[name] for maps in by_name], run_names, label_map, side)
            for name in shared[:MAX_SCENES]
        )
        if sum(len(layer.source) for view in views for layer in view.layers) <= BUDGET:
            break
    return views


def _encode(
    maps: Sequence[SceneOverview], run_names: Sequence[str], label_map: LabelMap, side: int
) -> OverviewView:
    scene, truth_HW, image_HWC = maps[0].scene, maps[0].truth_HW, maps[0].image_HWC
    layers = []
    if image_HWC is not None:
        layers.append(Layer("Image", _url(image_HWC, side, lossless=False), None, labels=False))
    colours = _coloured(truth_HW, label_map)
    layers.append(Layer("Truth", _url(colours, side, lossless=True), None, labels=True))
    for run, (name, each) in enumerate(zip(run_names, maps, strict=True)):
        of = f" of {name}" if len(maps) > 1 else ""
        number = run if len(maps) > 1 else None
        colours = _coloured(each.prediction_HW, label_map)
        source = _url(colours, side, lossless=True)
        layers.append(Layer(f"Prediction{of}", source, number, labels=True))
        errors = _errors(truth_HW, each.prediction_HW, label_map.ignore_index)
        source = _url(errors, side, lossless=True)
        layers.append(Layer(f"Errors{of}", source, number, labels=True))
    return OverviewView(
        name=scene.name,
        height=truth_HW.shape[0],
        width=truth_HW.shape[1],
        layers=tuple(layers),
        crs=scene.crs,
        extent=extent(scene),
        turned=scene.transform[1] != 0 or scene.transform[3] != 0,
        step=scene.step,
        pixel=(
            scene.step * float(np.hypot(scene.transform[1], scene.transform[4])),
            scene.step * float(np.hypot(scene.transform[0], scene.transform[3])),
        ),
        scored=float((truth_HW >= 0).mean()),
    )


def _url(pixels_HWC: NDArray[np.uint8], side: int, *, lossless: bool) -> str:
    return url(Image.fromarray(pixels_HWC), side, lossless=lossless)


def extent(scene: PlacedScene) -> tuple[float, float, float, float]:
    """Return the lowest and highest x and the lowest and highest y of the scene's corners."""
    a, b, c, d, e, f = scene.transform
    columns = np.array([0, scene.columns, 0, scene.columns])
    rows = np.array([0, 0, scene.rows, scene.rows])
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def _coloured(ids_HW: NDArray[np.int32], label_map: LabelMap) -> NDArray[np.uint8]:
    coloured_HWC = label_map.colourise(np.maximum(ids_HW, 0).astype(label_map.dtype))
    coloured_HWC[ids_HW < 0] = _NOT_SCORED
    return coloured_HWC


def _errors(
    truth_HW: NDArray[np.int32], prediction_HW: NDArray[np.int32], ignore_index: int
) -> NDArray[np.uint8]:
    errors_HWC = np.empty((*truth_HW.shape, 3), np.uint8)
    errors_HWC[...] = np.where((truth_HW == prediction_HW)[..., None], RIGHT, WRONG)
    errors_HWC[truth_HW == ignore_index] = IGNORED
    errors_HWC[truth_HW < 0] = _NOT_SCORED
    return errors_HWC
