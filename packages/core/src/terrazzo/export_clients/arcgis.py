"""ArcGIS: a deep learning package (.dlpk), and the files that it holds.

Source: Esri's pages on model definitions (.emd) and on Python raster functions. There is no ArcGIS
here to try it in.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.export_clients.archive import zip_files
from terrazzo.export_clients.graph_file import FILE, write_graph
from terrazzo.export_clients.order import ClientOrder, require_own_size
from terrazzo.export_clients.readme import value_limits, write_readme
from terrazzo.export_clients.verification import Agreement, Answer, require_agreement, tiles
from terrazzo.models.exporter import GraphForm

OPTIONS = frozenset({"tile_size"})
_FUNCTION = "TerrazzoClassifier"
_SOURCE = "raster_function.py"


def check(order: ClientOrder) -> None:
    """Refuse what ArcGIS cannot show.

    Raises:
        ConfigError: SEG-X090 no such size of tiles; SEG-X091 the model sees every image at one
            size.
    """
    require_own_size("ArcGIS", order.card)
    _definition(order)


def form(order: ClientOrder) -> GraphForm:  # noqa: ARG001
    """Return the form of the graph.

    Floats whatever the files hold, so that pixels without data can be told: they are NaN.
    """
    return GraphForm("float32", "NCHW")


def write(order: ClientOrder, folder: Path) -> tuple[str, ...]:
    """Write ``NAME.dlpk`` and beside it what is in it; return the limits to print."""
    write_graph(order, form(order), folder)
    source = importlib.resources.files(__package__) / _SOURCE
    (folder / f"{_FUNCTION}.py").write_bytes(source.read_bytes())
    definition = json.dumps(_definition(order), indent=2, ensure_ascii=False)
    (folder / f"{order.name}.emd").write_text(definition, encoding="utf-8")
    limits = _limits(order)
    zip_files(folder, folder / f"{order.name}.dlpk")
    steps = (
        "Install onnxruntime in the Python environment of ArcGIS.",
        f"Open the tool *Classify Pixels Using Deep Learning*, and choose `{order.name}.dlpk`.",
        f"The raster's bands must come in this order: {', '.join(order.card.bands.names)}.",
    )
    write_readme(order, folder, "ArcGIS", steps, limits)
    return limits


def _definition(order: ClientOrder) -> dict[str, Any]:
    card = order.card
    return {
        "Framework": "ONNX",
        "ModelType": "ImageClassification",
        "ModelName": order.name,
        "ModelFile": FILE,
        "InferenceFunction": f"{_FUNCTION}.py",
        "ImageHeight": order.tile_size,
        "ImageWidth": order.tile_size,
        "Padding": order.tile_size // 8,
        "BatchSize": 1,
        "ExtractBands": list(range(len(card.bands))),
        "Classes": [
            {"Value": number, "Name": each.name, "Color": colour.tolist()}
            for number, (each, colour) in enumerate(
                zip(card.label_map.classes, card.label_map.colours, strict=True)
            )
        ],
        "Terrazzo": {
            "Run": order.run,
            "WeightsSha256": order.digest,
            "Bands": list(card.bands.names),
        },
    }


def _limits(order: ClientOrder) -> tuple[str, ...]:
    bands = order.card.bands
    return (
        "not tried in ArcGIS: written by Esri's documentation, and its raster function run outside",
        "the Python environment of ArcGIS needs onnxruntime",
        f"pixels go in as files hold them ({bands.dtype}): the raster must not be stretched",
        "values of the map are positions of the classes, from 0; pixels without data are nodata "
        "in it",
        "tiles are classified one by one and meet without blending, with a margin (*padding*) "
        f"of {order.tile_size // 8} pixels",
        *value_limits(order, missing_inside=True),
    )


def verify(order: ClientOrder, folder: Path) -> Agreement:
    """Hold what the raster function of the package answers against the model.

    Raises:
        CheckpointError: SEG-C070, they differ.
    """
    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(folder / f"{order.name}.dlpk") as package:
            package.extractall(unpacked)
        program = Program(Path(unpacked))
        return require_agreement("arcgis", order, tiles(order, order.tile_size), program)


class Program:
    """What ArcGIS does with a raster of one tile, without margin.

    Args:
        folder: the files of the package.
    """

    def __init__(self, folder: Path) -> None:
        (definition,) = folder.glob("*.emd")
        path = folder / json.loads(definition.read_text(encoding="utf-8"))["InferenceFunction"]
        specification = importlib.util.spec_from_file_location(path.stem, path)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        self.function = getattr(module, path.stem)()
        self.function.initialize(model=str(definition))
        self.configuration = self.function.getConfiguration(padding=0)

    def __call__(self, images_BHWC: NDArray[np.generic]) -> Answer:
        """Return labels, and no probabilities."""
        rasters = images_BHWC.transpose(0, 3, 1, 2)[:, list(self.configuration["extractBands"])]
        answers = [
            self.function.updatePixels(
                (0, 0), each.shape, {}, raster_pixels=each, raster_mask=np.ones(each.shape, "u1")
            )
            for each in rasters
        ]
        return np.concatenate([each["output_pixels"] for each in answers]), None
