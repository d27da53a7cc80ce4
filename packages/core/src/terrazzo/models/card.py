"""What a trained model is: all that must be known before it can be used."""

from __future__ import annotations

from dataclasses import dataclass

from terrazzo.base.config_parsing import Size
from terrazzo.base.recipe import ModelConfig, Precision
from terrazzo.data.labels import LabelMap
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.data.sample import Bands
from terrazzo.io.pixels import AS_STORED, ReadingRules, Scaling


@dataclass(frozen=True)
class ModelCard:
    """What a trained model is.

    Attributes:
        backend: name of the backend.
        model: name and options.
        label_map: K classes.
        bands: C bands with their normalisation.
        image_size: rows and columns images are brought to; None: as they are.
        step: optimiser steps behind the weights.
        pixel_metres: width and height of the pixels it was trained on; None: not known.
        rules: how values of GeoTIFF are taken.
        scaling: scale and offset that the files of training declared for each band, and that were
            not applied; None: not known, or applied.
        precision: of the arithmetic, as in `TrainingConfig`.
    """

    backend: str
    model: ModelConfig
    label_map: LabelMap
    bands: Bands
    image_size: Size | None
    step: int
    pixel_metres: PixelSizes | None = None
    rules: ReadingRules = AS_STORED
    scaling: Scaling | None = None
    precision: Precision = "auto"

    @property
    def file_bands(self) -> tuple[str, ...]:
        """Names of the bands that a GeoTIFF must give; derived ones are computed of them."""
        derivation = self.rules.derivation
        return self.bands.names if derivation is None else derivation.source_names
