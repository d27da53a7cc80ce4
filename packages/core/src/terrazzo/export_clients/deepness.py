"""Deepness, a plugin of QGIS: one ONNX file with metadata.

Source: the plugin's code, version 0.6.5 (``deepness/processing/models``). Its documentation calls
the size of tiles ``tiles_size``; its code reads ``tile_size``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError
from terrazzo.export_clients.graph_file import FILE, GraphSession, annotate, write_graph
from terrazzo.export_clients.order import ClientOrder, require_own_size
from terrazzo.export_clients.readme import value_limits, write_readme
from terrazzo.export_clients.verification import Agreement, Answer, require_agreement, tiles
from terrazzo.models.exporter import GraphForm

OPTIONS = frozenset({"tile_size", "cm_per_pixel"})
_OPSET, _IR_VERSION = 20, 9  # the plugin pins ONNX Runtime to 1.17 or older
_OVERLAP_PERCENT = 15
_SMALLEST_CM = 0.01  # its dialog has two decimals
_BYTE = 255.0  # it divides every value by this, those of uint16 too


def check(order: ClientOrder) -> None:
    """Refuse what the plugin cannot show.

    Raises:
        ConfigError: SEG-X090 the size of tiles or of a pixel is not known, or wrong; SEG-X091 the
            model sees every image at one size, its pixels are too small, or it has one class.
    """
    require_own_size("Deepness", order.card)
    if len(order.card.label_map) == 1:
        raise ConfigError(
            "SEG-X091",
            "Deepness takes an answer of one class for a mask of its own kind",
            observed=f"one class, {order.card.label_map.names[0]}",
            allowed="two classes and more",
            next_step="export to another program, or train with a class for the rest",
        )
    _resolution(order)
    form(order)


def form(order: ClientOrder) -> GraphForm:
    """Return the form of the graph."""
    size = (order.tile_size, order.tile_size)
    return GraphForm(
        "float32", "NCHW", "outside", "probabilities", labels=False, size=size, opset=_OPSET
    )


def write(order: ClientOrder, folder: Path) -> tuple[str, ...]:
    """Write ``model.onnx`` as the plugin reads it; return the limits to print."""
    resolution = _resolution(order)
    path = write_graph(order, form(order), folder)
    annotate(path, _metadata(order, resolution), ir_version=_IR_VERSION)
    limits = _limits(order, order.tile_size, resolution)
    steps = (
        "In QGIS install the plugin Deepness, and open its panel.",
        "Model type *Segmentor*, then *Browse* to `model.onnx`.",
        "Press *Load default model parameters*.",
        f"Map the inputs to the layer's bands in this order: {', '.join(order.card.bands.names)}.",
        "Press *Run*.",
    )
    write_readme(order, folder, "Deepness in QGIS", steps, limits)
    return limits


def _resolution(order: ClientOrder) -> float:
    resolution = order.cm_per_pixel
    if resolution >= _SMALLEST_CM:
        return resolution
    raise ConfigError(
        "SEG-X091",
        "Deepness knows no pixels as small as these",
        observed=f"{resolution:g} cm",
        allowed=f"{_SMALLEST_CM} cm and more: it is made for maps",
        next_step="export with --for bioimageio for microscopy",
    )


def _metadata(order: ClientOrder, resolution: float) -> dict[str, object]:
    card = order.card
    return {
        "model_type": "Segmentor",
        "class_names": {str(number): name for number, name in enumerate(card.label_map.names)},
        "resolution": resolution,
        "tile_size": order.tile_size,
        "tiles_overlap": _OVERLAP_PERCENT,
        "standardization_mean": [value / _BYTE for value in card.bands.mean],
        "standardization_std": [value / _BYTE for value in card.bands.std],
        "seg_thresh": 0,
        "seg_small_segment": 0,
        "terrazzo_run": order.run,
        "terrazzo_weights": order.digest,
    }


def _limits(order: ClientOrder, side: int, resolution: float) -> tuple[str, ...]:
    return (
        "press *Load default model parameters* in Deepness: its own are 3 cm a pixel, a threshold "
        "of .5 below which a pixel becomes class 0, and no areas below 9 pixels",
        f"tiles of {side}×{side} pixels of {resolution:g} cm; the layer's unit must be the metre",
        *_size_on_ground(order),
        "pixels without data are classified like any other: cut them off afterwards",
        "Deepness pads north and east with zeros, so labels near those edges of a layer differ "
        "from those of `terrazzo predict`",
        "areas of its polygons are smaller than those of the pixels: count pixels in the map of "
        "`terrazzo predict`",
        *value_limits(order, missing_inside=False),
    )


def _size_on_ground(order: ClientOrder) -> tuple[str, ...]:
    if order.on_map is not None or order.options.cm_per_pixel is not None:
        return ()
    return (
        "this is the size on the ground; where the layer's map stretches (Web Mercator) set "
        "*Resolution* to the size of its pixels on the map",
    )


def verify(order: ClientOrder, folder: Path) -> Agreement:
    """Hold what the plugin will compute against the model.

    Raises:
        CheckpointError: SEG-C070, they differ.
    """
    tiles_of_model = tiles(order, order.tile_size)
    return require_agreement("deepness", order, tiles_of_model, Program(folder))


class Program:
    """What the plugin does with a tile, by the metadata that it finds.

    Args:
        folder: that `write` has filled.
    """

    def __init__(self, folder: Path) -> None:
        self._session = GraphSession(folder / FILE)
        found = self._session.metadata
        self._side = int(found["tile_size"])
        self._mean, self._std = (
            np.array(found[f"standardization_{name}"], np.float32) for name in ("mean", "std")
        )

    def __call__(self, images_BHWC: NDArray[np.generic]) -> Answer:
        """Return labels and probabilities of tiles."""
        assert images_BHWC.shape[1:3] == (self._side, self._side)
        unit_BHWC = np.divide(images_BHWC, _BYTE, dtype=np.float64).astype(np.float32)
        standardised_BHWC = ((unit_BHWC - self._mean) / self._std).astype(np.float32)
        outputs = self._session.run(standardised_BHWC.transpose(0, 3, 1, 2))
        (answer_BKHW,) = outputs.values()
        probabilities_BKHW = answer_BKHW.clip(0, 1)
        return probabilities_BKHW.argmax(axis=1), probabilities_BKHW.transpose(0, 2, 3, 1)
