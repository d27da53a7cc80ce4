"""Overviews of scenes: image, ground truth, predictions and errors, with their coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from terrazzo.data.labels import LabelMap
from terrazzo.data.scene_placement import PlacedScene
from terrazzo.evaluation.scene_overview import SceneOverview
from terrazzo.report.image_layers import (
    IGNORED,
    NOT_SCORED,
    RIGHT,
    WRONG,
    Layer,
    data_url,
    largest_within_budget,
    layer_characters,
)

BUDGET = 2_500_000
"""Characters that all overviews of a page may take together."""
MAX_SCENES = 4
_LONGEST_SIDES = (768, 512, 384, 256)


@dataclass(frozen=True)
class OverviewView:
    """One scene as a page shows it.

    Attributes:
        name: name of the scene.
        height: rows of the overview.
        width: columns of the overview.
        layers: image (where there is one), ground truth, then prediction and errors of each run.
        crs: coordinate reference system; empty where not known.
        extent: lowest and highest x, lowest and highest y of the whole scene, in units of the CRS.
        rotated: whether the rows of the scene do not run from west to east.
        step: an overview has one row and column in `step` of the scene.
        pixel: height and width of a pixel of the overview in units of the CRS.
        scored: share of the overview that was scored, 0…1.
    """

    name: str
    height: int
    width: int
    layers: tuple[Layer, ...]
    crs: str
    extent: tuple[float, float, float, float]
    rotated: bool
    step: int
    pixel: tuple[float, float]
    scored: float


def encode(
    runs: Sequence[Sequence[SceneOverview]], run_names: Sequence[str], label_map: LabelMap
) -> tuple[OverviewView, ...]:
    """Encode the scenes that all runs have scored, at one longest side that keeps `BUDGET`.

    Args:
        runs: overviews of each run.
        run_names: names of the R runs; that of a single run is not shown.
        label_map: for the colours.
    """
    by_name = [{each.scene.name: each for each in maps} for maps in runs]
    shared = [name for name in by_name[0] if all(name in maps for maps in by_name)]
    names = shared[:MAX_SCENES]
    return largest_within_budget(
        _LONGEST_SIDES,
        BUDGET,
        lambda side: tuple(
            _encode([maps[name] for maps in by_name], run_names, label_map, side) for name in names
        ),
        lambda view: layer_characters(view.layers),
    )


def _encode(
    maps: Sequence[SceneOverview], run_names: Sequence[str], label_map: LabelMap, side: int
) -> OverviewView:
    scene, truth_HW, image_HWC = maps[0].scene, maps[0].truth_HW, maps[0].image_HWC
    layers = []
    if image_HWC is not None:
        layers.append(Layer("Image", _url(image_HWC, side, lossless=False), None, labels=False))
    colours = _coloured(truth_HW, label_map)
    layers.append(Layer("Ground truth", _url(colours, side, lossless=True), None, labels=True))
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
        rotated=scene.transform[1] != 0 or scene.transform[3] != 0,
        step=scene.step,
        pixel=(
            scene.step * float(np.hypot(scene.transform[1], scene.transform[4])),
            scene.step * float(np.hypot(scene.transform[0], scene.transform[3])),
        ),
        scored=float((truth_HW >= 0).mean()),
    )


def _url(pixels_HWC: NDArray[np.uint8], side: int, *, lossless: bool) -> str:
    return data_url(Image.fromarray(pixels_HWC), side, lossless=lossless)


def extent(scene: PlacedScene) -> tuple[float, float, float, float]:
    """Return the lowest and highest x and the lowest and highest y of the scene's corners."""
    a, b, c, d, e, f = scene.transform
    columns = np.array([0, scene.columns, 0, scene.columns])
    rows = np.array([0, 0, scene.rows, scene.rows])
    x, y = a * columns + b * rows + c, d * columns + e * rows + f
    return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def _coloured(ids_HW: NDArray[np.int32], label_map: LabelMap) -> NDArray[np.uint8]:
    coloured_HWC = label_map.colourise(np.maximum(ids_HW, 0).astype(label_map.dtype))
    coloured_HWC[ids_HW < 0] = NOT_SCORED
    return coloured_HWC


def _errors(
    truth_HW: NDArray[np.int32], prediction_HW: NDArray[np.int32], ignore_index: int
) -> NDArray[np.uint8]:
    errors_HWC = np.empty((*truth_HW.shape, 3), np.uint8)
    errors_HWC[...] = np.where((truth_HW == prediction_HW)[..., None], RIGHT, WRONG)
    errors_HWC[truth_HW == ignore_index] = IGNORED
    errors_HWC[truth_HW < 0] = NOT_SCORED
    return errors_HWC
