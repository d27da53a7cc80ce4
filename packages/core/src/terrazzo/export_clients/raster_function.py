"""A Python raster function for ArcGIS that classifies pixels with an ONNX model of Terrazzo.

ArcGIS runs this file by itself: it needs NumPy and onnxruntime, and nothing of Terrazzo. The class
is named as the file is in the package. Source of the interface: Esri's pages on Python raster
functions and on deep learning model definitions.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

INHERITED = 2 | 4 | 8
"""Of the input raster: its nodata, its size and place; not its statistics."""


class TerrazzoClassifier:
    """Classifies the pixels of a raster."""

    def __init__(self) -> None:
        self.name = "Terrazzo classifier"
        self.description = "Semantic segmentation with an ONNX model exported by Terrazzo"
        self._definition: dict[str, Any] = {}
        self._model_path = ""
        self._providers = ["CPUExecutionProvider"]
        self._session: Any = None
        self._padding = 0

    def initialize(self, **kwargs: Any) -> None:
        """Read the model definition: a path, or its text.

        Args:
            kwargs: ``model``, and perhaps ``device``: a number of a GPU, below 0 the CPU.
        """
        if "model" not in kwargs:
            return
        model, folder = kwargs["model"], os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
        if os.path.isfile(model):  # noqa: PTH113
            folder = os.path.dirname(os.path.abspath(model))  # noqa: PTH100, PTH120
            with open(model, encoding="utf-8") as file:  # noqa: PTH123
                self._definition = json.load(file)
        else:
            self._definition = json.loads(model)
        self._model_path = os.path.join(folder, self._definition["ModelFile"])  # noqa: PTH118
        self._padding = int(self._definition["Padding"])
        if int(kwargs.get("device", -1)) >= 0:
            self._providers.insert(0, "CUDAExecutionProvider")

    def getParameterInfo(self) -> list[dict[str, Any]]:  # noqa: N802
        """Return the parameters of the tool."""
        return [
            _parameter("raster", "raster", "Raster", required=True),
            _parameter("model", "string", "Model definition (EMD) file", required=True),
            _parameter("device", "numeric", "Device: a GPU's number, or -1"),
            _parameter("padding", "numeric", "Padding", value=self._definition.get("Padding", 0)),
            _parameter("batch_size", "numeric", "Batch size", value=1),
        ]

    def getConfiguration(self, **scalars: Any) -> dict[str, Any]:  # noqa: N802
        """Return how ArcGIS shall read the raster: tiles, their margin, and the mask."""
        self._padding = int(scalars.get("padding", self._definition["Padding"]))
        height, width = (self._definition[key] for key in ("ImageHeight", "ImageWidth"))
        smallest = min(height, width)
        if not 0 <= 2 * self._padding < smallest:
            message = f"padding is {self._padding}: 0 to {(smallest - 1) // 2} leave pixels over"
            raise ValueError(message)
        return {
            "extractBands": tuple(self._definition["ExtractBands"]),
            "padding": self._padding,
            "ty": height - 2 * self._padding,
            "tx": width - 2 * self._padding,
            "fixedTileSize": 1,
            "batch_size": 1,
            "inheritProperties": INHERITED,
            "inputMask": True,
        }

    def updateRasterInfo(self, **kwargs: Any) -> dict[str, Any]:  # noqa: N802
        """Tell of the answer: one band, and a table of the classes with their colours."""
        classes = self._definition["Classes"]
        kwargs["output_info"]["bandCount"] = 1
        kwargs["output_info"]["pixelType"] = "u1" if len(classes) <= 254 else "u2"
        names = ("Value", "Class", "Red", "Green", "Blue")
        rows = [(each["Value"], each["Name"], *each["Color"]) for each in classes]
        table = {
            "displayFieldName": "",
            "fieldAliases": {name: name for name in ("OID", *names)},
            "fields": [
                {"name": "OID", "type": "esriFieldTypeOID", "alias": "OID"},
                *(
                    {
                        "name": name,
                        "type": "esriFieldTypeString"
                        if name == "Class"
                        else "esriFieldTypeInteger",
                        "alias": name,
                        **({"length": 255} if name == "Class" else {}),
                    }
                    for name in names
                ),
            ],
            "features": [
                {"attributes": {"OID": number, **dict(zip(names, row, strict=True))}}
                for number, row in enumerate(rows, 1)
            ],
        }
        kwargs["output_info"]["rasterAttributeTable"] = json.dumps(table)
        return kwargs

    def updatePixels(  # noqa: N802
        self,
        tlc: Any,  # noqa: ARG002
        shape: Any,  # noqa: ARG002
        props: Any,  # noqa: ARG002
        **pixelBlocks: Any,
    ) -> dict[str, Any]:
        """Classify a tile.

        Args:
            tlc: corner of the tile.
            shape: of the tile.
            props: of the answer.
            pixelBlocks: ``raster_pixels`` bands×rows×columns with the margin around, and
                ``raster_mask`` of the same shape or rows×columns: 0 where there are no data.

        Returns:
            The blocks with ``output_pixels`` and ``output_mask``, 1×rows×columns without margin.
        """
        pixels_CHW = np.asarray(pixelBlocks["raster_pixels"])
        bands = len(self._definition["ExtractBands"])
        if pixels_CHW.ndim != 3 or pixels_CHW.shape[0] != bands:
            message = f"the raster gives {pixels_CHW.shape}; the model takes {bands} bands"
            raise ValueError(message)
        mask = np.asarray(pixelBlocks.get("raster_mask", np.ones(1, np.uint8)))
        present_CHW = np.broadcast_to(mask != 0, pixels_CHW.shape)
        # The model takes NaN as the mean of its band, as for a missing value in training.
        image_CHW = np.where(present_CHW, pixels_CHW, np.nan).astype(np.float32)
        labels_HW = self._labels(image_CHW[None])[0]
        valid_HW: Any = present_CHW.all(axis=0)
        inner = slice(self._padding, -self._padding or None)
        pixelBlocks["output_pixels"] = np.ascontiguousarray(labels_HW[inner, inner])[None]
        pixelBlocks["output_mask"] = np.ascontiguousarray(valid_HW[inner, inner])[None].astype("u1")
        return pixelBlocks

    def _labels(self, images_BCHW: Any) -> Any:
        if self._session is None:
            import onnxruntime  # here: ArcGIS makes the object to ask for its parameters alone

            known = onnxruntime.get_available_providers()
            providers = [each for each in self._providers if each in known]
            self._session = onnxruntime.InferenceSession(self._model_path, providers=providers)
        return self._session.run(["labels"], {"image": images_BCHW})[0]


def _parameter(
    name: str, kind: str, title: str, *, required: bool = False, value: Any = None
) -> dict[str, Any]:
    known = {} if value is None else {"value": value}
    return {
        "name": name,
        "dataType": kind,
        "required": required,
        "displayName": title,
        "description": title,
        **known,
    }
